"""A pair rule as a stage uses it: how frames are drawn, which of them attract and repel, and by which loss."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from uscl import losses, temporal
from uscl.curriculum import admitted
from uscl.data.loader import Timed
from uscl.types import Batch


@dataclass(frozen=True)
class Pairs:
    """The block `encoder.pairs`, `decoder.pairs` or `temporal` of the configuration; the knobs are told there."""

    kind: str
    margin: float
    horizon: float
    parts: int
    negatives: str
    loss: str
    temperature: float
    denominator: str
    push: float
    distance: str
    sampling: str
    reach: int
    sigma: float = 5.0
    alpha: float = 0.2
    unit: str = "frames"
    curriculum: str = "none"
    curriculum_until: float = 0.5

    @property
    def in_seconds(self) -> bool:
        """Whether the rule asks for times. A linear weight over the whole cine does not: a share of the cine has no unit."""
        measured = self.kind in ("binary", "gaussian", "sigmoid") or (self.kind == "linear" and self.horizon > 0)
        return self.unit == "seconds" and measured

    def timed(self, batches, *, steps: int):
        """The batches, with "time" and "progress" beside the frames where the rule asks for them."""
        ordered = self.curriculum != "none"
        return Timed(batches, seconds=self.in_seconds, steps=steps if ordered else None) if self.in_seconds or ordered else batches

    def _rule(self, batch: Batch) -> dict[str, Any]:
        """What the functions of `uscl.temporal` are told."""
        return {
            "cine": batch["cine"], "frame": batch["time"] if self.in_seconds else batch["frame"], "kind": self.kind, "margin": self.margin,
            "horizon": self.horizon or None, "length": batch["length"], "parts": self.parts, "sigma": self.sigma, "alpha": self.alpha,
        }  # fmt: skip

    def _admit(self, batch: Batch) -> Callable | None:
        """How much of each negative counts at this step; None: all of it."""
        if self.curriculum == "none":
            return None
        return admitted(
            batch["cine"], batch["frame"], length=batch["length"], progress=batch["progress"],
            order=self.curriculum, until=self.curriculum_until,
        )  # fmt: skip

    def weights(self, batch: Batch) -> jax.Array:
        """[N, N] resemblance of the batch's frames."""
        return temporal.temporal_weights(**self._rule(batch))

    def matrices(self, batch: Batch, views: int) -> tuple[jax.Array, jax.Array]:
        """(positive, negative), each [views * N, views * N]."""
        admit = self._admit(batch)
        share = None if admit is None else admit(slice(None), slice(None))
        return temporal.pair_weights(self.weights(batch), batch["cine"], negatives=self.negatives, views=views, admit=share)

    def blocks(self, batch: Batch, views: int) -> Callable:
        """The same weights as blocks for the streamed losses, made when they are asked for."""
        return temporal.pair_blocks(**self._rule(batch), negatives=self.negatives, views=views, admit=self._admit(batch))

    def streamed_and_chance(self, z: jax.Array, pairs: Callable) -> tuple[jax.Array, jax.Array]:
        """As `loss_and_chance`, from blocks of pairs."""

        def mean(z):
            if self.loss == "info_nce":
                return losses.streamed_info_nce(z, pairs, temperature=self.temperature, denominator=self.denominator).mean()
            return losses.streamed_pairwise(z, pairs, margin=self.push, distance=self.distance).mean()

        return mean(z), mean(jnp.ones((len(z), 1)))  # equal embeddings of one number are as equal as those of many, and cheaper

    def loss_per_anchor(self, z: jax.Array, positive: jax.Array, negative: jax.Array) -> jax.Array:
        """[M] loss of the embeddings z [M, D]."""
        if self.loss == "info_nce":
            return losses.info_nce(z, positive, negative, temperature=self.temperature, denominator=self.denominator)
        return losses.pairwise_contrastive(z, positive, negative, margin=self.push, distance=self.distance)

    def loss_and_chance(self, z: jax.Array, positive: jax.Array, negative: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean loss, and what it is when every embedding is the same: the level a network that has learnt nothing sits at."""
        nothing = jnp.ones_like(z)
        return self.loss_per_anchor(z, positive, negative).mean(), self.loss_per_anchor(nothing, positive, negative).mean()


def rule_of(config, stage: str) -> Pairs:
    """The stage's own rule, or the temporal one where `temporal.stages` names the stage."""
    if stage in config.temporal.stages:
        return Pairs(**{name: value for name, value in config.temporal.items() if name != "stages"})
    return Pairs(**config[stage].pairs)
