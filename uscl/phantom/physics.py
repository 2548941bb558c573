"""Speckle, the point-spread function, attenuation and log compression: small pure functions in NumPy float64.

A polar image is [..., R, L]: R samples along the beam, L beams. The chain is: scatterers fixed in the tissue ->
`blur` (the pulse and the beam) -> `unit_envelope` (Nakagami with the tissue's m and Omega) -> attenuation, noise ->
`log_compress`. What the chain does to the m that is estimated is the table in `uscl.phantom.kidney.speckle_stages`.
"""
import numpy as np
from scipy import fft, special

FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))  # full width at half maximum of a Gaussian of sigma 1


def beam_sigma(depth, *, focus, waist, spread):
    """Gaussian sigma [mm] of the beam at `depth` [mm]: FWHM = hypot(waist, spread * (depth - focus)), all in mm.

    Known values: at the focus the FWHM is the waist; far from it the beam opens as spread * |depth - focus|.
    """
    return np.hypot(waist, spread * (np.asarray(depth, float) - focus)) / FWHM


def _transfer(count, sigma):
    """Transfer function [..., count] of a circular Gaussian of `sigma` [...] samples: exp(-(2 pi f sigma)^2 / 2)."""
    return np.exp(-0.5 * (2.0 * np.pi * fft.fftfreq(count) * np.asarray(sigma, float)[..., None]) ** 2)


def smooth(field, axial, lateral):
    """Gaussian filter of a polar image [..., R, L], circular, sum 1: sigma `axial` and `lateral` in samples.

    `lateral` is a scalar or one value per row [R], which is how a beam grows away from its focus. Real in, real out.
    """
    rows, beams = field.shape[-2:]
    out = fft.ifft(fft.fft(field, axis=-2) * _transfer(rows, axial)[:, None], axis=-2)
    gain = np.broadcast_to(_transfer(beams, lateral), (rows, beams))
    out = fft.ifft(fft.fft(out, axis=-1) * gain, axis=-1)  # last, so that every row keeps the width of its own depth
    return out if np.iscomplexobj(field) else out.real


def blur(field, axial, lateral):
    """`smooth` scaled so that white noise keeps its variance: the point-spread function acting on scatterers."""
    rows, beams = field.shape[-2:]
    energy = np.mean(_transfer(beams, lateral) ** 2, -1) * np.mean(_transfer(rows, axial) ** 2)
    return smooth(field, axial, lateral) / np.sqrt(np.broadcast_to(energy, rows))[:, None]


def scatterers(rng, shape, sigma):
    """Periodic complex Gaussian noise of variance 1 on a lattice, complex64 `shape`, smoothed by `sigma` voxels.

    Voxels d apart correlate as exp(-d^2 / (4 sigma^2)), so a moving plane may read the nearest one without flicker.
    """
    noise = rng.standard_normal((*shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    for axis, count in enumerate(shape):
        gain = _transfer(count, sigma)
        gain = (gain / np.sqrt(np.mean(gain**2))).astype(np.float32)
        noise *= gain.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return fft.ifftn(noise, overwrite_x=True) * np.float32(np.sqrt(noise.size / 2.0))


def envelope_table(m, *, bins=1024, top=4.5):
    """Envelope [K, bins] of Nakagami(m_k, 1) where a Rayleigh envelope of the same quantile is top * b / (bins - 1)."""
    rayleigh = np.linspace(0.0, top, bins)
    survival = np.exp(-(rayleigh**2))[None]  # the upper tail, where 1 - survival would lose its digits
    shape = np.asarray(m, float)[:, None]
    return np.sqrt(special.gammainccinv(shape, survival) / shape)


def unit_envelope(z, tissue, m, omega):
    """Nakagami speckle: complex Gaussian `z` of power 1 to the same phase with envelope ~ Nakagami(m, omega).

    |z|^2 is exponential; it is mapped by quantile to Gamma(shape m, scale omega / m), whose root is the envelope. The
    map is monotone, so the speckle keeps its grain. z [...] complex; tissue [...] int, the index into m and omega [K];
    returns complex128 [...].
    Known values: m = omega = 1 returns z; E|.|^2 = omega and E[|.|^2]^2 / Var|.|^2 = m per tissue.
    """
    table, top = envelope_table(m), 4.5
    modulus = np.abs(z)
    place = np.minimum(modulus * ((table.shape[1] - 1) / top), table.shape[1] - 1.001)
    low = place.astype(np.intp)
    flat = np.asarray(tissue, np.intp) * table.shape[1] + low
    table = table.ravel()
    envelope = table[flat] + (place - low) * (table[flat + 1] - table[flat])
    return z * (envelope * np.sqrt(np.asarray(omega, float))[tissue] / np.maximum(modulus, 1e-12))


def attenuation_db(alpha, *, frequency, step):
    """Two-way loss [dB] down to each sample of a polar map: 2 f * sum over the samples above of alpha * step / 10.

    alpha [..., R, L] in dB/cm/MHz, frequency in MHz, step in mm. Known value: 0.5 dB/cm/MHz, 3 MHz, 10 cm -> 30 dB.
    """
    return np.cumsum(alpha, axis=-2) * (0.2 * frequency * step)


def log_compress(envelope, *, dynamic_range, gain=0.0):
    """Gray in [0, 1]: clip(1 + (20 log10 envelope + gain) / dynamic_range), both in dB; 1 at gain 0 is white."""
    decibel = 20.0 * np.log10(np.maximum(envelope, 1e-12))
    return np.clip(1.0 + (decibel + gain) / dynamic_range, 0.0, 1.0)


def decompress(gray, *, dynamic_range, gain=0.0):
    """Inverse of `log_compress`: 10^((dynamic_range (gray - 1) - gain) / 20); gray 0 and 1 are censored."""
    return 10.0 ** ((dynamic_range * (np.asarray(gray, float) - 1.0) - gain) / 20.0)


def moments(envelope):
    """Nakagami's m = E[x^2]^2 / Var[x^2] and Omega = E[x^2] by moments, over all values of `envelope`."""
    power = np.asarray(envelope, float).ravel() ** 2
    mean = power.mean()
    return mean**2 / np.maximum(np.mean((power - mean) ** 2), 1e-300), mean
