"""The convolution that CPUs run: value and both gradients against sums written out in float64, for every form that widths choose."""
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from uscl import models
from uscl.models import blocks, unet
from uscl.train.mesh import make_mesh

# images, height, width, channels in, features out: what each shape sets off
SHAPES = {
    "two columns a step": (2, 5, 6, 16, 16),
    "four columns a step": (2, 4, 8, 16, 4),
    "four columns do not divide the width": (2, 4, 6, 5, 3),
    "odd width": (2, 4, 7, 16, 16),
    "a wide output": (2, 4, 6, 3, 20),
    "a wide input": (2, 4, 6, 20, 3),
    "many images": (18, 3, 4, 4, 6),
    "smaller than the kernel": (1, 1, 2, 2, 2),
}


def by_sums(x, kernel, g):
    """out(p) = sum over offsets d of x(p + d) k(d), and the gradients of sum(out * g), each offset's term written out."""
    x, kernel, g = (np.asarray(a, np.float64) for a in (x, kernel, g))
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    out, dx, dk = np.zeros(g.shape), np.zeros(padded.shape), np.zeros(kernel.shape)
    for i in range(3):
        for j in range(3):
            window = np.s_[:, i : i + height, j : j + width]
            out += padded[window] @ kernel[i, j]
            dx[window] += g @ kernel[i, j].T
            dk[i, j] = np.einsum("nhwc,nhwf->cf", padded[window], g)
    return out, dx[:, 1:-1, 1:-1], dk


def drawn(shape):
    n, height, width, channels, features = shape
    rng = np.random.default_rng(sum(shape))
    sizes = (n, height, width, channels), (3, 3, channels, features), (n, height, width, features)
    return tuple(jnp.asarray(rng.normal(size=size) / 3, jnp.float32) for size in sizes)


@jax.jit
def value_and_gradients(x, kernel, g):
    out, back = jax.vjp(blocks.convolve_columns, x, kernel)
    return out, *back(g)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_value_and_gradients(shape):
    arrays = drawn(shape)
    for ours, want in zip(value_and_gradients(*arrays), by_sums(*arrays), strict=True):
        np.testing.assert_allclose(ours, want, atol=1e-5)


def test_the_form_on_one_pixel():
    x = jnp.zeros((1, 3, 4, 2)).at[0, 1, 2, 1].set(1.0)  # an impulse draws the kernel, turned by half, around itself
    kernel = jnp.arange(18.0).reshape(3, 3, 2, 1)
    want = np.zeros((3, 4))
    want[0:3, 1:4] = np.arange(18.0).reshape(3, 3, 2)[::-1, ::-1, 1]
    np.testing.assert_array_equal(blocks.convolve_columns(x, kernel)[0, ..., 0], want)


def test_four_devices_share_the_batch():
    arrays = drawn((8, 4, 6, 16, 16))
    mesh = make_mesh(4)
    split, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    spread = value_and_gradients(*(jax.device_put(a, s) for a, s in zip(arrays, (split, whole, split), strict=True)))
    assert len(spread[2].sharding.device_set) == 4
    for ours, want in zip(spread, by_sums(*arrays), strict=True):
        np.testing.assert_allclose(ours, want, atol=1e-5)


@pytest.mark.parametrize("backend, ours", [("cpu", True), ("gpu", False)])
def test_only_a_cpu_takes_it(monkeypatch, backend, ours):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    x, kernel, _ = drawn((2, 4, 6, 16, 16))
    program = str(jax.make_jaxpr(lambda x, k: blocks.convolve(x, k))(x, kernel))
    assert ("custom_vjp" in program) == ours
    assert program.count("conv_general_dilated[") == 1


def test_thin_maps_become_wide_and_wide_ones_stay():
    def widest(channels, features):
        x, kernel = jnp.zeros((1, 4, 8, channels)), jnp.zeros((3, 3, channels, features))
        (call,) = [e for e in jax.make_jaxpr(blocks.several_columns)(x, kernel).eqns if e.primitive.name == "conv_general_dilated"]
        return max(call.invars[0].aval.shape[-1], call.invars[1].aval.shape[-1]), call.params["window_strides"]

    assert widest(16, 16) == (32, (1, 2)) and widest(16, 8) == (32, (1, 4)) and widest(16, 4) == (16, (1, 4))
    assert widest(17, 4) == (17, (1, 1)) and widest(16, 32) == (32, (1, 1))


def test_pooling_loses_no_gradient_in_a_compiled_network(monkeypatch):
    """Under jit the maximum may be computed twice with different rounding; XLA's own pooling, slower, does not compare."""
    model = models.GlobalModel(width=(8, 16, 16, 16, 16, 16))
    variables = models.initialise(model, 0, (96, 96, 1))
    image = jax.random.uniform(jax.random.key(1), (4, 96, 96, 1))

    def loss(params):
        inputs = {"params": params, "batch_stats": variables["batch_stats"]}
        return jnp.sin(3 * model.apply(inputs, image, train=True, mutable=["batch_stats"])[0]).sum()

    def norms():
        gradient = jax.jit(jax.grad(loss))(variables["params"])["encoder"]
        return [float(optax.global_norm(gradient[level])) for level in sorted(gradient)]

    ours = norms()
    monkeypatch.setattr(unet, "max_pool", lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"))
    np.testing.assert_allclose(ours, norms(), rtol=1e-3)
