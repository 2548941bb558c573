"""nnU-Net's two networks, plain and with a residual encoder, as a plan describes them.

Isensee et al. 2021; version 2.8.1 of the code. Stage s has features[s] channels at the image's size over the product of strides[: s + 1]:

  encoder   [residual: stem]  stage0 .. stage(n-1): blocks[s] convolutions or residual blocks, the first one strided
  decoder   level(n-2) .. level0: transposed convolution by the stride of the stage below, joined with that stage's map (up, skip),
            decoder[n-2-s] convolutions with that stage's kernel
  heads     head(n-2) .. head0: 1x1 convolutions with bias after every level

With `remat` a stage or level keeps nothing but its input for the backward pass: same values, same gradients, same names of parameters,
less memory, about a third more arithmetic.
"""
import flax.linen as nn
import jax
import jax.numpy as jnp

from uscl.models.nnunet_blocks import KAIMING, ConvInstance, Residual, Spread


class Stage(nn.Module):
    """`conv1`, `conv2`, .. or residual `block1`, .. of equal width, the first one strided: x [N, s H, t W, C] -> [N, H, W, features]."""

    features: int
    count: int
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    residual: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        kind, word = (Residual, "block") if self.residual else (ConvInstance, "conv")
        for i in range(self.count):
            stride = self.stride if i == 0 else (1, 1)
            x = kind(self.features, self.kernel, stride, dtype=self.dtype, name=f"{word}{i + 1}")(x)
        return x


class Level(nn.Module):
    """x [N, H, W, C], skip [N, s H, t W, F] -> [N, s H, t W, F]: `up`, joined with the skip, `convs`."""

    count: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, skip):
        features = skip.shape[-1]
        x = Spread(features, self.stride, self.dtype, name="up")(x)
        return Stage(features, self.count, self.kernel, dtype=self.dtype, name="convs")(jnp.concatenate([x, skip], axis=-1))


class Head(nn.Module):
    """1x1 convolution with bias: [N, H, W, C] -> [N, H, W, heads], float32."""

    heads: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        kernel = self.param("leaky_kernel", KAIMING, (1, 1, x.shape[-1], self.heads))
        bias = self.param("bias", nn.initializers.zeros, (self.heads,))
        return (x @ kernel[0, 0].astype(self.dtype)).astype(jnp.float32) + bias


class NNUNet(nn.Module):
    """Images [N, H, W, C] -> list of scores before the softmax or sigmoid, float32, finest first.

    In training n - 1 of them, [N, H, W, heads] and on at every level's size, for deep supervision; otherwise the finest alone.

    Attributes:
      heads: K, one for each value of the label map (softmax) or each region (sigmoid).
      features, strides, kernels, blocks: one entry a stage; pairs are (rows, columns), the first stride (1, 1), kernels odd.
      decoder: convolutions of a level, the deepest level first: one entry less.
      residual: residual blocks in the encoder, behind a stem of features[0]; the decoder has none.
      dtype: type the arithmetic runs in; parameters, statistics and scores are float32.
      remat: keep only the inputs of stages and levels for the backward pass.

    Raises: ValueError for entries whose numbers disagree, and for an image whose side is no multiple of the strides' product.

    Known values, for C = 1 and K = 4: 33 474 840 parameters in 7 plain stages of 32, 64 .. 512, 512, 512 channels; 71 818 580 in the 6
    residual ones of 32 .. 512, 512 channels with 1, 3, 4, 6, 6, 6 blocks.
    """

    heads: int
    features: tuple[int, ...]
    strides: tuple[tuple[int, int], ...]
    kernels: tuple[tuple[int, int], ...]
    blocks: tuple[int, ...]
    decoder: tuple[int, ...]
    residual: bool = False
    dtype: str = "float32"
    remat: bool = False

    @classmethod
    def of(cls, plan, heads: int, **options) -> "NNUNet":
        """The network of a plan, or of any object with the fields above; options are `dtype` and `remat`."""
        pairs = {name: tuple(tuple(map(int, pair)) for pair in getattr(plan, name)) for name in ("strides", "kernels")}
        lists = {name: tuple(map(int, getattr(plan, name))) for name in ("features", "blocks", "decoder")}
        return cls(heads, **pairs, **lists, residual=plan.residual, **options)

    @nn.compact
    def __call__(self, x, train: bool) -> list[jax.Array]:
        n = len(self.features)
        self._check(x.shape[1:3])
        stage_of, level_of = (nn.remat(part) if self.remat else part for part in (Stage, Level))
        if self.residual:
            x = ConvInstance(self.features[0], self.kernels[0], dtype=self.dtype, name="stem")(x)
        maps = []
        for s, (features, count, kernel, stride) in enumerate(zip(self.features, self.blocks, self.kernels, self.strides, strict=True)):
            x = stage_of(features, count, kernel, stride, self.residual, self.dtype, name=f"stage{s}")(x)
            maps.append(x)
        scores = []
        for s, count in zip(range(n - 2, -1, -1), self.decoder, strict=True):
            x = level_of(count, self.kernels[s], self.strides[s + 1], self.dtype, name=f"level{s}")(x, maps[s])
            if train or s == 0 or self.is_initializing():  # every head has its parameters, whatever it is made for
                scores.append(Head(self.heads, self.dtype, name=f"head{s}")(x))
        return scores[::-1] if train else scores[-1:]

    def _check(self, shape):
        n = len(self.features)
        found, wanted = [len(part) for part in (self.strides, self.kernels, self.blocks, self.decoder)], [n, n, n, n - 1]
        if n < 2 or found != wanted:
            raise ValueError(f"{n} features, at least 2: strides, kernels, blocks, decoder have {found} entries, {wanted} expected")
        for axis, side in enumerate(shape):
            product = 1
            for stride in self.strides:
                product *= stride[axis]
            if side % product:
                raise ValueError(f"image of {shape[0]} x {shape[1]} pixels: {('rows', 'columns')[axis]} must be a multiple of {product}")
