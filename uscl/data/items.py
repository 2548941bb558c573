"""What a source holds, before a pixel is read: recordings, and what is drawn on them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Shape:
    """One drawn region of a class: closed rings, each float [n, 2] of (x, y) in pixels, or the runs of a COCO bitmap.

    Pixel (row r, column c) covers x in [c, c + 1) and y in [r, r + 1). runs: lengths of 0s and 1s in turn, down the columns, 0s first.
    """

    name: str
    rings: tuple[np.ndarray, ...] = ()
    runs: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Drawing:
    """The shapes on one frame, in the order they are painted (later ones win). size: (height, width) the annotator says the image has."""

    shapes: tuple[Shape, ...]
    frame: int = 0
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Mask:
    """Label images of one frame, joined: where they overlap the first wins. A file as long as its recording has frame None: all frames.

    values: {raw value: class name}, other values being background; None: the raw values are the classes. outline: closed curves to fill.
    """

    paths: tuple[Path, ...]
    frame: int | None = 0
    values: Mapping[int, str] | None = None
    outline: bool = False


@dataclass(frozen=True)
class Raster:
    """A drawing or a mask as pixels. index: uint8 [H, W], 0 background, i > 0 stands for keys[i - 1]: a raw value or a class's name.

    Of shapes also what painting hides: area {name: pixels} and overlap {(name, other): pixels that both cover}, names in sorted order.
    """

    index: np.ndarray
    keys: tuple[int | str, ...]
    area: Mapping[str, int] = field(default_factory=dict)
    overlap: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True)
class Item:
    """One recording to be read: a file, or the numbered images of a sequence.

    name: what rejected.csv calls it, the source's name and the path below it. patient, part, mm_per_pixel (of the file's own pixels),
    frame_ms: what a table tells beside the file; empty, None or nan where it tells nothing. marks: at most one a frame.
    attributes: {column: value} for the whole recording, such as a diagnosis; they go into the store as they are.
    """

    paths: tuple[Path, ...]
    name: str
    patient: str = ""
    part: str | None = None
    mm_per_pixel: float = math.nan
    frame_ms: float = math.nan
    marks: tuple[Drawing | Mask, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Listing:
    """What a source was found to hold. order: class names as they are painted. classes: {class: its names or raw values}, None: found out.

    rejected: (name, reason) of what is left out. ignored: names of files that no reader takes. public: names and patients are pseudonyms
    already, published as they are, so they need no hash.
    """

    items: list[Item] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    classes: dict[str, list[str | int]] | None = None
    rejected: list[tuple[str, str]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    public: bool = False
