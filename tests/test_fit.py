"""Frames and labels of any shape in the store's square."""

import numpy as np
import pytest
from dicoms import GRAY

from uscl.data.fit import fit, fit_label


def test_fit_known_values():
    fitted, mm = fit(np.full((40, 80), 7, np.uint8), 20, 0.1)
    assert mm == pytest.approx(0.4) and fitted.dtype == np.uint8
    np.testing.assert_array_equal(fitted, np.repeat([0, 7, 0], [5, 10, 5])[:, None] * np.ones(20))
    np.testing.assert_array_equal(fit(np.full((80, 40), 7, np.uint8), 20)[0], fitted.T)
    stripes = np.tile(np.uint8([[0], [255]]), (50, 100))  # finer than the result can show: gray, not a moire
    assert np.abs(fit(stripes, 20)[0][1:-1].astype(float) - 127.5).max() < 13
    np.testing.assert_array_equal(fit(GRAY[0][:, :20], 20)[0], GRAY[0][:, :20])
    with pytest.raises(ValueError):
        fit(np.zeros((4, 4, 3), np.uint8), 8)


def test_label_and_frame_stay_aligned():
    y, x = np.mgrid[:300, :400]
    label = 2 * (((x - 250) ** 2 + (y - 90) ** 2) < 60**2).astype(np.uint8)
    frame, placed = fit(label // 2 * 255, 96)[0], fit_label(label, 96)
    assert set(np.unique(placed)) == {0, 2}
    centre = [np.average(i, weights=w) for w in (frame.astype(float), placed.astype(float)) for i in np.indices(placed.shape)]
    expected = [12 + 90 * 0.24, 250 * 0.24]
    np.testing.assert_allclose(centre, [*expected, *expected], atol=0.6)
    assert np.mean((frame > 127) != (placed == 2)) < 0.005
