"""Stage 1: the encoder learns from whole frames, by contrast between two views of frames of several cines (Chaitanya's global loss)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uscl import models
from uscl.augment import normalise
from uscl.metrics.embedding import spread
from uscl.stages import run as stage_run
from uscl.stages import views
from uscl.stages.pairs import Pairs, rule_of
from uscl.train import hosts
from uscl.train.cached import in_chunks
from uscl.types import UserError

SHOWN = 128  # frames whose pair matrices are kept for the report; those of a large batch would fill the disk


def make_loss(model, view, pairs: Pairs, kind: str, *, chunks: int = 1, streamed: bool = False):
    """The stage's loss: a pure function of parameters, statistics, batch and key.

    chunks: the batch is encoded in so many, for memory (`uscl.train.cached`). streamed: pairs block by block instead of [M, M] matrices.
    """

    def encode(params, batch_stats, image):
        variables = {"params": params, "batch_stats": batch_stats}
        z, updated = model.apply(variables, normalise(image, kind), train=True, mutable=["batch_stats"])
        return z, updated["batch_stats"]

    encode = in_chunks(encode, chunks)

    def loss_fn(params, batch_stats, batch, key):
        image = views.to_float(batch["image"])
        seen = jnp.concatenate([view(k, image).image for k in jax.random.split(key)])
        z, statistics = encode(params, batch_stats, seen)
        if streamed:
            loss, chance = pairs.streamed_and_chance(z, pairs.blocks(batch, views=2))
        else:
            loss, chance = pairs.loss_and_chance(z, *pairs.matrices(batch, views=2))
        return {"contrastive": loss}, (statistics, {"chance": chance, **spread(z)})

    return loss_fn


def run(run: stage_run.Run, carried: dict[str, Any] | None, train=stage_run.train) -> dict[str, Any]:
    config, pairs = run.config, rule_of(run.config, "encoder")
    block = config.encoder
    batches = pairs.timed(run.cine_batches("encoder", pairs), steps=block.steps)
    if (images := 2 * block.cines * block.frames) % (share := block.chunks * run.mesh.size):
        raise UserError(f"config.encoder.chunks: {images} views do not split into {block.chunks} chunks on {run.mesh.size} devices; "
                        f"2 x cines x frames must be a multiple of {share}")  # fmt: skip
    first = batches.batch(0)
    save_pairs(run, "encoder", pairs, first)
    model = models.GlobalModel(**run.model_options())
    variables = stage_run.initialise(run, model, first["image"].shape[1:], carried)
    view = views.make_view(**block.views)
    loss_fn = make_loss(model, view, pairs, config.model.normalise, chunks=block.chunks, streamed=block.streamed)
    return train(run, "encoder", loss_fn, variables, batches, weights={"contrastive": 1.0})


def save_pairs(run: stage_run.Run, stage: str, pairs: Pairs, batch) -> None:
    """Keeps the pair matrices of the first batch, or of its beginning, for the report; with a curriculum those it ends with as well."""
    batch = {name: values[:SHOWN] for name, values in batch.items() if name != "image"}
    small = {name: jnp.asarray(values) for name, values in batch.items()}
    positive, negative = pairs.matrices(small, views=2)
    more = {}
    if "progress" in small:
        more["negative_last"] = pairs.matrices(small | {"progress": jnp.ones_like(small["progress"])}, views=2)[1]
    if not hosts.primary():
        return
    folder = run.folder / stage
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        folder / "pairs.npz", weights=pairs.weights(small), positive=positive, negative=negative, cine=batch["cine"], frame=batch["frame"],
        **more,
    )  # fmt: skip
