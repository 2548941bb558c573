"""Regions drawn in the VGG Image Annotator (VIA), versions 1 and 2: its CSV, its annotations as JSON, its project file."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from uscl.data.annotations import MOST_LETTERS, MOST_POINTS, Drawings, Gathered, parse, words
from uscl.data.items import Shape
from uscl.types import UserError

COLUMNS = ("filename", "file_attributes", "region_shape_attributes", "region_attributes")
MOST_FIELD = 2**22  # letters of a CSV field: a shape of the most points
PROJECT = "_via_img_metadata"
ROUND = 360  # points on a circle: at a radius of 1000 pixels less than 0.04 pixels off
CLOSED = 0.1  # of a polyline's length, the widest gap between its ends at which it is taken for an outline

Region = tuple[Any, Any, Any, Any]  # an image's name and attributes, a region's shape and attributes; the shape is {} where there is none


def delimiter(text: str) -> str | None:
    """What separates the columns of a VIA CSV, or None if the first line is not that of one."""
    first = (text[:2000].splitlines() or [""])[0]
    return next((d for d in ",;\t|" if {COLUMNS[0], *COLUMNS[2:]} <= set(_header(first.split(d)))), None)


def knows(data: Any) -> bool:
    """True for the JSON of VIA: entries that each have a filename and regions, bare or in a project."""
    if not isinstance(data, dict):
        return False
    if PROJECT in data:
        return isinstance(data[PROJECT], dict)
    return any(isinstance(entry, dict) and {"filename", "regions"} <= entry.keys() for entry in data.values())


def read_csv(path: Path, text: str, delimiter: str, attribute: str | None) -> Drawings:
    """One row a region, grouped by the image's name: the counts and numbers of regions in the file are not relied on."""
    return _gather(path, _rows(path, text, delimiter), attribute)


def read_json(path: Path, data: dict, attribute: str | None) -> Drawings:
    """A project or bare annotations; regions are a list, in VIA 1 {number: region}."""
    return _gather(path, _entries(data.get(PROJECT, data)), attribute)


def _header(columns: Iterable[str]) -> list[str]:
    return [column.strip().strip('"').lstrip("#").lower() for column in columns]  # VIA 1 writes "#filename"


def _rows(path: Path, text: str, delimiter: str) -> Iterator[Region]:
    usual = csv.field_size_limit(MOST_FIELD)
    cell = lru_cache(maxsize=1024)(lambda text: parse(text or "{}"))  # the same few attributes on many rows
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)  # a lost quote would swallow what follows
        header = _header(next(rows))
        name, facts, shape, labels = (header.index(column) if column in header else -1 for column in COLUMNS)
        for row in rows:
            if 0 < len(row) < len(header):
                yield (row[name] if name < len(row) else ""), {}, None, {}
            elif row:
                yield row[name], cell(row[facts]) if facts >= 0 else {}, parse(row[shape] or "{}"), cell(row[labels])
    except csv.Error:
        raise UserError(f"{path.name}: line {rows.line_num} is no CSV, or a field has more than {MOST_FIELD} letters") from None
    finally:
        csv.field_size_limit(usual)


def _entries(entries: dict) -> Iterator[Region]:
    for entry in entries.values():
        entry = entry if isinstance(entry, dict) else {}
        name, facts, regions = entry.get("filename"), entry.get("file_attributes"), entry.get("regions")
        regions = list(regions.values()) if isinstance(regions, dict) else regions if isinstance(regions, list) else [None]
        yield name, facts, {}, {}
        for region in regions:
            region = region if isinstance(region, dict) else {}
            yield name, facts, region.get("shape_attributes"), region.get("region_attributes")


def _gather(path: Path, regions: Iterable[Region], attribute: str | None) -> Drawings:
    found, number, drawn, nameless = Gathered(), Counter(), [], 0
    for name, facts, shape, labels in regions:
        if not words(name):
            nameless += 1
            continue
        found.image(name)
        for key, value in facts.items() if isinstance(facts, dict) else ():
            if words(key) and (said := ", ".join(_ticked(value))):
                found.facts.setdefault(name, {}).setdefault(key, said)
        if shape == {}:
            continue
        number[name] += 1
        try:
            if (ring := _ring(shape)) is None:
                found.flat[name] += 1
            else:
                drawn.append((name, number[name], ring, labels if isinstance(labels, dict) else {}))
        except UserError as error:
            found.fault(name, f"region {number[name]}: {error}")
    key = _class_attribute(path, [labels for *_, labels in drawn], attribute)
    for name, which, ring, labels in drawn:
        try:
            found.add(name, Shape(_class(labels, key), (ring,)))
        except UserError as error:
            found.fault(name, f"region {which}: {error}")
    drawings = found.drawings()
    if nameless:
        drawings.rejected.append((path.name, f"{nameless} of its rows or regions name no image"))
    return drawings


def _ticked(value: Any) -> list[str]:
    """What an attribute says: its text, or of checkboxes the ticked ones."""
    said = [key for key, ticked in value.items() if ticked is True] if isinstance(value, dict) else [value]
    return [text for text in map(words, said) if text]


def _class_attribute(path: Path, labels: list[dict], attribute: str | None) -> str | None:
    """The one that is asked for, else the one most regions fill in; a draw is for the user to decide."""
    uses = Counter(key for found in labels for key, value in found.items() if words(key) and _ticked(value))
    has = ", ".join(repr(key[:MOST_LETTERS]) for key, _ in uses.most_common(9))
    if not labels or attribute in uses:
        return attribute
    if not uses:
        raise UserError(f"{path.name}: no region says of which class it is; give the regions an attribute in VIA and fill it in")
    if attribute is not None:
        raise UserError(f"{path.name}: no region fills in attribute {attribute!r}; filled in are {has}")
    (best, count), *others = uses.most_common(2)
    if others and others[0][1] == count:
        raise UserError(f"{path.name}: the regions fill in {has}, more than one of them most often; say which attribute is the class")
    return best


def _class(labels: dict, key: str | None) -> str:
    names = _ticked(labels.get(key))
    if len(names) != 1 or len(names[0]) > MOST_LETTERS:
        raise UserError(f"its attribute {key!r} names {len(names)} classes; a region has one, of at most {MOST_LETTERS} letters")
    return names[0]


def _ring(shape: Any) -> np.ndarray | None:
    """A region's outline, float [n, 2] of (x, y); None for a point, and for a line between two."""
    kind = shape.get("name") if isinstance(shape, dict) else None
    try:
        if kind in ("polygon", "polyline"):
            xs, ys = shape["all_points_x"], shape["all_points_y"]
            if max(len(xs), len(ys)) > MOST_POINTS:
                raise UserError(f"has {max(len(xs), len(ys))} points; at most {MOST_POINTS} are read")
            ring = np.array([xs, ys], float).T
            if ring.ndim != 2:
                raise ValueError
            return ring if kind == "polygon" else _closed(ring)
        if kind == "rect":
            x, y, width, height = (float(shape[key]) for key in ("x", "y", "width", "height"))
            return np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)])
        if kind in ("circle", "ellipse"):
            rx, ry = (float(shape[key]) for key in (("r", "r") if kind == "circle" else ("rx", "ry")))
            turn, t = float(shape.get("theta") or 0), np.arange(ROUND) * 2 * np.pi / ROUND  # radians, from x towards y
            along, across = rx * np.cos(t), ry * np.sin(t)
            x, y = along * np.cos(turn) - across * np.sin(turn), along * np.sin(turn) + across * np.cos(turn)
            return np.stack([float(shape["cx"]) + x, float(shape["cy"]) + y], axis=1)
        if kind == "point":
            return None
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UserError(f"the numbers of its {kind} are missing or broken") from None
    raise UserError("is no shape of VIA; allowed are polygon, polyline, rect, circle, ellipse and point")


def _closed(line: np.ndarray) -> np.ndarray | None:
    if len(line) < 3:
        return None
    gap, length = np.hypot(*(line[-1] - line[0])), np.hypot(*np.diff(line, axis=0).T).sum()
    if gap > CLOSED * length:
        raise UserError(f"is an open line, its ends {gap:.0f} pixels apart; close it or draw a polygon")
    return line
