"""The scores of a lung study's runs, one a video: the cells of its tables, how well saliency meets boxes, and results.csv of both."""

import csv
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from uscl.metrics import youden_threshold
from uscl.study import video_statistics
from uscl.study.results import cells as planned
from uscl.study.tasks import read as read_json
from uscl.types import UserError

RESULTS = ("experiment", "table", "row", "mode", "fraction", "labels", "seed", "draw", "figure", "value")


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
    cells = []
    for name, (table, row, seeds) in _ended(Path(folder)).items():
        found: dict[tuple[str, float], dict[tuple[int, int], list]] = {}
        for seed, places in seeds.items():
            parts = [(fold, place, _tested(place)) for fold, place in places]
            for mode, fraction, draw in parts[0][2]:
                if all((mode, fraction, draw) in part for _, _, part in parts):
                    whole = [(fold, place, part[mode, fraction, draw]) for fold, place, part in parts]
                    found.setdefault((mode, fraction), {})[seed, draw] = whole
        modes = list(dict.fromkeys(mode for mode, _ in found))
        for mode, fraction in sorted(found, key=lambda at: modes.index(at[0])):
            cells.append(_cell((name, table, row, mode, fraction), found[mode, fraction]))
    return cells


def missing(folder: Path | str) -> list[str]:
    """'EXPERIMENT, seed S, fold F: FOLDER has no scores' for each run of the plan that has not ended; no fold without cross-validation."""
    folder, told = Path(folder), []
    for run in planned(folder):
        if not _scored(folder / run["folder"]):
            fold = f", fold {run['fold']}" if run.get("fold", -1) >= 0 else ""
            told.append(f"{run['experiment']}, seed {run['seed']}{fold}: {folder / run['folder']} has no scores")
    return told


def saliency(folder: Path | str) -> dict[tuple[str, str], tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]]:
    """{(experiment, mode): ({measure: [S, n]}, patient [n], cine [n])} of the runs that have mapped their test videos.

    S seeds, each with the network of the first draw at the last share; n the videos that all of them have, over all folds, in the
    order of cines. nan where a video had nothing to measure. A seed with a fold that has no whole file yet is left out.
    """
    return {key: found[1:] for key, found in _mapped(Path(folder)).items()}


def write(folder: Path | str) -> Path:
    """Writes results.csv: one line a repetition and figure of every cell, and the means over videos of how well its maps meet boxes."""
    folder = Path(folder)
    cells, lines = read(folder), []
    for cell in cells:
        for figure in video_statistics.FIGURES:
            found = video_statistics.values(cell, figure)
            lines += [(*cell[:6], *at, figure, value) for at, value in zip(cell.repetitions, found, strict=True)]
    last = {(cell.experiment, cell.mode): cell for cell in cells}  # at the last share, whose networks are mapped
    for key, (seeds, measures, *_) in _mapped(folder).items():
        for name, scores in measures.items():
            means = [np.mean(one[~np.isnan(one)]) if (~np.isnan(one)).any() else np.nan for one in scores]
            lines += [(*last[key][:6], seed, 0, name, mean) for seed, mean in zip(seeds, means, strict=True) if key in last]
    path = folder / "results.csv"
    partial = path.with_name(".results.csv.partial")
    with open(partial, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(RESULTS)
        writer.writerows([*line[:-1], "" if np.isnan(line[-1]) else float(line[-1])] for line in lines)
    os.replace(partial, path)
    return path


def _scored(place: Path) -> bool:
    """results.json is written after the predictions, so where it stands they are whole."""
    return bool(read_json(place / "results.json")) and (place / "classify" / "predictions.csv").is_file()


def _ended(folder: Path) -> dict[str, tuple[str, str, dict[int, list[tuple[int, Path]]]]]:
    """{experiment: (table, row, {seed: [(fold, folder of the run)]})}, the seeds of which all folds have ended."""
    found: dict[str, tuple[str, str, dict]] = {}
    for run in planned(folder):
        seeds = found.setdefault(run["experiment"], (run["table"], run["row"], {}))[2]
        seeds.setdefault(run["seed"], []).append((run.get("fold", -1), folder / run["folder"]))
    return {
        name: (table, row, {seed: sorted(folds) for seed, folds in seeds.items() if all(_scored(place) for _, place in folds)})
        for name, (table, row, seeds) in found.items()
    }


def _cell(head: tuple[str, str, str, str, float], found: dict[tuple[int, int], list[tuple[int, Path, dict]]]) -> Cell:
    """One cell of {(seed, draw): [(fold, folder of the run, what its classifier says)]}."""
    first: list[np.ndarray] | None = None
    score, called, labels = [], [], []
    for (seed, _), parts in found.items():
        whole = {key: np.concatenate([part[key] for *_, part in parts]) for key in ("score", "called", "label", "patient", "cine")}
        fold = np.repeat([fold for fold, *_ in parts], [len(part["cine"]) for *_, part in parts])
        mine = [whole["label"], whole["patient"], whole["cine"], fold]
        first = first or mine
        if not all(map(np.array_equal, first, mine)):
            raise UserError(f"{parts[0][1]}: seed {seed} of {head[0]!r} has other test videos than seed {next(iter(found))[0]}")
        score.append(whole["score"])
        called.append(whole["called"])
        labels += [part["labels"] for *_, part in parts]
    return Cell(*head, round(sum(labels) / len(labels)), list(found), np.stack(score), np.stack(called), *first)


def _tested(place: Path) -> dict[tuple[str, float, int], dict[str, Any]]:
    """{(mode, fraction, draw): {"labels", and arrays [n] of the test videos in the order of cines}}, as classify/ of a run has them."""
    path, parts = place / "classify" / "predictions.csv", {}
    labels = {(row["mode"], row["fraction"]): row["labels"] for row in read_json(place / "classify" / "table.json").get("rows", ())}
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
    for name, (_, _, seeds) in _ended(folder).items():
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
