"""Recordings -> a store: find the files, make each ready in a process of its own, put all together, tell what was left out."""

import csv
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from uscl.data import making, parts, workers
from uscl.data.items import Listing
from uscl.data.merge import Plan
from uscl.data.parts import Settings
from uscl.data.patients import tell
from uscl.data.private import Private
from uscl.data.sources import REMARK, gather
from uscl.data.store import Store
from uscl.types import UserError

REJECTED = ("path", "reason")
READ = "read are DICOM, videos, images, NIfTI and MetaImage"
NO_READER = f"no reader takes such a file; {READ}"


def prepare(
    sources, out, *, annotations=None, patients=(), keep=(), size=192, seed=0, validation=0.1, test=0.2, folds=0, every=1, most=None,
    processes=None, budget=0.2, beam=True, sequences=False, outlines=False, attribute=None, keep_names=False, told=None, progress=None,
) -> dict[str, Any]:  # fmt: skip
    """Makes the store `out` of every recording below `sources`, or brings it up to date: a file read before is not read again.

    A file that cannot be read becomes a line of out/rejected.csv and the rest goes on; so does one that is kept in part, or without its
    label. Killed at any moment, the same call goes on and ends with the same bytes. Needs twice the store's size on disk while it works.

    Args:
      sources, annotations, sequences, outlines, attribute: as in `uscl.data.sources.gather`.
      patients, keep: tables of what is known of the files, as in `uscl.data.patients.tell`; what a later one says counts.
      size: side of the stored frames [px].      every, most: keep every `every`-th frame, at most `most` of a cine; None: all.
      seed, validation, test: of the split, where nothing names one; patients of a store that is there stay in their parts.
      folds: k > 0 also deals the patients of train and validation into k folds.
      processes: that read side by side; None: as many as there are cores.
      budget: share of the files that may be rejected before there is no store.
      beam: False keeps everything around the picture, text included.
      keep_names: patients and files keep their names; for data without secrets.
      told: folder for the lists of what is wrong, where there is no store to put them in; None: STORE.private.
      progress: (things, total, what) -> the same things, shown as they pass.

    Returns: counts "recordings", "frames", "patients", "labelled", "new" (read now), "guessed" (patients known by their file's name alone),
      "rejected"; "per_class" {class: labelled frames that show it}, "ignored" (names), "splits", "classes", "table" (the lines of
      rejected.csv).

    Raises:
      UserError: nothing can be read, more than `budget` is rejected, a leak between the parts, a store there of other settings or sources.
    """
    out, progress = Path(out), progress or (lambda things, total, what: things)
    settings_shown = {"size": size, "every": every, "most": most, "beam": beam}
    listing = gather(sources, marks=annotations, keep=keep, sequences=sequences, outlines=outlines, attribute=attribute)
    for table in patients:
        tell(listing, table, keep=keep)
    if not listing.items:
        first = f"; the first: {listing.rejected[0][1]}" if listing.rejected else ""
        raise UserError(f"{_named(sources)}: holds nothing that can be read; {len(listing.ignored)} files have no reader, {READ}{first}")
    if missing := set(keep) - {column for item in listing.items for column in item.attributes}:
        raise UserError(f"--keep: no table and no file of drawings has the column {min(missing)!r}")
    with making.space(out.absolute().parent), Private(out) as private:
        if private.head and private.head["settings"] != settings_shown:
            was = private.head["settings"]
            raise UserError(f"{out}: was made with {_shown(was)}, now asked for is {_shown(settings_shown)}; choose another folder")
        names = {item.name for item in listing.items}
        if gone := [line["name"] for line in private.lines if line["name"] not in names]:
            raise UserError(f"{out}: holds {len(gone)} recordings that the sources lack, such as {gone[0]}; name their source too")
        settings = Settings(size=size, every=every, most=most, beam=beam, salt=private.salt)
        table = list(listing.rejected)
        ready, fresh = _ready(listing, settings, private, processes, table, progress)
        before = Store.open(out).splits if private.lines else None
        told = private.folder if told is None else Path(told)
        told.mkdir(exist_ok=True)
        _write_table(told / "rejected.csv", table)
        _within(budget, sources, len(ready), table, told)
        dealing = {"seed": seed, "validation": validation, "test": test, "folds": folds, "every": every}
        kept = [(item, part) for item, part, _ in ready]
        plan = Plan(kept, listing, salt=private.salt, keep_names=keep_names, before=before, told=told, **dealing)
        digest = plan.digest([key for _, _, key in ready])
        if private.head.get("plan") != digest:
            head = {"plan": digest, "settings": settings_shown, "codes": list(plan.codes.items())}
            lines = [{"key": key, "name": item.name, "facts": dict(part.facts)} for item, part, key in ready]
            private.note(head, lines, plan.prints)
            plan.write(out, size=size, plan=digest, progress=lambda things, what: progress(things, len(things), what))
        private.finish()
        for item, part, _ in ready:
            table += [(item.name, REMARK + note) for note in part.facts["notes"]]
        _write_table(out / "rejected.csv", [*table, *((name, NO_READER) for name in listing.ignored)])
        return _summary(plan, listing, table, fresh)


def _ready(listing: Listing, settings: Settings, private: Private, processes, table, progress: Callable):
    """[(item, part, key)] of all that can be read, in the order of the listing, and how many of them were read now."""
    old, wanted, todo = private.old_parts(), [], []
    for item in listing.items:
        try:
            wanted.append((item, parts.key(item, settings)))
        except OSError as error:
            table.append((item.name, f"cannot be read ({error.strerror})"))
            continue
        folder = private.parts / wanted[-1][1]
        if wanted[-1][1] not in old and not folder.is_dir():
            todo.append((item, settings, folder))
    count = min(len(todo), os.cpu_count() or 1 if processes is None else processes)
    outcomes = workers.run(making.make, todo, workers=count) if todo else ()
    reasons: dict[str, str] = {}
    for place, outcome in progress(outcomes, len(todo), "recordings"):
        if isinstance(outcome, workers.Failure):
            if making.NO_SPACE in outcome.reason:
                raise UserError(outcome.reason)
            reasons[todo[place][0].name] = outcome.reason
    ready = []
    for item, key in wanted:
        part = old.get(key) or parts.load(private.parts / key)
        if part is None:
            table.append((item.name, reasons.get(item.name, "changed while it was read")))
        else:
            ready.append((item, part, key))
    return ready, len(todo) - len(reasons)


def _within(budget: float, sources, kept: int, table: list[tuple[str, str]], told: Path) -> None:
    """Raises UserError where too much is rejected for this to be the folder the user meant."""
    reasons = [reason for _, reason in table if not reason.startswith(REMARK)]
    if not kept or len(reasons) / (kept + len(reasons)) > budget:
        often, times = Counter(reason.partition(": ")[2] or reason for reason in reasons).most_common(1)[0]
        over = f"{len(reasons)} of {kept + len(reasons)} files are rejected, more than --budget={budget:g} allows"
        found = over if kept else "holds nothing that can be read"
        raise UserError(f"{_named(sources)}: {found}; most often ({times} times): {often}; all are in {told / 'rejected.csv'}")


def _named(sources) -> str:
    return ", ".join(map(str, sources))


def _shown(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in settings.items())


def _write_table(file: Path, lines) -> None:
    with open(file, "w", newline="", encoding="utf-8") as text:
        csv.writer(text, lineterminator="\n").writerows([REJECTED, *lines])


def _summary(plan: Plan, listing: Listing, table, fresh: int) -> dict[str, Any]:
    facts = [part.facts for _, part in plan.ready]
    lut = {value: {name for name, values in plan.classes.items() if value in values} for value in plan.codes.values()}
    per_class = Counter(dict.fromkeys(plan.classes, 0))
    for fact in facts:
        shown = {name for key in fact["keys"] for name in lut[plan.codes[key]]}
        per_class.update({name: len(fact["labelled"]) for name in shown})
    return {
        "recordings": len(facts), "frames": sum(fact["frames"] for fact in facts), "patients": len({p for p, _ in plan.names}),
        "labelled": sum(len(fact["labelled"]) for fact in facts), "new": fresh, "guessed": plan.guessed,
        "rejected": sum(not reason.startswith(REMARK) for _, reason in table),
        "noted": sum(reason.startswith(REMARK) for _, reason in table),
        "per_class": dict(per_class), "ignored": listing.ignored, "splits": plan.splits, "classes": plan.classes, "table": table,
    }  # fmt: skip
