"""The format of a store, version 1, and the reading of its files.

A folder. S is the side of the frames in pixels, K the number of label values with background 0.
  store.json   "format", "version", "size" S, "frames" F, "classes" {name: [label values]}, "values" K, "origin",
               "sha256" {file: of its pixels or its text}, "checksum" (the sha256 of those four)
  frames.npy   uint8 [F, S, S], cine after cine       labels.npy   uint8 [L, S, S], values 0..K-1
  cines.csv    cine,patient,first,frames,frame_ms,mm_per_pixel,source      one line a cine; an empty number is unknown
  labels.csv   row,cine,frame                         one line a labelled frame; row counts in labels.npy
  splits.json  {"train": [patients], "validation": [...], "test": [...]}   may be edited
  truth.json   {cine: facts}, only where the writer was given any: what a phantom knows of itself
"""

import csv
import hashlib
import json
import os

import numpy as np

from uscl.types import UserError

FORMAT, VERSION = "uscl-store", 1
INFO = {"size": int, "frames": int, "classes": dict, "values": int, "origin": str, "sha256": dict, "checksum": str}
CINES = {"cine": int, "patient": str, "first": int, "frames": int}
CINES |= {"frame_ms": float, "mm_per_pixel": float, "source": str}
COLUMNS = {"cines.csv": CINES, "labels.csv": {"row": int, "cine": int, "frame": int}}
HASHED = ("frames.npy", "labels.npy", *COLUMNS)
REQUIRED = ("store.json", *HASHED, "splits.json")
FILES = (*REQUIRED, "truth.json")


def label_values(classes, *, where):
    """K: one more than the label values that {name: [values]} owns: 1, 2, ... with no gap. Classes may share values."""
    lists = all(isinstance(v, list) and v and all(type(value) is int for value in v) for v in classes.values())
    owned = sorted({value for values in classes.values() for value in values}) if lists else []
    if not owned or owned != list(range(1, len(owned) + 1)) or len(owned) > 255:
        rule = "each needs a list of label values, together 1, 2, ... with no gap, up to 255"
        raise UserError(f"{where}: the classes are {classes}; {rule}")
    return len(owned) + 1


def sha256(path, *, skip=0):
    """Of a file's bytes from `skip` on, read in pieces."""
    with open(path, "rb") as file:
        file.seek(skip)
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum(digests):
    """One sha256 for the four of HASHED."""
    return hashlib.sha256("".join(digests[name] for name in HASHED).encode()).hexdigest()


class Stack:
    """A .npy file of uint8 [count, size, size] that grows as it is written, hashing its pixels on the way.

    NumPy pads the header so that its first dimension can be rewritten in place; `close` puts the count there.
    """

    def __init__(self, path, size):
        self.file, self.size, self.count, self.hash = open(path, "wb"), size, 0, hashlib.sha256()
        self.start = self._header()

    def append(self, images):
        data = np.ascontiguousarray(images, np.uint8).reshape(-1).data
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


def read_stack(path, shape):
    """The memory map of a .npy file that must hold uint8 of just this shape, and all of it."""
    try:
        with open(path, "rb") as file:
            np.lib.format.read_magic(file)
            found, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            promised = file.tell() + int(np.prod(found, dtype=np.int64)) * dtype.itemsize
    except ValueError as error:
        raise UserError(f"{path}: this is no .npy file ({error})") from None
    if found != shape or dtype != np.uint8 or fortran:
        raise UserError(f"{path}: found {dtype} {list(found)}; store.json and the index ask for uint8 {list(shape)}")
    if (size := path.stat().st_size) != promised:
        raise UserError(f"{path}: found {size} bytes; its header promises {promised}, so the copy is not whole")
    return np.load(path, mmap_mode="r", allow_pickle=False)


def read_json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: this is no JSON ({error})") from None


def read_info(folder):
    """store.json as a dict, once the folder has its files and says of itself what it must."""
    if not folder.is_dir():
        partial = folder.with_name(folder.name + ".partial")
        hint = f"; {partial} is an unfinished one, so prepare it again" if partial.is_dir() else ""
        raise UserError(f"{folder}: there is no such folder; launch/prepare.py makes a store{hint}")
    for name in REQUIRED:
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: the file is missing; a store holds {', '.join(REQUIRED)}")
    file = folder / "store.json"
    info = read_json(file)
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        found = info.get("format") if isinstance(info, dict) else info
        raise UserError(f"{file}: the format is {found!r:.80}; it must be {FORMAT!r}")
    if info.get("version") != VERSION:
        found = info.get("version")
        raise UserError(f"{file}: found version {found!r}; supported is {VERSION}, so prepare the store again")
    for key, kind in INFO.items():
        if not isinstance(info.get(key), kind):
            raise UserError(f"{file}: {key!r} is {info.get(key)!r:.80}; it must be of type {kind.__name__}")
    if info["values"] != (values := label_values(info["classes"], where=file)):
        raise UserError(f"{file}: 'values' is {info['values']}; the classes and the background make {values}")
    return info


def read_table(path):
    """A csv file of the store as a record array, one field a column of COLUMNS."""
    columns = COLUMNS[path.name]
    try:
        with open(path, newline="", encoding="utf-8") as file:
            head, *lines = list(csv.reader(file)) or [[]]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: this is no csv file in UTF-8 ({error})") from None
    if head != list(columns):
        raise UserError(f"{path}: its first line is {','.join(head)!r}; it must be {','.join(columns)!r}")
    for number, line in enumerate(lines, 2):
        if len(line) != len(columns):
            raise UserError(f"{path}, line {number}: found {len(line)} cells; there must be {len(columns)}")
    cells = zip(*lines, strict=True) if lines else [()] * len(columns)
    parsed = [
        np.array([_parse(text, kind, f"{path}, line {number}, {name}") for number, text in enumerate(column, 2)], kind)
        for (name, kind), column in zip(columns.items(), cells, strict=True)
    ]
    return np.rec.fromarrays(parsed, names=list(columns))


def read_index(folder, total):
    """cines.csv and labels.csv as record arrays, once they agree with each other and with the `total` of frames."""
    files = [folder / name for name in COLUMNS]
    cines, labelled = (read_table(file) for file in files)
    wrong = (cines.cine != np.arange(len(cines))) | (cines.frames < 1)
    wrong |= cines.first != np.cumsum(cines.frames) - cines.frames
    if wrong.any():
        line, rule = wrong.argmax(), "cines count from 0 and their frames follow one another"
        raise UserError(f"{files[0]}, line {line + 2}: found {cines[line]}; {rule}")
    if (found := int(cines.frames.sum())) != total or not total:
        raise UserError(f"{files[0]}: its cines have {found} frames; store.json says {total}, and 1 is the least")
    if not len(labelled):
        raise UserError(f"{files[1]}: there is no labelled frame; train, validation and test need one each")
    cine = np.minimum(labelled.cine, len(cines) - 1)
    wrong = (labelled.row != np.arange(len(labelled))) | (labelled.cine != cine)
    wrong |= labelled.frame >= cines.frames[cine]
    again = np.ones(len(labelled), bool)
    again[np.unique(cines.first[cine] + labelled.frame, return_index=True)[1]] = False
    if (wrong | again).any():
        line, rule = (wrong | again).argmax(), "rows count from 0, each a frame of a cine, none twice"
        raise UserError(f"{files[1]}, line {line + 2}: found {labelled[line]}; {rule}")
    return cines, labelled


def _parse(text, kind, where):
    if kind is str:
        return text
    if kind is float and text == "":
        return np.nan
    try:
        value = kind(text)
        if (0 <= value < 2**62) if kind is int else (0 < value < np.inf):
            return value
    except ValueError:
        pass
    rule = "a whole number from 0" if kind is int else "a number above 0, or nothing where it is unknown"
    raise UserError(f"{where}: found {text!r}; allowed is {rule}")
