"""Where the beam is: from a map of which pixels look or behave like tissue to one or more convex areas.

A beam is a sector, a trapezoid or a rectangle, so its convex hull is itself; the hull also reaches the deep, dark part that neither
shines nor changes. What a scanner writes around it is thin or small, and an opening takes it away. Maps are bool [h, w], and their sizes
are in samples: the picture thinned out to at most 400 x 400.
"""

import math

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import ConvexHull

WINDOW = 5  # samples; speckle has dark grains between bright ones, so a pixel is judged by those around it
EVEN = 2  # gray levels within a window; the ground that a scanner draws its picture on is at least this even
GROUND = 0.1  # share of the picture's rim that is ground; with less there is nothing to tell tissue from
DEEP = 10  # gray levels; the black of a beam is often 1 or 2 levels above its ground, seldom more than this
DENSE = 0.9  # share of a window that differs from the ground: of tissue nearly all does, between letters much does not
STIR = 10  # times its mean rise is as far from the ground as compression brings a sample; tissue is 30 times and more
CHANGE = 255 / 800  # gray levels a frame; what the picture rises by on average where it is alive
GAP, THIN = 0.006, 0.04  # of the longer side: gaps that are closed; things no wider are text, rulers or gray bars
PANE = 0.25  # an area as large as this share of the largest one is tissue too: another pane, or what a shadow cut off


def looks_like_tissue(x: np.ndarray, change: np.ndarray, least: float) -> np.ndarray:
    """Which samples differ from the even ground around the beam; all of them where there is no ground.

    x, change: mean gray and mean rise [h, w], in gray levels. least: levels that count as a difference, to which is added what compression
    stirs up around text and edges, judged by the change. Even areas brighter than the ground, which are bars of the display and boxes over
    a name, do not count. Of a common level and one a little below it, the lower one is the ground: the beam's own black lies above it.
    """
    x = x.astype(np.float32)
    low, high = ndimage.minimum_filter(x, WINDOW), ndimage.maximum_filter(x, WINDOW)
    rim = np.ones(x.shape, bool)
    rim[2:-2, 2:-2] = False
    even = rim & (high - low <= EVEN)
    levels = np.bincount(np.round(x[even]).astype(np.intp), minlength=1)
    common = levels >= max(1, GROUND * rim.sum())
    if not common.any():
        return np.ones(x.shape, bool)
    top = np.where(common, levels, 0).argmax()
    ground = max(0, top - DEEP) + common[max(0, top - DEEP) : top + 1].argmax()
    box = ndimage.maximum_filter((high == low) & (x > ground + DEEP), WINDOW)
    stirred = np.maximum(np.minimum(change, CHANGE), np.percentile(change[even], 90))
    unlike = (abs(x - ground) > least + STIR * stirred) & ~box
    return ndimage.maximum_filter(_smooth(unlike) > DENSE, 3) & unlike  # a window at the very edge is half ground


def behaves_like_tissue(change: np.ndarray) -> np.ndarray:
    """Which samples keep changing. change: mean rise from a frame to the next [h, w], in gray levels."""
    return (_smooth(change) > CHANGE) & (ndimage.grey_closing(change, 3) > CHANGE)


def _smooth(x: np.ndarray) -> np.ndarray:
    return ndimage.uniform_filter(x.astype(np.float32), WINDOW, mode="nearest")


def areas(tissue: np.ndarray) -> np.ndarray:
    """The large areas of a map bool [h, w], filled, without what is thin or small; possibly none."""
    longer = max(tissue.shape)
    gap, thin = (2 * math.ceil(share * longer / 2) + 1 for share in (GAP, THIN))
    solid = np.pad(tissue, gap, mode="edge")  # so that the edge of the picture is closed as its middle is
    solid = ndimage.minimum_filter(ndimage.maximum_filter(solid, gap), gap)[gap:-gap, gap:-gap]
    solid = ndimage.binary_fill_holes(solid)
    core = ndimage.maximum_filter(ndimage.minimum_filter(solid, thin, mode="nearest"), thin, mode="nearest")
    core = _large(core)
    near = solid & ndimage.maximum_filter(core, thin, mode="nearest")  # the corners, which an opening rounds off
    labels, _ = ndimage.label(near)
    return near & np.isin(labels, np.unique(labels[core]))


def _large(core: np.ndarray) -> np.ndarray:
    labels, _ = ndimage.label(core)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return (sizes >= max(1, PANE * sizes.max()))[labels]


def joined(areas: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Areas bool [h, w] together with those of the others that overlap them."""
    labels, _ = ndimage.label(others)
    return areas | (np.isin(labels, np.unique(labels[areas & others])) & others)


def hull(mask: np.ndarray, step: int = 1, shape: tuple[int, int] | None = None, margin: int = 0) -> np.ndarray:
    """The convex hull of each connected area of `mask` bool [h, w], as a mask; areas whose hulls overlap have one in common.

    step, shape: the picture to draw them in, of which `mask` holds a sample every `step` pixels. margin: in its pixels, around them.
    """
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    if count > 1:
        labels, count = ndimage.label(_hulls(labels, count, 1, mask.shape, 0))
    return _hulls(labels, count, step, shape or mask.shape, margin)


def _hulls(labels: np.ndarray, count: int, step: int, shape: tuple[int, int], margin: int) -> np.ndarray:
    canvas = Image.new("1", shape[::-1])
    for area in range(1, count + 1):
        rows, columns = np.nonzero((labels == area) & ~ndimage.binary_erosion(labels == area))
        sides = -margin, step - 1 + margin  # a sample stands for the pixels up to the next one
        points = np.concatenate([np.stack([columns * step + dx, rows * step + dy], 1) for dx in sides for dy in sides])
        ImageDraw.Draw(canvas).polygon([tuple(map(int, xy)) for xy in points[ConvexHull(points).vertices]], fill=1)
    return np.asarray(canvas)
