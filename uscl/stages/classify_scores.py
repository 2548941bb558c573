"""What the classifications of a run amount to: predictions.csv, one line a video, and a table of modes with intervals over patients."""

from functools import partial
from typing import Any

import numpy as np

from uscl import metrics
from uscl.data.videos import Videos
from uscl.stages import run as stage_run
from uscl.stages.modes import Cell
from uscl.train.logs import write_csv, write_json

DIFFERENCES = (("features", "random"), ("finetuned", "supervised"), ("finetuned", "features"))  # a pretrained mode less its counterpart


def margin(logits: np.ndarray) -> np.ndarray:
    """[n, clips, 2] -> [n]: log odds of the positive class, the mean over a video's clips."""
    return (logits[..., 1] - logits[..., 0]).mean(1)


def of_counts(figure):
    return lambda truth, score, called: figure(metrics.confusion(truth, called))


FIGURES = {
    "auc": lambda truth, score, called: metrics.auc(truth, score),
    "accuracy": of_counts(metrics.accuracy), "sensitivity": of_counts(metrics.sensitivity), "specificity": of_counts(metrics.specificity),
}  # fmt: skip


def mean_of_draws(name: str, truth: np.ndarray, scores: np.ndarray, called: np.ndarray) -> float:
    """The mean over draws of one figure; scores and called (positive or not) are [n, draws]."""
    return float(np.mean([FIGURES[name](truth, *columns) for columns in zip(scores.T, called.T, strict=True)]))


def table(cells: list[Cell], validation: Videos, test: Videos, *, bootstrap: int, seed: int) -> dict[str, Any]:
    """{"rows": [...], "differences": [...]}: each mode at each fraction, and pretrained ones less their counterparts, in AUC.

    The threshold of a classifier is the one that is best on the validation videos by Youden's index. Intervals resample test patients; the
    draws are averaged, not resampled.
    """
    places: dict[tuple[str, float], list[Cell]] = {}
    for cell in cells:
        places.setdefault((cell.mode, cell.fraction), []).append(cell)
    sets, rows = {}, []
    for (mode, fraction), mine in places.items():
        scores = np.stack([cell.test for cell in mine], axis=1)
        cuts = np.array([metrics.youden_threshold(validation.label, cell.validation) for cell in mine])
        sets[mode, fraction] = scores
        row: dict[str, Any] = {"mode": mode, "fraction": fraction, "draws": len(mine), "labels": mine[0].labels}
        for name in FIGURES:
            found = metrics.bootstrap_statistic(
                partial(mean_of_draws, name), test.label, scores, scores >= cuts,
                patients=test.patient, repeats=bootstrap, seed=seed,
            )  # fmt: skip
            row[name] = interval(found)
        rows.append(row)
    differences = []
    for mine, other in DIFFERENCES:
        for fraction in dict.fromkeys(cell.fraction for cell in cells):
            if (mine, fraction) in sets and (other, fraction) in sets:
                found = metrics.bootstrap_statistic(
                    lambda truth, a, b: mean_auc(truth, a) - mean_auc(truth, b), test.label, sets[mine, fraction], sets[other, fraction],
                    patients=test.patient, repeats=bootstrap, seed=seed,
                )  # fmt: skip
                differences.append({"mode": mine, "against": other, "fraction": fraction, "auc": interval(found)})
    return {"rows": rows, "differences": differences}


def mean_auc(truth: np.ndarray, scores: np.ndarray) -> float:
    return float(np.mean([metrics.auc(truth, score) for score in scores.T]))


def interval(found) -> dict[str, Any]:
    mean, low, high = (None if np.isnan(value) else float(value) for value in found)
    return {"mean": mean, "ci95": [low, high]}


def write(run: stage_run.Run, cells: list[Cell], validation: Videos, test: Videos) -> None:
    """Writes classify/predictions.csv, classify/table.json and results.json, and prints the table."""
    config, folder = run.config, run.folder / "classify"
    found = table(cells, validation, test, bootstrap=config.evaluate.bootstrap, seed=config.seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = (
        [cell.mode, cell.fraction, cell.draw, part, *video, float(score)]
        for cell in cells
        for part, videos, scores in (("validation", validation, cell.validation), ("test", test, cell.test))
        for *video, score in zip(videos.patient, videos.cine, videos.label, scores, strict=True)
    )
    write_csv(folder / "predictions.csv", ["mode", "fraction", "draw", "part", "patient", "cine", "label", "score"], rows)
    write_json(folder / "table.json", found)
    best = next(row for row in reversed(found["rows"]) if row["mode"] == cells[-1].mode)
    write_json(run.folder / "results.json", {
        "experiment": config.experiment, "scale": config.scale, "classes": [config.classify.column], "n_test": len(test.cine),
        "n_test_patients": len(set(test.patient.tolist())), "n_train_labels": best["labels"], "mode": best["mode"],
        "metrics": {name: best[name] for name in FIGURES},
    })  # fmt: skip
    for row in found["rows"]:
        low, high = row["auc"]["ci95"]
        figures = " ".join(f"{name} {row[name]['mean']:.2f}" for name in FIGURES if name != "auc")
        run.log.info(f"test: {row['mode']} at {100 * row['fraction']:g} % of labels: AUC {row['auc']['mean']:.3f} "
                     f"({_told(low)} to {_told(high)}), {figures}")  # fmt: skip


def _told(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
