"""How well stills of several classes are told apart, over repetitions, and how sure that is for other patients and networks."""

from functools import partial

import numpy as np

from uscl.metrics.tallies import FIGURES, count_figures, patient_counts
from uscl.study import repetitions

__all__ = ["FIGURES", "KIND", "contrast", "counts", "difference", "interval", "patients", "values", "weighted"]


def counts(cell):
    """Confusion matrices int64 [P, S, K, K] of each patient, in sorted order, and repetition: a row a true class, a column a called one.

    cell: `uscl.study.stills.Cell`, or anything with its called [S, n], label, patient [n] and classes. Calls of all folds are counted
    together: a call needs no scale in common. Raises ValueError for shapes that do not fit or labels outside the classes.
    """
    called = np.asarray(cell.called)
    if called.ndim != 2 or not len(called):
        raise ValueError(f"called has shape {called.shape}; it must be [S, n], S at least 1")
    return patient_counts(cell.label, called.T, cell.patient, classes=len(cell.classes))


def weighted(cell, figure, weight):
    """A figure of each repetition, with patients that count more or less than once.

        C_s(w) = sum_p w_p C_sp        figure_s(w) = `uscl.metrics.tallies.count_figures` of C_s(w),        macro F1 say

    figure: one of FIGURES. weight: [R, P], not negative, of the cell's P patients in sorted order. Returns float64 [S, R], nan where the
    figure does not exist. Classes that no drawn patient has are left out of a mean over classes.
    Raises ValueError as `counts`, for another figure, and for weights of another shape.

    Known values: weights of 1: the figure of the whole confusion matrix.
    """
    if figure not in FIGURES:
        raise ValueError(f"figure is {figure!r}; it must be one of {', '.join(FIGURES)}")
    found, weight = counts(cell), np.asarray(weight, dtype=np.float64)
    if weight.ndim != 2 or weight.shape[1] != len(found):
        raise ValueError(f"weight has shape {weight.shape}; it must be [R, {len(found)}], a column a patient")
    sums = (np.tensordot(weight, one, axes=1) for one in found.swapaxes(0, 1))  # a repetition at a time, for memory
    return np.stack([count_figures(one)[figure] for one in sums])


def patients(cell, figure):
    """How many the figure looks at: all."""
    return len(np.unique(cell.patient))


KIND = repetitions.Kind(weighted, patients)
values, interval, difference, contrast = (
    partial(function, kind=KIND) for function in (repetitions.values, repetitions.interval, repetitions.difference, repetitions.contrast)
)
