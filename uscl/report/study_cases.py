"""Models side by side: outlines on the same images, and the speckle inside them."""

import numpy as np
from matplotlib.ticker import FuncFormatter, NullFormatter

from uscl.report import overlays
from uscl.report.figures import INK, SERIES, Panel
from uscl.report.folder import Missing
from uscl.report.study_folder import percent
from uscl.report.tables import figure
from uscl.report.tissue import rows_of_tissues

MODELS = 5  # beside the truth; six tiles stand in one row
PARAMETERS = (
    ("m", "", "m, gray levels"), ("omega", "", "Ω, gray levels"), ("m", "envelope_", "m, envelope"), ("omega", "envelope_", "Ω, envelope"),
)  # fmt: skip


def ranked(models):
    """What pictures of single images start from: (arrays of the first model, {class: values}, {"best": row, ..}, {model: arrays}).

    Rows are ranked by the mean DSC over the shown models, of which those that saw other images are left out. Raises Missing without any.
    """
    found = {}
    for name, run in models.items():
        try:
            found[name] = run.folder.arrays("evaluate/cases.npz", "image", "truth", "prediction", "mean_dsc")
        except Missing:
            continue
    if not found:
        raise Missing("no run has written its evaluate/cases.npz")
    first = next(iter(found.values()))
    found = {name: arrays for name, arrays in found.items() if np.array_equal(arrays["image"], first["image"])}
    classes = overlays.class_values(models[next(iter(found))].folder, first["truth"])
    chosen = overlays.ranked(np.mean([arrays["mean_dsc"] for arrays in found.values()], axis=0))
    if not chosen:
        raise Missing("evaluate/cases.npz holds no image with a mean DSC")
    return first, classes, chosen, found


def cases(study, easel, models):
    """Best, median and worst image by the mean of the shown models, with every model's outlines on it."""
    first, classes, chosen, found = ranked(models)
    key = overlays.legend(classes)
    blocks = [{"kind": "legend", "legend": key}]
    for place, k in chosen.items():
        image = first["image"][k]
        panels = [overlays.tile(image, "truth", overlays.outlines(first["truth"][k], classes))]
        for name, arrays in found.items():
            lines = overlays.outlines(arrays["prediction"][k], classes)
            panels.append(overlays.tile(image, f"{name}: {figure(arrays['mean_dsc'][k].item(), 2)}", lines))
        mean = np.mean([arrays["mean_dsc"][k] for arrays in found.values()])
        note = " · ".join(filter(None, [patient(first, k), f"mean DSC of the shown models {figure(float(mean))}"]))
        blocks.append({"kind": "heading", "text": place, "note": note})
        blocks.append(easel.block(f"cases-{place}", panels, columns=min(len(panels), 6) if len(panels) != 4 else 4, legend=key, told=True))
    some = next(iter(models.values()))
    text = (
        f"Of {len(first['image'])} test images, the one with the highest, the middle and the lowest mean DSC over these models: not chosen "
        f"by eye. All at {percent(some.fraction)} of labels, seed {some.seed}; the number is the image's mean DSC."
    )
    return {"text": text, "blocks": blocks}


def patient(arrays, k):
    """Whose image `k` of evaluate/cases.npz is, "" where it is not said: `patient 17`, and `patient0017` alone."""
    name = str(arrays["patient"][k]) if "patient" in arrays else ""
    return name if not name or name.startswith("patient") else f"patient {name}"


def speckle(study, easel, models):
    """Nakagami parameters inside the truth and inside each model's prediction, class by class."""
    found = {}
    for name, run in models.items():
        try:
            found[name] = run.folder.json("evaluate/nakagami.json")
        except Missing:
            continue
    if not found:
        raise Missing("no run has written its evaluate/nakagami.json")
    panels = [panel for parameter, prefix, title in PARAMETERS if (panel := _tissues(found, parameter, prefix, title))]
    if not panels:
        raise Missing("evaluate/nakagami.json holds no parameters")
    legend = [("ring", INK, "truth"), *(("dot", SERIES[k % len(SERIES)], name) for k, name in enumerate(found))]
    rows, truth = [], next(iter(found.values()))
    for tissue in truth:
        for parameter, prefix, title in PARAMETERS:
            sides = [(truth, "truth"), *((entry, "prediction") for entry in found.values())]
            cells = [figure(entry.get(tissue, {}).get(prefix + side, {}).get(parameter)) for entry, side in sides]
            rows.append([f"{tissue.replace('_', ' ')}, {title}", *cells])
    table = {"head": ["tissue", "truth", *found], "rows": rows}
    text = (
        "Median over test images of shape m and scale Ω inside the true and the predicted region. A model whose dot lies on the ring draws "
        "a region with the speckle of the true one. Gray levels are log-compressed; the envelope has the compression undone."
    )
    return {"text": text, "blocks": [easel.block("nakagami", panels, legend=legend), {"kind": "table", "table": table, "strong": False}]}


def _tissues(found, parameter, prefix, title):
    tissues = list(next(iter(found.values())))
    value = lambda entry, tissue, side: entry.get(tissue, {}).get(prefix + side, {}).get(parameter)  # noqa: E731
    if not any(value(entry, tissue, "prediction") for entry in found.values() for tissue in tissues):
        return None

    def draw(axes):
        for row, tissue in enumerate(tissues):
            true = value(next(iter(found.values())), tissue, "truth")
            if true:
                axes.plot(true, row, "o", markersize=8, color=INK, markerfacecolor="none", markeredgewidth=1.2)
            for k, entry in enumerate(found.values()):
                drawn = value(entry, tissue, "prediction")
                if drawn:
                    lift = 0.36 * ((k + 0.5) / len(found) - 0.5)
                    axes.plot(drawn, row + lift, "o", markersize=4.5, color=SERIES[k % len(SERIES)], markeredgewidth=0)
        rows_of_tissues(axes, tissues)
        if axes.get_xlim()[1] < 0.01:
            axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:.0e}".replace("e-0", "e\N{MINUS SIGN}")))
            axes.xaxis.set_minor_formatter(NullFormatter())

    return Panel(draw, title, f"{title} of every tissue: the truth and {len(found)} models", height=0.7 + 0.42 * len(tissues))
