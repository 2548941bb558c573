"""How every figure of the report looks, and the two forms it takes: SVG that follows the page's theme, and PNG under plots/."""

import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

INK, MUTED, LINE = "#1b1f26", "#69707d", "#d9dde3"
# Okabe and Ito's colours, told apart by colour-blind readers as well.
BLUE, VERMILLION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#aa4499"
SKY, ORANGE, PINK, YELLOW = "#56b4e9", "#e69f00", "#cc79a7", "#f0e442"
SERIES = ("#2a78c8", ORANGE, GREEN, "#cc4a12", PURPLE, SKY, "#8c8c3c", PINK)  # none of THEME's: eight apart in either theme
# In the page these become variables, so that a figure is dark on light and light on dark. Other colours stay as they are.
MARKS = {
    "line": {"linewidth": 2}, "dash": {"linewidth": 2, "linestyle": (0, (2, 1))},
    "fill": {"linestyle": "", "marker": "s", "markersize": 7}, "dot": {"linestyle": "", "marker": "o", "markersize": 5.5},
    "ring": {"linestyle": "", "marker": "o", "markersize": 5.5, "markerfacecolor": "none"},
    "speck": {"linestyle": "", "marker": "o", "markersize": 3},
}  # fmt: skip
THEME = {INK: "--ink", MUTED: "--muted", LINE: "--line", BLUE: "--blue", VERMILLION: "--vermillion"}

STYLE = {
    "font.family": "sans-serif", "font.sans-serif": ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"], "font.size": 8.5,
    "text.color": INK, "axes.labelcolor": MUTED, "axes.edgecolor": LINE, "xtick.color": LINE, "ytick.color": LINE,
    "xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED, "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "axes.labelsize": 8.5,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8, "xtick.major.width": 0.8, "ytick.major.width": 0.8,
    "xtick.major.size": 3, "ytick.major.size": 3, "xtick.minor.size": 0, "ytick.minor.size": 0, "axes.titlesize": 8.5,
    "axes.axisbelow": True, "grid.color": LINE, "grid.linewidth": 0.6, "lines.linewidth": 1.6, "lines.solid_capstyle": "round",
    "svg.fonttype": "none", "svg.hashsalt": "uscl", "image.composite_image": False, "axes.unicode_minus": True,
}  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """One pair of axes: `draw(axes)` fills it. Width and height in inches; the caption stands below it, `alt` is for the blind."""

    draw: Callable
    caption: str = ""
    alt: str = ""
    width: float = 4.0
    height: float = 2.5
    bare: bool = False  # an image that fills its frame: no axes, no margin


class Easel:
    """Turns panels into a block of the page and a sheet under `plots`, a folder; None: no sheets."""

    def __init__(self, plots):
        self.plots, self._count = None if plots is None else Path(plots), 0
        if self.plots is not None:
            self.plots.mkdir(exist_ok=True)

    def block(self, name, panels, *, columns=2, legend=(), told=False):
        """One <figure> of several panels, and plots/NAME.png with the same panels on one sheet.

        legend: [(shape, colour, name)], shape one of MARKS' keys; told: the page has said it above, only the sheet needs it.
        """
        with mpl.rc_context(STYLE):
            if self.plots is not None:
                self._sheet(name, panels, columns, legend)
            cells = [{"svg": self._svg(panel), "caption": panel.caption, "width": panel.width} for panel in panels]
        return {"kind": "tiles" if panels[0].bare else "panels", "cells": cells, "columns": columns, "legend": [] if told else legend}

    def _sheet(self, name, panels, columns, legend):
        bare, columns = panels[0].bare, min(columns, len(panels))
        paper, ink = ("#14171c", "#e8eaee") if bare else ("white", INK)  # images are looked at on a dark table
        rows = math.ceil(len(panels) / columns)
        across = max(1, int(columns * panels[0].width / 1.8))
        foot = 0.2 * math.ceil(len(legend) / across)
        size = columns * panels[0].width, rows * (panels[0].height + 0.3) + foot
        figure = Figure(size, layout=None if bare else "constrained")
        room = {
            "left": 0.01, "right": 0.99, "bottom": 0.01 + foot / size[1], "top": 1 - 0.25 / size[1], "wspace": 0.03,
            "hspace": 0.3 / panels[0].height,
        }  # fmt: skip
        if legend:
            handles = [Line2D([], [], color=colour, label=text, **MARKS[shape]) for shape, colour, text in legend]
            place = "lower left" if bare else "outside lower left"
            figure.legend(handles=handles, loc=place, ncols=across, frameon=False, borderaxespad=0.1, labelcolor=ink)
        grid = list(figure.subplots(rows, columns, squeeze=False, gridspec_kw=room if bare else None).flat)
        for axes, panel in zip(grid, panels, strict=False):
            panel.draw(axes)
            axes.set_title(panel.caption, loc="left", color=ink)
        for axes in grid if bare else grid[len(panels) :]:
            axes.set_axis_off()
        figure.savefig(self.plots / f"{name}.png", dpi=200, facecolor=paper)

    def _svg(self, panel):
        figure = Figure((panel.width, panel.height), layout=None if panel.bare else "constrained")
        axes = figure.add_axes((0, 0, 1, 1)) if panel.bare else figure.subplots()
        panel.draw(axes)
        if panel.bare:
            axes.set_axis_off()
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
        self._count += 1
        return inline(text.getvalue(), f"g{self._count}-", panel.alt or panel.caption, smooth=panel.bare)


def css(colour):
    """A colour as the page writes it: the theme's variable where it has one."""
    return f"var({THEME[colour]})" if colour in THEME else colour


def inline(svg, prefix, label, *, smooth=False):
    """A Matplotlib SVG made fit to stand inside a page: own ids, the page's font and colours, no address of any other place.

    svg: text. prefix: what makes its ids unique in the page. label: read aloud instead of it. smooth: let the browser blur pixels.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.S)
    svg = svg.replace("xlink:href", "href")
    head, body = svg.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head).group()
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', body))
    body = re.sub(r' id="([^"]*)"', lambda m: f' id="{prefix}{m[1]}"' if m[1] in used else "", body)
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}", body)
    body = re.sub(r"font: (?:(\w+) )?([\d.]+px) [^;\"]*", lambda m: f"font-size: {m[2]}; font-weight: {m[1] or 'normal'}", body)
    for colour in THEME:
        body = body.replace(colour, css(colour))
    if smooth:
        body = re.sub(r"image-rendering:[^;\"]*;?", "", body)
    quoted = label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    body = re.sub(r"[ ]*\n[ ]*", " ", body)
    return f'<svg {box} role="img" aria-label="{quoted}">{body}'
