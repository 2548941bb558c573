"""Grey values of a labelled patch, changed as nnU-Net changes them (Isensee et al. 2021, version 2.8.1 of the code), its numbers given.

All of it works on planes [P, H, W], float32: one channel of one sample each, in any unit (nnU-Net's are z-scores). A parameter is [P],
and one of its values changes nothing, bit for bit: a plane gets it that drew no change. Nothing here is random but the noise itself; the
ranges and the probabilities are in `uscl.augment.nnunet`.
"""
import jax
import jax.numpy as jnp

REACH = 3  # pixels: half the widest kernel of a blur, that of a standard deviation of 1


def _spread(value):
    return value[:, None, None]


def noise(key, image, deviation) -> jax.Array:
    """image + deviation * N(0, 1), independent in every pixel. deviation [P] in the image's unit; 0 changes nothing."""
    return image + _spread(deviation) * jax.random.normal(key, image.shape)


def taps(sigma) -> jax.Array:
    """[..., 7] weights of a Gaussian of standard deviation sigma [pixels] at -3, .., 3, summing to 1.

    The original's kernel has the odd number of taps next to 6 sigma + 1/2: here 3, 5 or 7, and weight 0 beyond.

    Args: sigma [...] below 1.083, where a ninth tap would be due; 0 or less stands for no blur.

    Known values: sigma 0.5 gives (0.1065, 0.7870, 0.1065) in the middle; 7 taps from 11/12 on; sigma 0 gives 1 in the middle alone.
    """
    offset = jnp.arange(-REACH, REACH + 1)
    length = 6 * sigma[..., None] + 0.5
    half = jnp.where(length < 4, 1, jnp.where(length < 6, 2, REACH))
    half = jnp.where(sigma[..., None] > 0, half, 0)
    weight = jnp.where(jnp.abs(offset) <= half, jnp.exp(-0.5 * (offset / jnp.maximum(sigma[..., None], 1e-3)) ** 2), 0.0)
    return weight / weight.sum(axis=-1, keepdims=True)


def blur(image, sigma) -> jax.Array:
    """Gaussian blur, along rows and then along columns; borders reflect without repeating the border pixel.

    Args: image [P, H, W], H and W at least 4; sigma [P, 2] (down, across) [pixels], see `taps`; 0 changes nothing.

    Known values: a single 1 becomes the product of two kernels of `taps`; a constant image stays.
    """
    for axis in (1, 2):
        side, weight = image.shape[axis], taps(sigma[:, axis - 1])
        reach = [(0, 0)] * 3
        reach[axis] = (REACH, REACH)
        wide = jnp.pad(image, reach, mode="reflect")
        image = sum(_spread(weight[:, t]) * jax.lax.slice_in_dim(wide, t, t + side, axis=axis) for t in range(2 * REACH + 1))
    return image


def contrast(image, factor) -> jax.Array:
    """mean + factor (x - mean), then clipped to the range the plane had. factor [P], without unit; 1 changes nothing.

    Known values: factor 1/2 halves a plane's standard deviation and keeps its mean; -1, 0, 4 under 1.25 become -1, -0.25, 4.
    """
    mean, low, high = (f(image, axis=(1, 2), keepdims=True) for f in (jnp.mean, jnp.min, jnp.max))
    return jnp.clip(image + (image - mean) * _spread(factor - 1), low, high)


def _coarse(size: int, scale):
    """For each of `size` pixels of an axis: the two pixels it is read from, and the second one's share. Three [P, size].

    In float32 as the original rounds it, so that the very pixels agree.
    """
    count = jnp.round(size * scale)[:, None]
    at = jnp.maximum((jnp.arange(size) + 0.5) * (count / size) - 0.5, 0)
    low = jnp.minimum(jnp.floor(at), count - 1)
    first, second = (
        jnp.minimum(jnp.floor((k + 0.5) * (size / count)), size - 1).astype(jnp.int32) for k in (low, jnp.minimum(low + 1, count - 1))
    )
    return first, second, at - low


def low_resolution(image, scale) -> jax.Array:
    """What is left of a plane brought to round(scale * side) pixels and back: nearest pixel going down, bilinear coming up.

    Down, pixel k of n reads the source's floor((k + 1/2) side / n); up, pixel i reads (i + 1/2) n / side - 1/2, no lower than 0. Both are
    made at once, each result from four pixels of the source.

    Args: scale [P] in (0, 1], both axes alike; 1 changes nothing.

    Known values: the ramp 0, 1, .., 7 at scale 1/2 keeps 1, 3, 5, 7 and becomes 1, 1.5, 2.5, .., 6.5, 7.
    """
    for axis in (1, 2):
        across = (slice(None), slice(None), None) if axis == 1 else (slice(None), None, slice(None))
        read = jax.vmap(lambda plane, index, axis=axis: jnp.take(plane, index, axis=axis - 1, mode="clip"))
        first, second, share = _coarse(image.shape[axis], scale)
        image = (1 - share[across]) * read(image, first) + share[across] * read(image, second)
    return image


def gamma(image, exponent, *, invert=False) -> jax.Array:
    """Grey values through a power: ((x - min) / range)^exponent * range + min, then brought back to the plane's own mean and deviation.

    invert: the same of -x, and the sign turned back, so that the bright end is bent instead of the dark one.

    Args: image [P, H, W]; exponent [P] > 0, without unit; 1 changes nothing.

    Known values: mean and standard deviation stay; a constant plane stays.
    """
    x = -image if invert else image
    low, high, mean, deviation = (f(x, axis=(1, 2), keepdims=True) for f in (jnp.min, jnp.max, jnp.mean, jnp.std))
    share = (x - low) / jnp.maximum(high - low, 1e-7)
    # exp(g log x) is x ** g for x >= 0, 0 included, and four times as fast on a CPU
    bent = jnp.exp(_spread(exponent) * jnp.log(share)) * (high - low) + low
    now, spread = (f(bent, axis=(1, 2), keepdims=True) for f in (jnp.mean, jnp.std))
    bent = (bent - now) * (deviation / jnp.maximum(spread, 1e-7)) + mean
    return jnp.where(_spread(exponent == 1), image, -bent if invert else bent)
