"""What nnU-Net's networks are built from: convolution, InstanceNorm with LeakyReLU, residual block, transposed convolution.

Isensee et al. 2021, version 2.8.1 of the code. Strides and kernels are pairs (rows, columns), since a plan may pool one axis only.
"""
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from uscl.models.blocks import LAYOUT, convolve
from uscl.models.norms import norm

EPSILON = 1e-5  # InstanceNorm's
SLOPE = 0.01  # LeakyReLU's below 0
GAIN = 2 / (1 + SLOPE**2)  # Kaiming's for that slope: a weight's variance times fan_in
KAIMING = nn.initializers.variance_scaling(GAIN, "fan_in", "normal")
# torch takes a transposed kernel's second axis for its inputs, so that outputs are counted: fan_in = F * rows * columns
KAIMING_UP = nn.initializers.variance_scaling(GAIN, "fan_in", "normal", in_axis=-1, out_axis=0)
FEW = 32  # pixels that come out, up to which XLA's CPU convolution and its gradients cost more than one matrix product


def convolve_strided(x, kernel, stride: tuple[int, int] = (1, 1)) -> jax.Array:
    """Convolution with (k - 1) // 2 zeros on either side: x [N, H, W, C], kernel [k, l, C, F] -> [N, ceil(H / s), ceil(W / t), F].

    out(i, j) = sum over a, b of x(s i + a - (k - 1) // 2, t j + b - (l - 1) // 2) kernel(a, b), k and l odd. XLA's own SAME would put
    the zeros of an even strided map to its far side alone, one pixel off from torch's.
    """
    size = kernel.shape[:2]
    out = [-(-side // step) for side, step in zip(x.shape[1:3], stride, strict=True)]
    few = jax.default_backend() == "cpu" and out[0] * out[1] <= FEW
    if few or x.shape[-1] == 1 or size == (1, 1):
        return patch_product(x, kernel, stride)
    if stride == (1, 1) and size == (3, 3):
        return convolve(x, kernel)
    zeros = [((side - 1) // 2,) * 2 for side in size]
    return lax.conv_general_dilated(x, kernel, stride, zeros, dimension_numbers=LAYOUT)


def patch_product(x, kernel, stride: tuple[int, int] = (1, 1)) -> jax.Array:
    """The same as one matrix product of each output's k x l input pixels, [N, H', W', k l C] @ [k l C, F].

    The pixels of one tap are every stride-th: reshaped to blocks of a stride, they are a slice, whose gradient is a padding.
    """
    n, height, width, channels = x.shape
    (k, l), (s, t) = kernel.shape[:2], stride
    rows, columns = -(-height // s), -(-width // t)
    below, right = (k - 1) // 2 + -(height + k - 1) % s, (l - 1) // 2 + -(width + l - 1) % t
    x = jnp.pad(x, ((0, 0), ((k - 1) // 2, below), ((l - 1) // 2, right), (0, 0)))
    x = x.reshape(n, x.shape[1] // s, s, x.shape[2] // t, t, channels)
    taps = [x[:, a // s : a // s + rows, a % s, b // t : b // t + columns, b % t] for a in range(k) for b in range(l)]
    return jnp.concatenate(taps, axis=-1) @ kernel.reshape(k * l * channels, -1)


def leaky(x) -> jax.Array:
    """x above 0, x / 100 elsewhere. At 0 itself the slope is 1 / 100, as in torch: a blank image's normalised maps are 0 throughout."""
    return jnp.where(x > 0, x, SLOPE * x)


def instance_norm(x, scale, shift, slope: float = 1.0) -> jax.Array:
    """`norm` over H and W of each image and channel: [N, H, W, C], [C], [C] -> [N, H, W, C], values below 0 times `slope`."""
    return norm(x, scale, shift, (1, 2), EPSILON, slope)[0]


def average_pool(x, stride: tuple[int, int]) -> jax.Array:
    """Mean over windows that do not overlap: [N, s H, t W, C] -> [N, H, W, C]."""
    (n, height, width, channels), (s, t) = x.shape, stride
    return x.reshape(n, height // s, s, width // t, t, channels).mean((2, 4))


def spread(x, kernel, bias) -> jax.Array:
    """Transposed convolution, kernel = stride: x [N, H, W, C], kernel [C, s, t, F], bias [F] -> [N, s H, t W, F].

    out(s i + a, t j + b) = x(i, j) kernel[:, a, b] + bias: no two pixels meet, so it is one matrix product, then depth to space.
    """
    n, height, width, channels = x.shape
    _, s, t, features = kernel.shape
    taps = (x @ kernel.reshape(channels, -1)).reshape(n, height, width, s, t, features)
    return taps.transpose(0, 1, 3, 2, 4, 5).reshape(n, s * height, t * width, features) + bias


class ConvInstance(nn.Module):
    """LeakyReLU(InstanceNorm(convolution + bias)), or less than that.

    InstanceNorm takes the bias away again with the mean, so it is never added: it is there because the original has it, its gradient is
    exactly 0 (autodiff of the plain form: rounding noise), and weights carried over from the original keep theirs.

    Attributes:
      features: channels F that come out.
      kernel, stride: (rows, columns), odd kernels.
      use_bias: whether the convolution has a bias.
      last: ends a residual branch: no LeakyReLU, and a scale that starts at 0, so that the block starts as its skip.
      active: whether a LeakyReLU follows.
      dtype: type of the arithmetic and of what returns; parameters and statistics are float32.
    """

    features: int
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    use_bias: bool = True
    last: bool = False
    active: bool = True
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        shape = (self.features,)
        kernel = self.param("leaky_kernel", KAIMING, (*self.kernel, x.shape[-1], self.features))
        if self.use_bias:
            self.param("bias", nn.initializers.zeros, shape)
        scale = self.param(*(("zero_scale", nn.initializers.zeros) if self.last else ("scale", nn.initializers.ones)), shape)
        shift = self.param("shift", nn.initializers.zeros, shape)
        x = convolve_strided(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)
        return instance_norm(x, scale, shift, SLOPE if self.active and not self.last else 1.0)


class Residual(nn.Module):
    """LeakyReLU(conv2(conv1(x)) + skip(x)): the stride in `conv1`, none after; no LeakyReLU in `conv2`.

    The skip averages over the stride's windows, then, where the channels change, passes a 1x1 convolution without bias and a norm.
    """

    features: int
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        y = ConvInstance(self.features, self.kernel, self.stride, dtype=self.dtype, name="conv1")(x)
        y = ConvInstance(self.features, self.kernel, last=True, dtype=self.dtype, name="conv2")(y)
        skip = average_pool(x, self.stride) if self.stride != (1, 1) else x
        if x.shape[-1] != self.features:
            skip = ConvInstance(self.features, (1, 1), use_bias=False, active=False, dtype=self.dtype, name="skip")(skip)
        return leaky(y + skip)


class Spread(nn.Module):
    """The transposed convolution `spread` with its parameters, in `dtype`; neither norm nor activation."""

    features: int
    stride: tuple[int, int]
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        kernel = self.param("spread_kernel", KAIMING_UP, (x.shape[-1], *self.stride, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return spread(x, kernel.astype(self.dtype), bias.astype(self.dtype))
