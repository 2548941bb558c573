"""`StoreWriter` makes a store, cine by cine; `Store.open` checks one and maps its pixels. The format: `uscl.data.format`."""

import csv
import json
import os
from functools import cached_property
from pathlib import Path

import numpy as np

from uscl.data import format as layout
from uscl.data.splits import by_patient, check
from uscl.types import UserError


class StoreWriter:
    """`with StoreWriter(path, size=S, classes={name: [values]}) as w: w.add(...)`; one cine in memory at a time.

    Everything goes to `path.partial`, renamed to `path` when the block ends well, with store.json as its last file. A
    killed run leaves the partial folder behind, which the next writer overwrites; an exception removes it.

    Args:
      path: the store's folder; must not exist yet.
      size: side S of the frames [px].
      classes: {name: [label values]}; together 1..K-1, a class may be a union of others.
      origin: a line on where the recordings come from.
      splits: {part: [patients]}, read when the block ends; None: `by_patient` deals with seed, validation and test.

    Raises:
      UserError: `path` exists; label values with gaps; fewer than 3 patients with labels, or splits that do not fit.
    """

    def __init__(self, path, *, size, classes, origin="", splits=None, seed=0, validation=0.1, test=0.2):
        self.path, self.size, self.origin = Path(path), size, origin
        self.partial = self.path.with_name(self.path.name + ".partial")
        self.classes = {name: [int(value) for value in values] for name, values in classes.items()}
        self.values = layout.label_values(self.classes, where="classes")
        self.splits, self.dealing = splits, {"seed": seed, "validation": validation, "test": test}
        if self.path.exists():
            raise UserError(f"{self.path}: this exists already; remove it, or choose another folder for the store")

    def __enter__(self):
        self.partial.mkdir(parents=True, exist_ok=True)
        self._remove_files()
        names = ("frames.npy", "labels.npy")
        self.frames, self.labels = (layout.Stack(self.partial / name, self.size) for name in names)
        self.cines, self.labelled, self.truth = [], [], {}
        return self

    def add(self, *, patient, frames, labels=None, labelled_frames=None, mm_per_pixel=None, frame_ms=None, source="",
            truth=None):
        """Appends a cine and returns its id, counted from 0.

        Args:
          patient: name; whoever shares it stays in one part of the split.
          frames: uint8 [T, S, S], T >= 1.
          labels: {frame: uint8 [S, S]}; or uint8 [T, S, S], of which `labelled_frames` (None: all) are kept; or None.
          mm_per_pixel, frame_ms: of the frames as given, above 0; None or nan where unknown.
          source: where the cine came from; messages name it.
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
        self.cines.append((cine, patient, self.frames.count, len(frames), *numbers, source))
        self.frames.append(frames)
        for t, label in labels:
            self.labelled.append((self.labels.count, cine, int(t)))
            self.labels.append(label[None])
        if truth is not None:  # through JSON at once, so that what it cannot hold fails here and not at the end
            self.truth[str(cine)] = json.loads(json.dumps(truth, default=float, allow_nan=False))
        return cine

    def __exit__(self, kind, error, traceback):
        whole = False
        try:
            digests = {"frames.npy": self.frames.close(), "labels.npy": self.labels.close()}
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
        for name, lines in (("cines.csv", self.cines), ("labels.csv", self.labelled)):
            with open(self.partial / name, "w", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerows([list(layout.COLUMNS[name]), *lines])
            digests[name] = layout.sha256(self.partial / name)
        info = {"format": layout.FORMAT, "version": layout.VERSION, "size": self.size, "frames": self.frames.count}
        info |= {"classes": self.classes, "values": self.values, "origin": self.origin}
        info |= {"sha256": digests, "checksum": layout.checksum(digests)}
        for name, content in (("splits.json", splits), ("truth.json", self.truth), ("store.json", info)):
            if content:
                text = json.dumps(content, indent=1, allow_nan=False)  # classes keep their order
                (self.partial / name).write_text(text + "\n", encoding="utf-8")
        os.rename(self.partial, self.path)

    def _remove_files(self):
        for name in layout.FILES:
            (self.partial / name).unlink(missing_ok=True)


class Store:
    """A checked store. Only its index is in memory: `frames` uint8 [F, S, S] and `labels` uint8 [L, S, S] are maps.

    cines, labelled: record arrays of cines.csv and labels.csv (`store.cines.patient`, `store.labelled.frame`), nan
    where a number is unknown. splits {part: [patients]}, classes {name: [values]}, values K, size S, origin, checksum.
    """

    @classmethod
    def open(cls, path):
        """Opens the folder. UserError, a sentence naming the file, at the first thing not as `uscl.data.format` says."""
        store, path = cls(), Path(path)
        info = layout.read_info(path)
        store.path, store.digests, store.checksum = path, info["sha256"], info["checksum"]
        store.size, store.values, store.classes = info["size"], info["values"], info["classes"]
        store.origin = info["origin"]
        store.cines, store.labelled = layout.read_index(path, info["frames"])
        store.frames = layout.read_stack(path / "frames.npy", (info["frames"], store.size, store.size))
        store.labels = layout.read_stack(path / "labels.npy", (len(store.labelled), store.size, store.size))
        store._check_labels()
        store.splits = layout.read_json(path / "splits.json")
        patients = store.cines.patient.tolist()
        check(store.splits, patients, {patients[cine] for cine in store.labelled.cine}, file=path / "splits.json")
        return store

    def _check_labels(self):
        for row, label in enumerate(self.labels):
            if (value := label.max()) >= self.values:
                where = f"row {row} (cine {self.labelled.cine[row]}, frame {self.labelled.frame[row]})"
                rule = f"no class owns it; the classes are {self.classes}"
                raise UserError(f"{self.path / 'labels.npy'}: {where} holds the label value {value}; {rule}")

    def verify(self):
        """Reads every byte and compares with the checksums of store.json. UserError names the file that has changed."""
        skip = {"frames.npy": self.frames.offset, "labels.npy": self.labels.offset}
        for name in layout.HASHED:
            found, noted = layout.sha256(self.path / name, skip=skip.get(name, 0)), self.digests.get(name)
            if found != noted:
                raise UserError(f"{self.path / name}: found sha256 {found}; store.json says {noted}, so it has changed")

    def patients(self, part):
        """Names of the patients of 'train', 'validation' or 'test'."""
        return list(self.splits[part])

    def cines_of(self, patients):
        """int64 [n], ascending: the cines of these patients."""
        return np.flatnonzero(np.isin(self.cines.patient, list(patients)))

    def rows_of(self, patients):
        """int64 [n], ascending: the rows of `labels` that belong to these patients."""
        return np.flatnonzero(np.isin(self.labelled.cine, self.cines_of(patients)))

    def patients_of_rows(self, rows):
        """[names], the patient of each row of `labels`."""
        return self.cines.patient[self.labelled.cine[rows]].tolist()

    def patient(self, cine):
        """The name of a cine's patient."""
        return str(self.cines.patient[cine])

    def length(self, cine):
        """The number of frames in a cine."""
        return int(self.cines.frames[cine])

    def frame(self, cine, t):
        """uint8 [S, S]: frame t of a cine, both from 0. IndexError outside, rather than a frame of the next cine."""
        if not (0 <= cine < len(self.cines) and 0 <= t < self.cines.frames[cine]):
            raise IndexError(f"{self.path}: there is no frame {t} in cine {cine}")
        return self.frames[self.cines.first[cine] + t]

    @cached_property
    def truth(self):
        """{cine: facts} of truth.json; {} without one."""
        file = self.path / "truth.json"
        return {int(cine): facts for cine, facts in layout.read_json(file).items()} if file.is_file() else {}
