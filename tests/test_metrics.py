"""Metrics against brute force, hand arithmetic and theory; none of the references shares code with what it checks."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from uscl.metrics import class_mask, delta_snr, dice, hausdorff95, snr


def border_points(mask):
    """Pixels with a 4-neighbour outside the mask or the image, by looking at each neighbour."""
    rows, columns = mask.shape
    points = []
    for r, c in zip(*np.nonzero(mask), strict=True):
        near = [(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)]
        if any(not (0 <= i < rows and 0 <= j < columns) or not mask[i, j] for i, j in near):
            points.append((r, c))
    return np.array(points, float)


def brute_hd95(prediction, truth, mm):
    apart = cdist(border_points(prediction), border_points(truth))
    return mm * max(np.percentile(apart.min(1), 95), np.percentile(apart.min(0), 95))


def blobs(seed, size=40):
    """Two blobs with holes, one of them cut by the image's edge."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    masks = []
    for centre, radius in ((rng.uniform(0, 12, 2), 14), (rng.uniform(10, 26, 2), 9)):
        distance = np.hypot(rows - centre[0], columns - centre[1])
        masks.append((distance < radius) & (distance > 3) & (rng.random((size, size)) > 0.02))
    return masks


# ---- overlap


def test_class_mask_takes_unions():
    labels = np.array([[0, 1], [2, 3]], np.uint8)
    assert class_mask(labels, [1, 3]).tolist() == [[False, True], [False, True]]
    assert class_mask(labels, 2).tolist() == [[False, False], [True, False]]
    assert not class_mask(labels, []).any()


def test_dice_by_hand():
    truth = np.array([1, 1, 1, 1, 0, 0])
    assert dice([1, 1, 0, 0, 0, 0], truth) == pytest.approx(2 / 3)
    assert dice([0, 1, 1, 0, 1, 1], truth) == pytest.approx(0.5)
    assert dice(truth, truth) == 1.0
    assert dice([0, 0, 0, 0, 1, 1], truth) == 0.0
    assert dice(truth * 200, truth) == 1.0, "any value but 0 is inside"


def test_dice_conventions_differ_only_where_both_are_empty():
    nothing, something = np.zeros((4, 4)), np.eye(4)
    assert dice(nothing, nothing) == 1.0
    assert math.isnan(dice(nothing, nothing, empty="skip"))
    for empty in ("one", "skip"):
        assert dice(something, nothing, empty=empty) == dice(nothing, something, empty=empty) == 0.0
    with pytest.raises(ValueError, match="'one' or 'skip'"):
        dice(nothing, nothing, empty="zero")
    with pytest.raises(ValueError, match="shape"):
        dice(nothing, np.zeros((4, 5)))


@pytest.mark.parametrize("seed", range(4))
def test_hausdorff_agrees_with_brute_force(seed):
    a, b = blobs(seed)
    assert hausdorff95(a, b, mm=0.31) == pytest.approx(brute_hd95(a, b, 0.31), rel=1e-12)
    assert hausdorff95(a, b, mm=0.31) == hausdorff95(b, a, mm=0.31)
    assert 0 < hausdorff95(a, b, mm=1) < cdist(border_points(a), border_points(b)).max()


def test_hausdorff_is_the_worse_direction():
    """A prediction that covers the truth and adds a far island: every true border point is near, not every predicted one."""
    truth = np.zeros((30, 60), bool)
    truth[10:20, 5:15] = True
    prediction = truth.copy()
    prediction[10:20, 45:55] = True
    assert hausdorff95(prediction, truth, mm=1) > 30
    assert hausdorff95(truth, prediction, mm=1) > 30


def test_hausdorff_takes_the_border_not_the_inside():
    """A square against its own outline: equal borders, though the insides differ."""
    full = np.zeros((20, 20), bool)
    full[5:15, 5:15] = True
    ring = full.copy()
    ring[6:14, 6:14] = False
    assert hausdorff95(full, full, mm=2) == 0
    assert hausdorff95(ring, full, mm=1) == pytest.approx(brute_hd95(ring, full, 1))
    at_the_edge = np.zeros((20, 20), bool)
    at_the_edge[:, :6] = True
    assert hausdorff95(at_the_edge, full, mm=1) == pytest.approx(brute_hd95(at_the_edge, full, 1))


def test_hausdorff_known_values_and_the_price_of_a_miss():
    one, other, nothing = np.zeros((3, 30, 40), bool)
    one[10, 10] = other[13, 14] = True
    assert hausdorff95(one, other, mm=1) == pytest.approx(5)
    assert hausdorff95(one, other, mm=0.2) == pytest.approx(1)
    assert hausdorff95(nothing, one, mm=1) == hausdorff95(one, nothing, mm=1) == pytest.approx(50)
    assert hausdorff95(nothing, one, mm=0.2) == pytest.approx(10)
    assert math.isnan(hausdorff95(nothing, nothing, mm=1))
    assert math.isnan(hausdorff95(one, other, mm=float("nan")))
    with pytest.raises(ValueError, match="above 0"):
        hausdorff95(one, other, mm=0)


def test_a_miss_is_worse_than_any_hit():
    corner, opposite, nothing = np.zeros((3, 30, 40), bool)
    corner[0, 0] = opposite[-1, -1] = True
    assert hausdorff95(corner, opposite, mm=0.5) < hausdorff95(nothing, opposite, mm=0.5)


# ---- speckle statistics


def test_snr_by_hand():
    image = np.array([[1, 3], [90, 2]], np.uint8)
    mask = np.array([[1, 1], [0, 0]])
    assert snr(image, mask, form="linear") == pytest.approx(2)  # with N - 1 it would be sqrt(2)
    assert snr(image, mask) == pytest.approx(math.log10(2))
    assert snr(image / 255, mask) == pytest.approx(math.log10(2)), "the scale of the image cancels"


@pytest.mark.parametrize("m, log10, linear", [(0.5, 0.122, 1.324), (1, 0.282, 1.913), (1.5, 0.375, 2.370), (4, 0.596, 3.943)])
def test_snr_of_nakagami_envelopes(m, log10, linear):
    envelope = stats.nakagami.rvs(m, scale=0.2, size=400_000, random_state=np.random.default_rng(0))
    inside = np.ones_like(envelope)
    assert snr(envelope, inside) == pytest.approx(log10, abs=0.003)
    assert snr(envelope, inside, form="linear") == pytest.approx(linear, rel=0.006)


def test_snr_corners_are_zero_and_finite():
    image = np.full((4, 4), 0.1)
    everywhere, nowhere = np.ones((4, 4)), np.zeros((4, 4))
    assert snr(image, nowhere) == snr(image, everywhere) == snr(image * 0, everywhere) == 0.0
    assert snr(image, np.eye(4) * [1, 0, 0, 0], form="linear") == 0.0, "one pixel has no spread"
    assert np.std([0.1, 0.1, 0.1]) > 0 and snr(np.full(3, 0.1), np.ones(3)) == 0.0, "rounding is no spread"
    with pytest.raises(ValueError, match="0 or more"):
        snr(np.array([-1.0, 1.0]), np.ones(2))
    with pytest.raises(ValueError, match="form"):
        snr(image, everywhere, form="dB")
    with pytest.raises(ValueError, match="shape"):
        snr(image, np.ones(4))


def test_delta_snr_absolute_and_signed():
    image = np.array([1.0, 3.0, 5.0, 15.0, 4.0, 5.0])
    truth = np.array([1, 1, 0, 0, 0, 0])
    noisier, calmer = np.array([1, 0, 0, 1, 0, 0]), np.array([0, 0, 0, 0, 1, 1])
    assert delta_snr(image, truth, truth) == (0, 0)
    assert delta_snr(image, truth * 0, truth) == pytest.approx((math.log10(2), -math.log10(2)))
    assert delta_snr(image, truth, truth * 0) == pytest.approx((math.log10(2), math.log10(2)))
    assert delta_snr(image, calmer, truth) == pytest.approx((math.log10(9 / 2), math.log10(9 / 2)))  # 4.5 / 0.5 against 2 / 1
    assert delta_snr(image, noisier, truth, form="linear") == pytest.approx((6 / 7, 8 / 7 - 2))
