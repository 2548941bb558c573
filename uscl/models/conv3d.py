"""Convolution of clips [B, T, H, W, C] in two forms of equal values, and the layer of the clip networks: convolution, BatchNorm, LeakyReLU.

XLA's CPU back end has no library for three-dimensional convolutions that are thin: a plain loop runs, in training ten times as slow as
the two-dimensional convolutions of frames that "planes" adds up, and far slower where there is a stride.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from uscl.models.blocks import HE_NORMAL, LAYOUT, convolve
from uscl.models.norms import norm

EPSILON = 1e-5  # BatchNorm's, as in torch
SLOPE = 0.1  # LeakyReLU's below 0, Darknet's
CLIP_LAYOUT = ("NDHWC", "DHWIO", "NDHWC")
FORMS = ("planes", "volume")
FASTEST = {"cpu": "planes"}  # by backend, where no form is asked for; "volume" elsewhere: GPU libraries have their own 3-D forms


def convolve_clip(x, kernel, stride: int = 1, *, form: str | None = None) -> jax.Array:
    """Convolution with (k - 1) / 2 zeros on every side: x [B, T, H, W, C], kernel [k, k, k, C, F] -> [B, T', H', W', F], n' = ceil(n / s).

    out(t, i, j) = sum over a, b, c of x(s t + a - p, s i + b - p, s j + c - p) kernel(a, b, c), p = (k - 1) / 2. This is torch's
    padding; XLA's SAME puts the zeros of an even strided length to its far side, one pixel off.

    Args:
      x, kernel: of one type; the sums run in it.
      stride: s, in time, rows and columns alike.
      form: "volume", one three-dimensional convolution; "planes", k convolutions of frames, added; None for the backend's faster one.

    Raises: ValueError for an even kernel or an unknown form.

    Known values: x = 1 and a kernel of 27 ones: 27 inside, 18 on a face, 12 on an edge, 8 in a corner; 9 inside a clip of one frame.
    """
    form = FASTEST.get(jax.default_backend(), "volume") if form is None else form
    size = kernel.shape[0]
    if size % 2 == 0:
        raise ValueError(f"kernel: found a side of {size}; only odd sides have a middle")
    if form not in FORMS:
        raise ValueError(f"form: found {form!r}, allowed are {FORMS} and None")
    if size == 1:
        return x[:, ::stride, ::stride, ::stride] @ kernel[0, 0, 0]
    if form == "planes":
        return _planes(x, kernel, stride)
    return lax.conv_general_dilated(x, kernel, (stride,) * 3, ((size // 2,) * 2,) * 3, dimension_numbers=CLIP_LAYOUT)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _planes(x, kernel, stride: int) -> jax.Array:
    """k convolutions of frames, added; other forms for one channel, and for the kernel's gradient under a stride. Reverse mode only."""
    return _shifted(x, kernel) if x.shape[-1] == 1 and stride == 1 else _added(x, kernel, stride)


def _backward(stride, saved, g):
    x, kernel = saved
    dx, plain = jax.vjp(lambda x, kernel: _added(x, kernel, stride), x, kernel)[1](g)
    return dx, kernel_gradient(x, g, len(kernel), stride=stride) if stride > 1 or x.shape[-1] == 1 else plain


_planes.defvjp(lambda x, kernel, stride: (_planes(x, kernel, stride), (x, kernel)), _backward)


def _shifted(x, kernel) -> jax.Array:
    """One channel, stride 1: k^3 shifted clips times one weight each. Features come first, so that the loop XLA makes of it runs over W."""
    half, (frames, height, width) = len(kernel) // 2, x.shape[1:4]
    x = jnp.pad(x[..., 0], ((0, 0), *((half, half),) * 3))
    weights = ((tap, kernel[tap][0][:, None, None, None, None]) for tap in np.ndindex(kernel.shape[:3]))
    near = (x[None, :, a : a + frames, b : b + height, c : c + width] * weight for (a, b, c), weight in weights)
    return sum(near).transpose(1, 2, 3, 4, 0)


def kernel_gradient(x, g, size: int, *, stride: int) -> jax.Array:
    """Gradient of the kernel [k, k, k, C, F], sum of x(s t + a - p, ..) g(t, ..): x [B, T, H, W, C], g [B, T', H', W', F].

    Frame by frame of g, to stay in the cache: a matrix of k^3 C rows, one a shift and channel, times g [positions, F]. Rows and columns
    of x are sorted by their remainder of s, so that shifts are copied in runs.
    """
    lengths = [stride * (n - 1 + -(-size // stride)) for n in g.shape[1:4]]
    x = jnp.pad(x, ((0, 0), *((size // 2, size + stride),) * 3, (0, 0)))[:, : lengths[0], : lengths[1], : lengths[2]]
    x = x.reshape(*x.shape[:2], lengths[1] // stride, stride, lengths[2] // stride, stride, -1).transpose(1, 3, 5, 6, 0, 2, 4)
    (height, width), features = g.shape[2:4], g.shape[-1]
    wide = {"preferred_element_type": jnp.float32}  # sums over positions, also of bfloat16

    def add(total, t):
        near = lax.dynamic_slice_in_dim(x, stride * t, size)  # [k, s, s, C, B, rows, columns]
        starts = ((a, b % stride, c % stride, b // stride, c // stride) for a, b, c in np.ndindex(size, size, size))
        shifted = jnp.concatenate([near[a, b, c, :, :, i : i + height, j : j + width] for a, b, c, i, j in starts])
        return total + jnp.matmul(shifted.reshape(len(total), -1), g[:, t].reshape(-1, features), **wide), None

    total = lax.scan(add, jnp.zeros((size**3 * x.shape[3], features)), jnp.arange(g.shape[1]))[0]
    return total.reshape(size, size, size, -1, features).astype(x.dtype)


def _added(x, kernel, stride: int) -> jax.Array:
    """Tap a of the kernel's first axis meets frames s t + a - p. Those outside the clip are zeros: their products are not computed."""
    if x.shape[-1] == 1:
        return _stacked(x, kernel, stride)
    (batch, frames), out = x.shape[:2], None
    after = -(-frames // stride)
    for tap, plane in enumerate(kernel):
        shift = tap - len(kernel) // 2
        first, last = max(0, -(shift // stride)), min(after, (frames - 1 - shift) // stride + 1)  # of the frames that come out
        if first >= last:
            continue  # a short clip may have no frame for this tap
        met = x[:, stride * first + shift : stride * (last - 1) + shift + 1 : stride]
        y = _convolve_frames(met.reshape(-1, *x.shape[2:]), plane, stride)
        y = jnp.pad(y.reshape(batch, last - first, *y.shape[1:]), ((0, 0), (first, after - last), (0, 0), (0, 0), (0, 0)))
        out = y if out is None else out + y
    return out


def _stacked(x, kernel, stride: int) -> jax.Array:
    """The k frames that one output meets become the channels of a single convolution. It copies x k times: faster for one channel alone."""
    size, after = len(kernel), -(-x.shape[1] // stride)
    x = jnp.pad(x, ((0, 0), (size // 2, size // 2), (0, 0), (0, 0), (0, 0)))
    met = jnp.concatenate([x[:, tap : tap + stride * (after - 1) + 1 : stride] for tap in range(size)], axis=-1)
    kernel = kernel.transpose(1, 2, 0, 3, 4).reshape(size, size, -1, kernel.shape[-1])
    y = _convolve_frames(met.reshape(-1, *met.shape[2:]), kernel, stride)
    return y.reshape(-1, after, *y.shape[1:])


def _convolve_frames(x, kernel, stride: int) -> jax.Array:
    """The same in two dimensions: x [N, H, W, C], kernel [k, k, C, F] -> [N, H', W', F]."""
    size = len(kernel)
    if stride == 1:
        return convolve(x, kernel)
    if (size, stride) == (3, 2):
        return _halve(x, kernel)
    return lax.conv_general_dilated(x, kernel, (stride,) * 2, ((size // 2,) * 2,) * 2, dimension_numbers=LAYOUT)


def _halve(x, kernel) -> jax.Array:
    """3x3, stride 2: squares of 2 x 2 pixels become channels, 4 C, under a 2x2 kernel of stride 1 whose first row and column of taps are 0.

    16 taps in place of 9, but strides hinder XLA's CPU library, and in the gradients most of all: nearly twice as fast for 6 channels.
    """
    n, height, width, channels = x.shape
    rows, columns = -(-height // 2), -(-width // 2)
    x = jnp.pad(x, ((0, 0), (0, 2 * rows - height), (0, 2 * columns - width), (0, 0)))
    x = x.reshape(n, rows, 2, columns, 2, channels).transpose(0, 1, 3, 2, 4, 5).reshape(n, rows, columns, 4 * channels)
    kernel = jnp.pad(kernel, ((1, 0), (1, 0), (0, 0), (0, 0))).reshape(2, 2, 2, 2, channels, -1)
    kernel = kernel.transpose(0, 2, 1, 3, 4, 5).reshape(2, 2, 4 * channels, -1)
    return lax.conv_general_dilated(x, kernel, (1, 1), ((1, 0), (1, 0)), dimension_numbers=LAYOUT)


class Conv3D(nn.Module):
    """`convolve_clip` with its parameters [k, k, k, C, F], no bias, first weights He's N(0, 2 / (k^3 C)). Both forms have the same ones."""

    features: int
    kernel: int = 3
    stride: int = 1
    form: str | None = None
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        weights = self.param("kernel", HE_NORMAL, (self.kernel,) * 3 + (x.shape[-1], self.features))
        return convolve_clip(x.astype(self.dtype), weights.astype(self.dtype), self.stride, form=self.form)


class ConvNorm3D(nn.Module):
    """LeakyReLU(BatchNorm(convolution)), statistics over B, T, H and W in float32; of the whole batch, also when it is split over devices.

    Attributes:
      features, kernel, stride, form: of `Conv3D`.
      momentum: share of the old running statistics kept at each training call; torch's 0.1 is 0.9 here.
      dtype: type of the arithmetic and of what returns; parameters and statistics are float32.
      last: BatchNorm's scale begins at 0 instead of 1, as at the end of a residual branch.
    """

    features: int
    kernel: int = 3
    stride: int = 1
    last: bool = False
    momentum: float = 0.9
    dtype: str = "float32"
    form: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        shape = (self.features,)
        y = Conv3D(self.features, self.kernel, self.stride, self.form, self.dtype, name="conv")(x)
        scale = self.param(*(("zero_scale", nn.initializers.zeros) if self.last else ("scale", nn.initializers.ones)), shape)
        shift = self.param("shift", nn.initializers.zeros, shape)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)
        if not train:
            y = (y.astype(jnp.float32) - running_mean.value) * (scale * lax.rsqrt(running_var.value + EPSILON)) + shift
            return jnp.where(y > 0, y, SLOPE * y).astype(self.dtype)
        frames = y.reshape(-1, *y.shape[2:])
        out, mean, var = norm(frames, scale, shift, (0, 1, 2), EPSILON, SLOPE)
        if not self.is_initializing():
            running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean.ravel()
            running_var.value = self.momentum * running_var.value + (1 - self.momentum) * var.ravel()
        return out.reshape(y.shape)
