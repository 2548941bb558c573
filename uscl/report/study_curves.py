"""Figures over the whole study: Dice against the share of labels, and bars by class."""

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from uscl.report.figures import BLUE, GREEN, INK, MUTED, SERIES, VERMILLION, Panel
from uscl.report.folder import Missing
from uscl.report.study_folder import percent
from uscl.report.tables import figure

LINES = (BLUE, VERMILLION, GREEN, *SERIES[4:])  # in the order of the rows; the first two are the papers'
BARS = {
    "dsc": ("DSC", "higher is better"), "surface_dice": ("surface Dice", "higher is better"),
    "delta_snr": ("ΔSNR", "lower is better"), "hd95_mm": ("HD95, mm", "lower is better"),
}  # fmt: skip
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def efficiency(curves, papers, easel, *, measure="DSC"):
    """Blocks with the label-efficiency curves: all models with two fractions or more, beside them the papers'.

    curves: {name: {fraction: (mean, low, high)}}. papers: {name: {fraction: value}}, drawn in the colour of the curve of that name.
    Raises Missing where no model has two fractions.
    """
    curves = {name: points for name, points in curves.items() if len(points) > 1}
    if not curves:
        raise Missing("no model has been evaluated at two shares of labels")
    colours = {name: LINES[k % len(LINES)] for k, name in enumerate(curves)}
    legend = [("dot", colour, name) for name, colour in colours.items()]
    panels = [Panel(lambda axes: _curves(axes, curves, colours, measure), "here, with 95 % intervals", _said(curves), 4.0, 2.9)]
    shown = {name: points for name, points in papers.items() if len(points) > 1}
    if shown:
        both = {name: {at: (value, np.nan, np.nan) for at, value in points.items()} for name, points in shown.items()}
        mine = {name: colours.get(name, MUTED) for name in shown}
        legend += [("dot", MUTED, name) for name in shown if name not in colours]
        panels.append(Panel(lambda axes: _curves(axes, both, mine, measure), "the papers', one run each", _said(both), 4.0, 2.9))
    return [easel.block("label-efficiency", panels, legend=legend)]


def _curves(axes, curves, colours, measure):
    every = np.array([value for points in curves.values() for triple in points.values() for value in triple], float)
    for k, (name, points) in enumerate(curves.items()):
        at = np.array(sorted(points))
        mean, low, high = np.array([points[x] for x in at], float).T
        shift = 1.025 ** (k - (len(curves) - 1) / 2)  # whiskers side by side, not one on the other
        known = np.isfinite(low) & np.isfinite(high)
        axes.fill_between(at[known], low[known], high[known], color=colours[name], alpha=0.13, linewidth=0)
        axes.vlines(at[known] * shift, low[known], high[known], color=colours[name], linewidth=1)
        axes.plot(at * shift, mean, "-o", color=colours[name], markersize=4.5, linewidth=1.6)
    at = sorted({x for points in curves.values() for x in points})
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([x for x in TICKS if 0.8 * at[0] < x < 1.25 * at[-1]]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: percent(round(x, 6))))
    axes.set_xlabel("share of the labelled frames, log scale")
    axes.set_ylabel(f"mean {measure}")
    low, high = np.nanmin(every), np.nanmax(every)
    room = 0.08 * max(high - low, 0.02)
    axes.set_ylim(max(low - room, 0), min(high + room, 1))
    axes.grid(axis="y")


def _said(curves):
    return "; ".join(f"{name}: " + ", ".join(f"{figure(p[x][0], 3)} at {percent(x)}" for x in sorted(p)) for name, p in curves.items())


def bars(scores, *, measure, better):
    """A panel of bars by class, {model: {class: (mean, low, high)}}: a group a class, a bar a model with its interval; and its legend."""
    classes = list(dict.fromkeys(label for entry in scores.values() for label in entry))
    if not classes:
        raise Missing("no model has been evaluated class by class")
    colours = {model: SERIES[k % len(SERIES)] for k, model in enumerate(scores)}

    def draw(axes):
        height = 0.8 / len(scores)
        for k, (model, entry) in enumerate(scores.items()):
            for row, label in enumerate(classes):
                mean, low, high = entry.get(label, (np.nan,) * 3)
                y = row - 0.4 + (k + 0.5) * height
                axes.barh(y, mean, height=0.86 * height, color=colours[model], alpha=0.85)
                if np.isfinite(low) and np.isfinite(high):
                    axes.plot([low, high], [y, y], color=INK, linewidth=1, solid_capstyle="butt")
        axes.set_yticks(range(len(classes)), [label.replace("_", " ") for label in classes], color=INK)
        axes.set_ylim(len(classes) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlim(left=0)
        axes.grid(axis="x")

    said = "; ".join(f"{model}: " + ", ".join(f"{label} {figure(v[0], 2)}" for label, v in one.items()) for model, one in scores.items())
    height = 0.5 + len(classes) * max(0.35, 0.13 * len(scores))
    panel = Panel(draw, f"{measure}, {better}", f"{measure} by class. {said}", width=4.0, height=height)
    return panel, [("fill", colour, model) for model, colour in colours.items()]


def classes(study, scores, easel, models):
    """A panel of bars for each measure of BARS that the runs wrote: the shown models, class by class, at the share of labels shown."""
    if not models:
        raise Missing("no run has been evaluated")
    panels, legend = [], []
    share = next(iter(models.values())).fraction
    for measure, (said, better) in BARS.items():
        found = {}
        for label, run in models.items():
            cells = {name: scores.cell(run.experiment, share, measure, [name]) for name in scores.classes}
            found[label] = {name: (cell.mean, cell.low, cell.high) for name, cell in cells.items() if cell.known}
        if any(found.values()):
            panel, legend = bars(found, measure=said, better=better)
            panels.append(panel)
    if not panels:
        raise Missing("no measure was found in evaluate/cases.csv of the shown runs")
    text = f"A few models at {percent(share)} of labels, all seeds; lines are 95 % intervals. Surface Dice: the share of both"
    text += f" borders that lies within {_tolerance(models)} of the other."
    return {"text": text, "blocks": [easel.block("classes", panels, legend=legend)]}


def _tolerance(models):
    """What `evaluate.tolerance` of the shown runs says."""
    found = [run.folder.config.get("evaluate", {}).get("tolerance") for run in models.values()]
    return next((f"{mm:g} mm" for mm in found if mm is not None), "the tolerance")
