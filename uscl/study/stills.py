"""What a study's runs have called the stills of their test patients: the cells of its tables, and results.csv."""

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from uscl.study import classified, still_statistics
from uscl.study.tasks import read as read_json
from uscl.types import UserError

STAGE = "planes"


class Cell(NamedTuple):
    """One mode of one experiment at one share of the labels: S repetitions (seed, draw), each of which has named all n test stills.

    mode: as the stage names it; "features_knn" are the neighbours' votes beside "features". labels: how many labelled stills each learnt
    from (the folds' mean, rounded). label, called: indices into `classes`, which all cells of a study share. fold: whose network named
    the still; -1 without a cross-validation. Stills stand in the order of folds and cines, the same in every cell of one test set.
    """

    experiment: str
    table: str
    row: str
    mode: str
    fraction: float
    labels: int
    repetitions: list[tuple[int, int]]
    called: np.ndarray
    label: np.ndarray
    patient: np.ndarray
    cine: np.ndarray
    fold: np.ndarray
    classes: tuple[str, ...]


def read(folder: Path | str) -> list[Cell]:
    """Cells of what has ended: experiments in the plan's order, modes and then shares of the labels in that of the runs.

    A repetition one of whose folds has not ended is left out; `missing` tells which. Raises UserError where the folder holds no study,
    a file has no such columns or values, or repetitions have different test stills or classes.
    """
    names: list[str] = []

    def tested(place: Path) -> classified.Tested:
        mine = [str(name) for name in read_json(place / STAGE / "table.json").get("classes") or ()]
        names[:] = names or mine
        if not mine or mine != names:
            raise UserError(f"{place / STAGE / 'table.json'}: found the classes {mine}; all runs of the study need the same, here {names}")
        return _tested(place, names)

    found = classified.read(folder, STAGE, tested, ("called",))
    return [Cell(*one.head, one.labels, one.repetitions, **one.each, **one.whole, classes=tuple(names)) for one in found]


def missing(folder: Path | str) -> list[str]:
    """'EXPERIMENT, seed S, fold F: FOLDER has no scores' for each run of the plan that has not ended; no fold without cross-validation."""
    return classified.missing(folder, STAGE)


def write(folder: Path | str) -> Path:
    """Writes results.csv: one line a repetition and figure of every cell."""
    folder = Path(folder)
    return classified.write(folder, classified.lines(read(folder), still_statistics.FIGURES, still_statistics.values))


def _tested(place: Path, names: list[str]) -> dict[tuple[str, float, int], dict[str, Any]]:
    """{(mode, fraction, draw): {"labels", and arrays [n] of the test stills in the order of cines}}, as planes/ of a run has them."""
    path, found = place / STAGE / "predictions.csv", {}
    labels = {(row["mode"], row["fraction"]): row["labels"] for row in read_json(place / STAGE / "table.json").get("rows", ())}
    number = {name: k for k, name in enumerate(names)}
    try:
        with open(path, newline="") as file:
            for line in csv.DictReader(file):
                if line["part"] == "test":
                    still = int(line["cine"]), line["patient"], number[line["label"]], number[line["called"]]
                    found.setdefault((line["mode"], float(line["fraction"]), int(line["draw"])), []).append(still)
        columns = {key: map(np.array, zip(*sorted(stills), strict=True)) for key, stills in found.items()}
        return {
            key: {"labels": labels[key[:2]], **dict(zip(("cine", "patient", "label", "called"), mine, strict=True))}
            for key, mine in columns.items()
        }
    except (KeyError, TypeError, ValueError) as why:
        raise UserError(f"{path}: found {why!r}; its lines must fit the columns that `planes` writes, and table.json beside it") from why
