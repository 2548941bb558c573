"""Changes that an ultrasound machine or a patient's tissue makes to a picture.

A B-mode picture is the logarithm of the echo: with a dynamic range of R dB, a grey value of 1 stands R dB above 0. A change of the echo
by a decibels is therefore a shift of the grey value by a / R. Pixels that are exactly 0 (outside the sector, or below the display's
floor) hold no echo and stay 0 under every change but haze.

Every function takes (key, image [N, H, W, C] in [0, 1]), draws per image, and returns the same shape clipped to [0, 1], float32. Row 0
lies at the probe. `probability` is the chance that an image changes at all; those that do not return exactly as they came. Ranges are
(low, high) of a uniform draw.
"""
import jax
import jax.numpy as jnp
import numpy as np


def _uniform(key, image, limits):
    return jax.random.uniform(key, (len(image), 1, 1, 1), minval=limits[0], maxval=limits[1])


def _some(key, probability, image, changed):
    chosen = jax.random.bernoulli(key, probability, (len(image), 1, 1, 1))
    return jnp.where(chosen, jnp.clip(changed, 0.0, 1.0), image)


def _shift(image, decibels, dynamic_range):
    return jnp.where(image > 0, image + decibels / dynamic_range, image)


def _axes(image):
    """Pixel centres as shares of depth [1, H, 1, 1] and of width [1, 1, W, 1]."""
    _, height, width, _ = image.shape
    return ((jnp.arange(height) + 0.5) / height)[None, :, None, None], ((jnp.arange(width) + 0.5) / width)[None, None, :, None]


def depth_attenuation(key, image, *, probability=1.0, decibels=(0.0, 20.0), dynamic_range=60.0) -> jax.Array:
    """Echoes weaken in proportion to depth: by nothing at the probe, by the drawn number of decibels at the lower edge.

    Known values: 12 dB of 60 lower a grey value at half depth by 0.1.
    """
    choose, draw = jax.random.split(key)
    depth, _ = _axes(image)
    return _some(choose, probability, image, _shift(image, -_uniform(draw, image, decibels) * depth, dynamic_range))


def gain(key, image, *, probability=1.0, decibels=(-6.0, 6.0), dynamic_range=60.0) -> jax.Array:
    """All echoes louder or softer. Known values: 6 dB of 60 raise every grey value by 0.1, up to 1."""
    choose, draw = jax.random.split(key)
    return _some(choose, probability, image, _shift(image, _uniform(draw, image, decibels), dynamic_range))


def shadow(
    key, image, *, probability=1.0, decibels=(10.0, 30.0), width=(0.05, 0.25), depth=(0.0, 0.5), spread=(0.5, 2.0), soft=0.02,
    dynamic_range=60.0,
) -> jax.Array:
    """The dark band behind bone, stone or gas: echoes below a reflector lose the drawn number of decibels.

    The ray through (x, y), shares of width and depth, leaves the probe at u = 1/2 + (x - 1/2) / (1 + s y); it is in the shadow where u is
    within `width` / 2 of a centre drawn uniformly over the picture, and y below a start drawn from `depth`. Edges are logistic with scale
    `soft`. In half of the images rays run straight down (s = 0, a linear probe), in the others they fan out with s drawn from `spread`.

    Args: width, depth, soft in shares of the picture's side; spread without unit (the beam is 1 + s times as wide at the lower edge).
    """
    keys = jax.random.split(key, 7)
    y, x = _axes(image)
    fan = jnp.where(jax.random.bernoulli(keys[1], 0.5, (len(image), 1, 1, 1)), _uniform(keys[2], image, spread), 0.0)
    ray = 0.5 + (x - 0.5) / (1 + fan * y)
    half = _uniform(keys[3], image, width) / 2
    across = jax.nn.sigmoid((half - jnp.abs(ray - _uniform(keys[4], image, (0.0, 1.0)))) / soft)
    below = jax.nn.sigmoid((y - _uniform(keys[5], image, depth)) / soft)
    return _some(keys[0], probability, image, _shift(image, -_uniform(keys[6], image, decibels) * across * below, dynamic_range))


def haze(key, image, *, probability=1.0, strength=(0.05, 0.25), cells=4) -> jax.Array:
    """Clutter: a smooth fog is added, 0 where thinnest and the drawn grey value where thickest; also over black, as in a cyst.

    The fog is a `cells` x `cells` grid of normal noise brought to full size bicubically, then stretched to [0, 1].
    """
    choose, draw, noise = jax.random.split(key, 3)
    n, height, width, _ = image.shape
    fog = jax.image.resize(jax.random.normal(noise, (n, cells, cells, 1)), (n, height, width, 1), "cubic")
    low, high = fog.min((1, 2, 3), keepdims=True), fog.max((1, 2, 3), keepdims=True)
    fog = (fog - low) / jnp.maximum(high - low, 1e-6)
    return _some(choose, probability, image, image + fog * _uniform(draw, image, strength))


def rayleigh_field(key, n, height, width, *, axial=1.0, lateral=1.5) -> jax.Array:
    """[n, height, width, 1] magnitude of complex normal noise under a Gaussian of these standard deviations [pixels]; mean square 1.

    Known values: fully developed speckle, mean / standard deviation = 1.913, standard deviation of the level 5.57 dB.
    """
    down, across = _smoothing(height, axial), _smoothing(width, lateral)
    # Noise reaches beyond the picture by the kernel, so the field is as rough at its border as inside. Two products of matrices, because
    # of a sum of shifted fields XLA makes one loop that draws the noise anew for every tap.
    field = jax.random.normal(key, (n, down.shape[1], across.shape[1], 2))
    field = jnp.einsum("hi,nijc,wj->nhwc", down, field, across, precision=jax.lax.Precision.HIGHEST)
    return jnp.sqrt(jnp.square(field).mean(axis=-1, keepdims=True))


def _smoothing(size: int, sigma: float) -> np.ndarray:
    """[size, size + 2 reach] matrix that lays a Gaussian of unit energy along an axis: variance stays 1."""
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    matrix = np.zeros((size, size + 2 * reach), np.float32)
    for i, tap in enumerate(kernel / np.sqrt((kernel**2).sum())):
        matrix[np.arange(size), np.arange(size) + i] = tap
    return matrix


def speckle(key, image, *, probability=1.0, strength=(0.1, 0.5), axial=1.0, lateral=1.5, dynamic_range=60.0) -> jax.Array:
    """Echoes are multiplied by r^strength, r correlated Rayleigh noise from `rayleigh_field`: grey + strength 20 log10(r) / R.

    strength has no unit: 1 is the speckle of a second, independent medium. r is floored at -40 dB, so no pixel moves without bound.
    """
    choose, draw, noise = jax.random.split(key, 3)
    n, height, width, _ = image.shape
    level = 20 * jnp.log10(jnp.maximum(rayleigh_field(noise, n, height, width, axial=axial, lateral=lateral), 1e-2))
    return _some(choose, probability, image, _shift(image, _uniform(draw, image, strength) * level, dynamic_range))


CHANGES = {"speckle": speckle, "attenuation": depth_attenuation, "shadow": shadow, "haze": haze, "gain": gain}  # in the echo's order


def ultrasound(key, image, *, attenuation=0.0, gain=0.0, shadow=0.0, haze=0.0, speckle=0.0) -> jax.Array:
    """All changes of this file, in the order in which an echo meets them (speckle, attenuation, shadow, haze, gain), each by chance.

    Args: key; image [N, H, W, C] in [0, 1]; for each change the probability that an image undergoes it, a plain number. At 0 the change
      is left out of the program. The draws of the others do not depend on it.

    Known values: all probabilities 0 return the image exactly.
    """
    chance = {"attenuation": attenuation, "gain": gain, "shadow": shadow, "haze": haze, "speckle": speckle}
    for step, (name, change) in zip(jax.random.split(key, len(CHANGES)), CHANGES.items(), strict=True):
        if chance[name]:
            image = change(step, image, probability=chance[name])
    return image
