"""Where two masks agree (Dice), and how far apart their borders are (95 % Hausdorff distance)."""

import numpy as np
from scipy.spatial import cKDTree


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
    prediction, truth = _masks(prediction, truth)
    total = np.count_nonzero(prediction) + np.count_nonzero(truth)
    if total == 0:
        return 1.0 if empty == "one" else float("nan")
    return float(2 * np.count_nonzero(prediction & truth) / total)


def hausdorff95(prediction, truth, *, mm):
    """95 % Hausdorff distance of two masks' borders, in mm.

        d(A, B) = 95th percentile over a in border(A) of min over b in border(B) of |a - b|
        HD95    = max(d(P, T), d(T, P))

    A border pixel is inside and touches, along a row or a column, a pixel that is not; what lies beyond the image is not.
    Distances run between pixel centres; the percentile interpolates linearly (NumPy's default).

    **A miss counts.** With one mask empty there is no distance, and the usual ways out hide the failure: MONAI gives nan or inf
    and its mean leaves those out, so [missed, perfect] averages to 0, and the authors of the Open Kidney set write 0. A model
    then improves by not drawing what it finds hard. Here a miss costs the image's diagonal, `mm * |shape|`, which is more than
    any two pixels can be apart: finding the organ, however badly, is never worse than missing it. Two empty masks have
    nothing to measure: nan, to be left out of the mean.

    prediction, truth: masks of one shape, anything but 0 is inside. mm: size of a (square) pixel; nan where unknown, and then
    the answer is nan as well. Returns a float >= 0 in mm, or nan. Raises ValueError for two shapes, or mm <= 0.

    Known values: equal masks 0; one pixel against one 3 rows and 4 columns away, 5 mm at mm=1; an empty mask against one pixel
    in a 30 x 40 image, 50 mm at mm=1; doubling mm doubles the answer.
    """
    prediction, truth = _masks(prediction, truth)
    if mm <= 0:
        raise ValueError(f"mm is {mm}; a pixel's size must be above 0")
    found, wanted = prediction.any(), truth.any()
    if not found and not wanted:
        return float("nan")
    if not found or not wanted:
        return float(mm * np.linalg.norm(truth.shape))
    ours, theirs = np.argwhere(_border(prediction)), np.argwhere(_border(truth))
    # Borders are few pixels: looking up the nearest of them costs a third to a fifth of measuring the distance from everywhere.
    there, back = cKDTree(theirs).query(ours)[0], cKDTree(ours).query(theirs)[0]
    return float(mm * max(np.percentile(there, 95), np.percentile(back, 95)))


def _border(mask):
    within, padded = mask.copy(), np.pad(mask, 1)
    for axis in range(mask.ndim):
        for start in (0, 2):  # the neighbours on either side
            place = tuple(slice(start, start + n) if i == axis else slice(1, 1 + n) for i, n in enumerate(mask.shape))
            within &= padded[place]
    return mask & ~within


def _masks(prediction, truth):
    prediction, truth = np.asarray(prediction).astype(bool), np.asarray(truth).astype(bool)
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction has shape {prediction.shape}, truth {truth.shape}; they must be the same")
    return prediction, truth
