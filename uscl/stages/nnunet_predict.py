"""Label maps from trained nnU-Nets: tiles over all devices, the mean of the folds' logits, values painted, stray components removed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax

from uscl.data.cases import prepare_case
from uscl.data.nnunet_export import regions
from uscl.losses.nnunet import region_target
from uscl.metrics import components
from uscl.models.plan import Plan
from uscl.models.tiles import TiledLogits, make_logits
from uscl.train import mesh as meshes

AXES = ("rows", "columns")  # that nnU-Net mirrors, in training and at inference


@dataclass(frozen=True)
class Heads:
    """What the network's channels stand for: the label values 0 .. values - 1 under a softmax, or regions, a sigmoid each.

    regions: the label values of each; () for the softmax. paint: the value that each region gives its pixels, one after the other, so
    that a later region lies on an earlier one.
    """

    values: int
    regions: tuple[tuple[int, ...], ...] = ()
    paint: tuple[int, ...] = ()

    @classmethod
    def of(cls, store, overlapping: bool) -> "Heads":
        """Heads for a store's labels; the regions are those of an exported dataset.json (`uscl.data.nnunet_export.regions`)."""
        if not overlapping:
            return cls(store.values)
        labels, order = regions(store.classes)
        groups = [tuple(np.atleast_1d(values).tolist()) for name, values in labels.items() if name != "background"]
        return cls(store.values, tuple(groups), tuple(order) or tuple(values[0] for values in groups))

    @property
    def count(self) -> int:
        return len(self.regions) or self.values

    @property
    def entries(self) -> int:
        """Entries of `labels` in a dataset.json: with a background in either case."""
        return self.count + (1 if self.regions else 0)

    def target(self, label) -> jax.Array:
        """Labels int [B, H, W] -> float32 [B, H, W, count], one-hot or a channel a region."""
        return region_target(label, self.regions) if self.regions else jax.nn.one_hot(label, self.values)

    def probability(self, logits) -> jax.Array:
        logits = logits.astype(jnp.float32)
        return jax.nn.sigmoid(logits) if self.regions else jax.nn.softmax(logits)

    def values_of(self, logits: np.ndarray) -> np.ndarray:
        """Logits [H, W, count] -> label values uint8 [H, W]: the largest, or each region with a probability above 1/2 painted in turn."""
        if not self.regions:
            return np.argmax(logits, -1).astype(np.uint8)
        painted = np.zeros(logits.shape[:2], np.uint8)
        for channel, value in enumerate(self.paint):
            painted[logits[..., channel] > 0] = value
        return painted


def make_tiles(network, plan: Plan, mesh: jax.sharding.Mesh, *, mirror: Sequence[str]) -> TiledLogits:
    """tiles(image float32 [h, w, 1], params) -> logits [h, w, K], as many tiles at a time as the plan trains on.

    Of several processes each passes the whole image, computes its share of every batch of tiles, and gets the whole answer.
    """
    everywhere, split = meshes.replicated(mesh), meshes.batch_sharding(mesh)

    def on_mesh(function: Callable) -> Callable:
        compiled = jax.jit(function, in_shardings=(split, everywhere), out_shardings=everywhere)

        def call(tiles: np.ndarray, params) -> jax.Array:
            mine = {"tiles": tiles[meshes.share(mesh, len(tiles))]}
            return compiled(meshes.put_batch(mesh, mine)["tiles"], params)

        return call

    def apply(tiles, params):
        return network.apply({"params": params}, tiles, train=False)[0]

    return make_logits(apply, patch=plan.patch, mirror=tuple(mirror), batch=plan.batch, jit=on_mesh)


def make_values(
    tiles: TiledLogits, networks: Sequence[Any], heads: Heads, *, masked: bool, rules: dict[str, Any] | None = None, watched: bool = False
) -> Callable:
    """values_of(image uint8 [N, H, W, 1]) -> label values uint8 [N, H, W], from the mean of the logits of `networks`, parameters each.

    The crop to what is not zero leaves background around it. rules: of `components.decide`, carried out last; None for none.
    watched: -> (those, {"probability": float32 [N, H, W, K]}), the softmax of the same mean, background where the crop is not; the rules
    move no probability. {} where the heads are regions, whose sigmoids do not share out a whole.
    """

    def values_of(image: np.ndarray):
        cases = [prepare_case(frame, masked=masked) for frame in image[..., 0]]
        logits = [tiles.many([case.image[..., None] for case in cases], params) for params in networks]
        values, more = np.zeros(image.shape[:3], np.uint8), {}
        if watched and not heads.regions:
            more["probability"] = np.zeros((*image.shape[:3], heads.count), np.float32)
            more["probability"][..., 0] = 1
        for place, (case, *folds) in enumerate(zip(cases, *logits, strict=True)):
            top, bottom, left, right = case.box
            mean = sum(folds) / len(folds)
            values[place, top:bottom, left:right] = heads.values_of(mean)
            for probability in more.values():
                probability[place, top:bottom, left:right] = softmax(mean.astype(np.float32), -1)
        if rules is not None:
            values = np.stack([components.apply(one, rules) for one in values])
        return (values, more) if watched else values

    return values_of
