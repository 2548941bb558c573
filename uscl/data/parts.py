"""One recording made ready for a store, kept on disk until all are: so preparing is parallel, and goes on after a kill."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uscl.data.index import open_pixels
from uscl.data.items import Drawing, Item, Mask
from uscl.data.pixels import Pixels

VERSION = 2  # of what `uscl.data.making` does; another number makes old parts worthless


@dataclass(frozen=True)
class Settings:
    """What a part depends on beside its item: side of the frames [px], which frames are kept, whether the beam is sought, the secret."""

    size: int
    every: int = 1
    most: int | None = None
    beam: bool = True
    salt: str = field(default="", repr=False)


@dataclass(frozen=True)
class Part:
    """frames uint8 [T, S, S], labels [L, S, S] of local values, beam [1, S, S]; prints [T, 40], as `audit.fingerprint` makes; and facts:

    frames, labelled (frame numbers), keys (what a local value 1, 2, ... stands for), area, overlap (as in a Raster), frame_ms and mm of a
    pixel of the file, scale (file pixels in a stored one), person (a pseudonym, or ""), found (how the picture was), notes (sentences).
    """

    facts: Mapping[str, Any]
    frames: "Late"
    labels: "Late"
    beam: "Late"
    prints: np.ndarray


class Late:
    """Images [n, S, S] read when they are asked for, so that thousands of parts keep no file open and take no memory.

    pixels: what opens the stack. places: which of its images. lut: uint8 [256] that their values go through, or None.
    """

    def __init__(self, pixels: Callable[[], Pixels], places: np.ndarray, size: int, lut: np.ndarray | None = None):
        self.pixels, self.places, self.lut = pixels, places, lut
        self.shape, self.dtype = (len(places), size, size), np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index):
        images = self.pixels()[self.places[index]]
        return images if self.lut is None else self.lut[images]


def key(item: Item, settings: Settings) -> str:
    """32 hexadecimal digits that change with the item's files (their size and time), its marks and the settings."""
    words: list[Any] = [VERSION, item.name, str(settings), hashlib.sha256(settings.salt.encode()).hexdigest()]
    files = [*item.paths, *(p for mark in item.marks if isinstance(mark, Mask) for p in mark.paths)]
    for path in files:
        stat = path.stat()
        words += [path.name, stat.st_size, stat.st_mtime_ns]
    for mark in item.marks:
        if isinstance(mark, Drawing):
            words += [mark.frame, mark.size, [(s.name, [r.tolist() for r in s.rings], s.runs) for s in mark.shapes]]
        else:
            words += [mark.frame, mark.outline, sorted((mark.values or {}).items())]
    return hashlib.sha256(json.dumps(words, default=str).encode()).hexdigest()[:32]


def load(folder: Path) -> Part | None:
    """The part in a folder; None where it is not there. Folders are renamed into place, so one that is there is whole."""
    if not folder.is_dir():
        return None
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    counts = {"frames": facts["frames"], "labels": len(facts["labelled"]), "beam": 1}
    prints = np.load(folder / "prints.npy", allow_pickle=False)
    return Part(facts, prints=prints, **{name: _late(folder, name, count, facts) for name, count in counts.items()})


def _late(folder: Path, name: str, count: int, facts: Mapping[str, Any]) -> Late:
    shape = (count, facts["size"], facts["size"])
    return Late(lambda: open_pixels(folder / f"{name}.npy", shape), np.arange(count), facts["size"])
