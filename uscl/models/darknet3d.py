"""Darknet-53 (Redmon and Farhadi 2018) with three-dimensional kernels: the clip encoder of the lung paper, and its classifier.

The paper names the network and 133,880 trainable parameters, 38 of them in the two-class layer, but no widths. Among plans with
Darknet-53's blocks, widths that never fall, convolutions without bias and one gray channel, "tiny" alone has exactly these counts. It is
a reconstruction; what speaks for it beside the counts is that all its widths are multiples of 6.

| stage | "tiny": channels, blocks | parameters | side |
|---|---|---|---|
| 0, the stem | 6 | 174 | S |
| 1 | 12, 1 | 6 048 | S/2 |
| 2 | 12, 2 | 12 072 | S/4 |
| 3 | 12, 8 | 36 552 | S/8 |
| 4 | 12, 8 | 36 552 | S/16 |
| 5 | 18, 4 | 42 444 | S/32 |

Frames are halved with the sides: time, rows and columns have one stride. All lengths are rounded up, so any clip will do.
"""
import flax.linen as nn
import jax
import jax.numpy as jnp

from uscl.models.conv3d import ConvNorm3D

PLANS = {  # hidden convolutions as wide as the block, or Darknet's own, half as wide
    "tiny": {"widths": (6, 12, 12, 12, 12, 18), "bottleneck": False},
    "darknet53": {"widths": (32, 64, 128, 256, 512, 1024), "bottleneck": True},
}
BLOCKS = (1, 2, 8, 8, 4)


def reach(k: int, blocks: tuple[int, ...] = BLOCKS) -> tuple[int, int]:
    """(stride, radius) of the map that `Darknet3D.stem_to(..., k)` returns, in frames, rows and columns alike.

    Its value at i depends on the inputs from stride i - radius to stride i + radius, and on no others in evaluation.

    Known values: (1, 0) for k = 0, (1, 1) for 1, (2, 4) for 2, (4, 14) for 3, (32, 362) for 6.
    """
    stride, radius = 1, min(k, 1)
    for count in blocks[: max(k - 1, 0)]:
        radius += stride + 2 * stride * count  # the strided kernel looks one pixel far before it halves, each block one pixel after
        stride *= 2
    return stride, radius


class Residual3D(nn.Module):
    """x + conv2(conv1(x)): 1x1x1 to `hidden` channels, then 3x3x3 back; nothing follows the sum.

    The last scale begins at 0, so that a new block hands on what it is given (Goyal et al. 2017). With 1, all clips look alike to a new
    network: 23 blocks in a row leave its 18 features of phantom lungs an effective rank of 2 to 3, and of 12 to 14 with 0.
    """

    hidden: int
    momentum: float = 0.9
    dtype: str = "float32"
    form: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        options = {"momentum": self.momentum, "dtype": self.dtype, "form": self.form}
        y = ConvNorm3D(self.hidden, 1, **options, name="conv1")(x, train)
        return x + ConvNorm3D(x.shape[-1], 3, last=True, **options, name="conv2")(y, train)


class Stage3D(nn.Module):
    """`down`, 3x3x3 of stride 2, then residual blocks `block1`, `block2`, ..."""

    features: int
    blocks: int
    bottleneck: bool = False
    momentum: float = 0.9
    dtype: str = "float32"
    remat: bool = False
    form: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        options = {"momentum": self.momentum, "dtype": self.dtype, "form": self.form}
        hidden = self.features // 2 if self.bottleneck else self.features
        x = _kept_or_not(ConvNorm3D, self.remat)(self.features, 3, 2, **options, name="down")(x, train)
        for i in range(1, self.blocks + 1):
            x = _kept_or_not(Residual3D, self.remat)(hidden, **options, name=f"block{i}")(x, train)
        return x


def _kept_or_not(module, remat: bool):
    return nn.remat(module, static_argnums=(2,)) if remat else module  # `train`, a Python bool, counted from self


class Darknet3D(nn.Module):
    """Clips [B, T, H, W, C] -> the last map [B, ceil(T / 32), ceil(H / 32), ceil(W / 32), widths[-1]]. Parts: `stage_0` to `stage_5`.

    Any call may be cut in two: `rest_from(stem_to(x, k, train), k, train)` is the whole, for k from 0 to the number of stages.

    Attributes:
      widths: channels of the stem and of each stage after it.
      blocks: residual blocks of each stage after the stem.
      bottleneck: a block's hidden width is half of its width, rounded down, instead of all of it.
      momentum: share of the old BatchNorm statistics kept at each training call.
      dtype: type of the arithmetic and of the map; parameters and statistics are float32.
      remat: keep only the inputs of blocks and of strided convolutions for the backward pass, and compute the rest again there.
      form: of the convolutions, "planes" or "volume"; None for the backend's faster one.

    Raises: ValueError where `widths` is not one longer than `blocks`, or for a k that is no stage.

    Known values: 133 842 parameters for C = 1; 27 a b + 2 b from a to b channels, 28 c h + 2 (c + h) in a block of hidden width h.
    """

    widths: tuple[int, ...] = PLANS["tiny"]["widths"]
    blocks: tuple[int, ...] = BLOCKS
    bottleneck: bool = PLANS["tiny"]["bottleneck"]
    momentum: float = 0.9
    dtype: str = "float32"
    remat: bool = False
    form: str | None = None

    def setup(self):
        if len(self.widths) != len(self.blocks) + 1:
            raise ValueError(f"widths: found {len(self.widths)} for {len(self.blocks)} stages with blocks; the stem has one of its own")
        options = {"momentum": self.momentum, "dtype": self.dtype, "form": self.form}
        stages = [_kept_or_not(ConvNorm3D, self.remat)(self.widths[0], **options)]
        for features, blocks in zip(self.widths[1:], self.blocks, strict=True):
            stages.append(Stage3D(features, blocks, self.bottleneck, remat=self.remat, **options))
        self.stage = stages

    def __call__(self, x, train: bool) -> jax.Array:
        return self.rest_from(x, 0, train)

    def stem_to(self, x, k: int, train: bool = False) -> jax.Array:
        """Clips -> what stage k is given: the map after the k stages before it; the clips themselves for k = 0."""
        for stage in self._stages(k)[0]:
            x = stage(x, train)
        return x

    def rest_from(self, x, k: int, train: bool = False) -> jax.Array:
        """What stage k is given -> what a whole call returns."""
        for stage in self._stages(k)[1]:
            x = stage(x, train)
        return x

    def _stages(self, k):
        if not 0 <= k <= len(self.stage):
            raise ValueError(f"k: found {k}; {len(self.stage)} stages can be cut at 0 to {len(self.stage)}")
        return self.stage[:k], self.stage[k:]


class ClipEncoder(Darknet3D):
    """Clips -> embeddings [B, widths[-1]], float32: Darknet3D, then its map's mean over time, rows and columns."""

    def rest_from(self, x, k: int, train: bool = False) -> jax.Array:
        return super().rest_from(x, k, train).astype(jnp.float32).mean((1, 2, 3))


class Classifier(nn.Module):
    """Clips -> class scores before the softmax [B, classes], float32: `encoder`, then one dense layer, `head`.

    Known values: 133 880 parameters and 38 in the head for ClipEncoder() and 2 classes.
    """

    encoder: ClipEncoder
    classes: int = 2

    def setup(self):
        self.head = nn.Dense(self.classes, kernel_init=nn.initializers.glorot_uniform())

    def __call__(self, x, train: bool) -> jax.Array:
        return self.head(self.encoder(x, train))

    def stem_to(self, x, k: int, train: bool = False) -> jax.Array:
        return self.encoder.stem_to(x, k, train)

    def rest_from(self, x, k: int, train: bool = False) -> jax.Array:
        return self.head(self.encoder.rest_from(x, k, train))
