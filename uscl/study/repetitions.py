"""How sure a figure of repeated classifications is, and differences and trends of several: patients drawn, and networks. NumPy, float64."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from uscl.metrics.intervals import Interval
from uscl.study.statistics import ROUNDING, Difference, draws, ends, patient_draws

REPEATS = 2000  # p is a multiple of 2 / (REPEATS + 1), so Holm can decide families of up to 50 comparisons at 0.05
SAME = ("cine", "patient", "label", "fold", "classes")  # what cells that are compared share, as far as their kind has it
_DEFINED = 0.8  # share of the resamples a figure must exist in for an interval


class Kind(NamedTuple):
    """A kind of cell. A cell has S repetitions of n cases: called [S, n], patient [n], perhaps repetitions [(seed, draw)] of length S.

    weighted(cell, figure, weight [R, P]) -> float64 [S, R]: the figure of each repetition with its P patients, in sorted order, counted so
    often; nan where it does not exist. patients(cell, figure) -> how many patients the figure looks at.
    """

    weighted: Callable
    patients: Callable


def values(cell, figure, *, kind):
    """The figure of each repetition as measured, every patient once: float64 [S]. Arguments and errors as `kind.weighted`."""
    return kind.weighted(cell, figure, np.ones((1, len(np.unique(cell.patient)))))[:, 0]


def interval(cell, figure, *, kind, seeds="drawn", level=0.95, repeats=REPEATS, seed=0):
    """Mean over repetitions with its percentile interval.

        figure(w) = (1 / S) sum_s figure_s(w),        each resample: P of the P patients with replacement, w how often each was drawn

    A repetition is a seed of the run and a draw of labelled cases and first weights. Draws of one seed share its pretraining, so s counts
    seeds, and figure_s is the mean over a seed's draws; with one seed alone s counts its draws. As in `statistics.resampled_means`, whose
    draws of patients these are: seeds='kept' asks about new patients and these very networks; with 'drawn' S - 1 of the S are drawn as
    well (Rao & Wu 1988), for networks trained again. Measured with pretrainings 0.05 apart (SD) and 48 patients, the truth of an accuracy
    was held in 98 % with 3 and 5 seeds of one draw each.

    A resample in which the figure does not exist is left out; where more than a fifth are, low and high are nan. They are, too, where the
    figure looks at fewer than two patients, or one alone would have to be drawn. With few patients an interval is too narrow.

    Returns `Interval(mean, low, high)`, the mean nan where the figure does not exist. Raises ValueError as `kind.weighted`, for an unknown
    `seeds`, or a level outside (0, 1).

    Known values: one repetition, 'kept', the share that is called right: `uscl.metrics.bootstrap_patients` of [called right].
    """
    means, drawn, _ = _resampled([cell], figure, kind, seeds, repeats, seed)
    return Interval(float(means[0]), *_ends(drawn[:, 0], level))


def difference(model, baseline, figure, **how):
    """Figure of model minus that of baseline on the same cases: the `contrast` with the coefficients (1, -1).

    Known values: model = baseline, one repetition each: (0, 0, 0, 1). Model right and baseline wrong throughout, 40 patients, accuracy:
    (1, 1, 1, 2 / (repeats + 1)); 3 patients: p = 1/4.
    """
    return contrast([model, baseline], (1.0, -1.0), figure, **how)


def contrast(cells, coefficients, figure, *, kind, seeds="drawn", level=0.95, repeats=REPEATS, seed=0):
    """A weighted sum of several cells' figures, with interval and p: a difference, a difference of differences, or a `slope`.

        d_b = sum_m c_m figure_m in resample b        p = min(1, max(2 (1 + min(#{d_b <= 0}, #{d_b >= 0})) / (B + 1), 2^(1 - P)))

    The formula of `statistics.difference`; B counts the resamples in which all figures exist, P the patients the figure looks at. Patients
    are the same for all cells, repetitions ('drawn') each cell's own. The rest as `interval`.

    cells: M of one kind with the same cases in one order. coefficients: [M]. Returns `Difference(mean, low, high, p)`, p not yet corrected
    for other comparisons. Raises ValueError as `interval`, for coefficients that are not as many as the cells, and for other cases.

    Known values: coefficients (2, -2): mean, low and high of `difference` twice, the same p.
    """
    coefficients = np.asarray(coefficients, dtype=np.float64)
    if not len(cells) or coefficients.shape != (len(cells),):
        raise ValueError(f"{len(cells)} cells and coefficients {coefficients.shape}; one coefficient a cell is needed, and a cell at least")
    for name in SAME:
        if not all(np.array_equal(getattr(cells[0], name, ()), getattr(cell, name, ())) for cell in cells[1:]):
            raise ValueError(f"cells differ in {name}; they must have the same cases in the same order")
    means, drawn, patients = _resampled(cells, figure, kind, seeds, repeats, seed)
    parts = drawn * coefficients
    d = parts.sum(1)
    d = np.where(np.abs(d) <= ROUNDING * np.abs(parts).max(1), 0.0, d)  # equal sums, taken in another order
    low, high = _ends(d, level)
    p = float("nan")
    if not np.isnan(low):
        extreme = min(np.sum(d <= 0), np.sum(d >= 0))  # nan is neither
        p = float(min(1.0, max(2 * (1 + extreme) / (np.sum(~np.isnan(d)) + 1), 2.0 ** (1 - patients))))
    return Difference(float((means * coefficients).sum()), low, high, p)


def slope(x):
    """Coefficients [M] whose contrast is the least-squares slope of figures over x [M]: (x_m - mean) / sum_k (x_k - mean)^2.

    Raises ValueError where all x are one. Known values: x = (0, 1): (-1, 1); x = (0, 1, 2): (-1/2, 0, 1/2).
    """
    apart = np.asarray(x, dtype=np.float64) - np.mean(x)
    if not np.abs(apart).max() > ROUNDING * np.abs(x).max():
        raise ValueError(f"x is {x}; a slope needs two different places")
    return apart / (apart**2).sum()


def _resampled(cells, figure, kind, seeds, repeats, seed):
    """Figures [M] as measured, in each resample [repeats, M], and the number of patients that they look at. All cells have one test set."""
    if seeds not in ("kept", "drawn"):
        raise ValueError(f"seeds is {seeds!r}; it must be 'kept' or 'drawn'")
    groups = [_by_seed(cell) for cell in cells]
    means = np.array([(group @ values(cell, figure, kind=kind)).mean() for cell, group in zip(cells, groups, strict=True)])
    patients = kind.patients(cells[0], figure)
    if patients < 2 or (seeds == "drawn" and min(map(len, groups)) < 2):
        return means, np.full((repeats, len(cells)), np.nan), patients
    weight = patient_draws(len(np.unique(cells[0].patient)), repeats, seed)
    drawn = []
    for place, cell in enumerate(cells):
        each, count = groups[place] @ kind.weighted(cell, figure, weight), len(groups[place])
        if seeds == "kept":
            drawn.append(each.mean(0))
        else:
            share = draws(count, count - 1, repeats, (seed, 1 + place)) / (count - 1)
            drawn.append((share.T * each).sum(0))
    return means, np.stack(drawn, axis=1), patients


def _by_seed(cell):
    """[S, repetitions]: the mean over a seed's draws; where there is one seed, or it is not known whose they are, each by itself."""
    seeds = [seed for seed, _ in getattr(cell, "repetitions", ())]
    known, place = np.unique(seeds, return_inverse=True)
    group = np.eye(len(known))[place].T if len(known) > 1 else np.eye(len(cell.called))
    return group / group.sum(1, keepdims=True)


def _ends(drawn, level):
    known = drawn[~np.isnan(drawn)]
    found = ends(known if len(known) else np.array([np.nan]), level)
    return found if len(known) >= _DEFINED * len(drawn) else (float("nan"), float("nan"))
