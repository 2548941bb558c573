"""Still images and their masks, through Pillow: which mask goes with which image, and which numbers in masks are which class."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from uscl.data.recordings import READERS, Recording, check_size, luma, to_uint8
from uscl.types import UserError

MASK_NAME = re.compile(r"(.+)_mask(_\d+)?", re.IGNORECASE)  # NAME_mask, and NAME_mask_1 where an image has several
MOST_VALUES = 64  # distinct values in a mask; more is a smoothed or JPEG mask, whose edges would become classes of their own
CLASSES_FILE = "classes.json"


def read(path: Path) -> Recording:
    """An image as a recording of one frame, a TIFF of several pages as one of several. Transparency is dropped. No time, no scale."""
    with Image.open(path) as image:
        pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
        check_size(path, image.height, image.width, pages)
    return Recording(_frames(path, pages), math.nan, math.nan, path.name)


def _frames(path: Path, pages: int) -> Iterator[np.ndarray]:
    with Image.open(path) as image:
        for page in range(pages):
            image.seek(page)
            check_size(path, image.height, image.width)
            if image.mode.startswith("I"):  # 16-bit gray
                yield to_uint8(np.clip(np.asarray(image), 0, 65535), 16)
            elif image.mode == "F":
                raise UserError(f"{path.name}: its pixels are floating-point numbers of unknown range; allowed are 8 and 16 bits")
            else:
                yield luma(np.asarray(image.convert("RGB")))


def read_mask(paths: Iterable[Path]) -> np.ndarray:
    """Raw label values int32 [H, W] of an image's masks; where they overlap the first wins. 0 is background.

    A value is the index in a palette image, the level in a gray one (or one of three equal channels), in any other its colour as the
    number 0xRRGGBB.
    """
    raw = None
    for path in paths:
        with Image.open(path) as image:
            check_size(path, image.height, image.width)
            single = image.mode in ("P", "L", "1") or image.mode.startswith("I")
            x = np.asarray(image if single else image.convert("RGB")).astype(np.int32)
        if x.ndim == 3:
            same = (x[..., :1] == x).all()
            x = x[..., 0] if same else (x[..., 0] << 16) + (x[..., 1] << 8) + x[..., 2]
        if raw is not None and raw.shape != x.shape:
            raise UserError(f"{path.name}: a mask of {_size(x)} pixels beside one of {_size(raw)}; masks of one image have its size")
        raw = x if raw is None else np.where(raw == 0, x, raw)
    return raw


def check_mask(image: Path, masks: list[Path]) -> np.ndarray:
    """The distinct values in an image's masks. Raises UserError: another size than the image's, or more than 64 values."""
    raw = read_mask(masks)
    with Image.open(image) as picture:
        if raw.shape != (picture.height, picture.width):
            raise UserError(f"{masks[0].name}: a mask of {_size(raw)} pixels; its image has {picture.height} x {picture.width}")
        if getattr(picture, "n_frames", 1) > 1:
            raise UserError(f"{image.name}: {picture.n_frames} pages and one mask; a mask belongs to an image of one frame")
    if len(values := np.unique(raw)) > MOST_VALUES:
        raise UserError(f"{masks[0].name}: {len(values)} distinct values; a mask holds one value a class, at most {MOST_VALUES}")
    return values


def pair(files: Iterable[Path], annotations: Path | None = None) -> tuple[dict[Path, list[Path]], list[Path]]:
    """Which masks go with which image: ({image: masks, maybe none}, masks without an image), from file names alone.

    A mask is images/NAME.* -> masks/NAME.* or masks/NAME_mask.*, or NAME_mask.* (and NAME_mask_1.* ...) beside the image; with
    `annotations`, a folder, also NAME.* or NAME_mask.* in there. Suffixes of image and mask may differ.
    """
    images: dict[Path, list[Path]] = {}
    masks: list[tuple[Path, list[Path]]] = []  # a mask and the places, without suffix, its image may have
    for path in files:
        named = MASK_NAME.fullmatch(path.stem)
        stems = [path.stem, named[1]] if named else [path.stem]
        if path.parent.name == "masks":
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


def is_image(path: Path) -> bool:
    return READERS.get(path.suffix.lower()) == __name__


def named_classes(folder: Path) -> dict[str, list[int]] | None:
    """The classes.json in a folder of masks or else in one of the two above: {name: [values as in read_mask, or "#rrggbb"]}; or None."""
    for place in (folder, *folder.resolve().parents[:2]):
        if (file := place / CLASSES_FILE).is_file():
            try:
                found = json.loads(file.read_text(encoding="utf-8"))
                return {name: [int(v[1:], 16) if isinstance(v, str) else int(v) for v in values] for name, values in found.items()}
            except (ValueError, TypeError, AttributeError):
                raise UserError(f'{file}: must be {{"name": [values], ...}} with whole numbers or "#rrggbb" as values') from None
    return None


def code(values: Iterable[int], named: Mapping[str, list[int]] | None) -> tuple[dict[int, int], dict[str, list[int]]]:
    """Numbers the values found in masks 0..K-1 in rising order, background 0 first. -> {found: stored}, {class: [stored values]}.

    Without names the classes are class_1, class_2, ... Raises UserError: a value that no named class owns, or 0 owned by one.
    Known values: {0, 255} -> {0: 0, 255: 1}, {"class_1": [1]}; {0, 1, 2} with {"both": [1, 2]} -> unchanged, {"both": [1, 2]}.
    """
    owned = {v for group in (named or {}).values() for v in group}
    found = sorted({int(v) for v in values} | owned | {0})
    if named is not None and (0 in owned or (stray := set(found) - owned - {0})):
        fault = "0 is background and belongs to no class" if 0 in owned else f"the masks hold {sorted(stray)}, which no class has"
        raise UserError(f"{CLASSES_FILE}: {fault}; every other value in the masks belongs to at least one")
    stored = {value: i for i, value in enumerate(found)}
    named = named or {f"class_{i}": [value] for value, i in stored.items() if i}
    return stored, {name: [stored[v] for v in group] for name, group in named.items()}


def encode(raw: np.ndarray, stored: Mapping[int, int]) -> np.ndarray:
    """Raw label values -> stored ones, uint8; `stored` as from `code`, its keys rising."""
    keys = np.array(list(stored))
    index = np.searchsorted(keys, raw)
    if (keys[np.minimum(index, len(keys) - 1)] != raw).any():
        raise ValueError(f"a label value is not among {list(stored)}")
    return np.array(list(stored.values()), np.uint8)[index]


def _size(x: np.ndarray) -> str:
    return f"{x.shape[0]} x {x.shape[1]}"
