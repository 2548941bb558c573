"""Hearts: EchoNet-Dynamic and CAMUS."""

import math
from array import array
from pathlib import Path

import numpy as np

from uscl.data.items import Drawing, Item, Listing, Mask, Shape
from uscl.data.recipes.tables import absent, files, matched, named, need, number, real, rows

MOST_FRAMES = 10**6  # a frame's number is from 0 up to this
PARTS = {"TRAIN": "train", "VAL": "validation", "TEST": "test"}
CHAMBERS = {1: "left_ventricle", 2: "myocardium", 3: "left_atrium"}
INFO = {"ImageQuality": "quality", "Sex": "sex", "Age": "age", "EF": "ef", "LVef": "ef", "LVedv": "edv", "LVesv": "esv"}
SUFFIXES = (".nii.gz", ".nii", ".mhd")  # of CAMUS today, unpacked, and as it was first given out


def echonet(root: Path) -> Listing:
    """EchoNet-Dynamic: apical four-chamber cines, the left ventricle traced on two frames, ejection fraction and volumes.

    Every file is another patient, as the set promises; FileList.csv says who trains, validates and tests. Videos nobody traced have no
    marks. Raises UserError where Videos or one of the two tables is missing.
    """
    table, traced = need(root, "FileList.csv"), need(root, "VolumeTracings.csv")
    found = {path.stem: path for path in files(need(root, "Videos"), ".avi")}
    listing = Listing(order=["left_ventricle"], classes={"left_ventricle": ["left_ventricle"]}, public=True)
    marks = _ventricles(listing, root, traced)
    entries = rows(table, "FileName", "EF", "ESV", "EDV", "FPS", "Split")
    for path, row in matched(listing, root, found, table, entries, lambda row: row["FileName"].removesuffix(".avi")):
        if (part := PARTS.get(row["Split"].upper())) is None:
            listing.rejected.append((named(root, path), f"Split in its row of {table.name} is not one of {', '.join(PARTS)}"))
            continue
        about = {name.lower(): row[name] for name in ("EF", "ESV", "EDV")}
        drawn = tuple(marks.get(path.stem, ()))
        listing.items.append(Item((path,), named(root, path), path.stem, part, math.nan, 1000 / number(row["FPS"]), drawn, about))
    absent(listing, root, traced, [name for name in marks if name not in found])
    return listing


def _ventricles(listing: Listing, root: Path, table: Path) -> dict[str, list[Drawing]]:
    """{file's stem: its traced frames}. Of a frame the first row is the long axis, each other a chord across, from apex to valve."""
    lines: dict[tuple[str, str], array] = {}  # 32 bytes a line; the whole set has 420,000 of them
    for row in rows(table, "FileName", "X1", "Y1", "X2", "Y2", "Frame"):
        ends = lines.setdefault((row["FileName"].removesuffix(".avi"), row["Frame"]), array("d"))
        ends.extend(real(row[name]) for name in ("X1", "Y1", "X2", "Y2"))
    marks: dict[str, list[Drawing]] = {}
    for (name, frame), ends in lines.items():
        try:
            shape = Shape("left_ventricle", (outline(np.array(ends).reshape(-1, 4)),))
            marks.setdefault(name, []).append(Drawing((shape,), range(MOST_FRAMES).index(int(frame))))
        except ValueError:
            reason = f"frame {frame} of {name}: a tracing is a frame's number, a long axis and two chords or more; this one is left out"
            listing.rejected.append((named(root, table), reason))
    return marks


def outline(lines: np.ndarray) -> np.ndarray:
    """A traced ventricle as a ring. lines: [n, 4], the long axis and then chords x1 y1 x2 y2, n >= 3. -> float [2n - 2, 2] of (x, y).

    Down the first ends of the chords and up the second. The set counts whole numbers at the middle of a pixel, Shape at its corner:
    half a pixel is added. Raises ValueError: fewer lines, or a coordinate that is no number.
    Known value: chords (1, 2)-(5, 2), (2, 4)-(4, 4) -> (1.5, 2.5), (2.5, 4.5), (4.5, 4.5), (5.5, 2.5).
    """
    if len(lines) < 3 or not np.isfinite(lines).all():
        raise ValueError("a tracing is a long axis and two chords or more")
    return np.concatenate([lines[1:, :2], lines[:0:-1, 2:]]) + 0.5


def camus(root: Path) -> Listing:
    """CAMUS: two- and four-chamber views of 500 hearts, every frame of the half cycle labelled, or else its first and its last.

    Scale is in the files; quality, ejection fraction, sex, age and frame rate are in Info_VIEW.cfg; who trains, validates and tests is
    in database_split/subgroup_*.txt where they lie beside.
    """
    base = need(root, "CAMUS_public/database_nifti", "database_nifti", "training", "patient*")
    base = root if base.name.startswith("patient") else base
    parts = _subgroups(base.parent)
    values = {name: [name] for name in CHAMBERS.values()}
    listing = Listing(order=list(CHAMBERS.values()), classes=values, public=True)
    for folder in sorted(path for path in base.glob("patient*") if path.is_dir()):
        held = {path.name.removesuffix(s): path for s in SUFFIXES for path in folder.iterdir() if path.name.endswith(s)}
        for view in ("2CH", "4CH"):
            stem, info = f"{folder.name}_{view}", _info(folder / f"Info_{view}.cfg")
            half = f"{stem}_half_sequence"
            names = [half] if half in held and f"{half}_gt" in held else [f"{stem}_{phase}" for phase in ("ED", "ES")]
            for name in (name for name in names if name in held):
                gt, ms = held.get(f"{name}_gt"), 1000 / number(info.get("FrameRate", ""))
                marks = (Mask((gt,), None if name == half else 0, CHAMBERS),) if gt else ()
                about = {"view": view} | {INFO[key]: value for key, value in info.items() if key in INFO}
                part, ms = parts.get(folder.name), ms if name == half else math.nan
                listing.items.append(Item((held[name],), named(root, held[name]), folder.name, part, math.nan, ms, marks, about))
            if not any(name in held for name in names):
                listing.rejected.append((f"{named(root, folder)}/{stem}", "has neither a half sequence with its _gt nor ED and ES"))
    return listing


def _info(path: Path) -> dict[str, str]:
    """The lines `key: value` of a file, or nothing where it is missing."""
    lines = path.read_text(encoding="latin-1").splitlines() if path.is_file() else []
    return {key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in lines) if colon}


def _subgroups(folder: Path) -> dict[str, str]:
    lists = {part: folder / "database_split" / f"subgroup_{part}.txt" for part in ("training", "validation", "testing")}
    name = {"training": "train", "validation": "validation", "testing": "test"}
    return {patient: name[part] for part, path in lists.items() if path.is_file() for patient in path.read_text("latin-1").split()}
