"""A store brought up to date: what is read again and what is not, who stays where, and what is kept beside the store for that."""

import json
import os
import shutil

import numpy as np
import pytest
from made import bands, clip, made, still, stills, video

from uscl.data import making, parts
from uscl.data.fit import fit_label
from uscl.data.items import Drawing, Item, Mask, Shape
from uscl.data.parts import Settings
from uscl.data.store import Store
from uscl.data.summary import describe
from uscl.types import UserError


def test_a_second_run_reads_only_what_is_new_and_moves_nobody(tmp_path, monkeypatch):
    source, out = stills(tmp_path / "s", "123456789"), tmp_path / "out"
    assert made(source, out)["new"] == 9
    before = Store.open(out)
    (source / "images" / "10.png").write_bytes((source / "images" / "9.png").read_bytes())  # no longer the picture of 9, see below
    stills(source, ["10", "0"])
    still(source, "5")
    summary = made(source, out)
    after = Store.open(out)
    assert summary["new"] == 3 and summary["recordings"] == 11
    for part, patients in before.splits.items():
        assert set(patients) <= set(after.splits[part])
    for patient in "12346789":
        one, two = (store.frame(int(store.cines_of([patient])[0]), 0) for store in (before, after))
        np.testing.assert_array_equal(one, two)
    fresh = tmp_path / "fresh"
    made(source, fresh)
    assert Store.open(fresh).checksum == after.checksum
    assert made(source, out)["new"] == 0
    (source / "images" / "1.png").unlink()
    (source / "masks" / "1.png").unlink()
    with pytest.raises(UserError, match="holds 1 recordings that the sources lack, such as s/images/1.png"):
        made(source, out)
    with pytest.raises(UserError, match="was made with size=16, every=1.*now asked for is size=24"):
        made(source, out, size=24)
    assert Store.open(out).checksum == after.checksum


def test_a_store_of_unknown_making_is_not_touched(tmp_path):
    source, out = stills(tmp_path / "s"), tmp_path / "out"
    made(source, out)
    (tmp_path / "out.private" / "prepared.jsonl").unlink()
    with pytest.raises(UserError, match="does not tell what it was made from"):
        made(source, out)


def test_splits_edited_by_hand_are_kept(tmp_path):
    source, out = stills(tmp_path / "s", "123456789"), tmp_path / "out"
    made(source, out, folds=3)
    splits = json.loads((out / "splits.json").read_text())
    assert sorted(p for fold in splits["folds"] for p in fold) == sorted(splits["train"] + splits["validation"])
    moved = splits["train"].pop()
    splits["test"].append(moved)
    splits["folds"] = [[p for p in fold if p != moved] for fold in splits["folds"]]
    (out / "splits.json").write_text(json.dumps(splits))
    made(stills(source, ["10"]), out)
    assert moved in Store.open(out).splits["test"]


def test_two_at_once_are_refused(tmp_path):
    source, seen = stills(tmp_path / "s"), []

    def progress(things, total, what):
        with pytest.raises(UserError, match="another process is preparing this store"):
            made(source, tmp_path / "out")
        seen.append(what)
        return things

    made(source, tmp_path / "out", progress=progress)
    assert seen == ["recordings", "writing"]


def test_a_part_is_known_by_all_that_it_was_made_of(tmp_path, monkeypatch):
    files = [tmp_path / name for name in ("a.png", "b.png", "m.png")]
    for file in files:
        file.write_bytes(b"12345")
        os.utime(file, (5, 5))
    image, other, mask = files
    box = np.array([[0.0, 0], [9, 0], [9, 9]])

    def drawn(name="x", rings=(box,), runs=None, frame=0, size=None):
        return Item((image,), "s/a.png", marks=(Drawing((Shape(name, rings, runs),), frame, size),))

    def masked(frame=0, values=None, outline=False, path=mask):
        return Item((image,), "s/a.png", marks=(Mask((path,), frame, values, outline),))

    def known(item, **settings):
        return parts.key(item, Settings(**{"size": 16, "salt": "s", **settings}))

    bare = Item((image,), "s/a.png")
    keys = [known(bare, **how) for how in ({}, {"size": 24}, {"every": 2}, {"most": 3}, {"beam": False}, {"salt": "t"})]
    keys += [known(x) for x in (Item((image,), "t/a.png"), Item((other,), "s/a.png"), Item((image, other), "s/a.png"))]
    keys += [known(x) for x in (drawn(), drawn("y"), drawn(rings=(box + 1,)), drawn(runs=(1, 2)), drawn(frame=1), drawn(size=(9, 9)))]
    keys += [known(x) for x in (masked(), masked(1), masked(None), masked(0, {1: "a"}), masked(0, {1: "b"}), masked(outline=True))]
    os.utime(mask, ns=(5, 5_000_000_001))
    keys += [known(masked())]
    mask.write_bytes(b"1234567")
    os.utime(mask, (5, 5))
    keys += [known(masked())]
    assert known(bare) == keys[0] and known(drawn()) == keys[9]
    os.utime(image, (6, 6))
    keys += [known(bare)]
    image.write_bytes(b"123456")
    os.utime(image, (5, 5))
    keys += [known(bare)]
    monkeypatch.setattr(parts, "VERSION", parts.VERSION + 1)
    keys += [known(bare)]
    assert len(set(keys)) == len(keys) == 26 and {len(key) for key in keys} == {32}
    facts = [Item((image,), "s/a.png", patient="p", part="test", mm_per_pixel=1.0, frame_ms=2.0, attributes={"a": "b"})]
    assert known(facts[0]) == keys[-1]  # what a table tells is not in the pixels


def test_what_one_run_left_undone_is_no_part_of_another(tmp_path):
    source = stills(tmp_path / "s")
    (source / "a.mp4").write_bytes(b"broken")
    with pytest.raises(UserError, match="1 of 5 files are rejected"):
        made(source, tmp_path / "out", budget=0.19)
    assert len(list((tmp_path / "out.private" / "parts").iterdir())) == 4
    summary = made(source, tmp_path / "out", size=24, budget=0.2)  # just so many are allowed
    assert (summary["new"], Store.open(tmp_path / "out").size) == (4, 24)


def test_what_was_made_before_a_stop_is_not_made_again(tmp_path, monkeypatch):
    source = stills(tmp_path / "s")
    (source / "a.mp4").write_bytes(b"broken")
    with pytest.raises(UserError):
        made(source, tmp_path / "out", budget=0.1)
    (source / "a.mp4").unlink()
    monkeypatch.setattr(making, "make", lambda task, beat: pytest.fail(f"{task[0].name} is made again"))
    assert made(source, tmp_path / "out")["recordings"] == 4 and not (tmp_path / "out.private" / "parts").exists()
    assert made(source, tmp_path / "out")["new"] == 0


def test_a_table_alone_brings_the_store_up_to_date_and_reads_nothing(tmp_path):
    source, out = tmp_path / "s", tmp_path / "out"
    source.mkdir()
    for name in "abcdefg":
        video(source / f"{name}.mkv", clip(5, 24, 32))
    made(source, out, every=2)
    first = Store.open(out)
    marker = out / "not of the store"
    marker.touch()
    inode = (out / "store.json").stat().st_ino
    made(source, out, every=2)
    assert (out / "store.json").stat().st_ino == inode  # nothing was written at all
    table, rows = tmp_path / "who.csv", [f"{n}.mkv,{n}" for n in "abcdefg"]
    for head, tail, column, truth in (
        ("mm_per_pixel", "0.2", "mm_per_pixel", [0.4] + [np.nan] * 6),  # 32 pixels became 16
        ("frame_ms", "50", "frame_ms", [100] + [80] * 6),  # every other frame of 50 and of 40 ms
        ("diagnosis", "stone", "diagnosis", ["stone"] + [""] * 6),
    ):
        table.write_text("\n".join([f"file,patient,{head}", f"{rows[0]},{tail}", *(f"{row}," for row in rows[1:])]) + "\n")
        before, keep = Store.open(out), ["diagnosis"] if head == "diagnosis" else []
        assert made(source, out, every=2, patients=[table], keep=keep)["new"] == 0
        store = Store.open(out)
        found = store.attributes[column] if column == "diagnosis" else store.cines[column].tolist()
        assert found == truth if column == "diagnosis" else np.allclose(found, truth, equal_nan=True)
        assert store.checksum != before.checksum and (store.frames[:] == first.frames[:]).all()
        store.verify()
    assert marker.exists()  # and is not lost with the store that was replaced
    here = first.splits["train"][0]
    table.write_text("file,patient,part\n" + "".join(f"{n}.mkv,{n},{'test' if n == here else ''}\n" for n in "abcdefg"))
    made(source, out, every=2, patients=[table])
    assert here in Store.open(out).splits["train"]  # who is in the store stays where it was
    made(source, tmp_path / "other", every=2, patients=[table])
    assert Store.open(tmp_path / "other").splits["test"] == [here]  # one is named for the test, and nobody is drawn
    with pytest.raises(UserError, match="--keep: no table and no file of drawings has the column 'stage'"):
        made(source, out, every=2, patients=[table], keep=["stage"])


def test_values_are_numbered_anew_when_others_come(tmp_path):
    source, out = stills(tmp_path / "s", "123456", values=(0, 9, 5)), tmp_path / "out"
    made(source, out)
    assert Store.open(out).classes == {"class_1": [1], "class_2": [2]}
    still(source, "7", values=(0, 3, 9))
    summary = made(source, out)
    store = Store.open(out)
    assert (
        summary["new"] == 1 and summary["per_class"] == {"class_1": 1, "class_2": 6, "class_3": 7} and summary["classes"] == store.classes
    )
    truth = [fit_label(bands(v), 16) for v in [(0, 3, 2)] * 6 + [(0, 1, 3)]]
    np.testing.assert_array_equal(store.labels[:], truth)
    (source / "masks" / "classes.json").write_text('{"all": [3, 5, 9], "one": [9]}')
    summary = made(source, out)
    assert summary["new"] == 0 and Store.open(out).classes == {"all": [1, 2, 3], "one": [3]}
    assert summary["per_class"] == {"all": 7, "one": 7} and "  all contains one" in describe(summary, table="x")


def test_folds_are_kept_while_nobody_comes_and_no_other_number_is_asked_for(tmp_path):
    source, out = stills(tmp_path / "s", "123456789"), tmp_path / "out"
    made(source, out, folds=3)
    splits = json.loads((out / "splits.json").read_text())
    (one, *first), (other, *second), third = splits["folds"]
    splits["folds"] = [[other, *first], [one, *second], third]
    (out / "splits.json").write_text(json.dumps(splits))
    for how in ({}, {"folds": 3}):
        assert made(source, out, **how)["splits"]["folds"] == splits["folds"]
    summary = made(source, out, folds=2)
    pool = sorted(splits["train"] + splits["validation"])
    assert len(summary["splits"]["folds"]) == 2 and sorted(sum(summary["splits"]["folds"], [])) == pool
    assert f"folds of {len(pool) - len(pool) // 2}, {len(pool) // 2} patients" in describe(summary, table="x")
    still(source, "x")
    assert sum(made(source, out)["splits"]["folds"], []).count("x") == 1  # two folds, as there were


def test_the_private_folder_is_private_and_its_secret_lasts(tmp_path):
    source, out, private = stills(tmp_path / "s"), tmp_path / "out", tmp_path / "out.private"
    private.mkdir(mode=0o777)
    made(source, out, keep_names=False)
    assert private.stat().st_mode & 0o777 == 0o700
    assert {(private / name).stat().st_mode & 0o777 for name in ("salt", "prepared.jsonl")} == {0o600}
    assert sorted(p.name for p in private.iterdir()) == ["lock", "prepared.jsonl", "prepared.npy", "rejected.csv", "salt"]
    salt, checksum = (private / "salt").read_text(), Store.open(out).checksum
    assert len(salt.strip()) == 32
    shutil.rmtree(out)
    made(source, out, keep_names=False)
    assert (private / "salt").read_text() == salt and Store.open(out).checksum == checksum
    shutil.rmtree(private)
    shutil.rmtree(out)
    made(source, out, keep_names=False)
    assert (private / "salt").read_text() != salt and Store.open(out).checksum != checksum


def test_a_validation_part_emptied_by_hand_stays_empty(tmp_path):
    source, out = tmp_path / "s", tmp_path / "out"
    stills(source, "12345", mask=False)
    made(source, out)
    splits = json.loads((out / "splits.json").read_text())
    splits = {"train": sorted(splits["train"] + splits["validation"]), "validation": [], "test": splits["test"]}
    (out / "splits.json").write_text(json.dumps(splits))
    assert made(source, out)["splits"] == splits
