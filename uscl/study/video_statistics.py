"""How well videos are told apart, over repetitions and folds, and how sure that is for other patients and networks. NumPy, float64."""

import numpy as np

from uscl.metrics.intervals import Interval
from uscl.study.statistics import ROUNDING, Difference, draws, ends, patient_draws

FIGURES = ("auc", "accuracy", "sensitivity", "specificity")
REPEATS = 2000  # p is a multiple of 2 / (REPEATS + 1), so Holm can decide families of up to 50 comparisons at 0.05
_DEFINED = 0.8  # share of the resamples a figure must exist in for an interval


def weighted(cell, figure, weight):
    """A figure of each repetition, with patients that count more or less than once.

        auc_s(w)         sum_f sum_ij w_i w_j ([s_i > s_j] + [s_i = s_j] / 2) / sum_f sum_ij w_i w_j,   i positive, j negative of fold f
        accuracy_s(w)    sum_i w_i [called right] / sum_i w_i,                                sensitivity, specificity of one class's videos

    Each fold of a cross-validation is tested by a network of its own, and scores of two networks have no scale in common: only pairs
    inside a fold are asked. Calls are made at each network's own threshold, so they are counted over all folds at once.

    cell: `uscl.study.videos.Cell`, or anything with its score [S, n], called [S, n], label, patient, fold [n]. figure: one of FIGURES.
    weight: [R, P], not negative, of the cell's P patients in sorted order; a video has its patient's. Returns float64 [S, R], nan where
    nothing was to be asked (no pair, no positive). Raises ValueError for another figure, shapes that do not fit, or a score of nan.

    Known values: weights of 1 and one fold: `uscl.metrics.auc` and the rest. Adding a constant to all scores of a fold changes nothing.
    """
    score, called, label, owner, asked = _checked(cell, figure)
    weight = np.asarray(weight, dtype=np.float64)
    if weight.ndim != 2 or weight.shape[1] != len(np.unique(owner)):
        raise ValueError(f"weight has shape {weight.shape}; it must be [R, {len(np.unique(owner))}], a column a patient")
    if figure == "auc":
        return _auc(score, label, owner, np.asarray(cell.fold), weight)
    of, column = np.unique(owner[asked], return_inverse=True)
    videos = np.eye(len(of))[column]  # [asked, patients]: whose each video is
    right = (called == label)[:, asked] @ videos
    return _ratio(right @ weight[:, of].T, weight[:, of] @ videos.sum(0))


def values(cell, figure):
    """The figure of each repetition as measured, every patient once: float64 [S]. Arguments and errors as `weighted`."""
    return weighted(cell, figure, np.ones((1, len(np.unique(cell.patient)))))[:, 0]


def interval(cell, figure, *, seeds="drawn", level=0.95, repeats=REPEATS, seed=0):
    """Mean over repetitions with its percentile interval.

        figure(w) = (1 / S) sum_s figure_s(w),        each resample: P of the P patients with replacement, w how often each was drawn

    A repetition is a seed of the run and a draw of labelled videos and first weights. Draws of one seed share its pretraining, so s counts
    seeds, and figure_s is the mean over a seed's draws; with one seed alone s counts its draws. As in `statistics.resampled_means`, whose
    draws of patients these are: seeds='kept' asks about new patients and these very networks; with 'drawn' S - 1 of the S are drawn as
    well (Rao & Wu 1988), for networks trained again. Measured with pretrainings 0.05 apart (SD) and 48 patients, the truth of an accuracy
    was held in 98 % with 3 and 5 seeds of one draw each.

    A resample in which the figure does not exist is left out; where more than a fifth are, low and high are nan. They are, too, where the
    figure looks at fewer than two patients, or one alone would have to be drawn. With few patients an interval is too narrow.

    Returns `Interval(mean, low, high)`, the mean nan where the figure does not exist. Raises ValueError as `weighted`, for an unknown
    `seeds`, or a level outside (0, 1).

    Known values: one repetition, 'kept', accuracy: `uscl.metrics.bootstrap_patients` of [called right]. Perfect order: AUC (1, 1, 1).
    """
    means, drawn, _ = _resampled([cell], figure, seeds, repeats, seed)
    return Interval(float(means[0]), *_ends(drawn[:, 0], level))


def difference(model, baseline, figure, *, seeds="drawn", level=0.95, repeats=REPEATS, seed=0):
    """Figure of model minus that of baseline on the same videos, with interval and p.

        d_b = model - baseline in resample b        p = min(1, max(2 (1 + min(#{d_b <= 0}, #{d_b >= 0})) / (B + 1), 2^(1 - P)))

    The formula of `statistics.difference`; B counts the resamples in which the figure exists, P the patients the figure looks at (those
    with positive videos for the sensitivity; those of folds that hold a pair for the AUC). Patients are the same for both, repetitions
    ('drawn') each model's own. The rest as `interval`. Returns `Difference(mean, low, high, p)`, p not yet corrected for other comparisons.
    Raises ValueError as `interval`, and where the two have not the same videos in one order.

    Known values: model = baseline, one repetition each: (0, 0, 0, 1). Model right and baseline wrong throughout, 40 patients, accuracy:
    (1, 1, 1, 2 / (repeats + 1)); 3 patients: p = 1/4.
    """
    for name in ("cine", "patient", "label", "fold"):
        if not np.array_equal(getattr(model, name), getattr(baseline, name)):
            raise ValueError(f"model and baseline differ in {name}; they must have the same videos in the same order")
    means, drawn, patients = _resampled([model, baseline], figure, seeds, repeats, seed)
    d = drawn[:, 0] - drawn[:, 1]
    d = np.where(np.abs(d) <= ROUNDING * np.abs(drawn).max(1), 0.0, d)  # equal sums, taken in another order
    low, high = _ends(d, level)
    p = float("nan")
    if not np.isnan(low):
        extreme = min(np.sum(d <= 0), np.sum(d >= 0))  # nan is neither
        p = float(min(1.0, max(2 * (1 + extreme) / (np.sum(~np.isnan(d)) + 1), 2.0 ** (1 - patients))))
    return Difference(float(means[0] - means[1]), low, high, p)


def _resampled(cells, figure, seeds, repeats, seed):
    """Figures [M] as measured, in each resample [repeats, M], and the number of patients that they look at. All cells have one test set."""
    if seeds not in ("kept", "drawn"):
        raise ValueError(f"seeds is {seeds!r}; it must be 'kept' or 'drawn'")
    groups = [_by_seed(cell) for cell in cells]
    means = np.array([(group @ values(cell, figure)).mean() for cell, group in zip(cells, groups, strict=True)])
    *_, owner, asked = _checked(cells[0], figure)
    patients = len(np.unique(owner[asked]))
    if patients < 2 or (seeds == "drawn" and min(map(len, groups)) < 2):
        return means, np.full((repeats, len(cells)), np.nan), patients
    weight = patient_draws(len(np.unique(owner)), repeats, seed)
    drawn = []
    for place, cell in enumerate(cells):
        each, count = groups[place] @ weighted(cell, figure, weight), len(groups[place])
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
    group = np.eye(len(known))[place].T if len(known) > 1 else np.eye(len(cell.score))
    return group / group.sum(1, keepdims=True)


def _checked(cell, figure):
    """Arrays of a cell, its patients as numbers from 0 in sorted order, and which videos the figure looks at."""
    if figure not in FIGURES:
        raise ValueError(f"figure is {figure!r}; it must be one of {', '.join(FIGURES)}")
    score, called, label = np.asarray(cell.score, np.float64), np.asarray(cell.called, bool), np.asarray(cell.label).astype(bool)
    patient, fold = np.asarray(cell.patient), np.asarray(cell.fold)
    if score.ndim != 2 or not len(score) or called.shape != score.shape or {label.shape, patient.shape, fold.shape} != {score.shape[1:]}:
        found = f"score {score.shape}, called {called.shape}, label {label.shape}, patient {patient.shape}, fold {fold.shape}"
        raise ValueError(f"found {found}; they must be [S, n] twice and [n] three times, S at least 1")
    if np.isnan(score).any():
        raise ValueError("a score is nan")
    both = np.isin(fold, np.intersect1d(fold[label], fold[~label]))
    asked = {"auc": both, "accuracy": np.ones_like(label), "sensitivity": label, "specificity": ~label}[figure]
    return score, called, label, np.unique(patient, return_inverse=True)[1], asked


def _auc(score, label, owner, fold, weight):
    positive, negative = np.flatnonzero(label), np.flatnonzero(~label)
    up, row = np.unique(owner[positive], return_inverse=True)
    down, column = np.unique(owner[negative], return_inverse=True)
    rows, columns = np.eye(len(up))[row].T, np.eye(len(down))[column]
    together = fold[positive][:, None] == fold[negative]

    def summed(pairs):  # [positive, negative] over patients first, so that many videos of few patients cost no more
        return ((weight[:, up] @ (rows @ pairs @ columns)) * weight[:, down]).sum(1)

    won = []
    for one in score:
        above, below = one[positive][:, None], one[negative]
        won.append(summed(together * ((above > below) + (above == below) / 2)))
    return _ratio(np.stack(won), summed(together.astype(np.float64)))


def _ends(drawn, level):
    known = drawn[~np.isnan(drawn)]
    found = ends(known if len(known) else np.array([np.nan]), level)
    return found if len(known) >= _DEFINED * len(drawn) else (float("nan"), float("nan"))


def _ratio(part, whole):
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=np.broadcast_to(whole > 0, np.shape(part)))
