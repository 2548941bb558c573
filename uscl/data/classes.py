"""The classes of a store: which label values are which class, found in masks and drawings or named by the user."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from uscl.data.items import Raster
from uscl.types import UserError

CLASSES_FILE = "classes.json"
MOST = 255  # label values are stored in a byte, 0 being background


def named_classes(folder: Path) -> dict[str, list[int | str]] | None:
    """The classes.json in a folder of annotations or else in one of the two above; None without one.

    {name: [keys]}: a whole number is a raw value of masks, "#rrggbb" a colour of theirs, any other string the name of drawn shapes.
    """
    for place in (folder, *folder.resolve().parents[:2]):
        if (file := place / CLASSES_FILE).is_file():
            try:
                found = json.loads(file.read_text(encoding="utf-8"))
                return {name: [_key(key) for key in _full_list(keys)] for name, keys in found.items()}
            except (ValueError, TypeError, AttributeError):
                rule = 'whole numbers, "#rrggbb" or names of shapes in each list, and none empty'
                raise UserError(f'{file}: must be {{"name": [values], ...}} with {rule}') from None
    return None


def code(
    keys: Iterable[int | str], order: Sequence[str] = (), named: Mapping[str, Sequence[int | str]] | None = None
) -> tuple[dict[int | str, int], dict[str, list[int]]]:
    """Numbers what was found in masks (ints) and drawings (class names) 0..K-1: -> {key: stored value}, {class: [stored values]}.

    Background 0 first, then ints ascending, then names as they are painted; `named` adds keys that were not found. Without `named` the
    int stored as i is class_i and a name is a class of its own; what lies inside it `contained` tells.

    Raises: UserError: a key that no named class owns; 0 owned by one; a drawn class called like an unnamed value; above 255 keys.
    Known values: {0, 255} -> {0: 0, 255: 1}, {"class_1": [1]}; {1, 2} with {"both": [1, 2]} -> unchanged, {"both": [1, 2]};
    {7, "a", "b"} painted b, a -> {0: 0, 7: 1, "b": 2, "a": 3}, {"class_1": [1], "b": [2], "a": [3]}.
    """
    owned = {key for group in (named or {}).values() for key in group}
    found = {key if isinstance(key, str) else int(key) for key in keys} | owned
    if 0 in owned:
        raise UserError(f"{CLASSES_FILE}: 0 is background and belongs to no class; every other value belongs to at least one")
    if named is not None and (stray := found - owned - {0}):
        rule = "every value or name in them but 0 belongs to at least one"
        raise UserError(f"{CLASSES_FILE}: the annotations hold {sorted(stray, key=str)}, which no class has; {rule}")
    place = {name: i for i, name in enumerate(order)}
    names = sorted((key for key in found if isinstance(key, str)), key=lambda name: (place.get(name, len(place)), name))
    ints = sorted(key for key in found if not isinstance(key, str) and key)
    stored = {key: i for i, key in enumerate([0, *ints, *names])}
    if len(stored) > MOST + 1:
        raise UserError(f"the annotations hold {len(stored) - 1} classes; a store has at most {MOST}")
    if named is None:
        named = {f"class_{stored[value]}": [value] for value in ints}
        if clash := set(named) & set(names):
            raise UserError(f"the class {min(clash)!r} is drawn, and so would be called a value of the masks; name both in {CLASSES_FILE}")
        named |= {name: [name] for name in names}
    return stored, {name: [stored[key] for key in dict.fromkeys(group)] for name, group in named.items()}


def contained(area: Mapping[str, int], overlap: Mapping[tuple[str, str], int], *, share: float = 0.9) -> dict[str, list[str]]:
    """Which classes lie in which: {name: names inside it, smaller ones first}, names without any left out.

    b lies in a where a is the larger and at least `share` of b's pixels are a's too, or where b lies in something that lies in a.

    Args: area: {name: pixels}; overlap: {(name, other): pixels of both}, names in sorted order; both summed over all drawings.
    Known values: area a 10, b 5, c 4; overlap ab 5, bc 4 -> {"a": ["c", "b"], "b": ["c"]}; of ab only 4 -> {"b": ["c"]}.
    """
    inside: dict[str, list[str]] = {}
    for outer in sorted(area, key=lambda name: (area[name], name)):  # the smaller first: what lies in them is known then
        smaller = [b for b in inside if 0 < area[b] < area[outer]]
        direct = {b for b in smaller if overlap.get((min(outer, b), max(outer, b)), 0) >= share * area[b]}
        all_ = direct.union(*(inside[b] for b in direct))
        inside[outer] = [b for b in inside if b in all_]
    return {name: found for name, found in inside.items() if found}


def encode(raster: Raster, stored: Mapping[int | str, int]) -> np.ndarray:
    """A raster as stored label values, uint8 [H, W]; `stored` as from `code`."""
    if stray := [key for key in raster.keys if key not in stored]:
        raise ValueError(f"the label values {stray} are not among {list(stored)}")
    return np.array([0, *(stored[key] for key in raster.keys)], np.uint8)[raster.index]


def _key(key: object) -> int | str:
    if isinstance(key, str):
        return int(key[1:], 16) if key.startswith("#") else key
    if type(key) is not int:
        raise TypeError(key)
    return key


def _full_list(keys: object) -> list:
    if not isinstance(keys, list) or not keys:
        raise TypeError(keys)
    return keys
