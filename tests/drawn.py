"""What the tests of augmentation share: a key, images of noise, and SciPy's interpolation."""
import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

KEY = jax.random.key(7)


def random(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).uniform(size=shape), jnp.float32)


def scipy_read(image, rows, columns, mode, fill=0.0):
    """image [H, W, C] read bilinearly at [h, w] places, float64."""
    image, fill = np.asarray(image, np.float64), np.broadcast_to(fill, image.shape[-1:])
    at = [np.asarray(rows, np.float64), np.asarray(columns, np.float64)]
    return np.stack([ndimage.map_coordinates(image[..., c], at, order=1, mode=mode, cval=fill[c]) for c in range(image.shape[-1])], -1)
