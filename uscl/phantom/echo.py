"""What the probe hears: speckle fixed in the tissue, the power of every spot, losses on the way, and noise."""
import numpy as np
from scipy import ndimage

from uscl.phantom import physics
from uscl.phantom.patient import CORTEX

VOXEL = 0.6  # mm of the scatterers' lattice
LATTICE = (128, 128, 64)  # powers of two: the lattice is periodic, and its index is taken with a bit mask
GRAIN = 0.5  # mm, sigma of the lattice's own correlation
SLICES = np.linspace(-1.6, 1.6, 5)  # planes across the slice, in sigmas
# A rotation (of quaternion 8, 2, 1, 2): the lattice lies askew, or all of a plane would cross into new voxels at once.
OBLIQUE = np.array([[63, -28, 24], [36, 57, -28], [-8, 36, 63]]) / 73.0
# dB/cm/MHz, in the order of TISSUES
ALPHA = np.array([0.60, 0.50, 0.45, 0.70, 0.50, 0.55, 0.75, 0.65, 0.05, 4.0, 0.9])
# texture of a tissue: standard deviation [neper of power] and grain along x, y, z [mm]
TEXTURE = np.array(
    [
        [1.2, 8, 2.5, 8], [0.25, 4, 3, 4], [0.2, 4, 3, 4], [1.0, 3.5, 2.2, 3.5], [0.25, 5, 3.5, 5], [1.1, 7, 2.5, 7],
        [1.0, 12, 1.4, 9], [0.8, 10, 1.2, 9], [0.0, 5, 5, 5], [1.0, 6, 3, 6], [1.6, 9, 3, 9],
    ]
)  # fmt: skip


def points(x, y, origin, axes, breath):
    """Tissue coordinates [3, ...] under the plane's x, y [...]: breathing moves what lies deeper than the muscles."""
    slide = np.clip((y - 15.0) / 25.0, 0.0, 1.0)
    return np.stack([origin[a] + x * axes[0, a] + y * axes[1, a] - slide * breath[a] for a in range(3)])


def spread(exam, fan):
    """Sigmas of the point spread in samples of the polar grid: the pulse's, and the beam's in every row [R]."""
    lateral = physics.beam_sigma(fan.depths(), focus=exam.focus, waist=exam.waist, spread=exam.spread)
    return exam.axial / physics.FWHM / fan.step, lateral / ((fan.radius + fan.depths()) * fan.angle / fan.beams)


def speckle(rng, fan, exam, plane):
    """Complex speckle of power 1 [T, R, L]: the lattice read across the slice of every plane, then pulse and beam."""
    lattice = physics.scatterers(rng, LATTICE, GRAIN / VOXEL).ravel()
    depths, (x, y), turn = fan.depths(), fan.polar_xy(), OBLIQUE / VOXEL
    slab = exam.slice / physics.FWHM * (0.8 + 0.004 * np.abs(depths - exam.focus))[:, None]
    weights = np.exp(-0.5 * SLICES**2)
    z, shift = np.zeros((len(plane[0]), *x.shape), complex), rng.uniform(1e4, 1e4 + 100, 3)
    for out, origin, axes, breath in zip(z, *plane, strict=True):
        base = points(x, y, turn @ origin + shift, axes @ turn.T, turn @ breath)
        across = turn @ axes[2]
        for weight, offset in zip(weights, SLICES, strict=True):
            i, j, k = ((base[a] + (offset * across[a]) * slab).astype(np.int32) for a in range(3))
            out += weight * lattice[((i & 127) << 13) | ((j & 127) << 6) | (k & 63)]
    z = physics.blur(z, *spread(exam, fan))
    power = ndimage.gaussian_filter1d(np.mean(z.real**2 + z.imag**2, axis=(0, 2)), 4.0, mode="nearest")
    return z / np.sqrt(power)[:, None]


def reflect(rng, patient, exam, fan, tissue, radius, where):
    """Power [T, R, L] of every echo: the tissue's with its texture, and the capsule's where it faces the beam."""
    coarse = ndimage.gaussian_filter(rng.standard_normal((48, 48, 48)), 1.0, mode="wrap")
    coarse /= coarse.std()
    field = np.empty(tissue.shape)
    for t, kind in enumerate(tissue):
        spots = where[t] * (1.0 / TEXTURE.T[1:])[:, kind]
        field[t] = ndimage.map_coordinates(coarse, spots, order=1, mode="grid-wrap")
    level = 10.0 ** (patient.level / 10.0)
    power = level[tissue] * np.exp(TEXTURE[:, 0][tissue] * field)
    facing = np.clip(np.abs(np.gradient(radius, fan.step, axis=1)) * patient.axes[1], 0.0, 1.2) ** 3
    surface = facing * np.exp(-(((radius - 1.0) * patient.axes[1] - 0.8) ** 2))  # a mm thick, just outside
    power += exam.specular * 4.0 * level[CORTEX] * surface
    axial, lateral = spread(exam, fan)
    power = physics.smooth(power, axial / np.sqrt(2), lateral / np.sqrt(2))  # the squared point spread mixes powers
    return np.maximum(power, 1e-6)


def loss_db(exam, fan, tissue, x, under):
    """Loss [dB, T, R, L] by attenuation, imperfect TGC, ribs (`under` mm deep) and contact, and the TGC [R]."""
    depths, (slope, knots) = fan.depths(), exam.tgc
    loss = physics.attenuation_db(ALPHA[tissue], frequency=exam.frequency, step=fan.step)
    error = np.interp(depths, np.linspace(0, fan.depth, len(knots)), knots)
    tgc = 0.2 * exam.frequency * slope * depths + ndimage.gaussian_filter1d(error, fan.rows / 12, mode="nearest")
    loss = np.minimum(loss - tgc[:, None], 45.0)
    row = int(under / fan.step)
    for spot, half, strength in exam.ribs:
        shade = 1.0 / (1.0 + np.exp((np.abs(x[:, row] - spot) - half) / 1.2))
        loss[:, row:] += (strength * shade)[:, None]
        loss[:, row : row + 2] -= ((strength + 9.0) * shade)[:, None]  # the bone's own echo
    side, share, strength, first, last = exam.contact
    if side:
        edge = (side * fan.angles() / fan.angle + 0.5 - (1.0 - share)) * 25.0
        time = np.linspace(0, 1, len(tissue))
        on = np.clip(6 * (time - first), 0, 1) * np.clip(6 * (last - time), 0, 1)
        loss += strength * on[:, None, None] / (1.0 + np.exp(-edge))
    return loss, tgc


def double_rows(a):
    """Linear interpolation of [..., R, L] to [..., 2R, L], sample centres kept in place."""
    up, down = np.concatenate([a[..., :1, :], a[..., :-1, :]], -2), np.concatenate([a[..., 1:, :], a[..., -1:, :]], -2)
    return np.stack([0.75 * a + 0.25 * up, 0.75 * a + 0.25 * down], -2).reshape(*a.shape[:-2], -1, a.shape[-1])


def interfere(rng, z, exam, fan, amplitude, tgc):
    """Adds to the echo `z` [T, R, L], in place, what is not the tissue's: side echoes, haze near the probe, noise."""
    still = rng.standard_normal((2, fan.rows, fan.beams))  # one for all frames: haze stands still in the picture
    still = physics.blur(still[0] + 1j * still[1], 1.2, 6.0) / np.sqrt(2)
    level, decay = exam.haze
    leak = double_rows(physics.smooth(amplitude, 0.5, 9.0) * exam.clutter)
    z += still * (leak + 10.0 ** (level / 20.0) * np.exp(-fan.depths() / decay)[:, None])
    rise = double_rows(10.0 ** ((exam.noise + tgc - tgc[-1]) / 20.0)[:, None]) / np.sqrt(2)  # by the TGC
    z += rise * rng.standard_normal((*z.shape, 2)).view(complex)[..., 0]
