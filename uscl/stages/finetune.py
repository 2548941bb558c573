"""Stage 3: the whole segmentation network learns from few labelled frames; the best look at the validation patients is kept."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uscl import losses, models
from uscl.augment import finetune_pair, normalise
from uscl.data.fractions import label_subset
from uscl.data.loader import LabelledBatches
from uscl.stages import predict, stills, views
from uscl.stages import run as stage_run
from uscl.train import mesh as meshes

RESNETS = {"resnet_unet": models.ResNetUNet, "resnet_fpn": models.ResNetFPN}


def make_loss(model, *, values: int, weights: dict[str, float], dice, speckle, augment, kind: str):
    """Dice, cross-entropy and speckle terms of one labelled batch, each only where its weight is not 0."""

    def loss_fn(params, batch_stats, batch, key):
        target = jax.nn.one_hot(batch["label"], values)
        image, target = finetune_pair(key, views.to_float(batch["image"]), target, **augment)
        image = jnp.clip(image, 0, 1)
        logits, updated = model.apply(
            {"params": params, "batch_stats": batch_stats}, normalise(image, kind), train=True, mutable=["batch_stats"]
        )
        probability = jax.nn.softmax(logits.astype(jnp.float32))
        terms = {
            "dice": lambda: losses.soft_dice(probability, target, **dice),
            "cross_entropy": lambda: losses.cross_entropy(logits, target),
            "speckle": lambda: losses.speckle_loss(
                image[..., 0], probability[..., 1:], target[..., 1:], mm=batch.get("mm"), **speckle
            ),
        }
        return {name: terms[name]().mean() for name in weights}, (updated["batch_stats"], {})

    return loss_fn


def labelled_rows(run: stage_run.Run, part: str = "train") -> np.ndarray:
    """Rows of the labelled frames this run may learn from: a share of the training patients', spread over them and over the classes.

    With part='validation' the same share of the validation patients', for who learns from them as well.
    """
    store, fraction = run.store, run.config.finetune.label_fraction
    rows = store.rows_of(store.patients(part))
    classes = classes_in(store, rows) if fraction < 1 else None  # all rows need no choice, and no reading
    return label_subset(rows, store.patients_of_rows(rows), fraction, seed=run.config.seed, classes=classes)


def classes_in(store, rows: np.ndarray) -> np.ndarray:
    """bool [n, K]: which of the store's classes the label of each row shows."""
    seen = np.zeros((len(rows), 256), bool)
    for place, row in enumerate(rows.tolist()):
        seen[place, np.unique(store.labels[row])] = True
    return np.stack([seen[:, values].any(1) for values in store.classes.values()], axis=1)


def make_network(run: stage_run.Run) -> models.UNet | models.ResNetUNet | models.ResNetFPN:
    """The network that `finetune.network` names; one on a ResNet has the encoder that `anatomy.depth` and `anatomy.width` describe."""
    name, classes = run.config.finetune.network, run.store.values
    if name == "unet":
        return models.UNet(classes=classes, **run.model_options())
    return RESNETS[name](classes=classes, encoder=stills.make_encoder(run))


def make_bottleneck(run: stage_run.Run) -> Callable[[Any, jax.Array], jax.Array]:
    """bottleneck(variables of that network's encoder, normalised images [N, H, W, C]) -> its last map's mean over the picture, [N, D]."""
    if run.config.finetune.network == "unet":
        encoder = models.Encoder(**run.model_options())
        return lambda variables, image: encoder.apply(variables, image, train=False)[-1].mean((1, 2))
    return partial(stills.make_encoder(run).apply, train=False)


def label_maps(run: stage_run.Run, carried: dict[str, Any], rows: np.ndarray, watch=None) -> dict[str, np.ndarray]:
    """What the network that the stage returned sees in the labelled frames `rows`; see `predict.label_maps`.

    watch is shown "probability" [n, H, W, K] as well, and "features" [n, H, W, D], the decoder's, which the tail sees.
    """
    predictor = predict.make_predictor(make_network(run), run.mesh, kind=run.config.model.normalise, part="decoder" if watch else None)
    return _maps(run, predictor, carried["params"], carried["batch_stats"], rows, watch)


def _maps(run: stage_run.Run, predictor, params, batch_stats, rows: np.ndarray, watch=None) -> dict[str, np.ndarray]:
    def values_of(image):
        values, probability, *features = predictor(params, batch_stats, image)
        return values if watch is None else (values, {"probability": probability, "features": features[0]})

    return predict.label_maps(values_of, run.store, rows, batch=run.config.evaluate.batch, watch=watch)


def run(run: stage_run.Run, carried: dict[str, Any] | None, train=stage_run.train) -> dict[str, Any]:
    config, store = run.config, run.store
    block = config.finetune
    meshes.check_batch(run.mesh, block.batch, key="config.finetune.batch")
    meshes.check_batch(run.mesh, config.evaluate.batch, key="config.evaluate.batch")
    batches = LabelledBatches(store, labelled_rows(run), batch=block.batch, seed=config.seed)
    model = make_network(run)
    variables = stage_run.initialise(run, model, batches.batch(0)["image"].shape[1:], carried)
    weights = {name: block.loss[name] for name in ("dice", "cross_entropy", "speckle") if block.loss[name] > 0}
    loss_fn = make_loss(
        model,
        values=store.values,
        weights=weights,
        dice=block.dice,
        speckle=block.speckle,
        augment=block.augment,
        kind=config.model.normalise,
    )
    predictor = predict.make_predictor(model, run.mesh, kind=config.model.normalise)
    watched = store.rows_of(store.patients("validation"))
    return train(
        run, "finetune", loss_fn, variables, batches,
        weights=weights, frozen=tuple(block.freeze), equalise=block.loss.equalise and len(weights) > 1,
        validate=lambda s: predict.mean_dsc(_maps(run, predictor, s.params, s.batch_stats, watched), store.classes),
    )  # fmt: skip
