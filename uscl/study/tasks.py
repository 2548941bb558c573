"""What a study has to run: each pretraining stage and each run once, in an order in which nothing waits for what comes later."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uscl import config as uscl_config
from uscl.config.difference import Facts, refused
from uscl.study.keys import PRETRAINING, chain, relevant, world
from uscl.study.plan import ROOT, Job, Study, axes, file_values, make_config
from uscl.types import UserError

WRITTEN = {  # what a stage that trains nothing to go on from writes last
    "evaluate": "evaluate/cases.csv", "classify": "classify/table.json", "saliency": "saliency/localisation.json",
    "planes": "planes/table.json",
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """A run of `launch/main.py`: `name` is its folder below the study's, `source` the file of configs/ its command line names.

    after: name of the task whose weights it begins from, or None.
    """

    name: str
    source: str
    config: Any
    after: str | None = None

    @property
    def stages(self) -> tuple[str, ...]:
        return tuple(self.config.stages)


def tasks(study: Study, cells: list[Job]) -> tuple[dict[str, Task], list[str]]:
    """{name: task} in order, and the name of the run that serves each cell.

    A pretraining of two stages is two tasks, the second begun from the first: rows that differ in the decoder alone share the encoder.
    """
    pretrainings: dict[str, Task] = {}
    runs: dict[str, Task] = {}
    name_of: dict[str, str] = {}
    for cell in cells:
        if cell.key in name_of:
            continue
        share = f"@{100 * cell.fraction:g}" if study.scores == "cases" else ""
        fold = f"/fold{cell.fold}" if cell.fold >= 0 else ""
        name = f"runs/{cell.experiment.name}{share}/seed{cell.seed}{fold}"
        before = _pretraining(study, cell, pretrainings)
        runs[name] = Task(name, cell.experiment.config, cell.config, before)
        name_of[cell.key] = name
    ordered = sorted(pretrainings.values(), key=lambda task: task.after is not None)  # stable: those that wait for nothing first
    return {task.name: task for task in (*ordered, *runs.values())}, [name_of[cell.key] for cell in cells]


def _pretraining(study: Study, cell: Job, known: dict[str, Task]) -> str | None:
    """Adds the tasks of the cell's pretraining to `known`; the name of the last, or None."""
    if cell.pretraining is None:
        return None
    full = make_config(cell.experiment.config, study.scale, study.base, cell.experiment.changes, axes(study, cell.seed, cell.fold))
    flat, before, stages = uscl_config.flatten(full), None, []
    for stage in (stage for stage in full.stages if stage in PRETRAINING):
        stages.append(stage)
        name = f"pretrain/{chain(full, stages)}"
        if name not in known:
            # Only what the stage looks at, so that a pretraining's settings are the same whichever row asks for it first.
            kept = {**world(flat | {"data.store": ""}), **{key: flat[key] for key in ("data.store", "data.fold")}, **relevant(flat, stage)}
            logs = {key: value for key, value in flat.items() if key.startswith("log.")}
            source = PRETRAINING[stage]
            config = make_config(source, study.scale, logs, kept, {"experiment": "pretraining", "stages": (stage,)})
            known[name] = Task(name, source, config, before)
        before = name
    return before


def placed(task: Task, folder: Path) -> Any:
    """The task's configuration in a study's folder: the store and the weights it begins from have their paths."""
    config = task.config.copy_and_resolve_references()
    config.data.store = config.data.store or str(folder / "data")
    config.start = str(folder / task.after) if task.after else config.start  # or a file of public weights
    return config.lock()


def command(task: Task, folder: Path, scale: str) -> list[str]:
    """The command line of the task, which anyone may type."""
    plain = file_values(task.source, scale)
    flags = [f"--config.{key}={value}" for key, value in uscl_config.flatten(placed(task, folder)).items() if value != plain[key]]
    main = [sys.executable, str(ROOT / "launch" / "main.py"), f"--config={ROOT / 'configs' / task.source}.py:{scale}"]
    return [*main, f"--workdir={folder / task.name}", *flags]


def done(task: Task, folder: Path) -> bool:
    """Whether the task has ended, by the files in its folder.

    Raises UserError where the folder holds another experiment than the task: a study's rows must not change under its results.
    """
    place = folder / task.name
    kept = read(place / "config.json")
    if not kept:
        return False
    mine = json.loads(placed(task, folder).to_json())
    # Places are taken on trust here: the run itself holds the checksums against them.
    facts = Facts(order=task.stages, begun=task.stages, same_data=lambda: True, same_start=lambda: True)
    changed = refused(uscl_config.flatten(kept), uscl_config.flatten(mine), facts)
    if changed:
        told = "; go on with the same values, or give the changed study a --workdir of its own"
        raise UserError(f"{place / 'config.json'}: {', '.join(map(str, changed))}{told}")
    stage = task.stages[-1]
    if stage in WRITTEN:
        return bool(read(place / "results.json")) and (place / WRITTEN[stage]).exists()
    return (place / stage / "checkpoints" / str(task.config[stage].steps)).is_dir()


def read(path: Path) -> Mapping[str, Any]:
    """A JSON object; {} where there is none, or none that can be read."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, Mapping) else {}
