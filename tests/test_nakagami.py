"""Nakagami: densities against scipy, estimators against roots and the simulation table, log compression, degenerate input."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import integrate, stats

import reference
from uscl import nakagami

METHODS = ["moments", "mle", "closed_form"]
SHAPES = [(0.5, 2.0), (1.0, 1.0), (1.7, 0.3), (4.0, 9.0)]

# Compiled as they are used; dispatching their operations one by one would take most of the time of these tests.
fit, log_pdf, kl = jax.jit(nakagami.fit, static_argnames=("method", "axis")), jax.jit(nakagami.log_pdf), jax.jit(nakagami.kl)


def even_sample(m, omega=1.0):
    """20000 values at evenly spaced probabilities: a sample without luck."""
    return stats.nakagami(m, scale=np.sqrt(omega)).ppf((np.arange(20000) + 0.5) / 20000)


@pytest.mark.parametrize("m, omega", SHAPES)
def test_density(m, omega):
    r = np.linspace(0.01, 5, 200) * np.sqrt(omega)
    np.testing.assert_allclose(log_pdf(r, m, omega), stats.nakagami.logpdf(r, m, scale=np.sqrt(omega)), rtol=2e-5, atol=2e-5)
    r = np.linspace(0, 1, 40001)[1:] ** 2 * 6 * np.sqrt(omega)
    np.testing.assert_allclose(integrate.trapezoid(np.exp(log_pdf(r, m, omega)), r), 1, atol=5e-4)
    np.testing.assert_allclose(log_pdf(1.0, 1.0, 1.0), np.log(2) - 1, rtol=1e-5)
    edge = log_pdf(jnp.array([0.0, -1.0]), jnp.array([[0.4], [0.5], [m + 0.5]]), 2.0)  # parameters broadcast
    np.testing.assert_allclose(edge, [[np.inf, -np.inf], [np.log(2) - np.log(4 * np.pi) / 2, -np.inf], [-np.inf, -np.inf]], rtol=1e-5)


@pytest.mark.parametrize("m, omega", SHAPES)
def test_gradient_of_the_density_and_that_the_mean_score_is_zero(m, omega):
    r = jnp.array([0.4, 1.1, 2.0])
    check_grads(log_pdf, (r, jnp.float32(m), jnp.float32(omega)), order=1, atol=1e-2, rtol=1e-2, eps=1e-2)
    scores = jax.jit(jax.vmap(jax.grad(log_pdf, argnums=(1, 2)), (0, None, None)))
    np.testing.assert_allclose(np.mean(scores(jnp.float32(even_sample(m, omega)), m, omega), axis=1), 0, atol=5e-3)


@pytest.mark.parametrize("m, omega", SHAPES)
def test_samples(m, omega):
    key, other = jax.random.split(jax.random.key(3))
    x = jax.jit(nakagami.sample, static_argnums=3)(key, m, omega, (4000,))
    assert x.dtype == jnp.float32 and x.shape == (4000,)
    assert stats.kstest(np.float64(x), stats.nakagami(m, scale=np.sqrt(omega)).cdf).pvalue > 1e-3
    np.testing.assert_allclose(x, nakagami.sample(key, m, omega, (4000,)), rtol=1e-5)
    assert not np.array_equal(x, nakagami.sample(other, m, omega, (4000,)))


def test_divergence():
    for pair in ((1, 1, 2, .5), (.6, 2, 1.5, 1), (3, .2, .8, .4), (1.3, 5, 1.2, 5.5), (8, 1, 8, 3)):
        np.testing.assert_allclose(kl(*pair), reference.kl(*pair), rtol=1e-3, atol=2e-5)
    np.testing.assert_allclose(kl(jnp.array([.5, 1, 7]), 2.0, jnp.array([.5, 1, 7]), 2.0), 0, atol=2e-6)
    np.testing.assert_allclose(kl(1.0, 1.0, 1.0, 2.0), np.log(2) - 0.5, rtol=1e-5)
    gradient = jax.grad(kl, argnums=(0, 1, 2, 3))(1.4, 0.7, 1.4, 0.7)
    np.testing.assert_allclose(gradient, 0, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("m, omega", SHAPES)
def test_fit_agrees_with_loop(method, m, omega):
    x = even_sample(m, omega)[::37]
    weight = np.random.default_rng(0).uniform(0, 1, x.shape)
    f = partial(fit, method=method)
    for got in (nakagami.fit(x, method=method), f(x)):
        np.testing.assert_allclose(got, reference.nakagami(x, method=method), rtol=3e-5)
    np.testing.assert_allclose(f(x, weight), reference.nakagami(x, weight, method), rtol=3e-5)
    np.testing.assert_allclose(f(x, weight * 1e-6), f(x, weight), rtol=5e-4)
    np.testing.assert_allclose(f(x, np.repeat([1.0, 0.0], [200, len(x) - 200])), f(x[:200]), rtol=5e-4)
    np.testing.assert_allclose(f(x[::-1], weight[::-1]), f(x, weight), rtol=5e-4)
    for gain in (1e-8, 1e10):  # m has no unit, omega has the square of the amplitude's
        np.testing.assert_allclose(f(gain * x), [f(x)[0], gain**2 * f(x)[1]], rtol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_fit_along_axes(method):
    x = np.random.default_rng(2).gamma(1, 1, (4, 5, 60)).astype(np.float32) ** 0.5
    for axis, moved in ((-1, x), (1, np.moveaxis(x, 1, -1)), ((0, 2), np.moveaxis(x, 0, 1).reshape(5, -1))):
        m, omega = fit(x, method=method, axis=axis)
        assert m.shape == omega.shape == moved.shape[:-1] and m.dtype == omega.dtype == jnp.float32
        want = np.array([reference.nakagami(row, method=method) for row in moved.reshape(-1, moved.shape[-1])])
        np.testing.assert_allclose(np.ravel(m), want[:, 0], rtol=1e-3)
        np.testing.assert_allclose(np.ravel(omega), want[:, 1], rtol=1e-4)


def test_moments_by_hand():
    for squares, want in (([0, 2], (1, 1)), ([1, 3], (4, 2)), ([0, 1, 1, 1], (3, 0.75)), ([1, 1], (1e6, 1)), ([0, 0], (0, 0))):
        np.testing.assert_allclose(fit(np.sqrt(squares)), want, rtol=1e-4)
    np.testing.assert_allclose(fit(np.ones(3), eps=1e-3)[0], 1e3, rtol=1e-4)
    assert all(a.dtype == jnp.float32 for a in fit(jnp.ones(8, jnp.bfloat16)))


def test_likelihood_solves_its_equation_over_four_decades():
    for m in (0.05, 0.2, 1, 10, 80):
        x = np.maximum(np.sqrt(np.random.default_rng(3).gamma(m, 1 / m, 3000)), 1e-5)
        np.testing.assert_allclose(fit(x, method="mle")[0], reference.nakagami(x, method="mle")[0], rtol=3e-5)


TABLE = [  # m, N, then mean and sd of each method
    (.5, 25, (.648, .247), (.549, .144), (.555, .148)), (.5, 400, (.512, .060), (.503, .030), (.503, .031)),
    (1., 25, (1.219, .424), (1.110, .314), (1.116, .319)), (1., 100, (1.065, .199), (1.027, .133), (1.030, .136)),
    (1., 400, (1.014, .100), (1.007, .064), (1.007, .066)), (2., 400, (2.020, .172), (2.014, .132), (2.014, .135))]


@pytest.mark.parametrize("m, n, moments, mle, closed_form", TABLE)
def test_simulation_table(m, n, moments, mle, closed_form):
    x = np.sqrt(np.random.default_rng(4).gamma(m, 1 / m, (3000, n)))
    for method, (mean, sd) in zip(METHODS, (moments, mle, closed_form), strict=True):
        got = np.asarray(fit(x, method=method, axis=1)[0])
        np.testing.assert_allclose(got.mean(), mean, rtol=0.05, err_msg=method)
        np.testing.assert_allclose(got.std(), sd, rtol=0.20, err_msg=method)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.20])
def test_zeros_do_not_enter_logarithms(share):
    x = np.concatenate([even_sample(1.0), np.zeros(int(20000 * share / (1 - share)))])
    for method, m in zip(METHODS, ((1 - share) / (1 + share), 1, 1), strict=True):
        np.testing.assert_allclose(fit(x, method=method), [m, 1 - share], rtol=0.01, err_msg=method)


def test_bright_outliers_and_mixtures_read_low():
    x = even_sample(1.0)
    thousandth, hundredth = (np.concatenate([x, np.full(n, 10.0)]) for n in (20, 202))  # 20 dB above the rms
    for sample, wanted in ((thousandth, (0.112, 0.88, 0.727)), (hundredth, (0.0404, 0.52, 0.328)),
                           (np.concatenate([x, 2 * x]), (0.581, 0.748, 0.706))):  # two tissues 6 dB apart
        for method, m in zip(METHODS, wanted, strict=True):
            np.testing.assert_allclose(fit(sample, method=method)[0], m, rtol=0.03, err_msg=method)


@pytest.mark.parametrize("method", METHODS)
def test_degenerate_input_stays_finite(method):
    f = jax.jit(jax.value_and_grad(lambda x, w: sum(fit(x, w, method=method)), argnums=(0, 1)))
    ones = np.ones(50)
    for x in (ones, 0.37 * ones, 0 * ones, np.eye(50)[3], 1e-4 * ones, 1 - 1e-6 * np.arange(50)):
        for w in (ones, 0 * ones, np.eye(50)[3], np.eye(50)[7]):
            value, gradients = f(x, w)
            assert np.isfinite(value) and value >= 0 and all(np.all(np.isfinite(g)) for g in gradients)
    m, omega = fit(0.5 * ones, method=method)
    assert m > 1e3 and abs(omega - 0.25) < 1e-5  # no spread at all: the cap lies far above any tissue
    np.testing.assert_array_equal(fit(ones, 0 * ones, method=method), 0)  # nothing to fit


@pytest.mark.parametrize("method", METHODS)
def test_gradient_of_fit(method):
    rng = np.random.default_rng(5)
    x, w = np.float32(rng.uniform(0.3, 1.5, 12)), np.float32(rng.uniform(0.5, 1, 12))
    check_grads(partial(fit, method=method), (x, w), order=1, atol=2e-2, rtol=2e-2, eps=1e-2)
    narrow, step = 0.9 + 0.2 * x, 1e-5 * np.eye(12)  # m is about 50
    ends = [[reference.nakagami(row, method=method)[0] for row in narrow + s] for s in (step, -step)]
    want = np.subtract(*ends) / 2e-5
    np.testing.assert_allclose(jax.grad(lambda x: fit(x, method=method)[0])(narrow), want, atol=4e-3 * abs(want).max())
    gradient = jax.grad(lambda x: sum(fit(x, w * (np.arange(12) != 4), method=method)))(x)
    assert gradient[4] == 0 and np.all(gradient[5:] != 0)


GRAY = [(1, 60, 10, 21.2, 8.5), (1, 60, 30, 8.1, 5.0), (1, 40, 30, 1.37, 1.74), (.4, 60, 10, 5.7, 3.8),
        (.4, 60, 30, 2.5, 2.3), (1.5, 60, 30, 13.5, 6.8)]


@pytest.mark.parametrize("m, dynamic_range, below_white, m_gray, snr", GRAY)
def test_moments_of_gray_levels_are_not_those_of_the_envelope(m, dynamic_range, below_white, m_gray, snr):
    envelope = even_sample(m) * 10 ** (-below_white / 20)
    gray = np.asarray(nakagami.log_compress(envelope, dynamic_range=dynamic_range))
    assert gray.min() >= 0 and gray.max() <= 1
    np.testing.assert_allclose(fit(gray)[0], m_gray, rtol=0.1)
    np.testing.assert_allclose(gray.mean() / gray.std(), snr, rtol=0.1)
    if below_white == 30 and m == 1 and dynamic_range == 60:  # hardly a pixel is clipped: decompression brings m back
        np.testing.assert_allclose(fit(nakagami.decompress(gray, dynamic_range=60.0))[0], 1, rtol=0.02)


def test_log_compression_by_hand():
    envelope = np.array([0, 1e-9, 1e-3, 10**-1.5, 0.1, 1, 5])
    want = [0, 0, 0, 0.5, 2 / 3, 1, 1]
    np.testing.assert_allclose(nakagami.log_compress(envelope, dynamic_range=60.0), want, atol=1e-6)
    np.testing.assert_allclose(nakagami.log_compress(7 * envelope, dynamic_range=60.0, reference=7.0), want, atol=1e-6)
    np.testing.assert_allclose(nakagami.decompress(np.array([0.5, 0.75, 1]), dynamic_range=40.0), [0.1, 10**-0.5, 1], rtol=1e-5)
    assert 0 <= nakagami.decompress(np.array([0.0]), dynamic_range=40.0)[0] <= 0.0101
    gradient = jax.grad(lambda x: nakagami.log_compress(x, dynamic_range=60.0).sum())(jnp.asarray(envelope, jnp.float32))
    assert np.all(np.isfinite(gradient))


def test_parameter_map():
    rng = np.random.default_rng(6)
    x = np.sqrt(rng.gamma(1.0, 1.0, (24, 30))).astype(np.float32) * np.where(np.arange(30) < 15, 0.2, 0.5).astype(np.float32)
    valid = np.ones((24, 30))
    valid[6:11, 4:9] = 0
    m, omega = jax.jit(partial(nakagami.parameter_map, window=7))(x, valid)
    assert m.shape == omega.shape == (24, 30)
    for y, z in ((3, 3), (12, 12), (20, 26), (11, 6), (4, 9), (12, 0), (23, 15), (0, 20), (0, 29)):  # inside, at hole, edges, corner
        block = np.s_[max(y - 3, 0):y + 4, max(z - 3, 0):z + 4]
        want = reference.nakagami(x[block], valid[block])
        np.testing.assert_allclose([m[y, z], omega[y, z]], [np.clip(want[0], .05, 10), want[1]], rtol=2e-3)
    assert m[8, 6] == omega[8, 6] == 0  # 24 of 49 pixels are valid: less than half
    assert np.all(np.isfinite(m)) and np.all(np.isfinite(omega))
    np.testing.assert_allclose(nakagami.parameter_map(x, window=7)[0][15:, 12:], m[15:, 12:], rtol=1e-3)
    flat = np.array(nakagami.parameter_map(np.full((9, 9), 0.5), window=3))[:, 1:-1, 1:-1]
    np.testing.assert_allclose(flat.mean(axis=(1, 2)), [10, 0.25], rtol=1e-5)  # the map's ceiling
    assert np.ptp(flat, axis=(1, 2)).max() < 1e-5
