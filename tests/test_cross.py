"""Cross-validation by patient: every labelled patient is tested once, in the company of its own class, and never learnt from before."""

from collections import Counter

import lungs
import numpy as np
import pytest

from uscl.data.cross import cross
from uscl.stages import experiment, source, start
from uscl.train.logs import Log
from uscl.types import UserError

ELEVEN = {f"sick{n}": 1 for n in range(5)} | {f"well{n}": 0 for n in range(6)}
EVERYONE = [*ELEVEN, "nobody knows", "sick0"]


def folds(strata=ELEVEN, parts=5, seed=0):
    return [cross(strata, [*EVERYONE, *strata], parts=parts, fold=k, seed=seed) for k in range(parts)]


@pytest.mark.parametrize("seed", range(5))
def test_everybody_with_a_label_is_tested_once_and_the_parts_are_alike(seed):
    found = folds(seed=seed)
    assert sorted(name for split in found for name in split["test"]) == sorted(ELEVEN)
    for split in found:
        assert Counter(ELEVEN[name] for name in split["test"])[1] == 1
        assert Counter(ELEVEN[name] for name in split["test"])[0] in (1, 2)
        assert sorted(name for names in split.values() for name in names) == sorted(set(EVERYONE))
        assert "nobody knows" in split["train"]
        assert all(names == sorted(names) for names in split.values())


def test_the_part_that_tests_next_validates():
    found = folds()
    assert [split["validation"] for split in found] == [found[(k + 1) % 5]["test"] for k in range(5)]


def test_strata_go_on_where_the_last_one_ended():
    two = {name: name for name in "abcdef"}  # six strata of one patient each, in three parts: two a part, not six in the first
    assert sorted(len(split["test"]) for split in folds(two, parts=3)) == [2, 2, 2]


def test_the_seed_alone_deals():
    assert folds(seed=1) == folds(dict(reversed(ELEVEN.items())), seed=1)
    assert folds(seed=1) != folds(seed=2)


@pytest.mark.parametrize(
    ("parts", "fold", "words"),
    [(2, 0, "data.cross: found 2; one part tests"), (12, 0, "11 patients"), (5, 5, "data.fold: found 5;.*0 to 4"), (5, -1, "found -1")],
)
def test_what_cannot_be_dealt_is_one_sentence(parts, fold, words):
    with pytest.raises(UserError, match=words):
        cross(ELEVEN, EVERYONE, parts=parts, fold=fold, seed=0)


def opened(store, folder, **changes):
    folder.mkdir(exist_ok=True)
    with Log(folder) as log:
        return source.open_store(lungs.config(store, **changes), folder, log)


def test_a_run_deals_its_store_by_the_classes_of_its_videos(tmp_path):
    store = lungs.make_store(tmp_path / "store", labels=("normal", "consolidation", "uncertain"))
    tested = []
    for fold in range(3):
        made = opened(store, tmp_path / "run", **{"data.cross": 3, "data.fold": fold})
        names = np.array(made.attributes["class"])[made.cines_of(made.patients("test"))]
        assert {"normal", "consolidation"} == set(names)  # who is uncertain has no label, so nothing to be tested by
        tested += made.patients("test")
    assert len(tested) == len(set(tested)) == 14  # of 20 patients every third is uncertain
    other = opened(store, tmp_path / "run", **{"data.cross": 3, "data.fold": 0, "data.split_seed": 1})
    assert other.splits != opened(store, tmp_path / "run", **{"data.cross": 3, "data.fold": 0}).splits


def test_weights_that_may_know_the_test_are_refused(tmp_path, monkeypatch):
    store = lungs.make_store(tmp_path / "store")
    place = {"data.cross": 4, "data.fold": 1}
    mine = opened(store, tmp_path / "mine", **place)
    before = lungs.config(store, stages=("video",), **place)
    experiment.keep_config(tmp_path / "before", before)
    experiment.keep_data(tmp_path / "before", mine)
    monkeypatch.setattr(start, "_weights", lambda folder, kept: folder.name)
    again = {"start": str(tmp_path / "before"), "stages": ("classify",)}
    assert start.carried(lungs.config(store, **again, **place), store=mine) == "before"
    for other in ({"data.fold": 2}, {"data.split_seed": 1}, {"data.cross": 5}):
        theirs = opened(store, tmp_path / "theirs", **place | other)
        with pytest.raises(UserError, match="kept other patients out for its test"):
            start.carried(lungs.config(store, **again, **place | other), store=theirs)
