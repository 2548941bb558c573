"""The phantom's physics against closed forms: point spread, Nakagami speckle, attenuation, log compression, the fan."""
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage, special, stats

from uscl.phantom import echo, kidney, physics
from uscl.phantom.scan import Fan, scan_convert


def generator(seed=0):
    return np.random.Generator(np.random.Philox(seed))


def test_beam_is_narrowest_at_the_focus():
    fwhm = physics.FWHM * physics.beam_sigma(np.array([20.0, 60.0, 140.0]), focus=60.0, waist=3.0, spread=0.05)
    np.testing.assert_allclose(fwhm, [np.sqrt(13.0), 3.0, 5.0])


def test_point_spread_function_is_the_gaussian_asked_for():
    point = np.zeros((64, 64))
    point[20, 30] = 1.0
    width = np.linspace(1.0, 4.0, 64)
    spread = physics.smooth(point, 2.0, width)
    rows, beams = np.mgrid[:64, :64]
    expected = np.exp(-0.5 * ((rows - 20) / 2.0) ** 2 - 0.5 * ((beams - 30) / width[:, None]) ** 2)
    np.testing.assert_allclose(spread, expected / (2 * np.pi * 2.0 * width[:, None]), atol=2e-5)


def test_blur_keeps_the_power_of_noise():
    rng = generator()
    noise = rng.standard_normal((200, 64, 48)) + 1j * rng.standard_normal((200, 64, 48))
    out = physics.blur(noise, 1.5, np.linspace(0.8, 5.0, 64))
    power = np.mean(np.abs(out) ** 2, axis=(0, 2)) / 2.0
    assert abs(power.mean() - 1.0) < 0.02 and np.abs(power - 1.0).max() < 0.2


def test_scatterers_are_correlated_gaussian_noise():
    field = physics.scatterers(generator(), (64, 64, 32), 0.8)
    assert field.dtype == np.complex64
    assert abs(np.mean(np.abs(field) ** 2) - 1.0) < 0.02 and abs(np.mean(field)) < 0.02
    for axis in range(3):
        for lag in (1, 2):
            value = np.mean(field * np.conj(np.roll(field, lag, axis))).real
            assert abs(value - np.exp(-(lag**2) / (4 * 0.8**2))) < 0.02
    assert abs(physics.moments(np.abs(field))[0] - 1.0) < 0.05


@pytest.mark.parametrize("m", [0.4, 0.7, 1.0, 1.6, 3.0])
def test_envelope_table_is_the_gamma_quantile(m):
    table = physics.envelope_table([m])[0]
    rayleigh = np.linspace(0, 4.5, 1024)[1:900]
    expected = stats.nakagami.ppf(-np.expm1(-(rayleigh**2)), m)  # from the lower tail, where ours comes from the upper
    good = rayleigh < 4.0
    np.testing.assert_allclose(table[1:900][good], expected[good], rtol=2e-4)


def test_unit_envelope_has_the_moments_and_law_asked_for():
    rng, m, omega = generator(), np.array([0.45, 0.8, 1.0, 1.5, 2.5]), np.array([0.1, 4.0, 1.0, 2.0, 0.5])
    z = rng.standard_normal((64, 96, 80)) + 1j * rng.standard_normal((64, 96, 80))
    z = physics.blur(z, 1.2, np.linspace(1.0, 2.5, 96)) / np.sqrt(2)
    tissue = np.broadcast_to(np.arange(80) // 16, z.shape)
    out = physics.unit_envelope(z, tissue, m, omega)
    np.testing.assert_allclose(np.angle(out), np.angle(z), atol=1e-6)
    for k in range(5):
        values = np.abs(out[tissue == k])
        power = values**2
        assert abs(power.mean() / omega[k] - 1.0) < 0.05
        assert abs(power.mean() ** 2 / power.var() / m[k] - 1.0) < 0.10
        log_moment = np.mean(np.log(power)) - np.log(omega[k]) + np.log(m[k])
        assert abs(log_moment - special.psi(m[k])) < 0.1  # the law, not the two moments alone
    identity = physics.unit_envelope(z[:1], tissue[:1] * 0, np.ones(1), np.ones(1))
    np.testing.assert_allclose(identity, z[:1], atol=2e-4)


def test_attenuation_is_two_way():
    alpha = np.full((100, 3), 0.5)
    loss = physics.attenuation_db(alpha, frequency=3.0, step=1.0)
    np.testing.assert_allclose(loss[-1], 30.0)  # 0.5 dB/cm/MHz, 10 cm there and back, 3 MHz
    np.testing.assert_allclose(np.diff(loss, axis=0), 0.3)


def test_log_compression_and_back():
    gray = physics.log_compress(np.array([1.0, 10.0**-1.5, 1e-3, 1e-9, 5.0]), dynamic_range=60.0)
    np.testing.assert_allclose(gray, [1.0, 0.5, 0.0, 0.0, 1.0], atol=1e-12)
    np.testing.assert_allclose(physics.log_compress(0.1, dynamic_range=50.0, gain=-5.0), 0.5)
    envelope = np.geomspace(0.02, 1.5, 9)
    gray = physics.log_compress(envelope, dynamic_range=60.0, gain=-8.0)
    back = physics.decompress(gray, dynamic_range=60.0, gain=-8.0)
    np.testing.assert_allclose(back, envelope, rtol=1e-12)


def test_speckle_fades_as_the_plane_leaves_its_slice():
    _, exam, _ = kidney._draw(0, 0, 1)
    exam = replace(exam, focus=60.0, slice=4.0)
    fan, steps = Fan(64, 50.0, 1.0, 120.0, rows=128, beams=80), np.array([0.0, 1.0, 2.0, 3.0, 6.0])
    origin = np.stack([0 * steps, 0 * steps, steps], -1)
    found = []
    for seed in range(6):
        z = echo.speckle(generator(seed), fan, exam, (origin, np.broadcast_to(np.eye(3), (5, 3, 3)), np.zeros((5, 3))))
        assert np.abs(np.mean(np.abs(z[:, 30:-30]) ** 2) - 1.0) < 0.1
        found.append(np.mean(z[:, 40:90] * np.conj(z[:1, 40:90]), axis=(1, 2)).real)
    sigma2 = (0.82 * 4.0 / physics.FWHM) ** 2 + echo.GRAIN**2
    np.testing.assert_allclose(np.mean(found, 0), np.exp(-(steps**2) / (4 * sigma2)), atol=0.08)


# ---- the fan ----


def test_scan_conversion_keeps_depth_and_angle():
    fan = Fan(96, radius=50.0, angle=np.deg2rad(64), depth=120.0, rows=192, beams=112)
    depths = np.broadcast_to(fan.depths()[:, None], (192, 112))
    angles = np.broadcast_to(fan.angles(), (192, 112))
    depth, angle = scan_convert(np.stack([depths, angles]), fan)
    x, y = fan.pixel_xy()
    r, turn = np.hypot(x, y + 50.0), np.arctan2(x, y + 50.0)
    inner = (r > 52.0) & (r < 168.0) & (np.abs(turn) < np.deg2rad(31))
    np.testing.assert_allclose(depth[inner], r[inner] - 50.0, atol=1e-3)
    np.testing.assert_allclose(angle[inner], turn[inner], atol=1e-5)


def test_a_reflector_lands_where_it_lies():
    fan = Fan(96, radius=50.0, angle=np.deg2rad(64), depth=120.0, rows=192, beams=112)
    polar = np.zeros((192, 112))
    polar[100, 84] = 1.0
    r, angle = 50.0 + 100.5 * 120.0 / 192, (84.5 / 112 - 0.5) * np.deg2rad(64)
    x, y = r * np.sin(angle), r * np.cos(angle) - 50.0
    image = scan_convert(polar, fan)
    row, column = ndimage.center_of_mass(image)
    top = 1.0 + 50.0 * (1 - np.cos(np.deg2rad(32))) / fan.mm_per_pixel  # the row of y = 0
    assert abs(column - (47.5 + x / fan.mm_per_pixel)) < 0.5 and abs(row - (top + y / fan.mm_per_pixel)) < 0.5


def test_fan_fills_the_height():
    fan = Fan(96, radius=50.0, angle=np.deg2rad(64), depth=120.0, rows=192, beams=112)
    rows = np.flatnonzero(fan.pixel_polar()[2].any(axis=1))
    assert rows[0] in (1, 2) and rows[-1] in (93, 94)
    assert not fan.pixel_polar()[2][0].any()
    apex = fan.pixel_polar()[2][:, 47]
    assert apex.sum() * fan.mm_per_pixel == pytest.approx(120.0, abs=1.5 * fan.mm_per_pixel)
