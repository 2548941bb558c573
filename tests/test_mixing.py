"""USCL: two samples of a cine mixed with one frame of it, and a cross-entropy that is silent without a label."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_anatomy as reference
from jax.sharding import NamedSharding, PartitionSpec
from reference_selfsupervised import slope

from uscl.augment import mix_frames
from uscl.losses import info_nce, label_entropy
from uscl.temporal import pair_weights

KEY = jax.random.key(5)
N = 4000
RNG = np.random.default_rng(0)
mixed = jax.jit(mix_frames, static_argnames=("alpha", "beta"))


@functools.cache
def shares(alpha=0.5, beta=0.5):
    """The two samples of N cines of one pixel, f_1 = 1, f_2 = 0, f_3 = 2."""
    frames = np.tile(np.float32([1, 0, 2]).reshape(1, 3, 1, 1, 1), (N, 1, 1, 1, 1))
    return np.array(mixed(KEY, frames, alpha=alpha, beta=beta)).reshape(N, 2)


def test_one_lambda_for_both_samples_and_another_for_each_cine():
    one, other = shares().T
    np.testing.assert_allclose(other, 2 * one, rtol=1e-6)
    assert one.min() >= 0 and one.max() <= 1
    order = np.sort(one[(one > 0.01) & (one < 0.99)])  # at the ends float32 has few numbers
    assert np.mean(np.diff(order) == 0) < 0.01


@pytest.mark.parametrize(
    "alpha, beta, mean, variance", [(0.5, 0.5, 1 / 2, 1 / 8), pytest.param(2.0, 5.0, 2 / 7, 10 / 392, marks=pytest.mark.slow)]
)
def test_lambda_is_beta(alpha, beta, mean, variance):
    got = shares(alpha, beta)[:, 0].astype(np.float64)
    assert abs(got.mean() - mean) < 5 * np.sqrt(variance / N)
    assert abs(got.var() / variance - 1) < 0.15
    if alpha == beta:  # the arcsine distribution
        for x in (0.01, 0.1, 0.5, 0.95):
            below = 2 / np.pi * np.arcsin(np.sqrt(x))
            assert abs(np.mean(got < x) - below) < 5 * np.sqrt(below * (1 - below) / N)


def test_anchor_is_the_second_frame_everywhere_in_the_picture():
    frames = RNG.uniform(size=(3, 3, 4, 5, 2)).astype(np.float32)
    got = np.array(mixed(KEY, frames))
    assert got.shape == (3, 2, 4, 5, 2) and got.dtype == np.float32
    for n in range(3):
        first, anchor, third = frames[n].astype(np.float64)
        share = ((got[n, 0] - anchor) / (first - anchor)).mean()
        np.testing.assert_allclose(got[n, 0], share * first + (1 - share) * anchor, atol=1e-5)
        np.testing.assert_allclose(got[n, 1], share * third + (1 - share) * anchor, atol=1e-5)


def test_short_cines_are_not_mixed():
    frames = RNG.uniform(size=(4, 3, 2, 2, 1)).astype(np.float32)
    frames[1, 2] = np.inf  # a place that a cine of two frames does not fill
    got = np.array(mixed(KEY, frames, count=np.array([3, 2, 1, 80])))
    np.testing.assert_array_equal(got[1:3], frames[1:3, :2])
    whole = np.array(mixed(KEY, frames))
    np.testing.assert_array_equal(got[[0, 3]], whole[[0, 3]])
    assert not np.array_equal(got[0], frames[0, :2])
    same = np.tile(frames[:, :1], (1, 3, 1, 1, 1))
    np.testing.assert_allclose(mixed(KEY, same), same[:, :2], rtol=1e-6)
    assert jax.eval_shape(mix_frames, KEY, np.zeros((1, 3, 2, 2, 1), np.uint8)).dtype == jnp.float32


def test_labelled_entropy_by_hand_and_by_a_loop():
    label, entropy = np.array([2, -1, 0, -5]), jax.jit(label_entropy, static_argnames="over")
    got = entropy(np.zeros((4, 3)), label)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, [2 * np.log(3), 0, 2 * np.log(3), 0], rtol=1e-6)
    np.testing.assert_allclose(entropy(np.zeros((4, 3)), label, over="all"), [np.log(3), 0, np.log(3), 0], rtol=1e-6)
    logits = RNG.normal(size=(4, 3)) * 5
    np.testing.assert_allclose(entropy(logits, label).mean(), reference.labelled_entropy(logits, label), rtol=1e-6)
    logits = np.array([[0, np.log(3), -1e9], [1e30, 0, 0], [0, 0, 0], [9e4, 9e4, 0]])
    np.testing.assert_allclose(entropy(logits, np.array([1, 1, -1, 0]), over="all"), [np.log(4 / 3), 1e30, 0, np.log(2)], rtol=1e-6)


def test_unlabelled_rows_pull_nothing():
    logits = np.array([[1, 2], [np.inf, np.nan], [3e38, -3e38], [0, 0]], np.float32)
    both = jax.jit(jax.value_and_grad(lambda x, label, scale: (scale * label_entropy(x, label)).sum()))
    value, gradient = both(logits, np.array([0, -1, -1, 1]), 1.0)
    np.testing.assert_allclose(value, 2 * (np.log1p(np.e) + np.log(2)), rtol=1e-6)
    np.testing.assert_array_equal(gradient[1:3], 0)
    p = 1 / (1 + np.e)  # softmax minus one-hot, and twice that, because half of the rows have a label
    np.testing.assert_allclose(gradient[np.array([0, 3])], [[2 * p - 2, 2 - 2 * p], [1, -1]], rtol=1e-5)
    for label, scale in ((np.full(4, -1), 1.0), (np.array([0, -1, -1, 1]), 0.0), (np.array([2, 9999, 2, -1]), 1.0)):
        value, gradient = both(logits, label, scale)  # none has a label, or the term has no weight, or a traced label is none of two
        assert value == 0 and not np.any(gradient)


def test_uscls_whole_loss_over_four_devices():
    def loss(table, batch):
        samples = mix_frames(KEY, batch["frames"], count=batch["count"])
        z = samples.swapaxes(0, 1).reshape(len(samples) * 2, -1) @ table
        positive, negative = pair_weights(jnp.eye(len(samples)), jnp.arange(len(samples)), negatives="all", views=2)
        contrast = info_nce(z, positive, negative, temperature=0.5, denominator="all")
        known = label_entropy(z[:, :3], jnp.tile(batch["label"], 2))
        return contrast.mean() + 0.4 * known.mean(), samples

    def expected(table):
        z = rows @ table
        left, right = (reference.labelled_entropy(half[:, :3], batch["label"]) for half in np.split(z, 2))
        return np.mean(reference.nt_xent(z)) + 0.2 * (left + right)

    batch = {
        "frames": RNG.uniform(size=(4, 3, 2, 2, 1)).astype(np.float32),
        "count": np.int32([3, 2, 9, 1]),
        "label": np.int32([0, -1, -1, 2]),
    }
    table = RNG.normal(size=(4, 3)).astype(np.float32)
    assert jax.device_count() >= 4, "tests need 4 simulated devices: XLA_FLAGS=--xla_force_host_platform_device_count=4"
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:4])
    spread = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
    assert spread["frames"].addressable_shards[0].data.shape[0] == 1
    there = jax.device_put(table, NamedSharding(mesh, PartitionSpec()))
    (value, samples), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(there, spread)
    np.testing.assert_allclose(samples, mixed(KEY, batch["frames"], count=batch["count"]), rtol=1e-6)
    rows = np.array(samples, np.float64).swapaxes(0, 1).reshape(8, -1)
    np.testing.assert_allclose(value, expected(table.astype(np.float64)), rtol=1e-5)
    np.testing.assert_allclose(gradient, slope(expected, table), rtol=1e-4, atol=1e-5)


CINES = np.zeros((2, 3, 4, 4, 1))


@pytest.mark.parametrize(
    "call, told",
    [
        (lambda: mix_frames(KEY, CINES[:, :2]), r"\[N, 3, H, W, C\]"), (lambda: mix_frames(KEY, CINES[..., 0]), "H, W"),
        (lambda: mix_frames(KEY, CINES, alpha=0), "alpha"), (lambda: mix_frames(KEY, CINES, beta=-1.0), "beta"),
        (lambda: mix_frames(KEY, CINES, count=[3]), r"count \[2\]"), (lambda: mix_frames(KEY, CINES, count=[3, 0]), "0 frames"),
        (lambda: label_entropy(np.zeros((2, 3)), [0]), r"label \[M\]"), (lambda: label_entropy(np.zeros(3), [0, 1, 2]), r"\[M, K\]"),
        (lambda: label_entropy(np.zeros((1, 3)), [3]), "found 3, but there are 3"),
        (lambda: label_entropy(np.zeros((1, 3)), [0.0]), "integers"), (lambda: label_entropy(np.zeros((1, 3)), [0], over="some"), "'some'"),
    ],
)  # fmt: skip
def test_mistakes_are_told(call, told):
    with pytest.raises(ValueError, match=told):
        call()
