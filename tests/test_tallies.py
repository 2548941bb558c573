"""Counts of patients: figures and intervals against those that are computed from the cases one by one."""

import math

import numpy as np
import pytest

from uscl.metrics import accuracy, bootstrap_statistic, confusion, macro
from uscl.metrics.tallies import FIGURES, bootstrap_counts, count_figures, patient_counts

RNG = np.random.default_rng(5)
TRUTH, CALLED = RNG.integers(0, 3, 40), RNG.integers(0, 3, (40, 2))
PATIENT = np.array([f"p{k}" for k in RNG.integers(0, 9, 40)])


def by_cases(name):
    """The mean over draws of one figure, as `bootstrap_statistic` asks for it."""
    one = {"macro_f1": lambda c: macro(c).f1, "macro_precision": lambda c: macro(c).precision, "macro_recall": lambda c: macro(c).recall,
           "accuracy": accuracy}[name]  # fmt: skip
    return lambda truth, called: float(np.mean([one(confusion(truth, column, classes=3)) for column in called.T]))


def test_counts_by_hand():
    found = patient_counts([0, 1, 1], np.array([[0], [1], [0]]), ["a", "a", "b"], classes=2)
    assert found.dtype == np.int64 and found.tolist() == [[[[1, 0], [0, 1]]], [[[0, 0], [1, 0]]]]
    whole = patient_counts(TRUTH, CALLED, PATIENT, classes=3)
    assert whole.shape == (len(set(PATIENT.tolist())), 2, 3, 3)
    for draw in range(2):
        np.testing.assert_array_equal(whole.sum(0)[draw], confusion(TRUTH, CALLED[:, draw], classes=3))
    for bad in ((TRUTH, CALLED[:, 0], PATIENT), (TRUTH[1:], CALLED, PATIENT), (TRUTH[1:], CALLED, PATIENT[1:])):
        with pytest.raises(ValueError, match="expected"):
            patient_counts(*bad, classes=3)
    with pytest.raises(ValueError, match="0 .. 1"):
        patient_counts(TRUTH, CALLED, PATIENT, classes=2)


def test_figures_are_those_of_one_matrix():
    hand = count_figures(np.array([[8, 2], [1, 3]]))
    want = [(16 / 19 + 2 / 3) / 2, (8 / 9 + 3 / 5) / 2, (4 / 5 + 3 / 4) / 2, 11 / 14]
    assert [float(hand[name]) for name in FIGURES] == pytest.approx(want)
    rare = RNG.integers(0, 2, (50, 4, 4)) * RNG.integers(0, 9, (50, 4, 4)) * RNG.integers(0, 2, (50, 4, 1))  # with empty rows and columns
    many = count_figures(rare.reshape(10, 5, 4, 4))
    for k, counts in enumerate(rare):
        one = macro(counts)
        mine = [float(many[name][k // 5, k % 5]) for name in FIGURES]
        np.testing.assert_allclose(mine, [one.f1, one.precision, one.recall, accuracy(counts)], rtol=1e-12)
    unknown = np.isnan(many["macro_precision"]).mean()
    assert 0.1 < unknown < 0.9, "both kinds are among them"
    assert all(math.isnan(found) for found in count_figures(np.zeros((3, 3))).values())


def test_intervals_are_those_of_the_cases():
    counts = patient_counts(TRUTH, CALLED, PATIENT, classes=3)
    mine = bootstrap_counts(lambda c: {name: found.mean(-1) for name, found in count_figures(c).items()}, counts, repeats=150, seed=3)
    for name in FIGURES:
        want = bootstrap_statistic(by_cases(name), TRUTH, CALLED, patients=PATIENT, repeats=150, seed=3)
        np.testing.assert_allclose(mine[name], want, rtol=1e-12, err_msg=name)
    wide = bootstrap_counts(lambda c: {"a": count_figures(c)["accuracy"][:, 0]}, counts, repeats=150, seed=3, level=0.5)["a"]
    assert mine["accuracy"].low < wide.low < wide.high < mine["accuracy"].high


def test_what_has_no_interval():
    def share(counts):
        with np.errstate(invalid="ignore"):
            return {"share": counts[:, 0] / counts[:, 1]}

    alike = bootstrap_counts(share, np.tile([[1, 4]], (5, 1)), repeats=100)["share"]
    assert alike == (0.25, 0.25, 0.25)
    alone = bootstrap_counts(share, np.array([[1, 4]]), repeats=100)["share"]
    assert alone.mean == 0.25 and math.isnan(alone.low) and math.isnan(alone.high)
    one_knows = bootstrap_counts(share, np.array([[1, 4], [0, 0], [0, 0]]), repeats=400)["share"]  # missed by (2/3)^3 of the draws
    assert one_knows.mean == 0.25 and math.isnan(one_knows.low)
    two_know = bootstrap_counts(share, np.array([[1, 4], [1, 4], [0, 0]]), repeats=400)["share"]  # by (1/3)^3
    assert two_know == (0.25, 0.25, 0.25)
    for counts, level in ((np.zeros((0, 2)), 0.95), (np.ones((3, 2)), 1.0)):
        with pytest.raises(ValueError, match="expected"):
            bootstrap_counts(share, counts, level=level)
