"""What nnU-Net is trained with: batch Dice plus cross-entropy, at every resolution of the decoder."""
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from uscl.losses.segmentation import cross_entropy, soft_dice

SMOOTH = 1e-5  # pixels in the numerator and the denominator of Dice: it decides what a class does that the whole batch lacks


def dice_ce(logits, target, *, regions=False) -> jax.Array:
    """Batch Dice plus cross-entropy, weighed 1:1 (Isensee et al. 2021, version 2.8.1 of the code).

        loss_b = CE_b - mean over classes of D,   D = (2 sum p g + 1e-5) / (sum p + sum g + 1e-5)

    The sums of D run over space *and* batch, so D is one number for all images, under a split batch as well; CE_b is the mean over
    the pixels of image b. The mean over the batch is therefore the original's loss.
    softmax   p = softmax(logits), D without the background (channel 0), CE the cross-entropy
    regions   p = sigmoid(logits), D over all channels, CE the binary cross-entropy, a mean over the channels as well

    Args:
      logits: [B, H, W, K], of any float type; computed in float32.
      target: [B, H, W, K], one-hot, or for regions 0 or 1 in each channel by itself (`region_target`).
      regions: which of the two.

    Returns: [B] float32, in nats minus a Dice: -1 is the lower bound of the batch's mean.

    Raises: ValueError for shapes that do not fit, or softmax over the background alone.

    Known values: logits far on the target's side: -1. Equal logits, K = 2, each class on half the pixels: log 2 - 1/2. A class that
    no pixel of the batch has and none is given counts D = 1; the same class at p = 1/2 on n pixels counts 2e-5 / n.
    """
    return batch_dice(logits, target, regions=regions) + pixel_entropy(logits, target, regions=regions)


def batch_dice(logits, target, *, regions=False) -> jax.Array:
    """The Dice term of `dice_ce`, - mean over classes of D: [B] float32, one number B times, in [-1, 0]. Arguments as there."""
    logits = jnp.asarray(logits).astype(jnp.float32)
    probability = jax.nn.sigmoid(logits) if regions else jax.nn.softmax(logits)
    return soft_dice(probability, target, background=regions, absent="smooth", over="batch", smooth=SMOOTH) - 1


def pixel_entropy(logits, target, *, regions=False) -> jax.Array:
    """The cross-entropy term of `dice_ce`: [B] float32 in nats, the mean over each image's pixels, and channels for regions."""
    if not regions:
        return cross_entropy(logits, target)
    logits, target = jnp.asarray(logits).astype(jnp.float32), jnp.asarray(target).astype(jnp.float32)
    terms = target * jax.nn.log_sigmoid(logits) + (1 - target) * jax.nn.log_sigmoid(-logits)
    return -terms.mean(axis=(1, 2, 3))


def region_target(label, regions: Sequence[Sequence[int]]) -> jax.Array:
    """Each region, a union of label values, as a channel by itself; regions may overlap, and no channel is the background.

    label: integers [...]. Returns float32 [..., R] of 0 and 1.

    Known values: label 2 under [[1, 2, 3], [2], [3]] gives 1, 1, 0.
    """
    label = jnp.asarray(label)
    return jnp.stack([jnp.isin(label, np.asarray(values)) for values in regions], axis=-1).astype(jnp.float32)


def supervision_weights(n: int) -> np.ndarray:
    """Weights of n outputs, the finest first: halved from each to the next, the coarsest 0, the sum 1.

    Returns: [n] float64. A single output has weight 1, where the original's own arithmetic ends in 0 / 0.

    Raises: ValueError for n < 1.

    Known values: n = 4 gives 4/7, 2/7, 1/7, 0; n = 5 gives 8/15, 4/15, 2/15, 1/15, 0.
    """
    if n < 1:
        raise ValueError(f"n is {n}; there is at least one output")
    weights = 0.5 ** np.arange(n)
    if n > 1:
        weights[-1] = 0
    return weights / weights.sum()


def shrink(label, shape: tuple[int, int]) -> jax.Array:
    """The label map at an output's resolution: each pixel takes the one value under its centre (torch's "nearest-exact").

        source row of row i = floor((i + 1/2) * H / h)

    label: [B, H, W, ...] of any type. shape: (h, w). Returns [B, h, w, ...] of the same type; the same array for its own shape.

    Known values: 4 rows to 2 keep rows 1 and 3; 8 to 2 keep 2 and 6; 10 to 4 keep 1, 3, 6, 8.
    """
    label = jnp.asarray(label)
    for axis, (old, new) in enumerate(zip(label.shape[1:3], shape, strict=True), start=1):
        if old % new == 0:  # a strided slice: cheaper than a gather, and what every plan needs
            label = jax.lax.slice_in_dim(label, old // new // 2, None, old // new, axis)
        else:  # in float32, because there torch's rounding decides which of two pixels is under a centre on their border
            source = np.floor((np.arange(new, dtype=np.float32) + np.float32(0.5)) * np.float32(old / new))
            label = jnp.take(label, np.minimum(source, old - 1).astype(np.int32), axis=axis)
    return label


def deep_supervision(outputs: Sequence, targets, weights: Sequence[float], loss_fn: Callable) -> jax.Array:
    """The loss at several resolutions: sum over outputs i of weights[i] * loss_fn(outputs[i], targets[i]).

    An output of weight 0 does not enter at all: its gradient is exactly 0, and its loss is not computed.

    Args:
      outputs: logits [B, h_i, w_i, K], in any order that `weights` shares.
      targets: one for each output, as `loss_fn` wants it; or a single array, shrunk to each output's resolution: integers [B, H, W],
        which are then one-hot encoded, or [B, H, W, K], which are taken as they are (regions).
      weights: such as `supervision_weights(len(outputs))`.
      loss_fn: (logits, target) -> [B].

    Returns: [B] float32.

    Raises: ValueError for lists of different lengths, or where all weights are 0.
    """
    if not hasattr(targets, "ndim"):
        pick = list(targets).__getitem__
        count = len(targets)
    else:
        count = len(outputs)

        def pick(i):
            small = shrink(targets, outputs[i].shape[1:3])
            return small if targets.ndim == 4 else jax.nn.one_hot(small, outputs[i].shape[-1])

    if not len(outputs) == len(weights) == count:
        raise ValueError(f"as many of each expected: found {len(outputs)} outputs, {count} targets, {len(weights)} weights")
    terms = [float(w) * loss_fn(outputs[i], pick(i)) for i, w in enumerate(weights) if w != 0]
    if not terms:
        raise ValueError("all weights are 0")
    return sum(terms[1:], start=terms[0])
