"""How far labels go: the share of them at which a model matches a baseline that had them all, and the area under its curve. NumPy."""

from typing import NamedTuple

import numpy as np

from uscl.metrics.intervals import Interval
from uscl.study.statistics import REPEATS, ends, resampled_means


class Match(NamedTuple):
    """Share of labels that matches the baseline, with its interval: each a share in (0, 1], None where not reached, nan where not known.

    reached: share of the resamples in which the model gets there. least: smallest share studied; a share equal to it means "or fewer".
    """

    share: float | None
    low: float | None
    high: float | None
    reached: float
    least: float


def labels_to_match(scores, baseline, patients, *, seeds="kept", level=0.95, repeats=REPEATS, seed=0):
    """Smallest share of the labels at which the model's mean reaches the baseline's mean at all labels, with its interval.

        share = min { f : M(f) >= B },     M the model's mean at the shares studied, straight over ln f in between; B the baseline's mean

    On the logarithm, because twice the labels is a like step anywhere. The same patients are drawn for all shares and the baseline, so what
    is hard for both cancels. A resample that never gets there counts as a share beyond the largest, so an end of the interval may be "not
    reached". The ends are rounded outwards to a resample's share, as nothing lies between a share and "not reached".
    The first crossing favours the model: a curve that wavers gets over the line somewhere early. Read it with `reached` and the curve. Few
    patients and few seeds limit it as in `uscl.study.statistics`; where a curve is nearly flat, the interval is honest and very wide.

    scores: {share in (0, 1]: [S, n]}, in any order, S may differ; higher is better (give -score for a distance). baseline: [S', n] at all
    labels. Only images with a number in each of them count. patients, seeds, repeats, seed: as in `resampled_means`.
    Returns `Match`. Raises ValueError for no shares, shares outside (0, 1], and as `resampled_means` does.

    Known values: means 0 at 0.01 and 1 at 1, baseline 0.5: share 0.1. A model above the baseline everywhere: share = least, reached 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1")
    shares, models = _sorted(scores)
    means, drawn, _ = resampled_means([*models, baseline], patients, seeds=seeds, repeats=repeats, seed=seed)
    least, unknown = float(shares[0]), float("nan")
    if np.isnan(means).any():
        return Match(unknown, unknown, unknown, unknown, least)
    share = share_to_match(shares, means[:-1], means[-1])
    if np.isnan(drawn).any():
        return Match(share, unknown, unknown, unknown, least)
    found = np.sort(_crossings(shares, drawn[:, :-1], drawn[:, -1]))  # not reached is infinite and comes last
    outwards = np.floor((1 - level) / 2 * (repeats - 1)), np.ceil((1 + level) / 2 * (repeats - 1))
    low, high = (None if np.isinf(found[int(k)]) else float(found[int(k)]) for k in outwards)
    return Match(share, low, high, float(np.isfinite(found).mean()), least)


def share_to_match(shares, curve, target):
    """The share of labels at which a curve first reaches a target, straight over ln share; None where it never does.

    shares: [F], above 0, rising. curve: [F], a mean at each. target: a number. At or above it from the start: shares[0].

    Known values: (0.01, 1), (0, 1), 0.5 is 0.1. The temporal paper's Table 1, contrastive model against nnU-Net's 0.570: 0.274.
    """
    share = _crossings(np.asarray(shares, float), np.asarray(curve, float)[None], np.array([target], float))[0]
    return float(share) if np.isfinite(share) else None


def area_under_labels(scores, patients, *, axis="log", seeds="kept", level=0.95, repeats=REPEATS, seed=0):
    """Area under the curve of a model's mean over the shares of labels, normalised to the score's own unit, with its interval.

        area = integral of M(x) dx / (x_F - x_1),  x = f for axis='linear', ln f for 'log', by trapezoids

    The mean score over the shares studied: 'linear' is nearly all about many labels (of 0.01 to 1, half the weight lies above 0.5), 'log'
    weighs each doubling alike and so is about few. Compare areas only over the same shares. One figure for a whole curve, so it needs no
    correction for the number of shares. Arguments as in `labels_to_match`. Returns `Interval(mean, low, high)`.

    Known values: a flat curve at c: c on both axes. Means 0, 1, 1 at 0.01, 0.1, 1: 0.75 on 'log', 0.9545 (1 - 0.045 / 0.99) on 'linear'.
    """
    shares, models = _sorted(scores)
    weights = _trapezoids(shares, axis)
    means, drawn, _ = resampled_means(models, patients, seeds=seeds, repeats=repeats, seed=seed)
    return Interval(float(means @ weights), *ends(drawn @ weights, level))


def area_under_curve(shares, curve, *, axis="log"):
    """The same area for means already known, such as a paper's: shares [F] above 0 and rising, curve [F]. Returns a float."""
    return float(np.asarray(curve, float) @ _trapezoids(np.asarray(shares, float), axis))


def match_sentence(match, *, level=0.95):
    """A `Match` in one plain sentence, "it" being the baseline with all labels. Without a subject, so that a table may put one.

    Known value: Match(0.274, 0.05, None, 0.9, 0.01) "matches it with 27 % of the labels (95 % interval 5 % to not reached); 90 % of the
    resamples get there."
    """
    if match.share is not None and np.isnan(match.share):
        return "cannot be compared: no image has a number in all of them."
    told = f"matches it with {_percent(match.share, match.least)} of the labels" if match.share is not None else "does not reach it"
    if np.isnan(match.reached):
        return f"{told}; one patient or one seed alone gives no interval."
    span = f"{_percent(match.low, match.least)} to {_percent(match.high, match.least)}"
    return f"{told} ({100 * level:g} % interval {span}); {100 * match.reached:.0f} % of the resamples get there."


def _percent(share, least):
    if share is None:
        return "not reached"
    return f"{100 * share:{'.0f' if share >= 0.1 else '.2g'}} %" + (" or fewer" if share <= least else "")


def _sorted(scores):
    shares = sorted(scores)
    if not shares or not (0 < shares[0] and shares[-1] <= 1):
        raise ValueError(f"shares of labels are {shares}; there must be some, above 0 and at most 1")
    return np.array(shares, dtype=np.float64), [scores[share] for share in shares]


def _crossings(shares, curves, targets):
    """First crossing of each row: shares [F], curves [B, F], targets [B] -> [B], infinite where a row stays below its target."""
    # A model that is its own baseline must match itself, though its means were summed in another order: hence the hair's breadth.
    above = curves >= (targets - 1e-12 * np.abs(curves).max(1))[:, None]
    first = above.argmax(1)
    row, before = np.arange(len(curves)), np.maximum(first - 1, 0)
    rise = curves[row, first] - curves[row, before]
    part = np.where(first > 0, np.minimum(1.0, (targets - curves[row, before]) / np.where(rise > 0, rise, 1.0)), 1.0)
    logs = np.log(shares)
    crossing = np.exp(logs[before] + part * (logs[first] - logs[before]))
    return np.where(above.any(1), np.where(part == 1, shares[first], crossing), np.inf)


def _trapezoids(shares, axis):
    """[F] weights that sum to 1, by which a curve's values make its normalised area."""
    if axis not in ("linear", "log"):
        raise ValueError(f"axis is {axis!r}; it must be 'linear' or 'log'")
    if len(shares) < 2:
        raise ValueError(f"shares of labels are {list(shares)}; an area wants two or more")
    steps = np.diff(np.log(shares) if axis == "log" else shares)
    return (np.append(steps, 0) + np.append(0, steps)) / (2 * steps.sum())
