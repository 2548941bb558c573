"""Soft Dice and cross entropy: areas counted by hand, a float64 loop, gradients at the corners, what must not matter."""
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import reference
from uscl.losses import cross_entropy, soft_dice

DICE = [{"background": b, "absent": a, "over": o, "smooth": s} for b, (a, s), o in product(
    (True, False), (("ignore", 0.0), ("zero", 0.0), ("smooth", 1.0), ("smooth", 1e-3)), ("image", "batch"))]
CROSS = [{}, {"class_weight": [0.1, 0.5, 0.0, 2.0]}]
EACH = [(soft_dice, reference.soft_dice, o) for o in DICE] + [(cross_entropy, reference.cross_entropy, o) for o in CROSS]
each_loss = pytest.mark.parametrize("loss, ref, options", EACH, ids=[f"{f.__name__} {o}" for f, _, o in EACH])


def batch(seed, images=4, side=6, classes=4, soft=False):
    """Logits, probabilities and targets; class 3 is absent from image 1, every foreground class from image 2."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(images, side, side + 1, classes)).astype(np.float32) * 2
    label = rng.integers(0, classes, (images, side, side + 1))
    label[1][label[1] == 3] = 1
    label[2] = 0
    target = np.eye(classes, dtype=np.float32)[label]
    if soft:
        target = 0.7 * target + 0.3 * target[:, ::-1]
    return logits, np.asarray(jax.nn.softmax(logits)), target


def first(loss, logits, probability):
    return logits if loss is cross_entropy else probability


@each_loss
@pytest.mark.parametrize("soft", [False, True], ids=["one-hot", "soft"])
def test_agrees_with_loop_eager_and_jitted(loss, ref, options, soft):
    logits, probability, target = batch(0, soft=soft)
    x = first(loss, logits, probability)
    eager, jitted = loss(x, target, **options), jax.jit(partial(loss, **options))(x, target)
    assert eager.shape == (4,) and eager.dtype == jnp.float32
    np.testing.assert_allclose(eager, ref(x, target, **options), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jitted, eager, rtol=1e-5, atol=1e-6)


def strip(*channels):
    """One row of pixels from lists, a list for each class, as [1, 1, W, K]."""
    return np.array(channels, np.float32).T[None, None]


def test_dice_counted_by_hand():
    target = strip([1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1])
    assert soft_dice(target, target)[0] == 0
    np.testing.assert_allclose(soft_dice(target[..., ::-1], target), 1)  # disjoint
    shifted = strip([1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1])  # 2 * 2 / 5 and 2 * 3 / 7
    np.testing.assert_allclose(soft_dice(shifted, target), 1 - (4 / 5 + 6 / 7) / 2, rtol=1e-6)
    np.testing.assert_allclose(soft_dice(shifted, target, background=False), 1 - 6 / 7, rtol=1e-6)
    half = np.full_like(target, 0.5)  # sums of p, not of p squared: 2 * 1 / (3 + 2) and 2 * 2 / (3 + 4)
    np.testing.assert_allclose(soft_dice(half, target), 1 - (2 / 5 + 4 / 7) / 2, rtol=1e-6)
    np.testing.assert_allclose(soft_dice(half / 64, target / 64), 1 - (2 / 5 + 4 / 7) / 128, rtol=1e-6)  # less than a pixel
    even = strip([1, 1, 0, 0], [0, 0, 1, 1])
    np.testing.assert_allclose(soft_dice(np.full_like(even, 0.5), even), 0.5, rtol=1e-6)
    np.testing.assert_allclose(soft_dice(shifted, target, absent="smooth", smooth=1.0), 1 - (5 / 6 + 7 / 8) / 2, rtol=1e-6)


def test_dice_of_an_absent_class():
    target = strip([1, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0])
    ghost = strip([1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0])
    d0 = 2 * 2 / 5
    np.testing.assert_allclose(soft_dice(ghost, target), 1 - (d0 + 1) / 2, rtol=1e-6)
    np.testing.assert_allclose(soft_dice(ghost, target, absent="zero"), 1 - (d0 + 1 + 0) / 3, rtol=1e-6)
    np.testing.assert_allclose(soft_dice(target, target, absent="zero"), 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(soft_dice(ghost, target, absent="smooth", smooth=1.0), 1 - (5 / 6 + 1 + 1 / 2) / 3, rtol=1e-6)
    np.testing.assert_allclose(soft_dice(target, target, absent="smooth", smooth=1.0), 0, atol=1e-7)
    # nothing left to average
    assert soft_dice(ghost[..., 1:], target[..., 1:] * 0)[0] == 0
    assert soft_dice(ghost[..., [0, 2]], target[..., [0, 2]], background=False)[0] == 0


def test_dice_over_the_batch_pools_the_sums():
    target = np.concatenate([strip([1, 1, 1, 1]), strip([0, 0, 0, 1])])
    predicted = np.concatenate([strip([1, 1, 1, 1]), strip([1, 1, 0, 0])])
    np.testing.assert_allclose(soft_dice(predicted, target), [0, 1], atol=1e-7)
    np.testing.assert_allclose(soft_dice(predicted, target, over="batch"), 1 - 8 / 11, rtol=1e-6)


def test_cross_entropy_by_hand():
    target = strip([1, 0], [0, 1], [0, 0])
    np.testing.assert_allclose(cross_entropy(np.zeros((1, 1, 2, 3)), target), np.log(3), rtol=1e-6)
    logits = np.log(strip([.5, .2], [.25, .7], [.25, .1]))
    np.testing.assert_allclose(cross_entropy(logits + 9, target), -(np.log(.5) + np.log(.7)) / 2, rtol=1e-5)
    weighted = cross_entropy(logits, target, class_weight=jnp.array([.1, .9, 5]))
    np.testing.assert_allclose(weighted, -(.1 * np.log(.5) + .9 * np.log(.7)) / 2, rtol=1e-5)
    soft = strip([.5, 0], [.5, 0], [0, 1])
    np.testing.assert_allclose(cross_entropy(logits, soft), -(.5 * np.log(.5) + .5 * np.log(.25) + np.log(.1)) / 2, rtol=1e-5)


def test_zero_weight_gives_gradient_exactly_zero():
    logits, probability, target = batch(1)
    for absent in ("ignore", "zero"):
        gradient = jax.grad(lambda p, a=absent: soft_dice(p, target, absent=a).sum())(probability)
        np.testing.assert_array_equal(gradient[1, ..., 3], 0)
        np.testing.assert_array_equal(gradient[2, ..., 1:], 0)
        assert np.abs(gradient[0, ..., 3]).min() > 0 and np.abs(gradient[1, ..., 1]).min() > 0
    gradient = jax.grad(lambda p: soft_dice(p, target, background=False, over="batch").sum())(probability)
    np.testing.assert_array_equal(gradient[..., 0], 0)
    gradient = jax.grad(lambda x: cross_entropy(x, target, class_weight=[1, 1, 0, 1]).sum())(logits)
    weightless = target[..., 2] == 1
    np.testing.assert_array_equal(np.asarray(gradient)[weightless], 0)
    assert np.abs(np.asarray(gradient)[~weightless]).max(axis=-1).min() > 0


def test_smooth_dice_pushes_a_ghost_away():
    _, probability, target = batch(1)
    gradient = jax.grad(lambda p: soft_dice(p, target, absent="smooth", smooth=1.0).sum())(probability)
    assert np.all(gradient[2, ..., 1:] > 0)


def test_gradient_of_cross_entropy_is_the_difference():
    logits, probability, target = batch(2, soft=True)
    gradient = jax.grad(lambda x: cross_entropy(x, target).sum())(logits)
    np.testing.assert_allclose(gradient, (probability - target) / 42, atol=1e-6)


@each_loss
def test_gradients_against_differences(loss, ref, options):
    logits, probability, target = batch(3, images=3, side=3)
    check_grads(jax.jit(lambda x: loss(x, target, **options)), (first(loss, logits / 2, probability),), order=1,
                atol=1e-2, rtol=1e-2, eps=1e-2)


@each_loss
def test_finite_at_the_corners(loss, ref, options):
    _, _, target = batch(4)
    scale, nothing = 1e4 if loss is cross_entropy else 1.0, np.zeros_like(target)
    f = jax.jit(jax.value_and_grad(lambda x, t: loss(x, t, **options).sum()))
    if loss is cross_entropy:  # opposite logits whose difference is no float32
        value, gradient = f(np.float32(3e38) * (2 * target - 1), target)
        assert value == 0 and np.all(np.isfinite(gradient))
    for x in (scale * target, scale * (1 - target), nothing, nothing + scale, scale * np.roll(target, 1, axis=-1)):
        for truth in (target, nothing):
            value, gradient = f(jnp.asarray(x), truth)
            assert np.isfinite(value) and value >= 0 and np.all(np.isfinite(gradient))
    if loss is soft_dice:
        value, gradient = jax.value_and_grad(lambda x: loss(x, nothing, **{**options, "smooth": 0.0}).sum())(nothing)
        assert np.isfinite(value) and np.all(np.isfinite(gradient))


@each_loss
def test_what_must_not_matter(loss, ref, options):
    logits, probability, target = batch(5)
    x, rng = first(loss, logits, probability), np.random.default_rng(0)
    want = np.asarray(loss(x, target, **options))
    images = rng.permutation(4)
    np.testing.assert_allclose(loss(x[images], target[images], **options), want[images], rtol=1e-5, atol=1e-7)
    pixels = rng.permutation(42)
    moved = [a.reshape(4, 42, 4)[:, pixels].reshape(4, 7, 6, 4) for a in (x, target)]
    np.testing.assert_allclose(loss(*moved, **options), want, rtol=1e-5, atol=1e-7)
    classes = np.array([0, 3, 1, 2])
    turned = {**options, "class_weight": [0.1, 2.0, 0.5, 0.0]} if "class_weight" in options else options
    np.testing.assert_allclose(loss(x[..., classes], target[..., classes], **turned), want, rtol=1e-5, atol=1e-7)


@each_loss
def test_half_precision_comes_out_in_float32(loss, ref, options):
    logits, probability, target = batch(6, side=20)
    half = jnp.asarray(first(loss, logits, probability), jnp.bfloat16)
    got = loss(half, jnp.asarray(target, jnp.bfloat16), **options)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, ref(np.asarray(half, np.float64), target, **options), rtol=1e-5, atol=1e-6)


def test_unknown_words_are_refused():
    _, probability, target = batch(0)
    for options in ({"absent": "skip"}, {"over": "class"}):
        with pytest.raises(ValueError):
            soft_dice(probability, target, **options)
