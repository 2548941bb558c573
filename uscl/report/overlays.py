"""Ultrasound with outlines: what the data look like, and the best, the middle and the worst of the test images."""

import numpy as np

from uscl.metrics import class_mask, dice
from uscl.report.figures import ORANGE, PINK, SKY, YELLOW, Panel
from uscl.report.folder import Missing
from uscl.report.tables import crossed, figure, flat

OUTLINES = (SKY, ORANGE, PINK, YELLOW, "#3ddc97", "#ff6b35")  # on images, which are dark in either theme
UNION = "#ffffff"
FALSE, MISSED, SWAPPED = "#ff6a3d", "#4a7dff", "#f0e442"
LARGEST = 256  # pixels a side in the page; larger frames are thinned, so that the page stays a few megabytes


def data(folder, easel):
    blocks = []
    try:
        counts, rest = crossed({key: value for key, value in folder.json("data.json").items() if key != "classes"})
        if rest:
            ranges = {k: f"{v[0]} to {v[1]}" for k, v in rest.items() if isinstance(v, list) and len(v) == 2}
            blocks.append({"kind": "facts", "facts": flat(rest | ranges)})
        if counts:
            blocks.append({"kind": "table", "table": counts, "strong": False})
    except Missing as error:
        blocks.append({"kind": "missing", "text": str(error)})
    try:
        blocks += _strips(folder, easel)
    except Missing as error:
        blocks.append({"kind": "missing", "text": str(error)})
    return {"text": "Frames of a few cines in time order, with the outlines of the labels where there are any.", "blocks": blocks}


def _strips(folder, easel):
    found = folder.arrays("data.npz", "frames", "cine", "frame")
    classes = class_values(folder, found.get("label"))
    if not len(found["frames"]):
        raise Missing("data.npz holds no frames")
    cines, sizes = np.unique(found["cine"], return_counts=True)
    blocks = [{"kind": "legend", "legend": legend(classes)}]
    if np.median(sizes) < 3:  # single frames of many cines are no strips
        tiles = [_frame(found, k, classes, "cine {cine}, frame {frame}") for k in np.lexsort((found["frame"], found["cine"]))]
        return [easel.block("data", tiles, columns=min(len(tiles), 6), legend=legend(classes))]
    for number, cine in enumerate(cines):
        mine = np.flatnonzero(found["cine"] == cine)
        mine = mine[np.argsort(found["frame"][mine], kind="stable")]
        panels = [_frame(found, k, classes, "frame {frame}") for k in mine]
        blocks.append({"kind": "heading", "text": f"cine {cine}", "note": ""})
        blocks.append(easel.block(f"data-{number + 1}", panels, columns=min(int(max(sizes)), 8), legend=legend(classes), told=True))
    return blocks


def _frame(found, k, classes, caption):
    lines = outlines(found["label"][k], classes) if "label" in found else ()
    return tile(found["frames"][k], caption.format(cine=found["cine"][k], frame=found["frame"][k]), lines)


def cases(folder, easel):
    found = folder.arrays("evaluate/cases.npz", "image", "truth", "prediction", "mean_dsc")
    classes = class_values(folder, found["truth"])
    chosen = ranked(found["mean_dsc"])
    if not chosen:
        raise Missing("evaluate/cases.npz holds no image with a mean DSC")
    wrong = [
        (FALSE, "drawn, not there (false positive)"),
        (MISSED, "there, not drawn (false negative)"),
        (SWAPPED, "drawn as another class"),
    ]
    key = [*legend(classes), *(("fill", *entry) for entry in wrong)]
    blocks = [{"kind": "legend", "legend": key}]
    for place, k in chosen.items():
        image, truth, prediction = (found[key][k] for key in ("image", "truth", "prediction"))
        panels = [
            tile(image, "image"), tile(image, "truth", outlines(truth, classes)), tile(image, "prediction", outlines(prediction, classes)),
            tile(errors(image, truth, prediction), "errors"),
        ]  # fmt: skip
        scores = {name: dice(class_mask(prediction, values), class_mask(truth, values)) for name, values in classes.items()}
        parts = ", ".join(f"{name.replace('_', ' ')} {figure(score, 2)}" for name, score in scores.items())
        whose = f"patient {found['patient'][k]} · " if "patient" in found else ""
        blocks.append({"kind": "heading", "text": place, "note": f"{whose}mean DSC {figure(found['mean_dsc'][k].item())} · {parts}"})
        blocks.append(easel.block(f"overlay-{place}", panels, columns=4, legend=key, told=True))
    text = f"Of {len(found['mean_dsc'])} test images, the one with the highest, the middle and the lowest mean DSC: not chosen by eye."
    return {"text": text, "blocks": blocks}


def ranked(scores):
    """Positions of the best, the median and the worst finite score, each image once: {"best": i, "median": j, "worst": k}."""
    scores = np.asarray(scores, float)
    order = [k for k in np.argsort(-scores, kind="stable") if np.isfinite(scores[k])]
    wanted = {"best": 0, "median": len(order) // 2, "worst": len(order) - 1} if order else {}
    return {name: int(order[at]) for name, at in wanted.items() if at not in [wanted[n] for n in list(wanted)[: list(wanted).index(name)]]}


def class_values(folder, labels):
    """{class: label values}, from evaluate/classes.json, data.json, or the values that occur."""
    for name, key in (("evaluate/classes.json", None), ("data.json", "classes")):
        try:
            found = folder.json(name)
            found = found[key] if key else found
            return {name: list(np.atleast_1d(values)) for name, values in found.items()}
        except (Missing, KeyError):
            continue
    return {} if labels is None else {f"label {value}": [value] for value in np.unique(labels) if value}


def colours(classes):
    """A colour for each class: a single label value gets its own, a union the neutral one."""
    single = [name for name, values in classes.items() if len(values) == 1]
    return {name: OUTLINES[single.index(name) % len(OUTLINES)] if name in single else UNION for name in classes}


def outlines(label, classes):
    """[(mask, colour, is it a union)], unions last so that their dashes lie on top."""
    found = [(class_mask(label, values), colours(classes)[name], len(values) > 1) for name, values in classes.items()]
    return sorted(found, key=lambda item: item[2])


def legend(classes):
    found = colours(classes)
    return [("dash" if len(values) > 1 else "line", found[name], name.replace("_", " ")) for name, values in classes.items()]


def errors(image, truth, prediction):
    """The image, dimmed, with wrong pixels in colour: RGB in [0, 1]."""
    rgb = np.repeat(np.asarray(image, float)[..., None] / 255 * 0.7, 3, axis=-1)
    kinds = ((truth == 0) & (prediction > 0), FALSE), ((truth > 0) & (prediction == 0), MISSED)
    for wrong, colour in (*kinds, ((truth > 0) & (prediction > 0) & (truth != prediction), SWAPPED)):
        rgb[wrong] = 0.3 * rgb[wrong] + 0.7 * np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    return rgb


def tile(image, caption, lines=()):
    """A panel that is an image, gray (uint8) or RGB, with outlines on it."""
    thin = -(-max(image.shape[:2]) // LARGEST)
    image, lines = image[::thin, ::thin], [(mask[::thin, ::thin], *rest) for mask, *rest in lines]

    def draw(axes):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="none", aspect="auto")
        for mask, colour, union in lines:
            if mask.any():
                # A border of background closes the outline of what touches the edge of the image.
                rows, columns = np.arange(-1, mask.shape[0] + 1), np.arange(-1, mask.shape[1] + 1)
                style = {"linestyles": [(0, (3, 2))], "linewidths": 0.8} if union else {"linewidths": 1.1}
                axes.contour(columns, rows, np.pad(mask.astype(float), 1), [0.5], colors=[colour], **style)
        axes.set_xlim(-0.5, image.shape[1] - 0.5)
        axes.set_ylim(image.shape[0] - 0.5, -0.5)

    return Panel(draw, caption, f"ultrasound image, {caption}", width=1.8, height=1.8 * image.shape[0] / image.shape[1], bare=True)
