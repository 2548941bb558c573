"""What the networks are built from: convolution with BatchNorm and ReLU, 2x2 pooling, and the decoder's up-convolution.

Each form below computes the textbook operation in fewer or cheaper steps; `tests/test_models.py` holds each against the plain form.
"""
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from uscl.models.norms import norm

EPSILON = 1e-3  # BatchNorm's, as in Chaitanya's networks
HE_NORMAL = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
LAYOUT = ("NHWC", "HWIO", "NHWC")
NARROW = 16  # channels up to which XLA's CPU library leaves a convolution to a slower loop


def convolve(x, kernel) -> jax.Array:
    """SAME convolution of stride 1: x [N, H, W, C], kernel [k, k, C, F] -> [N, H, W, F].

    A kernel over a single channel leaves matrix hardware idle: there the k * k shifted images become channels of one matrix product.
    On CPU a 3x3 kernel takes `convolve_columns`; GPU libraries have their own forms, and XLA knows a convolution's gradients by sight.
    """
    size, _, channels, features = kernel.shape
    if channels > 1 and size == 3 and jax.default_backend() == "cpu":
        return convolve_columns(x, kernel)
    if channels > 1 or size == 1:
        return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT)
    height, width = x.shape[1:3]
    low, high = (size - 1) // 2, size // 2
    padded = jnp.pad(x, ((0, 0), (low, high), (low, high), (0, 0)))
    shifted = [padded[:, i : i + height, j : j + width] for i in range(size) for j in range(size)]
    return jnp.concatenate(shifted, axis=-1) @ kernel.reshape(size * size, features)


def several_columns(x, kernel) -> jax.Array:
    """3x3 SAME convolution in which thin maps yield m = 2 or 4 neighbouring columns a step: [N, H, W, C] -> [N, H, W, F].

    The kernel, shifted by 0 .. m - 1 columns, becomes one of m * F features and m + 2 columns that moves by m; its output
    [N, H, W / m, m * F] is [N, H, W, F] in memory. XLA's CPU library takes no convolution whose widths C and F both lie below 17:
    the loop that runs instead, and vectors left half empty by few features, cost more than (m + 2) / 3 times the multiplications.
    """
    n, height, width, channels = x.shape
    features = kernel.shape[-1]
    m = 1 if max(channels, features) > NARROW else 2 if features > NARROW // 2 else 4
    m = m if width % m == 0 else 1
    shifted = [jnp.pad(kernel, ((0, 0), (i, m - 1 - i), (0, 0), (0, 0))) for i in range(m)]
    out = lax.conv_general_dilated(x, jnp.concatenate(shifted, axis=-1), (1, m), ((1, 1), (1, 1)), dimension_numbers=LAYOUT)
    return out.reshape(n, height, width, features)


def kernel_gradient(x, g) -> jax.Array:
    """Gradient of the 3x3 SAME convolution's kernel: x [N, H, W, C], g [N, H, W, F] -> [3, 3, C, F], sum of x(p + offset) g(p).

    A convolution of x with g as kernel, in which channels are the images and images the channels. The wider map serves as kernel, whose
    turn costs less, and thin ones are paired as in `several_columns`: even and odd columns each give three of four taps.
    """
    n, height, width, channels = x.shape
    features = g.shape[-1]
    if features < channels:
        return kernel_gradient(g, x)[::-1, ::-1].swapaxes(2, 3)
    m = 2 if max(n, features) <= NARROW and width % 2 == 0 else 1
    turned = g.reshape(n, height, width // m, m * features).transpose(1, 2, 0, 3)
    taps = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0), turned, (1, 1), ((1, 1), (1, 1)), rhs_dilation=(1, m), dimension_numbers=LAYOUT
    ).transpose(1, 2, 0, 3)
    return sum(taps[:, i : i + 3, :, i * features : (i + 1) * features] for i in range(m))


@jax.custom_vjp
def convolve_columns(x, kernel) -> jax.Array:
    """3x3 SAME convolution by the forms above, in both directions; by hand, because the gradient of a stride is no such form.

    Reverse mode only: `jax.jvp` raises.
    """
    return several_columns(x, kernel)


def _backward(saved, g):
    x, kernel = saved
    return several_columns(g, kernel[::-1, ::-1].swapaxes(2, 3)), kernel_gradient(x, g)


convolve_columns.defvjp(lambda x, kernel: (several_columns(x, kernel), (x, kernel)), _backward)


def convolve_pair(pair, kernel) -> jax.Array:
    """Convolution of two maps concatenated along channels, without the concatenation: the kernel is cut instead."""
    first, second = pair
    cut = first.shape[-1]
    return convolve(first, kernel[:, :, :cut]) + convolve(second, kernel[:, :, cut:])


def upsample_convolve(x, kernel) -> jax.Array:
    """Nearest-neighbour upsampling by 2, then a 2x2 SAME convolution (zeros below and right): [N, H, W, C] -> [N, 2H, 2W, F].

    Four outputs share each input pixel, so the kernel's four taps p meet the map before it grows, and only their sums are spread:
    out[2i, 2j] = p00 + p01 + p10 + p11 at (i, j); in an odd column p01 and p11, in an odd row p10 and p11, come from the next pixel.
    A quarter of the multiplications of the plain form.
    """
    n, height, width, channels = x.shape
    features = kernel.shape[-1]
    taps = (x @ kernel.transpose(2, 0, 1, 3).reshape(channels, 4 * features)).reshape(n, height, width, 4, features)
    p00, p01, p10, p11 = (taps[..., i, :] for i in range(4))

    def right(a):
        return jnp.pad(a[:, :, 1:], ((0, 0), (0, 0), (0, 1), (0, 0)))

    def below(a):
        return jnp.pad(a[:, 1:], ((0, 0), (0, 1), (0, 0), (0, 0)))

    even_row = jnp.stack([p00 + p01 + p10 + p11, p00 + p10 + right(p01 + p11)], axis=3)
    odd_row = jnp.stack([p00 + p01 + below(p10 + p11), p00 + right(p01) + below(p10 + right(p11))], axis=3)
    return jnp.stack([even_row, odd_row], axis=2).reshape(n, 2 * height, 2 * width, features)


def max_pool(x) -> jax.Array:
    """Maximum over 2x2 windows: [N, H, W, C] -> [N, ceil(H/2), ceil(W/2), C]; an odd last row or column is pooled by itself.

    Equal maxima share the gradient evenly, where TensorFlow's pooling gives it all to the first. After a ReLU ties are zeros, which pass
    no gradient on in either form.
    """
    n, height, width, channels = x.shape
    if height % 2 or width % 2:
        x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), constant_values=-jnp.inf)
    x = x.reshape(n, (height + 1) // 2, 2, (width + 1) // 2, 2, channels)
    # Not .max(): its gradient goes where the input equals the maximum, and under jit XLA computes both anew with different rounding, so
    # that none may be equal and the gradient is lost. A comparison of two always has a winner.
    return jnp.maximum(jnp.maximum(x[:, :, 0, :, 0], x[:, :, 0, :, 1]), jnp.maximum(x[:, :, 1, :, 0], x[:, :, 1, :, 1]))


class ConvNorm(nn.Module):
    """ReLU(BatchNorm(convolution + bias)), statistics over N, H and W in float32.

    BatchNorm takes the bias away again with the mean, so in training it is not added at all: it enters the running mean only, and its
    gradient is exactly 0 where autodiff of the plain form returns rounding noise (which Adam would scale up to full steps).

    With the batch split over devices inside `jit` the statistics are those of the whole batch.

    Attributes:
      features: channels F that come out.
      size: side of the kernel [pixels].
      form: `convolve`, `convolve_pair` (called with a pair of maps) or `upsample_convolve`.
      use_bias: whether the convolution has a bias.
      momentum: share of the old running statistics kept at each training call.
      dtype: type of the arithmetic and of what returns; parameters and statistics are float32.
    """

    features: int
    size: int = 3
    form: Callable = convolve
    use_bias: bool = True
    momentum: float = 0.99
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, train: bool):
        shape = (self.features,)
        channels = sum(part.shape[-1] for part in jax.tree.leaves(x))
        kernel = self.param("kernel", HE_NORMAL, (self.size, self.size, channels, self.features))
        bias = self.param("bias", nn.initializers.zeros, shape) if self.use_bias else 0.0
        scale = self.param("scale", nn.initializers.ones, shape)
        shift = self.param("shift", nn.initializers.zeros, shape)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)

        x = jax.tree.map(lambda part: part.astype(self.dtype), x)
        y = self.form(x, kernel.astype(self.dtype))
        if not train:
            y = (y.astype(jnp.float32) - (running_mean.value - bias)) * (scale * lax.rsqrt(running_var.value + EPSILON)) + shift
            return nn.relu(y).astype(self.dtype)
        y, mean, var = norm(y, scale, shift, (0, 1, 2), EPSILON, 0.0)
        if not self.is_initializing():
            running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * (mean.ravel() + bias)
            running_var.value = self.momentum * running_var.value + (1 - self.momentum) * var.ravel()
        return y
