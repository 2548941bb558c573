"""Which frames resemble each other: pair rules as [N, N] matrices, so that they compose, or block by block where N^2 is too much.

Frames are compared as integers and turned into float32 last. A float32 holds integers only up to 2**24, so subtracting after the
conversion would call frames 16777216 and 16777217 the same; and the gap of two int32 may need 32 bits, so it is held unsigned.
"""
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

KINDS = ("none", "binary", "linear", "partition")
NEGATIVES = ("other_cines", "same_cine", "all")
_EVERY = slice(None)  # rows and columns of the whole matrix


def temporal_weights(cine, frame, *, kind, margin=5, horizon=None, length=None, parts=4) -> jax.Array:
    """Resemblance of every two frames by their time in the cine (the temporal rules of the kidney papers; Chaitanya's partitions).

    none       w_ij = 1[i = j]
    binary     w_ij = 1[cine_i = cine_j] 1[|t_i - t_j| <= margin]
    linear     w_ij = 1[cine_i = cine_j] max(0, 1 - |t_i - t_j| / horizon_i)
    partition  w_ij = 1[q_i = q_j] in any two cines, q = min(floor(t parts / length), parts - 1)

    Args:
      cine: [N] integers, a cine's id.
      frame: [N] integers, the frame's number in its cine; exact up to 2**31 - 1 (NumPy and Python integers beyond that are refused,
        since JAX would wrap them).
      kind: one of the four rules.
      margin: binary; largest gap of a pair, in frames.
      horizon: linear; gap at which the weight reaches 0, in frames: a scalar or [N], of which row i uses its own. None: `length`.
      length: [N] integers, frames in the cine of each anchor; needed by partition, and by linear without a horizon.
      parts: partition; equal parts a cine is cut into.

    Returns: [N, N] float32 in [0, 1]; the diagonal is 1. Symmetric, except where linear horizons differ between anchors.

    Raises: ValueError for an unknown kind, shapes that differ, times that are no integers, a missing length, a margin below 0, a
    horizon or a number of parts that is not positive.

    Known values: frames 0, 3, 10 of one cine give binary (margin 5) [[1, 1, 0], [1, 1, 0], [0, 0, 1]] and linear (horizon 10)
    [[1, .7, 0], [.7, 1, .3], [0, .3, 1]]; frames 0, 49, 50, 199 of 200 lie in parts 0, 0, 1, 3 of 4.
    """
    cine, frame = _integers("cine", cine), _integers("frame", frame)
    return _resemblance(cine, frame, kind, margin, horizon, length, parts)(_EVERY, _EVERY)


def pair_weights(weights, cine, *, negatives, views=1) -> tuple[jax.Array, jax.Array]:
    """Turns a resemblance into what attracts and what repels each anchor, for `views` views of every frame.

    positive = w off the diagonal, 1 between the views of a frame; negative = 1 - w, on the pairs that `negatives` names:
    other_cines  pairs from two cines (w is 0 there under the temporal rules, so the weight is 1; the partition rule spares its part)
    same_cine    pairs of different frames of a cine
    all          both. The views of a frame never repel each other.

    Args:
      weights: [N, N] in [0, 1], from `temporal_weights`.
      cine: [N] integers.
      negatives: one of the three.
      views: V, how often the frames are repeated.

    Returns: positive and negative, each [M, M] float32 with M = V N; view v of frame n is row v N + n.

    Raises: ValueError for an unknown `negatives`, fewer than one view, or shapes that do not fit.

    Known values: identity weights, two frames of two cines, two views: each row holds one positive and two negatives.
    """
    weights, cine = jnp.asarray(weights, jnp.float32), _integers("cine", cine)
    if cine.ndim != 1 or weights.shape != (len(cine), len(cine)) or views < 1:
        raise ValueError(f"weights [N, N], cine [N] and views >= 1 expected: found {weights.shape}, {cine.shape} and {views}")
    own = jnp.eye(len(cine), dtype=bool)
    positive, negative = _roles(weights, own, cine[:, None] == cine[None, :], negatives)
    positive, negative = (jnp.tile(x, (views, views)) for x in (positive, negative))
    return jnp.where(jnp.eye(len(positive), dtype=bool), 0.0, positive), negative


def pair_blocks(cine, frame, *, kind, negatives, margin=5, horizon=None, length=None, parts=4, views=1) -> Callable:
    """The matrices of `temporal_weights` and `pair_weights` as a function that computes any block of them, for the streamed losses.

    Args: those of the two functions, with the same meaning.

    Returns: pairs(i, j) -> (positive, negative), each [len(i), len(j)] float32: rows i and columns j, integers in 0 .. V N - 1, of what
      `pair_weights` gives, to the last bit. It holds arrays of size N only.

    Raises: ValueError, as the two functions do, here and not at the first block.

    Known values: pairs(arange(V N), arange(V N)) is the two whole matrices.
    """
    cine, frame = _integers("cine", cine), _integers("frame", frame)
    between = _resemblance(cine, frame, kind, margin, horizon, length, parts)
    if negatives not in NEGATIVES or views < 1:
        raise ValueError(f"negatives of {NEGATIVES} and views >= 1 expected: found {negatives!r} and {views}")

    def pairs(i, j):
        a, b = i % len(cine), j % len(cine)
        own, same = a[:, None] == b[None, :], cine[a][:, None] == cine[b][None, :]
        positive, negative = _roles(between(a, b), own, same, negatives)
        return jnp.where(i[:, None] == j[None, :], 0.0, positive), negative

    return pairs


def _resemblance(cine, frame, kind, margin, horizon, length, parts) -> Callable:
    """The rule as between(i, j) -> [len(i), len(j)] weights of the rows i against the columns j, with its arguments checked."""
    if kind not in KINDS:
        raise ValueError(f"kind: found {kind!r}; allowed are {KINDS}")
    if cine.ndim != 1 or frame.shape != cine.shape:
        raise ValueError(f"cine and frame must be [N]: found {cine.shape} and {frame.shape}")
    if kind == "none":
        return _same(jnp.arange(len(cine)))
    if length is None and (kind == "partition" or (kind == "linear" and horizon is None)):
        raise ValueError(f"kind={kind!r} needs length [N], the frames in each anchor's cine" + " or a horizon" * (kind == "linear"))
    if length is not None:
        length = jnp.broadcast_to(_integers("length", length), frame.shape)
    if kind == "partition":
        return _same(_part(frame, length, parts))
    if kind == "binary" and _known(margin) and margin < 0:
        raise ValueError(f"margin: found {margin}; it must be 0 or more, or a frame would not resemble itself")
    horizon = _checked_horizon(length if horizon is None else horizon) if kind == "linear" else None

    def between(i, j):
        gap, same = _gap(frame[i], frame[j]), cine[i][:, None] == cine[j][None, :]
        if kind == "linear":
            return jnp.where(same, _ramp(gap, horizon[i][:, None] if horizon.ndim else horizon), 0.0)
        # Compared as integers of the gap's own type; no gap reaches the type's end, so clipping a larger margin changes nothing.
        limit = min(int(margin), jnp.iinfo(gap.dtype).max) if _known(margin) else jnp.floor(margin)
        return (same & (gap <= jnp.asarray(limit, gap.dtype))).astype(jnp.float32)

    return between


def _same(group) -> Callable:
    return lambda i, j: (group[i][:, None] == group[j][None, :]).astype(jnp.float32)


def _roles(weights, own, same, negatives) -> tuple[jax.Array, jax.Array]:
    """(positive, negative) of frames that resemble each other by `weights`, are one frame (`own`) and of one cine (`same`)."""
    if negatives not in NEGATIVES:
        raise ValueError(f"negatives: found {negatives!r}; allowed are {NEGATIVES}")
    counted = {"other_cines": ~same, "same_cine": same, "all": jnp.ones_like(same)}[negatives]
    return jnp.where(own, 1.0, weights), jnp.where(counted & ~own, 1.0 - weights, 0.0)


def _known(value) -> bool:
    """Whether the value can be looked at now; a JAX array may be traced, or live on a device we must not wait for."""
    return isinstance(value, int | float | np.number)


def _integers(name, values) -> jax.Array:
    if not isinstance(values, jax.Array):
        values = np.asarray(values)
        if values.size and values.dtype.kind in "iu" and not jax.config.jax_enable_x64:
            if values.min() < -(2**31) or values.max() > 2**31 - 1:
                raise ValueError(f"{name}: {values.min()} .. {values.max()} leaves the range of int32")
            values = values.astype(np.int32)
    if not jnp.issubdtype(values.dtype, jnp.integer):
        raise ValueError(f"{name}: integers expected, found {values.dtype}")
    values = jnp.asarray(values)
    return values if values.dtype.itemsize >= 4 else values.astype(jnp.int32)


def _gap(a, b) -> jax.Array:
    """|a_i - b_j|, unsigned: exact for any two integers of the type, because unsigned subtraction is arithmetic modulo its range."""
    unsigned = jnp.dtype(f"uint{8 * a.dtype.itemsize}")
    a, b = a[:, None], b[None, :]
    return jnp.maximum(a, b).astype(unsigned) - jnp.minimum(a, b).astype(unsigned)


def _checked_horizon(horizon) -> jax.Array:
    if isinstance(horizon, int | float | np.number | np.ndarray) and not np.all(np.asarray(horizon) > 0):
        raise ValueError(f"horizon: found {horizon}; it must be positive, in frames")
    return jnp.asarray(int(horizon) if _known(horizon) and float(horizon).is_integer() else horizon)


def _ramp(gap, horizon) -> jax.Array:
    """max(0, 1 - gap / horizon), row i with horizon i; whole horizons are subtracted as integers, so small weights keep their digits."""
    if jnp.issubdtype(horizon.dtype, jnp.integer):
        whole = jnp.maximum(horizon, 0).astype(gap.dtype)
        left = jnp.where(gap < whole, whole - gap, 0).astype(jnp.float32)
        ramp = left / jnp.maximum(whole, 1).astype(jnp.float32)
    else:
        ramp = jnp.maximum(0.0, 1.0 - gap.astype(jnp.float32) / horizon.astype(jnp.float32))
    return jnp.where(gap == 0, 1.0, ramp)  # exactly 1, also where a traced horizon is 0


def _part(frame, length, parts) -> jax.Array:
    """min(floor(t parts / length), parts - 1) without that product, which would overflow: how many k < parts have k length / parts <= t."""
    if parts < 1:
        raise ValueError(f"parts: found {parts}; at least 1 is needed")
    k = jnp.arange(1, parts, dtype=frame.dtype)
    length = length[:, None].astype(frame.dtype)
    begin = k * (length // parts) + (k * (length % parts) + parts - 1) // parts  # ceil(k length / parts)
    return (frame[:, None] >= begin).sum(axis=1)
