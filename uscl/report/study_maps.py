"""Local Nakagami parameters of the best, the median and the worst image: what there is for a speckle loss to see."""

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LogNorm

from uscl import nakagami
from uscl.report import overlays, study_cases
from uscl.report.figures import Panel
from uscl.report.pairs import MAP

PARAMETERS = {"m": "m", "omega": "Ω"}


def section(study, easel, models):
    """Local m and omega of the best, the median and the worst image, on gray levels and on the envelope, under the true outlines."""
    first, classes, chosen, _ = study_cases.ranked(models)
    settings = next(iter(models.values())).folder.config.get("finetune", {}).get("speckle", {})
    window, range_db = int(settings.get("window", 9)), float(settings.get("dynamic_range", 60.0))
    window = min(window, *first["image"].shape[1:])
    local = {place: _local(first["image"][k], window, range_db) for place, k in chosen.items()}
    norms = {key: _norm([entry[key][1] for entry in local.values()]) for key in next(iter(local.values()))}
    bars = [Panel(_bar(norm), f"{PARAMETERS[name]}, {kind}", f"colours of {name}", 2.0, 0.5) for (kind, name), norm in norms.items()]
    blocks = [{"kind": "legend", "legend": overlays.legend(classes)}, easel.block("maps-colours", bars, columns=4)]
    for place, k in chosen.items():
        lines = overlays.outlines(first["truth"][k], classes)
        tiles = []
        for kind in dict.fromkeys(kind for kind, _ in norms):
            tiles.append(overlays.tile(local[place][kind, "m"][0], kind, lines))
            for parameter, symbol in PARAMETERS.items():
                values = local[place][kind, parameter][1]
                tiles.append(overlays.tile(_coloured(values, norms[kind, parameter]), f"{symbol}, {kind}", lines))
        blocks.append({"kind": "heading", "text": place, "note": study_cases.patient(first, k)})
        blocks.append(easel.block(f"maps-{place}", tiles, columns=3))
    text = (
        f"Shape m and scale Ω in a window of {window} x {window} pixels about every pixel, of the image alone: no model takes part. Lines "
        f"are the true outlines. The envelope is the gray level with {range_db:g} dB of log compression undone. Black pixels hold no echo "
        "and are left out; where they are most of a window, the map is black. Colours are on a log scale, the same for all images; the "
        "picture of the envelope is brightened."
    )
    return {"text": text, "blocks": blocks}


def _local(image, window, range_db):
    """{(kind, parameter): (the picture as gray levels 0 to 255, its map [H, W], 0 where unknown)}."""
    gray, echo = image.astype(np.float32) / 255, image > 0
    pictures = {"gray levels": gray, "envelope": np.where(echo, np.asarray(nakagami.decompress(gray, dynamic_range=range_db)), 0)}
    found = {}
    for kind, picture in pictures.items():
        m, omega = nakagami.parameter_map(picture, echo, window=window)
        white = 1.0 if kind == "gray levels" else max(np.percentile(picture, 99), 1e-6)  # an envelope is nearly all near 0
        shown = 255 * np.minimum(picture / white, 1)
        for parameter, values in (("m", m), ("omega", omega)):
            found[kind, parameter] = shown, np.asarray(values, float)
    return found


def _norm(several):
    """A log scale for what lies between the 2nd and the 98th percentile of all maps."""
    known = np.concatenate([values[values > 0] for values in several])
    low, high = np.percentile(known, [2, 98]) if known.size else (0.5, 2.0)
    return LogNorm(low, high, clip=True) if high > 1.01 * low else LogNorm(low / 1.5, high * 1.5, clip=True)


def _coloured(values, norm):
    """RGB [H, W, 3] in [0, 1], black where nothing is known."""
    known = values > 0
    return np.where(known[..., None], colormaps[MAP](norm(np.where(known, values, norm.vmin)))[..., :3], 0.0)


def _bar(norm):
    def draw(axes):
        steps = np.linspace(0, 1, 256)[None]
        axes.imshow(steps, cmap=MAP, extent=(0, 1, 0, 1), aspect="auto", interpolation="none")
        at = (0, 0.5, 1)
        axes.set_xticks(at, [f"{norm.vmin * (norm.vmax / norm.vmin) ** x:.2g}" for x in at])
        axes.get_xticklabels()[0].set_ha("left")
        axes.get_xticklabels()[-1].set_ha("right")
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)

    return draw
