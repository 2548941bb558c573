"""The forms nnU-Net's convolutions and norm are computed in, against the plain ones in float64."""


import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nnunet_reference import FAST, ONE, RNG, THREE, TWO, convolution, dot, normalised, slope
from uscl.models import nnunet_blocks as blocks

# --- forms ---

FORMS = {  # height, width, channels, features, kernel, stride
    "strided": (8, 18, 3, 4, THREE, TWO),  # 36 pixels come out: XLA's own convolution
    "strided, few pixels": (8, 12, 3, 4, THREE, TWO),
    "few pixels": (4, 5, 3, 4, THREE, ONE),
    "one axis": (6, 16, 3, 2, THREE, (1, 2)),
    "one axis, few pixels": (6, 4, 3, 2, THREE, (2, 1)),
    "a row": (8, 16, 3, 2, (1, 3), (1, 2)),
    "a column, few pixels": (6, 4, 3, 2, (3, 1), (2, 1)),
    "one channel": (8, 16, 1, 5, THREE, TWO),
    "odd sides": (9, 15, 2, 3, THREE, TWO),
    "odd sides, few pixels": (5, 7, 2, 3, THREE, TWO),
    "a pixel": (8, 8, 4, 3, ONE, ONE),
}


@pytest.mark.parametrize("height, width, channels, features, kernel, stride", FORMS.values(), ids=FORMS)
def test_convolution(height, width, channels, features, kernel, stride):
    """The gradients too: the function is linear in either argument, so <g, f(d)> is the derivative along d."""
    x, k = RNG.normal(size=(2, height, width, channels)), RNG.normal(size=(*kernel, channels, features))
    want = convolution(x, k, stride)
    g, dx, dk = RNG.normal(size=want.shape), RNG.normal(size=x.shape), RNG.normal(size=k.shape)

    def both(x, k, g):
        out, back = jax.vjp(lambda x, k: blocks.convolve_strided(x, k, stride), x, k)
        return out, *back(g)

    out, in_x, in_k = jax.jit(both, compiler_options=FAST)(*(jnp.asarray(a, jnp.float32) for a in (x, k, g)))
    np.testing.assert_allclose(out, want, atol=2e-5)
    np.testing.assert_allclose(dot(in_x, dx), np.sum(g * convolution(dx, k, stride)), atol=2e-4)
    np.testing.assert_allclose(dot(in_k, dk), np.sum(g * convolution(x, dk, stride)), atol=2e-4)


@pytest.mark.parametrize("backend, few", [("cpu", True), ("gpu", False)])
def test_only_a_cpu_takes_products(monkeypatch, backend, few):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    program = str(jax.make_jaxpr(lambda x, k: blocks.convolve_strided(x, k, TWO))(jnp.zeros((1, 8, 8, 4)), jnp.zeros((3, 3, 4, 4))))
    assert ("conv_general_dilated" not in program) == few


def norm_and_gradients(x, scale, shift, g, factor):
    out, back = jax.vjp(lambda *a: blocks.instance_norm(*a, factor), x, scale, shift)
    return out, back(g)


@pytest.mark.parametrize("factor", [0.01, 1.0])
def test_instance_norm(factor):
    at = tuple(RNG.normal(size=size) for size in ((2, 4, 6, 3), (3,), (3,)))
    at = (at[0] * 3 + 2, *at[1:])
    g = RNG.normal(size=at[0].shape)

    def f(arrays):
        z = normalised(*arrays)
        return np.where(z > 0, z, factor * z)

    out, gradients = norm_and_gradients(*(jnp.asarray(a, jnp.float32) for a in (*at, g)), factor)
    np.testing.assert_allclose(out, f(at), atol=1e-5)
    for i in range(3):
        along = tuple(RNG.normal(size=a.shape) if i == j else np.zeros(a.shape) for j, a in enumerate(at))
        np.testing.assert_allclose(dot(gradients, along), slope(lambda a: np.sum(g * f(a)), at, along), rtol=1e-4, atol=1e-4)


def test_instance_norm_at_its_corners():
    x = np.float32(RNG.normal(size=(1, 8, 8, 1)))
    far = blocks.instance_norm(jnp.float32(x + np.float32(4096)), jnp.ones(1), jnp.zeros(1))  # E[x^2] - E[x]^2 would leave nothing
    np.testing.assert_allclose(far, normalised(np.float64(x + np.float32(4096)), 1, 0), atol=1e-3)
    out, (dx, dscale, dshift) = norm_and_gradients(jnp.full((1, 2, 2, 1), 7.0), jnp.ones(1), jnp.zeros(1), jnp.ones((1, 2, 2, 1)), 0.01)
    assert not out.any() and np.abs(dx).max() < 1e-6 and dscale == 0
    np.testing.assert_allclose(dshift, 4 * 0.01, rtol=1e-6)  # torch's slope at 0
    np.testing.assert_allclose(jax.grad(blocks.leaky)(0.0), 0.01, rtol=1e-6)
    kept = jax.eval_shape(lambda x: jax.vjp(blocks.instance_norm, x, jnp.ones(3), jnp.ones(3))[1], jnp.zeros((1, 4, 4, 3), jnp.bfloat16))
    assert sorted(a.size for a in jax.tree.leaves(kept))[-2:] == [3, 48]  # of all maps only x is kept
