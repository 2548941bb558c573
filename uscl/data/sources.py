"""What lies below the sources: recordings, masks and which image each belongs to, folders that name a split, the classes in the masks."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from uscl.data import images, recordings
from uscl.types import UserError

PART_FOLDERS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}


@dataclass
class File:
    path: Path
    name: str  # the source's own name and the path below it
    part: str | None  # of the split, where folders say so
    masks: list[Path] = field(default_factory=list)


def find(sources: Sequence[Path], annotations: Path | None) -> tuple[list[File], list[tuple[str, str]], Counter]:
    """The files that have a reader, in a fixed order, with their masks; masks without an image; and how many have no reader."""
    files, table, ignored, known = [], [], Counter(), set()
    for path in [*sources, *([] if annotations is None else [annotations])]:
        if not path.exists():
            raise UserError(f"{path}: there is no such file or folder; give recordings or a folder of them")
    if annotations is not None and not annotations.is_dir():
        raise UserError(f"{annotations}: is a file; --annotations is a folder of masks, one image file for each image")
    for source in sources:
        root = source if source.is_dir() else source.parent
        found = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
        found = [p for p in found if not any(part.startswith(".") for part in p.relative_to(root).parts)]
        found = [p for p in found if annotations is None or not p.resolve().is_relative_to(annotations.resolve())]
        masks, lonely = images.pair([p for p in found if images.is_image(p)], annotations)
        lonely, tops = set(lonely), {p.relative_to(root).parts[0] for p in found}
        for path in found:
            below = path.relative_to(root)
            name = f"{root.resolve().name}/{below.as_posix()}"
            if path.resolve() in known:
                continue
            known.add(path.resolve())
            if path in lonely:
                table.append((name, "a mask whose image is not there; images/NAME goes with masks/NAME, or NAME with NAME_mask"))
            elif path in masks or (not images.is_image(path) and recordings.suffix_of(path) is not None):
                part = PART_FOLDERS.get(below.parts[0]) if {"train", "test"} <= tops else None
                files.append(File(path, name, part, masks.get(path, [])))
            elif not images.is_image(path):
                ignored[path.suffix or "no suffix"] += 1
    return files, table, ignored


def classes_of(files: list[File], table: list[tuple[str, str]]) -> tuple[dict[int, int], dict[str, list[int]]]:
    """Looks through all masks for their values, and takes files with a mask that will not do out of `files`."""
    values, named, first = set(), {}, None
    for file in [f for f in files if f.masks]:
        try:
            with recordings.told(file.masks[0]):
                values.update(images.check_mask(file.path, file.masks).tolist())
        except UserError as error:
            files.remove(file)
            table.append((file.name, str(error)))
            continue
        folder = file.masks[0].parent
        if folder not in named:
            named[folder] = images.named_classes(folder)
            first = folder if first is None else first
            if named[folder] != named[first]:
                raise UserError(f"{folder}: its classes are {named[folder]}, those of {first} {named[first]}; a store has one set of them")
    return images.code(values, named.get(first))
