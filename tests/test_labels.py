"""Labels needed to match a baseline, and areas under label curves: by hand, and against every possible draw of patients."""
import itertools

import numpy as np
import pytest

from uscl.study.labels import Match, area_under_curve, area_under_labels, labels_to_match, match_sentence, share_to_match
from uscl.study.statistics import difference, resampled_means

NAN = float("nan")


def flat(mean, seeds=1, patients=4):
    return np.full((seeds, patients), float(mean))


def test_share_to_match_by_hand():
    assert share_to_match((0.01, 1), (0, 1), 0.5) == pytest.approx(0.1), "half way from ln 0.01 to ln 1"
    assert share_to_match((0.1, 0.2, 0.4), (0.3, 0.5, 0.7), 0.6) == pytest.approx(0.2 * 2**0.5)
    assert share_to_match((0.1, 0.2, 0.4), (0.3, 0.5, 0.7), 0.5) == 0.2, "exactly a share studied"
    assert share_to_match((0.1, 0.2, 0.4), (0.3, 0.5, 0.4), 0.45) == pytest.approx(0.1 * 2**0.75), "the first crossing"
    assert share_to_match((0.1, 0.2, 0.4), (0.6, 0.1, 0.9), 0.5) == 0.1
    assert share_to_match((0.1, 0.2), (0.3, 0.4), 0.5) is None
    assert share_to_match((1.0,), (0.3,), 0.3) == 1.0


def test_labels_to_match_known_values():
    model = {1.0: flat(1, 2), 0.01: flat(0, 3)}  # in any order, with any number of seeds
    assert labels_to_match(model, flat(0.5), range(4)) == pytest.approx((0.1, 0.1, 0.1, 1.0, 0.01))
    assert labels_to_match({0.1: flat(0.6), 1.0: flat(0.7)}, flat(0.5), range(4)) == (0.1, 0.1, 0.1, 1.0, 0.1)
    assert labels_to_match({0.1: flat(0.2), 1.0: flat(0.3)}, flat(0.5), range(4)) == (None, None, None, 0.0, 0.1)
    hard = np.random.default_rng(0).uniform(0, 5, (1, 12))
    shifted = labels_to_match({0.25: hard - 1, 1.0: hard + 1}, hard, range(12))
    assert shifted == pytest.approx((0.5, 0.5, 0.5, 1.0, 0.25)), "what is hard for both cancels, for the same patients are drawn"
    ten = np.random.default_rng(1).uniform(size=(10, 12))
    own = labels_to_match({0.25: ten - 1, 1.0: ten[::-1]}, ten, range(12))
    assert own == pytest.approx((1.0, 1.0, 1.0, 1.0, 0.25)), "a model is its own match, in whatever order its seeds are summed"


def test_labels_to_match_against_every_possible_draw():
    """Four patients, 256 draws, by loops: crossings by a search over a fine grid of ln f, not by solving for it."""
    rng = np.random.default_rng(8)
    patients, shares = [0, 0, 1, 2, 3], (0.05, 0.2, 1.0)
    scores = {f: rng.uniform(size=(2, 5)) * 0.3 + level for f, level in zip(shares, (0.3, 0.42, 0.5), strict=True)}
    baseline = rng.uniform(size=(3, 5)) * 0.3 + 0.455
    grid = np.linspace(np.log(0.05), 0, 4001)
    found = []
    for drawn in itertools.product(range(4), repeat=4):
        images = [i for p in drawn for i in range(5) if patients[i] == p]
        curve = np.interp(grid, np.log(shares), [scores[f][:, images].mean() for f in shares])
        reached = curve >= baseline[:, images].mean()
        found.append(np.exp(grid[reached.argmax()]) if reached.any() else np.inf)
    found = np.sort(found)
    assert 0.05 < np.isinf(found).mean() < 0.22 and len(np.unique(found)) > 20, "some draws never reach it"
    for level in (0.5, 0.9):
        match = labels_to_match(scores, baseline, patients, level=level, repeats=40000)
        assert match.reached == pytest.approx(np.isfinite(found).mean(), abs=0.01)
        for end, q in ((match.low, (1 - level) / 2), (match.high, (1 + level) / 2)):
            least, most = found[int((q - 0.01) * 255)], found[int((q + 0.01) * 255) + 1]
            assert least - 0.001 <= (np.inf if end is None else end) <= most + 0.001
    curve = np.interp(grid, np.log(shares), [scores[f].mean() for f in shares])
    assert match.share == pytest.approx(np.exp(grid[(curve >= baseline.mean()).argmax()]), abs=0.001)


def test_ends_are_never_between_a_share_and_not_reached():
    """Two patients, four draws: the model matches on one of them only. A quarter of draws, at least, do not reach it."""
    scores, baseline = {0.1: np.array([[0.6, 0.1]]), 1.0: np.array([[0.9, 0.3]])}, np.array([[0.5, 0.5]])
    match = labels_to_match(scores, baseline, ["a", "b"])
    assert match.share == pytest.approx(0.1 * 10 ** (0.15 / 0.25)) and (match.low, match.high) == (0.1, None)
    assert match.reached == pytest.approx(0.75, abs=0.02)
    rising = {0.01: np.zeros((1, 9)), 1.0: np.arange(2, 11)[None]}
    draws = resampled_means([*rising.values(), np.ones((1, 9))], range(9), repeats=4).drawn
    four = [share_to_match((0.01, 1), means[:2], means[2]) for means in draws]
    few = labels_to_match(rising, np.ones((1, 9)), range(9), level=0.5, repeats=4)
    assert (few.low, few.high) == pytest.approx((min(four), max(four))), "a quarter of three steps in is rounded outwards"


def test_areas_by_hand():
    assert area_under_curve((0.01, 0.1, 1), (0, 1, 1), axis="log") == pytest.approx(0.75)
    assert area_under_curve((0.01, 0.1, 1), (0, 1, 1), axis="linear") == pytest.approx(1 - 0.045 / 0.99)
    for axis in ("linear", "log"):
        assert area_under_curve((0.01, 0.3, 0.7, 1), (0.4,) * 4, axis=axis) == pytest.approx(0.4)
        shares, curve = (0.01, 0.2, 0.5, 1.0), (0.2, 0.5, 0.4, 0.7)
        x = np.log(shares) if axis == "log" else np.array(shares)
        assert area_under_curve(shares, curve, axis=axis) == pytest.approx(np.trapezoid(curve, x) / (x[-1] - x[0]))


@pytest.mark.parametrize("axis", ["linear", "log"])
def test_area_and_its_interval(axis):
    """An area is a mean of means, so its interval is that of each image's own area, one seed and no gaps given."""
    rng = np.random.default_rng(3)
    shares, curves, patients = (0.1, 0.3, 1.0), rng.uniform(size=(3, 20)), np.arange(20) // 2
    found = area_under_labels({f: curves[k : k + 1] for k, f in enumerate(shares)}, patients, axis=axis)
    own = np.array([[area_under_curve(shares, curves[:, i], axis=axis) for i in range(20)]])
    assert found == pytest.approx(difference(own, np.zeros((1, 20)), patients)[:3], abs=1e-12)
    assert found.low < found.mean < found.high


def test_few_patients_seeds_or_numbers():
    model = {0.1: [[0.2, 0.3]], 1.0: [[0.5, NAN]]}
    assert labels_to_match(model, [[0.2, 0.9]], ["a", "b"]) == pytest.approx((0.1, NAN, NAN, NAN, 0.1), nan_ok=True), "one image is left"
    assert labels_to_match(model, [[NAN, 0.9]], ["a", "b"]) == pytest.approx((NAN, NAN, NAN, NAN, 0.1), nan_ok=True)
    drawn = labels_to_match({0.1: flat(0), 1.0: flat(1, 3)}, flat(0.5, 3), range(4), seeds="drawn")
    assert np.isnan(drawn.low) and drawn.share == pytest.approx(0.1**0.5), "a share with one seed says nothing about seeds"
    seeds = np.array([[0.3], [0.7]]) + np.zeros((2, 4))
    wide = labels_to_match({0.01: flat(0, 2), 1.0: seeds * 2}, seeds, range(4), seeds="drawn")
    paired = labels_to_match({0.01: flat(0, 2), 1.0: seeds * 2}, seeds, range(4), seeds="paired")
    assert wide.share == paired.share == pytest.approx(0.1) and paired[1:3] == pytest.approx((0.1, 0.1))
    # its own seed 1.4 against the baseline's 0.3, and 0.6 against 0.7
    assert wide[1:4] == pytest.approx((0.01 ** (1 - 0.3 / 1.4), None, 0.75), abs=0.02)


def test_what_cannot_be_compared_is_refused():
    for shares in ((), (0, 0.5), (0.5, 10)):
        with pytest.raises(ValueError, match="shares of labels"):
            labels_to_match({f: flat(0) for f in shares}, flat(0), range(4))
    with pytest.raises(ValueError, match="level"):
        labels_to_match({1.0: flat(0)}, flat(0), range(4), level=95)
    with pytest.raises(ValueError, match="two or more"):
        area_under_labels({1.0: flat(0)}, range(4))
    with pytest.raises(ValueError, match="axis"):
        area_under_curve((0.1, 1), (0, 1), axis="ln")


def test_match_in_words():
    assert match_sentence(Match(0.274, 0.05, None, 0.9, 0.01)) == (
        "matches it with 27 % of the labels (95 % interval 5 % to not reached); 90 % of the resamples get there.")
    assert match_sentence(Match(None, 1.0, None, 0.124, 0.01), level=0.9) == (
        "does not reach it (90 % interval 100 % to not reached); 12 % of the resamples get there.")
    assert match_sentence(Match(0.01, 0.01, 0.015, 1.0, 0.01)) == (
        "matches it with 1 % or fewer of the labels (95 % interval 1 % or fewer to 1.5 %); 100 % of the resamples get there.")
    assert match_sentence(Match(None, NAN, NAN, NAN, 0.1)) == "does not reach it; one patient or one seed alone gives no interval."
    assert match_sentence(Match(NAN, NAN, NAN, NAN, 0.1)).startswith("cannot be compared")
