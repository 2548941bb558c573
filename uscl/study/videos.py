"""The scores of a lung study's runs, one a video: the cells of its tables, how well saliency meets boxes, and results.csv of both."""

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from uscl.metrics import youden_threshold
from uscl.study import classified, video_statistics
from uscl.study.tasks import read as read_json
from uscl.types import UserError

STAGE = "classify"


class Cell(NamedTuple):
    """One mode of one experiment at one share of the labels: S repetitions (seed, draw), each of which has scored all n test videos.

    labels: how many labelled videos each learnt from (the folds' mean, rounded). score: log odds. called: score >= the threshold that is
    best on the validation videos of the same run by Youden's index. fold: whose network scored the video; -1 without a cross-validation.
    Videos stand in the order of folds and cines, the same in every cell of one test set.
    """

    experiment: str
    table: str
    row: str
    mode: str
    fraction: float
    labels: int
    repetitions: list[tuple[int, int]]
    score: np.ndarray
    called: np.ndarray
    label: np.ndarray
    patient: np.ndarray
    cine: np.ndarray
    fold: np.ndarray


def read(folder: Path | str) -> list[Cell]:
    """Cells of what has ended: experiments in the plan's order, modes and then shares of the labels in that of the runs.

    A repetition one of whose folds has not ended is left out; `missing` tells which. Raises UserError where the folder holds no study,
    a file has no such columns or values, or repetitions have different test videos.
    """
    found = classified.read(folder, STAGE, _tested, ("score", "called"))
    return [Cell(*one.head, one.labels, one.repetitions, **one.each, **one.whole) for one in found]


def missing(folder: Path | str) -> list[str]:
    """'EXPERIMENT, seed S, fold F: FOLDER has no scores' for each run of the plan that has not ended; no fold without cross-validation."""
    return classified.missing(folder, STAGE)


def saliency(folder: Path | str) -> dict[tuple[str, str], tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]]:
    """{(experiment, mode): ({measure: [S, n]}, patient [n], cine [n])} of the runs that have mapped their test videos.

    S seeds, each with the network of the first draw at the last share; n the videos that all of them have, over all folds, in the
    order of cines. nan where a video had nothing to measure. A seed with a fold that has no whole file yet is left out.
    """
    return {key: found[1:] for key, found in _mapped(Path(folder)).items()}


def write(folder: Path | str) -> Path:
    """Writes results.csv: one line a repetition and figure of every cell, and the means over videos of how well its maps meet boxes."""
    folder = Path(folder)
    cells = read(folder)
    lines = classified.lines(cells, video_statistics.FIGURES, video_statistics.values)
    last = {(cell.experiment, cell.mode): cell for cell in cells}  # at the last share, whose networks are mapped
    for key, (seeds, measures, *_) in _mapped(folder).items():
        for name, scores in measures.items():
            means = [np.mean(one[~np.isnan(one)]) if (~np.isnan(one)).any() else np.nan for one in scores]
            lines += [(*last[key][:6], seed, 0, name, mean) for seed, mean in zip(seeds, means, strict=True) if key in last]
    return classified.write(folder, lines)


def _tested(place: Path) -> dict[tuple[str, float, int], dict[str, Any]]:
    """{(mode, fraction, draw): {"labels", and arrays [n] of the test videos in the order of cines}}, as classify/ of a run has them."""
    path, parts = place / STAGE / "predictions.csv", {}
    labels = {(row["mode"], row["fraction"]): row["labels"] for row in read_json(place / STAGE / "table.json").get("rows", ())}
    try:
        with open(path, newline="") as file:
            for line in csv.DictReader(file):
                key = line["mode"], float(line["fraction"]), int(line["draw"])
                video = int(line["cine"]), line["patient"], int(line["label"]), float(line["score"])
                parts.setdefault(key, {"validation": [], "test": []})[line["part"]].append(video)
        return {key: {"labels": labels[key[:2]], **_judged(**mine)} for key, mine in parts.items()}
    except (KeyError, TypeError, ValueError) as why:
        raise UserError(f"{path}: found {why!r}; its lines must fit the columns that `classify` writes, and table.json beside it") from why


def _judged(validation: list[tuple], test: list[tuple]) -> dict[str, np.ndarray]:
    *_, truth, known = zip(*validation, strict=True)
    cut = youden_threshold(truth, known)
    if np.isnan(cut):
        raise ValueError("validation videos of one class, so no threshold can be chosen")
    cine, patient, label, score = map(np.array, zip(*sorted(test), strict=True))
    if np.isnan(score).any():
        raise ValueError("a score of nan")
    return {"cine": cine, "patient": patient, "label": label, "score": score, "called": score >= cut}


def _mapped(folder: Path) -> dict[tuple[str, str], tuple[list[int], dict[str, np.ndarray], np.ndarray, np.ndarray]]:
    """`saliency`, with the seeds before the measures."""
    found = {}
    for name, (_, _, seeds) in classified.ended(folder, STAGE).items():
        modes: dict[str, dict[int, dict]] = {}
        for seed, places in seeds.items():
            files = [place / "saliency" / "videos.csv" for _, place in places]
            if all(file.is_file() and file.read_text().endswith("\n") for file in files):  # results.json is older, so it tells nothing
                for mode, patient, cine, values in (line for file in files for line in _pointed(file)):
                    modes.setdefault(mode, {}).setdefault(seed, {})[cine] = (patient, values)
        for mode, of in modes.items():
            cines = sorted(set.intersection(*map(set, of.values())))
            first = next(iter(of.values()))
            if cines:
                measures = {key: np.array([[one[cine][1][key] for cine in cines] for one in of.values()]) for key in first[cines[0]][1]}
                found[name, mode] = (list(of), measures, np.array([first[cine][0] for cine in cines]), np.array(cines))
    return found


def _pointed(path: Path) -> list[tuple[str, str, int, dict[str, float]]]:
    """(mode, patient, cine, {measure: value}) of each line of a saliency/videos.csv."""
    try:
        with open(path, newline="") as file:
            lines = [(line.pop("mode"), line.pop("patient"), int(line.pop("cine")), line) for line in csv.DictReader(file)]
        return [(*head, {name: float(value) if value else np.nan for name, value in line.items()}) for *head, line in lines]
    except (KeyError, TypeError, ValueError) as why:
        raise UserError(f"{path}: found {why!r}; its columns are mode, patient, cine, and of each measure numbers or nothing") from why
