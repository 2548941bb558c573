"""Bootstrap over patients: against every possible draw, and by how often the interval holds the truth."""

import numpy as np
import pytest

from uscl.metrics import bootstrap_patients, paired_difference


def test_bootstrap_known_values():
    assert bootstrap_patients([0.3] * 6, list("aabbcc")) == pytest.approx((0.3, 0.3, 0.3))
    assert bootstrap_patients([0, 1], ["a", "b"]) == (0.5, 0.0, 1.0)
    mean, low, high = bootstrap_patients([0, 0, 0, 1], [7, 7, 7, 8])
    assert (mean, low, high) == (0.25, 0.0, 1.0), "every image counts alike in the mean; patients are drawn"
    assert bootstrap_patients([1, 2, 3, 4], list("abcd"), seed=1) == bootstrap_patients([1, 2, 3, 4], list("abcd"), seed=1)


def test_bootstrap_against_every_possible_draw():
    """Four patients have 4^4 = 256 equally likely draws: the exact interval, by listing them."""
    values, patients = np.array([0.1, 0.5, 0.6, 0.9, 0.2, 0.4, 0.45]), np.array([0, 0, 1, 1, 1, 2, 3])
    groups = [values[patients == p] for p in range(4)]
    draws = [np.concatenate([groups[(code // 4**k) % 4] for k in range(4)]).mean() for code in range(256)]
    low, high = np.quantile(draws, [0.1, 0.9])
    found = bootstrap_patients(values, patients, level=0.8, repeats=20000)
    assert found == pytest.approx((values.mean(), low, high), abs=0.01)


def test_bootstrap_leaves_nan_out():
    with_gaps = bootstrap_patients([0.2, np.nan, 0.4, 0.9, np.nan], list("aabbc"))
    assert with_gaps == bootstrap_patients([0.2, 0.4, 0.9], list("abb"))
    assert np.isnan(bootstrap_patients([np.nan, np.nan], ["a", "b"])).all()
    assert np.isnan(bootstrap_patients([], [])).all()
    alone = bootstrap_patients([0.2, 0.4, np.nan], ["a", "a", "b"])
    assert alone.mean == pytest.approx(0.3) and np.isnan(alone.low) and np.isnan(alone.high)


def test_bootstrap_covers_the_truth_where_resampling_images_does_not():
    """30 patients of 8 images, most of the variance between patients: 95 % intervals should hold the true mean 95 % of the time."""
    rng = np.random.default_rng(0)
    patients, trials = np.repeat(np.arange(30), 8), 300
    held = held_by_images = 0
    for trial in range(trials):
        values = 0.7 + rng.normal(0, 0.1, 30)[patients] + rng.normal(0, 0.05, 240)
        _, low, high = bootstrap_patients(values, patients, repeats=400, seed=trial)
        held += low <= 0.7 <= high
        if trial < 100:
            _, low, high = bootstrap_patients(values, np.arange(240), repeats=400, seed=trial)
            held_by_images += low <= 0.7 <= high
    assert 0.90 < held / trials < 0.98
    assert held_by_images / 100 < 0.65


def test_paired_difference_cancels_what_both_find_hard():
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(12), 5)
    b = rng.uniform(0.2, 0.9, 12)[patients]
    assert paired_difference(b + 0.1, b, patients) == pytest.approx((0.1, 0.1, 0.1))
    a = b + 0.05 + rng.normal(0, 0.02, 60)
    a[3] = np.nan
    mean, low, high = paired_difference(a, b, patients)
    apart = bootstrap_patients(a, patients)
    assert mean == pytest.approx(np.nanmean(a - b)) and 0 < low < mean < high
    assert high - low < (apart.high - apart.low) / 5
    assert paired_difference(b, a, patients).mean == pytest.approx(-mean)


def test_bootstrap_refuses_what_does_not_pair_up():
    with pytest.raises(ValueError, match=r"\[n\]"):
        bootstrap_patients([1, 2], ["a"])
    with pytest.raises(ValueError, match="level"):
        bootstrap_patients([1, 2], ["a", "b"], level=95)
    with pytest.raises(ValueError, match="pair up"):
        paired_difference([1, 2], [1], ["a", "b"])
