"""A pair rule as a stage uses it: how frames are drawn, which of them attract and repel, and by which loss."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from uscl import losses, temporal
from uscl.types import Batch


@dataclass(frozen=True)
class Pairs:
    """The block `encoder.pairs`, `decoder.pairs` or `temporal` of the configuration; the knobs are told there."""

    kind: str
    margin: int
    horizon: int
    parts: int
    negatives: str
    loss: str
    temperature: float
    denominator: str
    push: float
    distance: str
    sampling: str
    reach: int

    def weights(self, batch: Batch) -> jax.Array:
        """[N, N] resemblance of the batch's frames."""
        return temporal.temporal_weights(
            batch["cine"],
            batch["frame"],
            kind=self.kind,
            margin=self.margin,
            horizon=self.horizon or None,
            length=batch["length"],
            parts=self.parts,
        )

    def matrices(self, batch: Batch, views: int) -> tuple[jax.Array, jax.Array]:
        """(positive, negative), each [views * N, views * N]."""
        return temporal.pair_weights(self.weights(batch), batch["cine"], negatives=self.negatives, views=views)

    def blocks(self, batch: Batch, views: int) -> Callable:
        """The same weights as blocks for the streamed losses, made when they are asked for."""
        return temporal.pair_blocks(
            batch["cine"], batch["frame"], kind=self.kind, negatives=self.negatives, margin=self.margin,
            horizon=self.horizon or None, length=batch["length"], parts=self.parts, views=views,
        )  # fmt: skip

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
