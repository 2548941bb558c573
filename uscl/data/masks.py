"""Label images: which class each pixel of a mask has, be it exact, softened, compressed or only an outline."""

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import repeat
from pathlib import Path

import numpy as np
from scipy import ndimage

from uscl.data import outlines
from uscl.data.images import is_image, opened
from uscl.data.items import Mask, Raster
from uscl.data.recordings import told
from uscl.types import UserError

MOST_VALUES = 64  # classes in one mask; what has more is a picture and no mask
INDEX = 31  # gray levels up to this are class numbers as they stand: nobody paints a mask to be looked at so dark
NOISE = 8  # range of levels in 3 x 3 pixels that JPEG may leave inside a region
APART = 32  # levels of a softened mask are farther apart than this, summed over channels; of a compressed one, in each channel
SHARE = 1 / 5000  # of a JPEG's pixels that a level must hold in flat places to be a class
UNSETTLED = 0.5  # of a mask's pixels at most have none of its levels; of a picture's more do
REACH = 9  # side in pixels of the window in which a pixel of an edge looks for the regions it may belong to


def raster(mask: Mask, height: int, width: int) -> Raster:
    """The label image that `mask` is for one frame of height x width pixels.

    The raw value of a pixel is the index in a palette image, the level in a gray one (or one of three equal channels), else its colour
    as 0xRRGGBB; 0 is background and what is transparent; the white of 1 bit is 255, or 1 if `values` has 1. JPEG noise and soft edges
    are undone: levels are those of flat places, and a pixel between them goes to the nearest of the regions around it. With
    `mask.values` a raw value is the named one it is nearer to than halfway to the next; palette indices, 16-bit numbers and levels up to
    31 must equal it. `mask.outline` fills a closed curve, itself included, one class a file: gaps of up to four pixels are bridged, and
    where it leaves the image the border closes it.

    Raises UserError: another size than the image's; several pages; more than 64 values; a picture and no mask; an outline around nothing.
    Known values: gray {0, 255} -> keys (255,), named {255: "a"} -> ("a",); the outline of a square of 5 x 5 -> its 25 pixels.
    """
    return dict(rasters(mask, height, width, 1))[0]


def rasters(mask: Mask, height: int, width: int, frames: int) -> Iterator[tuple[int, Raster]]:
    """(frame, Raster) for each page of a mask that is as long as its recording of `frames` frames; all else as `raster`."""
    files = [_pages(path, mask, (height, width), frames) for path in mask.paths]
    for frame, pages in enumerate(zip(*files, strict=True)):
        raw = reduce(lambda first, second: np.where(first == 0, second, first), pages)
        found, index = _distinct(raw)
        if len(found) > MOST_VALUES:
            raise UserError(f"{mask.paths[0].name}: {len(found)} distinct values; a mask holds one a class, at most {MOST_VALUES}")
        keys = {v: v if mask.values is None else mask.values[v] for v in found.tolist() if v}
        place = {key: i for i, key in enumerate(dict.fromkeys(keys.values()), 1)}
        table = np.array([place[keys[v]] if v else 0 for v in found.tolist()], np.uint8)
        yield frame, Raster(table[index], tuple(place))


def _pages(path: Path, mask: Mask, size: tuple[int, int], frames: int) -> Iterator[np.ndarray]:
    """Raw values int32 [H, W] of `frames` pages, of which there must be as many."""
    count = 0
    with told(path):
        for count, (x, exact, lossy) in enumerate(_decoded(path, size, 1 if 1 in (mask.values or ()) else 255), 1):
            if count > frames:
                break
            raw = _filled(path, x) if mask.outline else _number(x) if exact else _levels(path, x, lossy, mask.values)
            yield raw if mask.values is None else _named(raw, mask.values, exact and not mask.outline)
    if count != frames:
        raise UserError(f"{path.name}: a mask of {'more' if count > frames else count} pages; its recording has {frames} frames")


def _decoded(path: Path, size: tuple[int, int], white: int) -> Iterator[tuple[np.ndarray, bool, bool]]:
    """Of every page: int32 [H, W, channels]; whether its values are class numbers as they stand; whether it was compressed lossily."""
    if not is_image(path):
        for page in importlib.import_module("uscl.data.volumes").values(path):
            _agree(path, page.shape, size)
            yield page[..., None], True, False
        return
    with opened(path) as image:
        lossy = image.format in ("JPEG", "MPO") or image.info.get("compression") == "jpeg"
        for page in range(getattr(image, "n_frames", 1) if image.format == "TIFF" else 1):
            image.seek(page)
            _agree(path, (image.height, image.width), size)  # before anything is decoded
            if image.mode == "F":
                raise UserError(f"{path.name}: its pixels are fractions; a mask holds whole numbers or colours")
            exact = image.mode == "P" or image.mode.startswith("I")
            x = np.asarray(image if exact or image.mode in ("L", "1") else image.convert("RGBA")).astype(np.int32)
            x = x[..., None] * (white if image.mode == "1" else 1) if x.ndim == 2 else x[..., :3] * (x[..., 3:] > 0)
            if x.shape[2] == 3 and max(np.abs(x[..., i] - x[..., j]).max() for i, j in ((0, 1), (1, 2), (2, 0))) <= NOISE * lossy:
                x = x[..., 1:2]
            yield x, exact or (not lossy and x.shape[2] == 1 and x.max() <= INDEX), lossy


def _agree(path: Path, found: tuple[int, ...], size: tuple[int, int]) -> None:
    if found != size:
        raise UserError(f"{path.name}: a mask of {found[0]} x {found[1]} pixels; its image has {size[0]} x {size[1]} (height x width)")


def _levels(path: Path, x: np.ndarray, lossy: bool, values: Mapping[int, str] | None) -> np.ndarray:
    """Raw values of a mask whose edges may be soft or noisy, int32 [H, W]."""
    high, low = ndimage.maximum_filter(x, (3, 3, 1)), ndimage.minimum_filter(x, (3, 3, 1))
    flat, between = (high - low).max(2) <= NOISE * lossy, ((low < x) & (x < high)).any(2)
    found, index = _distinct(_number(x))
    weight = np.bincount(index.ravel())
    quiet, edges = (np.bincount(index.ravel(), where.ravel(), len(found)) for where in (flat, between))
    soft = (quiet == 0) & (2 * edges >= weight)  # a level of soft edges has no flat place and lies between its neighbours
    if not lossy and not soft.any():
        return _number(x)
    seeds, weight = _channels([] if values is None else [0, *values], x.shape[2]), quiet if lossy else weight * ~soft
    apart, least = (APART * x.shape[2], SHARE * flat.size) if lossy else (APART, 0)
    levels = _chosen(_channels(found, x.shape[2]), weight, seeds, apart=apart, least=least)
    nearest, distance = _nearest(x, levels)
    settled = distance <= NOISE // 2 * lossy
    if (share := 1 - settled.mean()) > UNSETTLED or len(levels) > MOST_VALUES:
        raise UserError(f"{path.name}: {share:.0%} of its pixels lie between levels; this is a picture, and a mask has flat regions")
    if lossy and x.any() and (x.max() <= INDEX or len(levels) == 1):
        raise UserError(f"{path.name}: its regions are too small or too alike to be told from the noise of JPEG; save masks as PNG")
    cores = [nearest == k for k in range(len(levels))]
    cores = [ndimage.binary_opening(c, np.ones((3, 3))) if lossy else c & settled & (flat | ~between) for c in cores]
    around = [ndimage.maximum_filter(core, REACH) for core in cores]
    return _number(levels)[np.where(np.any(cores, axis=0), nearest, _nearest(x, levels, around)[0])]


def _chosen(found: np.ndarray, weight: np.ndarray, seeds: np.ndarray, *, apart: int, least: float) -> np.ndarray:
    """[K, channels]: the seeds, then the heaviest levels farther than `apart` from those before, if with their likes they weigh `least`."""
    chosen, free = list(seeds), (weight > 0) & (np.abs(found[:, None] - seeds).sum(2) > apart).all(1)
    while free.any() and len(chosen) <= MOST_VALUES:
        best = np.where(free, weight, 0).argmax()
        distance = np.abs(found - found[best]).sum(1)
        if heavy := weight[distance <= apart // 2].sum() >= least:
            chosen.append(found[best])
        free &= distance > (apart if heavy else apart // 4)
    chosen = np.array(chosen or [found[0]])
    return np.where(chosen < 4, 0, np.where(chosen > 251, 255, chosen))  # the white of a JPEG may be 254


def _nearest(x: np.ndarray, levels: np.ndarray, around: Sequence[np.ndarray] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Of each pixel the nearest level's place and the distance; a level that is `around`, bool [H, W] for each, before one that is not."""
    place, best = np.zeros(x.shape[:2], np.intp), np.full(x.shape[:2], 1 << 20)
    for k, (level, here) in enumerate(zip(levels, around or repeat(True), strict=False)):
        distance = np.abs(x - level).sum(2) + np.where(here, 0, 1000)
        place[distance < best] = k
        best = np.minimum(best, distance)
    return place, best


def _named(raw: np.ndarray, values: Mapping[int, str], exact: bool) -> np.ndarray:
    """Every raw value -> the named one that owns it, or 0."""
    found, index = _distinct(raw)
    named = np.array([0, *(v for v in values if v)])
    apart = np.abs(_channels(named, 3)[:, None] - _channels(named, 3)).sum(2) + np.diag([1 << 20] * len(named))
    distance = np.abs(_channels(found, 3)[:, None] - _channels(named, 3)).sum(2)
    owner = distance.argmin(1)
    owned = (found == named[owner]) if exact else (2 * distance.min(1) <= apart.min(1)[owner])
    return np.where(owned, named[owner], 0)[index]


def _filled(path: Path, x: np.ndarray) -> np.ndarray:
    """The raw value of curves where they are and in what they enclose, 0 elsewhere, int32 [H, W]. What is filled already stays."""
    drawn = x.max(2) > x.max() / 2
    if (inside := outlines.fill(drawn)) is None:
        found = f"gaps of at most {2 * outlines.GAP} pixels"
        raise UserError(f"{path.name}: its outline encloses nothing; it must be a closed curve, with {found}")
    colours, count = np.unique(_number(x)[drawn], return_counts=True)
    return inside * colours[count.argmax()]


def _distinct(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(distinct values in order, which of them each pixel has), counted where they are small: to sort them takes ten times as long."""
    if x.min(initial=0) < 0 or x.max(initial=0) > 0xFFFF:
        found, index = np.unique(x, return_inverse=True)
        return found, index.reshape(x.shape)
    found = np.flatnonzero(np.bincount(x.ravel()))
    place = np.zeros(found[-1] + 1, np.int32)
    place[found] = np.arange(len(found))
    return found, place[x]


def _number(x: np.ndarray) -> np.ndarray:
    """[..., 1] levels or [..., 3] colours -> [...]: the level, or 0xRRGGBB."""
    return x[..., 0] if x.shape[-1] == 1 else (x[..., 0] << 16) + (x[..., 1] << 8) + x[..., 2]


def _channels(numbers: Iterable[int], channels: int) -> np.ndarray:
    """The inverse of `_number`, int [n, channels]."""
    numbers = np.array(list(numbers), np.int64)
    return np.stack([numbers >> 8 * i for i in range(channels - 1, -1, -1)], 1) & (255 if channels > 1 else -1)
