"""What a video classifier looks at: occlusion maps over the pictures, one video in motion, and how well the maps meet the boxes."""

import numpy as np

from uscl.metrics.saliency import weighted_iou
from uscl.report import film
from uscl.report.folder import Missing
from uscl.report.scores import MODES, interval
from uscl.report.tables import figure, plural
from uscl.report.video_curves import name_of

# field of uscl.metrics.saliency.Localisation: name, what it is
MEASURES = {
    "weighted_iou": ("weighted IoU", "overlap of what is pointed at with the nearest box, regions weighted by their saliency"),
    "recall": ("box recall", "overlap of each box with the nearest region pointed at, boxes weighted by their area"),
    "best_iou": ("mean IoU", "weighted IoU, every region alike"),
    "hit10": ("IoU ≥ 0.1", "share of the boxes that a region meets so well; likewise 0.3 and 0.5"),
    "hit30": ("IoU ≥ 0.3", ""),
    "hit50": ("IoU ≥ 0.5", ""),
    "pointing": ("pointing game", "share of the frames whose highest pixel lies in a box"),
}


def section(folder, easel):
    found = folder.arrays("saliency/maps.npz", "image", "boxes", "cine")
    maps = {name.removeprefix("map_"): values for name, values in found.items() if name.startswith("map_")}
    maps = {mode: maps[mode] for mode in (*MODES, *maps) if mode in maps}
    check(found, maps)
    frames = [own_boxes(boxes) for boxes in found["boxes"]]
    boxed = np.array([sum(map(len, own)) for own in frames])
    legend = [entry for entry in film.LEGEND if boxed.any() or entry[1] != film.TRUTH]
    k = int((boxed > 0).argmax())
    blocks = [*_localisation(folder, found), {"kind": "heading", "text": "In motion", "note": told(found, k)}]
    blocks += [{"kind": "legend", "legend": legend}, film.block(_moving(found["image"][k], frames[k], {m: maps[m][k] for m in maps}))]
    for k, own in enumerate(frames):
        t = nearest_boxed(own)
        tiles = _row(found["image"][k], own, {mode: maps[mode][k] for mode in maps}, t)
        blocks.append({"kind": "heading", "text": told(found, k), "note": f"frame {t + 1} of the clip's {len(own)}"})
        blocks.append(easel.block(f"saliency-{k + 1}", tiles, columns=len(tiles), legend=legend, told=True) | {"narrow": film.NARROW})
    text = (
        f"{plural(len(frames), 'positive test video')}, those with boxes first, in the store's order: not chosen by eye. A block of "
        f"the clip is hidden {_behind(folder.config.get('saliency') or {})}, moved all over it, and the fall of the positive class's log "
        "odds is written where it stood. Colour is that fall as a share of the map's largest; where hiding raises the odds there is none."
        + (" The number under a map is the video's weighted IoU." if boxed.any() else "")
    )
    return {"text": text, "blocks": blocks, "notes": [f"{name}: {what}." for name, what in MEASURES.values() if what]}


def _behind(how):
    """What a hidden block shows; runs from before there was a choice blurred it."""
    if how.get("hidden", "blur") == "blur":
        return "behind its own mean"
    return f"behind what negative training videos have in its place, {how.get('others')} of them in turn"


def check(found, maps):
    """Raises Missing where the arrays of maps.npz do not fit together."""
    image, boxes, many = found["image"].shape, found["boxes"].shape, len(found["cine"])
    fits = len(image) == 4 and len(boxes) == 4 and boxes[:2] == image[:2] and boxes[3] == 4 and many == image[0]
    fits = fits and all(values.shape in (image, (image[0], *image[2:])) for values in maps.values())
    if not fits:
        shapes = {mode: values.shape for mode, values in maps.items()}
        raise Missing(f"saliency/maps.npz: image {image}, boxes {boxes}, cine {many} and maps {shapes} do not fit together")
    if not maps or not many:
        raise Missing("saliency/maps.npz holds no map")
    if not all(np.isfinite(values).all() for values in maps.values()) or (found["boxes"] >= [*image[2:], *image[2:]]).any():
        raise Missing("saliency/maps.npz holds a map that is not finite, or a box outside its picture")


def told(found, k):
    """Which video this is."""
    return f"cine {found['cine'][k]}" + (f", patient {found['patient'][k]}" if "patient" in found else "")


def own_boxes(boxes):
    """[T, n, 4], filled up with -1, as the boxes of each frame: a list of [m, 4]."""
    return [each[(each >= 0).all(-1)] for each in boxes]


def nearest_boxed(frames):
    """The frame nearest to the middle that has a box; the middle one where none has."""
    return min((t for t, own in enumerate(frames) if len(own)), key=lambda t: abs(t - len(frames) // 2), default=len(frames) // 2)


def _row(images, frames, maps, t):
    tiles = [film.tile(images[t], "video", frames[t])]
    for mode, saliency in maps.items():
        here = saliency if saliency.ndim == 2 else saliency[t]
        met = f" · {figure(weighted_iou(saliency, frames), 2)}" if any(map(len, frames)) else ""
        tiles.append(film.tile(images[t], name_of(mode) + met, frames[t], here, top=float(saliency.max())))
    return tiles


def _moving(images, frames, maps):
    return {"video": film.animation(images, frames)} | {
        name_of(mode): film.animation(images, frames, saliency) for mode, saliency in maps.items()
    }


def _localisation(folder, found):
    try:
        modes = folder.json("saliency/localisation.json")
    except Missing as error:
        return [{"kind": "missing", "text": str(error)}]
    measured = {mode: entry for mode, entry in modes.items() if (entry.get("weighted_iou") or {}).get("mean") is not None}
    if not measured:
        return [{"kind": "missing", "text": "no video has a box, so nothing says how well the maps meet the disease"}]
    rows = []
    for mode in dict.fromkeys(mode for mode in (*MODES, *measured) if mode in measured):
        entries = [measured[mode].get(key) or {} for key in MEASURES]
        rows.append([name_of(mode), *({"value": figure(entry.get("mean")), "note": interval(entry, 3)} for entry in entries)])
    area = 100 * covered(found["boxes"], found["image"].shape[2:])
    note = f"boxes cover {figure(area, 1)} % of the frames they are in: what a blind guess would score in the pointing game"
    table = {"head": ["mode", *(name for name, _ in MEASURES.values())], "rows": rows}
    heading = {"kind": "heading", "text": "Do the maps meet the boxes?", "note": note}
    return [heading, {"kind": "table", "table": table, "strong": False}]


def covered(boxes, shape):
    """Mean share of the picture that boxes [n, T, m, 4] cover, over the frames that have one; nan without."""
    shares = []
    for own in own_boxes(boxes.reshape(-1, *boxes.shape[2:])):
        if len(own):
            mask = np.zeros(shape, bool)
            for top, left, bottom, right in own:
                mask[top : bottom + 1, left : right + 1] = True
            shares.append(mask.mean())
    return float(np.mean(shares)) if shares else float("nan")
