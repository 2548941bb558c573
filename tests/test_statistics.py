"""Means and differences over patients and seeds: against every possible draw, by hand, and by how often they are right."""
import itertools

import numpy as np
import pytest
from scipy import stats

from uscl.metrics import bootstrap_patients
from uscl.study.statistics import difference, holm, mean_of_seeds, resampled_means, verdict

# Two models, two and three seeds; patients 0, 1, 2 with 2, 1, 1 images.
PATIENTS = [0, 0, 1, 2]
A = np.array([[0.2, 0.4, 0.6, 0.9], [0.3, 0.5, 0.5, 0.7]])
B = np.array([[0.1, 0.6, 0.5, 0.6], [0.3, 0.3, 0.2, 0.9], [0.2, 0.3, 0.7, 0.5]])


def every_draw(model, seeds):
    """{(patients drawn, seeds drawn): mean} by loops, no weights: 27 draws of three patients, all draws of S - 1 seeds."""
    found = {}
    for drawn in itertools.product(range(3), repeat=3):
        images = [i for p in drawn for i in range(4) if PATIENTS[i] == p]
        of_seeds = itertools.product(range(len(model)), repeat=len(model) - 1) if seeds else [tuple(range(len(model)))]
        for s in of_seeds:
            found[drawn, s] = float(np.mean([model[k][i] for k in s for i in images]))
    return found


def test_mean_known_values():
    assert mean_of_seeds([[0, 1]], ["a", "b"]) == (0.5, 0.0, 1.0)
    assert mean_of_seeds([[0.2, 0.2], [0.4, 0.4]], [7, 8]) == pytest.approx((0.3, 0.3, 0.3)), "kept seeds: nothing but patients varies"
    assert mean_of_seeds([[0.2, 0.2], [0.4, 0.4]], [7, 8], seeds="drawn") == pytest.approx((0.3, 0.2, 0.4))
    scores = np.random.default_rng(0).uniform(size=(3, 20))
    for seeds in ("kept", "drawn"):
        moved = mean_of_seeds(scores + 5, np.arange(20) // 2, seeds=seeds)
        assert moved == pytest.approx(np.array(mean_of_seeds(scores, np.arange(20) // 2, seeds=seeds)) + 5, abs=1e-12)


def test_one_seed_is_the_run_s_own_interval():
    values = np.random.default_rng(1).uniform(size=30)
    values[4] = np.nan
    run = bootstrap_patients(values, np.arange(30) // 3, repeats=500, seed=3, level=0.9)
    assert mean_of_seeds(values[None], np.arange(30) // 3, repeats=500, seed=3, level=0.9) == pytest.approx(tuple(run), abs=1e-14)


@pytest.mark.parametrize("seeds", [False, True])
def test_mean_against_every_possible_draw(seeds):
    means = list(every_draw(B, seeds).values())
    found = mean_of_seeds(B, PATIENTS, seeds="drawn" if seeds else "kept", level=0.8, repeats=40000)
    assert found.mean == pytest.approx(B.mean())
    assert found[1:] == pytest.approx(np.quantile(means, [0.1, 0.9]), abs=0.012)
    drawn = resampled_means([B], PATIENTS, seeds="drawn" if seeds else "kept", repeats=40000).drawn[:, 0]
    exact = np.sort(means)
    assert np.abs(np.array([(drawn <= x + 1e-9).mean() - (exact <= x + 1e-9).mean() for x in exact])).max() < 0.01
    assert drawn.std() == pytest.approx(np.std(means), rel=0.02)


@pytest.mark.parametrize("seeds", ["kept", "drawn", "paired"])
def test_difference_against_every_possible_draw(seeds):
    """The same patients for both; their own seeds for 'drawn', the same ones for 'paired'."""
    second = B[:2] if seeds == "paired" else B
    a, b = every_draw(A, seeds != "kept"), every_draw(second, seeds != "kept")
    d = np.array([x - y for (p, s), x in a.items() for (q, t), y in b.items() if p == q and (seeds != "paired" or s == t)])
    found = difference(A, second, PATIENTS, seeds=seeds, level=0.8, repeats=40000)
    assert found.mean == pytest.approx(A.mean() - second.mean())
    assert found[1:3] == pytest.approx(np.quantile(d, [0.1, 0.9]), abs=0.012)
    p = 2 * min((d <= 1e-12).mean(), (d >= -1e-12).mean())
    assert found.p == pytest.approx(max(p, 2**-2), abs=0.01), "three patients cannot show less than a quarter"


def test_seeds_show_all_their_variance_without_bias():
    """No patient effect: the drawn spread is the textbook's standard error of S seeds, S - 1 in it, and not its (S - 1) / S."""
    for count in (2, 3, 5):
        levels = np.random.default_rng(count).normal(size=count)
        drawn = resampled_means([np.tile(levels[:, None], 6)], range(6), seeds="drawn", repeats=40000).drawn
        assert drawn.std() == pytest.approx(stats.sem(levels), rel=0.02)


def test_difference_known_values():
    patients = np.arange(80) // 2
    b = np.random.default_rng(2).uniform(size=(3, 80))
    assert difference(b + 0.1, b, patients) == pytest.approx((0.1, 0.1, 0.1, 2 / 10000))
    assert difference(b, b, patients) == (0, 0, 0, 1)
    shuffled = difference(b[[2, 0, 1]], b, patients)
    assert shuffled.p == 1 and shuffled.mean == pytest.approx(0, abs=1e-15), "a sum in another order is no difference"
    forth, back = difference(b[:1], b[1:], patients), difference(b[1:], b[:1], patients)
    assert (back.mean, back.low, back.high, back.p) == pytest.approx((-forth.mean, -forth.high, -forth.low, forth.p), abs=1e-12)
    assert difference(b + 0.1, b, patients, repeats=99).p == 0.02, "the smallest p the resamples allow"
    assert difference(b[:, :5] + 0.1, b[:, :5], range(5)).p == 2**-4, "the smallest p five patients allow"


def test_p_and_interval_tell_the_same():
    """p < 1 - level exactly where the interval leaves 0 out, up to one resample."""
    rng = np.random.default_rng(3)
    for shift in np.linspace(0, 0.08, 25):
        model, baseline = rng.normal(shift, 0.1, (2, 30)), rng.normal(0, 0.1, (2, 30))
        found = difference(model, baseline, range(30))
        if abs(found.p - 0.05) > 0.001:
            assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def test_an_image_without_a_number():
    nan = np.nan
    # Image 1 lacks seed 0: it counts as seed 1's 0.6. Image 2 has no number at all, patient "c" with it.
    scores, patients = [[0.2, nan, nan], [0.4, 0.6, nan]], ["a", "b", "c"]
    assert mean_of_seeds(scores, patients) == pytest.approx((0.45, 0.3, 0.6))
    assert mean_of_seeds(scores, patients) == mean_of_seeds([[0.2, 0.6], [0.4, 0.6]], ["a", "b"])
    both = resampled_means([scores, [[0.1, 0.1, 0.9]]], patients)
    assert both.patients == 2 and both.means == pytest.approx([0.45, 0.1]), "both models on the images both have"
    one_left = difference([[0.2, nan]], [[0.1, 0.1]], ["a", "b"])
    assert one_left.mean == pytest.approx(0.1) and np.isnan(one_left[1:]).all()
    assert np.isnan(difference([[0.2, nan]], [[nan, 0.1]], ["a", "b"])).all()
    assert np.isnan(mean_of_seeds([[nan, nan]], ["a", "b"])).all()
    assert np.isnan(mean_of_seeds(np.zeros((2, 0)), [])).all()
    once = mean_of_seeds([[0.2, 0.4]], ["a", "b"], seeds="drawn")
    assert once.mean == pytest.approx(0.3) and np.isnan(once[1:]).all(), "one seed says nothing about seeds"


def test_what_does_not_agree_is_refused():
    with pytest.raises(ValueError, match=r"\[seeds, n\]"):
        mean_of_seeds([0.1, 0.2], ["a", "b"])
    with pytest.raises(ValueError, match=r"\[seeds, n\]"):
        difference([[0.1, 0.2]], [[0.1]], ["a", "b"])
    with pytest.raises(ValueError, match="infinite"):
        mean_of_seeds([[0.1, np.inf]], ["a", "b"])
    with pytest.raises(ValueError, match="equally many"):
        difference(A, B, PATIENTS, seeds="paired")
    with pytest.raises(ValueError, match="'drawn'"):
        mean_of_seeds(A, PATIENTS, seeds="new")
    with pytest.raises(ValueError, match="level"):
        mean_of_seeds(A, PATIENTS, level=95)


def within(count, trials, share, sure=0.999):
    """Whether `count` of `trials` is what a coin of that share may show."""
    return stats.binom.ppf((1 - sure) / 2, trials, share) <= count <= stats.binom.ppf((1 + sure) / 2, trials, share)


def test_interval_and_p_are_right_as_often_as_they_say():
    """40 patients of 2 images, three seeds: patients differ most. Nominal 95 % and 5 %, within what 400 trials may show."""
    rng, trials, patients = np.random.default_rng(4), 400, np.arange(80) // 2
    held = false = 0
    for _ in range(trials):
        a, b = (0.7 + rng.normal(0, 0.1, 40)[patients] + rng.normal(0, 0.05, (3, 80)) for _ in range(2))
        _, low, high = mean_of_seeds(a, patients, repeats=999)
        held += low <= 0.7 <= high
        false += difference(a, b, patients, repeats=999).p < 0.05
    assert within(held, trials, 0.95) and within(false, trials, 0.05), (held, false)


def test_alike_methods_are_told_apart_only_by_kept_seeds():
    """Networks that differ by their seed alone: a true difference of these networks, none of the methods."""
    rng, trials = np.random.default_rng(5), 300
    false = {"kept": 0, "drawn": 0}
    for _ in range(trials):
        hard = rng.normal(0, 0.1, 40)
        a, b = (0.7 + hard + rng.normal(0, 0.02, (5, 1)) + rng.normal(0, 0.05, (5, 40)) for _ in range(2))
        for seeds in false:
            false[seeds] += difference(a, b, range(40), seeds=seeds, repeats=999).p < 0.05
    assert within(false["drawn"], trials, 0.05) and false["kept"] > 0.3 * trials, false


def test_holm_is_the_step_down_procedure():
    """Corrected p <= alpha must reject what Holm 1979 rejects by going up from the smallest and stopping at the first failure."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, np.nan, 0.02]) == pytest.approx([0.5, np.nan, 0.04], nan_ok=True), "nan is no comparison"
    assert holm([0.7, 0.8]).tolist() == [1.0, 1.0] and holm([]).shape == (0,)
    rng = np.random.default_rng(6)
    for m in range(1, 8):
        p = np.round(rng.uniform(size=m) ** 3, 2)  # with ties
        for alpha in (0.049, 0.11, 0.31):
            rejected = set()
            for step, k in enumerate(sorted(range(m), key=lambda k: p[k])):
                if p[k] > alpha / (m - step):
                    break
                rejected.add(k)
            assert set(np.flatnonzero(holm(p) <= alpha)) == rejected


def test_verdict_needs_the_interval_and_the_corrected_p():
    assert verdict(0.03, (0.01, 0.05), 0.012, family=45) == ("better", (
        "better: +0.030 (95 % interval +0.010 to +0.050), p = 0.012 after correction for 45 comparisons."))
    assert verdict(0.03, (0.01, 0.05), 0.0002, higher_is_better=False) == ("worse", (
        "worse: +0.030 (95 % interval +0.010 to +0.050), p < 0.001."))
    assert verdict(-0.03, (-0.05, -0.0004), 0.04).sentence.startswith("worse: −0.030 (95 % interval −0.050 to −0.0004), p = 0.04")
    assert verdict(-2.5, (-4, -1), 0.01, higher_is_better=False, digits=1).word == "better"
    assert verdict(0.03, (-0.01, 0.07), 0.01) == ("inside the noise", (
        "inside the noise: +0.030 (95 % interval −0.010 to +0.070), which no difference at all would explain as well."))
    assert verdict(0.03, (0.01, 0.05), 0.05, family=3, level=0.9) == ("inside the noise", (
        "inside the noise: +0.030 (90 % interval +0.010 to +0.050) leaves 0 out, but p = 0.05 after correction for 3 comparisons is not "
        "below 0.05."))
    assert verdict(0, (0, 0), 1.0).word == "inside the noise"
    alone = verdict(0.03, (np.nan, np.nan), np.nan)
    assert alone.word == "inside the noise" and alone.sentence.startswith("inside the noise: +0.030 without an interval")
