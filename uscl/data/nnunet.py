"""nnU-Net's raw layout, version 2: `read` takes it in, `export` writes a store as one.

Dataset001_NAME/dataset.json, imagesTr/CASE_0000.png (a file a channel), labelsTr/CASE.png, imagesTs/ and labelsTs/ for the test, perhaps
splits_final.json [{"train": [cases], "val": [cases]}, ...] and, from `export`, cases.csv with the patient of each case.
"""

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

from uscl.data.items import Item, Listing, Mask
from uscl.data.nnunet_export import export as export
from uscl.data.recordings import READERS
from uscl.types import UserError

STILL = (".png", ".bmp")  # endings of files that hold one frame
SPLITS = "splits_final.json"


def read(root: Path) -> Listing:
    """An nnU-Net dataset: its first channel, labels, test images and the first of its folds.

    imagesTs is the test. Where there is a splits_final.json, here or in nnUNet_preprocessed/, its first entry says what trains and
    validates; a case that it does not name is left out. A case is its own patient unless cases.csv names one. Plain labels become
    classes of these names; where a label is a list of values, classes are unions of raw values. Channels after the first are ignored.

    Raises: UserError: no dataset.json, or one that breaks nnU-Net's rules; labels of pixels to be ignored, which no store holds.
    """
    info = _json(root / "dataset.json")
    labels, ending = _labels(root / "dataset.json", info), info.get("file_ending")
    if not isinstance(ending, str) or ending.lower() not in READERS:
        raise UserError(f"{root / 'dataset.json'}: 'file_ending' is {ending!r}; it must be the suffix of images that are read, as '.png'")
    if "dataset" in info:
        raise UserError(f"{root / 'dataset.json'}: 'dataset' lists files elsewhere; only those in imagesTr and labelsTr are read")
    plain = all(len(values) == 1 for values in labels.values()) and len({v for v, *_ in labels.values()}) == len(labels)
    listing = Listing(order=sorted(labels, key=lambda name: labels[name]) if plain else [])
    listing.classes = {name: [name] for name in listing.order} if plain else labels
    values = {labels[name][0]: name for name in listing.order} if plain else None
    fold, table, top = _first_fold(root), _table(root / "cases.csv"), root.resolve().name
    for part in ("Tr", "Ts"):
        found, masks = _images(root / f"images{part}", ending, listing), _files(root / f"labels{part}", ending)
        for case, path in found.items():
            name, row = f"{top}/images{part}/{path.name}", table.get(case, {})
            if part == "Tr" and fold is not None and case not in fold:
                listing.rejected.append((name, f"the first entry of {SPLITS} does not name it"))
                continue
            mask = masks.get(case)
            marks = () if mask is None else (Mask((mask,), frame=0 if ending.lower() in STILL else None, values=values),)
            where = "test" if part == "Ts" else fold[case] if fold else None
            listing.items.append(Item((path,), name, row.get("patient") or case, where, _mm(row), marks=marks))
        for case in sorted(set(masks) - set(found)):
            listing.rejected.append((f"{top}/labels{part}/{masks[case].name}", f"a label without its image {case}_0000{ending}"))
    return listing


def _labels(file: Path, info: dict[str, Any]) -> dict[str, list[int | str]]:
    """{class: raw values} without the background."""
    labels = info.get("labels")
    if not isinstance(labels, dict) or labels.get("background") != 0:
        found = repr(labels)[:80]
        raise UserError(
            f"{file}: 'labels' is {found}; it must be {{name: value or list of values}} with 'background': 0, as version 2 has it"
        )
    if "ignore" in labels:
        raise UserError(f"{file}: 'labels' has 'ignore', pixels that nobody labelled; a store holds whole labels only")
    lists = {name: value if isinstance(value, list) else [value] for name, value in labels.items() if name != "background"}
    owned = sorted({v for values in lists.values() for v in values if type(v) is int})
    if not all(values and all(type(v) is int for v in values) for values in lists.values()) or owned != list(range(1, len(owned) + 1)):
        raise UserError(f"{file}: 'labels' is {labels!r:.200}; beside the background they must be 1, 2, ... with no gap, or lists of these")
    if not lists:
        raise UserError(f"{file}: 'labels' has the background alone; at least one class is needed")
    return lists


def _images(folder: Path, ending: str, listing: Listing) -> dict[str, Path]:
    """{case: file of its first channel}; other files are ignored, a case without its first channel is rejected."""
    found, others = {}, {}
    top = folder.parent.resolve().name
    for stem, path in _files(folder, ending).items():
        channel = re.fullmatch(r"(.+)_(\d{4})", stem)
        if channel and channel[2] == "0000":
            found[channel[1]] = path
        else:
            listing.ignored.append(f"{top}/{folder.name}/{path.name}")
            others.setdefault(channel[1] if channel else stem, path)
    for case, path in others.items():
        if case not in found:
            listing.rejected.append((f"{top}/{folder.name}/{path.name}", f"there is no {case}_0000{ending}, the case's first channel"))
    return found


def _files(folder: Path, ending: str) -> dict[str, Path]:
    """{name without the ending: file}, sorted; {} without the folder."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return {p.name[: -len(ending)]: p for p in paths if p.name.endswith(ending) and not p.name.startswith(".") and p.is_file()}


def _first_fold(root: Path) -> dict[str, str] | None:
    """{case: part} of the first entry of splits_final.json; None without the file."""
    home = root.resolve()
    beside = [place / "nnUNet_preprocessed" / home.name for place in (home.parent, home.parent.parent)]
    file = next((folder / SPLITS for folder in (root, *beside) if (folder / SPLITS).is_file()), None)
    if file is None:
        return None
    entries = _json(file, list)
    first = entries[0] if entries and isinstance(entries[0], dict) else {}
    lists = [first.get("train"), first.get("val")]
    if not all(isinstance(cases, list) and all(isinstance(c, str) for c in cases) for cases in lists):
        raise UserError(f'{file}: its first entry must be {{"train": [cases], "val": [cases]}}')
    if both := sorted(set(lists[0]) & set(lists[1])):
        raise UserError(f"{file}: the case {both[0]!r} trains and validates; a case does one of them")
    return {case: part for part, cases in zip(("train", "validation"), lists, strict=True) for case in cases}


def _table(file: Path) -> dict[str, dict[str, str]]:
    """The rows of cases.csv by case; {} without one."""
    if not file.is_file():
        return {}
    try:
        with open(file, newline="", encoding="utf-8-sig") as text:
            rows = list(csv.DictReader(text))
    except (csv.Error, UnicodeDecodeError):
        raise UserError(f"{file}: this is no csv file in UTF-8") from None
    if rows and not {"case", "patient"} <= set(rows[0]):
        raise UserError(f"{file}: it must have the columns case and patient")
    return {row["case"]: row for row in rows}


def _mm(row: dict[str, str]) -> float:
    try:
        mm = float(row.get("mm_per_pixel") or math.nan)
    except ValueError:
        return math.nan
    return mm if 0 < mm < math.inf else math.nan


def _json(file: Path, kind: type = dict) -> Any:
    if not file.is_file():
        raise UserError(f"{file}: the file is missing; an nnU-Net dataset has dataset.json, imagesTr and labelsTr")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise UserError(f"{file}: this is no JSON") from None
    if not isinstance(content, kind):
        raise UserError(f"{file}: it must hold {'an object' if kind is dict else 'a list'}")
    return content
