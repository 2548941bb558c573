"""ResNet-18 and -50 (He et al. 2016) as torchvision builds them: the image encoder whose weights others publish.

| part | ResNet-18 | ResNet-50 | side |
|---|---|---|---|
| `stem` | 7x7, 64 | the same | S/2 |
| max pooling, `stage1` | 2 blocks, 64 | 3 blocks, 256 | S/4 |
| `stage2` | 2, 128 | 4, 512 | S/8 |
| `stage3` | 2, 256 | 6, 1024 | S/16 |
| `stage4` | 2, 512 | 3, 2048 | S/32 |

A stage's stride stands in its first block: in the first 3x3 convolution, also between the 1x1 ones of ResNet-50 (the paper's own has it
before them), and in the skip. All sides are rounded up, so images of any size will do.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from uscl.models.blocks import HE_NORMAL
from uscl.models.nnunet_blocks import convolve_strided
from uscl.models.norms import norm

EPSILON = 1e-5  # BatchNorm's, as in torch
PLANS = {  # by depth
    18: {"blocks": (2, 2, 2, 2), "bottleneck": False},
    50: {"blocks": (3, 4, 6, 3), "bottleneck": True},
}


def max_pool_overlapping(x) -> jax.Array:
    """Maximum over 3x3 windows that move by 2 and begin one pixel outside: [N, H, W, C] -> [N, ceil(H/2), ceil(W/2), C].

    out(i, j) = max of x over rows 2i - 1 .. 2i + 1 and columns 2j - 1 .. 2j + 1, those inside the map. By maxima of two, columns after
    rows, for the reason told in `max_pool`: equal maxima share the gradient, and none of it is lost.

    Known values: x = 0 .. 15 in rows of 4 gives 5, 7, 13, 15. Where all are equal a gradient of 1 is spread and still sums to 1.
    """
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)), constant_values=-jnp.inf)
    for axis in (1, 2):
        half = x.shape[axis] // 2
        pairs = x.reshape(*x.shape[:axis], half, 2, *x.shape[axis + 1 :])
        even, odd = (lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in (0, 1))
        edge = [(int(i == axis), 0) for i in range(x.ndim)]
        before = jnp.pad(lax.slice_in_dim(odd, 0, half - 1, axis=axis), edge, constant_values=-jnp.inf)
        x = jnp.maximum(jnp.maximum(even, odd), before)
    return x


class Layer(nn.Module):
    """BatchNorm(convolution), statistics over N, H and W in float32; of the whole batch, also when it is split over devices.

    Attributes:
      features, size, stride: channels F that come out, side of the kernel, step in rows and columns [pixels].
      slope: factor of values below 0 after the norm: 0 for a ReLU, 1 for none.
      zero: the norm's scale starts at 0, under the name `zero_scale`, by which `initialise` knows.
      momentum: share of the old running statistics kept at each training call; torch's 0.1 is 0.9 here.
      dtype: type of the arithmetic and of what returns; parameters and statistics are float32.
    """

    features: int
    size: int = 3
    stride: int = 1
    slope: float = 0.0
    zero: bool = False
    momentum: float = 0.9
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, train: bool):
        shape = (self.features,)
        kernel = self.param("kernel", HE_NORMAL, (self.size, self.size, x.shape[-1], self.features))
        scale = self.param(*(("zero_scale", nn.initializers.zeros) if self.zero else ("scale", nn.initializers.ones)), shape)
        shift = self.param("shift", nn.initializers.zeros, shape)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)
        y = convolve_strided(x.astype(self.dtype), kernel.astype(self.dtype), (self.stride, self.stride))
        if not train:
            y = (y.astype(jnp.float32) - running_mean.value) * (scale * lax.rsqrt(running_var.value + EPSILON)) + shift
            return jnp.where(y > 0, y, self.slope * y).astype(self.dtype)
        y, mean, var = norm(y, scale, shift, (0, 1, 2), EPSILON, self.slope)
        if not self.is_initializing():
            running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean.ravel()
            running_var.value = self.momentum * running_var.value + (1 - self.momentum) * var.ravel()
        return y


class Block(nn.Module):
    """ReLU(skip(x) + branch(x)). The branch is 3x3, 3x3, or with `bottleneck` 1x1, 3x3, 1x1, a quarter as wide until its last: `conv1` ..

    No ReLU in the branch's last layer. `skip` is a 1x1 layer without ReLU where stride or channels change, else x itself.
    """

    features: int
    stride: int = 1
    bottleneck: bool = False
    zero_last: bool = False
    momentum: float = 0.9
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, train: bool):
        layer = partial(Layer, momentum=self.momentum, dtype=self.dtype)
        size, hidden = (1, self.features // 4) if self.bottleneck else (3, self.features)
        y = layer(hidden, size, 1 if self.bottleneck else self.stride, name="conv1")(x, train)
        if self.bottleneck:
            y = layer(hidden, 3, self.stride, name="conv2")(y, train)
        y = layer(self.features, size, slope=1.0, zero=self.zero_last, name="conv3" if self.bottleneck else "conv2")(y, train)
        if self.stride > 1 or x.shape[-1] != self.features:
            x = layer(self.features, 1, self.stride, slope=1.0, name="skip")(x, train)
        return nn.relu(x + y)


class Stage(nn.Module):
    """Blocks `block1`, `block2`, ..., the first of which has the stride."""

    features: int
    blocks: int
    stride: int
    bottleneck: bool = False
    zero_last: bool = False
    momentum: float = 0.9
    dtype: str = "float32"
    remat: bool = False

    @nn.compact
    def __call__(self, x, train: bool):
        options = {"bottleneck": self.bottleneck, "zero_last": self.zero_last, "momentum": self.momentum, "dtype": self.dtype}
        block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block  # `train`, a Python bool, counted from self
        for i in range(1, self.blocks + 1):
            x = block(self.features, self.stride if i == 1 else 1, **options, name=f"block{i}")(x, train)
        return x


class ResNet(nn.Module):
    """Images [N, H, W, C] -> embeddings [N, F], float32: the last map's mean over rows and columns. F is 512 for ResNet-18, 2048 for -50.

    `ResNet(**PLANS[50])` is ResNet-50. Held as `encoder` by a stage's model, `transfer` carries it; models that hand it on to each other
    agree in `zero_last`, because leaves go by name. First weights are He's N(0, 2 / fan_in); torchvision counts fan_out.

    Attributes:
      blocks: residual blocks of each stage.
      bottleneck: the blocks of ResNet-50; maps after the stem are four times as wide.
      width: channels of the stem; each stage after the first doubles them.
      zero_last: the last norm of each branch starts at 0, so that a block starts as its skip (Goyal et al. 2017).
      momentum: share of the old BatchNorm statistics kept at each training call.
      dtype: type of the arithmetic and of the maps; parameters and statistics are float32.
      remat: keep only the inputs of blocks for the backward pass, and compute the rest again there.

    Known values: 11 176 512 parameters for 18 layers and C = 3, 23 508 032 for 50, without a classifier; 6 272 fewer for C = 1.
    """

    blocks: tuple[int, ...] = PLANS[18]["blocks"]
    bottleneck: bool = PLANS[18]["bottleneck"]
    width: int = 64
    zero_last: bool = False
    momentum: float = 0.9
    dtype: str = "float32"
    remat: bool = False

    def __call__(self, x, train: bool) -> jax.Array:
        return self.maps(x, train)[-1].astype(jnp.float32).mean((1, 2))

    @nn.compact
    def maps(self, x, train: bool) -> list[jax.Array]:
        """The maps after the stem, before its pooling, and after each stage: sides ceil(S / 2), ceil(S / 4), ..., for a U-Net or FPN."""
        options = {"momentum": self.momentum, "dtype": self.dtype}
        maps = [Layer(self.width, 7, 2, **options, name="stem")(x, train)]
        options |= {"bottleneck": self.bottleneck, "zero_last": self.zero_last, "remat": self.remat}
        x = max_pool_overlapping(maps[0])
        for i, blocks in enumerate(self.blocks):
            features = self.width * 2**i * (4 if self.bottleneck else 1)
            x = Stage(features, blocks, 2 if i else 1, **options, name=f"stage{i + 1}")(x, train)
            maps.append(x)
        return maps
