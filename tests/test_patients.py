"""Whose a recording is: what names a patient, what a table may say, and how patients are dealt to the parts of a split."""

import hashlib
import unicodedata
from pathlib import Path

import pytest

from uscl.data.items import Item, Listing
from uscl.data.patients import deal, guessed, name, pseudonym, tell
from uscl.types import UserError


def item(path, **facts):
    return Item((Path(path),), f"s/{path}", **facts)


@pytest.mark.parametrize(
    ("path", "facts", "person", "shown"),
    [
        ("12_left.png", {}, "", "12"),
        ("Patient7_Plane3_1_of_2.png", {}, "", "Patient7"),
        ("Cov_a_1.png", {}, "", "Cov_a_1"),
        ("7.png", {}, "", "7"),
        ("5_a.mp4", {}, "", "5_a"),
        ("5_a.mp4", {"patient": "ann"}, "", "ann"),
        ("x.dcm", {}, "0123", "0123"),
        ("x.dcm", {"patient": "ann"}, "0123", "ann"),
    ],
)
def test_the_patient_is_the_tables_then_the_headers_then_the_files(path, facts, person, shown):
    assert name(item(path, **facts), person, salt="s", keep=True)[0] == shown
    assert guessed(item(path, **facts), person) == (not facts and not person)


def test_what_is_no_pseudonym_becomes_one():
    digits = {what: hashlib.sha256(f"salt/{what}".encode()).hexdigest()[:12] for what in ("patient/7", "file/s/7.png", "patient/ann")}
    assert name(item("7.png"), "", salt="salt", keep=False) == (digits["patient/7"], "file " + digits["file/s/7.png"])
    assert name(item("7.png", patient="ann"), "", salt="salt", keep=False)[0] == digits["patient/ann"]
    assert name(item("7.png"), "", salt="salt", keep=True) == ("7", "s/7.png")
    patient, source = name(item("doe.dcm"), "0123", salt="salt", keep=True)  # a header that knows a person: its file's name may, too
    assert patient == "0123" and source.startswith("file ") and "doe" not in source
    assert pseudonym("salt", "person", "7") != pseudonym("salt", "patient", "7") != pseudonym("other", "patient", "7")


def listing(*paths):
    return Listing(items=[item(path) for path in paths])


def test_a_table_tells_patient_part_scale_and_what_is_kept(tmp_path):
    table = tmp_path / "who.csv"
    table.write_text("\ufefffile; Patient ;part;mm_per_pixel;Finding\nb.png;ann;test;0.2;stone\na/x;bob;;;\ns/a/x.png;carl;;;cyst\n")
    found = listing("a/x.png", "b.png", "c.png")
    tell(found, table, keep=["Finding"])
    assert [i.patient for i in found.items] == ["carl", "ann", ""]
    assert [i.part for i in found.items] == [None, "test", None] and found.items[1].mm_per_pixel == 0.2
    assert [dict(i.attributes) for i in found.items] == [{"Finding": "cyst"}, {"Finding": "stone"}, {}]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name,patient\na,b\n", "its columns are name, patient; 'file' must be among them"),
        ("file,patient\n1,b\n1,c\n", "line 3: '1' has patient 'c'"),
        ("file,patient\n1,\n", "line 2: '1' has patient ''"),
        ("file,patient\nz,b\n", "none of its 1 rows names a file"),
        ("file,patient,part\na,b,both\n", "line 2: the part is 'both'; allowed are train, validation, test"),
        ("file,patient,mm_per_pixel\na,b,-1\n", "line 2: mm_per_pixel is '-1'"),
        ("file,patient,frame_ms\na,b,fast\n", "line 2: frame_ms is 'fast'"),
    ],
)
def test_a_table_that_will_not_do(tmp_path, text, told):
    (tmp_path / "who.csv").write_text(text)
    with pytest.raises(UserError, match=told):
        tell(listing("a.png"), tmp_path / "who.csv")


def sizes(split):
    return [len(split[part]) for part in ("train", "validation", "test")]


def test_patients_are_dealt_by_place_and_seed():
    def places(names, seed):
        splits = deal(dict.fromkeys(names), set(names[:12]), seed=seed)
        assert sorted(sum(splits.values(), [])) == sorted(names)
        return {part: sorted(map(names.index, chosen)) for part, chosen in splits.items()}

    names, others = [f"a{i}" for i in range(20)], [f"{37 * i % 20}b" for i in range(20)]
    assert places(names, 0) == places(others, 0) != places(names, 1)
    assert sizes(places(names, 0)) == [17, 1, 2]  # of the 12 with labels a tenth and a fifth; those without labels train


def test_named_parts_are_kept():
    train, test = [f"a{i}" for i in range(30)], ["t1", "t2"]
    split = deal(dict.fromkeys(train, "train") | dict.fromkeys(test, "test") | {"loose": None}, {*train, *test}, seed=0, test=0.0)
    assert split["test"] == test and len(split["validation"]) == 3 and set(split["validation"]) < set(train)
    named = dict.fromkeys(train, "train") | dict.fromkeys(test, "test") | {"v": "validation", "new": None}
    split = deal(named, set(named), seed=0, test=0.0)
    assert split["test"] == test and set(split["train"]) >= set(train) and "v" in split["validation"]


def test_who_comes_later_does_not_move_those_there():
    before = deal(dict.fromkeys(f"a{i}" for i in range(20)), {f"a{i}" for i in range(20)}, seed=0)
    assert sizes(before) == [14, 2, 4]
    part_of = {patient: part for part, names in before.items() for patient in names} | dict.fromkeys(f"b{i}" for i in range(20))
    after = deal(part_of, set(part_of), seed=0)
    assert all(set(before[part]) <= set(after[part]) for part in before) and sizes(after) == [28, 4, 8]


@pytest.mark.parametrize(("count", "expected"), [(1, [1, 0, 0]), (2, [1, 0, 1]), (3, [1, 1, 1])])
def test_one_is_left_to_train(count, expected):
    assert sizes(deal(dict.fromkeys(map(str, range(count))), set(), seed=0)) == expected


def test_an_accent_is_one_letter_or_two(tmp_path):
    apart, together = (unicodedata.normalize(form, "Müller") for form in ("NFD", "NFC"))
    assert apart != together
    for there, told in ((apart, together), (together, apart)):
        (tmp_path / "who.csv").write_text(f"file,patient\n{told}.png,m\n", encoding="utf-8")
        tell(found := listing(f"{there}.png", "b.png"), tmp_path / "who.csv")
        assert [i.patient for i in found.items] == ["m", ""]


def test_nobody_of_the_store_is_drawn_to_validate_later():
    for seed in range(5):
        split = deal({"a": "train", "b": "test", "new": None}, set(), seed=seed, stay={"a", "b"})
        assert split == {"train": ["a", "new"], "validation": [], "test": ["b"]}  # the last of those drawn trains
        split = deal({"a": "train", "b": "test", "new": None, "other": None}, set(), seed=seed, stay={"a", "b"})
        assert sizes(split) == [2, 1, 1] and "a" in split["train"]
        assert sizes(deal({"a": "train", "b": "train", "c": "test"}, set(), seed=seed, stay={"a", "b", "c"})) == [2, 0, 1]
        assert sizes(deal({"a": "train", "b": "train", "c": "test"}, set(), seed=seed)) == [1, 1, 1]
