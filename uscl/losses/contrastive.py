"""Contrastive losses over graded pairs: who attracts and who repels is two [M, M] matrices, made elsewhere (`uscl.temporal`)."""
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import linear_call

_MASKED = -1e9  # far below any similarity over temperature, and finite, so that 0 * masked is 0 and not NaN
_TINY = 1e-30  # below this a weight, a sum of weights or an embedding's largest entry counts as 0
_TOUCHING = 1e-14  # squared distance of unit vectors that float32 cannot tell apart


def info_nce(z, positive, negative, *, temperature=0.1, denominator="pair") -> jax.Array:
    """InfoNCE with weighted positives and negatives (Chaitanya et al. 2020; with graded weights as y-aware InfoNCE, Dufumier et al. 2021).

    With s_ij = cos(z_i, z_j) / temperature, p = positive, n = negative, and no i = j anywhere:

        loss_i = sum_j p_ij [ -s_ij + log( e^{s_ij} + sum_k n_ik e^{s_ik} ) ] / sum_j p_ij        denominator="pair"
        loss_i = sum_j p_ij [ -s_ij + log sum_k a_ik e^{s_ik} ] / sum_j p_ij                      denominator="all"
        a_ik = 1 where p_ik > 0, else n_ik

    "pair" compares each positive with the negatives alone (Chaitanya); "all" puts every other positive into the sum as well, which
    with identity weights and all others negative is NT-Xent, and with 0/1 weights the supervised contrastive loss. A pair with neither
    weight takes no part in either.

    Args:
      z: [M, D] embeddings of any float type and any length; a zero vector has cosine 0 with everything.
      positive: [M, M] weights >= 0 that attract row's anchor; the diagonal is ignored.
      negative: [M, M] weights >= 0 that repel it; the diagonal is ignored.
      temperature: > 0; values down to 1e-3 are safe in float32.
      denominator: "pair" or "all".

    Returns: [M] float32 in nats; 0, with gradient exactly 0, for an anchor without positives.

    Raises: ValueError for an unknown denominator, a temperature that is not positive, or shapes that do not fit.

    Known values: all embeddings equal, N frames in two views, each attracting its other view and repelling the rest: log(2N - 1) in
    both forms. One positive at cosine 1, one negative at cosine -1: log(1 + e^{-2/temperature}). No negatives: "pair" is 0.
    """
    if denominator not in ("pair", "all"):
        raise ValueError(f"denominator: found {denominator!r}; allowed are 'pair' and 'all'")
    fixed = _fixed(temperature)
    z, positive, negative = _checked(z, positive, negative)
    # Scaling the embeddings is one pass over [M, M] less than dividing the cosines, but has no gradient to the temperature.
    s = _cosine(_unit(z) / jnp.sqrt(temperature)) if fixed else _cosine(_unit(z)) / temperature
    if denominator == "pair":
        others = _logsumexp(s, negative)[:, None]
        each = jax.nn.softplus(others - s)  # = -s + logaddexp(s, others): nothing overflows, and 0 where there are no negatives
    else:
        each = _logsumexp(s, jnp.where(positive > 0, 1.0, negative))[:, None] - s
    return _ratio((positive * each).sum(axis=1), positive.sum(axis=1))


def pairwise_contrastive(z, positive, negative, *, margin=1.0, distance="euclidean") -> jax.Array:
    """Margin contrastive loss with graded pairs (Chopra et al. 2005, eq. 1 of the speckle paper; graded as in the GCL loss).

        loss_i = sum_j [ p_ij D_ij^2 / 2 + n_ij max(0, margin - D_ij)^2 / 2 ] / sum_j (p_ij + n_ij),   no i = j

    With n = 1 - p one pair is at rest where D = (1 - p) margin: under linear temporal weights, distance grows linearly with time.

    Args:
      z: [M, D] embeddings of any float type and any length; they are normalised here. A zero vector stays zero.
      positive: [M, M] weights >= 0 that pull; the diagonal is ignored.
      negative: [M, M] weights >= 0 that push; the diagonal is ignored.
      margin: distance from which on a pair is no longer pushed, in units of D.
      distance: "euclidean", D = |z_i - z_j| between normalised embeddings, in [0, 2]; "cosine", D = 1 - cos(z_i, z_j), in [0, 2].

    Returns: [M] float32; 0, with gradient exactly 0, for an anchor without a pair. The gradient is finite at D = 0: a push between
    equal embeddings has no direction, and gives 0 under either distance.

    Raises: ValueError for an unknown distance or shapes that do not fit.

    Known values: all embeddings equal and every pair negative: margin^2 / 2; every pair positive: 0. Two opposite embeddings that
    attract each other: 2 under either distance; orthogonal ones: 1 (euclidean), 1/2 (cosine).
    """
    if distance not in ("euclidean", "cosine"):
        raise ValueError(f"distance: found {distance!r}; allowed are 'euclidean' and 'cosine'")
    z, positive, negative = _checked(z, positive, negative)
    z = _unit(z)
    if distance == "cosine":
        d = 1.0 - _cosine(z)
        squared = jnp.square(d)
    else:
        squared = _squared_distance(z)
        apart = squared > _TOUCHING
        d = jnp.where(apart, jnp.sqrt(jnp.where(apart, squared, 1.0)), 0.0)  # d sqrt at 0 is infinite, and inf * 0 is NaN
    total = positive * squared / 2 + negative * jnp.square(jnp.maximum(0.0, margin - d)) / 2
    return _ratio(total.sum(axis=1), (positive + negative).sum(axis=1))


def _fixed(temperature) -> bool:
    """Whether it is a plain number, which is checked, and not an array, which may be traced."""
    fixed = isinstance(temperature, int | float | np.number)
    if fixed and not temperature > 0:
        raise ValueError(f"temperature: found {temperature}; it must be positive")
    return fixed


def _checked(z, positive, negative) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The three arrays in float32, the weights without their diagonals."""
    z, positive, negative = (jnp.asarray(x).astype(jnp.float32) for x in (z, positive, negative))
    if z.ndim != 2 or positive.shape != 2 * z.shape[:1] or negative.shape != positive.shape:
        raise ValueError(f"z [M, D], positive and negative [M, M] expected: found {z.shape}, {positive.shape} and {negative.shape}")
    own = jnp.eye(len(z), dtype=bool)
    return z, jnp.where(own, 0.0, positive), jnp.where(own, 0.0, negative)


def _unit(z) -> jax.Array:
    """z / |z|, and 0 with gradient 0 for a zero vector; dividing by the largest entry first keeps the squares from over- or underflow."""
    largest = jax.lax.stop_gradient(jnp.abs(z).max(axis=-1, keepdims=True))
    present = largest > _TINY
    z = jnp.where(present, z / jnp.where(present, largest, 1.0), 0.0)
    norm = jnp.sqrt(jnp.where(present, jnp.square(z).sum(axis=-1, keepdims=True), 1.0))
    return z / norm


@jax.custom_jvp
def _cosine(unit) -> jax.Array:
    """u_i . u_j of rows whose length cannot change: the gradient is the one along their sphere, other directions left out.

    d u_i = sum_j (g_ij + g_ji) (u_j - u_i), where u_j alone would be the same for `_unit`, which takes off what is along u_i. But
    among embeddings that are nearly equal, as all are at first, all but the sixth digit would be lost there; differences lose none.
    """
    return jnp.matmul(unit, unit.T, precision=jax.lax.Precision.HIGHEST)  # accelerators would round the factors to 10 bits


@_cosine.defjvp
def _cosine_jvp(primals, tangents):
    return _cosine(*primals), linear_call(_cosine_tangent, _cosine_gradient, *primals, *tangents)


def _cosine_tangent(unit, d_unit):
    half = jnp.matmul(unit, d_unit.T, precision=jax.lax.Precision.HIGHEST)
    return half + half.T


def _cosine_gradient(unit, g):
    unit = unit - unit.mean(axis=0)  # no difference changes, and the products below are sums of small numbers
    own = (g.sum(axis=0) + g.sum(axis=1))[:, None] * unit
    # g^T u as a [D, M] product turned afterwards, which the barrier keeps: on CPU half the time of multiplying by a turned [M, M].
    across = jax.lax.optimization_barrier(jnp.einsum("ij,id->dj", g, unit, precision=jax.lax.Precision.HIGHEST))
    return jnp.matmul(g, unit, precision=jax.lax.Precision.HIGHEST) + across.T - own


@jax.custom_jvp
def _squared_distance(z) -> jax.Array:
    """|z_i - z_j|^2 from the differences: 2 - 2 cos would lose every D below 3e-4 to rounding. XLA sums them without storing [M, M, D]."""
    return jnp.square(z[:, None, :] - z[None, :, :]).sum(axis=-1)


@_squared_distance.defjvp
def _squared_distance_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    # The same derivative through one product of matrices; left to itself it would store the differences, and takes 30 times as long.
    z = z - z.mean(axis=0)  # as in _cosine_gradient
    cross = jnp.matmul(z, dz.T, precision=jax.lax.Precision.HIGHEST)
    own = (z * dz).sum(axis=-1)
    return _squared_distance(*primals), 2 * (own[:, None] + own[None, :] - cross - cross.T)


def _logsumexp(s, weight) -> jax.Array:
    """log sum_k weight_ik e^{s_ik}; about -1e9 for a row without weights. Entries of weight 0 get gradient exactly 0.

    The weights multiply, where their logarithms as summands would cost one more pass over the matrix.
    """
    s = jnp.where(weight > _TINY, s, _MASKED)
    top = jax.lax.stop_gradient(s.max(axis=1))
    total = (weight * jnp.exp(s - top[:, None])).sum(axis=1)
    return top + jnp.log(jnp.where(total > 0, total, 1.0))


def _ratio(total, weight) -> jax.Array:
    """total / weight, and 0 where there is no weight."""
    some = weight > _TINY
    return jnp.where(some, total / jnp.where(some, weight, 1.0), 0.0)
