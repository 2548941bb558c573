"""The normalisation all networks share, with the rectifier that follows it: BatchNorm and InstanceNorm differ in the axes only."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def norm(x, scale, shift, axes: tuple[int, ...], epsilon: float, slope: float = 1.0) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(x - mean) / sqrt(var + epsilon) * scale + shift, values below 0 then times `slope`: [N, H, W, C] -> the same, in the type of x.

    Statistics over `axes` in float32 and two passes: E[x^2] - E[x]^2 cancels where the mean is large. The variance is divided by the
    number of values, not by one less. At 0 itself the slope is `slope`, as torch has it: a blank image's maps are 0 throughout.

    The gradient is written out so that x, in its own type, is all that is kept for it; autodiff keeps three maps in float32 and goes over
    them more often. Reverse mode only. With u = (x - mean) / std and h the gradient before the slope:
    dx = scale / std (h - E[h] - u E[h u]), E over `axes`.

    Args: x; scale, shift [C] float32; slope 0 for a ReLU, 0.01 for nnU-Net's LeakyReLU, 1 for none.
    Returns: the map; mean and var, float32, with `axes` kept as 1. These two are for running statistics: no gradient flows through them.
    """
    return _forward(x, scale, shift, axes, epsilon, slope)[0]


def _forward(x, scale, shift, axes, epsilon, slope):
    y = x.astype(jnp.float32)
    mean = y.mean(axes, keepdims=True)
    var = jnp.square(y - mean).mean(axes, keepdims=True)
    rate = lax.rsqrt(var + epsilon)
    z = (y - mean) * rate * scale + shift
    return (jnp.where(z > 0, z, slope * z).astype(x.dtype), mean, var), (x, mean, rate, scale, shift)


def _backward(axes, epsilon, slope, saved, gradients):
    x, mean, rate, scale, shift = saved
    u = (x.astype(jnp.float32) - mean) * rate
    h = gradients[0].astype(jnp.float32)
    h = jnp.where(u * scale + shift > 0, h, slope * h)
    h_mean, hu_mean = h.mean(axes, keepdims=True), (h * u).mean(axes, keepdims=True)
    dx = (h - h_mean - u * hu_mean) * (rate * scale)
    count = x.size // h_mean.size
    return dx.astype(x.dtype), count * hu_mean.sum((0, 1, 2)), count * h_mean.sum((0, 1, 2))


norm.defvjp(_forward, _backward)
