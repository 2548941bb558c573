"""Stage 1: the encoder learns from whole frames, by contrast between two views of frames of several cines (Chaitanya's global loss)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uscl import models
from uscl.augment import normalise
from uscl.stages import run as stage_run
from uscl.stages import views
from uscl.stages.pairs import Pairs, rule_of


def make_loss(model, view, pairs: Pairs, kind: str):
    """The stage's loss: a pure function of parameters, statistics, batch and key."""

    def loss_fn(params, batch_stats, batch, key):
        image = views.to_float(batch["image"])
        seen = jnp.concatenate([view(k, image).image for k in jax.random.split(key)])
        z, updated = model.apply({"params": params, "batch_stats": batch_stats}, normalise(seen, kind), train=True, mutable=["batch_stats"])
        loss, chance = pairs.loss_and_chance(z, *pairs.matrices(batch, views=2))
        return {"contrastive": loss}, (updated["batch_stats"], {"chance": chance})

    return loss_fn


def run(run: stage_run.Run, carried: dict[str, Any] | None) -> dict[str, Any]:
    config, pairs = run.config, rule_of(run.config, "encoder")
    batches = run.cine_batches("encoder", pairs)
    first = batches.batch(0)
    save_pairs(run, "encoder", pairs, first)
    model = models.GlobalModel(**run.model_options())
    variables = stage_run.initialise(run, model, first["image"].shape[1:], carried)
    loss_fn = make_loss(model, views.make_view(**config.encoder.views), pairs, config.model.normalise)
    return stage_run.train(run, "encoder", loss_fn, variables, batches, weights={"contrastive": 1.0})


def save_pairs(run: stage_run.Run, stage: str, pairs: Pairs, batch) -> None:
    """Keeps the first batch's pair matrices for the report."""
    small = {name: jnp.asarray(batch[name]) for name in ("cine", "frame", "length")}
    positive, negative = pairs.matrices(small, views=2)
    folder = run.folder / stage
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        folder / "pairs.npz", weights=pairs.weights(small), positive=positive, negative=negative, cine=batch["cine"], frame=batch["frame"]
    )
