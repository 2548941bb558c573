"""Splits and label subsets: no patient twice, everyone somewhere, the small choice inside the large one."""
import json
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from uscl.data.splits import by_patient, check, label_subset
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
    ({"labelled": []}, UserError, "0 of 514 patients have labels .none."),
    ({"validation": 0.5, "test": 0.5}, UserError, "validation=0.5 and test=0.5 of 514 labelled patients leave none"),
    ({"labelled": ["nobody"]}, ValueError, "nobody"),
])  # fmt: skip
def test_what_cannot_be_split(options, error, says):
    with pytest.raises(error, match=says):
        by_patient(NAMES, seed=0, **options)


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
