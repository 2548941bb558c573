"""Closed curves, drawn by hand and perhaps broken, and what they enclose."""

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import ConvexHull

GAP = 2  # pixels by which each end of a broken outline is lengthened
SQUARE = np.ones((2 * GAP + 1, 2 * GAP + 1), bool)
MOST_CURVES = 64  # the largest of them are looked at; the rest is dust


def fill(drawn: np.ndarray) -> np.ndarray | None:
    """bool [H, W] of curves -> the curves and what they enclose; None where they enclose nothing. What is filled already stays.

    Gaps of up to four pixels are bridged. A curve that leaves the image is closed along the border.
    """
    wide = ndimage.binary_dilation(drawn, SQUARE)
    curves, n = ndimage.label(wide, np.ones((3, 3)))
    largest = 1 + np.argsort(-np.bincount(curves.ravel(), minlength=n + 1)[1:])[:MOST_CURVES]
    holes = ndimage.binary_fill_holes(drawn) & ~drawn  # the widened curve may have closed them
    filled = ndimage.binary_erosion(drawn, SQUARE, iterations=2, border_value=1)
    inside = np.zeros(drawn.shape, bool)
    for curve in (curves == i for i in largest):
        if (enclosed := _enclosed(curve)).any() or filled[curve].any() or 2 * holes[curve].sum() > drawn[curve].sum():
            inside |= curve | enclosed
    if not inside.any() and (enclosed := _enclosed(wide)).any():  # arcs of a head that leaves the image on two sides close each other
        inside = wide | enclosed
    return ndimage.binary_erosion(inside, SQUARE, border_value=1) if inside.any() else None


def _enclosed(curve: np.ndarray) -> np.ndarray:
    """The holes in a curve, bool [H, W]; if it has none and cuts the image in parts, the parts mostly inside its convex hull."""
    parts, n = ndimage.label(~curve)
    border = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    chosen = np.setdiff1d(np.arange(1, n + 1), border)
    if not len(chosen) and n > 1:
        points = np.argwhere(curve)[:, ::-1]
        hull = Image.new("1", curve.shape[::-1])
        ImageDraw.Draw(hull).polygon([tuple(xy) for xy in points[ConvexHull(points).vertices].tolist()], fill=1)
        share = np.bincount(parts[np.asarray(hull)], minlength=n + 1) / np.bincount(parts.ravel(), minlength=n + 1)
        chosen = 1 + np.flatnonzero(share[1:] > 0.5)
    return np.isin(parts, chosen)
