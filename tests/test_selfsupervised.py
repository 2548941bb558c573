"""BYOL, SimSiam, MoCo v3, Barlow Twins, VICReg: values by hand and of the peers, a float64 loop, who feels no gradient, corners."""
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_selfsupervised as reference
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from uscl.losses.bootstrap import byol, simsiam
from uscl.losses.momentum import moco_v3
from uscl.losses.redundancy import barlow_twins, vicreg

PAIRED = {"byol": (byol, {}), "simsiam": (simsiam, {}), "moco": (moco_v3, {}), "moco, warm": (moco_v3, {"temperature": 1.0})}
WHOLE = {"barlow": (barlow_twins, {}), "barlow, strict": (barlow_twins, {"redundancy": 0.3, "epsilon": 0.1}), "vicreg": (vicreg, {}),
         "vicreg as coded": (vicreg, {"variance": 12.5}),
         "vicreg, odd": (vicreg, {"invariance": 3.0, "variance": 7.0, "covariance": 2.0, "spread": 1.4, "epsilon": 0.2})}  # fmt: skip
EACH = PAIRED | WHOLE

Z = np.float32(1.2 * np.sin(np.arange(64.0) ** 1.5)).reshape(2, 8, 4)
T = np.float32(np.cos(np.arange(64.0) ** 1.3)).reshape(2, 8, 4)
# torch 2.13, float64, on Z and T: mean of the loss, its gradient at Z[0, 0] and at Z[1, 3]. Barlow Twins, VICReg and SimSiam by lightly
# 1.6.1, the first two as their authors' code; BYOL and MoCo v3 written with normalize and cross_entropy as theirs.
PEERS = {
    "byol": (3.533189170644797, [0.0852745314, -0.0907089098, 0.0927853502, -0.0539331599],
             [-0.1055731222, 0.0662521127, -0.0199418241, -0.0028583727]),
    "simsiam": (-0.11670270733880084, [0.0213186328, -0.0226772274, 0.0231963376, -0.0134832900],
                [-0.0263932805, 0.0165630282, -0.0049854560, -0.0007145932]),
    "moco": (2.754461051882357, [-0.0000624658, -0.0773391537, 0.0547502973, -0.0544609914],
             [-0.0326595324, 0.0183583190, -0.0077543406, -0.0016236113]),
    "moco, warm": (8.322256560775816, [0.0544588760, -0.0882177644, 0.0930633146, -0.0514684803],
                   [-0.0237212921, 0.0300276426, -0.0145652324, -0.0133479407]),
    "barlow": (3.1133079884241326, [0.3054504723, -0.1929901706, 1.1393010468, -0.0579859561],
               [0.2622399927, 0.0335568285, -0.2078011497, 0.0062022212]),
    "vicreg as coded": (33.11330376868423, [1.8035542785, -0.0153318820, 1.6509765186, -0.6539960637],
                        [1.4333238440, -0.1819095691, -3.2140364707, -0.7348926749]),
}  # fmt: skip


@cache  # one program a loss for all tests that look at arrays of one shape
def graded(name):
    """f(z, t, weight) -> losses, gradients of their weighted sum by z and by t; compiled."""
    loss, options = EACH[name]

    def total(z, t, weight):
        value = loss(z, t, **options) if name in PAIRED else loss(z, **options)
        return (weight * value).sum(), value

    @jax.jit
    def f(z, t, weight):
        (_, value), gradients = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(z, t, weight)
        return value, *gradients

    return lambda z, t=T, weight=1.0: f(z, t, np.full(z.shape[1] if name in PAIRED else (), weight, np.float32))


def expected(name, z, t):
    loss, options = EACH[name]
    return getattr(reference, loss.__name__)(z, *((t,) if name in PAIRED else ()), **options)


@pytest.mark.parametrize("name", PEERS)
def test_agrees_with_the_peers(name):
    value, gradient, _ = graded(name)(Z, weight=1 / 8 if name in PAIRED else 1.0)
    want, first, last = PEERS[name]
    np.testing.assert_allclose(value.mean(), want, rtol=1e-5)
    np.testing.assert_allclose([gradient[0, 0], gradient[1, 3]], [first, last], rtol=1e-4, atol=1e-5 * np.abs([first, last]).max())


@pytest.mark.parametrize("name", EACH)
def test_agrees_with_the_loop(name):
    loss, options = EACH[name]
    value, gradient, _ = graded(name)(Z)
    assert value.shape == ((8,) if name in PAIRED else ()) and value.dtype == jnp.float32
    np.testing.assert_allclose(value, expected(name, Z, T), rtol=2e-5, atol=1e-6)
    want = reference.slope(lambda z: expected(name, z, T), Z)
    np.testing.assert_allclose(gradient, want, rtol=1e-3, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("name", ["byol", "barlow"])
def test_half_precision_ends_at_the_door(name):
    z, t = (jnp.asarray(x, jnp.bfloat16) for x in (3 * Z, T))
    value = graded(name)(z, t)[0]
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, expected(name, *(np.asarray(x, np.float64) for x in (z, t))), rtol=2e-5, atol=1e-6)


def along(*directions):
    return np.float32(directions)[:, None, :] * np.float32([1.0, 3.0])[:, None]  # two images, of different length


def test_by_hand():
    x, y = (5.0, 0.0), (0.0, 2.0)
    for other, cos in ((x, 1), (y, 0), ((-1.0, 0.0), -1)):
        for name, want in (("byol", 2 - 2 * cos), ("simsiam", -0.5 - 0.5 * cos)):
            np.testing.assert_allclose(graded(name)(along(x, y), along(y, other))[0], want, atol=1e-6)  # view 2 finds view 1's target
        value, gradient, _ = graded("byol")(along(x, x), along(other, other))
        np.testing.assert_allclose(value, 4 - 4 * cos, atol=1e-6)
        assert cos == 0 or np.abs(gradient).max() < 1e-6
    gradient = graded("byol")(np.float32([[[2, 0], [0, 1]], [[0, 1], [0, 1]]]), along(y, y))[1]
    np.testing.assert_allclose(gradient[0], [[0, -1], [0, 0]], atol=1e-6)
    zero = along((0, 0), (0, 0))
    for a, b in ((zero, along(x, x)), (along(x, x), zero), (zero, zero)):
        value, gradient, _ = graded("byol")(a, b)
        assert np.all(value == 4) and np.all(graded("simsiam")(a, b)[0] == 0) and not np.any(gradient)


def test_queries_by_hand():
    f = jax.jit(lambda q, k, temperature: moco_v3(q, k, temperature=temperature))  # a traced temperature
    eye = np.eye(4, dtype=np.float32)
    for temperature in (0.02, 0.2, 1.0):
        chance = f(np.full((2, 4, 4), 2, np.float32), np.full((2, 4, 4), 0.1, np.float32), temperature)
        np.testing.assert_allclose(chance, 4 * temperature * np.log(4), rtol=1e-5)
        far = np.log1p(3 * np.exp(-1 / temperature))
        found = f(np.stack([eye, 5 * eye]), np.stack([eye, eye]), temperature)
        np.testing.assert_allclose(found, 4 * temperature * far, rtol=1e-4, atol=1e-6)
        crossed = np.stack([eye, np.roll(eye, 1, axis=1)])  # each query finds its own view's key, not the other's
        np.testing.assert_allclose(f(crossed, crossed, temperature), 4 + 4 * temperature * far, rtol=1e-5)
    assert np.all(f(Z[:, :1], T[:, :1], 0.2) == 0)


def test_statistics_by_hand():
    a = np.array([[1, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1.0]])  # columns of mean 0 and variance 1, uncorrelated
    first, second = (np.repeat(a[:, k : k + 1], 3, axis=1) for k in (0, 1))
    flat = np.ones((2, 4, 3)) * np.array([1.0, -2, 0.3])
    barlow, vic = graded("barlow"), graded("vicreg")
    for z, want in (([a, a], 0), ([a, -a], 12), ([first, first], 0.005 * 6), ([a, a[:, [1, 2, 0]]], 3 + 0.005 * 3), ([first, second], 3),
                    ([9 + 2 * a, a], 0), (flat, 3)):  # fmt: skip
        np.testing.assert_allclose(barlow(np.float32(z))[0], want, rtol=1e-4, atol=1e-6)
    unit = a * np.sqrt(3 / 4)  # of variance 1 where the sum is divided by N - 1
    for z, want in (([2 * a, 2 * a + 0.7], 25 * 0.49), (flat, 49.5), ([first, first], 4 * (4 / 3) ** 2),
                    ([unit, unit / 2], 25 * 0.75 / 4 + 25 * (1 - np.sqrt(0.2501)))):  # fmt: skip
        np.testing.assert_allclose(vic(np.float32(z))[0], want, rtol=1e-4, atol=1e-6)
    assert not np.any(barlow(np.float32(flat))[1]) and not np.any(vic(np.float32(flat))[1])


def test_no_term_of_weight_zero_is_felt():
    f = jax.jit(jax.grad(lambda z, weights: vicreg(z, invariance=weights[0], variance=weights[1], covariance=weights[2])))
    z = 0.5 * Z[:, :4, :3]
    for on in np.eye(3):
        want = reference.slope(lambda z, on=on: reference.vicreg(z, *on), z)
        assert np.abs(want).max() > 1e-3
        np.testing.assert_allclose(f(z, on), want, rtol=1e-3, atol=1e-5)
    assert not np.any(f(z, np.zeros(3)))


@pytest.mark.parametrize("name", PAIRED)
def test_targets_feel_exactly_nothing(name):
    _, to_prediction, to_target = graded(name)(Z)
    assert not np.any(to_target) and np.all(np.any(to_prediction, axis=-1))
    one = graded(name)(Z, weight=np.arange(8) == 2)[1]  # an image's loss pulls at its own predictions alone, in both views
    assert not np.any(np.delete(one, 2, axis=1)) and np.all(np.any(one[:, 2], axis=-1))


@pytest.mark.parametrize("name", ["byol", "moco"])
def test_small_differences_keep_their_digits(name):
    z, t = 1 + np.float32(1e-3) * Z, 1 + np.float32(1e-3) * T  # as all embeddings are at first, and BYOL's in the end
    value, gradient, _ = graded(name)(z, t)
    want = reference.slope(lambda z: expected(name, z, t), z)
    np.testing.assert_allclose(gradient, want, rtol=2e-3, atol=1e-3 * np.abs(want).max())
    np.testing.assert_allclose(value, expected(name, z, t), rtol=2e-3)


@pytest.mark.parametrize("name", EACH)
def test_finite_at_the_corners(name):
    e = np.eye(8, 4)
    corners = [0 * e + 1, 0 * e, e, -1 - 0 * e, 1e-25 * (e - 0.3), *([1e25 * (e - 0.3)] if name in PAIRED else [])]
    for a in corners:
        for b in corners if name in PAIRED else corners[:1]:
            z, t = (np.float32([x, x]) for x in (a, b))
            value, *gradients = graded(name)(z, t)
            assert all(np.all(np.isfinite(x)) for x in gradients)
            np.testing.assert_allclose(value, expected(name, z, t), rtol=1e-4, atol=1e-5)
    for z in (np.where(np.arange(4) == 1, 3.0, Z), Z * 1e4, Z + 1e4, 1 + 1e-7 * Z, Z[:, :, [0, 0, 0, 0]]):
        assert all(np.all(np.isfinite(x)) for x in graded(name)(np.float32(z), T))


@pytest.mark.parametrize("name", ["moco", "barlow", "vicreg"])
def test_four_devices_agree_with_one(name):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    spread = jax.device_put((Z, T), NamedSharding(mesh, PartitionSpec(None, "data")))
    for one, four in zip(graded(name)(Z, T), graded(name)(*spread), strict=True):
        np.testing.assert_allclose(four, one, rtol=1e-5, atol=1e-5 * np.abs(one).max())


def test_what_does_not_fit_is_refused():
    for loss in (byol, simsiam, moco_v3):
        for a, b in ((Z, T[:, :4]), (Z[0], T[0]), (Z[:1], T[:1]), (np.concatenate([Z, Z]), np.concatenate([T, T])), (Z, T[..., :1])):
            with pytest.raises(ValueError, match="two views"):
                loss(a, b)
    for loss in (barlow_twins, vicreg):
        for z in (Z[:, :1], Z[0], Z[:1]):
            with pytest.raises(ValueError, match="at least 2"):
                loss(z)
        with pytest.raises(ValueError, match="epsilon: found 0"):
            loss(Z, epsilon=0)
    with pytest.raises(ValueError, match="temperature: found 0"):
        moco_v3(Z, T, temperature=0)
