"""Where weights come from: the run they lie in, the runs before that one, and the stores all of them learnt from."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from uscl.config import flatten
from uscl.data.store import Store
from uscl.models.resnet_names import PICKLED
from uscl.types import UserError

FILES = (".safetensors", *PICKLED)  # endings of files of weights; of pickles their reader says why they are not opened
PIECE = 256  # images read at once

Tell = Callable[[str], None]


def is_file(path: str) -> bool:
    """Whether `config.start` names a file of weights rather than a run's folder; it need not be there."""
    return Path(path).suffix.lower() in FILES and not Path(path).is_dir()


def read_run(path: str | Path) -> tuple[Path, dict[str, Any]]:
    """A run's folder and its flat configuration. UserError where there is none."""
    folder = Path(path)
    return folder, flatten(_json(folder / "config.json"))


def line(path: str, tell: Tell) -> list[tuple[Path, dict[str, Any]]]:
    """(folder, {"path", "checksum", "test"} of its store) of the run in `path` and of those before it, the newest first.

    A run that began from one on its own store shares its test with that, so the line goes on only where `start_elsewhere` let another
    store in. Where it can't be followed to its beginning, `tell` says so. UserError where `path` itself holds no run.
    """
    found: list[tuple[Path, dict[str, Any]]] = []
    while path and not is_file(path) and Path(path) not in [folder for folder, _ in found]:
        try:
            folder, kept = read_run(path)
            noted = _json(folder / "environment.json").get("store", {})
        except UserError as error:
            if not found:
                raise
            tell(f"start: {error}; the run in {found[-1][0]} began there, and what that one learnt from could not be checked")
            break
        found.append((folder, noted))
        path = kept.get("start", "") if kept.get("start_elsewhere") else ""
    return found


def check(store: Store, folder: Path, noted: dict[str, Any], tell: Tell) -> None:
    """UserError where a frame of `store`'s test patients is among those of the store that the run in `folder` learnt from.

    Any patient of that store counts, whatever its split. The same frame is one of the same pixels: a recording that was prepared at another
    size or in another way is not known again, and images of one gray value are nobody's. One line by `tell` says what was held against
    what, or why it could not be.
    """
    try:
        other = _opened(folder, noted)
    except (UserError, OSError) as error:
        tell(f"start: {error}; so it could not be checked whether the run in {folder} has learnt from this run's test patients")
        return
    met = shared(store, other)
    if met:
        mine, theirs = (_named(one, *place) for one, place in zip((store, other), met, strict=True))
        raise UserError(
            f"config.start: {mine}, who is kept for the test of {store.path}, is {theirs} in {other.path}, which the run in {folder} "
            "learnt from; start from a run that has not seen the test patients"
        )
    sizes = "" if store.size == other.size else f"; their sides are {store.size} and {other.size} px, so none could be known again"
    counts = f"{len(_rows(store))} frames of the test patients, {len(other.frames)} of {other.path}"
    tell(f"start: the run in {folder} learnt from another store: {counts}, no two of the same pixels{sizes}")


def shared(store: Store, other: Store) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """((cine, frame) of `store`'s test patients, (cine, frame) of `other`) with the same pixels, the first one met; None without any."""
    if store.size != other.size:
        return None
    known = {digest: row for row, digest in _prints(store.frames, _rows(store))}
    for row, digest in _prints(other.frames, np.arange(len(other.frames))) if known else ():
        if digest in known:
            return _place(store, known[digest]), _place(other, row)
    return None


def _opened(folder: Path, noted: dict[str, Any]) -> Store:
    """The store as the run noted it, at the place it noted or, as a phantom moves with its run, in the run's own folder."""
    places = [Path(noted.get("path", "")), folder / "data"]
    other = Store.open(next((place for place in places if place.name and place.is_dir()), places[0]))
    if other.checksum != noted.get("checksum"):
        raise UserError(f"{other.path}: its checksum is {other.checksum}, and was {noted.get('checksum')} in the run's environment.json")
    return other


def _rows(store: Store) -> np.ndarray:
    """int64 [n]: the frames of the test patients."""
    cines = store.cines_of(store.patients("test"))
    each = [np.arange(first, first + count) for first, count in zip(store.cines.first[cines], store.cines.frames[cines], strict=True)]
    return np.concatenate([np.zeros(0, np.int64), *each])


def _prints(pixels, rows: np.ndarray) -> Iterator[tuple[int, bytes]]:
    """(row, 16 bytes that only the same pixels have) of the images of more than one gray value."""
    for start in range(0, len(rows), PIECE):
        some = rows[start : start + PIECE]
        for row, image in zip(some.tolist(), pixels[some], strict=True):
            if image.min() < image.max():
                yield row, hashlib.blake2b(image, digest_size=16).digest()


def _place(store: Store, row: int) -> tuple[int, int]:
    cine = int(np.searchsorted(store.cines.first, row, side="right")) - 1
    return cine, row - int(store.cines.first[cine])


def _named(store: Store, cine: int, frame: int) -> str:
    return f"frame {frame} of cine {cine} of patient {store.patient(cine)}"


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"config.start: {path} can't be read ({error}); name a run's folder, the --workdir of launch/main.py") from error
