"""Losses that make two views agree and features differ, by statistics of the batch: no negatives, no target, no predictor.

The batch is the whole one, over all devices. Being statistics of it, these losses are one number each, not one per anchor.
"""
import jax
import jax.numpy as jnp

from uscl.losses.bootstrap import _views


def barlow_twins(z, *, redundancy=5e-3, epsilon=1e-5) -> jax.Array:
    """Barlow Twins: the features of two views correlate with themselves, and not with each other (Zbontar et al. 2021, eq. 1 and 2).

    With c_vd the values z_vid of a feature less their mean over the batch, and E the mean over the batch:

        C_de = E[c_1d c_2e] / sqrt( (E[c_1d^2] + epsilon) (E[c_2e^2] + epsilon) )
        loss = sum_d (1 - C_dd)^2 + redundancy sum_{d != e} C_de^2

    Args:
      z: [2, N, D] embeddings by view, N >= 2; any float type. Gradients reach both views.
      redundancy: weight of the features' correlations; the authors' code has 0.0051.
      epsilon: > 0, of the standardisation, as in the authors' code; it keeps the gradient finite for a feature that does not vary.

    Returns: [] float32 >= 0.

    Raises: ValueError for shapes that do not fit, or an epsilon that is not positive.

    Known values: equal views of uncorrelated features: 0; unrelated views: D; a view and its negative: 4 D; equal views of D times the same
    feature: redundancy D (D - 1). A collapsed batch: D, with gradient 0.
    """
    (z,) = _views(z, least=2)
    _positive(epsilon)
    z = z - z.mean(axis=1, keepdims=True)
    u = z / jnp.sqrt(jnp.square(z).mean(axis=1, keepdims=True) + epsilon)
    c = _products(u[0], u[1]) / u.shape[1]
    return jnp.where(jnp.eye(len(c), dtype=bool), jnp.square(1 - c), redundancy * jnp.square(c)).sum()


def vicreg(z, *, invariance=25.0, variance=25.0, covariance=1.0, spread=1.0, epsilon=1e-4) -> jax.Array:
    """VICReg: views agree, each feature varies, no two features vary together (Bardes, Ponce and LeCun 2022, algorithm 1).

    With c_vd as above and S_v = sum_i c_vi c_vi^T / (N - 1), the covariance of a view's features:

        loss = invariance mean_{id} (z_1id - z_2id)^2
             + variance   sum_v 1/D sum_d max(0, spread - sqrt(S_vdd + epsilon))
             + covariance sum_v 1/D sum_{d != e} S_vde^2

    In its text the paper sums the first term over the D features; its algorithm and the authors' code, from which the weights come, take
    their mean, and so does this. That code halves the variance term, which the paper does not: variance=12.5 is as the code.

    Args:
      z: [2, N, D] embeddings by view, N >= 2, not normalised; any float type. Gradients reach both views.
      invariance, variance, covariance: weights of the terms; 0 makes a term's gradient exactly 0.
      spread: standard deviation from which on a feature varies enough, in units of z.
      epsilon: > 0, in units of z squared.

    Returns: [] float32 >= 0.

    Raises: ValueError for shapes that do not fit, or an epsilon that is not positive.

    Known values: a collapsed batch: 2 variance (1 - sqrt(epsilon)) = 49.5, with gradient 0. Uncorrelated features that vary enough, the
    views a distance a apart in each: invariance a^2. D times the same feature of variance v >= 1, equal views: 2 covariance (D - 1) v^2.
    """
    (z,) = _views(z, least=2)
    _positive(epsilon)
    _, count, width = z.shape
    apart = jnp.square(z[0] - z[1]).mean()
    z = z - z.mean(axis=1, keepdims=True)
    deviation = jnp.sqrt(jnp.square(z).sum(axis=1) / (count - 1) + epsilon)
    narrow = jnp.maximum(0.0, spread - deviation).sum() / width
    together = _products(z, z) / (count - 1)
    together = jnp.where(jnp.eye(width, dtype=bool), 0.0, jnp.square(together)).sum() / width
    return invariance * apart + variance * narrow + covariance * together


def _products(a, b) -> jax.Array:
    """Sums over the batch of all products of features, [..., N, D] twice -> [..., D, D]."""
    return jnp.einsum("...id,...ie->...de", a, b, precision=jax.lax.Precision.HIGHEST)


def _positive(epsilon):
    if not epsilon > 0:
        raise ValueError(f"epsilon: found {epsilon}; it must be positive")
