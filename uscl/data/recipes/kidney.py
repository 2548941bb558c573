"""Kidneys: the Open Kidney Ultrasound Data Set."""

import math
import re
from pathlib import Path

import numpy as np

from uscl.data import annotations
from uscl.data.items import Drawing, Item, Listing, Shape
from uscl.data.recipes.tables import absent, files, named, need, number, rows

ORDER = ["Capsule", "Central Echo Complex", "Medulla", "Cortex"]  # as the authors paint them
CLASSES = {"capsule": ORDER, "central_echo_complex": ORDER[1:2], "medulla": ORDER[2:3], "cortex": ORDER[3:]}
NAME = re.compile(r"(\d+)_(IM-[\d-]*\d)(_anon)?")
COPIES = {  # images shown twice more to the sonographers, under numbers that are other patients'
    "IM-0262-0009": ("400", "404"), "IM-0112-0078": ("401", "413"), "IM-0026-0001": ("402", "414"), "IM-0149-0027": ("403", "417"),
    "IM-0084-0022": ("404", "422"), "IM-0115-17408": ("405", "500"), "IM-0068-0078": ("406", "457"), "IM-0055-0009": ("407", "599"),
    "IM-0885-0031": ("408", "419"), "IM-0787-0013": ("409", "610"),
}  # fmt: skip


def open_kidney(root: Path) -> Listing:
    """Open Kidney Ultrasound: stills with capsule, central echo complex, medulla and cortex as sonographer 1 drew them.

    A patient is the number its file names start with. mm per pixel come from the sheet of transducers, where it lies beside as csv.
    A cortex or medulla that is not drawn may still be in the picture.
    """
    table = need(root, "labels/reviewed_labels_1.csv", "reviewed_labels_1.csv")
    found = files(need(root, "images", "labels/images"), ".png")
    drawn, mm = annotations.read(table, attribute="Anatomy"), _mm_per_pixel(root)
    faults = dict(drawn.rejected)
    listing = Listing(order=list(ORDER), classes={name: list(owned) for name, owned in CLASSES.items()}, public=True)
    for path in found:
        parts = NAME.fullmatch(path.stem)
        shapes = [shape for shape in drawn.of.get(path.name, ()) if not is_rectangle(shape)]
        if parts is None:
            reason = "its name is not NUMBER_IM-NUMBERS_anon.png"
        elif parts[1] in COPIES.get(parts[2], ()):
            reason = "one of the 20 copies made to see how a sonographer repeats; the original has another number"
        elif path.name not in drawn.of:
            reason = faults.pop(path.name, f"no row of {table.name} is about it")
        elif stray := {shape.name for shape in shapes} - set(ORDER):
            reason = f"a region is {min(stray)!r}; allowed are {', '.join(ORDER)}"
        else:
            drawing = Drawing(tuple(sorted(shapes, key=lambda s: ORDER.index(s.name))), size=drawn.sizes.get(path.name))
            scale, about = mm.get(f"{parts[1]}_{parts[2]}", math.nan), _facts(drawn.facts.get(path.name, {}))
            marks, name = (drawing,) if shapes else (), named(root, path)
            listing.items.append(Item((path,), name, parts[1], None, scale, marks=marks, attributes=about))
            continue
        listing.rejected.append((named(root, path), reason))
    listing.rejected += [(named(root, table), f"{name}: {reason}") for name, reason in faults.items()]
    absent(listing, root, table, drawn.of.keys() - {path.name for path in found})
    return listing


def is_rectangle(shape: Shape) -> bool:
    """Whether a region is an upright box: everything was traced with 6 points or more, so the one there is was a slip of the mouse."""
    return len(shape.rings) == 1 and all(len(np.unique(shape.rings[0][:, axis])) == 2 for axis in (0, 1))


def _facts(told: dict[str, str]) -> dict[str, str]:
    """The comments are free text and stay where they are, but that a kidney is a transplant stands only there."""
    transplant = "transplant" in told.get("Comments", "").lower()
    return {"quality": told.get("Quality", ""), "view": told.get("View", ""), "transplant": "yes" if transplant else "no"}


def _mm_per_pixel(root: Path) -> dict[str, float]:
    """From the transducer sheet saved as csv: cm per pixel with either sign, 1 standing for unknown."""
    scale = {}
    for sheet in sorted(root.glob("*TransducerInfo*.csv"))[:1]:
        for row in rows(sheet, "Filename", "Physical Delta X"):
            cm = number(row["Physical Delta X"].lstrip("-"))
            scale[row["Filename"]] = math.nan if cm == 1 else 10 * cm
    return scale
