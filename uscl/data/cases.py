"""Images as nnU-Net prepares them: cropped to what is not zero and z-scored one by one; and what a set of them looks like (fingerprint).

Source: Isensee et al. 2021, version 2.8.1 of the code. Pixels of a PNG have unit spacing there, so nothing is resampled.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_fill_holes

GREYS = np.arange(256)
OUTSIDE = -1  # the label of what is no part of the image
LEAST_STD = 1e-8


@dataclass(frozen=True)
class Case:
    """image float32 [h, w]; label int16 [h, w], -1 outside the mask, or None; box (top, bottom, left, right) of both in the frame."""

    image: np.ndarray
    label: np.ndarray | None
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Fingerprint:
    """shapes int [n, 2] after the crop; kept float [n], the share of the area the crop keeps; intensities {name: grey level}."""

    shapes: np.ndarray
    kept: np.ndarray
    intensities: dict[str, float]


def crop_to_nonzero(image: np.ndarray, *, filled: bool = False) -> tuple[tuple[int, int, int, int], np.ndarray]:
    """The bounding box of the pixels that are not zero, and the mask of these pixels inside it.

    nnU-Net fills the holes of a mask in three dimensions. A still is a volume of one slice to it, whose every hole is open above and
    below, so of a still it fills none, and neither is one filled here by default. The box is the same in both cases.

    Args: image: uint8 [H, W]. filled: also count what non-zero pixels enclose, along rows and columns.
    Returns: (top, bottom, left, right), half open: image[top:bottom, left:right]; bool [bottom - top, right - left].
      An image of zeros: the whole of it, and a mask that is False everywhere.
    Known values: 1 at (2, 3) alone -> (2, 3, 3, 4), [[True]]; the same with another 1 at (4, 5) -> (2, 5, 3, 6).
    """
    mask = np.asarray(image) != 0
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (0, mask.shape[0], 0, mask.shape[1])
    if len(rows):
        box = (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
        mask = mask[box[0] : box[1], box[2] : box[3]]
    return box, binary_fill_holes(mask) if filled else mask


def prepare_case(image: np.ndarray, label: np.ndarray | None = None, *, masked: bool) -> Case:
    """Crops an image and its label to the image's non-zero box and z-scores the image.

    In the label, background outside the mask of `crop_to_nonzero` becomes -1; what was drawn on black pixels stays.
    z = (x - mean) / max(std, 1e-8), over the box, or where `masked` over the pixels whose label is not -1 (over the mask, without a
    label), and 0 at the other pixels. An image of one grey level becomes 0.

    Args: image: uint8 [H, W]. label: values 0..K-1 [H, W]. masked: what the plan says.
    Known values: [[0, 0, 0], [0, 2, 4]] -> box (1, 2, 1, 3), image [[-1, 1]].
    """
    (top, bottom, left, right), mask = crop_to_nonzero(image)
    grey = np.asarray(image)[top:bottom, left:right]
    if label is not None:
        label = np.asarray(label)[top:bottom, left:right].astype(np.int16)
        label[(label == 0) & ~mask] = OUTSIDE
        mask = label != OUTSIDE
    return Case(_z_score(grey, mask if masked else np.ones_like(mask)), label, (top, bottom, left, right))


def fingerprint(store, rows: np.ndarray) -> Fingerprint:
    """What nnU-Net plans from: shapes and kept areas of labelled rows after the crop, and the grey levels of their foreground.

    intensities: mean, median, std, min, max, p0.5 and p99.5 of the pixels with a label above 0 inside the crop, where each row that has
    any weighs the same. The original draws 10^8 / rows pixels of each row with replacement and takes these numbers of the draws; here
    every pixel counts once with the weight that such draws give it, so the numbers are their limit. A quantile q is the smallest grey
    level up to which a share q lies. All nan where no row has foreground.
    """
    shapes, kept, shares = [], [], []
    for row in np.asarray(rows):
        image, label = frame_and_label(store, row)
        (top, bottom, left, right), _ = crop_to_nonzero(image)
        shapes.append((bottom - top, right - left))
        kept.append((bottom - top) * (right - left) / image.size)
        counts = np.bincount(image[top:bottom, left:right][label[top:bottom, left:right] > 0], minlength=256)
        if counts.any():
            shares.append(counts / counts.sum())
    return Fingerprint(np.array(shapes, int).reshape(-1, 2), np.array(kept), _grey_levels(shares))


def frame_and_label(store, row: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [S, S] twice: frame and label of a labelled row of a store."""
    cine, frame = store.labelled.cine[row], store.labelled.frame[row]
    return store.frames[store.cines.first[cine] + frame], store.labels[row]


def _z_score(grey: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """By a table of the 256 grey levels: sums of whole numbers are exact, and a table is faster than arithmetic on every pixel."""
    counts = np.bincount(grey[inside], minlength=256)
    if not counts.any():
        return np.zeros(grey.shape, np.float32)
    mean = counts @ GREYS / counts.sum()
    std = np.sqrt(counts @ (GREYS - mean) ** 2 / counts.sum())
    return np.where(inside, ((GREYS - mean) / max(std, LEAST_STD)).astype(np.float32)[grey], np.float32(0))


def _grey_levels(shares: list[np.ndarray]) -> dict[str, float]:
    names = ("mean", "median", "std", "min", "max", "p0.5", "p99.5")
    if not shares:
        return dict.fromkeys(names, np.nan)
    share = np.mean(shares, axis=0)
    mean, found = share @ GREYS, np.flatnonzero(share)
    low, median, high = np.searchsorted(np.cumsum(share), np.array([0.005, 0.5, 0.995]) - 1e-9)  # 1e-9: above the sum's rounding
    values = (mean, median, np.sqrt(share @ (GREYS - mean) ** 2), found[0], found[-1], low, high)
    return {name: float(value) for name, value in zip(names, values, strict=True)}
