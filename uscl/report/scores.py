"""What the run achieved: the sentence on top, the dot plots by class, the table of all metrics."""

import numpy as np

from uscl.report.figures import BLUE, INK, MUTED, VERMILLION, Panel
from uscl.report.folder import Missing
from uscl.report.tables import duration, figure, plural

# key: name, which way is better, digits, what it is
METRICS = {
    "dsc": ("DSC", "higher is better", 3, "overlap; 1 where truth and prediction are both empty"),
    "dsc_skip_empty": ("DSC, empty skipped", "higher is better", 3, "overlap; images where both are empty are left out"),
    "hd95_mm": ("HD95, mm", "lower is better", 1, "95 % Hausdorff distance of the borders; a missed class counts as the image's diagonal"),
    "surface_dice": ("Surface Dice", "higher is better", 3, "borders within the tolerance of each other; a missed class counts 0"),
    "delta_snr": ("|ΔSNR|", "lower is better", 3, "difference of log10(mean / std) of the gray levels inside truth and prediction"),
    "signed_snr": ("ΔSNR, signed", "0 is best", 3, "prediction minus truth: above 0, the prediction took in calmer tissue"),
    "hc_error_mm": ("HC error, mm", "lower is better", 2, "circumference, against the true mask's; a missed head has none"),
    "hc_table_error_mm": ("HC error, table, mm", "lower is better", 2, "circumference, against the figure that the store has of the head"),
    "hc_missed": ("Heads missed", "lower is better", 3, "share of the heads through whose prediction no ellipse goes"),
    "auc": ("AUC", "higher is better", 3, "area under the ROC curve: how often a positive video scores above a negative one"),
    "accuracy": ("Accuracy", "higher is better", 3, "share of what is told apart that is told right"),
    "macro_f1": ("Macro F1", "higher is better", 3, "mean over classes, however rare, of F1 = 2 TP / (2 TP + FP + FN)"),
    "macro_precision": ("Macro precision", "higher is better", 3, "mean over classes; unknown where one is never called"),
    "macro_recall": ("Macro recall", "higher is better", 3, "mean over classes of the share that is found"),
    "sensitivity": ("Sensitivity", "higher is better", 3, "share of the positive videos that are found"),
    "specificity": ("Specificity", "higher is better", 3, "share of the negative videos that are left alone"),
}
# The ways to classify, as the lung paper has them: name, the encoder's first weights, does the encoder learn from the labels.
MODES = {
    "random": ("random features", "random", False),
    "supervised": ("supervised", "random", True),
    "features": ("pretrained features", "pretrained", False),
    "finetuned": ("fine-tuned", "pretrained", True),
    "random_knn": ("random, neighbours", "random", False),
    "features_knn": ("pretrained, neighbours", "pretrained", False),
}
# The figure a run is told by, the first that it has, with what it was measured on and what was learnt from.
LEARNT = {"dsc": ("image", "labelled frame"), "auc": ("video", "labelled video"), "macro_f1": ("still", "labelled still")}


def entries(results):
    """results.json's metrics, each as {"mean", "ci95"?, "per_class"?}; a bare number is a mean."""
    metrics = results.get("metrics") or {}
    return {key: entry if isinstance(entry, dict) else {"mean": entry} for key, entry in metrics.items() if entry is not None}


def headline(results, seconds):
    """The run in one sentence, as far as its files tell it."""
    if not results:
        return "Not evaluated yet: results.json was not written."
    found, classes = entries(results), results.get("classes") or []
    key = next((key for key in LEARNT if key in found), None)
    item, label = LEARNT.get(key, LEARNT["dsc"])
    if key == "dsc":
        score = f"Mean DSC {figure(found[key].get('mean'))}{interval(found[key], 3, words=True)}"
    elif key:
        score = f"{named(results.get('mode'))}{METRICS[key][0]} {figure(found[key].get('mean'))}{interval(found[key], 3, words=True)}"
    else:
        score = "No DSC was measured"
    told = f" over {plural(len(classes), 'class', 'es')}" if classes and key != "auc" else ""
    if results.get("n_test") is not None:
        told += f", on {plural(results['n_test'], item)}"
    if results.get("n_test_patients") is not None:
        told += f" of {plural(results['n_test_patients'], 'test patient')}"
    if results.get("n_train_labels") is not None:
        told += f", learnt from {plural(results['n_train_labels'], label)}"
    return score + told + (f", in {duration(sum(seconds.values()))}" if seconds else "") + "."


def named(mode):
    """The beginning of a sentence about a mode: "Fine-tuned: "; empty where it is not known."""
    name = MODES[mode][0] if mode in MODES else str(mode or "")
    return f"{name[0].upper()}{name[1:]}: " if name else ""


def tiles(results):
    """The few numbers under the headline: name, value, interval."""
    found = []
    for key, (name, _, digits, _) in METRICS.items():
        entry = entries(results).get(key)
        if entry:
            found.append({"name": name, "value": figure(entry.get("mean"), digits), "note": interval(entry, digits)})
    return found


def interval(entry, digits, *, words=False):
    """The 95 % interval of a results.json entry as text, empty where there is none."""
    low, high = (entry.get("ci95") or (None, None))[:2]
    if figure(low) == "–" or figure(high) == "–":
        return ""
    low, high = figure(low, digits), figure(high, digits)
    return f" (95 % interval {low} to {high})" if words else f"{low} to {high}"


def section(folder, easel):
    metrics = entries(folder.results)
    if not metrics:
        raise Missing("results.json holds no metrics")
    order = [*(key for key in METRICS if key in metrics), *(key for key in metrics if key not in METRICS)]
    names = list(dict.fromkeys(name for key in order for name in metrics[key].get("per_class", {})))
    try:
        patients = by_patient(folder)
    except Missing:
        patients = {}
    panels = []
    if "dsc" in metrics:
        panels.append(_dots("DSC", metrics["dsc"], names, patients.get("dsc", {}), other=metrics.get("dsc_skip_empty"), limits=(0, 1)))
    if "hd95_mm" in metrics:
        panels.append(_dots("HD95, mm", metrics["hd95_mm"], names, patients.get("hd95_mm", {})))
    legend = [("dot", BLUE, "mean over images, with its 95 % interval over patients"), ("speck", MUTED, "one patient")]
    if "dsc_skip_empty" in metrics:
        legend.insert(1, ("ring", VERMILLION, "the same, without images where both masks are empty"))
    blocks = [easel.block("classes", panels, legend=legend)] if panels else []
    blocks.append({"kind": "table", "table": table(metrics, order, names), "strong": True})
    notes = [f"{METRICS[key][0]}: {METRICS[key][3]}." for key in order if key in METRICS]
    return {"text": "Means over images; the intervals resample patients.", "blocks": blocks, "notes": notes}


def by_patient(folder):
    """evaluate/cases.csv as {metric: {class: mean of each patient}}."""
    rows = folder.rows("evaluate/cases.csv", "patient", "class")
    found = {}
    for key in ("dsc", "hd95_mm"):
        cells = {}
        for row in rows:
            try:
                cells.setdefault(row["class"], {}).setdefault(row["patient"], []).append(float(row.get(key) or "nan"))
            except ValueError as error:
                raise Missing(f"evaluate/cases.csv: {error}") from None
        found[key] = {name: [np.mean(values) for values in patients.values()] for name, patients in cells.items()}
    return found


def table(metrics, order, names):
    head = ["class", *({"value": METRICS[key][0], "note": METRICS[key][1]} if key in METRICS else key for key in order)]
    rows = []
    for name in ["all classes", *names]:
        row = [name.replace("_", " ")]
        for key in order:
            entry = metrics[key] if name == "all classes" else metrics[key].get("per_class", {}).get(name, {})
            digits = METRICS[key][2] if key in METRICS else 3
            row.append({"value": figure(entry.get("mean"), digits), "note": interval(entry, digits)})
        rows.append(row)
    return {"head": head, "rows": rows}


def _dots(title, entry, names, patients, *, other=None, limits=None):
    """Rows of dots with intervals: all classes on top, one row a class."""

    def draw(axes):
        for row, name in enumerate([None, *names]):
            _row(axes, row, entry if name is None else entry.get("per_class", {}).get(name, {}), BLUE, "o", True)
            if other:
                _row(axes, row + 0.24, other if name is None else other.get("per_class", {}).get(name, {}), VERMILLION, "o", False)
            specks = np.array(patients.get(name, []), float)
            axes.plot(specks, np.full(len(specks), row - 0.24), "o", color=MUTED, markersize=3, alpha=0.45, markeredgewidth=0)
        axes.set_yticks(range(len(names) + 1), ["all classes", *(name.replace("_", " ") for name in names)], color=INK)
        axes.set_ylim(len(names) + 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_xlim(*limits) if limits else axes.set_xlim(left=0)

    means = ", ".join(f"{name} {figure(entry.get('per_class', {}).get(name, {}).get('mean'), 2)}" for name in names)
    return Panel(draw, title, f"{title}: all classes {figure(entry.get('mean'), 2)}; {means}", width=4.0, height=0.9 + 0.42 * len(names))


def _row(axes, y, entry, colour, marker, filled):
    mean, ends = entry.get("mean"), entry.get("ci95") or (None, None)
    if figure(mean) == "–":
        return
    if figure(ends[0]) != "–" and figure(ends[1]) != "–":
        axes.plot(ends, [y, y], color=colour, linewidth=1.6 if filled else 1)
    axes.plot(mean, y, marker, color=colour, markersize=5.5 if filled else 4.5, markerfacecolor=colour if filled else "none")
