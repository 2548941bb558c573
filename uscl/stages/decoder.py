"""Stage 2: the first decoder blocks learn from regions of their map (Chaitanya's local loss); the encoder stays as stage 1 left it.

With crops the two views show different parts of the frame: the regions are laid into their common area and read off each map where that
view shows them, so that position in the map does not give the answer. Without crops this is Chaitanya's own form.
"""

from typing import Any

import jax
import jax.numpy as jnp

from uscl import augment, losses, models
from uscl.metrics.embedding import spread
from uscl.stages import run as stage_run
from uscl.stages import views
from uscl.stages.encoder import save_pairs
from uscl.stages.pairs import Pairs, rule_of
from uscl.types import UserError

SMALLEST = 8  # side of a map on which 13 regions of 3 x 3 do not fall together


def make_loss(model, view, pairs: Pairs, kind: str, *, regions: int, neighbours: int, negatives: str, blind: bool, whole: bool):
    """The stage's loss. `blind` puts noise of its own in each view's place, to see what position alone reaches; `whole`: no crops."""
    near = losses.region_neighbours(augment.lattice(regions), k=neighbours)

    def loss_fn(params, batch_stats, batch, key):
        image = views.to_float(batch["image"])
        first, second, noise = jax.random.split(key, 3)
        seen = [view(first, image), view(second, image)]
        pixels = jnp.concatenate([v.image for v in seen])
        if blind:
            pixels = jax.random.uniform(noise, pixels.shape)

        def corners(height, width):
            return views.matched_corners(seen, (height, width), count=regions, whole=whole, shared=pairs.kind != "none")

        z, updated = model.apply(
            {"params": params, "batch_stats": batch_stats}, augment.normalise(pixels, kind), corners, train=True, mutable=["batch_stats"]
        )
        positive, negative = pairs.matrices(batch, views=2)
        attracts, repels = losses.local_pairs(positive, near, negatives=negatives, negative=negative if negatives == "batch" else None)
        z = z.reshape(-1, z.shape[-1])
        loss, chance = pairs.loss_and_chance(z, attracts, repels)
        return {"local": loss}, (updated["batch_stats"], {"chance": chance, **spread(z)})

    return loss_fn


def run(run: stage_run.Run, carried: dict[str, Any] | None, train=stage_run.train) -> dict[str, Any]:
    config, pairs = run.config, rule_of(run.config, "decoder")
    block = config.decoder
    batches = pairs.timed(run.cine_batches("decoder", pairs), steps=block.steps)
    first = batches.batch(0)
    side = first["image"].shape[1] >> (5 - block.blocks)
    if side < SMALLEST:
        raise UserError(f"config.decoder.blocks: found {block.blocks}, which at {first['image'].shape[1]} pixels is a map of side {side}; "
                        f"its regions need {SMALLEST}, so take more blocks or larger frames")  # fmt: skip
    save_pairs(run, "decoder", pairs, first)
    model = models.LocalModel(blocks=block.blocks, **run.model_options())
    variables = stage_run.initialise(run, model, first["image"].shape[1:], carried)
    loss_fn = make_loss(
        model, views.make_view(**block.views), pairs, config.model.normalise,
        regions=block.regions, neighbours=block.neighbours, negatives=block.negatives, blind=block.blind,
        whole=block.views.crop == "none",
    )  # fmt: skip
    frozen = ("encoder",) if block.freeze_encoder and carried is not None else ()
    return train(run, "decoder", loss_fn, variables, batches, weights={"local": 1.0}, frozen=frozen)
