"""Gradient caching: chunks give the gradient of one batch, memory is a chunk's, and what BatchNorm makes of it is told truly."""
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from jax.sharding import NamedSharding, PartitionSpec

from uscl.losses import info_nce
from uscl.models.blocks import ConvNorm, max_pool
from uscl.train import mesh as meshes
from uscl.train import state as states
from uscl.train.cached import in_chunks
from uscl.train.step import make_step

pytestmark = pytest.mark.usefixtures("quick_programs")
N, SIDE, CHUNKS = 32, 12, 8


class Small(nn.Module):
    """Two of the encoder's layers and a head: enough for BatchNorm to matter, quick to compile."""

    @nn.compact
    def __call__(self, x, train):
        x = max_pool(ConvNorm(6, momentum=0.5)(x, train))
        return nn.Dense(5)(ConvNorm(4, momentum=0.5)(x, train).reshape(len(x), -1))


MODEL = Small()
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(N, SIDE, SIDE, 1)).astype(np.float32)
POSITIVE = np.kron(1 - np.eye(2), np.eye(N // 2)).astype(np.float32)
NEGATIVE = (1 - np.kron(np.ones((2, 2)), np.eye(N // 2))).astype(np.float32)


@pytest.fixture(scope="module")
def variables():
    made = jax.jit(partial(MODEL.init, train=False))(jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 1)))
    noise = np.random.default_rng(1)  # running statistics that are not those of a new network
    stats = jax.tree.map(lambda x: jnp.asarray(x + 0.3 * noise.uniform(size=x.shape), jnp.float32), made["batch_stats"])
    return made["params"], stats


def frozen(params, batch_stats, images):
    """BatchNorm by its running statistics: every image by itself."""
    return MODEL.apply({"params": params, "batch_stats": batch_stats}, images, train=False), batch_stats


def training(params, batch_stats, images):
    z, new = MODEL.apply({"params": params, "batch_stats": batch_stats}, images, train=True, mutable=["batch_stats"])
    return z, new["batch_stats"]


def ghost(params, batch_stats, images, chunks=CHUNKS):
    """The network that normalises every `chunks`-th image together, over the whole batch in one piece."""
    z, new = [], []
    for c in range(chunks):
        out = training(params, batch_stats, images[c::chunks])
        z.append(out[0])
        new.append(out[1])
    return jnp.stack(z, axis=1).reshape(len(images), -1), jax.tree.map(lambda *s: sum(s) / chunks, *new)


def objective(encode, params, batch_stats, images):
    z, new = encode(params, batch_stats, images)
    return info_nce(z, POSITIVE, NEGATIVE).mean(), (z, new)


def gradient(encode):
    return jax.jit(jax.value_and_grad(partial(objective, encode), has_aux=True))


def agree(got, want, tolerance=1e-5):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


def pulled(params, stats, x, d):
    return jax.vjp(lambda p: frozen(p, stats, x)[0], params)[1](d)[0]


@pytest.mark.parametrize("whole, chunk", [(frozen, frozen), (ghost, training)], ids=["each image by itself", "ghost BatchNorm"])
def test_eight_chunks_give_the_gradient_of_one_batch(whole, chunk, variables):
    want, got = gradient(whole)(*variables, IMAGES), gradient(in_chunks(chunk, CHUNKS))(*variables, IMAGES)
    agree(got, want)
    flat = ravel_pytree(want[1])[0]
    assert jnp.linalg.norm(flat) > 1e-3
    assert jnp.linalg.norm(ravel_pytree(got[1])[0] - flat) < 1e-5 * jnp.linalg.norm(flat)


def test_accumulated_gradients_of_separate_chunks_are_something_else(variables):
    """What must be told apart: the negatives of a chunk alone."""
    n = N // CHUNKS
    positive, negative = (m[::CHUNKS, ::CHUNKS] for m in (POSITIVE, NEGATIVE))
    f = jax.jit(jax.grad(lambda p, s, x: info_nce(frozen(p, s, x)[0], positive, negative).mean()))
    separate = jax.tree.map(lambda *g: sum(g) / CHUNKS, *(f(*variables, IMAGES[c::CHUNKS]) for c in range(CHUNKS)))
    together = gradient(in_chunks(frozen, CHUNKS))(*variables, IMAGES)[1]
    assert positive.shape == (n, n)
    a, b = ravel_pytree(separate)[0], ravel_pytree(together)[0]
    assert jnp.linalg.norm(a - b) > 0.1 * jnp.linalg.norm(b)


def test_the_textbook_algorithm_gives_the_same(variables):
    """Embeddings first, the loss's gradient with respect to them, then a pull-back for each chunk: written out by hand."""
    params, stats = variables
    encode, pull = jax.jit(frozen), jax.jit(pulled)
    z = jnp.concatenate([encode(params, stats, IMAGES[i : i + 4])[0] for i in range(0, N, 4)])
    d_z = jax.jit(jax.grad(lambda z: info_nce(z, POSITIVE, NEGATIVE).mean()))(z)
    total = jax.tree.map(lambda *g: sum(g), *(pull(params, stats, IMAGES[i : i + 4], d_z[i : i + 4]) for i in range(0, N, 4)))
    agree(gradient(in_chunks(frozen, CHUNKS))(*variables, IMAGES)[1], total)


def test_running_statistics_are_the_mean_over_chunks(variables):
    """By hand for the first layer's mean, which no normalisation precedes: that of the whole batch, at momentum 1/2."""
    params, stats = variables
    (_, (_, new)), _ = gradient(in_chunks(training, CHUNKS))(*variables, IMAGES)
    whole = jax.jit(training)(params, stats, IMAGES)[1]
    first = next(path for path, _ in jax.tree_util.tree_leaves_with_path(new) if "mean" in str(path[-1]))
    pick = dict(jax.tree_util.tree_leaves_with_path(new)), dict(jax.tree_util.tree_leaves_with_path(whole))
    np.testing.assert_allclose(pick[0][first], pick[1][first], rtol=1e-5, atol=1e-6)
    agree(new, jax.jit(ghost)(params, stats, IMAGES)[1])


def test_known_values_and_order():
    x = jnp.array([1.0, 2.0, 3.0, 4.0])
    for chunks in (1, 2, 4):
        f = in_chunks(lambda w, s, x: ({"z": x * w}, s), chunks)
        assert jax.grad(lambda w, f=f: jnp.square(f(w, {}, x)[0]["z"].sum()) / 2)(1.0) == 100
        np.testing.assert_array_equal(f(1.0, {}, x)[0]["z"], x)
    seen = in_chunks(lambda w, s, batch: (batch["image"] + batch["noise"], s), 2)(0.0, {}, {"image": x, "noise": 10 * x})[0]
    np.testing.assert_array_equal(seen, 11 * x)  # an image keeps what was drawn for it
    assert in_chunks(frozen, 1) is frozen


@pytest.mark.parametrize("chunks", [0, 3])
def test_what_does_not_split_is_refused(chunks):
    with pytest.raises(ValueError, match="chunks"):
        in_chunks(lambda w, s, x: (x, s), chunks)(0.0, {}, jnp.zeros(4))


def test_memory_is_that_of_a_chunk(variables):
    shape = jax.ShapeDtypeStruct((N, SIDE, SIDE, 1), jnp.float32)
    used = [gradient(in_chunks(training, c)).lower(*variables, shape).compile().memory_analysis().temp_size_in_bytes for c in (1, CHUNKS)]
    weights = 4 * ravel_pytree(variables[0])[0].size
    assert used[1] - 3 * weights < 0.3 * (used[0] - weights), used


def test_four_devices_and_the_training_step_agree_with_one(variables):
    """`make_step` takes a loss whose encoder is chunked as it takes any other, on one device and on four."""
    def loss_fn(encode, params, batch_stats, batch, key):
        loss, (_, new) = objective(encode, params, batch_stats, batch["image"])
        return {"contrastive": loss}, (new, {})

    optimizer = optax.sgd(0.1)
    ends = []
    for encode, devices in ((frozen, 1), (in_chunks(frozen, 4), 1), (in_chunks(frozen, 4), 4)):
        mesh = meshes.make_mesh(devices)
        step = make_step(partial(loss_fn, encode), optimizer, mesh, weights={"contrastive": 1.0})
        state = meshes.put_replicated(mesh, states.create(*variables, optimizer, ["contrastive"], 0))
        ends.append(step(state, meshes.put_batch(mesh, {"image": IMAGES})))
    for state, metrics in ends[1:]:
        agree((state.params, metrics), (ends[0][0].params, ends[0][1]))


def test_every_device_holds_a_share_of_every_chunk():
    """Were chunks cut in a row, each would live on one device and the others would wait."""
    mesh = meshes.make_mesh(4)
    spread = NamedSharding(mesh, PartitionSpec("data"))
    f = jax.jit(lambda w, x: in_chunks(lambda w, s, x: (x @ w, s), 4)(w, {}, x)[0])
    text = f.lower(jnp.ones((3, 5)), jax.ShapeDtypeStruct((64, 3), jnp.float32, sharding=spread)).compile().as_text()
    assert "f32[4,5]" in text and "all-gather" not in text  # a chunk of 16 rows, 4 on each device
