"""Reads one recording into a part of a store: its frames, its beam and its labels, all in the same picture."""

import errno
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from uscl.data import audit, masks, picture, recordings, sequences, shapes
from uscl.data.fit import fit, fit_label
from uscl.data.format import Stack
from uscl.data.items import Drawing, Item
from uscl.data.parts import Settings
from uscl.data.patients import pseudonym
from uscl.types import UserError

IN_MEMORY = 2**25  # bytes of whole frames kept before they go to disk
LOST = 0.005  # share of the labelled pixels that a beam may cut off; a beam that cuts off more is not the beam
SHOWN = 5  # numbers of frames in a sentence
NO_SPACE = "no space is left on the disk"  # a reason that ends everything, because every other file would meet it too


def make(task: tuple[Item, Settings, Path], beat: Callable[[], None]) -> None:
    """Reads one recording into a part's folder. Run in a process of its own; UserError where the recording will not do."""
    item, settings, folder = task
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with space(folder.parent):
            _write(item, settings, partial, beat)
            os.rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def space(folder: Path) -> Iterator[None]:
    """Turns a disk that is full into a UserError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{folder}: {NO_SPACE}; free some and start again, what is done is kept") from error
        raise


def _write(item: Item, settings: Settings, folder: Path, beat: Callable[[], None]) -> None:
    recording = recordings.read(item.paths[0]) if len(item.paths) == 1 else sequences.read_sequence(item.paths)
    notes: list[str] = []
    with tempfile.SpooledTemporaryFile(IN_MEMORY, dir=folder) as spool:
        watch, shape, count, total, levels = picture.Watch(), None, 0, 0, set()
        whole = settings.most is None or any(mark.frame is None for mark in item.marks)  # a mask as long as this is held against its length
        for total, frame in enumerate(_decoded(recording, notes, beat), 1):
            if not whole and total > settings.every * settings.most:
                break
            if (total - 1) % settings.every or count == settings.most:
                continue
            shape, count = frame.shape, count + 1
            watch.see(frame)
            levels |= {int(frame.min()), int(frame.max())}
            spool.write(frame.tobytes())
        if shape is None:
            raise UserError(f"{item.paths[0].name}: none of its frames decodes")
        if len(levels) == 1:
            raise UserError(f"{item.paths[0].name}: shows nothing; every pixel has the value {min(levels)}")
        found = watch.picture(recording.region) if settings.beam else _all_of(shape, recording.region)
        rasters, lost = _rasters(item, settings, recording.columns, shape, (count, total), found, notes)
        if lost:
            found = _all_of(shape, None)
            rasters, _ = _rasters(item, settings, recording.columns, shape, (count, total), found, [])
        spool.seek(0)
        prints, scale = [], math.nan
        with Stack(folder / "frames.npy", settings.size) as frames:
            for _ in range(count):
                beat()
                frame = np.frombuffer(spool.read(shape[0] * shape[1]), np.uint8).reshape(shape)
                fitted, scale = fit(picture.apply(frame, found), settings.size, 1.0)
                frames.append(fitted[None])
                prints.append(audit.fingerprint(fitted))
            frames.close()
    beam = fit_label(found.beam.astype(np.uint8), settings.size)
    for name, images in (("labels", rasters.pop("labels")), ("beam", [beam])):
        with Stack(folder / f"{name}.npy", settings.size) as stack:
            for image in images:
                stack.append(image[None])
            stack.close()
    np.save(folder / "prints.npy", np.stack(prints))
    person = pseudonym(settings.salt, "person", recording.person) if recording.person else ""
    facts = {"frames": count, "size": settings.size, "person": person, "found": found.found, "notes": notes, "scale": scale, **rasters}
    facts |= {"frame_ms": settings.every * recording.frame_ms, "mm": recording.mm_per_pixel}
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def _decoded(recording, notes: list[str], beat):
    """Its frames. What breaks after the first of them, and a header that promised others, becomes a note."""
    decoded = 0
    try:
        for frame in recording.frames:
            beat()
            decoded += 1
            yield frame
    except UserError as error:
        if not decoded:
            raise
        notes.append(f"only its first {decoded} frames are used: {error}")
        return
    if recording.promised is not None and recording.promised != decoded:
        notes.append(f"its header promises {recording.promised} frames, {decoded} decode")


def _all_of(shape: tuple[int, int], region) -> picture.Picture:
    box = region or (slice(0, shape[0]), slice(0, shape[1]))
    return picture.Picture(box, np.ones((box[0].stop - box[0].start, box[1].stop - box[1].start), bool), "whole")


def _rasters(item: Item, settings: Settings, columns, shape, counts, found, notes: list[str]) -> tuple[dict[str, Any], bool]:
    """The labels in the picture, and whether the picture leaves labelled pixels out, which proves that it is not all of the picture.

    counts: frames kept, frames decoded.
    """
    keys: list[int | str] = []
    area: dict[str, int] = {}
    overlap: dict[tuple[str, str], int] = {}
    labels: dict[int, np.ndarray] = {}
    seen = inside = 0
    unkept: list[int] = []
    inner = np.zeros(shape, bool)
    inner[found.box] = found.beam
    try:
        for frame, raster in _marked(item, (shape[0], columns or shape[1]), counts[1]):
            keys += [k for k in raster.keys if k not in keys]
            lut = np.array([0, *(1 + keys.index(k) for k in raster.keys)], np.uint8)
            index = lut[raster.index]
            if columns is not None:  # the frame was widened to square pixels, and the label goes with it
                index = index[:, (2 * np.arange(shape[1]) + 1) * columns // (2 * shape[1])]
            place, between = divmod(frame, settings.every)
            if between or place >= counts[0]:
                unkept.append(frame)
                continue
            seen, inside = seen + np.count_nonzero(index), inside + np.count_nonzero(index[inner])
            labels[place] = fit_label(np.ascontiguousarray(index[found.box]), settings.size)
            for name, pixels in raster.area.items():
                area[name] = area.get(name, 0) + pixels
            for pair, pixels in raster.overlap.items():
                overlap[pair] = overlap.get(pair, 0) + pixels
    except UserError as error:
        notes.append(f"kept without its label: {error}")
        labels, keys, area, overlap, unkept, seen, inside = {}, [], {}, {}, [], 0, 0
    if unkept:
        more = ", ..." if len(unkept) > SHOWN else ""
        notes.append(f"{len(unkept)} labels are left out, of frames that are not kept: {', '.join(map(str, unkept[:SHOWN]))}{more}")
    told = {"labelled": sorted(labels), "keys": keys, "area": area, "overlap": [[*pair, n] for pair, n in overlap.items()]}
    return {**told, "labels": [labels[t] for t in sorted(labels)]}, seen - inside > LOST * seen


def _marked(item: Item, size: tuple[int, int], frames: int):
    """(frame, Raster) of every marked frame."""
    for mark in item.marks:
        if isinstance(mark, Drawing):
            yield mark.frame, shapes.raster(mark, *size)
            continue
        with recordings.told(mark.paths[0]):
            if mark.frame is None:
                yield from masks.rasters(mark, *size, frames)
            else:
                yield mark.frame, masks.raster(mark, *size)
