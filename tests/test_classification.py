"""Classification: by hand, against loops over pairs and cuts, values of scikit-learn 1.9.1, and intervals against every possible draw."""

import math

import numpy as np
import pytest

from uscl.metrics.classification import accuracy, auc, classification_scores, confusion, macro, sensitivity, specificity, youden_threshold
from uscl.metrics.intervals import bootstrap_patients, bootstrap_statistic

TRUTH, SCORE = [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]


def drawn(n=40):
    """Labels and scores with many ties, from a formula, for which scikit-learn's answers are written below."""
    i = np.arange(n)
    truth = (i * 7 % 11 < 4).astype(int)
    return truth, np.round(np.sin(1.7 * i) + 0.8 * truth, 1)


def auc_by_pairs(truth, score):
    positive, negative = ([s for s, t in zip(score, truth, strict=True) if t == k] for k in (1, 0))
    won = sum(1.0 if p > n else 0.5 if p == n else 0.0 for p in positive for n in negative)
    return won / (len(positive) * len(negative)) if positive and negative else math.nan


def test_two_classes_by_hand():
    counts = confusion([0] * 10 + [1] * 4, [0] * 8 + [1] * 2 + [0] + [1] * 3)
    assert counts.tolist() == [[8, 2], [1, 3]] and counts.dtype == np.int64
    assert accuracy(counts) == pytest.approx(11 / 14)
    assert (sensitivity(counts), specificity(counts)) == (0.75, 0.8)
    assert (sensitivity(counts, positive=0), specificity(counts, positive=0)) == (0.8, 0.75)
    assert macro(counts) == pytest.approx(((8 / 9 + 3 / 5) / 2, (4 / 5 + 3 / 4) / 2, (16 / 19 + 2 / 3) / 2))
    assert confusion([False, True, True], np.array([False, True, False])).tolist() == [[1, 0], [1, 1]]


def test_three_classes_agree_with_scikit_learn():
    i = np.arange(40)
    counts = confusion(i % 3, (i * i // 5 + i // 7) % 3, classes=3)
    assert counts.tolist() == [[4, 6, 4], [4, 5, 4], [3, 6, 4]]
    assert accuracy(counts) == 0.325
    assert macro(counts) == pytest.approx((0.3303624480095068, 0.326007326007326, 0.3244444444444445), abs=1e-15)
    assert sensitivity(counts, positive=2) == pytest.approx(4 / 13)
    assert specificity(counts, positive=2) == pytest.approx(19 / 27), "0 taken for 1 is no false alarm for 2"


def test_each_class_counts_alike():
    counts = confusion([0] * 98 + [1] * 2, [0] * 100)
    assert accuracy(counts) == 0.98 and macro(counts).recall == 0.5
    assert macro(counts).f1 == pytest.approx(196 / 198 / 2) and math.isnan(macro(counts).precision), "1 was never predicted"
    assert macro(confusion([0, 0, 1], [0, 0, 1])) == (1, 1, 1)
    absent = macro(confusion([0, 0, 1, 1], [0, 2, 1, 1], classes=3))
    assert absent == pytest.approx((1, 0.75, (2 / 3 + 1) / 2)), "what is given to a class that truth lacks costs the others"


def test_what_was_not_measured_is_nan():
    nothing = confusion(np.zeros(0, int), np.zeros(0, int))
    assert all(math.isnan(f(nothing)) for f in (accuracy, sensitivity, specificity)) and np.isnan(macro(nothing)).all()
    healthy = confusion([0, 0], [0, 1])
    assert math.isnan(sensitivity(healthy)) and specificity(healthy) == 0.5
    assert all(math.isnan(f([1, 1], [0.2, 0.3])) for f in (auc, youden_threshold))
    scores = classification_scores([0, 0], [0.2, 0.7], threshold=0.5)
    assert (scores["accuracy"], scores["specificity"]) == (0.5, 0.5) and math.isnan(scores["sensitivity"]) and math.isnan(scores["auc"])
    blind = classification_scores(TRUTH, SCORE, threshold=math.nan)
    assert blind["auc"] == 0.75 and all(math.isnan(blind[name]) for name in ("accuracy", "sensitivity", "specificity"))


def test_auc_known_values():
    assert auc(TRUTH, SCORE) == 0.75 and auc(*drawn()) == pytest.approx(0.9, abs=1e-15)
    assert auc(TRUTH, [0.1, 0.2, 0.3, 0.4]) == 1 and auc(TRUTH, [4, 3, 2, 1]) == 0 and auc(TRUTH, [7] * 4) == 0.5
    assert auc(TRUTH, [-np.inf, 0, 0, np.inf]) == 0.875


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_auc_against_all_pairs_with_ties(levels):
    rng = np.random.default_rng(levels)
    truth, score = rng.integers(0, 2, 60), rng.integers(0, levels, 60)
    assert auc(truth, score) == pytest.approx(auc_by_pairs(truth, score), abs=1e-15)
    assert auc(truth, -score) == pytest.approx(1 - auc(truth, score), abs=1e-15)
    assert auc(truth, 1 / (1 + np.exp(-score / levels))) == auc(truth, score), "order alone counts"


def test_youden_known_values():
    assert youden_threshold(TRUTH, SCORE) == pytest.approx(0.225), "of 0.225 and 0.6, both J 1/2, the lower"
    assert youden_threshold(TRUTH, [1, 2, 4, 7]) == 3, "the middle of the gap"
    assert youden_threshold(TRUTH, [4, 3, 2, 1]) == 1 and youden_threshold(TRUTH, [5.0] * 4) == 5, "no better than chance: all positive"
    truth, score = drawn()
    assert youden_threshold(truth, score) == pytest.approx(0.45), "scikit-learn: 0.5 is the lowest positive score, 0.4 lies below"
    found = classification_scores(truth, score, threshold=youden_threshold(truth, score))
    assert found["sensitivity"] + found["specificity"] - 1 == pytest.approx(0.6533333333333333)


def test_youden_against_every_cut():
    rng = np.random.default_rng(3)
    for _ in range(50):
        truth, score = rng.integers(0, 2, 15), rng.integers(0, 8, 15) / 8
        if truth.min() == truth.max():
            continue
        cut = youden_threshold(truth, score)

        def j(t, truth=truth, score=score):
            return (score >= t)[truth == 1].mean() + (score < t)[truth == 0].mean() - 1

        best = max(j(t) for t in np.arange(-1, 18) / 16)
        assert j(cut) == pytest.approx(best)
        assert all(j(t) < best - 1e-12 for t in np.unique(score[score < cut])), "the lowest of the best"


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_threshold_between_neighbouring_floats_still_parts_them(dtype):
    for low in (1.0, 1.5, 0.1, -0.7):
        low = dtype(low)
        score = np.array([low, np.nextafter(low, dtype(9))])
        cut = youden_threshold([0, 1], score)
        assert (score >= cut).tolist() == (score.astype(float) >= cut).tolist() == [False, True]


def test_the_cut_is_positive_from_the_threshold_on():
    assert classification_scores([0, 1], [0.2, 0.5], threshold=0.5) == {"accuracy": 1, "sensitivity": 1, "specificity": 1, "auc": 1}
    assert list(classification_scores(TRUTH, SCORE, threshold=0.5).values()) == [0.75, 0.5, 1, 0.75]


@pytest.mark.parametrize("call,words", [
    (lambda: confusion([0, 2], [0, 1]), r"0 \.\. 1"),
    (lambda: confusion([0, 1], [0, -1]), r"0 \.\. 1"),
    (lambda: confusion([0, 1], [0]), r"predicted \[n\]"),
    (lambda: confusion([0.0, 1.0], [0, 1]), "integers"),
    (lambda: auc([0, 2], [0.1, 0.2]), r"0 \.\. 1"),
    (lambda: auc([0, 1], [0.1, 0.2, 0.3]), r"score \[n\]"),
    (lambda: auc([0, 1], [0.1, np.nan]), "nan"),
    (lambda: youden_threshold([0, 1], [0.1, np.inf]), "finite"),
    (lambda: bootstrap_statistic(auc, [0, 1], [0.1, 0.2], patients=["a"]), r"\[n, ...\]"),
    (lambda: bootstrap_statistic(auc, patients=["a"]), r"\[n, ...\]"),
    (lambda: bootstrap_statistic(auc, TRUTH, SCORE, patients=list("abcd"), level=95), "level"),
])  # fmt: skip
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_bootstrap_of_a_mean_is_that_of_patients():
    rng = np.random.default_rng(0)
    values, patients = rng.normal(size=50), rng.integers(0, 9, 50)
    expected = bootstrap_patients(values, patients, level=0.9, repeats=300, seed=4)
    assert bootstrap_statistic(np.mean, values, patients=patients, level=0.9, repeats=300, seed=4) == pytest.approx(expected, abs=1e-12)
    assert bootstrap_statistic(lambda x: 7, np.zeros((4, 2, 3)), patients=list("aabc"), repeats=20) == (7, 7, 7)


def test_bootstrap_of_the_auc_against_every_possible_draw():
    """Four patients have 4^4 = 256 equally likely draws; what has one class only is left out."""
    truth, score = np.array([1, 1, 0, 1, 0, 0, 1]), np.array([0.9, 0.2, 0.5, 0.6, 0.3, 0.2, 0.3])
    patients = np.array(["d", "a", "a", "b", "b", "c", "d"])
    groups = [np.flatnonzero(patients == p) for p in "abcd"]
    draws = [np.concatenate([groups[(code // 4**k) % 4] for k in range(4)]) for code in range(256)]
    exact = np.array([auc_by_pairs(truth[rows], score[rows]) for rows in draws])
    exact = exact[~np.isnan(exact)]
    assert len(exact) / 256 > 0.8
    found = bootstrap_statistic(auc, truth, score, patients=patients, level=0.8, repeats=3000)
    assert found.mean == pytest.approx(auc_by_pairs(truth, score))
    for end, share in ((found.low, 0.1), (found.high, 0.9)):  # an AUC of few cases jumps: the share must fall within the jump
        assert (exact < end - 1e-9).mean() - 0.02 < share < (exact < end + 1e-9).mean() + 0.02
    assert found.low < 0.45 and found.high > 0.9


def test_one_patient_says_nothing_about_patients():
    truth, score = np.array([1, 1] + [0] * 8), np.linspace(0.3, 0.9, 10) * np.tile([1, 0.8], 5)
    owner = np.arange(10)
    two = bootstrap_statistic(auc, truth, score, patients=owner, repeats=400)
    assert two.mean == auc(truth, score) and not np.isnan(two).any(), "two patients with a positive"
    one = bootstrap_statistic(auc, truth, score, patients=np.maximum(owner, 1), repeats=400)
    assert one.mean == two.mean and math.isnan(one.low) and math.isnan(one.high), "both positives from one patient"
    alone = bootstrap_statistic(auc, truth, score, patients=np.zeros(10))
    assert alone.mean == two.mean and math.isnan(alone.low)
    assert np.isnan(bootstrap_statistic(auc, np.zeros(3, int), np.ones(3), patients=[1, 2, 3], repeats=10)).all()
    assert np.isnan(bootstrap_statistic(auc, np.zeros(0, int), np.zeros(0), patients=[])).all()


def test_difference_of_two_models_on_the_same_cases():
    rng = np.random.default_rng(6)
    patients = np.repeat(np.arange(40), 3)
    truth = rng.integers(0, 2, 40)[patients]
    a = truth + rng.normal(0, 0.7, 120)
    b = a + rng.normal(0, 0.05, 120)
    value, low, high = bootstrap_statistic(lambda t, a, b: auc(t, a) - auc(t, b), truth, a, b, patients=patients, repeats=300)
    apart = bootstrap_statistic(auc, truth, a, patients=patients, repeats=300)
    assert value == auc(truth, a) - auc(truth, b) and low <= value <= high and high - low < (apart.high - apart.low) / 3
