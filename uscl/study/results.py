"""The scores of a study's runs, one a case, and the table results.csv of their means."""

import csv
import math
import os
from pathlib import Path
from typing import NamedTuple

from uscl.study.tasks import read as read_json
from uscl.types import UserError

NO_MEASURE = ("patient", "cine", "frame", "class")


class Row(NamedTuple):
    """One measure of one class in one test image, by one run. `image` is CINE:FRAME of the store; nan where nothing was to measure."""

    experiment: str
    table: str
    row: str
    fraction: float
    seed: int
    patient: str
    image: str
    cls: str
    measure: str
    value: float


def read(folder: Path | str) -> list[Row]:
    """Every score of the study's evaluated runs; those that are not are in `missing`. A run that serves several rows is in each of them.

    Raises UserError where the folder holds no study.
    """
    folder, found = Path(folder), []
    cases: dict[str, list[tuple]] = {}
    for cell in cells(folder):
        place = cell["folder"]
        if place not in cases:
            cases[place] = _cases(folder / place)
        head = (cell["experiment"], cell["table"], cell["row"], cell["fraction"], cell["seed"])
        found += [Row(*head, *case) for case in cases[place]]
    return found


def missing(folder: Path | str) -> list[str]:
    """'EXPERIMENT at FRACTION, seed S: FOLDER has no evaluation' for each cell of the study that is not there yet."""
    folder = Path(folder)
    return [
        f"{cell['experiment']} at {100 * cell['fraction']:g} %, seed {cell['seed']}: {folder / cell['folder']} has no evaluation"
        for cell in cells(folder)
        if not _evaluated(folder / cell["folder"])
    ]


def cells(folder: Path) -> list[dict]:
    """{"experiment", "table", "row", "fraction", "seed", "folder"} of every cell that study.json plans."""
    plan = read_json(Path(folder) / "study.json")
    if "runs" not in plan:
        raise UserError(f"{folder}: holds no study.json that names its runs; a study's folder is the --workdir of launch/study.py")
    return plan["runs"]


def write(folder: Path | str) -> Path:
    """Writes results.csv: mean over images and counts, one line a run, class and measure; `all` is the mean over the classes' means."""
    folder, sums = Path(folder), {}
    for row in read(folder):
        key = (row.experiment, row.table, row.row, row.fraction, row.seed)
        entry = sums.setdefault(key, {}).setdefault(row.measure, {}).setdefault(row.cls, [[], set()])
        if not math.isnan(row.value):
            entry[0].append(row.value)
            entry[1].add(row.patient)
    path = folder / "results.csv"
    partial = path.with_name(".results.csv.partial")
    with open(partial, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["experiment", "table", "row", "fraction", "seed", "class", "measure", "mean", "images", "patients"])
        for key, measures in sums.items():
            for measure, classes in measures.items():
                means = {name: math.fsum(values) / len(values) for name, (values, _) in classes.items() if values}
                for name, (values, patients) in classes.items():
                    writer.writerow([*key, name, measure, means.get(name, ""), len(values), len(patients)])
                writer.writerow([*key, "all", measure, math.fsum(means.values()) / len(means) if means else "", "", ""])
    os.replace(partial, path)
    return path


def _evaluated(place: Path) -> bool:
    """results.json is written after the cases, so where it stands they are whole."""
    return (place / "results.json").is_file() and (place / "evaluate" / "cases.csv").is_file()


def _cases(place: Path) -> list[tuple]:
    if not _evaluated(place):
        return []
    with open(place / "evaluate" / "cases.csv", newline="") as file:
        return [
            (case["patient"], f"{case['cine']}:{case['frame']}", case["class"], measure, float(value) if value else math.nan)
            for case in csv.DictReader(file)
            for measure, value in case.items()
            if measure not in NO_MEASURE
        ]
