"""nnU-Net's loss: values the original printed, counts by hand, corners, deep supervision, a batch over four devices."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from scipy import special

from uscl.losses import batch_dice, deep_supervision, dice_ce, region_target, shrink, supervision_weights

REGIONS = [[1, 2, 3], [2], [3]]


def logits(b, h, w, k, phase=0.0):
    """Numbers that any NumPy writes alike; the original was given the same."""
    n = np.arange(b * h * w * k)
    return (2 * np.sin(0.7 * n + phase) + np.cos(0.013 * n**1.5)).reshape(b, h, w, k)


def label(b, h, w, k):
    n = np.arange(b * h * w)
    return ((n * 7 // 5 + n**2 // 11) % k).reshape(b, h, w)


def one_hot(values, k):
    return np.eye(k, dtype=np.float32)[values]


def original(x, target, regions):
    """Float64, straight from the formula, image by image."""
    x, g = np.asarray(x, np.float64), np.asarray(target, np.float64)
    p = special.expit(x) if regions else special.softmax(x, axis=-1)
    if regions:
        entropy = [np.mean(np.logaddexp(0, xb) - xb * gb) for xb, gb in zip(x, g, strict=True)]
    else:
        entropy = [-(gb * special.log_softmax(xb, axis=-1)).sum() / gb[..., 0].size for xb, gb in zip(x, g, strict=True)]
    scores = []
    for k in range(0 if regions else 1, x.shape[-1]):
        scores.append((2 * (p[..., k] * g[..., k]).sum() + 1e-5) / (p[..., k].sum() + g[..., k].sum() + 1e-5))
    return np.array(entropy) - np.mean(scores)


@pytest.fixture(scope="module")
def graded():
    """Both forms with their gradient, compiled once for [3, 8, 6, ...]."""
    def f(x, target, regions):
        loss = dice_ce(x, target, regions=regions)
        return loss.mean(), (loss, batch_dice(x, target, regions=regions))

    both = {r: jax.jit(jax.value_and_grad(partial(f, regions=r), has_aux=True)) for r in (False, True)}

    def run(x, target, regions=False):
        (mean, (loss, dice)), gradient = both[regions](jnp.asarray(x, jnp.float32), jnp.asarray(target, jnp.float32))
        assert loss.shape == (len(x),) and loss.dtype == jnp.float32 and dice.min() == dice.max()
        run.dice = float(dice[0])
        return float(mean), np.asarray(loss), np.asarray(gradient)

    return run


def test_softmax_form_is_the_originals(graded):
    # nnunetv2 2.8.1, DC_and_CE_loss with MemoryEfficientSoftDiceLoss, in float64: loss, gradient at [1, 2, 3], sum of its sizes
    x, target = logits(3, 8, 6, 4), one_hot(label(3, 8, 6, 4), 4)
    mean, loss, gradient = graded(x, target)
    np.testing.assert_allclose(mean, 1.6030735589587783, rtol=1e-6)
    np.testing.assert_allclose(gradient[1, 2, 3], [-0.005756092952, 0.002692370210, 0.002250724819, 0.000812997923], rtol=1e-5)
    np.testing.assert_allclose(np.abs(gradient).sum(), 1.7870538108804708, rtol=1e-5)
    np.testing.assert_allclose(loss, original(x, target, False), rtol=1e-5)
    absent = one_hot(label(3, 8, 6, 3), 4)  # a class with no pixel in the whole batch
    np.testing.assert_allclose(graded(x, absent)[0], 1.7403984671194688, rtol=1e-6)
    np.testing.assert_allclose(graded.dice, -0.14975570142269135, rtol=1e-6)  # the Dice term alone


def test_region_form_is_the_originals(graded):
    x, values = logits(3, 8, 6, 3, 0.4), label(3, 8, 6, 4)
    target = np.asarray(region_target(values, REGIONS))
    np.testing.assert_array_equal(target, np.stack([values > 0, values == 2, values == 3], -1))
    mean, loss, gradient = graded(x, target, regions=True)
    np.testing.assert_allclose(mean, 0.575321614742279, rtol=1e-6)  # DC_and_BCE_loss
    np.testing.assert_allclose(gradient[1, 2, 3], [0.00177581634, 0.00190420671, 0.00178067552], rtol=1e-5)
    np.testing.assert_allclose(np.abs(gradient).sum(), 0.645118095181771, rtol=1e-5)
    np.testing.assert_allclose(loss, original(x, target, True), rtol=1e-5)


def test_counted_by_hand(graded):
    def loss(x, target, regions=False):  # [n, 4] pixels of each image, repeated to the one shape that is compiled
        return graded(*(np.tile(np.asarray(a)[:, None], (1, 8, 1, 1)) for a in (x, target)), regions)[1]

    def row(*values):
        return one_hot(np.array(values), 4)

    halves = row([0, 0, 0, 1, 1, 1])[[0, 0, 0]]
    two = np.zeros((3, 6, 4)) - [0, 0, 1e4, 1e4]  # classes 2 and 3 at p = 0, where nothing is: D = 1
    np.testing.assert_allclose(loss(two, halves), np.log(2) - (0.5 + 2) / 3, rtol=1e-5)  # D = 2 * 36 / (72 + 72)
    pair = row([0, 0, 0, 1, 1, 1], [0] * 6, [0] * 6)  # sums of the batch: 2 * 12 / (72 + 24) for all three images, not 1/2, 0 and 0
    np.testing.assert_allclose(loss(two, pair), np.log(2) - (1 / 4 + 2) / 3, rtol=1e-5)
    np.testing.assert_allclose(loss(1e4 * (2 * pair - 1), pair), -1, rtol=1e-6)
    even = np.zeros((3, 6, 3))
    np.testing.assert_allclose(loss(even, even, True), np.log(2) - 1e-5 / 72, rtol=3e-6)  # given, and nowhere: 1e-5 / (144 / 2)
    np.testing.assert_allclose(loss(even - 1e4, even, True), -1)
    np.testing.assert_allclose(loss(even, pair[..., :3], True), np.log(2) - (2 * 60 / (72 + 120) + 1 / 4) / 3, rtol=1e-5)
    sure = 20 * (2 * pair[..., :3] - 1)
    np.testing.assert_allclose(loss(sure, pair[..., :3], True), -(2 + 1 / (1 + 1.44e7 * np.exp(-20))) / 3, rtol=1e-5)


def test_finite_in_the_corners(graded):
    values = label(3, 8, 6, 4)
    for regions, k in ((False, 4), (True, 3)):
        target = one_hot(values, 4) if not regions else np.asarray(region_target(values, REGIONS))
        empty = one_hot(values * 0, 4) if not regions else target * 0
        for truth in (target, empty):
            for x in (1e4 * (2 * truth - 1), 1e4 * (1 - 2 * truth), 0 * truth, 0 * truth + 1e4, 0 * truth - 1e4, logits(3, 8, 6, k)):
                mean, loss, gradient = graded(x, truth, regions)
                assert np.isfinite(loss).all() and np.isfinite(gradient).all() and mean >= -1 - 1e-6
    half = jax.eval_shape(dice_ce, jnp.zeros((3, 8, 6, 4), jnp.bfloat16), one_hot(values, 4))
    assert half.dtype == jnp.float32 and half.shape == (3,)


KEPT = {(4, 2): [1, 3], (8, 2): [2, 6], (8, 1): [4], (10, 4): [1, 3, 6, 8], (7, 3): [1, 3, 5], (9, 6): [0, 2, 3, 5, 6, 8],
        (26, 11): [1, 3, 5, 8, 10, 12, 15, 17, 20, 22, 24], (5, 5): [0, 1, 2, 3, 4]}  # fmt: skip


def test_shrinks_as_torch_does():
    rows = [np.arange(old, dtype=np.int16)[None, :, None] + np.zeros((2, 1, 6), np.int16) for old, _ in KEPT]

    @jax.jit
    def both_ways(rows):
        return [(shrink(r, (new, 3)), shrink(r.swapaxes(1, 2)[..., None], (2, new))) for r, (_, new) in zip(rows, KEPT, strict=True)]

    for (down, across), (_, new), kept in zip(both_ways(rows), KEPT, KEPT.values(), strict=True):
        assert down.shape == (2, new, 3) and across.shape == (2, 2, new, 1) and down.dtype == jnp.int16
        np.testing.assert_array_equal(np.asarray(down)[1, :, 2], kept)
        np.testing.assert_array_equal(np.asarray(across)[0, 1, :, 0], kept)


def test_supervision_weights():
    np.testing.assert_allclose(supervision_weights(4), np.array([4, 2, 1, 0]) / 7)
    np.testing.assert_allclose(supervision_weights(5), [0.533, 0.267, 0.133, 0.067, 0], atol=5e-4)
    np.testing.assert_allclose(supervision_weights(7), [0.508, 0.254, 0.127, 0.063, 0.032, 0.016, 0], atol=5e-4)
    np.testing.assert_array_equal(supervision_weights(1), [1])
    np.testing.assert_array_equal(supervision_weights(2), [1, 0])
    with pytest.raises(ValueError, match="at least one"):
        supervision_weights(0)


def test_deep_supervision_is_the_originals():
    outputs = [jnp.asarray(logits(2, side, side, 3, 0.1 * i), jnp.float32) for i, side in enumerate((8, 4, 2, 1))]
    weights, values = supervision_weights(4), label(2, 8, 8, 3)
    f = jax.jit(jax.value_and_grad(lambda outputs, target: deep_supervision(outputs, target, weights, dice_ce).mean()))
    value, gradient = f(outputs, values)
    # the original's DeepSupervisionWrapper over DC_and_CE_loss, targets from its DownsampleSegForDSTransform
    np.testing.assert_allclose(value, 1.1688502746301157, rtol=1e-6)
    np.testing.assert_array_equal(gradient[-1], 0)
    assert all(np.abs(g).min() > 0 for g in gradient[:-1])
    broken = f([*outputs[:-1], outputs[-1] * np.nan], values)  # weight 0: not even a NaN gets through
    np.testing.assert_array_equal(broken[0], value)
    np.testing.assert_array_equal(broken[1][-1], 0)
    ready = [one_hot(values[:, 4 // s :: 8 // s, 4 // s :: 8 // s], 3) for s in (8, 4, 2, 1)]
    by_hand = sum(w * original(x, t, False) for w, x, t in zip(weights[:3], outputs, ready, strict=False))
    ways = jax.jit(lambda outputs, *ways: [deep_supervision(outputs, targets, weights, dice_ce) for targets in ways])
    for loss in ways(outputs, ready, one_hot(values, 3), values.astype(np.int16)):
        np.testing.assert_allclose(loss, by_hand, rtol=1e-5)
    with pytest.raises(ValueError, match="4 outputs, 3 targets, 4 weights"):
        deep_supervision(outputs, ready[:3], weights, dice_ce)
    with pytest.raises(ValueError, match="all weights are 0"):
        deep_supervision(outputs, values, [0, 0, 0, 0], dice_ce)


def test_four_devices_agree_with_one():
    def total(outputs, values):
        softmax = deep_supervision(outputs, values, [2 / 3, 1 / 3], dice_ce)
        regions = deep_supervision(outputs, region_target(values, [[1, 2], [2], [1]]), [2 / 3, 1 / 3], partial(dice_ce, regions=True))
        return jnp.mean(softmax + regions)

    batch = jax.tree.map(np.asarray, ([logits(8, s, s, 3).astype(np.float32) for s in (8, 4)], label(8, 8, 8, 3).astype(np.int32)))
    batch[1][:6] = np.minimum(batch[1][:6], 1)  # class 2 on one device only: sums of each device by itself would differ much
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:4])
    f = jax.jit(jax.value_and_grad(total))
    one, four = f(*jax.device_put(batch, jax.devices()[0])), f(*jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data"))))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(four), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5 * np.abs(a).max())


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="expected"):
        jax.eval_shape(dice_ce, np.zeros((1, 4, 4, 3)), np.zeros((1, 4, 4, 2)))
    with pytest.raises(ValueError, match="background"):
        jax.eval_shape(dice_ce, np.zeros((1, 4, 4, 1)), np.zeros((1, 4, 4, 1)))
