"""Borders: against MONAI's figures, against brute force over every pair of pixels, and by hand."""

import itertools
import math

import numpy as np
import pytest

from uscl.metrics import Surface, hausdorff95, surface_dice, surface_distances


def drawn(kind, seed):
    """[48, 64] from whole numbers alone, equal on every machine: a bitten ellipse, one with specks, a disc cut by the edge, or specks."""
    r, c = np.mgrid[:48, :64]
    specks = (r * r * 31 + c * 17 + r * c * 7 + seed * 13) % 101
    inside = 4 * (r - 20 - seed % 7) ** 2 + (c - 30 + 2 * seed % 9) ** 2 < (20 + seed % 5) ** 2
    bitten = inside & ((r - 10) ** 2 + (c - 22 - seed) ** 2 > 60)
    cut = (r - 2 * seed) ** 2 + (c - 3) ** 2 < 300
    return {"blob": bitten, "specked": bitten ^ (specks == 0), "cut": cut, "specks": specks < 3}[kind]


# Prediction, truth, mm, tolerance; then MONAI 1.6.1's compute_hausdorff_distance(percentile=95) and compute_surface_dice, spacing=mm.
MONAI = [
    ("blob", 0, "blob", 3, 1.0, 2.0, 9.000000, 0.2473684),
    ("blob", 1, "specked", 1, 0.31, 0.5, 4.014499, 0.8093221),
    ("specked", 2, "blob", 5, 0.2, 1.0, 2.786312, 0.8448276),
    ("cut", 1, "cut", 6, 0.1, 0.3, 1.000000, 0.6821192),
    ("cut", 3, "blob", 2, 1.0, 5.0, 29.779039, 0.2732558),
    ("specks", 1, "specks", 2, 0.5, 1.0, 3.162278, 0.2303371),
    ("specks", 4, "blob", 4, 0.7, 2.1, 12.619430, 0.4352331),
    ("specked", 5, "specked", 6, 0.15, 0.0, 0.949862, 0.1492537),
    ("blob", 6, "blob", 6, 0.4, 0.0, 0.000000, 1.0000000),
    ("cut", 8, "specks", 3, 1.3, 2.6, 56.599968, 0.2456140),
]


@pytest.mark.parametrize("kind,seed,other,its,mm,tolerance,hd95,nsd", MONAI)
def test_monai_says_the_same(kind, seed, other, its, mm, tolerance, hd95, nsd):
    found = surface_distances(drawn(kind, seed), drawn(other, its), mm=mm, tolerance=tolerance)
    assert found == pytest.approx((hd95, nsd), abs=1e-5)


def brute(prediction, truth, mm, tolerance):
    """Every border pixel against every other, in loops; squares stay whole numbers, so a tie is a tie."""

    def border(mask):
        inside = {(int(r), int(c)) for r, c in zip(*np.nonzero(mask), strict=True)}
        return [(r, c) for r, c in inside if not {(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)} <= inside]

    ours, theirs = border(prediction), border(truth)
    there = [min((r - i) ** 2 + (c - j) ** 2 for i, j in theirs) for r, c in ours]
    back = [min((r - i) ** 2 + (c - j) ** 2 for i, j in ours) for r, c in theirs]
    within = sum(d <= round((tolerance / mm) ** 2, 6) for d in there + back)
    return mm * max(np.percentile(np.sqrt(d), 95) for d in (there, back)), within / len(there + back)


@pytest.mark.parametrize("seed", range(6))
def test_brute_force_says_the_same(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(3, 16, 2))
    prediction, truth = rng.random((2, *shape)) < rng.uniform(0.1, 0.9, (2, 1, 1))
    prediction[0, 0] = truth[-1, -1] = True
    for mm, tolerance in itertools.product((0.1, 0.3, 1.0), (0.0, 0.1, 0.3, 0.6)):
        expected = brute(prediction, truth, mm, tolerance)
        assert surface_distances(prediction, truth, mm=mm, tolerance=tolerance) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("number", [1, 2, 3, 5, 20, 21, 41])
def test_the_percentile_is_numpys(number):
    """Single pixels on a line, ever further from a truth of one pixel: the distances are the gaps, whose percentile is known."""
    prediction, truth = np.zeros((2, 1, 2000), bool)
    gaps = np.cumsum(np.arange(1, number + 1)) + 3
    prediction[0, gaps] = truth[0, 0] = True
    assert hausdorff95(prediction, truth, mm=1) == pytest.approx(np.percentile(gaps, 95), rel=1e-12)


def pixels(*places, shape=(30, 40)):
    mask = np.zeros(shape, bool)
    for place in places:
        mask[place] = True
    return mask


def test_surface_dice_known_values():
    one, far = pixels((10, 10)), pixels((13, 14))
    assert surface_dice(one, one, mm=0.3, tolerance=0) == 1
    assert surface_dice(one, far, mm=0.2, tolerance=1) == 1, "3 rows and 4 columns of 0.2 mm are 1 mm"
    assert surface_dice(one, far, mm=0.2, tolerance=0.999) == 0
    assert surface_dice(one, far, mm=0.4, tolerance=1) == 0
    assert surface_dice(one, one | far, mm=1, tolerance=0) == surface_dice(one | far, one, mm=1, tolerance=0) == pytest.approx(2 / 3)


def test_a_distance_that_equals_the_tolerance_is_within_whatever_rounding_says():
    assert 3 * 0.1 > 0.3 and 0.6 / 0.2 < 3 and 0.3 / 0.1 < 3
    for mm, tolerance in ((0.1, 0.3), (0.2, 0.6)):
        assert surface_dice(pixels((5, 5)), pixels((5, 8)), mm=mm, tolerance=tolerance) == 1
        assert surface_dice(pixels((5, 5)), pixels((5, 9)), mm=mm, tolerance=tolerance) == 0


def test_a_miss_counts_and_nothing_to_measure_is_nan():
    nothing, something = pixels(), pixels((0, 0), (4, 4))
    for a, b in ((nothing, something), (something, nothing)):
        assert surface_distances(a, b, mm=0.5, tolerance=2) == (pytest.approx(25), 0)
        assert surface_dice(a, b, mm=1, tolerance=1000) == surface_dice(a, b, mm=1, tolerance=math.inf) == 0, "no tolerance forgives a miss"
    assert np.isnan(surface_distances(nothing, nothing, mm=1, tolerance=2)).all()
    missed_and_perfect = [surface_dice(nothing, something, mm=1, tolerance=2), surface_dice(something, something, mm=1, tolerance=2)]
    assert np.nanmean(missed_and_perfect) == 0.5


def test_unknown_scale_is_nan_also_for_a_miss():
    nothing, something = pixels(), pixels((0, 0), (4, 4))
    for prediction in (nothing, something):
        found = surface_distances(prediction, something, mm=math.nan, tolerance=2)
        assert np.isnan(found).all()
        assert math.isnan(surface_dice(prediction, something, mm=math.nan, tolerance=2))


def test_both_at_once_are_each_alone():
    a, b = drawn("specked", 1), drawn("cut", 4)
    found = surface_distances(a * 3, b, mm=0.3, tolerance=0.9)
    assert isinstance(found, Surface)
    assert found.hausdorff95 == hausdorff95(a, b, mm=0.3)
    assert found.surface_dice == surface_dice(a, b, mm=0.3, tolerance=0.9)
    assert found == surface_distances(b, a, mm=0.3, tolerance=0.9)
    assert type(found.hausdorff95) is type(found.surface_dice) is float


def test_the_masks_are_left_as_they_were():
    a, b = drawn("blob", 1), drawn("blob", 2)
    before = a.copy(), b.copy()
    surface_distances(a, b, mm=1, tolerance=1)
    assert (a == before[0]).all() and (b == before[1]).all()


@pytest.mark.parametrize("mm,tolerance,words", [(0, 1, "above 0"), (-1, 1, "above 0"), (1, -0.1, "0 mm"), (1, math.nan, "0 mm or more")])
def test_refusals(mm, tolerance, words):
    for measure in (surface_distances, surface_dice):
        with pytest.raises(ValueError, match=words):
            measure(pixels(), pixels(), mm=mm, tolerance=tolerance)
    with pytest.raises(ValueError, match="shape"):
        surface_dice(pixels(), pixels(shape=(3, 3)), mm=1, tolerance=1)
