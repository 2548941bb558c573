"""The rules by which two frames resemble each other, block by block; `uscl.temporal` is the door to them and says what each means.

Frame numbers are compared as integers and turned into float32 last. A float32 holds integers only up to 2**24, so subtracting after the
conversion would call frames 16777216 and 16777217 the same; and the gap of two int32 may need 32 bits, so it is held unsigned.

Times in seconds are float32, and their gaps carry the rounding of both. Whether five frames of 40 ms lie within 0.2 s must not hang on
that, so what is nearer to the margin than such an error counts as on it.
"""
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

KINDS = ("none", "binary", "linear", "gaussian", "sigmoid", "partition")
EVERY = slice(None)  # rows and columns of the whole matrix
_SLACK = 2.0**-22  # of the largest time: two roundings of a time and one of the margin


def make_rule(cine, frame, kind, *, margin, horizon, length, parts, sigma, alpha) -> Callable:
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
        length = jnp.broadcast_to(instants("length", length) if _is_time(frame) else integers("length", length), frame.shape)
    if kind == "partition":
        if _is_time(frame):
            raise ValueError("kind='partition' counts frames: integers expected, found times")
        return _same(_part(frame, length, parts))
    if kind == "binary" and _known(margin) and margin < 0:
        raise ValueError(f"margin: found {margin}; it must be 0 or more, or a frame would not resemble itself")
    for name, value in (("sigma", sigma), ("alpha", alpha)):
        if kind == {"sigma": "gaussian", "alpha": "sigmoid"}[name] and _known(value) and not 0 < value < float("inf"):
            raise ValueError(f"{name}: found {value}; it must be positive and finite")
    horizon = _checked_horizon(length if horizon is None else horizon) if kind == "linear" else None

    def between(i, j):
        gap, same = _gap(frame[i], frame[j]), cine[i][:, None] == cine[j][None, :]
        if kind == "linear":
            return jnp.where(same, _ramp(gap, horizon[i][:, None] if horizon.ndim else horizon), 0.0)
        if kind == "gaussian":
            return jnp.where(same, _falling(gap, jnp.exp(-jnp.square(gap.astype(jnp.float32) / sigma) / 2)), 0.0)
        if kind == "sigmoid":
            return jnp.where(same, _falling(gap, 2 * jax.nn.sigmoid(-alpha * gap.astype(jnp.float32))), 0.0)
        if _is_time(frame):
            largest = jnp.maximum(jnp.maximum(jnp.abs(frame[i])[:, None], jnp.abs(frame[j])[None, :]), margin)
            return (same & (gap <= margin + _SLACK * largest)).astype(jnp.float32)
        # Compared as integers of the gap's own type; no gap reaches the type's end, so clipping a larger margin changes nothing.
        limit = min(int(margin), jnp.iinfo(gap.dtype).max) if _known(margin) else jnp.floor(margin)
        return (same & (gap <= jnp.asarray(limit, gap.dtype))).astype(jnp.float32)

    return between


def integers(name, values) -> jax.Array:
    """`values` as integers of 32 bits or more. Raises ValueError for other types, and for what JAX would wrap."""
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


def instants(name, values) -> jax.Array:
    """Frame numbers as `integers` has them, or times as float32. Raises ValueError for times that are not finite."""
    values = values if isinstance(values, jax.Array) else np.asarray(values)
    if not jnp.issubdtype(values.dtype, jnp.floating):
        return integers(name, values)
    if isinstance(values, np.ndarray) and not np.isfinite(values).all():
        raise ValueError(f"{name}: found a time that is not finite")
    return jnp.asarray(values).astype(jnp.float32)


def _is_time(frame) -> bool:
    return jnp.issubdtype(frame.dtype, jnp.floating)


def _same(group) -> Callable:
    return lambda i, j: (group[i][:, None] == group[j][None, :]).astype(jnp.float32)


def _known(value) -> bool:
    """Whether the value can be looked at now; a JAX array may be traced, or live on a device we must not wait for."""
    return isinstance(value, int | float | np.number)


def _gap(a, b) -> jax.Array:
    """|a_i - b_j|; of integers unsigned: exact for any two of the type, because unsigned subtraction is arithmetic modulo its range."""
    a, b = a[:, None], b[None, :]
    if _is_time(a):
        return jnp.abs(a - b)
    unsigned = jnp.dtype(f"uint{8 * a.dtype.itemsize}")
    return jnp.maximum(a, b).astype(unsigned) - jnp.minimum(a, b).astype(unsigned)


def _checked_horizon(horizon) -> jax.Array:
    if isinstance(horizon, int | float | np.number | np.ndarray) and not np.all(np.asarray(horizon) > 0):
        raise ValueError(f"horizon: found {horizon}; it must be positive")
    return jnp.asarray(int(horizon) if _known(horizon) and float(horizon).is_integer() else horizon)


def _ramp(gap, horizon) -> jax.Array:
    """max(0, 1 - gap / horizon), row i with horizon i; whole horizons are subtracted as integers, so small weights keep their digits."""
    if jnp.issubdtype(horizon.dtype, jnp.integer):
        whole = jnp.maximum(horizon, 0).astype(gap.dtype)
        left = jnp.where(gap < whole, whole - gap, 0).astype(jnp.float32)
        ramp = left / jnp.maximum(whole, 1).astype(jnp.float32)
    else:
        ramp = jnp.maximum(0.0, 1.0 - gap.astype(jnp.float32) / horizon.astype(jnp.float32))
    return _falling(gap, ramp)


def _falling(gap, weight) -> jax.Array:
    """`weight`, but exactly 1 at gap 0, also where a traced horizon or width is 0."""
    return jnp.where(gap == 0, 1.0, weight)


def _part(frame, length, parts) -> jax.Array:
    """min(floor(t parts / length), parts - 1) without that product, which would overflow: how many k < parts have k length / parts <= t."""
    if parts < 1:
        raise ValueError(f"parts: found {parts}; at least 1 is needed")
    k = jnp.arange(1, parts, dtype=frame.dtype)
    length = length[:, None].astype(frame.dtype)
    begin = k * (length // parts) + (k * (length % parts) + parts - 1) // parts  # ceil(k length / parts)
    return (frame[:, None] >= begin).sum(axis=1)
