"""Folders that are there whole or not at all, whatever ends the process that writes them, and that tell when they were damaged."""
import errno
import json
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

CHECKSUMS = "checksums.json"
PARTIAL = ".partial"  # a folder being written or removed; whatever carries this in its name is nothing to read


def write(path: Path, fill: Callable[[Path], object], *, needs: int = 0) -> None:
    """Lets `fill(partial)` make the folder beside its place, adds the checksums of its files, and renames it to `path`.

    All bytes are on the disk before the rename, so it is whole after a power failure as well. What stood at `path` goes
    only then. Where `fill` or the disk fails, nothing is left of it, so that a full disk is not filled further; it is not
    begun where there are not `needs` bytes free, because few writers fail halfway without a word of their own.

    Raises:
        OSError: ENOSPC where the disk is full, or what the disk answered.
    """
    partial = path.with_name(path.name + PARTIAL)
    _sweep(partial)
    if shutil.disk_usage(path.parent).free < needs:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    try:
        fill(partial)
        (partial / CHECKSUMS).write_text(json.dumps(_checksums(partial), indent=0, sort_keys=True))
        for entry in [partial, *partial.rglob("*")]:
            _settle(entry)
        if path.exists():
            remove(path)
        os.replace(partial, path)
        _settle(path.parent)
    except Exception:
        _sweep(partial)
        raise


def remove(path: Path) -> None:
    """Out of sight first: a process killed halfway through leaves no half folder under a whole one's name."""
    if PARTIAL not in path.name:
        hidden = path.with_name(f"{path.name}.old{PARTIAL}")
        shutil.rmtree(hidden, ignore_errors=True)
        path = path.rename(hidden)
    shutil.rmtree(path, ignore_errors=True)


def damage(path: Path) -> str | None:
    """What is wrong with a folder's files, in a few words, or None. Reads every byte."""
    if not path.is_dir():
        return "no such folder"
    try:
        expected = json.loads((path / CHECKSUMS).read_text())
        found = _checksums(path)
    except (OSError, ValueError) as error:
        return f"{CHECKSUMS}: {error.__class__.__name__}"
    for name, checksum in expected.items():
        if found.get(name) != checksum:
            return f"{name} is {'altered' if name in found else 'missing'}"
    return None


def _checksums(path: Path) -> dict[str, int]:
    files = (file for file in path.rglob("*") if file.is_file() and file.name != CHECKSUMS)
    return {file.relative_to(path).as_posix(): zlib.crc32(file.read_bytes()) for file in files}


def _sweep(partial: Path) -> None:
    """Removes a folder that was being written, and the one beside it in which Orbax begins."""
    for entry in partial.parent.glob(partial.name + "*"):
        shutil.rmtree(entry, ignore_errors=True)


def _settle(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
