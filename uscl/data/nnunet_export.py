"""A store written as an nnU-Net dataset, so that both can learn from the same frames, labels and split."""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import rmtree

import numpy as np
from PIL import Image

from uscl.types import UserError

FOLDERS = {"train": "Tr", "validation": "Tr", "test": "Ts"}
COLUMNS = ("case", "patient", "part", "cine", "frame", "mm_per_pixel")
RESERVED = ("background", "ignore")  # label names to which nnU-Net gives a meaning


def export(store, out: str | Path, *, number: int = 1, name: str = "uscl") -> Path:
    """Writes the labelled frames of a store below `out`, say nnUNet_raw, and returns the dataset's folder, Dataset001_uscl.

    imagesTr and labelsTr hold train and validation, imagesTs and labelsTs the test; a case is called cineC_F for frame F of cine C.
    splits_final.json: fold 0 is the store's train and validation; where the store has folds, fold 1 + i validates the i-th of them.
    cases.csv has the patient of each case. Where a class is a union of label values, classes are nnU-Net's regions, in an order in which
    its painting gives every value back; a value that no order gives back gets a region of its own, called value_3.

    Args: store: a `uscl.data.store.Store`. out: a folder, made if needed. number: 1..999. name: letters, digits, _ and -.
    Raises: UserError: the dataset is there already; a number, name or class that nnU-Net does not take; nothing to train on.
    """
    if not 1 <= number <= 999 or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise UserError(f"number {number}, name {name!r}: allowed are 1 to 999 and letters, digits, _ and -")
    if taken := [c for c in RESERVED if c in store.classes]:
        raise UserError(f"{store.path}: the class {taken[0]!r} has a name that nnU-Net keeps for itself; rename it in store.json")
    folder = Path(out) / f"Dataset{number:03d}_{name}"
    partial = folder.with_name(folder.name + ".partial")
    if folder.exists():
        raise UserError(f"{folder}: this exists already; remove it, or choose another number or name")
    labels, order = regions(store.classes)
    rmtree(partial, ignore_errors=True)
    try:
        for below in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
            (partial / below).mkdir(parents=True)
        rows = [_case(store, row, partial) for row in range(len(store.labelled))]
        with open(partial / "cases.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
        info = {"channel_names": {"0": "ultrasound"}, "labels": labels}
        info |= {"regions_class_order": order} if order else {}
        info |= {"numTraining": sum(FOLDERS[row[2]] == "Tr" for row in rows), "file_ending": ".png"}
        info |= {"overwrite_image_reader_writer": "NaturalImage2DIO", "name": name, "description": "labelled frames of a uscl store"}
        for file, content in (("splits_final.json", _folds(store, rows)), ("dataset.json", info)):
            (partial / file).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")  # labels keep their order
        partial.rename(folder)
    finally:
        rmtree(partial, ignore_errors=True)
    return folder


def regions(classes: Mapping[str, Sequence[int]]) -> tuple[dict[str, int | list[int]], list[int]]:
    """The `labels` of a dataset.json and its `regions_class_order`, [] where each class is one value.

    nnU-Net paints region after region, each with its one value, so the wider ones come first and each paints a value of its own that no
    later region has, if there is one.
    Known values: a [1, 2], b [2] -> {"background": 0, "a": [1, 2], "b": 2}, [1, 2]; a [1], b [2] -> {..., "a": 1, "b": 2}, [].
    """
    if all(len(set(values)) == 1 for values in classes.values()):
        return {"background": 0} | {name: values[0] for name, values in classes.items()}, []
    wide = {name: sorted(set(values)) for name, values in sorted(classes.items(), key=lambda item: -len(set(item[1])))}
    while lost := _lost(list(wide.values())):
        own = f"value_{lost[0]}"
        wide[own if own not in wide else f"{own}_alone"] = [lost[0]]
    groups = list(wide.values())
    labels = {name: values[0] if len(values) == 1 else values for name, values in wide.items()}
    return {"background": 0} | labels, [_painted(groups, i) for i in range(len(groups))]


def _painted(groups: list[list[int]], i: int) -> int:
    later = {value for group in groups[i + 1 :] for value in group}
    return next((value for value in groups[i] if value not in later), groups[i][0])


def _lost(groups: list[list[int]]) -> list[int]:
    """Values that come out as another one when the regions that hold them are painted in turn."""
    last = {value: _painted(groups, i) for i, group in enumerate(groups) for value in group}
    return [value for value, painted in last.items() if painted != value]


def _case(store, row: int, folder: Path) -> tuple:
    """Writes image and label of one labelled frame; its line in cases.csv."""
    cine, frame = int(store.labelled.cine[row]), int(store.labelled.frame[row])
    patient, mm = store.patient(cine), float(store.cines.mm_per_pixel[cine])
    part = next(part for part in FOLDERS if patient in store.splits[part])
    case = f"cine{cine:05d}_{frame:05d}"
    Image.fromarray(np.asarray(store.frame(cine, frame))).save(folder / f"images{FOLDERS[part]}" / f"{case}_0000.png")
    Image.fromarray(np.asarray(store.labels[row])).save(folder / f"labels{FOLDERS[part]}" / f"{case}.png")
    return case, patient, part, cine, frame, "" if np.isnan(mm) else mm


def _folds(store, rows: list[tuple]) -> list[dict[str, list[str]]]:
    learning = {row[0]: row[1] for row in rows if FOLDERS[row[2]] == "Tr"}
    folds = [store.splits["validation"], *store.splits.get("folds", [])]
    entries = [
        {"train": [c for c in learning if learning[c] not in fold], "val": [c for c in learning if learning[c] in fold]} for fold in folds
    ]
    if empty := [i for i, entry in enumerate(entries) if not entry["train"] or not entry["val"]]:
        raise UserError(f"{store.path}: fold {empty[0]} leaves no labelled frame to train on, or none to validate on; nnU-Net needs both")
    return entries
