"""How good a classifier is: counts of a confusion matrix, what is read from them, the area under the ROC curve, and where to cut a score.

A figure that divides by nothing (the sensitivity of a test set without a positive) is nan, never 0: it was not measured. Intervals over
patients come from `bootstrap_statistic`, since none of these is a mean over cases.
"""

from typing import NamedTuple

import numpy as np


class Macro(NamedTuple):
    """Means over classes, each class alike however rare."""

    precision: float
    recall: float
    f1: float


def confusion(truth, predicted, *, classes=2):
    """How often class r was taken for class c.

    truth, predicted: [n] integers in 0 .. K - 1, or bool for two classes. classes: K. Returns int64 [K, K], a row per true class and a
    column per predicted one; counts of several sets add up. Raises ValueError for shapes that do not fit or labels outside the range.

    Known values: truth 0 1 1, predicted 0 1 0: [[1, 0], [1, 1]].
    """
    truth, predicted = _labels(truth, classes), _labels(predicted, classes)
    if truth.shape != predicted.shape:
        raise ValueError(f"truth [n] and predicted [n] expected: found {truth.shape} and {predicted.shape}")
    return np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes)


def accuracy(counts):
    """Share of cases that were told right: trace / sum. counts: [K, K] of `confusion`. Returns a float in [0, 1], nan without a case.

    Known values: [[1, 0], [1, 1]]: 2/3.
    """
    counts = np.asarray(counts)
    return float(_ratio(np.trace(counts), counts.sum()))


def sensitivity(counts, *, positive=1):
    """Share of positives that were found, TP / (TP + FN). counts: [K, K] of `confusion`; positive: the class asked about, against the rest.

    Returns a float in [0, 1], nan where truth has no positive. Known values: [[8, 2], [1, 3]]: 3/4.
    """
    counts = np.asarray(counts)
    return float(_ratio(counts[positive, positive], counts[positive].sum()))


def specificity(counts, *, positive=1):
    """Share of negatives that were left alone, TN / (TN + FP). Arguments as `sensitivity`; with K > 2 the negatives are all other classes,
    and one of them taken for another is still left alone.

    Returns a float in [0, 1], nan where truth has no negative. Known values: [[8, 2], [1, 3]]: 4/5.
    """
    others = np.delete(np.asarray(counts), positive, axis=0)
    return float(_ratio(others.sum() - others[:, positive].sum(), others.sum()))


def macro(counts):
    """Precision, recall and F1 of each class against the rest, averaged over the classes that truth holds.

        precision_k = TP_k / (TP_k + FP_k)        recall_k = TP_k / (TP_k + FN_k)        F1_k = 2 TP_k / (2 TP_k + FP_k + FN_k)

    F1 is the mean of the classes' F1, not the F1 of the means. A class that truth lacks has nothing to recall and is left out; what is
    wrongly given to it lowers the recall of the others. A class that truth holds and nobody predicts has no precision, and then the macro
    precision is nan as well (scikit-learn calls it 0); its recall and F1 are 0.

    counts: [K, K] of `confusion`. Returns `Macro(precision, recall, f1)` of floats in [0, 1], nan without a case.

    Known values: a perfect answer (1, 1, 1); [[8, 2], [1, 3]]: ((8/9 + 3/5) / 2, (4/5 + 3/4) / 2, (16/19 + 2/3) / 2).
    """
    counts = np.asarray(counts)
    right, true, predicted = np.diag(counts), counts.sum(1), counts.sum(0)
    held = true > 0
    if not held.any():
        return Macro(float("nan"), float("nan"), float("nan"))
    by_class = _ratio(right, predicted), _ratio(right, true), _ratio(2 * right, true + predicted)
    return Macro(*(float(values[held].mean()) for values in by_class))


def auc(truth, score):
    """Area under the ROC curve: how often a positive scores above a negative (Mann and Whitney 1947; Hanley and McNeil 1982).

        mean over pairs (positive i, negative j) of  1[s_i > s_j] + 1[s_i = s_j] / 2

    It looks at order alone, so a probability and its logit have the same one. truth: [n] bool, or 0 and 1. score: [n], the larger the more
    positive; infinite is allowed. Returns a float in [0, 1], nan where truth has one class only.
    Raises ValueError for shapes that do not fit, another label, or a score of nan.

    Known values: order right 1, reversed 0, all scores equal 1/2; truth 0 0 1 1 with scores .1 .4 .35 .8: 3/4.
    """
    truth, score = _scored(truth, score)
    positive, negative = score[truth], np.sort(score[~truth])
    if not (len(positive) and len(negative)):
        return float("nan")
    below, not_above = (np.searchsorted(negative, positive, side).sum() for side in ("left", "right"))
    return float((below + not_above) / (2 * len(positive) * len(negative)))


def youden_threshold(truth, score):
    """Where to cut a score so that Youden's J is largest; choose it on validation and use it on test, never on the same cases.

        J(t) = sensitivity(t) + specificity(t) - 1,        a case is positive where score >= t

    Of the cuts between two neighbouring scores the middle is taken, rounded as the scores are, so that comparing in their own precision and
    in a higher one says the same. Of several cuts with one J, the lowest: it misses the fewest positives. Where no cut beats chance
    (J <= 0) everything is called positive: the lowest score is returned.

    truth: [n] bool, or 0 and 1. score: [n], finite. Returns a float, nan where truth has one class only: then nothing can be chosen.
    Raises ValueError as `auc`, and for an infinite score.

    Known values: truth 0 0 1 1 with scores .1 .4 .35 .8: .1, .225, .375 and .6 have J 0, 1/2, 0, 1/2: 0.225.
    """
    truth, score = _scored(truth, score)
    if not np.isfinite(score).all():
        raise ValueError("a threshold needs finite scores")
    positives, negatives = truth.sum(), (~truth).sum()
    if not (positives and negatives):
        return float("nan")
    values, place = np.unique(score, return_inverse=True)
    found, alarms = (np.bincount(place[which], minlength=len(values))[::-1].cumsum()[::-1] for which in (truth, ~truth))
    best = int((found * negatives - alarms * positives).argmax())  # J times both numbers, in integers: equal ones are equal
    if best == 0:
        return float(values[0])
    lower, upper = values[best - 1], values[best]
    middle = lower / 2 + upper / 2
    return float(middle if middle > lower else upper)  # neighbours of the float grid have nothing between them


def classification_scores(truth, score, *, threshold):
    """What a two-class paper prints, at a threshold chosen elsewhere (`youden_threshold` of the validation cases).

    truth, score: as `auc`. threshold: a case is positive where score >= threshold; nan, which could not be chosen, measures nothing.
    Returns {"accuracy", "sensitivity", "specificity", "auc"} of floats. Raises as `auc`.

    Known values: truth 0 0 1 1 with scores .1 .4 .35 .8 at 0.5: 3/4, 1/2, 1, 3/4.
    """
    truth, score = _scored(truth, score)
    said = np.zeros((2, 2), int) if np.isnan(threshold) else confusion(truth, score >= threshold)
    return {"accuracy": accuracy(said), "sensitivity": sensitivity(said), "specificity": specificity(said), "auc": auc(truth, score)}


def _labels(labels, classes):
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "biu":
        raise ValueError(f"labels [n] of integers expected: found {labels.shape} of {labels.dtype}")
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels must lie in 0 .. {classes - 1}: found {labels.min()} .. {labels.max()}")
    return labels.astype(np.int64)


def _scored(truth, score):  # truth as bool, scores in the floats they came in
    truth, score = _labels(truth, 2).astype(bool), np.asarray(score)
    score = score if score.dtype.kind == "f" else score.astype(np.float64)
    if score.shape != truth.shape:
        raise ValueError(f"truth [n] and score [n] expected: found {truth.shape} and {score.shape}")
    if np.isnan(score).any():
        raise ValueError("a score is nan")
    return truth, score


def _ratio(part, whole):
    whole = np.asarray(whole)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
