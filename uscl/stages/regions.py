"""What the regions of the test images hold: their speckle, and what a border drawn slightly elsewhere would do to the scores."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from uscl import metrics, nakagami


def speckle(
    maps: dict[str, np.ndarray], classes: dict[str, list[int]], intended: list[dict[str, Any]], *, dynamic_range: float
) -> dict[str, Any]:
    """Nakagami parameters per class, the median over test images: of the true and of the predicted region, on grey and on the envelope.

    Image by image, because gain and machine differ between images and a mixture of them has a far lower m than any. The envelope is
    the grey value with log compression undone; black pixels hold no echo and are left out.
    """
    gray = jnp.asarray(maps["image"][..., 0], jnp.float32) / 255
    pictures = {"": gray, "envelope_": nakagami.decompress(gray, dynamic_range=dynamic_range)}
    table: dict[str, Any] = {}
    for name, values in classes.items():
        table[name] = {}
        for side, label in (("truth", maps["label"]), ("prediction", maps["prediction"])):
            inside = jnp.asarray(metrics.class_mask(label, values)) & (gray > 0)
            seen = np.asarray(inside.sum((1, 2)) > 0)
            for prefix, picture in pictures.items() if seen.any() else ():
                m, omega = nakagami.fit(picture, inside, axis=(1, 2))
                table[name][prefix + side] = {"m": float(np.median(m[seen])), "omega": float(np.median(omega[seen]))}
        known = [tissues[name] for tissues in intended if name in tissues]
        if known:
            table[name]["intended"] = {key: float(np.median([tissue[key] for tissue in known])) for key in ("m", "omega")}
    return table


def sensitivity(maps: dict[str, np.ndarray], classes: dict[str, list[int]]) -> dict[str, dict[str, dict[str, float]]]:
    """{class: {"erode 1": {"dsc", "delta_snr", "signed_snr", "area", "n"}, "dilate 1", "erode 10", "dilate 10"}} of the true masks.

        each figure: the mean over the n test images that show the class of `metrics.border_sensitivity`, by pixels of the store

    An image in which erosion leaves nothing has a DSC and an area of 0 and no SNR: it stays out of the means of the two SNRs. No image
    left: nan, which JSON writes as null.
    """
    found: dict[str, dict[str, list[metrics.Moved]]] = {
        name: {f"{kind} {size}": [] for size in (1, 10) for kind in ("erode", "dilate")} for name in classes
    }
    for image, label in zip(maps["image"][..., 0], maps["label"], strict=True):
        for name, values in classes.items():
            truth = metrics.class_mask(label, values)
            moves = metrics.border_sensitivity(image, truth, pixels=(-10, -1, 1, 10)) if truth.any() else {}
            for pixels, moved in moves.items():
                found[name][f"{'erode' if pixels < 0 else 'dilate'} {abs(pixels)}"].append(moved)
    return {name: {move: _means(every) for move, every in moves.items()} for name, moves in found.items()}


def _means(every: list[metrics.Moved]) -> dict[str, float]:
    table = np.array(every, np.float64).reshape(len(every), len(metrics.Moved._fields))
    means = {}
    for field, column in zip(metrics.Moved._fields, table.T, strict=True):
        known = column[~np.isnan(column)]
        means[field] = float(known.mean()) if len(known) else float("nan")
    return means | {"n": len(every)}
