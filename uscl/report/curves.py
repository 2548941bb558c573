"""Training curves: loss against chance, the terms it is made of, and the look at the validation patients."""

import numpy as np

from uscl.report.figures import BLUE, INK, MUTED, VERMILLION, Panel
from uscl.report.scores import MODES
from uscl.report.tables import duration, plural

POINTS = 300  # a longer curve is drawn as means of neighbouring records

NO_TERM = ("stage", "step", "loss", "chance", "validation", "best")  # every other number of a record is a term of the loss
# What a look at the validation patients measures; an area under a ROC curve is 0.5 by chance.
LOOKS = {"video": "AUC of nearest neighbours", "classify": "validation AUC",
         "anatomy": "macro F1 of nearest neighbours", "planes": "validation macro F1"}  # fmt: skip
PROBES = {"linear_auc": "AUC of a linear probe", "linear_f1": "macro F1 of a linear probe"}
AREAS = ("video", "classify", "linear_auc")  # stages and keys of areas


def section(folder, easel):
    blocks, many = [], {}
    for stage, records in folder.records().items():
        if "/" in stage:  # one of a stage's several trainings
            many.setdefault(stage.partition("/")[0], {})[stage.partition("/")[2]] = records
            continue
        panels = [panel for panel in _panels(stage, records) if panel]
        if panels:
            blocks.append({"kind": "heading", "text": stage, "note": sentence(records, stage) + took(folder, stage)})
            blocks.append(easel.block(f"curves-{stage}", panels, columns=3))
    for stage, trainings in many.items():
        blocks.append({"kind": "heading", "text": stage, "note": plural(len(trainings), "training") + took(folder, stage)})
        blocks.append(easel.block(f"curves-{stage}", _together(stage, trainings), columns=2))
    text = (
        "One dot is one line of metrics.jsonl. Chance is the loss of embeddings that know nothing; a contrastive loss that "
        "stays there has learnt nothing."
    )
    if any(block.get("text") == "video" for block in blocks):
        text += (
            " Of pretraining on clips the last weights count: the looks at labels choose nothing. A loss without chance falls when "
            "embeddings collapse as well; embedding std near 0 or effective rank near 1 would tell."
        )
    return {"text": text, "blocks": blocks}


def took(folder, stage):
    return f" · {duration(folder.seconds[stage])}" if stage in folder.seconds else ""


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


def sentence(records, stage=""):
    """What the curve says in words: from where to where in how many steps, and where chance lies."""
    (steps, loss), (_, chance), (at, seen) = (series(records, key) for key in ("loss", "chance", "validation"))
    parts = [f"{int(records[-1]['step']):,} steps"]
    if len(loss):
        parts.append(f"loss {loss[0]:.3g} to {loss[-1]:.3g}")
    if len(chance):
        parts.append(f"chance {chance[-1]:.3g}")
    if len(seen) and stage in LOOKS:
        parts.append(f"{LOOKS[stage]} {seen[0]:.3f} to {seen[-1]:.3f}")
    elif len(seen):
        parts.append(f"best validation DSC {seen.max():.3f} at step {int(at[seen.argmax()]):,}")
    return " · ".join(parts)


def _panels(stage, records):
    keys = dict.fromkeys(key for record in records for key in record if key not in NO_TERM)
    yield _panel(stage, records, "loss", BLUE, chance=True)
    yield _panel(stage, records, "validation", VERMILLION, name=LOOKS.get(stage, "validation DSC"), limits=(0, 1), even=stage in AREAS)
    loss = series(records, "loss")
    for key in keys:
        if key in PROBES:
            yield _panel(stage, records, key, VERMILLION, name=PROBES[key], limits=(0, 1), even=key in AREAS)
        elif not np.array_equal(series(records, key), loss):  # the only term of a loss is the loss again
            yield _panel(stage, records, key, MUTED)


def _panel(stage, records, key, colour, *, name=None, chance=False, limits=None, even=False):
    steps, values = series(records, key)
    if not len(steps):
        return None
    level = series(records, "chance") if chance else np.array([steps[[0, -1]], [0.5, 0.5]]) if even else np.zeros((2, 0))
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


def _together(stage, trainings):
    """The trainings MODE_PERCENTAGE_DRAW of a stage: for each mode its losses and its looks, a line each, few labels pale and all dark."""
    shares = {name: float(name.rsplit("_", 2)[1]) for name in trainings}
    ranks = {share: k / max(1, len(set(shares.values())) - 1) for k, share in enumerate(sorted(set(shares.values())))}
    panels = []
    for mode in dict.fromkeys(name.rsplit("_", 2)[0] for name in trainings):
        mine = {name: records for name, records in trainings.items() if name.rsplit("_", 2)[0] == mode}
        title = MODES[mode][0] if mode in MODES else mode
        for key, what, colour in (("loss", "loss", BLUE), ("validation", LOOKS.get(stage, "validation DSC"), VERMILLION)):
            lines = [(series(records, key), 0.35 + 0.65 * ranks[shares[name]]) for name, records in mine.items()]
            caption = f"{title}: {what}" + (", labels from few (pale) to many" if len(ranks) > 1 else "")
            panels.append(_lines(lines, colour, caption, looks=key == "validation", even=stage in AREAS))
    return panels


def _lines(lines, colour, caption, *, looks, even):
    few = len(lines) <= 6 and all(len(steps) < 60 for (steps, _), _ in lines)

    def draw(axes):
        for (steps, values), strength in lines:
            axes.plot(steps, values, color=colour, alpha=strength, linewidth=1, marker="o" if few else "", markersize=2.5)
        if looks and even:
            axes.axhline(0.5, color=INK, linestyle=(0, (4, 3)), linewidth=1)
        axes.set_ylim(0, 1 if looks else None)
        axes.margins(x=0.02)
        axes.grid(axis="y")
        axes.set_xlabel("step")

    last = [values[-1] for (_, values), _ in lines if len(values)]
    ends = f", at the end {min(last):.3g} to {max(last):.3g}" if last else ""
    return Panel(draw, caption, f"{caption} of {len(lines)} trainings{ends}", width=3.8, height=1.9)
