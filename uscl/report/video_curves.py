"""Figures of videos told apart: modes with their intervals, curves over the share of labels, ROC curves; and what they are drawn from."""

import numpy as np

from uscl.metrics.classification import auc, youden_threshold
from uscl.report.figures import BLUE, INK, MUTED, VERMILLION, Panel
from uscl.report.folder import Missing
from uscl.report.scores import METRICS, MODES
from uscl.report.tables import figure

COLOURS = {"random": VERMILLION, "pretrained": BLUE}  # by the encoder's first weights
WIDTH = 3.2


def name_of(mode):
    return MODES[mode][0] if mode in MODES else str(mode)


def look(mode):
    """Colour, and whether the encoder learns from the labels: then dots and full lines, else rings and dashes."""
    _, first, learns = MODES.get(mode, ("", "random", True))
    return COLOURS[first], learns


def legend(modes):
    return [("dot" if look(mode)[1] else "ring", look(mode)[0], name_of(mode)) for mode in dict.fromkeys(modes)]


def percent(share):
    """`percent(0.05)` is "5 %", with a space that does not break."""
    return f"{100 * share:g}\N{NO-BREAK SPACE}%"


def by_draw(folder):
    """classify/predictions.csv as {(mode, fraction, draw): {part: (label bool [n], score [n])}}."""
    columns = ("mode", "fraction", "draw", "part", "label", "score")
    found = {}
    try:
        for row in folder.rows("classify/predictions.csv", *columns):
            key = row["mode"], float(row["fraction"]), int(row["draw"])
            found.setdefault(key, {}).setdefault(row["part"], []).append((int(row["label"]), float(row["score"])))
    except (ValueError, TypeError) as error:
        raise Missing(f"classify/predictions.csv: {error}") from None
    arrays = {key: {part: np.array(values).T for part, values in parts.items()} for key, parts in found.items()}
    if not all(np.isfinite(values).all() for parts in arrays.values() for values in parts.values()):
        raise Missing("classify/predictions.csv: a score is not finite")
    return {key: {part: (label == 1, score) for part, (label, score) in parts.items()} for key, parts in arrays.items()}


def roc(label, score):
    """Share of negatives and of positives that score at least each threshold, from (0, 0) to (1, 1): two arrays [k]."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)  # videos of one score cross the threshold together
    return tuple(np.append(0, np.cumsum(which[order])[last]) / max(1, which.sum()) for which in (~label, label))


def by_mode(rows, scores):
    """A row a mode: its AUC with the interval, and below it each draw's."""
    share = rows[0]["fraction"]
    mine = {mode: [auc(*parts["test"]) for (name, at, _), parts in scores.items() if (name, at) == (mode, share) and "test" in parts]
            for mode in (row["mode"] for row in rows)}  # fmt: skip
    return dots(rows, mine, "auc")


def dots(rows, draws, name):
    """A row a mode: one figure with its interval, and below it that of each draw; draws: {mode: [figure, ...]}."""

    def draw(axes):
        seen = [0.5] if name == "auc" else []
        for place, row in enumerate(rows):
            colour, learns = look(row["mode"])
            mean, ends = _numbers(row[name])
            axes.plot(ends, [place, place], color=colour, linewidth=1.6, linestyle="-" if learns else (0, (3, 2)))
            axes.plot(mean, place, "o", color=colour, markersize=6, markerfacecolor=colour if learns else "none", zorder=3)
            own = draws.get(row["mode"], [])
            if len(own) > 1:
                axes.plot(own, np.full(len(own), place + 0.25), "o", color=MUTED, markersize=3, alpha=0.6, markeredgewidth=0)
            seen += [mean, *ends, *own]
        if name == "auc":
            axes.axvline(0.5, color=INK, linestyle=(0, (4, 3)), linewidth=1)
            axes.annotate("chance", (0.5, -0.55), (3, -2), textcoords="offset points", va="top")
        axes.set_yticks(range(len(rows)), [name_of(row["mode"]) for row in rows], color=INK)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(min(0.45, np.nanmin(seen) - 0.03), 1)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")

    said = ", ".join(f"{name_of(row['mode'])} {figure(row[name].get('mean'), 2)}" for row in rows)
    what = METRICS[name][0]
    caption = f"{what}, {percent(rows[0]['fraction'])} of the labels"
    return Panel(draw, caption, f"{what} by mode: {said}", width=WIDTH, height=0.8 + 0.42 * len(rows))


def against_share(rows, name):
    """One figure over the share of labels, a line a mode."""
    modes = list(dict.fromkeys(row["mode"] for row in rows))
    shares = sorted({row["fraction"] for row in rows})
    gap = 100 * min(*np.diff(shares), shares[0]) / 6  # intervals of one share stand beside each other

    def draw(axes):
        for k, mode in enumerate(modes):
            colour, learns = look(mode)
            mine = sorted((row for row in rows if row["mode"] == mode), key=lambda row: row["fraction"])
            x = 100 * np.array([row["fraction"] for row in mine]) + gap * (k - (len(modes) - 1) / 2)
            numbers = [_numbers(row.get(name) or {}) for row in mine]
            axes.vlines(x, *np.array([ends for _, ends in numbers]).T, color=colour, linewidth=1, alpha=0.6)
            style = {"linestyle": "-" if learns else (0, (3, 2)), "markerfacecolor": colour if learns else "none"}
            axes.plot(x, [mean for mean, _ in numbers], color=colour, marker="o", markersize=4.5, linewidth=1.4, **style)
        if name == "auc":
            axes.axhline(0.5, color=INK, linestyle=(0, (4, 3)), linewidth=1)
        axes.set_ylim(min(0.45, axes.get_ylim()[0]), 1.01)
        axes.set_xlim(0, 100 * max(shares) + 2 * abs(gap) + 1)
        axes.set_xlabel("share of the labels, %")
        axes.grid(axis="y")

    said = "; ".join(
        f"{name_of(mode)} " + ", ".join(f"{figure((row.get(name) or {}).get('mean'), 2)} at {percent(row['fraction'])}"
                                        for row in rows if row["mode"] == mode) for mode in modes
    )  # fmt: skip
    return Panel(draw, METRICS[name][0], f"{METRICS[name][0]} over the share of labels: {said}", width=WIDTH, height=2.6)


def curves(scores, share, *, several):
    """ROC curves of the first draw at one share of the labels, the thresholds marked; `several`: there are other shares."""
    mine = {mode: parts for (mode, at, draw), parts in scores.items() if at == share and draw == 0 and "test" in parts}

    def draw(axes):
        axes.plot([0, 1], [0, 1], color=INK, linestyle=(0, (4, 3)), linewidth=1)
        for mode, parts in mine.items():
            colour, learns = look(mode)
            axes.plot(*roc(*parts["test"]), color=colour, linewidth=1.5, linestyle="-" if learns else (0, (3, 1.5)), solid_capstyle="butt")
        for mode, parts in mine.items():
            colour, learns = look(mode)
            cut = youden_threshold(*parts["validation"]) if "validation" in parts else float("nan")
            label, score = parts["test"]
            if cut == cut and label.any() and not label.all():
                at = (score[~label] >= cut).mean(), (score[label] >= cut).mean()
                axes.plot(*at, "o", color=colour, markersize=6, markerfacecolor=colour if learns else "none", zorder=3)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="1 \N{MINUS SIGN} specificity", ylabel="sensitivity", aspect="equal")
        axes.grid(axis="both")

    said = ", ".join(f"{name_of(mode)} {figure(auc(*parts['test']), 2)}" for mode, parts in mine.items())
    where = f", {percent(share)} of the labels" if several else ""
    size = {"width": 2.8, "height": 2.6} if several else {"width": WIDTH, "height": 2.8}
    return Panel(draw, f"ROC{where}", f"ROC curves of the first draw{where}; areas: {said}", **size)


def _numbers(entry):
    """(mean, [low, high]) of an entry, nan where there is none."""
    nan = float("nan")
    mean, ends = entry.get("mean"), entry.get("ci95") or (None, None)
    return nan if mean is None else mean, [nan if end is None else end for end in ends]
