"""Stills of several classes told apart: the modes against the share of labels, pretrained ones against their counterparts, confusions."""

import numpy as np
from matplotlib.patches import Rectangle

from uscl.report import video_curves, videos
from uscl.report.figures import BLUE, INK, MUTED, Panel
from uscl.report.folder import Missing
from uscl.report.scores import METRICS
from uscl.report.tables import figure, plural
from uscl.report.video_curves import name_of, percent

FIGURES = ("macro_f1", "macro_precision", "macro_recall", "accuracy")
MODES = ("random", "supervised", "features", "finetuned")  # whose confusions are drawn; neighbours stand in the tables


def section(folder, easel):
    found = folder.json("planes/table.json")
    rows = [row for row in found.get("rows") or [] if isinstance(row, dict) and {"mode", "fraction", "macro_f1"} <= row.keys()]
    if not rows:
        raise Missing("planes/table.json holds no mode's macro F1")
    names, shares = [str(name) for name in found.get("classes") or []], sorted({row["fraction"] for row in rows})
    draws, most = max(row.get("draws") or 1 for row in rows), [row for row in rows if row["fraction"] == shares[-1]]
    key = video_curves.legend([row["mode"] for row in rows if row["mode"] in MODES])
    key += [("speck", MUTED, "one draw")] if len(shares) == 1 and draws > 1 else []
    if len(shares) == 1:
        panels = [video_curves.dots(rows, {row["mode"]: row.get("each") or [] for row in rows}, "macro_f1")]
    else:
        lines = [row for row in rows if row["mode"] in MODES]
        panels = [video_curves.against_share(lines, name) for name in ("macro_f1", "accuracy") if any(row.get(name) for row in lines)]
    blocks = [easel.block("planes", panels, legend=key)]
    blocks += videos.differences(found.get("differences") or [], shares, "macro_f1")
    counted = {row["mode"]: counts for row in most if (counts := _counts(row, names)) is not None}
    where = "" if len(shares) == 1 else f", {percent(shares[-1])} of the labels"
    if counted:
        shown = [confusion(counts, names, f"{name_of(mode)}{where}") for mode, counts in counted.items() if mode in MODES]
        note = "a row a true class, in %, nothing below half a percent; all draws together"
        blocks.append({"kind": "heading", "text": "What is taken for what", "note": note})
        blocks += [easel.block("planes-confusion", shown)] if shown else []
        blocks += [{"kind": "heading", "text": "F1 by class", "note": f"all draws together{where}"}]
        blocks.append({"kind": "table", "table": by_class(counted, names), "strong": False})
    blocks += [{"kind": "heading", "text": "All figures", "note": ""}]
    blocks.append({"kind": "table", "table": videos.table(rows, FIGURES, "still"), "strong": False})
    text = (
        "A pretrained encoder (blue) against a random one (orange), each held still under a linear layer (rings, dashed) or trained whole "
        f"(dots); of the ones held still the nearest labelled stills vote as well. Figures are of the test stills, "
        f"{'the mean of ' if draws > 1 else ''}{plural(draws, 'draw')} of labelled stills and first weights; 95 % intervals resample test "
        "patients, not draws."
    )
    notes = [f"{METRICS[name][0]}: {METRICS[name][3]}." for name in FIGURES]
    return {"text": text, "blocks": blocks, "notes": [*told(folder.config), *notes]}


def told(config):
    """[what the pretraining has known of the labels], a sentence without which the few labels look like all there were."""
    how = config.get("anatomy") or {}
    if "anatomy" not in (config.get("stages") or ()):
        return []
    if not how.get("ratio") or (how.get("method") == "uscl" and not how.get("label_weight")):
        return ["The pretraining was told no label."]
    column = how.get("coarse") if how.get("level") == "coarse" else how.get("column")
    share = "all training stills" if how["ratio"] == 1 else f"{percent(how['ratio'])} of the training stills, drawn anew each time"
    return [
        f"The pretraining was told {column!r} of {share}: few labels are those of the classification alone, "
        "and a comparison with training from random weights is one of more labels as well. anatomy.ratio=0 is told none."
    ]


def _counts(row, names):
    """The confusion matrix of a row, int [K, K], or None where it has none that fits the classes."""
    try:
        counts = np.array(row.get("confusion"), float)
    except (TypeError, ValueError):
        return None
    return counts if names and counts.shape == (len(names), len(names)) and np.isfinite(counts).all() else None


def confusion(counts, names, title):
    """A matrix: each row's shares, the deeper the blue the larger; what is below half a percent is left blank."""
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side, names = len(names), [name.replace("_", " ") for name in names]

    def draw(axes):
        for (row, column), value in np.ndenumerate(share):
            if value >= 0.005:
                axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=BLUE, alpha=0.08 + 0.62 * value, linewidth=0))
                axes.annotate(f"{100 * value:.0f}", (column, row), ha="center", va="center", color=INK, fontsize=7)
        axes.set_xticks(range(side), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(side), names)
        axes.set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5), aspect="equal", xlabel="called")
        axes.tick_params(length=0)
        axes.spines[["left", "bottom"]].set_visible(False)

    told = [name for k, name in enumerate(names) if counts[k].sum()]
    said = ", ".join(f"{name} {100 * share[names.index(name), names.index(name)]:.0f} %" for name in told)
    return Panel(draw, title, f"Confusions, {title}; told right: {said}", width=3.6, height=1.3 + 0.26 * side)


def by_class(counted, names):
    """F1 of each class, a column a mode."""
    columns = []
    for counts in counted.values():
        true, both = counts.sum(1), counts.sum(0) + counts.sum(1)
        columns.append([2 * counts[k, k] / both[k] if true[k] else None for k in range(len(names))])
    rows = [[name.replace("_", " "), *({"value": figure(column[k]), "note": ""} for column in columns)] for k, name in enumerate(names)]
    return {"head": ["class", *(name_of(mode) for mode in counted)], "rows": rows}
