"""Splits, folds and label subsets: no patient twice, everyone somewhere, the small choice inside the large one; also through a run."""
import json
import time
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from uscl import config as uscl_config
from uscl.data.fractions import label_subset
from uscl.data.splits import by_fold, by_patient, check, fold
from uscl.data.writer import StoreWriter
from uscl.stages import experiment, finetune, source
from uscl.types import UserError

NAMES = [f"patient{n:03d}" for n in range(514)]
FRACTIONS = (0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 0.9, 1.0)


def sizes(split):
    return [len(split[part]) for part in ("train", "validation", "test")]


@pytest.mark.parametrize("validation,test,expected", [
    (0.0, 0.2, [410, 1, 103]),  # the kidney papers' 80/20 of 514, and one to validate
    (0.1, 0.2, [360, 51, 103]),
    (0.15, 0.3, [283, 77, 154]),
    (0.0, 0.0, [512, 1, 1]),
])  # fmt: skip
def test_shares(validation, test, expected):
    split = by_patient(NAMES, seed=0, validation=validation, test=test)
    assert sizes(split) == expected
    assert sorted(sum(split.values(), [])) == NAMES and all(names == sorted(names) for names in split.values())


@pytest.mark.parametrize("labelled", [3, 4, 7, 50, 513])
def test_unlabelled_patients_train_and_labelled_ones_are_shared_out(labelled):
    names = set(NAMES[::-1][:labelled])
    split = by_patient(NAMES, labelled=names, seed=3, validation=0.1, test=0.2)
    assert sorted(sum(split.values(), [])) == NAMES
    assert set(split["validation"]) | set(split["test"]) <= names
    assert len(split["test"]) == max(1, round(0.2 * labelled)) and set(split["train"]) & names
    check(json.loads(json.dumps(split)), NAMES, names, file="splits.json")


def test_a_function_of_the_set_and_the_seed():
    split = by_patient(NAMES, seed=5)
    assert split == by_patient(NAMES[::-1] + NAMES[:9], labelled=NAMES[::-1], seed=5)
    assert split["test"] != by_patient(NAMES, seed=6)["test"]


def test_every_patient_has_the_same_chance():
    """500 seeds of 3 in 10: a count is binomial, 150 with a standard deviation of 10.2."""
    splits = [by_patient(NAMES[:10], seed=seed, validation=0.2, test=0.3) for seed in range(500)]
    for part, expected in (("test", 150), ("validation", 100), ("train", 250)):
        counts = Counter(name for split in splits for name in split[part])
        assert all(abs(counts[name] - expected) < 5 * 11.2 for name in NAMES[:10]), counts


@pytest.mark.parametrize("options,error,says", [
    ({"labelled": NAMES[:2]}, UserError, "2 of 514 patients have labels .'patient000', 'patient001'.; at least 3 are"),
    ({"labelled": NAMES[:1]}, UserError, "1 of 514 patients have labels"),
    ({"validation": 0.5, "test": 0.5}, UserError, "validation=0.5 and test=0.5 of 514 patients leave none"),
    ({"labelled": ["nobody"]}, ValueError, "nobody"),
])  # fmt: skip
def test_what_cannot_be_split(options, error, says):
    with pytest.raises(error, match=says):
        by_patient(NAMES, seed=0, **options)


def test_without_any_label_all_are_dealt():
    assert by_patient(NAMES, labelled=[], seed=4) == by_patient(NAMES, labelled=NAMES, seed=4)
    for few in (["a"], ["a", "b"]):
        split = by_patient(few, labelled=[], seed=0)
        assert split == {"train": few, "validation": [], "test": []}
        check(split, few, [], file="splits.json")


GOOD = {"train": ["a", "b"], "validation": ["c"], "test": ["d", "e"]}  # labelled: all but b and e


@pytest.mark.parametrize("split,says", [
    ([], "found list; it must hold exactly the lists 'train', 'validation' and 'test'"),
    (GOOD | {"val": ["c"]}, "found 'test', 'train', 'val', 'validation'; it must hold exactly"),
    ({"train": ["a"]}, "found 'train'; it must hold exactly"),
    (GOOD | {"train": "ab"}, "'train' is 'ab'; it must be a list of patient names"),
    (GOOD | {"train": ["a", 7]}, "'train' is .*7.; it must be a list of patient names"),
    (GOOD | {"test": ["d", "e", "a"]}, "patient 'a' is in 'train' and in 'test'; each belongs to one part, once"),
    (GOOD | {"test": ["d", "e", "d"]}, "patient 'd' is in 'test' and in 'test'"),
    (GOOD | {"train": ["a"]}, "patient 'b' of cines.csv is in no part"),
    (GOOD | {"train": ["a", "b", "z"]}, "patient 'z' in 'train' has no cine"),
    (GOOD | {"train": ["a", "b", "c"], "validation": []}, "'validation' has no patient with a labelled frame, of 0"),
    (GOOD | {"train": ["a", "b", "d"], "test": ["e"]}, "'test' has no patient with a labelled frame, of 1"),
    (GOOD | {"train": ["b"], "test": ["d", "e", "a"]}, "'train' has no patient with a labelled frame, of 1"),
])  # fmt: skip
def test_check(split, says):
    check(GOOD, "abcde", "acd", file="splits.json")
    with pytest.raises(UserError, match=f"^splits.json: {says}"):
        check(split, "abcde", "acd", file="splits.json")


def test_one_patient_is_no_study():
    with pytest.raises(UserError, match="splits.json: there is only one patient .'a'."):
        check({"train": ["a"], "validation": [], "test": []}, "aaa", "a", file="splits.json")
    with pytest.raises(UserError, match="splits.json: 'train' is empty; it needs at least one patient"):
        check({"train": [], "validation": ["a"], "test": []}, "a", [], file="splits.json")


# ---- folds -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("labelled,k", [(11, 5), (5, 5), (400, 3), (2, 2)])
def test_folds_part_the_labelled_evenly(labelled, k):
    names = NAMES[::-1][:labelled]
    folds = by_fold(NAMES, names, k=k, seed=1)
    assert sorted(sum(folds, [])) == sorted(names) and all(f == sorted(f) for f in folds)
    assert sorted(map(len, folds)) == sorted(labelled // k + (n < labelled % k) for n in range(k))
    assert folds == by_fold(NAMES[::-1] * 2, names * 2, k=k, seed=1)
    assert labelled < 11 or folds != by_fold(NAMES, names, k=k, seed=2)


def test_a_patient_of_the_test_is_in_no_fold():
    assert sorted(sum(by_fold("abc", "bcxyz", k=2, seed=0), [])) == ["b", "c"]


@pytest.mark.parametrize("k", [0, 1, 4])
def test_folds_that_cannot_be(k):
    with pytest.raises(UserError, match=f"folds: found {k}; allowed is a number from 2 to 3"):
        by_fold(NAMES, NAMES[:3], k=k, seed=0)


FOLDED = {"train": ["a", "b", "c", "u"], "validation": ["d"], "test": ["t"], "folds": [["d", "a"], ["b", "c"]]}  # u has no label


def test_a_fold_validates_and_all_others_train():
    check(FOLDED, "abcdut", "abcdt", file="splits.json")
    assert fold(FOLDED, 0) == {"train": ["b", "c", "u"], "validation": ["a", "d"], "test": ["t"]}
    assert fold(FOLDED, 1) == {"train": ["a", "d", "u"], "validation": ["b", "c"], "test": ["t"]}
    for i in range(2):
        check(fold(FOLDED, i), "abcdut", "abcdt", file="splits.json")
    for i in (-1, 2):
        with pytest.raises(UserError, match=f"config.data.fold: found {i}; the folds of this store are 0 to 1"):
            fold(FOLDED, i)
    with pytest.raises(UserError, match="config.data.fold: found 0; the folds of this store are none"):
        fold(GOOD, 0)


@pytest.mark.parametrize("folds,says", [
    ({}, "'folds' is {}; it must be a list of two or more lists"),
    ([["a", "b", "c", "d"]], "'folds' is .*; it must be a list of two or more lists"),
    ([["a", "b", "c", "d"], []], "'folds' is .*none of them empty"),
    (["ab", "cd"], "'fold 0' is 'ab'; it must be a list of patient names"),
    ([["a", "b"], ["c", "d", 3]], "'fold 1' is .*3.; it must be a list of patient names"),
    ([["a", "b"], ["c", "d", "a"]], "patient 'a' is in 'fold 0' and in 'fold 1'; each belongs to one fold, once"),
    ([["a", "b"], ["c"]], "patient 'd' is in no fold"),
    ([["a", "b"], ["c", "d", "t"]], "patient 't' in 'fold 1' does not belong there"),
    ([["a", "b", "u"], ["c", "d"]], "patient 'u' in 'fold 0' does not belong there"),
    ([["a", "b", "z"], ["c", "d"]], "patient 'z' in 'fold 0' does not belong there"),
])  # fmt: skip
def test_check_of_folds(folds, says):
    with pytest.raises(UserError, match=f"^splits.json: {says}"):
        check(FOLDED | {"folds": folds}, "abcdut", "abcdt", file="splits.json")


# ---- label subsets --------------------------------------------------------------------------------------------------
def uneven():
    """300 rows with ids in steps of 3; patient p has 1 + p % 7 of them, as far as they reach."""
    owner = [f"p{p}" for p in range(200) for _ in range(1 + p % 7)][:300]
    return np.arange(300) * 3, owner


def test_nested_sorted_and_as_many_as_asked():
    rows, owner = uneven()
    for seed in range(5):
        chosen = [label_subset(rows, owner, fraction, seed=seed).tolist() for fraction in FRACTIONS]
        assert [len(c) for c in chosen] == [1, 3, 15, 30, 60, 150, 270, 300]
        assert all(c == sorted(set(c)) for c in chosen) and chosen[-1] == rows.tolist()
        for small, large in combinations(chosen, 2):
            assert set(small) < set(large)


def test_spread_over_patients_first():
    """Nobody gives a second row before everybody has given the first, and so on: counts are min(own, k) or one less."""
    rows, owner = uneven()
    own, of = Counter(owner), dict(zip(rows.tolist(), owner, strict=True))
    for fraction in FRACTIONS:
        given = Counter(of[row] for row in label_subset(rows, owner, fraction, seed=1).tolist())
        most = max(given.values())
        for patient, count in own.items():
            assert min(count, most - 1) <= given[patient] <= min(count, most)
    forty = np.arange(40)
    assert sorted(label_subset(forty, forty // 4, 0.25, seed=0) // 4) == list(range(10))


def test_a_function_of_rows_and_seed():
    rows, owner = uneven()
    order = np.random.default_rng(0).permutation(300)
    first = label_subset(rows, owner, 0.1, seed=2)
    np.testing.assert_array_equal(first, label_subset(rows[order], [owner[i] for i in order], 0.1, seed=2))
    assert set(first) != set(label_subset(rows, owner, 0.1, seed=3))


def test_every_row_has_the_chance_of_its_patient():
    """1 of 6 rows, 2 of A, 4 of B: each patient comes first in half of 2000 seeds, with one of its rows."""
    counts = Counter(int(label_subset(np.arange(6), list("AABBBB"), 0.1, seed=seed)[0]) for seed in range(2000))
    for row, p in enumerate([1 / 4, 1 / 4, 1 / 8, 1 / 8, 1 / 8, 1 / 8]):
        assert abs(counts[row] - 2000 * p) < 5 * np.sqrt(2000 * p * (1 - p)), counts


@pytest.mark.parametrize("fraction", [0, -0.1, 1.0001, float("nan"), 10])
def test_fraction_outside(fraction):
    with pytest.raises(UserError, match=f"label_fraction: found {fraction}; allowed is a number above 0 and at most 1"):
        label_subset(np.arange(3), list("abc"), fraction, seed=0)


def test_no_rows():
    with pytest.raises(UserError, match="label_fraction: the training patients have 0 labelled frames"):
        label_subset(np.arange(0), [], 0.5, seed=0)


# ---- label subsets by class ------------------------------------------------------------------------------------------
def test_rows_that_show_the_same_keep_their_order():
    rows, owner = uneven()
    for fraction in FRACTIONS:
        plain = label_subset(rows, owner, fraction, seed=3)
        for shown in (True, False):
            np.testing.assert_array_equal(plain, label_subset(rows, owner, fraction, seed=3, classes=np.full((300, 4), shown)))


@pytest.mark.parametrize("seed", range(5))
def test_a_rare_class_keeps_its_share(seed):
    """One row for each of 300 patients, 5 of which show the rare class, 60 another, all a third: within one row of the share."""
    rng = np.random.default_rng(seed)
    classes = np.zeros((300, 3), bool)
    classes[rng.choice(300, 5, replace=False), 0] = True
    classes[rng.choice(300, 60, replace=False), 1] = True
    classes[:, 2] = True
    for fraction in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8):
        chosen = label_subset(np.arange(300), [f"p{n}" for n in range(300)], fraction, seed=seed, classes=classes)
        seen, expected = classes[chosen].sum(0), classes.sum(0) * len(chosen) / 300
        assert (abs(seen - expected) <= 1).all(), (fraction, seen, expected)


def naive(rows, owner, share, seed, classes):
    """By the words of the docstring, one row at a time, with exact fractions."""
    from fractions import Fraction

    order, rest, n = [], [], len(rows)
    for count in range(1, n + 1):  # the plain order, from the plain subsets
        now = set(label_subset(rows, owner, count / n, seed=seed).tolist())
        order += sorted(now - set(order))
    row_at, total, given = {row: k for k, row in enumerate(rows.tolist())}, classes.sum(0), Counter()
    rest, chosen = list(order), []
    for step in range(1, round(share * n) + 1):
        turn = min(given[owner[row_at[row]]] for row in rest)

        def error(row, step=step, chosen=tuple(chosen)):
            seen = classes[[row_at[r] for r in (*chosen, row)]].sum(0)
            terms = ((int(s) - Fraction(step * int(t), n)) ** 2 / max(int(t), 1) for s, t in zip(seen, total, strict=True))
            return sum(terms)

        best = min((row for row in rest if given[owner[row_at[row]]] == turn), key=error)  # the first of the least
        rest.remove(best)
        chosen.append(best)
        given[owner[row_at[best]]] += 1
    return sorted(chosen)


@pytest.mark.parametrize("seed", range(6))
def test_the_choice_is_the_greedy_one(seed):
    """No two sums of these come so close that float64 could not tell them apart, but for ties, which both break by the order."""
    rng = np.random.default_rng(seed)
    rows, owner = np.arange(24) * 2, [f"p{p}" for p in rng.integers(8, size=24)]
    classes = rng.random((24, 3)) < [0.1, 0.5, 0.7]
    for share in (0.25, 0.5, 0.75):
        assert label_subset(rows, owner, share, seed=seed, classes=classes).tolist() == naive(rows, owner, share, seed, classes)


def test_by_class_nested_and_spread_over_patients():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rows, owner = uneven()
        classes = rng.random((300, 4)) < rng.random(4)
        chosen = [label_subset(rows, owner, fraction, seed=seed, classes=classes).tolist() for fraction in FRACTIONS]
        assert [len(c) for c in chosen] == [1, 3, 15, 30, 60, 150, 270, 300]
        for small, large in combinations(chosen, 2):
            assert set(small) < set(large)
        own, of = Counter(owner), dict(zip(rows.tolist(), owner, strict=True))
        for subset in chosen:
            given = Counter(of[row] for row in subset)
            assert all(min(count, max(given.values()) - 1) <= given[patient] for patient, count in own.items())
        shuffled = rng.permutation(300)
        again = label_subset(rows[shuffled], [owner[i] for i in shuffled], 0.2, seed=seed, classes=classes[shuffled])
        assert again.tolist() == chosen[4]


def test_five_thousand_rows_in_seconds():
    rng, began = np.random.default_rng(0), time.process_time()
    owner = [f"p{p}" for p in rng.integers(700, size=5000)]
    label_subset(np.arange(5000), owner, 0.5, seed=0, classes=rng.random((5000, 5)) < 0.4)
    assert time.process_time() - began < 2


# ---- through a run ---------------------------------------------------------------------------------------------------
def made(path, labels, **options):
    """A store of 9 patients with a cine of 4 frames each, one frame labelled where `labels`; class b in every third cine."""
    classes = {"a": [1], "b": [2]} if labels else {}
    with StoreWriter(path, size=32, classes=classes, **options) as writer:
        for n in range(9):
            frames = np.random.default_rng(n).integers(0, 255, (4, 32, 32), np.uint8)
            label = np.ones((32, 32), np.uint8)
            label[:4] = 2 if n % 3 == 0 else 0
            writer.add(patient=f"p{n}", frames=frames, labels={1: label} if labels else None)
    return path


def config_of(store, **changes):
    config = uscl_config.default()
    config.update_from_flattened_dict({"data.store": str(store)} | changes)
    return config


class Stub:
    """A stage that learns nothing and remembers the run."""

    def run(self, run, carried):
        self.seen = run
        return carried


def test_pretraining_alone_needs_no_label(tmp_path, monkeypatch):
    store, stub = made(tmp_path / "store", labels=False), Stub()
    monkeypatch.setitem(experiment.STAGES, "encoder", stub)
    page = experiment.run(config_of(store, stages=("encoder",)), tmp_path / "run")
    assert stub.seen.store.splits["train"] and "labelled" in page.read_text()
    kept = np.load(tmp_path / "run" / "data.npz")
    assert kept["frames"].shape == (6, 32, 32) and "label" not in kept and (kept["frame"] == 2).all()
    store = stub.seen.store
    np.testing.assert_array_equal(kept["frames"][0], store.frame(int(kept["cine"][0]), 2))


def test_stages_that_need_labels_say_so_at_once(tmp_path, monkeypatch):
    store, stub = made(tmp_path / "store", labels=False), Stub()
    monkeypatch.setitem(experiment.STAGES, "encoder", stub)
    for stages in (("encoder", "finetune"), ("evaluate",)):
        with pytest.raises(UserError, match=f"store: the store has no labelled frame, which config.stages '{stages[-1]}' need.*pretrain"):
            experiment.run(config_of(store, stages=stages), tmp_path / stages[-1])
    assert not hasattr(stub, "seen")


def test_a_run_takes_its_fold_and_its_labels_by_class(tmp_path):
    everyone = [f"p{n}" for n in range(9)]
    splits = {"train": everyone[:5], "validation": everyone[5:7], "test": everyone[7:], "folds": [everyone[:3], everyone[3:7]]}
    store = made(tmp_path / "store", labels=True, splits=splits)
    assert source.open_store(config_of(store), tmp_path, None).splits == splits
    assert source.open_store(config_of(store, **{"data.fold": 0}), tmp_path, None).patients("validation") == everyone[:3]
    opened = source.open_store(config_of(store, **{"data.fold": 1}), tmp_path, None)
    assert opened.patients("validation") == everyone[3:7] and opened.patients("train") == everyone[:3]
    assert opened.patients("test") == everyone[7:]
    with pytest.raises(UserError, match="config.data.fold: found 2; the folds of this store are 0 to 1"):
        source.open_store(config_of(store, **{"data.fold": 2}), tmp_path, None)
    rows = np.arange(9)
    np.testing.assert_array_equal(finetune.classes_in(opened, rows), [[True, n % 3 == 0] for n in range(9)])
    run = Stub()
    run.store, run.config = source.open_store(config_of(store), tmp_path, None), config_of(store, **{"finetune.label_fraction": 0.6})
    shown = {tuple(finetune.classes_in(run.store, finetune.labelled_rows(run)).sum(0)) for run.config.seed in range(8)}
    assert shown == {(3, 1)}  # 2 of the 5 training rows show b, so 1 of 3 does whatever the seed
