"""Unborn children: HC18 and FETAL_PLANES_DB."""

import math
import re
from pathlib import Path

from uscl.data.items import Item, Listing, Mask
from uscl.data.recipes.tables import files, matched, named, need, number, rows

HEAD = re.compile(r"(\d+)_\d*HC")  # 010_HC, and 010_2HC or 014_3HC where the same child was seen again
TAILS = {"_mask": False, "_Annotation": True}  # what a mask's name adds to its image's, and whether it is a mere outline; filled ones first
PLANES = {"Plane": "plane", "Brain_plane": "brain_plane", "Operator": "operator", "US_Machine": "machine"}


def hc18(root: Path) -> Listing:
    """HC18: fetal heads outlined by an ellipse, mm per pixel and head circumference; test_set, if it is there, has no masks.

    Takes the set as published (training_set, test_set) and a folder of images, masks_filled and annotations_outline. Training and test
    set both number their children from 0: child NNN of the test set is patient "test NNN".
    """
    need(root, "training_set", "images", "test_set")
    listing = Listing(order=["head"], classes={"head": ["head"]}, public=True)
    training = "training_set_pixel_size_and_HC.csv"
    for folder, csv in (("training_set", training), ("images", training), ("test_set", "test_set_pixel_size.csv")):
        if (root / folder).is_dir():
            _heads(listing, root, folder, need(root, csv, f"{folder}/{csv}"))
    return listing


def _heads(listing: Listing, root: Path, folder: str, table: Path) -> None:
    beside = [name for name in ("masks_filled", "annotations_outline") if folder == "images" and (root / name).is_dir()]
    stills = [path for name in (folder, *beside) for path in files(root / name, ".png")]
    heads = {path.name: path for path in stills if HEAD.fullmatch(path.stem)}
    masks = {path.stem: path for path in stills if path.name not in heads}
    entries = rows(table, "filename", "pixel size(mm)")
    for path, row in matched(listing, root, heads, table, entries, lambda row: row["filename"]):
        child, mm = HEAD.fullmatch(path.stem)[1], number(row["pixel size(mm)"])
        drawn = [Mask((masks[path.stem + tail],), 0, {255: "head"}, line) for tail, line in TAILS.items() if path.stem + tail in masks]
        about = {"head_circumference_mm": row.get("head circumference (mm)", "")}
        patient = f"test {child}" if folder == "test_set" else child
        listing.items.append(Item((path,), named(root, path), patient, None, mm, math.nan, tuple(drawn[:1]), about))
    owned = {Path(name).stem + tail for name in heads for tail in TAILS}
    for path in (path for stem, path in masks.items() if stem not in owned):
        listing.rejected.append((named(root, path), "neither an image NNN_HC.png nor a mask of one that is there"))


def fetal_planes(root: Path) -> Listing:
    """FETAL_PLANES_DB: stills with plane, plane of the brain, operator and machine; the table says who trains and who tests."""
    table, stills = need(root, "FETAL_PLANES_DB_data.csv"), files(need(root, "Images"), ".png")
    listing, found = Listing(public=True), {path.stem: path for path in stills}
    entries = rows(table, "Image_name", "Patient_num", "Train", *PLANES)
    for path, row in matched(listing, root, found, table, entries, lambda row: row["Image_name"].removesuffix(".png")):
        part = {"1": "train", "0": "test"}.get(row["Train"])
        if part is None or not row["Patient_num"]:
            listing.rejected.append((named(root, path), f"its row of {table.name} lacks a patient, or 1 or 0 under Train"))
            continue
        about = {name: row[column] for column, name in PLANES.items()}
        listing.items.append(Item((path,), named(root, path), row["Patient_num"], part, attributes=about))
    return listing
