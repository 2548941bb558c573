"""Writes a store, cine by cine. The format: `uscl.data.format`."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np

from uscl.data import format as layout
from uscl.data.splits import by_patient, check
from uscl.types import UserError

REPLACED = ".replaced"  # ends the name of the store that another takes the place of; no name that people give to a copy


class StoreWriter:
    """`with StoreWriter(path, size=S, classes={name: [values]}) as w: w.add(...)`; a few frames in memory at a time.

    Everything goes to `path.partial`, renamed to `path` when the block ends well, with store.json as its last file. A killed run
    leaves the partial folder behind, which the next writer overwrites; an exception removes it.

    Args:
      path: the store's folder; must not exist yet, unless `replace`: then the old one stays whole until the new one takes its place,
        and with it what others have put into the folder.
      size: side S of the frames [px].
      classes: {name: [label values]}; together 1..K-1, a class may be a union of others; {} where there are no labels.
      origin: a line on where the recordings come from.
      plan: what identifies the inputs, for whoever makes stores again and again.
      splits: {part: [patients]}, read when the block ends; None: `by_patient` deals with seed, validation and test.

    Raises:
      UserError: `path` exists; label values with gaps; splits that do not fit.
    """

    def __init__(self, path, *, size, classes, origin="", splits=None, seed=0, validation=0.1, test=0.2, plan="",
                 replace=False):  # fmt: skip
        self.path, self.size, self.origin, self.plan = Path(path), size, origin, plan
        self.partial, self.old = (self.path.with_name(self.path.name + end) for end in (".partial", REPLACED))
        self.classes = {name: [int(value) for value in values] for name, values in classes.items()}
        self.values = layout.label_values(self.classes, where="classes")
        self.splits, self.dealing = splits, {"seed": seed, "validation": validation, "test": test}
        if not replace and self.path.exists():
            raise UserError(f"{self.path}: this exists already; remove it, or choose another folder for the store")

    def __enter__(self):
        self.partial.mkdir(parents=True, exist_ok=True)
        self._remove_files()
        self.stacks = {name: layout.Stack(self.partial / name, self.size) for name in layout.PIXELS}
        self.cines, self.labelled, self.attributes, self.truth = [], [], [], {}
        return self

    def add(self, *, patient, frames, labels=None, labelled_frames=None, mm_per_pixel=None, frame_ms=None, source="", beam=None,
            attributes=None, truth=None):  # fmt: skip
        """Appends a cine and returns its id, counted from 0.

        Args:
          patient: name; whoever shares it stays in one part of the split.
          frames: uint8 [T, S, S], T >= 1.
          labels: {frame: uint8 [S, S]}; or uint8 [T, S, S], of which `labelled_frames` (None: all) are kept; or None.
          mm_per_pixel, frame_ms: of the frames as given, above 0; None or nan where unknown.
          source: where the cine came from; messages name it.
          beam: bool or uint8 [S, S], not 0 inside the picture; None: everywhere.
          attributes: {column: text}; columns that other cines lack stay empty for them.
          truth: dict of facts for truth.json.

        Raises:
          ValueError: a shape, dtype or number that no store holds.
          UserError: an empty name; a label value that no class owns.
        """
        cine, side, patient = len(self.cines), (self.size, self.size), str(patient).strip()
        name = str(source) or f"cine {cine}"
        if frames.dtype != np.uint8 or frames.shape[1:] != side or not len(frames):
            raise ValueError(f"{name}: frames: {frames.dtype} {frames.shape}, not uint8 [T, {side[0]}, {side[1]}]")
        if not patient:
            raise UserError(f"{name}: the patient's name is empty; without one no split can keep patients apart")
        numbers = ["" if x is None or np.isnan(x) else float(x) for x in (frame_ms, mm_per_pixel)]
        if any(x != "" and not 0 < x < np.inf for x in numbers):
            raise ValueError(f"{name}: frame_ms, mm_per_pixel are {numbers}; each must be above 0, or None")
        if isinstance(labels, np.ndarray):
            labels = {t: labels[t] for t in (range(len(labels)) if labelled_frames is None else labelled_frames)}
        labels = sorted((labels or {}).items())
        for t, label in labels:
            if label.dtype != np.uint8 or label.shape != side or not 0 <= t < len(frames):
                raise ValueError(f"{name}: the label of frame {t} (of {len(frames)}) is {label.dtype} {label.shape}")
            if (value := label.max()) >= self.values:
                raise UserError(f"{name}: the label of frame {t} holds value {value}; the classes are {self.classes}")
        beam = np.ones(side, np.uint8) if beam is None else (np.asarray(beam) > 0).astype(np.uint8)
        if beam.shape != side:
            raise ValueError(f"{name}: the beam is {beam.shape}, not {side}")
        self.cines.append((cine, patient, self.stacks["frames.npy"].count, len(frames), *numbers, source))
        self.stacks["frames.npy"].append(frames)
        self.stacks["beams.npy"].append(beam[None])
        self.attributes.append({str(k): str(v) for k, v in (attributes or {}).items()})
        for t, label in labels:
            self.labelled.append((self.stacks["labels.npy"].count, cine, int(t)))
            self.stacks["labels.npy"].append(label[None])
        if truth is not None:  # through JSON at once, so that what it cannot hold fails here and not at the end
            self.truth[str(cine)] = json.loads(json.dumps(truth, default=float, allow_nan=False))
        return cine

    def __exit__(self, kind, error, traceback):
        whole = False
        try:
            digests = {name: stack.close() for name, stack in self.stacks.items()}
            if kind is None:
                self._finish(digests)
                whole = True
        finally:
            if not whole:
                self._remove_files()
                self.partial.rmdir()

    def _finish(self, digests):
        patients = [cine[1] for cine in self.cines]
        labelled = {patients[cine] for _, cine, _ in self.labelled}
        splits = by_patient(patients, labelled=labelled, **self.dealing) if self.splits is None else self.splits
        check(splits, patients, labelled, file="splits")
        for name, lines in self._tables().items():
            with open(self.partial / name, "w", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerows(lines)
            digests[name] = layout.sha256(self.partial / name)
        info = {"format": layout.FORMAT, "version": layout.VERSION, "size": self.size, "frames": self.stacks["frames.npy"].count}
        info |= {"classes": self.classes, "values": self.values, "origin": self.origin}
        info |= {"plan": self.plan, "sha256": digests, "checksum": layout.checksum(digests)}
        for name, content in (("splits.json", splits), ("truth.json", self.truth), ("store.json", info)):
            if content:
                text = json.dumps(content, indent=1, allow_nan=False)  # classes keep their order
                (self.partial / name).write_text(text + "\n", encoding="utf-8")
        if self.path.exists():
            os.rename(self.path, self.old)
        os.rename(self.partial, self.path)
        _retire(self.old, self.path)

    def _tables(self):
        columns = list(dict.fromkeys(column for facts in self.attributes for column in facts))
        return {
            "cines.csv": [list(layout.CINES), *self.cines],
            "labels.csv": [list(layout.COLUMNS["labels.csv"]), *self.labelled],
            "attributes.csv": [["cine", *columns], *([i, *(f.get(c, "") for c in columns)] for i, f in enumerate(self.attributes))],
        }

    def _remove_files(self):
        for name in layout.FILES:
            (self.partial / name).unlink(missing_ok=True)


def recover(path):
    """Puts the old store back where a replacement was killed between its two renames."""
    path = Path(path)
    old = path.with_name(path.name + REPLACED)
    if old.is_dir():
        _retire(old, path) if path.exists() else os.rename(old, path)


def _retire(old, path):
    """Removes a store that was replaced, once what others have put into its folder lies in the new one."""
    for entry in list(old.iterdir()) if old.is_dir() else ():
        if entry.name not in layout.FILES and not (path / entry.name).exists():
            os.rename(entry, path / entry.name)
    shutil.rmtree(old, ignore_errors=True)
