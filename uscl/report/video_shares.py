"""AUC over the share of the labels, as the paper's Fig. 3: a line a classifier with its interval as a band, frozen encoders apart."""

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from uscl.report.figures import BLUE, GREEN, INK, PURPLE, SERIES, VERMILLION, Panel
from uscl.report.folder import Missing
from uscl.report.study_curves import TICKS
from uscl.report.study_folder import percent
from uscl.report.tables import figure, plural

RANDOM = VERMILLION  # first weights without pretraining; the others below, in the order of the plan
PRETRAINED = (BLUE, GREEN, PURPLE, *SERIES[1:])
PANELS = {"encoder held still": ("random", "features"), "encoder trained with the rest": ("supervised", "finetuned")}
MOST = 7  # ticks on an axis


def section(videos, tables, easel):
    """The figure, from the cells of the tables. Raises Missing before two shares have been evaluated."""
    lines = {}
    for key, temporal in (("shares", False), ("temporal", True)):
        rows = dict(tables[key].rows) if key in tables else {}
        for place in videos.places(temporal=temporal):
            cells = dict(zip(videos.shares(), rows[videos.name(place)], strict=True))
            points = {share: (cell.mean, cell.low, cell.high) for share, cell in cells.items() if cell.known}
            if len(points) > 1:
                lines[place] = points
    if not lines:
        raise Missing("no classifier has been evaluated at two shares of the labels")
    colours, marks = looks(videos, lines)
    panels = []
    for title, modes in PANELS.items():
        mine = {place: points for place, points in lines.items() if place[1] in modes}
        if mine:
            said = "; ".join(
                f"{', '.join(videos.name(place))}: " + ", ".join(f"{figure(points[at][0], 2)} at {percent(at)}" for at in sorted(points))
                for place, points in mine.items()
            )
            ends = limits(lines.values())
            draw = lambda axes, mine=mine, ends=ends: curves(axes, mine, colours, marks, videos, ends)  # noqa: E731
            panels.append(Panel(draw, f"AUC, {title}", f"AUC by share of the labels, {title}. {said}", 4.2, 3.1))
    legend = [(marks[name], colours[name], videos.study.label(name)) for name in dict.fromkeys(name for name, _ in lines)]
    text = (
        f"Frozen encoders under a linear layer, and encoders trained with it, by the share of the labels; {percent(videos.largest())} are "
        f"{plural(videos.labels(videos.largest()) or 0, 'video')}. Bands and whiskers are 95 % intervals over patients, and over "
        "repetitions where there are several."
    )
    return {"text": text, "blocks": [easel.block("shares", panels, legend=legend)]}


def looks(videos, lines):
    """Colour and mark of each experiment: those of the table "temporal" have the colour of what they are held against, and rings."""
    names = list(dict.fromkeys(name for name, _ in lines))
    colours, free = {}, iter(PRETRAINED * (1 + len(names) // len(PRETRAINED)))
    twins = {name: (videos.against((name, mode)) or (None,))[0] for name, mode in lines if _still(videos, name)}
    for name in names:
        if name not in twins or twins[name] not in names:
            pretrained = any(mode in ("features", "finetuned") for other, mode in lines if other == name)
            colours[name] = next(free) if pretrained else RANDOM
    colours |= {name: colours[twin] for name, twin in twins.items() if twin in colours}
    return colours, {name: "ring" if _still(videos, name) else "dot" for name in names}


def _still(videos, name):
    return videos.study.experiments[name]["table"] == "temporal"


def limits(several, chance=0.5):
    """Ends of the axis that holds all points of some lines, and chance where there is one."""
    every = [value for points in several for triple in points.values() for value in triple if np.isfinite(value)]
    least = min(every) - 0.02
    return max(0.0, least if chance is None else min(chance - 0.03, least)), min(1.01, max(every) + 0.03)


def curves(axes, lines, colours, marks, cells, limits, *, label="AUC", chance=0.5):
    """A figure over the share of the labels: {place: {share: (mean, low, high)}}, each place in its experiment's colour and mark."""
    shares = sorted({share for points in lines.values() for share in points})
    decades = shares[-1] / shares[0] >= 10
    for k, ((name, _), points) in enumerate(lines.items()):
        at = np.array(sorted(points))
        mean, low, high = np.array([points[share] for share in at], float).T
        step = k - (len(lines) - 1) / 2  # whiskers side by side
        x = at * 1.02**step if decades else at + 0.006 * step * (shares[-1] - shares[0])
        ring = marks[name] == "ring"
        known = np.isfinite(low) & np.isfinite(high)
        axes.fill_between(at[known], low[known], high[known], color=colours[name], alpha=0.05 if ring else 0.1, linewidth=0)
        axes.vlines(x[known], low[known], high[known], color=colours[name], linewidth=1, alpha=0.7)
        style = {"linestyle": (0, (3, 2)), "markerfacecolor": "none"} if ring else {}
        axes.plot(x, mean, marker="o", color=colours[name], markersize=4.5, linewidth=1.6, **style)
    if chance is not None:
        axes.axhline(chance, color=INK, linestyle=(0, (4, 3)), linewidth=1)
    if decades:
        axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(ticks(shares, decades)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _tick(cells, round(x, 6))))
    axes.set_xlabel(f"share of the labels{', log scale' if decades else ''}; below it, labelled {cells.noun}s")
    axes.set_ylabel(label)
    axes.set_ylim(*limits)
    axes.grid(axis="y")


def ticks(shares, decades):
    """Measured shares, not more than fit: on a log axis the round ones."""
    if decades:
        return [share for share in shares if any(abs(share - tick) < 1e-9 for tick in TICKS)] or shares
    return [shares[round(k)] for k in np.linspace(0, len(shares) - 1, min(MOST, len(shares)))]


def _tick(cells, share):
    labels = cells.labels(share)
    return percent(share) + ("" if labels is None else f"\n{labels:,}")
