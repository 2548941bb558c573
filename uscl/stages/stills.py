"""Networks of stills, as the stages on planes share them: encoder, door, features, and a look at what they know of the planes."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from uscl import metrics, models
from uscl.augment import normalise
from uscl.data.loader import read_cines
from uscl.data.planes import Planes, known_columns, labelled_planes
from uscl.models.resnet import PLANS
from uscl.stages import run as stage_run
from uscl.stages import views
from uscl.stages.features import make_batched

NEIGHBOURS = 20  # that vote in a look


def make_encoder(run: stage_run.Run) -> models.ResNet:
    block, network = run.config.model, run.config.anatomy
    return models.ResNet(**PLANS[network.depth], width=network.width, momentum=block.bn_momentum, dtype=block.dtype, remat=block.remat)


def shape(run: stage_run.Run) -> tuple[int, ...]:
    """Of a still: [H, W, C]."""
    return run.store.size, run.store.size, 1


def at_the_door(image: jax.Array, kind: str) -> jax.Array:
    """Stills [N, H, W, C] in [0, 1] as the network is given them: each normalised by itself."""
    return normalise(image, kind)


def make_view(block) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """view(key, image [N, H, W, C]) -> the same shape, as a `views` block of the configuration describes it."""
    view = views.make_view(**block)
    return lambda key, image: view(key, image).image


def make_features(
    run: stage_run.Run, apply: Callable[[Any, jax.Array], jax.Array], *, batch: int, key: str
) -> Callable[[Any, np.ndarray], np.ndarray]:
    """features(variables, cines) -> float32 [n, D]: `apply(variables, images)` on the middle frame of each cine; as `make_batched`."""
    store, batched = run.store, make_batched(run, apply, at_the_door, batch=batch, key=key)

    def features(variables, cines) -> np.ndarray:
        return batched(variables, lambda rows: read_cines(store, cines[rows], store.cines.frames[cines[rows]] // 2)["image"], len(cines))

    return features


def planes_of(config, store, part: str) -> Planes:
    """The stills of the patients of 'train', 'validation' or 'test', by `planes.column`."""
    return labelled_planes(store, store.patients(part), column=config.planes.column, ignore=config.planes.ignore)


def make_look(run: stage_run.Run, encoder) -> Callable | None:
    """look(state) -> (macro F1 of the nearest neighbours, {"linear_f1"}): what the features of the validation stills say of their planes.

    The neighbours and the probe learn from all training stills. None where the store does not have two planes to tell apart.
    """
    block = run.config.planes
    if not known_columns(run.store, block.column):
        return None
    train, watched = (planes_of(run.config, run.store, part) for part in ("train", "validation"))
    if min(len(np.unique(train.label)), len(np.unique(watched.label))) < 2:
        return None
    classes, how = len(train.names), {"batch": block.batch, "key": "config.planes.batch"}
    features = make_features(run, lambda variables, image: encoder.apply(variables, image, train=False), **how)

    def f1(probability):
        return metrics.macro(metrics.confusion(watched.label, probability.argmax(1), classes=classes)).f1

    def look(state):
        variables = {kind: getattr(state, kind)["encoder"] for kind in ("params", "batch_stats")}
        known, asked = (features(variables, planes.cine) for planes in (train, watched))
        near = metrics.knn_probe(known, train.label, test=asked, k=min(NEIGHBOURS, len(known)), classes=classes)
        line = metrics.linear_probe(known, train.label, test=asked, classes=classes)
        return f1(near), {"linear_f1": f1(line)}

    return look
