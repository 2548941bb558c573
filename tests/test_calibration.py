"""Calibration: by hand, against a loop over bins that shares nothing, and by what probability says."""

import math

import numpy as np
import pytest

from uscl.metrics import brier_score, calibration_error, reliability


def by_loops(p, y, bins, of):
    """ECE rows and Brier per class: every bin looked through with its own condition; y is [n] of integers."""
    n, classes = p.shape
    rows = [[(max(p[i]), list(p[i]).index(max(p[i])) == y[i]) for i in range(n)]]
    if of == "class":
        rows = [[(p[i][k], y[i] == k) for i in range(n)] for k in range(classes)]
    errors = []
    for row in rows:
        error = 0.0
        for b in range(bins):
            inside = [(c, t) for c, t in row if b / bins < c <= (b + 1) / bins or (b == 0 and c == 0)]
            if inside:
                error += len(inside) / n * abs(sum(t for _, t in inside) / len(inside) - sum(c for c, _ in inside) / len(inside))
        errors.append(error)
    return errors, [sum((p[i][k] - (y[i] == k)) ** 2 for i in range(n)) / n for k in range(classes)]


@pytest.mark.parametrize("of", ["label", "class"])
@pytest.mark.parametrize("bins,classes", [(1, 2), (10, 4), (15, 5)])
def test_agrees_with_loops_also_in_parts(of, bins, classes):
    rng = np.random.default_rng(bins)
    p = rng.dirichlet(np.full(classes, 0.5), 6 * 7 * 5).reshape(5, 6, 7, classes)
    p[0, 0, 0], p[0, 0, 1] = np.eye(classes)[:2]
    y = rng.integers(0, classes, (5, 6, 7))
    errors, brier = by_loops(p.reshape(-1, classes), y.ravel(), bins, of)
    whole = reliability(p, y, of=of, bins=bins)
    assert calibration_error(whole) == pytest.approx(errors, abs=1e-12) and brier_score(whole) == pytest.approx(brier, abs=1e-12)
    parts = reliability(p[0], y[0], of=of, bins=bins)
    for image, labels in zip(p[1:], y[1:], strict=True):
        parts = parts + reliability(image, labels, of=of, bins=bins)
    assert parts.n == 210 and (parts.count == whole.count).all() and parts.count.shape == (1 if of == "label" else classes, bins)
    assert calibration_error(parts) == pytest.approx(errors, abs=1e-12) and brier_score(parts) == pytest.approx(brier, abs=1e-12)


@pytest.mark.parametrize("p,y,error,brier", [
    ([[1, 0]] * 3, [0, 0, 0], 0, (0, 0)),
    ([[1, 0]] * 3, [1, 1, 1], 1, (1, 1)),
    ([[0.5, 0.5]] * 4, [0, 0, 1, 1], 0, (0.25, 0.25)),
    ([[0.8, 0.2]] * 10, [0] * 6 + [1] * 4, 0.2, (0.28, 0.28)),
    ([[0.9, 0.1]] * 5 + [[0.3, 0.7]] * 5, [0] * 5 + [0] * 5, 0.4, (0.25, 0.25)),
])  # fmt: skip
def test_known_values(p, y, error, brier):
    counts = reliability(p, y)
    assert calibration_error(counts) == pytest.approx([error]) and brier_score(counts) == pytest.approx(brier)


def test_the_diagram():
    counts = reliability([[0.8, 0.2]] * 10, [0] * 6 + [1] * 4)
    filled = np.flatnonzero(counts.count[0])
    assert filled.tolist() == [11] and counts.count[0, 11] == 10, "0.8 of 15 bins is the upper end of the twelfth"
    assert counts.confidence[0, 11] == pytest.approx(8) and counts.correct[0, 11] == 6 and counts.n == 10


def test_bins_are_closed_above_and_hold_nought():
    p = np.array([0, 0.25, 0.26, 0.5, 0.75, 1.0])
    counts = reliability(p[:, None], np.ones((6, 1), bool), of="class", bins=4)
    assert counts.count.tolist() == [[2, 2, 1, 1]]


def test_probabilities_that_come_true_as_told_are_calibrated():
    """Labels drawn from the probabilities: ECE falls to 0, each Brier score to the mean of p (1 - p). Sharpened ones are not calibrated."""
    rng = np.random.default_rng(5)
    p = rng.dirichlet([1, 1, 2], 100_000)
    y = (rng.random((len(p), 1)) > p.cumsum(1)[:, :2]).sum(1)
    counts = reliability(p, y, of="class")
    assert (calibration_error(counts) < 0.01).all() and brier_score(counts) == pytest.approx((p * (1 - p)).mean(0), abs=0.003)
    sharp = p**3 / (p**3).sum(1, keepdims=True)
    assert calibration_error(reliability(p, y))[0] < 0.01 and calibration_error(reliability(sharp, y))[0] > 0.1


def test_classes_that_overlap():
    p, y = np.array([[0.9, 0.9], [0.1, 0.7]]), np.array([[True, True], [False, False]])
    counts = reliability(p, y, of="class")
    assert calibration_error(counts) == pytest.approx([0.1, (0.1 + 0.7) / 2]) and brier_score(counts) == pytest.approx([0.01, 0.25])


def test_nothing_is_nan():
    for of, rows in (("label", 1), ("class", 3)):
        counts = reliability(np.zeros((0, 3)), np.zeros(0, int), of=of)
        assert calibration_error(counts).shape == (rows,) and brier_score(counts).shape == (3,)
        assert np.isnan(calibration_error(counts)).all() and np.isnan(brier_score(counts)).all()


@pytest.mark.parametrize("p,y,more,words", [
    ([[0.5, 0.5]], [2], {}, r"0 \.\. 1"),
    ([[0.5, 0.5]], [-1], {}, r"0 \.\. 1"),
    ([[0.5, 0.5]], [0.0], {}, "integers"),
    ([[0.5, 0.4]], [0], {}, "sum to 1"),
    ([[1.5, -0.5]], [0], {}, "between 0 and 1"),
    ([[math.nan, 1]], [0], {}, "between 0 and 1"),
    ([[0.5, 0.5]], [0, 1], {}, "expected"),
    ([[0.5, 0.5]], [[1, 0]], {"of": "class"}, "bool"),
    ([[0.5, 0.5]], [[True, False]], {}, "of='class'"),
    ([[0.5, 0.5]], [0], {"of": "pixel"}, "'label' or 'class'"),
    ([[0.5, 0.5]], [0], {"bins": 0}, "1 or more"),
])  # fmt: skip
def test_refusals(p, y, more, words):
    with pytest.raises(ValueError, match=words):
        reliability(p, y, **more)


def test_counts_that_do_not_fit_are_not_added():
    counts = reliability([[0.5, 0.5]], [0])
    for other in (reliability([[0.5, 0.5]], [0], bins=10), reliability([[0.5, 0.5]], [0], of="class"), reliability([[0.5, 0.5, 0]], [0])):
        with pytest.raises(ValueError, match="add up"):
            counts + other
