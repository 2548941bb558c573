"""What nnU-Net's networks minimise, from a batch of enlarged patches to the terms of the loss."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import jax.numpy as jnp
import numpy as np

from uscl import losses
from uscl.augment import nnunet_pair
from uscl.data.cases import frame_and_label, prepare_case
from uscl.data.patches import PatchBatches
from uscl.losses import deep_supervision, shrink, supervision_weights
from uscl.models.plan import Plan
from uscl.stages.nnunet_predict import AXES, Heads


class WithGray:
    """PatchBatches with "gray" float32 [B, 2]: the factor and the shift that turn a patch's z-scores back into gray in [0, 1]."""

    def __init__(self, batches: PatchBatches):
        self._batches, self.size = batches, batches.size
        self._row = {_place(batches.store, row): row for row in batches.rows.tolist()}
        self._gray = lru_cache(maxsize=100_000)(self._gray_of)

    def batch(self, step: int, *, rows: slice = slice(None)) -> dict[str, np.ndarray]:
        batch = self._batches.batch(step, rows=rows)
        places = zip(batch["cine"].tolist(), batch["frame"].tolist(), strict=True)
        return batch | {"gray": np.stack([self._gray(self._row[place]) for place in places])}

    def _gray_of(self, row: int) -> np.ndarray:
        image, label = frame_and_label(self._batches.store, row)
        case = prepare_case(image, label, masked=self._batches.masked)
        grey, z = image[case.box[0] : case.box[1], case.box[2] : case.box[3]] / 255, case.image
        low, high = (np.unravel_index(find(z), z.shape) for find in (np.argmin, np.argmax))
        factor = (grey[high] - grey[low]) / (z[high] - z[low]) if z[high] > z[low] else 0.0
        return np.float32([factor, grey[high] - factor * z[high]])


def _place(store, row: int) -> tuple[int, int]:
    return int(store.labelled.cine[row]), int(store.labelled.frame[row])


def make_loss(network, plan: Plan, heads: Heads, *, weights: Sequence[str], speckle, turn: float, upright: bool) -> Callable:
    """The terms named in `weights` of one batch of enlarged patches: Dice and cross-entropy at every resolution of the decoder, the speckle
    loss at the finest. Dice counts as -D, so that both of weight 1 and no speckle make the original's loss, whose lower bound is -1.
    """

    regions = bool(heads.regions)
    dice, cross_entropy = (partial(term, regions=regions) for term in (losses.batch_dice, losses.pixel_entropy))

    def loss_fn(params, batch_stats, batch, key):
        image, label = nnunet_pair(
            key, batch["image"], batch["label"], size=plan.patch, turn=turn, mirror=AXES, upright=upright, masked=plan.masked
        )
        outputs = network.apply({"params": params}, image, train=True)
        targets = [heads.target(shrink(label, one.shape[1:3])) for one in outputs]
        share = supervision_weights(len(outputs))

        def speckle_term():
            p, t = heads.probability(outputs[0]), targets[0]
            if not regions:
                p, t = p[..., 1:], t[..., 1:]
            gray = image[..., 0] * batch["gray"][:, None, None, 0] + batch["gray"][:, None, None, 1]
            return losses.speckle_loss(jnp.clip(gray, 0, 1), p, t, **speckle)

        terms = {
            "dice": lambda: deep_supervision(outputs, targets, share, dice),
            "cross_entropy": lambda: deep_supervision(outputs, targets, share, cross_entropy),
            "speckle": speckle_term,
        }
        return {name: terms[name]().mean() for name in weights}, (batch_stats, {})

    return loss_fn
