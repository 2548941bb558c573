"""Drawn shapes as pixels: what lies inside each, which class wins, and what painting hides."""

from itertools import combinations

import numpy as np

from uscl.data.items import Drawing, Raster, Shape
from uscl.types import UserError

MARGIN = 2.0  # pixels a point may lie outside its image: annotators round, and drag past the edge
FLAT = 1e-6  # pixels; a ring that strays less from one line encloses nothing
MOST_NAMES = 255  # local indices are uint8 and 0 is background
MOST_TRAVEL = 2**20  # pixels an outline may run up and down in all: work grows with it, and a real one runs a few heights


def raster(drawing: Drawing, height: int, width: int) -> Raster:
    """Paints a drawing's shapes in their order, later ones on top.

    Pixel (r, c) is inside a ring where its centre (c + 0.5, r + 0.5) is, by the even-odd rule; a centre on an edge belongs to the shape on
    its right or below, so shapes that share an edge share no pixel. That is decided in float64, and is exact for points on whole and half
    pixels. The rings of one shape are united; holes exist only as runs.

    Args: drawing: its coordinates are pixels of the image's own size, height x width.
    Returns: Raster of index uint8 [height, width]; keys: each class once, in the order first painted; area and overlap: pixels of each
    class and of each pair of classes before anything was painted over.
    Raises UserError: what `check` does, and more than 255 classes.
    Known values: the square (1, 1) (3, 1) (3, 3) (1, 3) covers rows 1, 2 of columns 1, 2: area 4.
    """
    check(drawing, height, width)
    names = list(dict.fromkeys(shape.name for shape in drawing.shapes))
    if len(names) > MOST_NAMES:
        raise UserError(f"{len(names)} classes are drawn on one image; at most {MOST_NAMES} are read")
    index = np.zeros((height, width), np.uint8)
    bits = {name: np.zeros((height, -(-width // 8)), np.uint8) for name in names}  # eight pixels a byte: 255 masks take little
    for shape in drawing.shapes:
        inside, top, left = _inside(shape, height, width)
        rows = slice(top, top + inside.shape[0])
        index[rows, left : left + inside.shape[1]][inside] = names.index(shape.name) + 1
        bits[shape.name][rows, left // 8 : -(-(left + inside.shape[1]) // 8)] |= np.packbits(inside, axis=1)
    area = {name: _count(mask) for name, mask in bits.items()}
    overlap = {pair: _count(bits[pair[0]] & bits[pair[1]]) for pair in combinations(sorted(names), 2)}
    return Raster(index, tuple(names), area, overlap)


def check(drawing: Drawing, height: int, width: int) -> None:
    """Raises UserError where a drawing does not belong on an image of height x width, naming the shape by its number within its class.

    That is: the annotator gave another size; a point is not a number or more than 2 pixels outside (nearer ones are cut off with no word);
    a shape encloses nothing (fewer than three points, all on one line, no 1s); runs do not add up to the image.
    """
    if drawing.size is not None and tuple(drawing.size) != (height, width):
        drawn = f"{drawing.size[0]} x {drawing.size[1]}"
        raise UserError(f"was drawn on an image of {drawn} pixels (height x width); this one has {height} x {width}")
    seen: dict[str, int] = {}
    for shape in drawing.shapes:
        seen[shape.name] = seen.get(shape.name, 0) + 1
        fault = _fault_of_runs(shape, height, width) if shape.runs is not None else _fault_of_rings(shape, height, width)
        if fault:
            raise UserError(f"shape {seen[shape.name]} of {shape.name!r} {fault}")


def area(shape: Shape) -> float:
    """Pixels a shape covers, from its coordinates alone: rings by the shoelace formula, added up; runs counted."""
    if shape.runs is not None:
        return float(sum(shape.runs[1::2]))
    closed = [np.concatenate([ring, ring[:1]]).T for ring in shape.rings]
    return sum(abs(float(x[:-1] @ y[1:] - y[:-1] @ x[1:])) / 2 for x, y in closed)


def _fault_of_runs(shape: Shape, height: int, width: int) -> str:
    if sum(shape.runs) != height * width:
        return f"is a mask of {sum(shape.runs)} pixels; its image has {height} x {width}"
    return "" if any(shape.runs[1::2]) else "is an empty mask; a shape covers at least one pixel"


def _fault_of_rings(shape: Shape, height: int, width: int) -> str:
    limit = np.array([width, height], float)
    for ring in shape.rings:
        if not np.isfinite(ring).all():
            return f"has a point that is not a number; points are pixels of an image {width} wide and {height} high"
        if (outside := ((ring < -MARGIN) | (ring > limit + MARGIN)).any(axis=1)).any():
            x, y = ring[outside.argmax()]
            place = f"{width} pixels wide and {height} high, and {MARGIN:g} outside are allowed"
            return f"has a point at x {x:g}, y {y:g}; its image is {place}"
        if np.abs(np.diff(ring[:, 1])).sum() > MOST_TRAVEL:
            return f"runs up and down by more than {MOST_TRAVEL} pixels; no outline drawn by hand does"
    if all(_flat(ring) for ring in shape.rings):
        return f"encloses nothing with its {sum(map(len, shape.rings))} points; a shape needs three that are not on one line"
    return ""


def _flat(ring: np.ndarray) -> bool:
    if len(ring) < 3:
        return True
    from_first = ring - ring[0]
    reach = np.hypot(*from_first.T)
    x, y = from_first[reach.argmax()]
    return bool(np.abs(from_first[:, 0] * y - from_first[:, 1] * x).max() <= FLAT * reach.max())


def _inside(shape: Shape, height: int, width: int) -> tuple[np.ndarray, int, int]:
    """The part of the image a shape lies in: bool [h, w], its top row and its left column, which is a multiple of 8."""
    if shape.runs is not None:
        down = np.repeat(np.arange(len(shape.runs)) % 2 == 1, shape.runs)
        return np.ascontiguousarray(down.reshape(width, height).T), 0, 0
    points = np.concatenate(shape.rings).clip(0, [width, height])
    left, top = (int(v) for v in np.floor(points.min(0)))
    right, bottom = (int(v) for v in np.ceil(points.max(0)))
    left -= left % 8
    inside = np.zeros((bottom - top, right - left), bool)
    for ring in shape.rings:
        inside |= _even_odd(ring, top, left, *inside.shape)
    return inside, top, left


def _even_odd(ring: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """Which centres of rows top.. and columns left.. a ring encloses: walking right, each edge that is crossed turns inside to outside."""
    start, end = ring, np.roll(ring, -1, axis=0)
    upward = (start[:, 1] > end[:, 1])[:, None]
    start, end = np.where(upward, end, start), np.where(upward, start, end)  # so that an edge two shapes share is cut alike for both
    first, last = (np.ceil(p[:, 1] - 0.5).astype(int).clip(top, top + height) for p in (start, end))
    rows = last - first  # how many rows' centres each edge passes; a level edge none
    edge = np.repeat(np.arange(len(ring)), rows)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(rows) - rows, rows) + first[edge]
    (x0, y0), (x1, y1) = start[edge].T, end[edge].T
    x = x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0)
    column = np.ceil(x - 0.5).astype(int).clip(left, left + width) - left
    turns = np.zeros((height, width + 1), np.uint8)
    np.bitwise_xor.at(turns.reshape(-1), (row - top) * (width + 1) + column, np.uint8(1))
    return np.bitwise_xor.accumulate(turns[:, :width], axis=1).view(bool)


def _count(packed: np.ndarray) -> int:
    return int(np.bitwise_count(packed).sum())
