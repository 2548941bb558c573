"""What the classifications of stills amount to: predictions.csv, one line a still, and a table of modes with intervals over patients."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import softmax

from uscl import metrics
from uscl.metrics.tallies import FIGURES, bootstrap_counts, count_figures, patient_counts
from uscl.stages import run as stage_run
from uscl.stages.classify_scores import DIFFERENCES, interval
from uscl.stages.modes import Cell
from uscl.train.logs import write_csv, write_json

MAIN = "macro_f1"  # what looks choose by, and what differences are of


def probabilities(logits: np.ndarray) -> np.ndarray:
    """[n, count, K] -> float64 [n, K]: the softmax of the mean over what was seen of a still."""
    return softmax(np.asarray(logits, np.float64).mean(1), axis=-1)


def macro_f1(label: np.ndarray, score: np.ndarray) -> float:
    """Of the most probable class; score [n, K]."""
    return metrics.macro(metrics.confusion(label, score.argmax(1), classes=score.shape[1])).f1


def of_draws(counts: np.ndarray) -> dict[str, np.ndarray]:
    """The mean over draws of each figure: counts [..., D, K, K] -> {name: [...]}."""
    return {name: found.mean(-1) for name, found in count_figures(counts).items()}


def table(cells: list[Cell], test, names: Sequence[str], *, bootstrap: int, seed: int) -> dict[str, Any]:
    """{"classes", "rows", "differences"}: each mode at each fraction, and pretrained ones less their counterparts, in macro F1.

    A row holds, beside its figures, "confusion" [K][K], the counts of all draws together, and "each", the macro F1 of every draw.
    Intervals resample test patients; the draws are averaged, not resampled.
    """
    places: dict[tuple[str, float], list[Cell]] = {}
    for cell in cells:
        places.setdefault((cell.mode, cell.fraction), []).append(cell)
    how, counts, rows = {"repeats": bootstrap, "seed": seed}, {}, []
    for (mode, fraction), mine in places.items():
        called = np.stack([cell.test.argmax(1) for cell in mine], axis=1)
        counts[mode, fraction] = mine_counts = patient_counts(test.label, called, test.patient, classes=len(names))
        row: dict[str, Any] = {"mode": mode, "fraction": fraction, "draws": len(mine), "labels": mine[0].labels}
        row |= {name: interval(found) for name, found in bootstrap_counts(of_draws, mine_counts, **how).items()}
        row["confusion"] = mine_counts.sum((0, 1)).tolist()
        row["each"] = count_figures(mine_counts.sum(0))[MAIN].tolist()
        rows.append(row)
    differences = []
    for mine, other in DIFFERENCES:
        for fraction in dict.fromkeys(cell.fraction for cell in cells):
            if (mine, fraction) in counts and (other, fraction) in counts:
                both = np.stack([counts[mine, fraction], counts[other, fraction]], axis=1)
                found = bootstrap_counts(_less, both, **how)[MAIN]
                differences.append({"mode": mine, "against": other, "fraction": fraction, MAIN: interval(found)})
    return {"classes": list(names), "rows": rows, "differences": differences}


def _less(counts: np.ndarray) -> dict[str, np.ndarray]:
    """counts [R, 2, D, K, K]: the first one's macro F1 less the second one's."""
    found = of_draws(counts)[MAIN]
    return {MAIN: found[:, 0] - found[:, 1]}


def write(run: stage_run.Run, cells: list[Cell], validation, test, names: Sequence[str]) -> None:
    """Writes planes/predictions.csv, planes/table.json and results.json, and prints the table."""
    config, folder = run.config, run.folder / "planes"
    found = table(cells, test, names, bootstrap=config.evaluate.bootstrap, seed=config.seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = (
        [cell.mode, cell.fraction, cell.draw, part, patient, cine, names[label], names[score.argmax()], *(f"{p:.6g}" for p in score)]
        for cell in cells
        for part, stills, scores in (("validation", validation, cell.validation), ("test", test, cell.test))
        for cine, label, patient, score in zip(stills.cine, stills.label, stills.patient, scores, strict=True)
    )
    head = ["mode", "fraction", "draw", "part", "patient", "cine", "label", "called", *(f"p {name}" for name in names)]
    write_csv(folder / "predictions.csv", head, rows)
    write_json(folder / "table.json", found)
    best = next(row for row in reversed(found["rows"]) if row["mode"] == config.planes.modes[-1])
    write_json(run.folder / "results.json", {
        "experiment": config.experiment, "scale": config.scale, "classes": list(names), "n_test": len(test.cine),
        "n_test_patients": len(set(test.patient.tolist())), "n_train_labels": best["labels"], "mode": best["mode"],
        "metrics": {name: best[name] for name in FIGURES},
    })  # fmt: skip
    for row in found["rows"]:
        figures = ", ".join(f"{name.replace('_', ' ')} {_told(row[name]['mean'])}" for name in FIGURES if name != MAIN)
        low, high = map(_told, row[MAIN]["ci95"])
        run.log.info(f"test: {row['mode']} at {100 * row['fraction']:g} % of labels: macro F1 {_told(row[MAIN]['mean'])} "
                     f"({low} to {high}), {figures}")  # fmt: skip


def _told(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
