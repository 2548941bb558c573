"""What the networks of the speckle experiments end in: the probability of every class at every pixel of one image, side by side."""

from textwrap import fill

import numpy as np

from uscl.report import overlays, study_cases
from uscl.report.figures import INK, MUTED, Panel
from uscl.report.folder import Missing
from uscl.report.pairs import MAP
from uscl.report.study_findings import speckle_rows
from uscl.report.study_folder import percent
from uscl.report.study_layout import reference

WIDTH = 5.2  # inches, of all columns
GAP, HEAD, TITLE, FOOT = 0.04, 0.2, 0.22, 0.34  # in sides of a tile: between columns, above all, above a row, below all


def section(study, easel, models):
    """Small multiples of the final activations: a row a model, a column a class, for one image of the test patients."""
    found = _activated(study, next(iter(models.values()))) if models else {}
    if not found:
        raise Missing("no run of the speckle experiments has written its evaluate/activations.npz")
    first, folder = next(iter(found.values()))
    same = {
        name: arrays for name, (arrays, _) in found.items()
        if np.array_equal(arrays["image"], first["image"]) and arrays["probability"].shape == first["probability"].shape
    }  # fmt: skip
    classes = overlays.class_values(folder, first["truth"])
    content = [(len(np.unique(truth)), np.count_nonzero(truth)) for truth in first["truth"]]
    k = max(range(len(content)), key=content.__getitem__)
    channels = _channels(classes, first["probability"].shape[1])
    across, tall = len(channels) + 1, first["image"].shape[1] / first["image"].shape[2]
    high = HEAD + len(same) * (tall + TITLE) + TITLE + FOOT
    panel = Panel(
        lambda axes: _matrix(axes, same, k, channels, classes), "", f"probability of {', '.join(channels)} by {', '.join(same)}",
        WIDTH, WIDTH * high / (across * (1 + GAP)),
    )  # fmt: skip
    some = next(iter(models.values()))
    whose = f" of {name}" if (name := study_cases.patient(first, k)) else ""
    text = (
        f"The final activations at {percent(some.fraction)} of labels, seed {some.seed}: how probable the network holds each class at each "
        f"pixel. One test image{whose}, of {len(content)} evenly spaced ones the one that shows most. On the probabilities lie the true "
        "outlines, on the image those of the most probable class."
    )
    left = [name for name in found if name not in same]
    notes = [f"Left out, being of other images or classes: {', '.join(left)}."] if left else []
    blocks = [{"kind": "legend", "legend": overlays.legend(classes)}, easel.block("activations", [panel])]
    return {"text": text, "blocks": blocks, "notes": notes}


def _activated(study, shown):
    """{label: (arrays, folder)}: each speckle row after its reference, every folder once, at the share and the seed of `shown`."""
    found, seen = {}, set()
    rows = [name for names in speckle_rows(study).values() for name in names]
    for name in [one for row in rows for one in (reference(study, row), row) if one]:
        for run in study.chosen(name):
            if (run.fraction, run.seed) != (shown.fraction, shown.seed) or run.folder.path in seen:
                continue
            seen.add(run.folder.path)
            try:
                arrays = run.folder.arrays("evaluate/activations.npz", "image", "truth", "probability")
            except Missing:
                continue
            image, probability = arrays["image"], arrays["probability"]
            if image.ndim == 3 and len(image) and probability.ndim == 4 and probability.shape[::2] == image.shape[:2]:
                if arrays["truth"].shape == image.shape and probability.shape[2:] == image.shape[1:]:
                    found[study.label(name)] = arrays, run.folder
    return found


def _channels(classes, count):
    """Names of the network's outputs: one for each label value from 0 on, or where there are as few as classes one for each of those."""
    single = {int(values[0]): name for name, values in classes.items() if len(values) == 1}
    if count <= max(single, default=0) and count == len(classes):
        return [name.replace("_", " ") for name in classes]
    return [single.get(k, f"label {k}" if k else "background").replace("_", " ") for k in range(count)]


def _matrix(axes, models, k, channels, classes):
    first = next(iter(models.values()))
    image, truth = first["image"][k], first["truth"][k]
    tall = image.shape[0] / image.shape[1]
    true, whole = overlays.outlines(truth, classes), channels[0] == "background"  # else no choice among the outputs makes a label map

    def tile(picture, column, top, lines, **colours):
        left = column * (1 + GAP)
        axes.imshow(picture, extent=(left, left + 1, top + tall, top), interpolation="none", **colours)
        for mask, colour, union in lines:
            x = left + (np.arange(-1, mask.shape[1] + 1) + 0.5) / mask.shape[1]
            y = top + tall * (np.arange(-1, mask.shape[0] + 1) + 0.5) / mask.shape[0]
            if mask.any():
                axes.contour(x, y, np.pad(mask.astype(float), 1), [0.5], colors=[colour], linewidths=0.7, linestyles="--" if union else "-")

    for column, name in enumerate(("most probable" if whole else "truth", *channels)):
        axes.text(column * (1 + GAP), 0, fill(name, 14), color=MUTED, va="bottom", linespacing=1)
    for row, (name, arrays) in enumerate(models.items()):
        top = row * (tall + TITLE) + TITLE
        axes.text(0, top - 0.03, name, color=INK, va="bottom", fontweight="bold")
        chosen = overlays.outlines(arrays["probability"][k].argmax(0), classes) if whole else true
        tile(image, 0, top, chosen, cmap="gray", vmin=0, vmax=255)
        for column in range(len(channels)):
            tile(arrays["probability"][k, column], column + 1, top, [line for line in true if not line[2]], cmap=MAP, vmin=0, vmax=255)
    foot = len(models) * (tall + TITLE) + 0.1
    axes.imshow(np.linspace(0, 1, 256)[None], cmap=MAP, extent=(1 + GAP, 2 + GAP, foot + 0.07, foot), interpolation="none")
    for at, word in ((0, "0"), (1, "1")):
        axes.text(1 + GAP + at, foot + 0.09, word, color=MUTED, va="top", ha="right" if at else "left")
    axes.text(1.5 + GAP, foot + 0.09, "probability", color=MUTED, va="top", ha="center")
    axes.set_xlim(0, (len(channels) + 1) * (1 + GAP) - GAP)
    axes.set_ylim(foot + FOOT, -HEAD - TITLE)
    axes.set_aspect("equal")
    axes.set_axis_off()
