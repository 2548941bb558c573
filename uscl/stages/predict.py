"""Label maps from a trained network, for validation and for the test alike."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from uscl import metrics
from uscl.augment import normalise
from uscl.data.loader import all_rows
from uscl.data.store import Store
from uscl.stages import views
from uscl.train import mesh as meshes

KEPT = ("image", "label", "prediction", "mm", "cine", "frame")  # of every image; the rest is large


def make_predictor(model, mesh, *, kind: str, part: str | None = None) -> Callable:
    """predictor(params, batch_stats, image uint8 [N, H, W, C]) -> (label values uint8 [N, H, W], probability [N, H, W, K]).

    part: one of the model's, "decoder" say; its output comes as a third answer, from the same pass through the network.
    Of several processes each passes the whole batch, predicts its share of it, and gets the whole answer.
    """
    everywhere = meshes.replicated(mesh)

    @partial(jax.jit, in_shardings=(everywhere, everywhere, meshes.batch_sharding(mesh)), out_shardings=everywhere)
    def predict(params, batch_stats, image):
        variables, x = {"params": params, "batch_stats": batch_stats}, normalise(views.to_float(image), kind)
        if part is None:
            logits, inner = model.apply(variables, x, train=False), ()
        else:
            logits, seen = model.apply(variables, x, train=False, capture_intermediates=lambda module, _: module.name == part)
            inner = seen["intermediates"][part]["__call__"]
        return jnp.argmax(logits, -1).astype(jnp.uint8), jax.nn.softmax(logits.astype(jnp.float32)), *inner

    def predictor(params, batch_stats, image):
        mine = {"image": image[meshes.share(mesh, len(image))]}
        return predict(params, batch_stats, meshes.put_batch(mesh, mine)["image"])

    return predictor


def label_maps(
    values_of: Callable, store: Store, rows: np.ndarray, *, batch: int, watch: Callable[[dict[str, np.ndarray]], None] | None = None
) -> dict[str, np.ndarray]:
    """Predicted and true label values of the labelled frames `rows`, with image, mm per pixel, cine and frame, in their order.

    values_of: image uint8 [batch, H, W, C] -> label values uint8 [batch, H, W]; with `watch` -> (those, {name: [batch, ...]}).
    watch: is shown what is too large to keep of all images: each batch, in order, without what filled the last one up; all that is
    returned, and what values_of named beside it.
    """
    kept: dict[str, list[np.ndarray]] = {}
    for part in all_rows(store, rows, batch):
        valid, answer = part.pop("valid"), values_of(part["image"])
        values, more = (answer, {}) if watch is None else answer
        part = {name: np.asarray(array)[valid] for name, array in (part | {"prediction": values} | more).items()}
        for name in KEPT:
            kept.setdefault(name, []).append(part[name])
        if watch is not None:
            watch(part)
    return {name: np.concatenate(pieces) for name, pieces in kept.items()}


def mean_dsc(maps: dict[str, np.ndarray], classes: dict[str, list[int]]) -> float:
    """Mean over images and classes of the Dice coefficient (1 where truth and prediction are both empty) of what `label_maps` returned."""
    scores = [
        metrics.dice(metrics.class_mask(prediction, values), metrics.class_mask(truth, values))
        for prediction, truth in zip(maps["prediction"], maps["label"], strict=True)
        for values in classes.values()
    ]
    return float(np.mean(scores))
