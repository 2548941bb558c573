"""Head circumferences: how far they are off, how many heads were missed, and the ellipses behind the figures on a few images."""

from dataclasses import replace

import numpy as np

from uscl import metrics
from uscl.report import overlays
from uscl.report.figures import BLUE, MUTED, ORANGE, SKY, VERMILLION, Panel
from uscl.report.folder import Missing
from uscl.report.tables import figure

CIRCUMFERENCES = ("predicted_mm", "true_mm", "table_mm")
PAIRS = {  # what is held against what
    "prediction − true mask": ("predicted_mm", "true_mm"), "prediction − table": ("predicted_mm", "table_mm"),
    "true mask − table": ("true_mm", "table_mm"),
}  # fmt: skip
TEXT = (
    "The perimeter of the ellipse through a mask's outline, in mm: the prediction's against the true mask's, measured alike, and against "
    "the figure the store's table has of that head. What true mask and table differ by is no mistake of the network's."
)


def section(folder, easel):
    rows = folder.rows("evaluate/heads.csv", *CIRCUMFERENCES)
    try:
        found = {name: np.array([float(row[name] or "nan") for row in rows]) for name in CIRCUMFERENCES}
    except (ValueError, TypeError) as error:
        raise Missing(f"evaluate/heads.csv: {error}") from None
    difference = found["predicted_mm"] - found["true_mm"]
    missed = np.isnan(difference) & ~np.isnan(found["true_mm"])
    if np.isnan(found["true_mm"]).all():
        raise Missing("no true mask has a circumference: there is no head, or the mm of a pixel are unknown")
    blocks = [{"kind": "table", "table": table(found), "strong": False}]
    legend = [("dot", BLUE, "a head"), *([("dot", VERMILLION, "missed, so without a difference")] if missed.any() else [])]
    blocks.append(easel.block("circumference", [_differences(found["true_mm"], difference, missed)], legend=legend))
    try:
        blocks += _ellipses(folder, easel, difference, missed)
    except Missing as error:
        blocks.append({"kind": "missing", "text": str(error)})
    return {"text": TEXT, "blocks": blocks}


def table(found):
    """How many heads, how many of them missed, mean and magnitude of the differences: {"head", "rows"}. found: {name: [n] in mm}."""
    rows = []
    for name, (first, second) in PAIRS.items():
        e = metrics.circumference_error(found[first], found[second])
        if e.measured + e.missed:
            rows.append([name, figure(e.measured + e.missed), figure(e.missed), figure(e.signed, 2), figure(e.absolute, 2)])
    return {"head": ["difference", "heads", "missed", "mean, mm", "mean without sign, mm"], "rows": rows}


def _differences(true, difference, missed):
    def draw(axes):
        axes.axhline(0, color=MUTED, linewidth=1)
        axes.plot(true, difference, "o", color=BLUE, markersize=4, alpha=0.7, markeredgewidth=0)
        axes.plot(true[missed], np.full(missed.sum(), 0.03), "o", color=VERMILLION, markersize=5, transform=axes.get_xaxis_transform())
        axes.set_xlabel("circumference of the true mask, mm")
        axes.set_ylabel("prediction − true mask, mm")
        axes.grid(axis="y")

    told = f"Differences of circumference against the true one; {missed.sum()} heads missed"
    return Panel(draw, "every head", told, width=5.0, height=2.6)


def _ellipses(folder, easel, difference, missed):
    """Outlines and ellipses of the head that is off by least, by the median, by most, and of the first that was missed."""
    cases = folder.arrays("evaluate/cases.npz", "image", "truth", "prediction")
    classes = overlays.class_values(folder, cases["truth"])
    name = folder.config["evaluate"]["circumference"]
    if name not in classes or len(cases["image"]) != len(difference):
        raise Missing(f"evaluate/heads.csv and evaluate/cases.npz are not of the same images, or know no class {name!r}")
    chosen = overlays.ranked(-np.abs(difference)) | ({"missed": int(missed.argmax())} if missed.any() else {})
    legend = [("line", SKY, "true mask"), ("line", ORANGE, "prediction")]
    blocks = [{"kind": "legend", "legend": legend}]
    for place, k in chosen.items():
        masks = [(metrics.class_mask(cases[side][k], classes[name]), colour) for side, colour in (("truth", SKY), ("prediction", ORANGE))]
        image = cases["image"][k]
        panels = [
            overlays.tile(image, "image"), overlays.tile(image, "outlines", [(mask, colour, False) for mask, colour in masks]),
            with_ellipses(image, "ellipses", [(metrics.fit_ellipse(metrics.outline(mask)), colour) for mask, colour in masks]),
        ]  # fmt: skip
        whose = f"patient {cases['patient'][k]} · " if "patient" in cases else ""
        off = f"{figure(float(difference[k]), 2)} mm" if place != "missed" else "no ellipse goes through the prediction"
        blocks.append({"kind": "heading", "text": place, "note": whose + off})
        blocks.append(easel.block(f"ellipses-{place}", panels, columns=4, legend=legend, told=True))
    return blocks


def with_ellipses(image, caption, ellipses):
    """A panel that is an image with [(Ellipse in its pixels, colour)] on it; one of nan is not drawn."""
    bare, thin = overlays.tile(image, caption), -(-max(image.shape[:2]) // overlays.LARGEST)
    t = np.linspace(0, 2 * np.pi, 200)

    def draw(axes):
        bare.draw(axes)
        for (row, column, major, minor, angle), colour in ellipses:
            x, y = major * np.cos(t), minor * np.sin(t)
            columns, rows = column + x * np.cos(angle) - y * np.sin(angle), row + x * np.sin(angle) + y * np.cos(angle)
            axes.plot(columns / thin, rows / thin, color=colour, linewidth=1.1)

    return replace(bare, draw=draw)
