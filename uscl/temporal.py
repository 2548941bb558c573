"""Which frames resemble each other: pair rules as [N, N] matrices, so that they compose, or block by block where N^2 is too much."""
from collections.abc import Callable

import jax
import jax.numpy as jnp

from uscl.resemblance import EVERY, KINDS, instants, integers, make_rule

__all__ = ["KINDS", "NEGATIVES", "pair_blocks", "pair_weights", "temporal_weights"]

NEGATIVES = ("other_cines", "same_cine", "all")


def temporal_weights(cine, frame, *, kind, margin=5, horizon=None, length=None, parts=4, sigma=5.0, alpha=0.2) -> jax.Array:
    """Resemblance of every two frames by their time in the cine: the temporal rules of the kidney papers, Chaitanya's partitions, and two
    smooth rules, the kernel of y-aware contrastive learning (Dufumier 2021) and the sigmoid of SoftCLT (Lee 2024).

    none       w_ij = 1[i = j]
    binary     w_ij = 1[cine_i = cine_j] 1[|t_i - t_j| <= margin]
    linear     w_ij = 1[cine_i = cine_j] max(0, 1 - |t_i - t_j| / horizon_i)
    gaussian   w_ij = 1[cine_i = cine_j] exp(-(t_i - t_j)^2 / (2 sigma^2))
    sigmoid    w_ij = 1[cine_i = cine_j] 2 / (1 + exp(alpha |t_i - t_j|))
    partition  w_ij = 1[q_i = q_j] in any two cines, q = min(floor(t parts / length), parts - 1)

    The smooth rules have no end: every frame of the cine attracts a little, until float32 has no smaller number.

    Args:
      cine: [N] integers, a cine's id.
      frame: [N] integers, the frame's number in its cine, exact up to 2**31 - 1 (NumPy and Python integers beyond that are refused,
        since JAX would wrap them); or [N] floating, its time, in float32. Margin, horizon, sigma and 1 / alpha are in the same unit.
      kind: one of the six rules.
      margin: binary; largest gap of a pair. Times within rounding of it, 2^-22 of the larger time, are inside.
      horizon: linear; gap at which the weight reaches 0: a scalar or [N], of which row i uses its own. None: `length`.
      length: [N], how long the cine of each anchor is, integers or times as `frame`; needed by partition, and by linear without a horizon.
      parts: partition, which counts frames and takes no times; equal parts a cine is cut into.
      sigma: gaussian; gap at which the weight is e^-1/2 = 0.61.
      alpha: sigmoid; the weight is 2 / (1 + e) = 0.54 at the gap 1 / alpha.

    Returns: [N, N] float32 in [0, 1]; the diagonal is 1. Symmetric, except where linear horizons differ between anchors.

    Raises: ValueError for an unknown kind, shapes that differ, times that are neither integers nor finite, a missing length, a margin
    below 0, a horizon, sigma, alpha or number of parts that is not positive.

    Known values: frames 0, 3, 10 of one cine give binary (margin 5) [[1, 1, 0], [1, 1, 0], [0, 0, 1]] and linear (horizon 10)
    [[1, .7, 0], [.7, 1, .3], [0, .3, 1]]; frames 0, 49, 50, 199 of 200 lie in parts 0, 0, 1, 3 of 4. Frames 0 and 6: gaussian (sigma 3)
    e^-2; frames 0 and 5: sigmoid (alpha ln(3) / 5) 1/2. Times 0, 1.5, 5 s are to 2.5 s, 5 s and 1.5 s what frames 0, 3, 10 are to
    5, 10 and 3.
    """
    cine, frame = integers("cine", cine), instants("frame", frame)
    options = {"margin": margin, "horizon": horizon, "length": length, "parts": parts, "sigma": sigma, "alpha": alpha}
    return make_rule(cine, frame, kind, **options)(EVERY, EVERY)


def pair_weights(weights, cine, *, negatives, views=1, admit=None) -> tuple[jax.Array, jax.Array]:
    """Turns a resemblance into what attracts and what repels each anchor, for `views` views of every frame.

    positive = w off the diagonal, 1 between the views of a frame; negative = admit (1 - w), on the pairs that `negatives` names:
    other_cines  pairs from two cines (w is 0 there under the temporal rules, so the weight is 1; the partition rule spares its part)
    same_cine    pairs of different frames of a cine
    all          both. The views of a frame never repel each other.

    Args:
      weights: [N, N] in [0, 1], from `temporal_weights`.
      cine: [N] integers.
      negatives: one of the three.
      views: V, how often the frames are repeated.
      admit: [N, N] in [0, 1], how much of each negative counts (`uscl.curriculum`). None: all of it.

    Returns: positive and negative, each [M, M] float32 with M = V N; view v of frame n is row v N + n.

    Raises: ValueError for an unknown `negatives`, fewer than one view, or shapes that do not fit.

    Known values: identity weights, two frames of two cines, two views: each row holds one positive and two negatives.
    """
    weights, cine = jnp.asarray(weights, jnp.float32), integers("cine", cine)
    if cine.ndim != 1 or weights.shape != (len(cine), len(cine)) or views < 1:
        raise ValueError(f"weights [N, N], cine [N] and views >= 1 expected: found {weights.shape}, {cine.shape} and {views}")
    if admit is not None and admit.shape != weights.shape:
        raise ValueError(f"admit [N, N] of N = {len(cine)} expected: found {admit.shape}")
    own = jnp.eye(len(cine), dtype=bool)
    positive, negative = _roles(weights, own, cine[:, None] == cine[None, :], negatives, admit)
    positive, negative = (jnp.tile(x, (views, views)) for x in (positive, negative))
    return jnp.where(jnp.eye(len(positive), dtype=bool), 0.0, positive), negative


def pair_blocks(
    cine, frame, *, kind, negatives, margin=5, horizon=None, length=None, parts=4, sigma=5.0, alpha=0.2, views=1, admit=None
) -> Callable:
    """The matrices of `temporal_weights` and `pair_weights` as a function that computes any block of them, for the streamed losses.

    Args: those of the two functions, with the same meaning; but admit(i, j), the block of rows i and columns j in 0 .. N - 1.

    Returns: pairs(i, j) -> (positive, negative), each [len(i), len(j)] float32: rows i and columns j, integers in 0 .. V N - 1, of what
      `pair_weights` gives, to the last bit. It holds arrays of size N only.

    Raises: ValueError, as the two functions do, here and not at the first block.

    Known values: pairs(arange(V N), arange(V N)) is the two whole matrices.
    """
    cine, frame = integers("cine", cine), instants("frame", frame)
    options = {"margin": margin, "horizon": horizon, "length": length, "parts": parts, "sigma": sigma, "alpha": alpha}
    between = make_rule(cine, frame, kind, **options)
    if negatives not in NEGATIVES or views < 1:
        raise ValueError(f"negatives of {NEGATIVES} and views >= 1 expected: found {negatives!r} and {views}")

    def pairs(i, j):
        a, b = i % len(cine), j % len(cine)
        own, same = a[:, None] == b[None, :], cine[a][:, None] == cine[b][None, :]
        positive, negative = _roles(between(a, b), own, same, negatives, None if admit is None else admit(a, b))
        return jnp.where(i[:, None] == j[None, :], 0.0, positive), negative

    return pairs


def _roles(weights, own, same, negatives, admit) -> tuple[jax.Array, jax.Array]:
    """(positive, negative) of frames that resemble each other by `weights`, are one frame (`own`) and of one cine (`same`)."""
    if negatives not in NEGATIVES:
        raise ValueError(f"negatives: found {negatives!r}; allowed are {NEGATIVES}")
    counted = {"other_cines": ~same, "same_cine": same, "all": jnp.ones_like(same)}[negatives]
    repels = 1.0 - weights if admit is None else admit * (1.0 - weights)
    return jnp.where(own, 1.0, weights), jnp.where(counted & ~own, repels, 0.0)
