"""Breasts: BUSI."""

import re
from pathlib import Path

from uscl.data.items import Item, Listing, Mask
from uscl.data.recipes.tables import files, named, need

KINDS = ("benign", "malignant", "normal")
MASK = re.compile(r"(.+)_mask(_\d+)?")  # benign (4)_mask, and benign (4)_mask_1 for a second lesion


def busi(root: Path) -> Listing:
    """BUSI: stills of breasts in folders benign, malignant and normal, lesions as masks, several of one image joined.

    Normal images have masks without a lesion. The set names no patients and holds some pictures twice: every file counts as a patient
    of its own, and what looks alike is left to the audit of the split.
    """
    base = need(root, "Dataset_BUSI_with_GT", *KINDS)
    base = root if base.name in KINDS else base
    listing = Listing(order=["lesion"], classes={"lesion": ["lesion"]}, public=True)
    for kind in KINDS:
        stills: dict[str, Path] = {}
        masks: dict[str, list[Path]] = {}
        for path in files(need(base, kind), ".png"):
            if of := MASK.fullmatch(path.stem):
                masks.setdefault(of[1], []).append(path)
            else:
                stills[path.stem] = path
        for stem, path in stills.items():
            own = tuple(masks.pop(stem, ()))
            marks = (Mask(own, 0, {255: "lesion"}),) if own else ()
            listing.items.append(Item((path,), named(root, path), stem, marks=marks, attributes={"class": kind}))
        lonely = [path for paths in masks.values() for path in paths]
        listing.rejected += [(named(root, path), "a mask whose image is not there; NAME.png goes with NAME_mask.png") for path in lonely]
    return listing
