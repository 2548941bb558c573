"""The speckle loss: moments counted by hand, a float64 loop, gradients at perfect agreement, what must not matter."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import reference
from uscl.losses import speckle_loss
from uscl.nakagami import log_compress

# Compiled as they are used; dispatching their operations one by one would take most of the time of these tests.
speckle = jax.jit(speckle_loss, static_argnames=("form", "envelope"))
FORMS = pytest.mark.parametrize("form", ["parameters", "log_parameters"])


def batch(seed, images=3, side=20, classes=3):
    """Rayleigh-like images, soft predictions and one-hot targets of large regions; image 1 lacks class 2."""
    rng = np.random.default_rng(seed)
    image = np.clip(np.sqrt(rng.gamma(1.5, 1, (images, side, side))) / 3, 0, 1).astype(np.float32)
    label = (np.arange(side) * (classes + 1) // side)[None, :, None] * np.ones((images, 1, side), int)
    image *= (0.4 + 0.2 * label).astype(np.float32)
    label[1][label[1] == classes] = 0
    target = np.eye(classes + 1, dtype=np.float32)[label][..., 1:]
    noise = rng.normal(size=(images, side, side, classes + 1))
    prediction = np.exp(noise + 2 * np.eye(classes + 1)[label])
    prediction = (prediction / prediction.sum(-1, keepdims=True))[..., 1:].astype(np.float32)
    return image, prediction, target


@FORMS
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_loop_eager_and_jitted(form, seed):
    arrays = batch(seed)
    eager = speckle_loss(*arrays, form=form)
    assert eager.shape == (3,) and eager.dtype == jnp.float32
    want = reference.speckle_loss(*[a.astype(np.float64) for a in arrays], form=form)
    np.testing.assert_allclose(eager, want, rtol=2e-3)
    np.testing.assert_allclose(speckle(*arrays, form=form), eager, rtol=1e-4)


def chequered():
    """10 x 20: the left half black and white in equal parts (m 1, omega 1/2), the right three quarters black (1/3, 1/4)."""
    image = np.zeros((1, 10, 20), np.float32)
    image[0, ::2, :10] = 1
    image[0, ::2, 10::2] = 1
    left = np.zeros((1, 10, 20, 1), np.float32)
    left[:, :, :10] = 1
    return image, left, 1 - left


def test_by_hand():
    image, left, right = chequered()
    plain, logs = np.hypot(2 / 3, 1 / 4), np.hypot(np.log(3), np.log(2))
    np.testing.assert_allclose(speckle(image, left, right), plain, rtol=1e-3)
    np.testing.assert_allclose(speckle(image, right, left), plain, rtol=1e-3)
    np.testing.assert_allclose(speckle(image, left, right, form="log_parameters"), logs, rtol=1e-3)
    both = speckle(image, np.concatenate([left, right], -1), np.concatenate([right, left], -1))
    np.testing.assert_allclose(both, 2 * plain, rtol=1e-3)  # a sum over classes, not a mean
    x = np.sqrt(np.array([1, 3, 0, 2])[np.arange(200) % 2 + 2 * (np.arange(200) // 100)] / 4).reshape(1, 10, 20)
    upper = np.repeat([1.0, 0.0], 100).reshape(1, 10, 20, 1)  # (m, omega): (4, 1/2) above, (1, 1/4) below
    np.testing.assert_allclose(speckle(x, 1 - upper, upper), np.sqrt(9 + 1 / 16), rtol=1e-4)
    # the whole picture is 3/8 white: p = 3/8, m = p / (1 - p) = 3/5
    half = speckle(image, np.full_like(left, .5), left)
    np.testing.assert_allclose(half, np.hypot(2 / 5, 1 / 8), rtol=1e-3)


@FORMS
@pytest.mark.parametrize("size", [1.0, 0.5])
def test_perfect_agreement_is_zero_with_a_finite_gradient(form, size):
    image, _, target = batch(0)  # a half-sure mask has the same weighted moments
    value, gradient = jax.value_and_grad(lambda p: speckle(image, p, target, form=form).sum())(target * size)
    if size == 1:
        assert value == 0
        np.testing.assert_array_equal(gradient, 0)
    np.testing.assert_allclose(value, 0, atol=1e-3)
    assert np.all(np.isfinite(gradient))


@FORMS
def test_absent_classes_add_nothing_and_get_no_gradient(form):
    image, prediction, target = batch(1)
    f = partial(speckle, form=form)
    gradient = jax.grad(lambda p: f(image, p, target).sum())(prediction)
    np.testing.assert_array_equal(gradient[1, ..., 2], 0)
    assert all(np.abs(gradient[b, ..., k]).max() > 0 for b, k in ((0, 0), (0, 2), (1, 0), (1, 1)))
    np.testing.assert_allclose(f(image[1:2], prediction[1:2], target[1:2]),
                               f(image[1:2], prediction[1:2, ..., :2], target[1:2, ..., :2]), rtol=1e-5)
    value, gradient = jax.value_and_grad(lambda p: f(image, p, target * 0).sum())(prediction)
    assert value == 0 and not np.any(gradient)


@FORMS
def test_masses_below_the_floor_get_no_gradient(form):
    image, prediction, target = batch(2)
    faint = prediction * np.array([1, 0.02, 1], np.float32)  # 400 pixels: less than 8 of mass for the second class
    value, gradient = jax.value_and_grad(lambda p: speckle(image, p, target, form=form).sum())(faint)
    np.testing.assert_array_equal(gradient[..., 1], 0)
    np.testing.assert_allclose(value, reference.speckle_loss(image, faint, target, form).sum(), rtol=2e-3)  # it still counts
    assert np.abs(gradient[0, ..., 0]).max() > 0
    gradient = jax.grad(lambda p: speckle(image, p, target, form=form, min_pixels=1.0).sum())(faint)
    assert np.abs(gradient[0, ..., 1]).max() > 0
    nothing = prediction * np.array([1, 0, 1], np.float32)  # a region without a pixel has no parameters: skipped, not (0, 0)
    f = partial(speckle, form=form)
    np.testing.assert_allclose(f(image, nothing, target), f(image, prediction[..., ::2], target[..., ::2]), rtol=1e-5)
    few = target.copy()
    few[..., 1] = 0
    few[:, 9, 3:7, 1] = 1  # 4 pixels of truth
    value, gradient = jax.value_and_grad(lambda p: speckle(image, p, few, form=form).sum())(prediction)
    np.testing.assert_array_equal(gradient[..., 1], 0)
    few[..., 1] = 0  # too small to measure is as good as absent
    np.testing.assert_allclose(value, reference.speckle_loss(image, prediction, few, form).sum(), rtol=2e-3)


@FORMS
@pytest.mark.parametrize("value", [0.0, 0.37, 1.0])
@pytest.mark.parametrize("envelope", [False, True])
def test_finite_at_the_corners(form, value, envelope):
    image, prediction, target = batch(3)
    f = jax.jit(jax.value_and_grad(lambda x, p, t: speckle(x, p, t, form=form, envelope=envelope).sum(), argnums=(0, 1)))
    flat = np.full_like(image, value)
    speck = flat.copy()
    speck[:, 3, 3] = 0.9
    for x in (flat, speck, image):
        for p in (prediction, target, target * 0, np.roll(target, 1, axis=-1), prediction * 0 + 1):
            loss, gradients = f(x, p, target)
            assert np.isfinite(loss) and all(np.all(np.isfinite(g)) for g in gradients)


@FORMS
def test_gradients_against_differences(form):
    arrays = batch(4)
    image, prediction, target = [a[:1] for a in arrays]
    check_grads(jax.jit(lambda p: speckle(image, p, target, form=form)), (prediction,), order=1, atol=2e-2, rtol=2e-2, eps=1e-2)


@FORMS
def test_what_must_not_matter(form):
    image, prediction, target = batch(5)
    f = partial(speckle, form=form)
    want = np.asarray(f(image, prediction, target))
    order, pixels = np.array([2, 0, 1]), np.random.default_rng(0).permutation(400)
    np.testing.assert_allclose(f(image[order], prediction[order], target[order]), want[order], rtol=1e-4)
    np.testing.assert_allclose(f(image, prediction[..., order], target[..., order]), want, rtol=1e-4)
    moved = [a.reshape(3, 400, -1)[:, pixels].reshape(a.shape) for a in (image, prediction, target)]
    np.testing.assert_allclose(f(*moved), want, rtol=1e-3)
    np.testing.assert_allclose(f(image, prediction * 0.7, target), want, rtol=1e-3)  # moments are free of the mass
    if form == "log_parameters":  # gain moves both omegas by one factor
        np.testing.assert_allclose(f(image * 0.5, prediction, target), want, rtol=2e-3)


@pytest.mark.parametrize("dynamic_range", [40.0, 60.0])
def test_envelope_undoes_the_log_compression(dynamic_range):
    envelope, prediction, target = batch(6)
    envelope = np.clip(envelope, 0.02, 1)  # inside both dynamic ranges
    gray = log_compress(envelope, dynamic_range=dynamic_range)
    want = reference.speckle_loss(envelope.astype(np.float64), prediction, target)
    got = speckle(gray, prediction, target, envelope=True, dynamic_range=dynamic_range)
    np.testing.assert_allclose(got, want, rtol=3e-3)
    assert np.all(np.abs(speckle(gray, prediction, target) - want) > 0.1 * want)
    seen = np.random.default_rng(1).uniform(size=envelope.shape) < 0.7  # black pixels are censored, not measured
    got = speckle(gray * seen, prediction, target, envelope=True, dynamic_range=dynamic_range)
    want = reference.speckle_loss(envelope.astype(np.float64), prediction * seen[..., None], target * seen[..., None])
    np.testing.assert_allclose(got, want, rtol=3e-3)


@FORMS
def test_half_precision_comes_out_in_float32(form):
    half = [jnp.asarray(a, jnp.bfloat16) for a in batch(7)]
    got = speckle(*half, form=form)
    assert got.dtype == jnp.float32
    want = reference.speckle_loss(*[np.asarray(a, np.float64) for a in half], form=form)
    np.testing.assert_allclose(got, want, rtol=3e-3)


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError):
        speckle(*batch(0), form="divergence")
