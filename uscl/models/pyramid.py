"""Segmentation networks on a ResNet, a U-Net and a feature pyramid (FPN), in parts that stages hand on by name: encoder, decoder, tail.

| side | the ResNet's map | its channels, of ResNet-50 | U-Net: channels of the block | FPN: what is added up |
|---|---|---|---|---|
| S/32 | `stage4` | 8 w, 32 w | | yes |
| S/16 | `stage3` | 4 w, 16 w | those of the map | yes |
| S/8 | `stage2` | 2 w, 8 w | those of the map | yes |
| S/4 | `stage1` | w, 4 w | those of the map | yes |
| S/2 | `stem` | w, w | w | |
| S | | | 16, an up-convolution alone | 2 w, enlarged |

w is `ResNet.width`. Sides are rounded up on the way down and cropped on the way up, so images of any size keep it.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from uscl.models.blocks import ConvNorm, upsample_convolve
from uscl.models.clip_heads import GLOROT
from uscl.models.resnet import ResNet
from uscl.models.unet import Decoder, Tail

FULL = 16  # channels of the U-Net's map at full size, as in `UNet`, whatever the encoder's width


def repeat(x) -> jax.Array:
    """Nearest-neighbour enlargement by 2: [N, H, W, C] -> [N, 2H, 2W, C]."""
    n, height, width, channels = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (n, height, 2, width, 2, channels)).reshape(n, 2 * height, 2 * width, channels)


def enlarge(x) -> jax.Array:
    """Bilinear enlargement by 2: [N, H, W, C] -> [N, 2H, 2W, C], pixels as areas and edges repeated (torch's align_corners=False).

    Along either axis out(2i) = (x(i - 1) + 3 x(i)) / 4 and out(2i + 1) = (3 x(i) + x(i + 1)) / 4.

    Known values: a row 0, 4 becomes 0, 1, 3, 4; what is constant stays so.
    """
    for axis in (1, 2):
        size = x.shape[axis]
        padded = jnp.pad(x, [(int(i == axis),) * 2 for i in range(x.ndim)], mode="edge")
        before, after = (jax.lax.slice_in_dim(padded, start, start + size, axis=axis) for start in (0, 2))
        both = jnp.stack([0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after], axis=axis + 1)
        x = both.reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])
    return x


class UpDecoder(nn.Module):
    """The ResNet's maps -> features [N, H, W, 16], `size` = (H, W): `UNet`'s `blocks` to the stem's side, then `up` to the image's.

    No map of the ResNet is as large as the image, so the last step joins none; the U-Nets on ResNets that are in common use do the same.
    """

    momentum: float = 0.9
    dtype: str = "float32"
    remat: bool = False

    @nn.compact
    def __call__(self, maps: list[jax.Array], size: tuple[int, int], train: bool) -> jax.Array:
        options = {"momentum": self.momentum, "dtype": self.dtype}
        x = Decoder(len(maps) - 1, **options, remat=self.remat, name="blocks")(maps, train)
        x = ConvNorm(FULL, 2, upsample_convolve, **options, name="up")(x, train)
        return x[:, : size[0], : size[1]]


class PyramidDecoder(nn.Module):
    """The ResNet's maps -> features [N, H, W, 2 w], `size` = (H, W), by a feature pyramid from the coarsest map to that of S/4.

        p_l = lateral_l(map_l) + repeat(p_(l+1));   y_l = smooth_l(p_l) + enlarge(y_(l+1));   out = enlarge(enlarge(y_1))

    lateral_l is a 1x1 convolution with bias to 4 w channels, smooth_l a 3x3 one to 2 w with BatchNorm and ReLU; at w = 64 these are the
    papers' 256 and 128. The pyramid is that of Lin et al. 2017, its sum for segmentation that of Kirillov et al. 2019 (Panoptic FPN). They
    smooth each level once more, and again at every doubling on its way to S/4, and normalise by GroupNorm; their last step is one of 4.
    """

    momentum: float = 0.9
    dtype: str = "float32"

    @nn.compact
    def __call__(self, maps: list[jax.Array], size: tuple[int, int], train: bool) -> jax.Array:
        width = maps[0].shape[-1]
        lateral = partial(nn.Dense, 4 * width, dtype=self.dtype, kernel_init=GLOROT)
        smooth = partial(ConvNorm, 2 * width, momentum=self.momentum, dtype=self.dtype)
        p = y = None
        for l in range(len(maps) - 1, 0, -1):
            rows, columns = maps[l].shape[1:3]
            side = lateral(name=f"lateral{l}")(maps[l])
            p = side if p is None else side + repeat(p)[:, :rows, :columns]
            seen = smooth(name=f"smooth{l}")(p, train)
            y = seen if y is None else seen + enlarge(y)[:, :rows, :columns]
        return enlarge(enlarge(y))[:, : size[0], : size[1]]


class ResNetUNet(nn.Module):
    """Images [N, H, W, C], H and W at least 32 -> class scores before the softmax [N, H, W, classes], float32.

    Attributes:
      classes: label values K, background included.
      encoder: its momentum, dtype and remat count for decoder and tail too. `transfer` carries it from any model that holds one.

    Known values: ResNet-18, width 64, C = 1, K = 2: 11 170 240 parameters in the encoder, 3 109 232 in the decoder, 4 992 in the tail.
    """

    classes: int
    encoder: ResNet

    def setup(self):
        options = {name: getattr(self.encoder, name) for name in ("momentum", "dtype", "remat")}
        self.decoder = UpDecoder(**options)
        self.tail = Tail(self.classes, **options)

    def __call__(self, x, train: bool) -> jax.Array:
        return self.tail(self.decoder(self.encoder.maps(x, train), x.shape[1:3], train), train)


class ResNetFPN(nn.Module):
    """Images [N, H, W, C], H and W at least 32 -> class scores before the softmax [N, H, W, classes], float32.

    The tail is a 1x1 convolution. It follows the enlargement where Kirillov et al. have it before: the two change places without changing
    a score, since what is constant stays so, and the decoder's features are as large as the image.

    Attributes: those of `ResNetUNet`; remat is the encoder's alone.

    Known values: ResNet-18, width 64, C = 1, K = 2: 11 170 240 parameters in the encoder, 1 427 968 in the decoder, 258 in the tail.
    """

    classes: int
    encoder: ResNet

    def setup(self):
        self.decoder = PyramidDecoder(self.encoder.momentum, self.encoder.dtype)
        self.tail = nn.Dense(self.classes, dtype=self.encoder.dtype, kernel_init=GLOROT)

    def __call__(self, x, train: bool) -> jax.Array:
        return self.tail(self.decoder(self.encoder.maps(x, train), x.shape[1:3], train)).astype(jnp.float32)
