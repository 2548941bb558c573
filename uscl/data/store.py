"""`Store.open` checks a store and maps its index; pixels are read when asked for. The format: `uscl.data.format`."""

from functools import cached_property
from pathlib import Path

import numpy as np

from uscl.data import format as layout
from uscl.data import index
from uscl.data.splits import check
from uscl.types import UserError


class Store:
    """A checked store. Only its index is in memory; `frames` uint8 [F, S, S], `labels` [L, S, S], `beams` [cines, S, S] are read as asked.

    cines, labelled: record arrays of cines.csv and labels.csv (`store.cines.patient`, `store.labelled.frame`), nan
    where a number is unknown. attributes {column: [one text a cine]}, splits {part: [patients]}, classes {name: [values]}, values K,
    size S, origin, checksum.
    """

    @classmethod
    def open(cls, path):
        """Opens the folder. UserError, a sentence naming the file, at the first thing not as `uscl.data.format` says."""
        store, path = cls(), Path(path)
        info = index.read_info(path)
        store.path, store.digests, store.checksum = path, info["sha256"], info["checksum"]
        store.size, store.values, store.classes = info["size"], info["values"], info["classes"]
        store.origin = info["origin"]
        store.cines, store.labelled = index.read_index(path, info["frames"])
        store.attributes = index.read_attributes(path / "attributes.csv", len(store.cines))
        counts = zip(layout.PIXELS, (info["frames"], len(store.labelled), len(store.cines)), strict=True)
        stacks = [index.open_pixels(path / name, (count, store.size, store.size)) for name, count in counts]
        store.frames, store.labels, store.beams = stacks
        store._check_labels()
        store.splits = index.read_json(path / "splits.json")
        patients = store.cines.patient.tolist()
        check(store.splits, patients, {patients[cine] for cine in store.labelled.cine}, file=path / "splits.json")
        return store

    def _check_labels(self):
        for row in range(len(self.labels)):
            if (value := self.labels[row].max()) >= self.values:
                where = f"row {row} (cine {self.labelled.cine[row]}, frame {self.labelled.frame[row]})"
                rule = f"no class owns it; the classes are {self.classes}"
                raise UserError(f"{self.path / 'labels.npy'}: {where} holds the label value {value}; {rule}")

    def verify(self):
        """Reads every byte and compares with the checksums of store.json. UserError names the file that has changed."""
        skip = {name: pixels.offset for name, pixels in zip(layout.PIXELS, (self.frames, self.labels, self.beams), strict=True)}
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
        return {int(cine): facts for cine, facts in index.read_json(file).items()} if file.is_file() else {}
