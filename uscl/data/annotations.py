"""Files of drawn annotations: one door for all formats, which are known by their content, and what a reader hands back."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uscl.data import shapes
from uscl.data.items import Shape
from uscl.data.recordings import told
from uscl.types import UserError

MOST_BYTES = 2**29  # of a file: it is read whole
MOST_SHAPES = 10_000  # on one image
MOST_POINTS = 100_000  # of one shape
MOST_LETTERS = 200  # of a class's name

ALLOWED = "allowed are the CSV, JSON or project file of the VGG Image Annotator (VIA) 1 and 2, and COCO JSON"


@dataclass
class Drawings:
    """What an annotation file says of each image; the images are called as the annotator wrote them, folders included.

    of: {image: its shapes in painting order}, () where an image is listed with nothing drawn on it. sizes: {image: (height, width)} where
    told. order: class names as they are painted, by the mean area of their shapes, largest first, so that small things stay visible; ties
    by name. rejected: (image or file, reason); an image there is missing in `of`, unless only marks without area were left out.
    facts: {image: {key: text}}, what the annotator filled in for the whole image; free text, so it may hold anything.
    """

    of: dict[str, tuple[Shape, ...]] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    rejected: list[tuple[str, str]] = field(default_factory=list)
    facts: dict[str, dict[str, str]] = field(default_factory=dict)


def read(path: str | Path, *, attribute: str | None = None) -> Drawings:
    """Reads a file of annotations: VIA 1 or 2 (CSV, JSON, project) or COCO JSON, whichever its content is.

    Args: attribute: VIA only, the region attribute that holds the class; None: the one that most regions fill in.
    Raises UserError: no such file, larger than 512 MB, not UTF-8, not one of these formats, or no way to tell the class. What is wrong
    with a single image is in `rejected`, and the others are read.
    """
    from uscl.data import coco, via  # here, because they build on this file

    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; {ALLOWED}")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise UserError(f"{path.name}: has {size} bytes; an annotation file has at most {MOST_BYTES}")
    with told(path), np.errstate(all="ignore"):  # of numbers beyond any image, which `shapes.check` turns down
        try:
            text = path.read_bytes().decode("utf-8-sig").lstrip()
        except UnicodeDecodeError:
            raise UserError(f"{path.name}: is not UTF-8 text; {ALLOWED}, saved as UTF-8") from None
        if text[:1] in ("{", "["):
            data = parse(text)
            for reader in (via, coco):
                if reader.knows(data):
                    return reader.read_json(path, data, attribute)
            if isinstance(data, dict) and {"project", "view", "metadata"} <= data.keys():
                raise UserError(f"{path.name}: is a project of VIA 3, which draws in time as well; {ALLOWED}")
            fault = "is not JSON that can be read" if data is None else "is JSON of another kind"
        elif delimiter := via.delimiter(text):
            return via.read_csv(path, text, delimiter, attribute)
        else:
            fault = "is empty" if not text else "is neither JSON nor a CSV with the columns of VIA"
        raise UserError(f"{path.name}: {fault}; {ALLOWED}")


def parse(text: str) -> Any:
    """JSON, or None where it is broken or nested too deep."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def words(value: Any) -> str:
    """Text out of a file, trimmed; "" for anything that is not text or could not be written again."""
    try:
        return value.strip() if isinstance(value, str) and value.encode() else ""
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can spell
        return ""


class Gathered:
    """What a reader has found so far, image by image: the first fault of an image costs it its drawing, and nothing else."""

    def __init__(self) -> None:
        self.shapes: dict[str, list[Shape]] = {}
        self.sizes: dict[str, tuple[int, int]] = {}
        self.facts: dict[str, dict[str, str]] = {}
        self.faults: dict[str, str] = {}
        self.flat: Counter[str] = Counter()

    def image(self, name: str) -> None:
        self.shapes.setdefault(name, [])

    def size(self, name: str, size: tuple[int, int]) -> None:
        if self.sizes.setdefault(name, size) != size:
            raise UserError(f"is said to be {size[0]} x {size[1]} pixels and {self.sizes[name][0]} x {self.sizes[name][1]} too")

    def add(self, name: str, shape: Shape) -> None:
        if len(self.shapes[name]) == MOST_SHAPES:
            raise UserError(f"more than {MOST_SHAPES} shapes are drawn on it")
        self.shapes[name].append(shape)

    def fault(self, name: str, reason: str) -> None:
        self.faults.setdefault(name, reason)

    def drawings(self) -> Drawings:
        """The whole, sorted. Two shapes of one class stay in the file's order."""
        areas: dict[str, list[float]] = {}
        of = {n: found for n, found in self.shapes.items() if n not in self.faults and (found or not self.flat[n])}
        for shape in (shape for found in of.values() for shape in found):
            areas.setdefault(shape.name, []).append(shapes.area(shape))
        mean = {name: np.nan_to_num(np.mean(found), nan=0.0) for name, found in areas.items()}
        order = sorted(mean, key=lambda name: (-mean[name], name))
        place = {name: i for i, name in enumerate(order)}
        rejected = list(self.faults.items())
        for name, count in self.flat.items():
            if name not in self.faults:
                rejected.append((name, f"{count} points or lines are left out; they have no area"))
        return Drawings(
            {n: tuple(sorted(found, key=lambda shape: place[shape.name])) for n, found in of.items()},
            {n: size for n, size in self.sizes.items() if n in of}, order, rejected, self.facts,
        )  # fmt: skip
