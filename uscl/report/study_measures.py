"""What stands behind the scores: can the networks' probabilities be believed, and what would a border drawn slightly elsewhere cost."""

import math

import numpy as np

from uscl.report.figures import MUTED, SERIES, Panel
from uscl.report.folder import Missing
from uscl.report.study_folder import percent
from uscl.report.tables import figure

BINS = ("count", "confidence", "correct")
MOVES = {"erode 1": "1 px inwards", "dilate 1": "1 px outwards", "erode 10": "10 px inwards", "dilate 10": "10 px outwards"}
SLACK = 0.02  # confidence and share right that lie nearer than this are told as equal


def read(models, name):
    """{label: content} of a JSON file of the shown runs, of those that have written it. Raises Missing where none has."""
    found = {}
    for label, run in models.items():
        try:
            found[label] = run.folder.json(name)
        except Missing:
            continue
    if not found:
        raise Missing(f"no run has written its {name}")
    return found


def number(value):
    """A number of a JSON file as float; nan for null, for what is absent and for what is no number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def calibration(study, easel, models):
    """Reliability diagram of the shown runs, a line a model, and their calibration errors and Brier scores."""
    found = read(models, "evaluate/calibration.json")
    lines = {label: line for label, entry in found.items() if (line := _bins(entry)) is not None}
    blocks, rows, told = [], [], []
    colours = {label: SERIES[list(models).index(label) % len(SERIES)] for label in lines}
    if lines:
        said = "; ".join(f"{label}: ECE {figure(number(found[label].get('ece')))}" for label in lines)
        panel = Panel(lambda axes: _diagram(axes, lines, colours), "confidence against share right", f"reliability. {said}", height=3.4)
        legend = [*(("dot", colour, label) for label, colour in colours.items()), ("line", MUTED, "as sure as right")]
        blocks.append(easel.block("calibration", [panel], legend=legend))
    for label, entry in found.items():
        sure, right = _overall(lines[label]) if label in lines else (math.nan, math.nan)
        pixels = number(entry.get("pixels"))
        measures = (number(entry.get("ece")), _brier(entry), sure, right)
        rows.append([label, *(figure(value) for value in measures), "–" if pixels != pixels else f"{pixels:,.0f}"])
        if sure == sure:
            word = "too sure" if sure > right + SLACK else "not sure enough" if sure < right - SLACK else "as sure as right"
            told.append(f"{label} is {word} ({figure(sure, 2)} sure, {figure(right, 2)} right)")
    head = ["model", "ECE", "Brier", "mean confidence", "right", "pixels"]
    blocks.append({"kind": "table", "table": {"head": head, "rows": rows}, "strong": False})
    some = next(iter(models.values()))
    text = (
        "How often the label that a model holds for most probable is the true one, against how probable it holds it: below the diagonal it "
        "is too sure. A dot's area is the bin's share of the pixels. Only pixels where truth or prediction is not background. "
        f"At {percent(some.fraction)} of labels, seed {some.seed}."
    )
    notes = ["ECE: mean distance of confidence from share right. Brier: squared error, summed over the classes. Lower is better for both."]
    return {"text": text, "blocks": blocks, "notes": ["; ".join(told) + ".", *notes] if told else notes}


def _bins(entry):
    """[3, B]: count, mean confidence and share right of each bin that holds a pixel; None where the file does not say."""
    bins = entry.get("bins")
    if not isinstance(bins, dict) or not all(isinstance(bins.get(key), list) for key in BINS) or len({len(bins[key]) for key in BINS}) > 1:
        return None
    table = np.array([[number(value) for value in bins[key]] for key in BINS])
    table = table[:, np.isfinite(table).all(0) & (table[0] > 0)]
    return table if table.shape[1] else None


def _overall(line):
    """(mean confidence, share right) over all pixels."""
    return tuple(float(line[0] @ line[k] / line[0].sum()) for k in (1, 2))


def _brier(entry):
    """One number; a list has one for each class, whose sum is the score as Brier defined it."""
    value = entry.get("brier")
    parts = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]
    return sum(map(number, parts)) if parts else math.nan


def _diagram(axes, lines, colours):
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
    for label, (count, confidence, correct) in lines.items():
        axes.plot(confidence, correct, color=colours[label], linewidth=1.2, alpha=0.9)
        axes.scatter(confidence, correct, s=6 + 110 * count / count.sum(), color=colours[label], linewidths=0, alpha=0.85)
    axes.set_xlabel("confidence")
    axes.set_ylabel("share right")
    axes.set_xlim(min(0.95 * min(line[1].min() for line in lines.values()), 0.6), 1.01)
    axes.set_ylim(0, 1.02)
    axes.grid()


def borders(study, easel, models):
    """How DSC and delta-SNR of a perfect drawing move when its border lies elsewhere: the scale on which to read differences."""
    found = read({**models, **{run.experiment: run for run in study.runs if run.done}}, "evaluate/sensitivity.json")
    classes = {name: moves for name, moves in next(iter(found.values())).items() if isinstance(moves, dict)}  # of the truth: alike in all
    entry = lambda moves, move, key: number((moves.get(move) or {}).get(key))  # noqa: E731
    rows, costs = [], {}
    for name, moves in classes.items():
        cells = []
        for move in MOVES:
            dsc, snr = entry(moves, move, "dsc"), entry(moves, move, "delta_snr")
            cells.append({"value": figure(dsc - 1) if dsc == dsc else "–", "note": f"ΔSNR {figure(snr)}"})
        one = [cost for move in list(MOVES)[:2] if (cost := 1 - entry(moves, move, "dsc")) == cost]
        if one:
            costs[name] = float(np.mean(one))
        images = [n for place in (moves, *(moves.get(move) or {} for move in MOVES)) if (n := number(place.get("n"))) == n]
        rows.append([name.replace("_", " "), figure(int(images[0])) if images else "–", *cells])
    if not rows:
        raise Missing("evaluate/sensitivity.json holds no classes")
    blocks = [{"kind": "table", "table": {"head": ["class", "images", *MOVES.values()], "rows": rows}, "strong": False}]
    notes = ["Mean over test images of the true masks, moved, against themselves. A dash: nothing is left inside."]
    if costs:
        least, most = min(costs, key=costs.get), max(costs, key=costs.get)
        named = lambda name: f"{figure(costs[name])} of DSC ({name.replace('_', ' ')})"  # noqa: E731
        cost = f"{named(least)} to {named(most)}" if least != most else named(least)
        notes.insert(0, f"A border off by one pixel all round costs {cost}. Two models that differ by less differ by less than one pixel.")
    text = (
        "What a perfect drawing would lose if its border lay so far off everywhere: large, how far DSC falls below 1; small, how far "
        "|ΔSNR| rises above 0. No model takes part. It tells what a difference in the tables means."
    )
    return {"text": text, "blocks": blocks, "notes": notes}
