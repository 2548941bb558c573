"""Figures of an anatomy study: macro F1 over the share of the labels, and over the anatomy ratio."""

import numpy as np

from uscl.report.figures import BLUE, GREEN, PURPLE, SERIES, VERMILLION, Panel
from uscl.report.folder import Missing
from uscl.report.plane_cells import COARSE, FIGURE, FINE, SIMCLR
from uscl.report.plane_tables import GROUPS, smallest
from uscl.report.scores import METRICS
from uscl.report.study_cells import mode_name
from uscl.report.study_folder import percent
from uscl.report.tables import figure
from uscl.report.video_shares import curves, limits

NAME = METRICS[FIGURE][0]
DRAWN = {SIMCLR: BLUE, COARSE: PURPLE, FINE: GREEN, "imagenet": SERIES[1]}  # the others stand in the tables
NOT_PRETRAINED = VERMILLION
OF_MODES = {"features": (BLUE, "ring"), "features_knn": (GREEN, "ring"), "finetuned": (VERMILLION, "dot")}


def shares(planes, tables, easel):
    """Macro F1 over the share of the labels, a panel a kind of mode. Raises Missing before two shares have been evaluated."""
    lines = {}
    for key, (_, modes) in GROUPS.items():
        rows = dict(tables[key].rows) if key in tables else {}
        for place in planes.places(modes):
            name, mode = place
            cells = dict(zip(planes.shares(), rows[planes.name(place)], strict=True))
            points = {share: (cell.mean, cell.low, cell.high) for share, cell in cells.items() if cell.known}
            if len(points) > 1 and (name in DRAWN or mode not in OF_MODES):
                lines[place] = points
    if not lines:
        raise Missing("no classifier has been evaluated at two shares of the labels")
    names = list(dict.fromkeys(name for name, _ in lines))
    colours, marks = {name: DRAWN.get(name, NOT_PRETRAINED) for name in names}, dict.fromkeys(names, "dot")
    ends, panels = limits(lines.values(), chance=None), []
    for title, modes in GROUPS.values():
        mine = {place: points for place, points in lines.items() if place[1] in modes}
        if mine:
            draw = lambda axes, mine=mine: curves(axes, mine, colours, marks, planes, ends, label=NAME, chance=None)  # noqa: E731
            said = "; ".join(f"{', '.join(planes.name(place))}: {_said(points, percent)}" for place, points in mine.items())
            panels.append(Panel(draw, title, f"{NAME} by share of the labels, {title}. {said}", 4.2, 3.1))
    legend = [("dot", colours[name], planes.study.label(name)) for name in names]
    text = (
        "Macro F1 by the share of the labels that the classifier learns from. Bands and whiskers are 95 % intervals over patients, and "
        "over repetitions where there are several. The rows that are not drawn stand in the tables."
    )
    return {"text": text, "blocks": [easel.block("plane-shares", panels, columns=3, legend=legend)]}


def ratio(planes, table, easel):
    """A block: macro F1 over the ratio at the smallest share, a line a mode. Raises Missing before two ratios have been evaluated."""
    ratios = list(planes.ratios())
    lines = {}
    for k, mode in enumerate(planes.pretrained(*planes.ratios().values())):
        cells = {r: cells[k] for r, (_, cells) in zip(ratios, table.rows, strict=True)}
        points = {r: (cell.mean, cell.low, cell.high) for r, cell in cells.items() if cell.known}
        if len(points) > 1:
            lines[mode] = points
    if not lines:
        raise Missing("no two ratios have been evaluated")
    ends = limits(lines.values(), chance=None)

    def draw(axes):
        for k, (mode, points) in enumerate(lines.items()):
            at = np.array(sorted(points))
            mean, low, high = np.array([points[r] for r in at], float).T
            colour, mark = OF_MODES[mode]
            known, x = np.isfinite(low) & np.isfinite(high), at + 0.008 * (k - (len(lines) - 1) / 2)
            axes.fill_between(at[known], low[known], high[known], color=colour, alpha=0.1, linewidth=0)
            axes.vlines(x[known], low[known], high[known], color=colour, linewidth=1, alpha=0.7)
            style = {"linestyle": (0, (3, 2)), "markerfacecolor": "none"} if mark == "ring" else {}
            axes.plot(x, mean, marker="o", color=colour, markersize=4.5, linewidth=1.6, **style)
        axes.set_xticks(ratios, [f"{r:g}" for r in ratios])
        axes.set(xlabel="share r of the labels that the pretraining keeps; 0 is SimCLR", ylabel=NAME, ylim=ends)
        axes.grid(axis="y")

    where = f"{percent(smallest(planes))} of the labels"
    said = "; ".join(f"{mode_name(mode)}: {_said(points, 'r = {:g}'.format)}" for mode, points in lines.items())
    legend = [(OF_MODES[mode][1], OF_MODES[mode][0], mode_name(mode)) for mode in lines]
    return easel.block("plane-ratio", [Panel(draw, where, f"{NAME} by ratio, {where}. {said}", 5.2, 3.1)], legend=legend)


def _said(points, name):
    return ", ".join(f"{figure(points[at][0], 2)} at {name(at)}" for at in sorted(points))
