"""What pretraining trains: the encoder under a global head, or encoder and first decoder blocks under a local one. Heads are thrown away.

Chaitanya et al. 2020, g1 and g2. Embeddings are not normalised; the losses compare directions.
"""
import flax.linen as nn
import jax
import jax.numpy as jnp

from uscl.losses import sample_regions
from uscl.models.blocks import HE_NORMAL, ConvNorm, convolve
from uscl.models.unet import WIDTH, Decoder, Encoder

REGION = 3  # side of a region [pixels of the map]


def dense(features, dtype, name):
    return nn.Dense(features, use_bias=False, dtype=dtype, kernel_init=nn.initializers.glorot_uniform(), name=name)


class GlobalHead(nn.Module):
    """g1: the deepest map flattened -> dense 1024, ReLU -> dense 128, both without bias. No pooling: it is tied to one image size."""

    hidden: int = 1024
    features: int = 128
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        x = x.reshape(len(x), -1)
        x = nn.relu(dense(self.hidden, self.dtype, "dense1")(x))
        return dense(self.features, self.dtype, "dense2")(x)


class LocalHead(nn.Module):
    """g2: 1x1 convolution, BatchNorm, ReLU -> 1x1 convolution, both without bias, as wide as the map."""

    momentum: float = 0.99
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, train: bool):
        features = x.shape[-1]
        x = ConvNorm(features, 1, use_bias=False, momentum=self.momentum, dtype=self.dtype, name="conv1")(x, train)
        kernel = self.param("kernel", HE_NORMAL, (1, 1, features, features))
        return convolve(x, kernel.astype(self.dtype))


class RegionHead(nn.Module):
    """One dense layer without bias, shared by all regions: [..., R, 9 C] -> [..., R, 128]."""

    features: int = 128
    dtype: str = "float32"

    @nn.compact
    def __call__(self, regions):
        return dense(self.features, self.dtype, "dense")(regions)


class GlobalModel(nn.Module):
    """Images [N, H, W, C] -> embeddings z [N, 128], float32. Parts: `encoder`, `g1`."""

    width: tuple[int, ...] = WIDTH
    momentum: float = 0.99
    dtype: str = "float32"
    remat: bool = False

    def setup(self):
        self.encoder = Encoder(self.width, self.momentum, self.dtype, self.remat)
        self.g1 = GlobalHead(dtype=self.dtype)

    def __call__(self, x, train: bool):
        return self.g1(self.encoder(x, train)[-1]).astype(jnp.float32)


class LocalModel(nn.Module):
    """Images -> a decoder map after `blocks` blocks, or the embeddings of regions of it. Parts: `encoder`, `decoder`, `g2`, `region`.

    Without `corners` the map [M, h, w, C] returns; `model.apply(variables, patches, method="regions")` then embeds what is read off it.
    With `corners`, [R, 2] or [M, R, 2] top-left (row, column) in pixels of the map, or a function (h, w) -> corners for callers that do
    not know the map's size, z [M, R, 128] returns. Both float32.
    """

    blocks: int = 3
    width: tuple[int, ...] = WIDTH
    momentum: float = 0.99
    dtype: str = "float32"
    remat: bool = False

    def setup(self):
        self.encoder = Encoder(self.width, self.momentum, self.dtype, self.remat)
        self.decoder = Decoder(self.blocks, self.momentum, self.dtype, self.remat)
        self.g2 = LocalHead(self.momentum, self.dtype)
        self.region = RegionHead(dtype=self.dtype)

    def __call__(self, x, corners=None, *, train: bool) -> jax.Array:
        maps = self.g2(self.decoder(self.encoder(x, train), train), train).astype(jnp.float32)
        if self.is_initializing():  # a call that asks for the map alone makes all parameters as well
            self.regions(jnp.zeros((1, 1, REGION * REGION * maps.shape[-1])))
        if corners is None:
            return maps
        corners = corners(*maps.shape[1:3]) if callable(corners) else corners
        return self.regions(sample_regions(maps, corners, size=REGION))

    def regions(self, patches) -> jax.Array:
        """Flattened regions [..., R, 9 C] -> [..., R, 128]."""
        return self.region(patches).astype(jnp.float32)
