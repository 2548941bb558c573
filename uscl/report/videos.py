"""Videos told apart: the modes against the share of labels, pretrained ones against their counterparts, ROC curves."""

from uscl.report import video_curves
from uscl.report.figures import MUTED
from uscl.report.folder import Missing
from uscl.report.scores import METRICS, interval
from uscl.report.tables import figure, plural
from uscl.report.video_curves import name_of, percent

FIGURES = ("auc", "accuracy", "sensitivity", "specificity")


def section(folder, easel):
    found = folder.json("classify/table.json")
    rows = [row for row in found.get("rows") or [] if isinstance(row, dict) and {"mode", "fraction", "auc"} <= row.keys()]
    if not rows:
        raise Missing("classify/table.json holds no mode's AUC")
    shares, draws = sorted({row["fraction"] for row in rows}), max(row.get("draws") or 1 for row in rows)
    try:
        scores, lacking = video_curves.by_draw(folder), []
    except Missing as error:
        scores, lacking = {}, [{"kind": "missing", "text": str(error)}]
    key = video_curves.legend([row["mode"] for row in rows])
    key += [("speck", MUTED, "one draw")] if len(shares) == 1 and scores and draws > 1 else []
    blocks = [*_figures(rows, shares, scores, easel, key), *lacking]
    blocks += differences(found.get("differences") or [], shares, "auc")
    blocks += [{"kind": "heading", "text": "All figures", "note": ""}, {"kind": "table", "table": table(rows), "strong": False}]
    text = (
        "A pretrained encoder (blue) against a random one (orange), each held still under a linear layer (rings, dashed) or trained whole "
        f"(dots). Figures are of the test videos, {'the mean of ' if draws > 1 else ''}{plural(draws, 'draw')} of labelled videos and "
        "first weights; 95 % intervals resample test patients, not draws. A classifier's threshold is Youden's, chosen on the validation "
        "videos."
    )
    notes = [f"{METRICS[name][0]}: {METRICS[name][3]}." for name in FIGURES]
    roc = "ROC curves are those of the first draw; the mark is where its threshold cuts."
    return {"text": text, "blocks": blocks, "notes": [*notes, roc] if scores else notes}


def _figures(rows, shares, scores, easel, key):
    known, several = {at for _, at, _ in scores}, len(shares) > 1
    rocs = [video_curves.curves(scores, share, several=several) for share in spread(shares) if share in known]
    if not several:
        return [easel.block("classify", [video_curves.by_mode(rows, scores), *rocs], legend=key)]
    lines = [video_curves.against_share(rows, name) for name in ("auc", "accuracy") if any(row.get(name) for row in rows)]
    blocks = [easel.block("classify", lines, legend=key)]
    return blocks + ([easel.block("classify-roc", rocs, columns=3, legend=key, told=True)] if rocs else [])


def spread(shares):
    """The smallest, the middle and the largest of ascending shares, each once."""
    return [shares[k] for k in sorted({0, (len(shares) - 1) // 2, len(shares) - 1})]


def table(rows, names=FIGURES, noun="video"):
    """Mode by share: every figure with its interval."""
    head = ["mode", {"value": "labels", "note": f"share, {noun}s"}]
    head += [{"value": METRICS[name][0], "note": METRICS[name][1]} for name in names]
    order = sorted(rows, key=lambda row: row["fraction"])
    cells = [[_cell(row.get(name) or {}) for name in names] for row in order]
    labels = [{"value": percent(row["fraction"]), "note": plural(row["labels"], noun) if "labels" in row else ""} for row in order]
    return {"head": head, "rows": [[name_of(row["mode"]), one, *mine] for row, one, mine in zip(order, labels, cells, strict=True)]}


def _cell(entry):
    return {"value": figure(entry.get("mean")), "note": interval(entry, 3)}


def verdict(entry):
    """What a difference's interval says, and nothing but the interval: "better", "worse", "inside the noise"."""
    low, high = (entry.get("ci95") or (None, None))[:2]
    if figure(low) == "–" or figure(high) == "–":
        return "without an interval"
    return "better" if low > 0 else "worse" if high < 0 else "inside the noise"


def differences(found, shares, name):
    """What pretraining brings in one figure: in words, and with several shares as a table below."""
    pairs = {}
    for one in found:
        pairs.setdefault((one["mode"], one["against"]), {})[one["fraction"]] = one.get(name) or {}
    if not pairs:
        return []
    several = len(shares) > 1
    said = []
    for (mine, other), of in pairs.items():
        said.append([f"{name_of(mine)} against {name_of(other)}", _sentence(of) if several else _word(of.get(shares[0], {}))])
    head = [f"on the same {'videos' if name == 'auc' else 'stills'}", "by the interval alone"]
    blocks = [{"kind": "table", "table": {"head": head, "rows": said}, "strong": False, "prose": True}]
    if several:
        head = ["share of labels", *({"value": name_of(mine), "note": f"less {name_of(other)}"} for mine, other in pairs)]
        rows = [[percent(share), *(_difference(of.get(share, {})) for of in pairs.values())] for share in shares]
        blocks.append({"kind": "table", "table": {"head": head, "rows": rows}, "strong": False})
    by_chance = round(0.05 * len(found))
    note = f"were there no difference, about {by_chance} of these {len(found)} intervals would exclude 0" if by_chance else ""
    return [{"kind": "heading", "text": f"What pretraining brings, in {METRICS[name][0]}", "note": note}, *blocks]


def _sentence(of):
    """{share: entry} as "better at 5 %, 10 %; inside the noise at 50 %"."""
    by_word = {}
    for share in sorted(of):
        by_word.setdefault(verdict(of[share]), []).append(percent(share))
    return "; ".join(f"{word} at {', '.join(at) if len(by_word) > 1 else 'every share'}" for word, at in by_word.items())


def _word(entry):
    cell = _difference(entry)
    return {"value": verdict(entry), "note": cell["value"] + (f", {cell['note']}" if cell["note"] else "")}


def _difference(entry):
    mean = entry.get("mean")
    return {"value": ("+" if figure(mean) != "–" and mean > 0 else "") + figure(mean), "note": interval(entry, 3)}
