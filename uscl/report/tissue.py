"""Nakagami parameters of every tissue: does the predicted region hold the speckle of the true one?"""

from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from uscl.report.figures import BLUE, INK, MUTED, VERMILLION, Panel
from uscl.report.folder import Missing
from uscl.report.tables import figure

KINDS = {"gray levels": ("truth", "prediction"), "envelope": ("envelope_truth", "envelope_prediction")}
MARKS = {"truth": ("dot", BLUE), "prediction": ("ring", VERMILLION), "intended": ("speck", MUTED)}

LOOKS = (
    {"color": BLUE, "markersize": 6},
    {"color": VERMILLION, "markersize": 7, "markerfacecolor": "none", "markeredgewidth": 1.4},
    {"color": MUTED, "markersize": 3.5},
)


def section(folder, easel):
    tissues = folder.json("evaluate/nakagami.json")
    panels, rows = [], []
    kinds = {kind: pair for kind, pair in KINDS.items() if any(source in entry for entry in tissues.values() for source in pair)}
    for kind, pair in kinds.items():
        sources = (*pair, "intended" if kind == list(kinds)[-1] else None)  # what tissue was made with is an envelope's parameter
        for parameter, symbol in (("m", "m"), ("omega", "Ω")):
            panels.append(_panel(kind, sources, parameter, symbol, tissues))
        for name, entry in tissues.items():
            cells = [figure((entry.get(source) or {}).get(p)) if source else "–" for source in sources for p in ("m", "omega")]
            rows.append([f"{name.replace('_', ' ')}, {kind}", *cells])
    if not panels:
        raise Missing("evaluate/nakagami.json holds no parameters")
    head = ["tissue", "truth m", "truth Ω", "prediction m", "prediction Ω", "intended m", "intended Ω"]
    if not any("intended" in entry for entry in tissues.values()):
        head, rows = head[:5], [row[:5] for row in rows]
    legend = [(shape, colour, name) for name, (shape, colour) in MARKS.items() if name != "intended" or len(head) == 7]
    text = (
        "Shape m (1: fully developed speckle; lower: clustered; higher: smoother) and scale Ω = mean of x², inside the true and the "
        "predicted region. Gray levels are log-compressed, so there m follows gain and dynamic range as much as tissue."
    )
    if len(head) == 7:
        text += " Intended is what the phantom's tissue was made with, before propagation and compression changed it."
    table = {"kind": "table", "table": {"head": head, "rows": rows}, "strong": False}
    return {"text": text, "blocks": [easel.block("nakagami", panels, legend=legend), table]}


def _panel(kind, sources, parameter, symbol, tissues):
    def draw(axes):
        for row, entry in enumerate(tissues.values()):
            for source, look in zip(sources, LOOKS, strict=True):
                value = (entry.get(source) or {}).get(parameter) if source else None
                if figure(value) != "–" and value > 0:
                    axes.plot(value, row - (0.22 if source == "intended" else 0), "o", zorder=3, **look)
        rows_of_tissues(axes, tissues)

    alt = f"{symbol} of the {kind} for each tissue, truth against prediction"
    return Panel(draw, f"{symbol}, {kind}", alt, height=0.6 + 0.32 * len(tissues))


def rows_of_tissues(axes, tissues):
    """A row for each tissue, the first on top, along a log axis."""
    axes.set_yticks(range(len(tissues)), [name.replace("_", " ") for name in tissues], color=INK)
    axes.set_ylim(len(tissues) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xscale("log")
    axes.margins(x=0.1)
    axes.grid(axis="both")
    ticks(axes)


def ticks(axes):
    """A few plain numbers on a log axis, which has hardly a label of its own over less than a decade."""
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1,) if high > 100 * low else (1, 2, 5)) if high > 8 * low else MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
