"""Does a probability of 0.8 come true eight times in ten: calibration error and Brier score, from counts that images can be added up in."""

from dataclasses import dataclass, fields

import numpy as np

_SUM = 1e-3  # by how much the probabilities of a pixel may miss 1: half precision does


@dataclass(frozen=True)
class Reliability:
    """Counts of a reliability diagram, of R rows: one, the chosen label, or one per class. Two of the same R and B add up with +.

    count: [R, B] how many confidences fell into each of B bins of [0, 1]; confidence: [R, B] their sum; correct: [R, B] how often the
    event came true; squared: [K] sums of (p_k - y_k)^2; n: predictions seen. Accuracy and mean confidence of a bin, which the diagram
    draws, are correct / count and confidence / count.
    """

    count: np.ndarray
    confidence: np.ndarray
    correct: np.ndarray
    squared: np.ndarray
    n: int

    def __add__(self, other):
        if self.count.shape != other.count.shape or self.squared.shape != other.squared.shape:
            raise ValueError(f"counts of {self.count.shape} and {other.count.shape} (rows, bins) do not add up")
        return Reliability(**{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)})


def reliability(probabilities, labels, *, of="label", bins=15):
    """Counts of how often predictions come true, of one image or many (Guo et al. 2017; by class: Kull et al. 2019).

        label   one row:   confidence max_k p_k, true where argmax_k p_k is the label
        class   K rows:    confidence p_k, true where the label is k
        bins    equally wide, closed at their upper end: 0.2 of five bins falls into the first, and so does 0

    Background fills most of an image and is easy, so it hides the rest: pass the pixels that matter, or look at the classes.

    Args:
      probabilities: [..., K] in [0, 1].
      labels: [...] integers in 0 .. K - 1, for probabilities that sum to 1; or, by class, bool [..., K] for classes that overlap, of which
        each is a question of its own.
      of: "label" or "class". bins: B, 1 or more.

    Returns: `Reliability`, to be added to that of further images.

    Raises: ValueError for shapes that do not fit, labels or probabilities outside their range (nan too), an unknown `of`, no bin.

    Known values: ten predictions of (0.8, 0.2) of which six come true: one bin with count 10, confidence 8, correct 6.
    """
    if of not in ("label", "class") or bins < 1:
        raise ValueError(f"of is {of!r} and bins {bins}; 'label' or 'class', and 1 or more, are allowed")
    p, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    if not p.ndim or labels.shape not in (p.shape, p.shape[:-1]):
        raise ValueError(f"probabilities [..., K] and labels [...] or [..., K] expected: found {p.shape} and {labels.shape}")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("probabilities must lie between 0 and 1")
    overlapping = labels.shape == p.shape
    p = p.reshape(-1, p.shape[-1])
    if overlapping:
        if labels.dtype != bool or of == "label":
            raise ValueError("labels of the shape of probabilities must be bool, and need of='class'")
        truth = labels.reshape(p.shape)
    else:
        labels = labels.reshape(-1)
        if labels.dtype.kind not in "iu" or (labels.size and not 0 <= labels.min() <= labels.max() < p.shape[1]):
            raise ValueError(f"labels must be integers in 0 .. {p.shape[1] - 1}")
        if (np.abs(p.sum(1) - 1) > _SUM).any():
            raise ValueError("probabilities must sum to 1 over the last axis")
        truth = labels[:, None] == np.arange(p.shape[1])
    squared = np.square(p - truth).sum(0)
    if of == "label":
        chosen = p.argmax(1)[:, None]
        confidence, true = (np.take_along_axis(x, chosen, 1) for x in (p, truth))
    else:
        confidence, true = p, truth
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1) + bins * np.arange(confidence.shape[1])

    def binned(weights):
        return np.bincount(place.ravel(), weights, confidence.shape[1] * bins).reshape(-1, bins)

    return Reliability(binned(None), binned(confidence.ravel()), binned(true.ravel().astype(np.float64)), squared, len(p))


def calibration_error(counts):
    """Expected calibration error: how far confidence and accuracy lie apart, weighted by how often.

        ECE = sum_b n_b / n |accuracy_b - confidence_b|

    A small one says that probabilities can be believed, not that they are sharp: the base rate as every prediction has 0. It depends on
    the bins, and few predictions in many bins raise it by chance.

    counts: `Reliability`. Returns float64 [R] in [0, 1]: one number for the chosen label, or one per class; nan where n is 0.

    Known values: sure and right 0; sure and wrong 1; 0.8 that comes true six times in ten 0.2.
    """
    gap = np.abs(counts.correct - counts.confidence).sum(1)
    return gap / counts.n if counts.n else np.full(len(gap), np.nan)


def brier_score(counts):
    """Brier score of each class, mean of (p_k - y_k)^2; their sum is the score as Brier (1950) defined it, in [0, 2].

    counts: `Reliability`, by label or class alike. Returns float64 [K] in [0, 1]; nan where n is 0.

    Known values: of two classes, sure and right (0, 0); sure and wrong (1, 1); always one half (1/4, 1/4).
    """
    return counts.squared / counts.n if counts.n else np.full(len(counts.squared), np.nan)
