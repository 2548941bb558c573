"""Where a study's runs have told cases apart: which of them have ended, their folds put together, and results.csv. Of videos and stills."""

import csv
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from uscl.study.results import cells as planned
from uscl.study.tasks import read as read_json
from uscl.types import UserError

RESULTS = ("experiment", "table", "row", "mode", "fraction", "labels", "seed", "draw", "figure", "value")

Tested = Mapping[tuple[str, float, int], Mapping[str, Any]]  # of one run, by (mode, fraction, draw)


class Pooled(NamedTuple):
    """The cases of all folds, in the order of folds and cines: `each` {name: [S, n]}, a row a repetition, `whole` {name: [n]} of all."""

    head: tuple[str, str, str, str, float]
    labels: int
    repetitions: list[tuple[int, int]]
    each: dict[str, np.ndarray]
    whole: dict[str, np.ndarray]


def read(folder: Path | str, stage: str, tested: Callable[[Path], Tested], each: tuple[str, ...]) -> list[Pooled]:
    """What has ended: experiments in the plan's order, modes and then shares of the labels in that of the runs.

    tested(folder of a run): its test cases in the order of cines, {"labels", "label", "patient", "cine", and those of `each`}, arrays [n].
    A repetition one of whose folds has not ended is left out; `missing` tells which. Raises UserError where the folder holds no study, or
    repetitions have different test cases.
    """
    cells = []
    for name, (table, row, seeds) in ended(Path(folder), stage).items():
        found: dict[tuple[str, float], dict[tuple[int, int], list]] = {}
        for seed, places in seeds.items():
            parts = [(fold, place, tested(place)) for fold, place in places]
            for mode, fraction, draw in parts[0][2]:
                if all((mode, fraction, draw) in part for _, _, part in parts):
                    whole = [(fold, place, part[mode, fraction, draw]) for fold, place, part in parts]
                    found.setdefault((mode, fraction), {})[seed, draw] = whole
        modes = list(dict.fromkeys(mode for mode, _ in found))
        for mode, fraction in sorted(found, key=lambda at: modes.index(at[0])):
            cells.append(_pooled((name, table, row, mode, fraction), found[mode, fraction], stage, each))
    return cells


def missing(folder: Path | str, stage: str) -> list[str]:
    """'EXPERIMENT, seed S, fold F: FOLDER has no scores' for each run of the plan that has not ended; no fold without cross-validation."""
    folder, told = Path(folder), []
    for run in planned(folder):
        if not _scored(folder / run["folder"], stage):
            fold = f", fold {run['fold']}" if run.get("fold", -1) >= 0 else ""
            told.append(f"{run['experiment']}, seed {run['seed']}{fold}: {folder / run['folder']} has no scores")
    return told


def ended(folder: Path, stage: str) -> dict[str, tuple[str, str, dict[int, list[tuple[int, Path]]]]]:
    """{experiment: (table, row, {seed: [(fold, folder of the run)]})}, the seeds of which all folds have ended."""
    found: dict[str, tuple[str, str, dict]] = {}
    for run in planned(folder):
        seeds = found.setdefault(run["experiment"], (run["table"], run["row"], {}))[2]
        seeds.setdefault(run["seed"], []).append((run.get("fold", -1), folder / run["folder"]))
    return {
        name: (table, row, {seed: sorted(folds) for seed, folds in seeds.items() if all(_scored(place, stage) for _, place in folds)})
        for name, (table, row, seeds) in found.items()
    }


def lines(cells: Iterable, figures: Iterable[str], values: Callable[[Any, str], np.ndarray]) -> list[tuple]:
    """Of results.csv: one a cell, figure and repetition. A cell begins as `Pooled.head`, labels, repetitions do."""
    found = []
    for cell in cells:
        for figure in figures:
            for (seed, draw), value in zip(cell.repetitions, values(cell, figure), strict=True):
                found.append((*cell[:6], seed, draw, figure, value))
    return found


def write(folder: Path, found: Iterable[tuple]) -> Path:
    """Writes FOLDER/results.csv of `lines`; a value of nan is left empty."""
    path = folder / "results.csv"
    partial = path.with_name(".results.csv.partial")
    with open(partial, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(RESULTS)
        writer.writerows([*line[:-1], "" if np.isnan(line[-1]) else float(line[-1])] for line in found)
    os.replace(partial, path)
    return path


def _scored(place: Path, stage: str) -> bool:
    """results.json is written after the predictions, so where it stands they are whole."""
    return bool(read_json(place / "results.json")) and (place / stage / "predictions.csv").is_file()


def _pooled(head, found: Mapping[tuple[int, int], list[tuple[int, Path, Mapping]]], stage: str, each: tuple[str, ...]) -> Pooled:
    """One cell of {(seed, draw): [(fold, folder of the run, what its classifier says)]}."""
    first: dict[str, np.ndarray] = {}
    rows: dict[str, list[np.ndarray]] = {name: [] for name in each}
    labels = []
    for (seed, _), parts in found.items():
        whole = {key: np.concatenate([part[key] for *_, part in parts]) for key in ("label", "patient", "cine")}
        whole["fold"] = np.repeat([fold for fold, *_ in parts], [len(part["cine"]) for *_, part in parts])
        first = first or whole
        if not all(np.array_equal(first[key], whole[key]) for key in first):
            kind = {"classify": "videos", "planes": "stills"}[stage]
            raise UserError(f"{parts[0][1]}: seed {seed} of {head[0]!r} has other test {kind} than seed {next(iter(found))[0]}")
        for name in each:
            rows[name].append(np.concatenate([part[name] for *_, part in parts]))
        labels += [part["labels"] for *_, part in parts]
    return Pooled(head, round(sum(labels) / len(labels)), list(found), {name: np.stack(one) for name, one in rows.items()}, first)
