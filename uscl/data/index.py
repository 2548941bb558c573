"""Reads the files of a store and checks them against each other; what they hold is in `uscl.data.format`."""

import csv
import json

import numpy as np

from uscl.data import format as layout
from uscl.data.pixels import Pixels
from uscl.types import UserError


def open_pixels(path, shape):
    """The pixels of a .npy file that must hold uint8 of just this shape [count, S, S], and all of it."""
    try:
        with open(path, "rb") as file:
            np.lib.format.read_magic(file)
            found, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            offset = file.tell()
    except ValueError as error:
        raise UserError(f"{path}: this is no .npy file ({error})") from None
    if found != shape or dtype != np.uint8 or fortran:
        raise UserError(f"{path}: found {dtype} {list(found)}; store.json and the index ask for uint8 {list(shape)}")
    promised = offset + int(np.prod(found, dtype=np.int64))
    if (size := path.stat().st_size) != promised:
        raise UserError(f"{path}: found {size} bytes; its header promises {promised}, so the copy is not whole")
    return Pixels(path, shape[0], shape[1], offset)


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
    for name in layout.REQUIRED:
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: the file is missing; a store holds {', '.join(layout.REQUIRED)}")
    file = folder / "store.json"
    info = read_json(file)
    if not isinstance(info, dict) or info.get("format") != layout.FORMAT:
        found = info.get("format") if isinstance(info, dict) else info
        raise UserError(f"{file}: the format is {found!r:.80}; it must be {layout.FORMAT!r}")
    if info.get("version") != layout.VERSION:
        found = info.get("version")
        raise UserError(f"{file}: found version {found!r}; supported is {layout.VERSION}, so prepare the store again")
    for key, kind in layout.INFO.items():
        if not isinstance(info.get(key), kind):
            raise UserError(f"{file}: {key!r} is {info.get(key)!r:.80}; it must be of type {kind.__name__}")
    if info["values"] != (values := layout.label_values(info["classes"], where=file)):
        raise UserError(f"{file}: 'values' is {info['values']}; the classes and the background make {values}")
    return info


def read_table(path):
    """A csv file of the store as a record array, one field a column of `format.COLUMNS`."""
    columns = layout.COLUMNS[path.name]
    head, lines = _lines(path)
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
    files = [folder / name for name in layout.COLUMNS]
    cines, labelled = (read_table(file) for file in files)
    wrong = (cines.cine != np.arange(len(cines))) | (cines.frames < 1)
    wrong |= cines.first != np.cumsum(cines.frames) - cines.frames
    if wrong.any():
        line, rule = wrong.argmax(), "cines count from 0 and their frames follow one another"
        raise UserError(f"{files[0]}, line {line + 2}: found {cines[line]}; {rule}")
    if (found := int(cines.frames.sum())) != total or not total:
        raise UserError(f"{files[0]}: its cines have {found} frames; store.json says {total}, and 1 is the least")
    cine = np.minimum(labelled.cine, len(cines) - 1)
    wrong = (labelled.row != np.arange(len(labelled))) | (labelled.cine != cine)
    wrong |= labelled.frame >= cines.frames[cine]
    again = np.ones(len(labelled), bool)
    again[np.unique(cines.first[cine] + labelled.frame, return_index=True)[1]] = False
    if (wrong | again).any():
        line, rule = (wrong | again).argmax(), "rows count from 0, each a frame of a cine, none twice"
        raise UserError(f"{files[1]}, line {line + 2}: found {labelled[line]}; {rule}")
    return cines, labelled


def read_attributes(path, cines):
    """attributes.csv as {column: [one text a cine]}."""
    head, lines = _lines(path)
    if head[:1] != ["cine"] or len(set(head)) != len(head):
        raise UserError(f"{path}: its first line is {','.join(head)!r}; it must be 'cine' and columns of different names")
    for number, line in enumerate(lines, 2):
        if len(line) != len(head) or line[0] != str(number - 2):
            raise UserError(f"{path}, line {number}: found {','.join(line)!r:.80}; there must be {len(head)} cells, the first {number - 2}")
    if len(lines) != cines:
        raise UserError(f"{path}: {len(lines)} lines; cines.csv has {cines}")
    return {name: [line[i] for line in lines] for i, name in enumerate(head) if i}


def _lines(path):
    """The first line of a csv file, and the others."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            head, *lines = list(csv.reader(file)) or [[]]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: this is no csv file in UTF-8 ({error})") from None
    return head, lines


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
