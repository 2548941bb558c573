"""Moved borders: against distances measured pixel by pixel, and by hand."""

import math

import numpy as np
import pytest

from uscl.metrics import border_sensitivity, moved


def square(side, size=30, start=5):
    mask = np.zeros((size, size), bool)
    mask[start : start + side, start : start + side] = True
    return mask


def by_looking(mask, pixels):
    """Each pixel: is one of the other kind, inside the image, within reach?"""
    result = mask.copy()
    for r, c in np.ndindex(mask.shape):
        others = np.argwhere(mask != mask[r, c])
        near = any((r - i) ** 2 + (c - j) ** 2 <= pixels**2 for i, j in others)
        if near and mask[r, c] == (pixels < 0):
            result[r, c] = not mask[r, c]
    return result


@pytest.mark.parametrize("pixels", [-4, -2, -1, 0, 1, 3, 10])
def test_moved_agrees_with_looking(pixels):
    rng = np.random.default_rng(3)
    r, c = np.mgrid[:14, :17]
    for mask in (np.hypot(r - 6, c - 2) < 6, rng.random((14, 17)) < 0.5, rng.random((14, 17)) < 0.03):
        assert (moved(mask, pixels) == by_looking(mask, pixels)).all()


def test_moved_known_values():
    one = square(1)
    cross = moved(one, 1)
    assert cross.sum() == 5 and cross[4, 5] and not cross[4, 4]
    assert (moved(cross, -1) == one).all()
    assert moved(one * 7, 10)[5 + 6, 5 + 8] and moved(one, 10)[5, 15] and not moved(one, 10)[5, 16], "10 pixels in any direction"
    full, empty = np.ones((6, 6)), np.zeros((6, 6))
    for pixels in (-10, -1, 0, 1, 10):
        assert moved(full, pixels).all() and not moved(empty, pixels).any()
    at_the_edge = np.zeros((9, 9), bool)
    at_the_edge[:, :4] = True
    assert (moved(at_the_edge, -1) == (np.arange(9) < 3)).all(), "only its border inside the image moves"


@pytest.mark.parametrize("side", [3, 8, 21])
def test_dsc_of_squares_by_hand(side):
    image = np.random.default_rng(0).uniform(0, 255, (60, 60))
    found = border_sensitivity(image, square(side, 60, 20))
    assert list(found) == [-10, -1, 1, 10]
    for p in (-1, -10):
        left = max(0, side + 2 * p) ** 2
        assert found[p].dsc == pytest.approx(2 * left / (side**2 + left))
        assert found[p].area == pytest.approx(left / side**2)
    larger = side**2 + 4 * side  # a strip along each side, no corner
    assert found[1].dsc == pytest.approx(2 * side**2 / (side**2 + larger)) and found[1].area == pytest.approx(larger / side**2)


def test_snr_by_hand():
    """A pixel of 4 and around it 1, 1, 3, 3: alone it has SNR 0, with its neighbours mean 2.4 and variance 1.44, so SNR log10 2."""
    image = np.zeros((30, 30))
    image[5, 5], image[4, 5], image[6, 5], image[5, 4], image[5, 6] = 4, 1, 1, 3, 3
    found = border_sensitivity(image, square(1), pixels=(1,))[1]
    assert found == pytest.approx((1 / 3, math.log10(2), math.log10(2), 5))
    assert border_sensitivity(image, square(1), pixels=[1], form="linear")[1].signed_snr == pytest.approx(2)
    back = border_sensitivity(image, moved(square(1), 1), pixels=(-1,))[-1]
    assert back == pytest.approx((1 / 3, math.log10(2), -math.log10(2), 1 / 5)), "the moved region's less the truth's"


def test_no_move_and_nothing_left():
    image = np.arange(900.0).reshape(30, 30)
    assert border_sensitivity(image, square(5), pixels=(0,)) == {0: (1, 0, 0, 1)}
    gone = border_sensitivity(image, square(2), pixels=(-10,))[-10]
    assert (gone.dsc, gone.area) == (0, 0) and math.isnan(gone.delta_snr) and math.isnan(gone.signed_snr)
    for nothing in border_sensitivity(image, image * 0).values():
        assert np.isnan(nothing).all()


def test_refusals():
    with pytest.raises(ValueError, match="shape"):
        border_sensitivity(np.ones((4, 4)), np.ones((4, 5)))
    with pytest.raises(TypeError):
        border_sensitivity(np.ones((4, 4)), np.ones((4, 4)), pixels=(0.5,))
    with pytest.raises(TypeError):
        moved(np.ones((4, 4)), 1.5)
