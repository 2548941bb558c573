"""Pretraining on stills and frames of sweeps: AWCL, which lets planes choose the pairs, and USCL, which mixes the frames of a cine."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax

from uscl import augment, losses, models
from uscl.anatomy import anatomy_weights, keep_labels, union
from uscl.data.planes import CineTriples, PlaneBatches, known_columns
from uscl.metrics.embedding import spread
from uscl.stages import clips, stills, views
from uscl.stages import run as stage_run
from uscl.stages.encoder import save_pairs
from uscl.temporal import pair_weights, temporal_weights
from uscl.train import guards
from uscl.train import mesh as meshes
from uscl.types import Batch

ADVICE = guards.Advice(
    chance="a lower anatomy.temperature, anatomy.learning_rate a third or three times as high, or weaker anatomy.views (smallest nearer 1, "
    "speckle, shadow and gain at 0)",
    collapse="a larger anatomy.batch, a lower anatomy.temperature, or a lower anatomy.learning_rate",
)


@dataclass(frozen=True)
class Rule:
    """Which frames attract: those of one plane, and those near in time by the block `anatomy.near`. All others repel."""

    kind: str = "none"
    margin: float = 0.0
    horizon: float = 0.0

    def weights(self, batch: Batch) -> jax.Array:
        """[N, N] resemblance of the batch's frames."""
        how = {"kind": self.kind, "margin": self.margin, "horizon": self.horizon or None, "length": batch["length"]}
        return union(temporal_weights(batch["cine"], batch["frame"], **how), anatomy_weights(batch["label"]))

    def matrices(self, batch: Batch, views: int) -> tuple[jax.Array, jax.Array]:
        """(positive, negative), each [views * N, views * N]."""
        return pair_weights(self.weights(batch), batch["cine"], negatives="all", views=views)


def make_loss(model, view, kind: str, rule: Rule, *, temperature: float, ratio: float) -> Callable:
    """AWCL: two views of every frame, SupCon where a label is known and NT-Xent where none is."""

    def loss_fn(params, batch_stats, batch, key):
        *keys, forget = jax.random.split(key, 3)
        image = views.to_float(batch["image"])
        seen = jnp.concatenate([view(k, image) for k in keys])
        (z, _), updated = _apply(model, params, batch_stats, stills.at_the_door(seen, kind))
        known = {**batch, "label": keep_labels(forget, batch["label"], ratio=ratio)}
        positive, negative = rule.matrices(known, views=2)
        loss, chance = (_mean(x, positive, negative, temperature) for x in (z, jnp.ones_like(z)))
        told = {"chance": chance, "positives": positive.sum(1).mean(), **spread(z)}
        return {"contrastive": loss}, (updated["batch_stats"], told)

    return loss_fn


def make_mixed_loss(model, view, kind: str, *, temperature: float, ratio: float) -> Callable:
    """USCL: two samples of every cine, each between a frame of its own and one both share; NT-Xent, and cross-entropy of the planes."""

    def loss_fn(params, batch_stats, batch, key):
        for_view, for_mix, forget = jax.random.split(key, 3)
        image = views.to_float(batch["image"])
        n, three, *rest = image.shape
        frames = view(for_view, image.reshape(n * three, *rest)).reshape(image.shape)
        samples = augment.mix_frames(for_mix, frames, count=batch["length"]).swapaxes(0, 1).reshape(2 * n, *rest)
        (z, logits), updated = _apply(model, params, batch_stats, stills.at_the_door(samples, kind))
        pairs = pair_weights(jnp.eye(n), jnp.arange(n), negatives="all", views=2)
        loss, chance = (_mean(x, *pairs, temperature) for x in (z, jnp.ones_like(z)))
        terms = {"contrastive": loss}
        if model.classes:
            label = keep_labels(forget, batch["label"], ratio=ratio)
            terms["cross_entropy"] = losses.label_entropy(logits, jnp.tile(label, 2)).mean()
        return terms, (updated["batch_stats"], {"chance": chance, **spread(z)})

    return loss_fn


def _apply(model, params, batch_stats, image):
    return model.apply({"params": params, "batch_stats": batch_stats}, image, train=True, mutable=["batch_stats"])


def _mean(z, positive, negative, temperature):
    return losses.info_nce(z, positive, negative, temperature=temperature, denominator="all").mean()


def make_batches(run: stage_run.Run) -> PlaneBatches | CineTriples:
    """The batches of the training patients that the method draws."""
    block = run.config.anatomy
    meshes.check_batch(run.mesh, block.batch, key="config.anatomy.batch")
    column = block.coarse if block.level == "coarse" else block.column
    share = block.share if block.ratio or known_columns(run.store, column) else 0.0  # SimCLR can do without planes
    how = {"batch": block.batch, "share": share, "column": column, "ignore": block.ignore, "seed": run.config.seed}
    if block.method == "uscl":
        batches = CineTriples(run.store, run.store.patients("train"), **how)
    else:
        batches = PlaneBatches(run.store, run.store.patients("train"), **how, frames=block.frames, reach=block.reach)
    left = f"; {batches.left_out} too short" if batches.left_out else ""
    counts = f"{len(batches.ids[0])} stills of {len(batches.names)} planes and {len(batches.ids[1])} sweeps"
    run.log.info(f"anatomy: {counts} of the training patients{left}")
    return batches


def run(run: stage_run.Run, carried: dict[str, Any] | None, train=stage_run.train) -> dict[str, Any] | None:
    config, block = run.config, run.config.anatomy
    batches, mixed = make_batches(run), block.method == "uscl"
    encoder, classes = stills.make_encoder(run), len(batches.names) if mixed else 0
    model = models.StillModel(encoder=encoder, hidden=block.hidden, features=block.features, classes=classes)
    variables = stage_run.initialise(run, model, stills.shape(run), carried)
    view, how = stills.make_view(block.views), {"temperature": block.temperature, "ratio": block.ratio}
    if mixed:
        loss_fn = make_mixed_loss(model, view, config.model.normalise, **how)
    else:
        rule = Rule(**block.near)
        first = batches.batch(0)
        known = keep_labels(jax.random.key(config.seed), first["label"], ratio=block.ratio)
        save_pairs(run, "anatomy", rule, first | {"label": known})
        loss_fn = make_loss(model, view, config.model.normalise, rule, **how)
    course = clips.looked_at(stage_run.course_of(run, "anatomy"), block.look_every)
    decay = optax.add_decayed_weights(block.weight_decay)
    weights = {"contrastive": 1.0} | ({"cross_entropy": block.label_weight} if classes else {})
    return train(
        run, "anatomy", loss_fn, variables, batches, weights=weights,
        validate=stills.make_look(run, encoder), course=replace(course, optimizer=optax.chain(decay, course.optimizer)), advice=ADVICE,
    )  # fmt: skip
