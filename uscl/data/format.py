"""The format of a store, version 2, and the writing of its files; `uscl.data.index` reads them.

A folder. S is the side of the frames in pixels, K the number of label values with background 0.
  store.json      "format", "version", "size" S, "frames" F, "classes" {name: [label values]}, "values" K, "origin",
                  "plan" (of what made it), "sha256" {file: of its pixels or its text}, "checksum" (the sha256 of those)
  frames.npy      uint8 [F, S, S], cine after cine      labels.npy   uint8 [L, S, S], values 0..K-1
  beams.npy       uint8 [cines, S, S], 1 where the sound went, 0 in the margins
  cines.csv       cine,patient,first,frames,frame_ms,mm_per_pixel,source      one line a cine; an empty number is unknown
  labels.csv      row,cine,frame                        one line a labelled frame; row counts in labels.npy
  attributes.csv  cine and any columns, such as a diagnosis; one line a cine
  splits.json     {"train": [patients], "validation": [...], "test": [...]}, perhaps "folds"; may be edited
  truth.json      {cine: facts}, only where the writer was given any: what a phantom knows of itself
"""

import hashlib
import os

import numpy as np

from uscl.types import UserError

FORMAT, VERSION = "uscl-store", 2
INFO = {"size": int, "frames": int, "classes": dict, "values": int, "origin": str, "sha256": dict, "checksum": str}
CINES = {"cine": int, "patient": str, "first": int, "frames": int}
CINES |= {"frame_ms": float, "mm_per_pixel": float, "source": str}
COLUMNS = {"cines.csv": CINES, "labels.csv": {"row": int, "cine": int, "frame": int}}
PIXELS = ("frames.npy", "labels.npy", "beams.npy")
HASHED = (*PIXELS, *COLUMNS, "attributes.csv")
REQUIRED = ("store.json", *HASHED, "splits.json")
FILES = (*REQUIRED, "truth.json")
AT_ONCE = 64  # frames copied at a time, so that a long cine is never in memory whole


def label_values(classes, *, where):
    """K: one more than the label values that {name: [values]} owns: 1, 2, ... with no gap. Classes may share values; none: K = 1."""
    lists = all(isinstance(v, list) and v and all(type(value) is int for value in v) for v in classes.values())
    owned = sorted({value for values in classes.values() for value in values}) if lists else None
    if owned is None or owned != list(range(1, len(owned) + 1)) or len(owned) > 255:
        rule = "each needs a list of label values, together 1, 2, ... with no gap, up to 255"
        raise UserError(f"{where}: the classes are {classes}; {rule}")
    return len(owned) + 1


def sha256(path, *, skip=0):
    """Of a file's bytes from `skip` on, read in pieces."""
    with open(path, "rb") as file:
        file.seek(skip)
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum(digests):
    """One sha256 for the files of HASHED."""
    return hashlib.sha256("".join(digests[name] for name in HASHED).encode()).hexdigest()


class Stack:
    """A .npy file of uint8 [count, size, size] that grows as it is written, hashing its pixels on the way.

    NumPy pads the header so that its first dimension can be rewritten in place; `close` puts the count there.
    """

    def __init__(self, path, size):
        self.file, self.size, self.count, self.hash = open(path, "wb"), size, 0, hashlib.sha256()
        self.start = self._header()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()

    def append(self, images):
        """images: uint8 [n, size, size], or anything sliced into such."""
        for first in range(0, len(images), AT_ONCE):
            data = np.ascontiguousarray(images[first : first + AT_ONCE], np.uint8).reshape(-1).data
            self.file.write(data)
            self.hash.update(data)
        self.count += len(images)

    def close(self):
        """Puts the file on disk and returns the sha256 of its pixels."""
        with self.file:
            if self._header() != self.start:
                raise RuntimeError("this NumPy does not pad the header of a .npy file, so its count cannot be set")
            self.file.flush()
            os.fsync(self.file.fileno())
        return self.hash.hexdigest()

    def _header(self):
        header = {"descr": "|u1", "fortran_order": False, "shape": (self.count, self.size, self.size)}
        self.file.seek(0)
        np.lib.format.write_array_header_1_0(self.file, header)
        return self.file.tell()
