"""Regions in COCO JSON: polygons, and masks as run lengths, plain or packed into text."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from uscl.data.annotations import MOST_LETTERS, MOST_POINTS, Drawings, Gathered, words
from uscl.data.items import Shape
from uscl.data.recordings import MOST_FRAME_PIXELS
from uscl.types import UserError

LETTERS = 6  # of a packed number, 5 bits each: more than any image needs, and sums of them stay far inside 64 bits


def knows(data: Any) -> bool:
    """True for the JSON of COCO: lists of images and of annotations."""
    return isinstance(data, dict) and isinstance(data.get("images"), list) and isinstance(data.get("annotations"), list)


def read_json(path: Path, data: dict, attribute: str | None) -> Drawings:
    """Every annotation becomes a shape of its category, crowds too. An image with one that has no mask gets no drawing: the rest of it
    would count as background."""
    if attribute is not None:
        raise UserError(f"{path.name}: is COCO JSON, where categories are the classes; attribute {attribute!r} is for VIA")
    found, lost = Gathered(), Counter()
    images, categories = _images(data["images"], found, lost), _categories(data.get("categories"))
    for number, annotation in enumerate(data["annotations"], 1):
        annotation = annotation if isinstance(annotation, dict) else {}
        if (name := images.get(_id(annotation.get("image_id")))) is None:
            lost["annotations belong to no image of the file"] += 1
            continue
        try:
            if not (category := categories.get(_id(annotation.get("category_id")))):
                raise UserError("its category is not one, or more than one, of the file's")
            found.add(name, _shape(annotation.get("segmentation"), category, name, found))
        except UserError as error:
            found.fault(name, f"annotation {number}: {error}")
    drawings = found.drawings()
    drawings.rejected += [(path.name, f"{count} of its {what}") for what, count in lost.items()]
    return drawings


def unpack(text: str) -> np.ndarray:
    """The run lengths int64 [n] in COCO's packed text. Raises UserError where it is none.

    A number is written in letters of 6 bits from "0" on, least significant first: 5 of the number, whose sign is the last one's highest,
    and one that says more follow. From the fourth run on it is the difference to the run two before.
    Known values: "" -> []; "5220O", of a 4 x 3 image with rows 1, 2 of columns 1, 2 covered, -> [5, 2, 2, 0 + 2, -1 + 2].
    """
    if not text.isascii():
        raise UserError("its packed run lengths are broken")
    letters = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - 48
    if len(letters) == 0:
        return letters
    last = np.flatnonzero(letters < 32)
    if letters.min() < 0 or letters.max() > 63 or len(last) == 0 or last[-1] != len(letters) - 1:
        raise UserError("its packed run lengths are broken")
    first = np.concatenate([[0], last[:-1] + 1])
    if (width := last - first + 1).max() > LETTERS:
        raise UserError("its packed run lengths are larger than any image")
    place = np.arange(len(letters)) - np.repeat(first, width)
    runs = np.add.reduceat((letters & 31) << 5 * place, first)
    runs -= ((letters[last] & 16) > 0).astype(np.int64) << 5 * width
    runs[1::2], runs[2::2] = np.cumsum(runs[1::2]), np.cumsum(runs[2::2])
    return runs


def _id(value: Any) -> int | str | None:
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def _images(entries: list, found: Gathered, lost: Counter) -> dict[int | str, str]:
    """{id: file name}. An id that two files share makes both unreadable: nobody knows whose its annotations are."""
    images: dict[int | str, str] = {}
    for entry in entries:
        entry = entry if isinstance(entry, dict) else {}
        key, name = _id(entry.get("id")), entry.get("file_name")
        if key is None or not words(name):
            lost["images have no id or no file_name"] += 1
            continue
        found.image(name)
        if (first := images.setdefault(key, name)) != name:
            for one in (first, name):
                found.fault(one, "shares its id with another image of the file; an id is for one")
        try:
            size = entry.get("height"), entry.get("width")
            if all(type(n) is int and 0 < n <= MOST_FRAME_PIXELS for n in size):
                found.size(name, size)
        except UserError as error:
            found.fault(name, str(error))
    return images


def _categories(entries: Any) -> dict[int | str, str]:
    """{id: class}, "" for an id that two classes share."""
    categories: dict[int | str, str] = {}
    for entry in entries if isinstance(entries, list) else ():
        key, name = (_id(entry.get("id")), words(entry.get("name"))[: MOST_LETTERS + 1]) if isinstance(entry, dict) else (None, "")
        if key is not None and name and categories.setdefault(key, name) != name or len(name) > MOST_LETTERS:
            categories[key] = ""
    return categories


def _shape(segmentation: Any, category: str, name: str, found: Gathered) -> Shape:
    if isinstance(segmentation, dict):
        return Shape(category, runs=_runs(segmentation, name, found))
    if not isinstance(segmentation, list) or not segmentation:
        raise UserError("has no mask, only a box at most; a segmentation is polygons or run lengths")
    rings = segmentation if isinstance(segmentation[0], list) else [segmentation]  # some tools leave out the outer brackets
    if sum(len(ring) if isinstance(ring, list) else 0 for ring in rings) > 2 * MOST_POINTS:
        raise UserError(f"has more than {MOST_POINTS} points")
    try:
        return Shape(category, tuple(np.array(ring, float).reshape(len(ring) // 2, 2) for ring in rings))
    except (TypeError, ValueError, OverflowError):
        raise UserError("its polygon is no list of x, y, x, y, ...") from None


def _runs(mask: dict, name: str, found: Gathered) -> tuple[int, ...]:
    size, counts = mask.get("size"), mask.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(type(n) is int and 0 < n <= MOST_FRAME_PIXELS for n in size):
        raise UserError("its mask has no size [height, width]")
    if (pixels := size[0] * size[1]) > MOST_FRAME_PIXELS:
        raise UserError(f"its mask claims {pixels} pixels; at most {MOST_FRAME_PIXELS} are read")
    found.size(name, tuple(size))
    runs = unpack(counts).tolist() if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(n) is int and 0 <= n <= pixels for n in runs):
        raise UserError(f"its run lengths are not whole numbers from 0 to its {pixels} pixels")
    if (total := sum(runs)) != pixels:
        raise UserError(f"its run lengths add up to {total}, its {size[0]} x {size[1]} pixels are {pixels}")
    return tuple(runs)
