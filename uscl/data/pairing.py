"""Which mask goes with which image, from file names alone."""

import re
from collections.abc import Iterable
from pathlib import Path

from uscl.data.images import is_image

MASK_NAME = re.compile(r"(.+)_(mask|seg|gt|label)(_\d+)?", re.IGNORECASE)  # NAME_mask, and NAME_mask_1 where an image has several
MASK_FOLDERS = ("masks", "labels")


def pair(files: Iterable[Path], annotations: Path | None = None) -> tuple[dict[Path, list[Path]], list[Path]]:
    """Which masks go with which image: ({image: masks, maybe none}, masks without an image), from file names alone.

    A mask of images/NAME.* is NAME.* or NAME_mask.* in masks/ or labels/ beside images/; of any image, NAME_mask.* (NAME_mask_1.* ...)
    beside it; with `annotations`, a folder, also NAME.* or NAME_mask.* in there. _seg, _gt and _label stand for _mask as well. Suffixes
    of image and mask may differ.
    """
    images: dict[Path, list[Path]] = {}
    masks: list[tuple[Path, list[Path]]] = []  # a mask and the places, without suffix, its image may have
    for path in files:
        named = MASK_NAME.fullmatch(path.stem)
        stems = [path.stem, named[1]] if named else [path.stem]
        if path.parent.name in MASK_FOLDERS:
            masks.append((path, [path.parent.parent / "images" / stem for stem in stems]))
        elif named:
            masks.append((path, [path.parent / named[1]]))
        else:
            images[path] = []
    place = {path.with_suffix(""): path for path in images}
    lonely = [path for path, places in masks if not any(p in place for p in places)]
    for path, places in masks:
        if image := next((place[p] for p in places if p in place), None):
            images[image].append(path)
    if annotations is not None:
        given: dict[str, list[Path]] = {}
        for path in sorted(p for p in annotations.rglob("*") if is_image(p)):
            named = MASK_NAME.fullmatch(path.stem)
            given.setdefault(named[1] if named else path.stem, []).append(path)
        for image, found in images.items():
            found += given.get(image.stem, [])
    return images, lonely
