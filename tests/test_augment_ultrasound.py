"""What a machine and the tissue before it do to an image: decibels known by hand, speckle's statistics, chances."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import KEY, random

from uscl import augment
from uscl.augment.ultrasound import depth_attenuation, gain, haze, rayleigh_field, shadow, speckle

# Compiled as they are used; dispatching their operations one by one would take most of the time of these tests.
depth_attenuation, gain, shadow, haze = map(jax.jit, (depth_attenuation, gain, shadow, haze))
speckle = jax.jit(speckle, static_argnames=("axial", "lateral"))
rayleigh_field = jax.jit(rayleigh_field, static_argnames=("n", "height", "width", "axial", "lateral"))

CHANGES = {"attenuation": depth_attenuation, "gain": gain, "shadow": shadow, "haze": haze, "speckle": speckle}
ORDER = ("speckle", "attenuation", "shadow", "haze", "gain")  # the echo's way


@pytest.mark.parametrize("name", CHANGES)
def test_every_change(name):
    change, whole = CHANGES[name], jax.jit(partial(augment.ultrasound, **{name: 1.0}))
    image = 0.1 + 0.5 * random(0, 400, 12, 10, 1)
    out = change(KEY, image, probability=0.3)
    assert out.shape == image.shape and out.min() >= 0 and out.max() <= 1
    changed = np.abs(out - image).max((1, 2, 3)) > 0
    np.testing.assert_allclose(changed.mean(), 0.3, atol=0.08)
    np.testing.assert_array_equal(change(KEY, image, probability=0.3), out)
    every = np.asarray(change(KEY, jnp.broadcast_to(image[:1], image.shape), probability=1.0))
    assert min(np.abs(every[i] - every[i - 1]).max() for i in range(4)) > 1e-4  # drawn per image
    np.testing.assert_array_equal(change(KEY, image, probability=0.0), image)
    np.testing.assert_array_equal(augment.ultrasound(KEY, image, **{name: 0.0}), image)
    step = jax.random.split(KEY, 5)[ORDER.index(name)]
    np.testing.assert_allclose(whole(KEY, image), change(step, image, probability=1.0), atol=1e-6)
    assert change(KEY, jnp.zeros_like(image), probability=1.0).any() == (name == "haze")
    white = change(KEY, jnp.ones_like(image), probability=1.0)
    assert white.min() >= 0 and white.max() <= 1


def test_changes_do_not_shift_each_others_draws():
    image = 0.3 + 0.3 * random(0, 400, 12, 10, 1)
    both = jax.jit(partial(augment.ultrasound, attenuation=1.0, gain=1.0))(KEY, image)
    steps = jax.random.split(KEY, 5)
    np.testing.assert_allclose(both, gain(steps[4], depth_attenuation(steps[1], image)), atol=1e-6)


def test_attenuation_and_gain_in_decibels():
    image = jnp.full((2, 21, 4, 1), 0.8)
    out = depth_attenuation(KEY, image, decibels=(12.0, 12.0))
    np.testing.assert_allclose(out[:, 10], 0.8 - 0.1, atol=1e-6)  # the middle row of 21 is at half depth
    np.testing.assert_allclose(out[:, 0, 0, 0], 0.8 - 0.2 * 0.5 / 21, atol=1e-6)
    np.testing.assert_allclose(depth_attenuation(KEY, image, decibels=(12.0, 12.0), dynamic_range=40.0)[:, 10], 0.65, atol=1e-6)
    np.testing.assert_allclose(gain(KEY, image, decibels=(6.0, 6.0)), 0.9, atol=1e-6)
    np.testing.assert_allclose(gain(KEY, image, decibels=(30.0, 30.0)), 1.0)
    shift = np.asarray(gain(KEY, jnp.full((3000, 1, 1, 1), 0.5)))[:, 0, 0, 0] - 0.5
    assert -0.1001 < shift.min() < -0.099 and 0.099 < shift.max() < 0.1001
    np.testing.assert_allclose(shift.mean(), 0, atol=0.005)


def test_shadow():
    image = jnp.full((600, 40, 40, 1), 0.8)
    out = np.asarray(shadow(KEY, image, decibels=(24.0, 24.0), soft=0.002, depth=(0.5, 0.5), width=(0.2, 0.2)))[..., 0]
    loss = 0.8 - out
    assert loss.max() <= 0.4 + 1e-5 and loss.min() >= -1e-6
    np.testing.assert_allclose(loss[:, :18], 0, atol=1e-4)  # nothing above the reflector
    dark = loss[:, 22:] > 0.2
    columnar = (dark == dark[:, :1]).all((1, 2))
    # half of the images, and of the fans those whose shadow leaves the picture or whose edges fall between pixels
    assert 0.45 < columnar.mean() < 0.62
    wide = dark[columnar][:, 0].sum(1)
    assert wide.max() == 8 and np.median(wide) == 8  # 0.2 of 40 pixels, fewer where the border cuts it
    fans = dark[~columnar]
    widths = fans.sum(2)
    whole = ~fans[:, :, [0, -1]].any((1, 2)) & (widths > 0).all(1)
    assert whole.sum() > 50 and (widths[whole][:, -1] >= widths[whole][:, 0]).all()  # wider below
    assert (widths[whole] > 8).all()  # and wider than at the probe
    full = np.asarray(shadow(KEY, image, decibels=(24.0, 24.0), width=(9.0, 9.0), depth=(-9.0, -9.0)))
    np.testing.assert_allclose(full, 0.4, atol=1e-4)


def test_shadow_has_soft_edges():
    image = jnp.full((20, 64, 64, 1), 0.8)
    steep = np.abs(np.diff(shadow(KEY, image, soft=0.002)[..., 0], axis=2)).max()
    soft = np.abs(np.diff(shadow(KEY, image, soft=0.05)[..., 0], axis=2)).max()
    assert soft < 0.3 * steep


def test_haze():
    out = np.asarray(haze(KEY, jnp.zeros((400, 32, 32, 1)), strength=(0.05, 0.25)))[..., 0]
    np.testing.assert_allclose(out.min((1, 2)), 0, atol=1e-6)
    top = out.max((1, 2))
    assert 0.0499 < top.min() < 0.055 and 0.245 < top.max() < 0.2501
    steepest = max(np.abs(np.diff(out / top[:, None, None], axis=axis)).max() for axis in (1, 2))
    assert steepest < 0.3  # smooth: a quarter of the picture lies between two grid points


def test_rayleigh_field():
    r = np.asarray(rayleigh_field(KEY, 30, 64, 64, axial=1.0, lateral=1.5), np.float64)[..., 0]
    np.testing.assert_allclose((r**2).mean(), 1, rtol=0.03)
    np.testing.assert_allclose(r.mean() / r.std(), 1.913, rtol=0.02)
    np.testing.assert_allclose((20 * np.log10(r)).std(), 5.57, rtol=0.02)
    for at in (np.s_[:, 0], np.s_[:, -1], np.s_[:, :, 0], np.s_[:, :, -1]):  # as rough at the border
        np.testing.assert_allclose((r[at] ** 2).mean(), 1, rtol=0.1)
    # intensity's correlation at lag l is the square of the field's, exp(-l^2 / 4 sigma^2)
    power = r**2 - 1
    for axis, sigma in ((1, 1.0), (2, 1.5)):
        near, far = np.split(np.take(power, np.arange(62), axis=axis), 1)[0], np.take(power, np.arange(2, 64), axis=axis)
        np.testing.assert_allclose((near * far).mean() / (power**2).mean(), np.exp(-4 / (2 * sigma**2)), atol=0.04)


def test_speckle_in_decibels():
    image = jnp.full((60, 32, 32, 1), 0.5)
    out = np.asarray(speckle(KEY, image, strength=(0.5, 0.5)), np.float64)
    np.testing.assert_allclose(out.std(), 0.5 * 5.57 / 60, rtol=0.04)
    # the mean level of Rayleigh noise of mean square 1 is -2.51 dB (Euler's constant times 10 / ln 10)
    np.testing.assert_allclose(out.mean() - 0.5, -0.5 * 2.507 / 60, rtol=0.1)
