"""Training curves: loss against chance, the terms it is made of, and the look at the validation patients."""

import numpy as np

from uscl.report.figures import BLUE, INK, MUTED, VERMILLION, Panel
from uscl.report.tables import duration

POINTS = 300  # a longer curve is drawn as means of neighbouring records

NO_TERM = ("stage", "step", "loss", "chance", "validation", "best")  # every other number of a record is a term of the loss


def section(folder, easel):
    blocks = []
    for stage, records in folder.records().items():
        panels = [panel for panel in _panels(stage, records) if panel]
        if panels:
            note = sentence(records) + (f" · {duration(folder.seconds[stage])}" if stage in folder.seconds else "")
            blocks.append({"kind": "heading", "text": stage, "note": note})
            blocks.append(easel.block(f"curves-{stage}", panels, columns=3))
    return {
        "text": "One dot is one line of metrics.jsonl. Chance is the loss of embeddings that know nothing; a contrastive loss that "
        "stays there has learnt nothing.",
        "blocks": blocks,
    }


def series(records, key):
    """Steps and values of the records that hold a finite number under `key`."""
    pairs = [(r["step"], number(r.get(key))) for r in records]
    pairs = [(step, value) for step, value in pairs if np.isfinite(value)]
    return np.array(pairs, float).reshape(-1, 2).T


def number(value):
    """A record's value as a float; a validation entry may be a dict, of which the mean DSC counts. Anything else is nan."""
    if isinstance(value, dict):
        value = value.get("dsc", value.get("mean"))
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")


def sentence(records):
    """What the curve says in words: from where to where in how many steps, and where chance lies."""
    (steps, loss), (_, chance), (at, seen) = (series(records, key) for key in ("loss", "chance", "validation"))
    parts = [f"{int(records[-1]['step']):,} steps"]
    if len(loss):
        parts.append(f"loss {loss[0]:.3g} to {loss[-1]:.3g}")
    if len(chance):
        parts.append(f"chance {chance[-1]:.3g}")
    if len(seen):
        parts.append(f"best validation DSC {seen.max():.3f} at step {int(at[seen.argmax()]):,}")
    return " · ".join(parts)


def _panels(stage, records):
    keys = dict.fromkeys(key for record in records for key in record if key not in NO_TERM)
    yield _panel(stage, records, "loss", BLUE, chance=True)
    yield _panel(stage, records, "validation", VERMILLION, name="validation DSC", limits=(0, 1))
    loss = series(records, "loss")
    for key in keys:
        if not np.array_equal(series(records, key), loss):  # the only term of a loss is the loss again
            yield _panel(stage, records, key, MUTED)


def _panel(stage, records, key, colour, *, name=None, chance=False, limits=None):
    steps, values = series(records, key)
    if not len(steps):
        return None
    level = series(records, "chance") if chance else np.zeros((2, 0))
    group = -(-len(steps) // POINTS)
    name = (name or key).replace("_", " ")
    everything = np.concatenate([values, level[1]])
    wide = not limits and everything.min() > 0 and everything.max() > 30 * everything.min()

    def draw(axes):
        ends = np.arange(0, len(steps), group)
        count = np.diff([*ends, len(steps)])
        x, y = np.add.reduceat(steps, ends) / count, np.add.reduceat(values, ends) / count
        axes.plot(x, y, color=colour, marker="o", markersize=3 if len(x) < 60 else 1.2, linewidth=1.4 if len(x) < 60 else 0.9)
        if level.size:
            axes.plot(*level, color=INK, linestyle=(0, (4, 3)), linewidth=1)
            axes.annotate(f"chance {level[1, -1]:.3g}", (level[0, -1], level[1, -1]), (0, 3), textcoords="offset points", ha="right")
        if limits:
            axes.set_ylim(*limits)
        elif wide:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        elif everything.min() >= 0:
            axes.set_ylim(0, 1.12 * everything.max() or 1)
        axes.margins(x=0.02)
        axes.locator_params(axis="x", nbins=5)
        axes.grid(axis="y")
        axes.set_xlabel("step")

    caption = name + (", log scale" if wide else "") + (f", means of {group} records" if group > 1 else "")
    alt = f"{stage}: {name} over {len(steps)} records, from {values[0]:.3g} to {values[-1]:.3g}"
    return Panel(draw, caption, alt, width=2.8, height=1.9)
