"""Where two masks agree: the masks of classes, and Dice."""

import numpy as np


def class_mask(label_map, values):
    """The pixels of one class, which may be a union of label values.

        mask = 1[label in values]                 e.g. the kidney's capsule = {cortex, medulla, central complex}

    label_map: integers, any shape. values: an integer or a sequence of integers. Returns bool of the same shape.

    Known values: `class_mask([[0, 1], [2, 3]], [1, 3])` is `[[False, True], [False, True]]`; no values, no pixels.
    """
    return np.isin(np.asarray(label_map), np.atleast_1d(np.asarray(values, dtype=np.int64)))


def dice(prediction, truth, *, empty="one"):
    """Dice similarity coefficient of two masks.

        DSC = 2 |P and T| / (|P| + |T|)

    prediction, truth: masks of one shape; anything but 0 is inside. empty: what two empty masks score. "one": 1, agreement that
    nothing is there, as the authors of the Open Kidney set count (rsingla92/kidneyUS). "skip": nan, to be left out of the mean,
    as nnU-Net counts. The two give means that cannot be compared where a class is often absent, so both are worth reporting.
    Returns a float in [0, 1], or nan. Raises ValueError for two shapes or an unknown `empty`.

    Known values: equal masks 1; disjoint masks, or exactly one empty, 0; 2 pixels against 4 that hold both, 2/3.
    """
    if empty not in ("one", "skip"):
        raise ValueError(f"empty is {empty!r}; it must be 'one' or 'skip'")
    prediction, truth = two_masks(prediction, truth)
    total = np.count_nonzero(prediction) + np.count_nonzero(truth)
    if total == 0:
        return 1.0 if empty == "one" else float("nan")
    return float(2 * np.count_nonzero(prediction & truth) / total)


def two_masks(prediction, truth):
    """Both as bool arrays, anything but 0 being inside. Raises ValueError where their shapes differ."""
    prediction, truth = np.asarray(prediction).astype(bool), np.asarray(truth).astype(bool)
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction has shape {prediction.shape}, truth {truth.shape}; they must be the same")
    return prediction, truth
