"""Parts -> a store: patients named, classes numbered, patients split, leaks looked for, and all of it written in one fixed order."""

import csv
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uscl.data import audit, classes, splits
from uscl.data.items import Item, Listing, Mask
from uscl.data.parts import Part
from uscl.data.patients import deal, guessed, name
from uscl.data.writer import StoreWriter
from uscl.types import UserError

JPEG, NOISE = (".jpg", ".jpeg"), 4  # gray levels by which JPEG may move one class between two files
LEAKS = ("kind", "file", "frame", "other file", "its frame")


class Plan:
    """All that a store will be, before a byte of it is written.

    ready: [(item, part)] in the order of the store. before: the splits of the store there already, whose patients stay where they are.
    seed, shares (validation, test): of the split, as in `deal`. folds: how many, 0 for as many as before. every: which frames were kept.

    Raises UserError: a patient in two parts; a leak, whose list goes to the folder `told`; splits that do not fit.
    """

    def __init__(
        self, ready: Sequence[tuple[Item, Part]], listing: Listing, *, salt, keep_names, before, told, seed, folds, every=1, **shares
    ):
        self.ready, self.every = ready, every
        keep = keep_names or listing.public
        self.names = [name(item, part.facts["person"], salt=salt, keep=keep) for item, part in ready]
        self.guessed = sum(guessed(item, part.facts["person"]) for item, part in ready)
        self.codes, self.classes = _classes(ready, listing)
        patients = [patient for patient, _ in self.names]
        labelled = {patient for patient, (_, part) in zip(patients, ready, strict=True) if part.facts["labelled"]}
        part_of = _parts(ready, patients, before)
        named = any(item.part == "test" for item, _ in ready)
        there = {patient for part in splits.PARTS for patient in (before or {}).get(part, [])}
        self.splits = deal(part_of, labelled, seed=seed, stay=there, **shares | ({"test": 0.0} if named else {}))
        learning = [p for part in ("train", "validation") for p in self.splits[part]]
        folds = folds or len((before or {}).get("folds", []))
        if folds:
            self.splits["folds"] = splits.by_fold(learning, labelled & set(learning), k=folds, seed=seed)
            dealt = (before or {}).get("folds", [])
            if len(dealt) == folds and {p for fold in dealt for p in fold} == {p for fold in self.splits["folds"] for p in fold}:
                self.splits["folds"] = dealt  # perhaps edited by hand, and nobody has come or gone
        self.prints = np.concatenate([part.prints for _, part in ready])
        self.first = np.cumsum([0, *(part.facts["frames"] for _, part in ready)])
        self._audit(patients, told)

    def _audit(self, patients: list[str], told: Path) -> None:
        part_of = {patient: part for part in splits.PARTS for patient in self.splits[part]}
        cine = np.repeat(np.arange(len(self.ready)), np.diff(self.first))
        if not (leaks := audit.leaks(self.prints, cine, patients, part_of, self._read)):
            return
        files = [item.name for item, _ in self.ready]
        lines = [(x.kind, files[x.cine_a], x.frame_a, files[x.cine_b], x.frame_b) for x in leaks]
        every = audit.leaks(self.prints, cine, patients, {patient: patient for patient in patients}, self._read)
        joined = _joined([(patients[x.cine_a], patients[x.cine_b]) for x in every])  # the next split may part any of them
        table = [(file, joined[patient]) for file, patient in zip(files, patients, strict=True) if patient in joined]
        for name_, rows in (("leaks.csv", [LEAKS, *lines]), ("together.csv", [("file", "patient"), *table])):
            with open(told / name_, "w", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerows(rows)
        raise UserError(f"{audit.message(leaks, files)}; see {told / 'leaks.csv'}; --patients={told / 'together.csv'} joins them all")

    def _read(self, frames: np.ndarray) -> np.ndarray:
        cine = np.searchsorted(self.first, frames, side="right") - 1
        return np.stack([self.ready[c][1].frames[int(f - self.first[c])] for c, f in zip(cine, frames, strict=True)])

    def facts(self, i: int) -> dict[str, Any]:
        """What the index says of cine i."""
        item, part = self.ready[i]
        mm = part.facts["mm"] if math.isnan(item.mm_per_pixel) else item.mm_per_pixel
        ms = part.facts["frame_ms"] if math.isnan(item.frame_ms) else self.every * item.frame_ms
        patient, source = self.names[i]
        told = {"mm_per_pixel": mm * part.facts["scale"], "frame_ms": ms, "attributes": dict(item.attributes)}
        return {"patient": patient, "source": source, **told}

    def digest(self, keys: Sequence[str]) -> str:
        """Of all that decides about the store's bytes."""
        everything = [keys, [self.facts(i) for i in range(len(self.ready))], list(self.codes.items()), self.classes, self.splits]
        return hashlib.sha256(json.dumps(everything).encode()).hexdigest()

    def write(self, out: Path, *, size: int, plan: str, progress: Callable) -> None:
        kinds = Counter("".join(item.paths[0].suffixes[-1:]).lower() or "no suffix" for item, _ in self.ready)
        origin = "prepared from files of " + ", ".join(f"{suffix} ({n})" for suffix, n in sorted(kinds.items()))
        with StoreWriter(out, size=size, classes=self.classes, origin=origin, splits=self.splits, plan=plan, replace=True) as writer:
            for i in progress(range(len(self.ready)), "writing"):
                part = self.ready[i][1]
                lut = np.array([0, *(self.codes[key] for key in part.facts["keys"])], np.uint8)
                labels = {t: lut[part.labels[row]] for row, t in enumerate(part.facts["labelled"])}
                writer.add(frames=part.frames, labels=labels, beam=part.beam[0], **self.facts(i))


def _classes(ready: Sequence[tuple[Item, Part]], listing: Listing) -> tuple[dict[int | str, int], dict[str, list[int]]]:
    """({key: stored value}, {class: stored values}) over all parts; a class whose shapes hold those of others owns their values, too."""
    facts = [part.facts for _, part in ready]
    keys = {key: None for fact in facts for key in fact["keys"]}
    masks = [path for item, _ in ready for mark in item.marks if isinstance(mark, Mask) for path in mark.paths]
    same = _levels(keys) if masks and all(path.suffix.lower() in JPEG for path in masks) else {key: key for key in keys}
    codes, found = classes.code(dict.fromkeys(same.values()), listing.order, listing.classes)
    if listing.classes is None:
        area, overlap = Counter(), Counter()
        for fact in facts:
            area.update(fact["area"])
            overlap.update({(a, b): n for a, b, n in fact["overlap"]})
        for outer, inner in classes.contained(area, overlap).items():
            found[outer] = sorted({*found[outer], *(codes[name] for name in inner)})
    return {key: codes[level] for key, level in same.items()}, found


def _levels(keys) -> dict[int | str, int | str]:
    """{key: the level it stands for}: what JPEG makes of one gray level differs a little from file to file."""
    same: dict[int | str, int | str] = {key: key for key in keys if isinstance(key, str) or key > 255}
    last = None
    for key in sorted(key for key in keys if key not in same):
        same[key] = last = last if last is not None and key - last <= NOISE else key
    return same


def _joined(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """{patient: one name for all that are linked by pairs}: the first of them in the order of their letters."""
    group: dict[str, set[str]] = {}
    for one, other in pairs:
        both = group.get(one, {one}) | group.get(other, {other})
        group |= dict.fromkeys(both, both)
    return {patient: "with " + min(both) for patient, both in group.items()}


def _parts(ready, patients: list[str], before) -> dict[str, str | None]:
    """{patient: part or None}: where the store has them already, else what a folder or a table says."""
    old = {patient: part for part in splits.PARTS for patient in (before or {}).get(part, [])}
    part_of: dict[str, str | None] = {}
    for patient, (item, _) in zip(patients, ready, strict=True):
        known = part_of.get(patient)
        if patient in old:
            part_of[patient] = old[patient]
        elif known and item.part and known != item.part:
            rule = "each belongs to one part (see --patients)"
            raise UserError(f"{item.name}: its patient {patient!r} is in {known!r} and in {item.part!r}; {rule}")
        else:
            part_of[patient] = known or item.part
    return part_of
