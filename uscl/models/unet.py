"""The U-Net of Chaitanya et al. 2020 in three parts that stages train and hand on by name: encoder, decoder, tail.

| level | channels | side | | block | up-convolution, convolutions | side |
| 1 .. 6 | 16 32 64 128 128 128 | S .. S/32 | | 1 .. 5 | 128 128 64 32 16 | S/16 .. S |

Sides that are no multiple of 32 work too: pooling rounds up (an odd last row or column is pooled by itself), and after each
up-convolution the rows and columns beyond the skipped map's are cut off, so the output always has the input's size.

With `remat` a level or block keeps nothing but its input for the backward pass and computes the rest again there: same values, same
gradients, same names of parameters, less memory, about a third more arithmetic.
"""
import flax.linen as nn
import jax
import jax.numpy as jnp

from uscl.models.blocks import HE_NORMAL, ConvNorm, convolve, convolve_pair, max_pool, upsample_convolve

WIDTH = (16, 32, 64, 128, 128, 128)


def kept_or_not(module, remat: bool):
    """The module's class, or the same with its inner maps computed anew in the backward pass. `train` has to come last in its call."""
    arguments = {Level: 2, Block: 3}  # where `train` stands, counted from self: a Python bool, which tracing would turn into an array
    return nn.remat(module, static_argnums=arguments[module]) if remat else module


class Level(nn.Module):
    """Two 3x3 convolutions of equal width: `conv1`, `conv2`."""

    features: int
    momentum: float = 0.99
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, train: bool):
        for name in ("conv1", "conv2"):
            x = ConvNorm(self.features, momentum=self.momentum, dtype=self.dtype, name=name)(x, train)
        return x


class Encoder(nn.Module):
    """x [N, H, W, C], any C -> a list of maps, one a level; map l (from 0) is [N, ceil(H / 2^l), ceil(W / 2^l), width[l]]."""

    width: tuple[int, ...] = WIDTH
    momentum: float = 0.99
    dtype: str = "float32"
    remat: bool = False

    @nn.compact
    def __call__(self, x, train: bool) -> list[jax.Array]:
        maps, level_of = [], kept_or_not(Level, self.remat)
        for level, features in enumerate(self.width, start=1):
            x = max_pool(x) if level > 1 else x
            x = level_of(features, momentum=self.momentum, dtype=self.dtype, name=f"level{level}")(x, train)
            maps.append(x)
        return maps


class Block(nn.Module):
    """Doubles a map's side: 2x2 up-convolution `up`, joined with the skipped map, `conv1` and, but in the last block, `conv2`."""

    last: bool = False
    momentum: float = 0.99
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, skip, train: bool):
        options = {"momentum": self.momentum, "dtype": self.dtype}
        height, width, features = skip.shape[1:]
        x = ConvNorm(features, 2, upsample_convolve, **options, name="up")(x, train)[:, :height, :width]
        x = ConvNorm(features, form=convolve_pair, **options, name="conv1")((x, skip), train)
        return x if self.last else ConvNorm(features, **options, name="conv2")(x, train)


class Decoder(nn.Module):
    """The encoder's maps -> the map after `blocks` blocks, as large and as wide as the encoder's map of that level.

    Raises: ValueError for fewer than 1 or more blocks than the encoder has poolings.
    """

    blocks: int = 5
    momentum: float = 0.99
    dtype: str = "float32"
    remat: bool = False

    @nn.compact
    def __call__(self, maps: list[jax.Array], train: bool):
        whole = len(maps) - 1
        if not 1 <= self.blocks <= whole:
            raise ValueError(f"blocks: found {self.blocks}; an encoder of {len(maps)} levels allows 1 to {whole}")
        x, block_of = maps[-1], kept_or_not(Block, self.remat)
        for l in range(1, self.blocks + 1):
            x = block_of(last=l == whole, momentum=self.momentum, dtype=self.dtype, name=f"block{l}")(x, maps[-1 - l], train)
        return x


class Tail(nn.Module):
    """A full-size map -> class scores [N, H, W, classes], float32: two 3x3 convolutions, then a bare 3x3 one without bias."""

    classes: int
    momentum: float = 0.99
    dtype: str = "float32"
    remat: bool = False

    @nn.compact
    def __call__(self, x, train: bool):
        features = x.shape[-1]
        level_of = kept_or_not(Level, self.remat)
        x = level_of(features, momentum=self.momentum, dtype=self.dtype, name="convs")(x, train)
        kernel = self.param("kernel", HE_NORMAL, (3, 3, features, self.classes))
        return convolve(x, kernel.astype(self.dtype)).astype(jnp.float32)


class UNet(nn.Module):
    """Images [N, H, W, C] -> class scores before the softmax [N, H, W, classes], float32.

    Attributes:
      classes: label values K, background included.
      width: channels of the encoder's levels; the decoder mirrors them.
      momentum: share of the old BatchNorm statistics kept at each training call.
      dtype: type the arithmetic runs in.
      remat: keep only the inputs of levels and blocks for the backward pass.

    Known values: 2 095 760 parameters for C = 1, K = 4, at any image size.
    """

    classes: int
    width: tuple[int, ...] = WIDTH
    momentum: float = 0.99
    dtype: str = "float32"
    remat: bool = False

    def setup(self):
        options = {"momentum": self.momentum, "dtype": self.dtype, "remat": self.remat}
        self.encoder = Encoder(self.width, **options)
        self.decoder = Decoder(len(self.width) - 1, **options)
        self.tail = Tail(self.classes, **options)

    def __call__(self, x, train: bool):
        return self.tail(self.decoder(self.encoder(x, train), train), train)
