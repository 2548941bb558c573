"""Recordings -> a store: find the files, read each once, fit its frames, name its patient, split by patient, tell what was left out."""

import csv
import itertools
import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from tqdm import tqdm

from uscl.data import images, recordings
from uscl.data.fit import fit, fit_label
from uscl.data.patients import Patients, deal
from uscl.data.sources import File, classes_of, find
from uscl.data.store import StoreWriter
from uscl.types import UserError

MOST_TOLD = 20  # rejected files listed on the terminal
SECONDS_A_LINE = 10.0  # between progress lines where there is no terminal


def prepare(sources, out, *, annotations=None, patients=None, size=96, seed=0, every=1, most=None, check=False, quiet=False):
    """Reads every recording below `sources` into a new store `out`; with `check`, reads all the same and writes nothing.

    A video or a DICOM file becomes a cine, an image a cine of one frame, labelled where it has masks (`uscl.data.images.pair`). A file
    that cannot be read, or that breaks off after some frames (those are kept), becomes a line of out/rejected.csv and the rest goes on.
    Of a cine one frame is in memory at a time; the fitted ones wait in an unnamed file beside `out`.

    Patients are named by `uscl.data.patients.Patients`. Names from DICOM files are hashes with the secret in out/salt: whoever has that
    file can find out whether a person is in the store, so it is not to be handed on. rejected.csv names your files as they are.

    Args:
      sources: files or folders. Where a folder has train/ and test/ (and perhaps validation/), these are the split.
      annotations: a folder of masks for the images of the same names.      patients: a csv with the columns file,patient.
      size: side of the stored frames [px].      seed: of the split.
      every, most: keep every `every`-th frame, and at most `most` of a cine; None: all.      quiet: no progress on stderr.

    Returns:
      dict of counts "recordings", "frames", "patients", "labelled" (stills), "guessed" (recordings whose patient is the file's name),
      "rejected", "cut"; and "per_class" {class: stills that show it}, "ignored" {suffix: files without a reader}, "splits"
      {part: patients}, empty for `check`, "table" [(file, reason)] the lines of rejected.csv.

    Raises:
      UserError: a source is missing, nothing in it can be read, `out` exists, fewer than 3 labelled patients, a patient in two parts.
    """
    if not check and (out is None or Path(out).exists()):
        found = "no folder named" if out is None else f"{out} exists already"
        raise UserError(f"--out: {found}; name a new folder for the store, or give --check to read without writing")
    files, table, ignored = find([Path(s) for s in sources], None if annotations is None else Path(annotations))
    stored, classes = classes_of(files, table)
    people = Patients(patients, [f.name for f in files])
    if not check:  # better now than after hours of reading
        planned = {people.planned(f.name): f.part for f in files if f.masks}
        if not planned:
            raise UserError(f"{sources[0]}: {len(files)} recordings, no image with a mask; a store needs labelled stills of 3 patients")
        deal(planned, set(planned), seed=seed)

    count, per_class = Counter(rejected=len(table)), Counter(dict.fromkeys(classes, 0))
    part_of, labelled, splits = {}, set(), {}
    kinds = Counter(file.path.suffix.lower() or "no suffix" for file in files)
    origin = "prepared from files of " + ", ".join(f"{suffix} ({n})" for suffix, n in sorted(kinds.items()))  # names may be patients'
    with nullcontext() if check else StoreWriter(out, size=size, classes=classes, origin=origin, splits=splits) as writer:
        for file in _progress(files, quiet):
            with tempfile.TemporaryFile(dir=None if check else Path(out).parent) as spool:
                try:
                    recording = recordings.read(file.path)
                    stop = None if most is None else (most - 1) * every + 1
                    frames, mm, fault = _spool(itertools.islice(recording.frames, 0, stop, every), recording.mm_per_pixel, size, spool)
                    label = _label(file, stored, size)
                except UserError as error:
                    table.append((file.name, str(error)))
                    count["rejected"] += 1
                    continue
                patient, source = people.of(file.name, recording)
                part_of[patient] = _one_part(patient, part_of.get(patient), file)
                if writer is not None:
                    facts = {"mm_per_pixel": mm, "frame_ms": every * recording.frame_ms, "source": source}
                    writer.add(patient=patient, frames=frames, labels=None if label is None else {0: label}, **facts)
            count.update(recordings=1, frames=len(frames), labelled=label is not None, cut=fault is not None)
            if fault is not None:
                table.append((file.name, f"only its first {len(frames)} frames are kept: {fault}"))
            if label is not None:
                labelled.add(patient)
                per_class.update(name for name, values in classes.items() if np.isin(label, values).any())
        if not count["recordings"]:
            told = f"the first: {table[0][1]}" if table else f"{sum(ignored.values())} files have no reader"
            raise UserError(f"{', '.join(map(str, sources))}: holds nothing that can be read; {told}")
        if not check:
            splits |= deal(part_of, labelled, seed=seed)
    if not check:
        _write_beside(Path(out), table, people.salt)
    return {
        **{key: count[key] for key in ("recordings", "frames", "labelled", "rejected", "cut")},
        "patients": len(part_of), "guessed": people.guessed, "per_class": dict(per_class), "ignored": dict(ignored), "splits": splits,
        "table": table,
    }  # fmt: skip


def describe(summary):
    """The summary as lines of text for the terminal."""
    lines = [f"{summary['recordings']} recordings of {summary['patients']} patients, {summary['frames']} frames"]
    shown = ", ".join(f"{name} {n}" for name, n in summary["per_class"].items())
    lines.append(f"{summary['labelled']} labelled stills" + (f": {shown}" if shown else ""))
    if summary["guessed"]:
        lines.append(f"the patient of {summary['guessed']} recordings is their file's name; where patients have several, give --patients")
    if summary["splits"]:
        lines.append("patients: " + ", ".join(f"{part} {len(names)}" for part, names in summary["splits"].items()))
    if summary["ignored"]:
        lines.append("files without a reader: " + ", ".join(f"{suffix} {n}" for suffix, n in sorted(summary["ignored"].items())))
    lines.append(f"{summary['rejected']} rejected, {summary['cut']} cut short")
    lines += [f"  {name}: {reason}" for name, reason in summary["table"][:MOST_TOLD]]
    if (more := len(summary["table"]) - MOST_TOLD) > 0:
        lines.append(f"  and {more} more" + (", in rejected.csv" if summary["splits"] else ""))
    return "\n".join(lines)


def _spool(frames: Iterable[np.ndarray], mm: float, size: int, spool) -> tuple[np.ndarray, float, str | None]:
    """Fits the frames into an open file -> uint8 [T, S, S] mapped from it, their mm per pixel, and why they end early if they do."""
    count, scale, fault = 0, math.nan, None
    try:
        for frame in frames:
            fitted, scale = fit(frame, size, mm)
            spool.write(fitted.tobytes())
            count += 1
    except UserError as error:
        if not count:
            raise
        fault = str(error)
    if not count:
        raise UserError("none of its frames decodes")
    spool.flush()
    return np.memmap(spool, np.uint8, "r", shape=(count, size, size)), scale, fault


def _label(file: File, stored: dict[int, int], size: int) -> np.ndarray | None:
    if not file.masks:
        return None
    with recordings.told(file.masks[0]):
        return fit_label(images.encode(images.read_mask(file.masks), stored), size)


def _one_part(patient: str, part: str | None, file: File) -> str | None:
    """The part of a patient met before in `part`: a named one beats none, and two named ones are the user's to settle."""
    if part and file.part and part != file.part:
        raise UserError(f"{file.name}: patient {patient!r} is in {part!r} and in {file.part!r}; each belongs to one part (see --patients)")
    return part or file.part


def _progress(files: Sequence[File], quiet: bool) -> Iterator[File]:
    if quiet or sys.stderr.isatty():
        yield from tqdm(files, desc="recordings", unit="file", disable=quiet)
        return
    last = time.monotonic()
    for done, file in enumerate(files):
        if time.monotonic() - last > SECONDS_A_LINE:
            last = time.monotonic()
            print(f"recordings: {done} of {len(files)}", file=sys.stderr)
        yield file


def _write_beside(out: Path, table: list[tuple[str, str]], salt: str) -> None:
    with open(out / "rejected.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("path", "reason"), *table])
    (out / "salt").write_text(salt + "\n", encoding="utf-8")
    (out / "salt").chmod(0o600)
