"""Embeddings that are nearly equal, as all are when a training starts: the gradient keeps its digits, in either form of a loss.

Each anchor's gradient is the small rest of large terms that cancel. What rounding leaves over points the same way in all of them, and
adds up in the layers below: the measure is the error of the sum over anchors, against central differences of the float64 loops.
"""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reference
from uscl.losses import info_nce, pairwise_contrastive, streamed_info_nce, streamed_pairwise

M, D = 8, 16


def batch(spread):
    rng = np.random.default_rng(0)
    z = (rng.normal(size=D) + spread * rng.normal(size=(M, D))).astype(np.float32)
    positive = np.roll(np.eye(M, dtype=np.float32), M // 2, axis=1)
    negative = 1 - np.eye(M, dtype=np.float32) - positive
    return z, positive, negative, lambda i, j: tuple(jnp.asarray(x)[i][:, j] for x in (positive, negative))


def by_differences(f, z, step):
    z = z.astype(np.float64)
    change = step * np.eye(z.size).reshape(-1, *z.shape)
    return np.reshape([f(z + d) - f(z - d) for d in change], z.shape) / (2 * step)


# By products of the embeddings themselves, not of their differences, the error is 2e-5 to 6e-5.
@pytest.mark.parametrize("distance, spread", [("euclidean", 1e-3), ("cosine", 1e-2)])
def test_the_gradient_of_nearly_equal_embeddings(distance, spread):
    z, positive, negative, entries = batch(spread)
    want = by_differences(lambda x: reference.pairwise_contrastive(x, positive, negative, distance=distance).mean(), z, 1e-5 * spread)
    for loss in (lambda x: pairwise_contrastive(x, positive, negative, distance=distance).mean(),
                 lambda x: streamed_pairwise(x, entries, distance=distance, block=3).mean()):
        error = np.asarray(jax.jit(jax.grad(loss))(z)) - want
        assert np.linalg.norm(error.sum(axis=0)) < 5e-6 * np.linalg.norm(want)


@pytest.mark.parametrize("denominator", ["pair", "all"])
def test_an_array_as_temperature_gives_the_same_loss_and_has_a_gradient(denominator):
    """A number scales the embeddings beforehand, an array divides the cosines: nothing else may differ."""
    z, positive, negative, entries = batch(1.0)
    how = {"denominator": denominator}
    want = by_differences(lambda t: reference.info_nce(z, positive, negative, temperature=t[0], **how).mean(), np.array([0.3]), 1e-5)
    for loss in (lambda z, t: info_nce(z, positive, negative, temperature=t, **how).mean(),
                 lambda z, t: streamed_info_nce(z, entries, temperature=t, **how, block=3).mean()):
        value, (by_z, by_t) = jax.jit(jax.value_and_grad(loss, (0, 1)))(z, 0.3)
        fixed, gradient = jax.jit(jax.value_and_grad(lambda z, loss=loss: loss(z, 0.3)))(z)
        np.testing.assert_allclose(value, fixed, rtol=1e-5)
        np.testing.assert_allclose(by_z, gradient, rtol=0, atol=1e-5 * np.abs(gradient).max())
        np.testing.assert_allclose(by_t, want[0], rtol=1e-4)
