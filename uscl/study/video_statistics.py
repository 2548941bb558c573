"""How well videos are told apart, over repetitions and folds, and how sure that is for other patients and networks. NumPy, float64."""

from functools import partial

import numpy as np

from uscl.study import repetitions

FIGURES = ("auc", "accuracy", "sensitivity", "specificity")
REPEATS = repetitions.REPEATS


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


def patients(cell, figure):
    """How many the figure looks at: those with positive videos for the sensitivity; those of folds that hold a pair for the AUC."""
    *_, owner, asked = _checked(cell, figure)
    return len(np.unique(owner[asked]))


KIND = repetitions.Kind(weighted, patients)
values, interval, difference, contrast = (
    partial(function, kind=KIND) for function in (repetitions.values, repetitions.interval, repetitions.difference, repetitions.contrast)
)


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


def _ratio(part, whole):
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=np.broadcast_to(whole > 0, np.shape(part)))
