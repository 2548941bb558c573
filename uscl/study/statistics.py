"""What scores allow one to say: means and differences, how sure they are, and whether a difference is more than noise. NumPy, float64."""

import functools
from typing import NamedTuple

import numpy as np

from uscl.metrics.intervals import Interval

REPEATS = 9999  # p is a multiple of 1 / (REPEATS + 1), so Holm can decide families of up to 250 comparisons at 0.05
ROUNDING = 1e-12  # of the largest score: differences below it are sums taken in another order


class Difference(NamedTuple):
    """A mean difference with its interval, and the two-sided p of no difference, not yet corrected for other comparisons."""

    mean: float
    low: float
    high: float
    p: float


class Resampled(NamedTuple):
    """Means [M] as measured, the same means in each resample [repeats, M], and how many patients stand behind them."""

    means: np.ndarray
    drawn: np.ndarray
    patients: int


class Verdict(NamedTuple):
    """'better', 'worse' or 'inside the noise', and the same in a sentence with the figures."""

    word: str
    sentence: str


def resampled_means(models, patients, *, seeds="kept", repeats=REPEATS, seed=0):
    """Means of models over the same images, as measured and for resampled patients, the same patients for every model.

        mean = (1 / n) sum over images of (1 / S) sum over seeds of the score,       n the images in which every model has a number

    What is resampled says what the spread is about; a study wants both answers, and the second is nearly always the wider:
        seeds='kept'    P of P patients are drawn, each with all images. How sure for new patients and *these trained networks*.
        seeds='drawn'   S - 1 of a model's S seeds are drawn as well, independently of the patients and of other models. How sure for new
                        patients and *networks trained again*, which is what a claim about a method needs.
        seeds='paired'  as 'drawn', but all models get the same draw: where the s-th seed of each means the same labelled frames.
    S seeds drawn from S would show (S - 1) / S of their variance, half of it with two; S - 1 drawn show it all (Rao & Wu 1988). Drawing
    both ways of a table at once is the pigeonhole bootstrap (Owen 2007): what neither explains counts up to three times, for caution.

    models: list of M arrays [S, n], S may differ; nan where a seed has no number, which then counts as the mean of that image's others.
    patients: [n], ids of any kind that sorts. seed: with the same patients it gives the same draws, from one call to the next.
    Returns `Resampled(means, drawn, patients)`. Without an image all is nan; drawn is nan with one patient, or where one seed would have to
    be drawn. Raises ValueError for shapes that do not agree, an infinite score, an unknown `seeds`, or 'paired' with unequal S.

    Known values: one model of one seed, seeds='kept': the draws of `uscl.metrics.bootstrap_patients`.
    """
    if seeds not in ("kept", "drawn", "paired"):
        raise ValueError(f"seeds is {seeds!r}; it must be 'kept', 'drawn' or 'paired'")
    patients = np.asarray(patients)
    models = [_filled(scores, patients) for scores in models]
    if seeds == "paired" and len({len(scores) for scores in models}) > 1:
        raise ValueError(f"seeds='paired' wants equally many; the models have {[len(scores) for scores in models]}")
    known = ~np.any([np.isnan(scores[0]) for scores in models], axis=0)
    ids, owner = np.unique(patients[known], return_inverse=True)
    if len(ids) == 0:
        return Resampled(np.full(len(models), np.nan), np.full((repeats, len(models)), np.nan), 0)
    number = np.bincount(owner)
    totals = [np.stack([np.bincount(owner, weights=row) for row in scores[:, known]]) for scores in models]  # of [S, patients]
    means = np.array([total.mean(0).sum() for total in totals]) / number.sum()
    if len(ids) < 2 or (seeds != "kept" and min(map(len, totals)) < 2):
        return Resampled(means, np.full((repeats, len(models)), np.nan), len(ids))
    weight = patient_draws(len(ids), repeats, seed)
    if seeds == "kept":
        sums = weight @ np.stack([total.mean(0) for total in totals], axis=1)
    else:
        streams = [(seed, 1 if seeds == "paired" else 1 + m) for m in range(len(totals))]
        shares = [draws(len(t), len(t) - 1, repeats, stream) / (len(t) - 1) for t, stream in zip(totals, streams, strict=True)]
        sums = np.stack([((share @ total) * weight).sum(1) for share, total in zip(shares, totals, strict=True)], axis=1)
    return Resampled(means, sums / (weight @ number)[:, None], len(ids))


def mean_of_seeds(scores, patients, *, seeds="kept", level=0.95, repeats=REPEATS, seed=0):
    """Mean over images and seeds with its percentile interval; `scores` [S, n] and the rest as in `resampled_means`.

    Returns `Interval(mean, low, high)`. With few patients it is too narrow: of nominal 95 %, normal scores gave 94 % with 20 and more, 91 %
    with 10, 85 % with 5. With networks that differ by 0.02 (SD) among seeds, patients by 0.1, rest 0.05, the truth for networks trained
    again was held in 86, 87, 90 % by 'kept' with 2, 3, 5 seeds and 40 patients, in 93, 93, 95 % by 'drawn'.

    Known values: scores [[0, 1]] of two patients: (0.5, 0, 1). Adding c to all scores adds c to all three.
    """
    found = resampled_means([scores], patients, seeds=seeds, repeats=repeats, seed=seed)
    return Interval(float(found.means[0]), *ends(found.drawn[:, 0], level))


def difference(model, baseline, patients, *, seeds="kept", level=0.95, repeats=REPEATS, seed=0):
    """Mean of model minus baseline over the same images, with interval and p: is it more than a draw of patients (and seeds)?

        d_b = model's mean - baseline's mean in resample b        p = min(1, 2 (1 + min(#{d_b <= 0}, #{d_b >= 0})) / (repeats + 1))

    The p at which the percentile interval just touches 0 (Davison & Hinkley 1997), with the observed sample counted as one more resample,
    so it is never 0. With P patients it is also never below 2^(1 - P), the chance that all lean to one side if each were as likely to
    lean to either: five patients cannot show p < 0.05. Measured on scores without a difference, p < 0.05 came in 6 % of trials with 20
    patients and more, 9 % with 10. Between two methods alike, 40 patients and the spreads of `mean_of_seeds`, it came in 47 % with seeds
    'kept', since two networks do differ; with 2, 3, 5 seeds in 10, 6, 4 % 'drawn' and 14, 8, 7 % 'paired': judge methods by 'drawn'.

    model, baseline: [S, n], [S', n] paired by image; an image without a number in either is left out. The rest as in `resampled_means`.
    Returns `Difference(mean, low, high, p)`; low, high and p are nan where nothing can be resampled.

    Known values: model = baseline + 0.1, 40 patients: (0.1, 0.1, 0.1, 2 / (repeats + 1)); model = baseline: (0, 0, 0, 1).
    """
    means, drawn, count = resampled_means([model, baseline], patients, seeds=seeds, repeats=repeats, seed=seed)
    d = drawn[:, 0] - drawn[:, 1]
    p = float("nan")
    if not np.isnan(d).any():
        d = np.where(np.abs(d) <= ROUNDING * np.abs(drawn).max(), 0.0, d)
        extreme = min(np.sum(d <= 0), np.sum(d >= 0))
        p = float(min(1.0, max(2 * (1 + extreme) / (repeats + 1), 2.0 ** (1 - count))))
    return Difference(float(means[0] - means[1]), *ends(d, level), p)


def holm(p):
    """p-values of a family of m comparisons, corrected so that the chance of even one false 'different' is kept (Holm 1979).

        sorted p_(1) <= .. <= p_(m):      corrected_(k) = min(1, max over j <= k of (m - j + 1) p_(j))

    Holds whatever the comparisons share, such as one baseline. p: [m] or any sequence; nan is no comparison, does not count in m and
    stays nan. Returns float64 [m] in the given order. The family is everything one looks at to find a winner: the whole table.

    Known values: (0.01, 0.04, 0.03) gives (0.03, 0.06, 0.06).
    """
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p)[: np.sum(~np.isnan(p))]  # nan sorts last
    corrected = np.full(p.shape, np.nan)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return corrected


def verdict(difference, interval, p, *, family=1, alpha=0.05, level=0.95, higher_is_better=True, digits=3):
    """What to call a difference to the baseline: 'better' or 'worse' only if the interval excludes 0 and the corrected p is below alpha.

    difference: model minus baseline. interval: (low, high) of it at `level`. p: after `holm` over `family` comparisons. higher_is_better:
    False for distances and delta-SNR. 'Inside the noise' is not 'equal': it says that so few patients and seeds cannot tell.
    Returns `Verdict(word, sentence)`; the sentence starts with the word.

    Known values: (0.03, (0.01, 0.05), 0.01) is 'better', 'worse' where lower is better; (0.03, (-0.01, 0.07), 0.2) 'inside the noise'.
    """
    low, high = interval
    among = f" after correction for {family} comparisons" if family > 1 else ""
    told = f"{_signed(difference, digits)} ({100 * level:g} % interval {_signed(low, digits)} to {_signed(high, digits)})"
    if np.isnan([difference, low, high, p]).any():
        told = "no number" if np.isnan(difference) else f"{_signed(difference, digits)} without an interval"
        return Verdict("inside the noise", f"inside the noise: {told}, since one patient or one seed alone says nothing about others.")
    if low <= 0 <= high:
        return Verdict("inside the noise", f"inside the noise: {told}, which no difference at all would explain as well.")
    if p >= alpha:
        return Verdict("inside the noise", f"inside the noise: {told} leaves 0 out, but p = {_chance(p)}{among} is not below {alpha:g}.")
    word = "better" if (difference > 0) == higher_is_better else "worse"
    return Verdict(word, f"{word}: {told}, p {'' if p < 0.001 else '= '}{_chance(p)}{among}.")


def ends(drawn, level):
    """Percentile interval of resampled values [repeats]: two floats, nan where they are. ValueError for a level outside (0, 1)."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1")
    return tuple(float(end) for end in np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]))


def _filled(scores, patients):
    """[S, n]: an image a seed lacks at the mean of its other seeds, so that any seed drawn has all images; nan where no seed has it."""
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or len(scores) == 0 or scores.shape[1:] != patients.shape:
        raise ValueError(f"scores has shape {scores.shape}, patients {patients.shape}; they must be [seeds, n] and [n]")
    if np.isinf(scores).any():
        raise ValueError("a score is infinite; a miss needs a number, or nan to be left out")
    known = ~np.isnan(scores)
    number = known.sum(0)
    return np.where(known, scores, np.where(known, scores, 0.0).sum(0) / np.where(number > 0, number, np.nan))


def draws(count, times, repeats, stream):
    """[repeats, count]: how often each of `count` things comes in `times` draws with replacement, which is multinomial."""
    return np.random.default_rng(stream).multinomial(times, np.full(count, 1 / count), size=repeats).astype(np.float64)


@functools.lru_cache(maxsize=4)
def patient_draws(count, repeats, seed):
    drawn = draws(count, count, repeats, seed)  # a study asks for the same draws hundreds of times
    drawn.flags.writeable = False
    return drawn


def _signed(value, digits):
    text = f"{value:+.2g}" if 0 < abs(value) < 10.0**-digits else f"{value:+.{digits}f}" if value else "0"
    return text.replace("-", "\N{MINUS SIGN}")


def _chance(p):
    return "< 0.001" if p < 0.001 else f"{p:.2g}"
