"""Does a saliency map point at the disease: the regions it is highest in, boxed, against the boxes that readers drew.

Boxes are (top, left, bottom, right) in pixels, all four inside: a box of one pixel has top = bottom.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

SHARE = 0.1  # of a frame's pixels, the lung paper's


class Localisation(NamedTuple):
    """Means over the frames that have boxes; nan without such a frame. All in [0, 1] but `frames`, their number. See `localisation`."""

    weighted_iou: float
    recall: float
    best_iou: float
    hit10: float
    hit30: float
    hit50: float
    pointing: float
    frames: int


def weighted_iou(saliency, boxes, **given) -> float:
    """The lung paper's weighted IoU, as `localisation` defines it, alone."""
    return localisation(saliency, boxes, **given).weighted_iou


def localisation(saliency, boxes, *, share=SHARE, min_area=1, valid=None) -> Localisation:
    """How well the highest tenth of a saliency map agrees with boxes, frame by frame.

    The lung paper keeps the highest 10 % of pixels, boxes each connected region, and compares by a weighted IoU whose weights it does not
    give. Ours: a region counts by its share of what saliency was kept. Of a frame with regions k, of mass w_k (their sum is 1) and box b_k,
    and truth boxes g_j:

        weighted_iou   sum_k w_k max_j IoU(b_k, g_j)                     what is pointed at, is it disease
        recall         sum_j a_j / sum(a) max_k IoU(b_k, g_j)            what is disease, is it pointed at; a_j the area of g_j
        best_iou       mean_k max_j IoU(b_k, g_j)                        weighted_iou without weights
        hit10 30 50    share of the g_j with max_k IoU >= 0.1, 0.3, 0.5
        pointing       does the highest pixel lie in a truth box (Zhang et al. 2018, without their tolerance); where several are as high,
                       the share of them that do

    A frame with boxes where nothing is kept scores 0 throughout. A frame without boxes is left out.

    Args:
      saliency: [H, W], one map for all frames, or [T, H, W].
      boxes: for each frame, integers [n, 4], n may be 0. One map and one frame: [[box, ...]].
      share: of the pixels that is kept; see `highest`. min_area: a region of fewer pixels is dropped.
      valid: bool [H, W], the pixels that count, such as the sector; None for all, as in the paper. Regions consist of such pixels.

    Returns: `Localisation`.

    Raises: ValueError for shapes or numbers of frames that do not fit, boxes outside the image or upside down, saliency that is not
      finite, share outside (0, 1], or no valid pixel.

    Known values: one region with the very box of the truth: 1 throughout. Two regions of equal mass, one on the only truth box and one far
    off: weighted_iou and best_iou 1/2, recall 1. A constant map: 0 throughout.
    """
    maps = np.asarray(saliency, np.float64)
    if maps.ndim not in (2, 3) or not np.isfinite(maps).all():
        raise ValueError(f"saliency: finite numbers [H, W] or [T, H, W] expected; found shape {maps.shape}")
    if maps.ndim == 3 and len(maps) != len(boxes):
        raise ValueError(f"saliency has {len(maps)} frames, boxes {len(boxes)}")
    valid = np.ones(maps.shape[-2:], bool) if valid is None else np.asarray(valid).astype(bool)
    boxes = [_boxes(of_frame, maps.shape[-2:]) for of_frame in boxes]
    rows, pointed = [], None
    for t, truth in enumerate(boxes):
        if not len(truth):
            continue
        if maps.ndim == 3 or pointed is None:
            pointed = _Pointed(maps[t] if maps.ndim == 3 else maps, share, min_area, valid)
        rows.append(pointed.against(truth))
    means = np.mean(rows, 0) if rows else np.full(len(Localisation._fields) - 1, np.nan)
    return Localisation(*map(float, means), len(rows))


def highest(saliency, *, share=SHARE, valid=None) -> np.ndarray:
    """The pixels of highest saliency: the round(share n) highest of n, at least one, and all that equal the last of these.

    Saliency below 0 speaks against, and counts as 0. What has the lowest value is never among the highest: a map that is constant, or
    nowhere above 0, has none, and one that is 0 almost everywhere does not fill up with zeros.

    saliency: [H, W]. valid: bool [H, W], the n pixels; None for all. Returns bool [H, W]. Raises: ValueError as `localisation`.

    Known values: 100 different numbers above 0: the ten largest. Six above 0 among zeros: those six.
    """
    positive = np.maximum(np.asarray(saliency, np.float64), 0)
    valid = np.ones(positive.shape, bool) if valid is None else np.asarray(valid).astype(bool)
    if positive.ndim != 2 or valid.shape != positive.shape or not valid.any() or not 0 < share <= 1:
        found = f"saliency {positive.shape}, valid {valid.shape} with {valid.sum()} pixels, share {share}"
        raise ValueError(f"{found}; expected are [H, W] twice, a pixel, and 0 < share <= 1")
    values = np.sort(positive[valid])
    kept = min(max(1, round(share * len(values))), len(values))
    return valid & (positive >= values[-kept]) & (positive > values[0])


def box_iou(a, b) -> np.ndarray:
    """Intersection over union of boxes [n, 4] with boxes [m, 4], inclusive pixels: [n, m].

    Known values: itself 1; two apart 0; rows 0 .. 1 against rows 1 .. 2, of one width: 1/3.
    """
    a, b = np.asarray(a, np.int64)[:, None], np.asarray(b, np.int64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + 1
    shared = np.maximum(sides, 0).prod(-1)
    return shared / (_area(a) + _area(b) - shared)


class _Pointed:
    """What one map points at: the box and the weight of each region, and its highest pixels."""

    def __init__(self, saliency, share, min_area, valid):
        mask = highest(saliency, share=share, valid=valid)
        parts, count = ndimage.label(mask, np.ones((3, 3)))  # pixels that touch at a corner are connected
        areas = np.bincount(parts.ravel(), minlength=count + 1)[1:]
        masses = np.bincount(parts.ravel(), np.where(mask, saliency, 0).ravel(), count + 1)[1:]
        large = areas >= min_area
        found = [(y.start, x.start, y.stop - 1, x.stop - 1) for y, x in ndimage.find_objects(parts)]
        self.boxes = np.array(found, np.int64).reshape(-1, 4)[large]
        self.weights = masses[large] / masses[large].sum()
        self.peaks = np.argwhere(mask & (saliency == saliency[mask].max())) if mask.any() else np.zeros((0, 2), int)

    def against(self, truth):
        hits = [0.0] * 3
        pointing = 0.0
        if len(self.peaks):
            inside = (truth[:, None, :2] <= self.peaks) & (self.peaks <= truth[:, None, 2:])
            pointing = inside.all(-1).any(0).mean()
        if not len(self.boxes):
            return (0.0, 0.0, 0.0, *hits, pointing)
        iou = box_iou(self.boxes, truth)
        best, reached = iou.max(1), iou.max(0)
        hits = [(reached >= least).mean() for least in (0.1, 0.3, 0.5)]
        return (self.weights @ best, reached @ _area(truth) / _area(truth).sum(), best.mean(), *hits, pointing)


def _area(boxes):
    return (boxes[..., 2:] - boxes[..., :2] + 1).prod(-1)


def _boxes(boxes, shape):
    boxes = np.asarray(boxes)
    if not boxes.size:
        return np.zeros((0, 4), np.int64)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "iu":
        raise ValueError(f"boxes of a frame: integers [n, 4] expected; found {boxes.dtype} {boxes.shape}")
    boxes = boxes.astype(np.int64)
    if (boxes[:, :2] < 0).any() or (boxes[:, :2] > boxes[:, 2:]).any() or (boxes[:, 2:] >= shape).any():
        raise ValueError(f"boxes (top, left, bottom, right) must lie inside {shape}: found {boxes.tolist()}")
    return boxes
