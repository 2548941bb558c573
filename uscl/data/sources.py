"""What lies below the sources: recordings, the marks on them, folders that name a split. Names are read here, pixels are not."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from uscl.data import annotations, classes, images, pairing, recipes, recordings
from uscl.data.items import Drawing, Item, Listing, Mask
from uscl.data.patients import composed
from uscl.types import UserError

PART_FOLDERS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
ARCHIVES = {".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar"}
NUMBER = re.compile(r"(.*?)(\d+)")  # a frame's file name: what the frames share, and which one it is


REMARK = "kept, but: "  # begins the reason of what is in the store all the same


def gather(sources: Sequence[str], *, marks=None, keep=(), sequences=False, outlines=False, attribute=None) -> Listing:
    """Everything below `sources`, each a file or a folder, or NAME:FOLDER with the name of a recipe; a file met twice counts once, with
    its marks. Where two folders have one name, the later goes by the name of the folder above as well.

    marks: a folder of masks for the images of the same names, or a file of drawings. sequences: numbered images are the frames of a cine.
    outlines: masks are closed curves to be filled. attribute: which attribute of a drawn region is its class. keep: which facts about the
    images, in a file of drawings, become attributes; others may hold names.

    Raises UserError: a source that is not there, or sources whose classes differ.
    """
    marks = None if marks is None else Path(marks)
    for path in [] if marks is None else [marks]:
        if not path.exists():
            raise UserError(f"{path}: there is no such file or folder; annotations are a folder of masks or a file of drawings")
    whole, known, roots = Listing(public=True), {}, {}
    for source in sources:
        name, _, rest = str(source).partition(":")
        recipe = recipes.RECIPES.get(name) if rest and not Path(source).exists() else None
        path = Path(rest if recipe else source)
        if not path.exists():
            hint = f"; before a colon, known are {', '.join(recipes.RECIPES)}" if rest else ""
            raise UserError(f"{path}: there is no such file or folder; give recordings or a folder of them{hint}")
        found = recipe(path) if recipe else find(path, masks=marks, outlines=outlines)
        if sequences:
            found.items = _sequences(found.items)
        _rename(found, path if path.is_dir() else path.parent, roots)
        fresh = []
        for item in found.items:
            if (at := known.get(item.paths[0].resolve())) is None:
                fresh.append(item)
            elif item.marks and not whole.items[at].marks:
                whole.items[at] = item
        known |= {item.paths[0].resolve(): at for at, item in enumerate(fresh, len(whole.items))}
        if whole.classes is not None and found.classes not in (None, whole.classes):
            raise UserError(f"{path}: its classes are {found.classes}, those before {whole.classes}; a store has one set of them")
        whole.items += fresh
        whole.order += [name for name in found.order if name not in whole.order]
        whole.classes = whole.classes or found.classes
        whole.rejected = list(dict.fromkeys([*whole.rejected, *found.rejected]))
        whole.ignored = list(dict.fromkeys([*whole.ignored, *found.ignored]))
        whole.public &= found.public
    if marks is not None and not marks.is_dir():
        _attach(whole, annotations.read(marks, attribute=attribute), keep)
        whole.classes = classes.named_classes(marks.parent) or whole.classes
    return whole


def _rename(found: Listing, root: Path, roots: dict[str, Path]) -> None:
    """Makes the names in a listing those of no other folder than `root`. roots: {what names begin with: the folder of that name}."""
    root = root.resolve()
    names = ["/".join(root.parts[-n:]) for n in range(1, len(root.parts))] or [root.name]
    name = next(name for name in names if roots.setdefault(name, root) == root)

    def longer(old: str) -> str:
        return name + old.removeprefix(root.name) if old.startswith(root.name + "/") else old

    if name != root.name:
        found.items = [replace(item, name=longer(item.name)) for item in found.items]
        found.rejected = [(longer(old), reason) for old, reason in found.rejected]
        found.ignored = [longer(old) for old in found.ignored]


def find(source: Path, *, masks: Path | None, outlines=False) -> Listing:
    """A plain file or folder. Where a folder has train/ and test/ (and perhaps validation/), these are the split.

    masks: a folder of masks for images of the same names; or another file, which is no recording. Dot-files and stores are skipped.
    """
    listing, root = Listing(), source if source.is_dir() else source.parent
    found = sorted(p for p in source.rglob("*") if p.is_symlink() or not p.is_dir()) if source.is_dir() else [source]
    found = [p for p in found if not any(part.startswith(".") for part in p.relative_to(root).parts)]
    found = [p for p in found if masks is None or not p.resolve().is_relative_to(masks.resolve())]
    stores = {p.parent for p in found if p.name == "store.json"}
    stores |= {p.with_name(p.name + ".private") for p in stores}
    found = [p for p in found if p.name != classes.CLASSES_FILE and (not stores or stores.isdisjoint(p.parents))]
    masks_of, lonely = pairing.pair([p for p in found if images.is_image(p)], masks if masks and masks.is_dir() else None)
    tops, named, lonely = {p.relative_to(root).parts[0] for p in found}, {}, set(lonely)
    for path in found:
        below = path.relative_to(root)
        name = f"{root.resolve().name}/{below.as_posix()}"
        if name != (shown := name.encode("utf-8", "backslashreplace").decode()):
            listing.rejected.append((shown, "its name is not in UTF-8; rename it, and it is read"))
        elif path.is_dir():
            listing.rejected.append((name, "a link to a folder, which is not followed; name that folder as another source"))
        elif not path.is_file():
            listing.rejected.append((name, "a link to nothing, or no file that can be read"))
        elif path in lonely:
            listing.rejected.append((name, "a mask whose image is not there; images/NAME goes with masks/NAME, or NAME with NAME_mask"))
        elif path.suffix.lower() in ARCHIVES and not path.name.lower().endswith(".nii.gz"):
            listing.rejected.append((name, "an archive; unpack it, and its files are read"))
        elif path in masks_of or (not images.is_image(path) and _readable(path, name, listing)):
            part = PART_FOLDERS.get(below.parts[0]) if {"train", "test"} <= tops else None
            paths = tuple(masks_of.get(path, ()))
            listing.items.append(Item((path,), name, part=part, marks=(Mask(paths, outline=outlines),) if paths else ()))
            if paths and paths[0].parent not in named:
                named[paths[0].parent] = classes.named_classes(paths[0].parent)
    if len({str(value) for value in named.values()}) > 1:
        (first, one), (other, two) = list(named.items())[0], next(x for x in named.items() if x[1] != list(named.values())[0])
        raise UserError(f"{other}: its classes are {two}, those of {first} {one}; a store has one set of them")
    listing.classes = next(iter(named.values()), None)
    return listing


def _readable(path: Path, name: str, listing: Listing) -> bool:
    try:
        if recordings.suffix_of(path) is not None:
            return True
        listing.ignored.append(name)
    except UserError as error:
        listing.rejected.append((name, str(error)))
    return False


def _sequences(items: list[Item]) -> list[Item]:
    """Images of one folder whose names differ by their last number alone become one item, in the order of the numbers."""
    groups: dict[tuple, list[tuple[int, Item]]] = {}
    for place, item in enumerate(items):
        path = item.paths[0]
        numbered = NUMBER.fullmatch(path.stem) if images.is_image(path) else None
        key = (path.parent, numbered[1], path.suffix) if numbered else (place,)
        groups.setdefault(key, []).append((int(numbered[2]) if numbered else 0, item))
    joined = []
    for group in groups.values():
        frames = [item for _, item in sorted(group, key=lambda pair: pair[0])]
        if len(frames) == 1:
            joined += frames
            continue
        first, last = frames[0], frames[-1]
        marks = tuple(replace(mark, frame=t) for t, item in enumerate(frames) for mark in item.marks)
        paths = tuple(item.paths[0] for item in frames)
        joined.append(replace(first, paths=paths, name=f"{first.name} to {last.paths[0].name}", marks=marks))
    return joined


def _attach(listing: Listing, drawn: "annotations.Drawings", keep: Sequence[str]) -> None:
    """Gives each drawing to the recording of its name; one that fits none, or several, is told."""
    places: dict[str, list[int]] = {}
    for i, item in enumerate(listing.items):
        parts = composed(item.name).split("/")
        for start in range(len(parts)):
            places.setdefault("/".join(parts[start:]), []).append(i)

    def found(name: str) -> list[int]:
        name = composed(name)
        return places.get(name.lstrip("./")) or places.get(name.rpartition("/")[2], [])

    listing.rejected += [(name, (REMARK if found(name) else "") + reason) for name, reason in drawn.rejected]
    listing.order += [name for name in drawn.order if name not in listing.order]
    for name, shapes in drawn.of.items():
        if len(at := found(name)) != 1:
            told = "is annotated, but there is no such image below the sources"
            listing.rejected.append((name, f"{len(at)} images have this name, so the annotation is nobody's" if at else told))
            continue
        item, facts = listing.items[at[0]], drawn.facts.get(name, {})
        attributes = {**item.attributes, **{column: facts[column] for column in keep if column in facts}}
        marks = (Drawing(shapes, size=drawn.sizes.get(name)),) if shapes else ()
        listing.items[at[0]] = replace(item, marks=marks, attributes=attributes)
