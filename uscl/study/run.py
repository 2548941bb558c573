"""Runs a study in its folder: says what it will do and how long that takes, does what is missing, and goes on where it was stopped.

STUDY/data/ the phantom, where no store is given · pretrain/HASH/ a pretraining stage · runs/NAME@PERCENT/seedS/ fine-tuned or
supervised, and evaluated · study.json the plan · results.csv · logs/
"""

import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from uscl import config as uscl_config
from uscl.study import crew, results, stills, videos
from uscl.study.cost import Cost, Ticker, form, spoken
from uscl.study.plan import Study, jobs
from uscl.study.tasks import Task, command, done, placed, read, tasks
from uscl.train import lock
from uscl.types import UserError

SCORES = {"cases": results, "videos": videos, "planes": stills}  # what the runs write: the room that reads it


def run(
    study: Study, folder: Path | str, *, devices: Sequence[str] | None = None, count: int = 0, tell: Callable[[str], None] = print
) -> crew.Outcome:
    """Everything of the study that is not done yet. devices: GPUs by number; None: all there are. count: processes on a CPU, 0: chosen.

    Returns what has ended and what failed; a failure does not stop the others. UserError where another process works on the study, or
    the folder holds another one. Ctrl-C and SIGTERM let the runs save, and pass on.
    """
    folder = Path(folder).resolve()
    cells = jobs(study)
    todo, serves = tasks(study, cells)
    with lock.hold(folder):
        ended = {name for name, task in todo.items() if done(task, folder)}
        keep_plan(study, folder, cells, serves)
        tell(summary(study, cells, todo, ended))
        outcome = crew.Outcome(ended)
        try:
            if len(ended) < len(todo):
                outcome = missing(study, folder, todo, ended, devices, count, tell)
        except (KeyboardInterrupt, SystemExit):
            now = sum(done(task, folder) for task in todo.values())
            tell(f"stopped: {now} of {len(todo)} are done; the same command goes on from there. Folder: {folder}")
            raise
        tell(f"scores: {SCORES[study.scores].write(folder)}")
    for name, why in outcome.failed.items():
        tell(f"FAILED: {name}: {why}{told_by(folder / name / 'output.txt')}")
    return outcome


def missing(study: Study, folder: Path, todo: Mapping[str, Task], ended: set[str], devices, count: int, tell) -> crew.Outcome:
    """Data, measurement and estimate, then the tasks."""
    seats = crew.find_seats(devices, count)
    side_by_side = f"{len(seats)} process{'es' * (len(seats) > 1)} side by side"
    if not study.base.get("data.store") and not (folder / "data").exists():
        tell(f"data: making the phantom in {folder / 'data'}")
        once(data_command(folder), seats[0], folder / "logs" / "data.txt", "making the phantom")
    cost = Cost(measured(folder, todo, seats[0], study.scale, tell), folder)
    for name in ended:
        cost.learn(todo[name])
    left = [task for name, task in todo.items() if name not in ended]
    alone = sum(sum(cost.of(todo[name]) for name in chain(todo, task)) for task in todo.values() if task.name.startswith("runs/"))
    whole = sum(map(cost.of, todo.values()))
    tell(
        f"estimated: {spoken(cost.together(left, len(seats)))} for what is left, {side_by_side}; the whole is {spoken(whole)} of one "
        f"process, {whole / alone if alone else 1:.2f} of what the runs would take with their own pretrainings"
    )
    work = [crew.Work(t.name, command(t, folder, study.scale), folder / t.name / "output.txt", t.after) for t in left]
    return crew.work(work, seats, ended, Ticker(todo, cost, len(seats), len(ended), tell))


def chain(todo: Mapping[str, Task], task: Task) -> list[str]:
    """Names of the task and of all it needs."""
    return [*(chain(todo, todo[task.after]) if task.after else []), task.name]


def commands(study: Study, folder: Path | str) -> tuple[list[str], list[str]]:
    """(lines, notes): one command a line for a job array, each complete, and which lines have to wait for which. Writes the plan alone."""
    folder = Path(folder).resolve()
    cells = jobs(study)
    todo, serves = tasks(study, cells)
    with lock.hold(folder):
        keep_plan(study, folder, cells, serves)
    depth = {name: len(chain(todo, task)) for name, task in todo.items()}
    ordered = sorted(todo.values(), key=lambda task: depth[task.name])
    levels = [] if study.base.get("data.store") else [[data_command(folder)]]
    for level in sorted(set(depth.values())):
        levels.append([command(task, folder, study.scale) for task in ordered if depth[task.name] == level])
    notes, first = [], 1
    for lines in levels:
        last = first + len(lines) - 1
        notes.append(f"lines {first} to {last}: " + (f"once lines 1 to {first - 1} have ended" if first > 1 else "at once"))
        first = last + 1
    return [shlex.join(line) for lines in levels for line in lines], notes


def keep_plan(study: Study, folder: Path, cells, serves: Sequence[str]) -> None:
    """Writes study.json."""
    plan = {
        "name": study.name, "scale": study.scale, "scores": study.scores, "seeds": study.seeds, "base": dict(study.base),
        "fractions": sorted({fraction for cell in study.fractions.values() for fraction in cell}), "tables": dict(study.fractions),
        "experiments": [
            {"name": e.name, "table": e.table, "row": e.row, "config": e.config, "changes": dict(e.changes)} for e in study.experiments
        ],
        "runs": [
            {
                "experiment": cell.experiment.name, "table": cell.experiment.table, "row": cell.experiment.row,
                "fraction": cell.fraction, "seed": cell.seed, "fold": cell.fold, "folder": name, "pretraining": cell.pretraining,
            }
            for cell, name in zip(cells, serves, strict=True)
        ],
    }  # fmt: skip
    partial = folder / ".study.json.partial"
    partial.write_text(json.dumps(plan, indent=1) + "\n")
    os.replace(partial, folder / "study.json")


def summary(study: Study, cells, todo: Mapping[str, Task], ended: set[str]) -> str:
    """The plan in a few lines: what was asked for, and what has to be run for it."""
    shared = [name for name in todo if name.startswith("pretrain/")]
    runs = len(todo) - len(shared)
    asked = sum(len(chain(todo, task)) - 1 for task in todo.values() if task.name.startswith("runs/"))
    tables = ", ".join(f"{table} ({sum(e.table == table for e in study.experiments)} rows)" for table in study.fractions)
    return (
        f"study {study.name}, {study.scale} scale: {tables}; {len(study.seeds)} seeds\n"
        f"cells asked for: {len(cells)}; runs: {runs}\n"
        f"pretraining stages asked for by these runs: {asked}; run: {len(shared)}\n"
        f"done: {len(ended)} of {len(todo)}"
    )


def measured(folder: Path, todo: Mapping[str, Task], seat: crew.Seat, scale: str, tell) -> Mapping:
    """{form of a stage: seconds} of a few updates of each that the study has; measured once, kept in measured.json."""
    path = folder / "measured.json"
    known = dict(read(path))
    wanted = {name: task for task in reversed(todo.values()) for stage in task.stages if (name := form(task, stage)) not in known}
    while wanted:
        task = wanted[next(iter(wanted))]
        whole = [todo[name] for name in chain(todo, task)]
        stages = tuple(stage for one in whole for stage in one.stages)
        tell(f"measuring a few updates of {', '.join(stages)}")
        config = placed(task, folder)
        with config.unlocked():
            for one in whole[:-1]:
                config.update_from_flattened_dict(
                    {key: value for key, value in uscl_config.flatten(one.config).items() if key.startswith(f"{one.stages[0]}.")}
                )
            config.stages, config.start = stages, whole[0].config.start
            for block in (config.classify, config.planes):
                block.fractions = block.fractions[-1:]  # the others are as long
        place = folder / "logs" / "measure"
        place.mkdir(parents=True, exist_ok=True)
        (place / "config.json").write_text(config.to_json())
        once(measure_command(place), seat, folder / "logs" / "measure.txt", "the measurement")
        known = {**{form(task, stage): told for stage, told in read(place / "measured.json").items()}, **known}
        wanted = {name: task for name, task in wanted.items() if name not in known}
        path.write_text(json.dumps(known, indent=1) + "\n")
    return known


def data_command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "uscl.study.data", str(folder)]


def measure_command(place: Path) -> list[str]:
    return [sys.executable, "-m", "uscl.study.measure", str(place)]


def once(line: Sequence[str], seat: crew.Seat, output: Path, what: str) -> None:
    """Runs a command to its end. UserError with its log where it fails, because nothing can be done without it."""
    found = crew.work([crew.Work(what, line, output)], [seat], (), lambda outcome, running: None)
    if found.failed:
        raise UserError(f"{what}: {found.failed[what]}{told_by(output)}")


def told_by(output: Path) -> str:
    """'; LAST LINE (log: PATH)' of what a process wrote, as far as it wrote anything."""
    lines = output.read_text(errors="replace").split("\n") if output.is_file() else []
    last = next((line for line in reversed(lines) if line.strip()), "")
    return f"; {last.strip()[:300]} (log: {output})" if last else ""
