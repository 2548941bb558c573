"""The order in which a cine's own frames begin to repel: near ones first or far ones first, as a function of how far the training is."""
from collections.abc import Callable

import jax.numpy as jnp

from uscl.resemblance import instants, integers

ORDERS = ("near_to_far", "far_to_near")


def admitted(cine, frame, *, length, progress, order, until=0.5, softness=0.25) -> Callable:
    """How much of each negative counts by now: `admit` of `uscl.temporal.pair_blocks`, and called with slices that of `pair_weights`.

    c_ij = clip(a + (a - x_ij) / softness, 0, 1) for two frames of one cine, 1 for frames of two cines
    a = min(1, progress / until),  r_ij = min(1, |t_i - t_j| / (length_i - 1)),  x = r under near_to_far, 1 - r under far_to_near

    At progress 0 no frame of the cine repels; a front then moves over the gaps from one end to the other, each weight rising from 0 to 1
    while a grows by softness / (1 + softness); from `until` on every weight is 1, exactly. Other cines are no part of the order.

    Args:
      cine, frame: [N] integers, as for `temporal_weights`.
      length: [N] integers, frames in the cine of each anchor.
      progress: scalar or [N], updates done over updates in all, in [0, 1]; may be traced.
      order: one of the two.
      until: progress at which the last weight has become 1, in (0, 1].
      softness: width of the front as a share of the largest gap, > 0; small: all at once.

    Returns: between(i, j) -> [len(i), len(j)] float32 in [0, 1], of the rows i and the columns j.

    Raises: ValueError for an unknown order, shapes that differ, an until outside (0, 1] or a softness that is not positive.

    Known values: frames 0, 5, 10 of 11, until 1/2, softness 1/2. At progress 1/4, a = 1/2: near_to_far has 1/2 at gap 5 and 0 at gap 10,
    far_to_near 1/2 at gap 5 and 1 at gap 10.
    """
    if order not in ORDERS:
        raise ValueError(f"order: found {order!r}; allowed are {ORDERS}")
    if not 0 < until <= 1 or not softness > 0:
        raise ValueError(f"until in (0, 1] and softness above 0 expected: found {until} and {softness}")
    cine, frame, length = integers("cine", cine), instants("frame", frame), instants("length", length)
    if cine.ndim != 1 or frame.shape != cine.shape:
        raise ValueError(f"cine and frame must be [N]: found {cine.shape} and {frame.shape}")
    frame, last = frame.astype(jnp.float32), jnp.maximum(jnp.broadcast_to(length, cine.shape).astype(jnp.float32) - 1, 1)
    done = jnp.broadcast_to(jnp.clip(jnp.asarray(progress, jnp.float32) / until, 0, 1), cine.shape)

    def between(i, j):
        gap = jnp.minimum(jnp.abs(frame[i][:, None] - frame[j][None, :]) / last[i][:, None], 1)
        place, a = gap if order == "near_to_far" else 1 - gap, done[i][:, None]
        share = jnp.clip(a + (a - place) / softness, 0, 1)
        return jnp.where(cine[i][:, None] == cine[j][None, :], share, 1.0)

    return between
