"""The augmentation nnU-Net trains with (Isensee et al. 2021, version 2.8.1 of the code), in two dimensions, on device.

`draw` throws the dice, one set for each sample; all else here and in `uscl.augment.nnunet_gray` does as told; `nnunet_pair` joins them.
"""
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from uscl.augment import nnunet_gray as gray

OUTSIDE = -1  # label of what lies beyond the image, or outside the mask of a masked one


class Draws(NamedTuple):
    """One set of numbers for each of N samples with C channels; what changes nothing, in brackets, where a change was not drawn."""

    angle: jax.Array  # [N] radians (0)
    zoom: jax.Array  # [N] (1); above 1 the object shrinks
    noise: jax.Array  # [N] standard deviation (0)
    blur: jax.Array  # [N, C, 2] standard deviation, down and across [pixels] (0)
    brightness: jax.Array  # [N, C] (1)
    contrast: jax.Array  # [N, C] (1)
    resolution: jax.Array  # [N, C] share of the pixels of an axis (1)
    gamma_inverted: jax.Array  # [N, C] exponent (1)
    gamma: jax.Array  # [N, C] exponent (1)
    flip: jax.Array  # [N, 2] bool: rows, columns


def draw(key, n, channels, *, turn=180.0, mirror=("rows", "columns")) -> Draws:
    """The dice of `nnunet_pair` for n samples, each independent of the others.

    | change | chance of a sample | chance of a channel | range |
    |---|---|---|---|
    | angle | 0.2 | all alike | U(-turn, turn) |
    | zoom | 0.2 | all alike | U(0.7, 1.4) |
    | noise | 0.1 | all alike | U(0, 0.1) |
    | blur | 0.2 | 0.5 | U(0.5, 1), each axis its own |
    | brightness, contrast | 0.15 each | 1 | U(0.75, 1) or U(1, 1.25), equally likely |
    | resolution | 0.25 | 0.5 | U(0.5, 1) |
    | gamma_inverted, gamma | 0.1, 0.3 | 1 | U(0.7, 1) or U(1, 1.5), equally likely |
    | flip | 0.5 an axis in `mirror` | all alike | |
    """

    def one(key):
        dice = iter(jax.random.uniform(key, (31, channels)))

        def sample(probability):
            return next(dice)[0] < probability

        def between(low, high):
            return low + (high - low) * next(dice)

        def around_one(low, high):
            return jnp.where(next(dice) < 0.5, between(low, 1.0), between(1.0, high))

        def half_the_channels(probability):
            return sample(probability) & (next(dice) < 0.5)

        return Draws(
            angle=jnp.where(sample(0.2), between(-radians, radians)[0], 0.0),
            zoom=jnp.where(sample(0.2), between(0.7, 1.4)[0], 1.0),
            noise=jnp.where(sample(0.1), between(0.0, 0.1)[0], 0.0),
            blur=jnp.where(half_the_channels(0.2)[:, None], jnp.stack([between(0.5, 1.0), between(0.5, 1.0)], axis=-1), 0.0),
            brightness=jnp.where(sample(0.15), around_one(0.75, 1.25), 1.0),
            contrast=jnp.where(sample(0.15), around_one(0.75, 1.25), 1.0),
            resolution=jnp.where(half_the_channels(0.25), between(0.5, 1.0), 1.0),
            gamma_inverted=jnp.where(sample(0.1), around_one(0.7, 1.5), 1.0),
            gamma=jnp.where(sample(0.3), around_one(0.7, 1.5), 1.0),
            flip=jnp.stack([sample(0.5 * (axis in mirror)) for axis in ("rows", "columns")]),
        )

    # Sample by sample: of dice thrown all at once XLA would redo the arithmetic in every pixel they are used in.
    radians = turn * math.pi / 180
    return jax.lax.map(one, jax.random.split(key, n))


def places(shape, size, angle, zoom, flip=None) -> tuple[jax.Array, jax.Array]:
    """Rows and columns [N, H, W] of the source, pixel centres at whole numbers, that a patch of `size` (H, W) shows when turned and zoomed.

    (row, column) = centre + zoom (r cos - c sin, r sin + c cos), r and c counted from the patch's own centre, backwards where `flip` [N, 2]
    says so; centre = (side - 1) / 2. A sample with neither turn nor zoom is cut out instead, from side // 2 - patch // 2 on: half a pixel
    off where just one of the two is odd. shape is the source's (h, w).
    """
    still = ((angle == 0) & (zoom == 1))[:, None, None]
    r, c = jnp.meshgrid(*(jnp.arange(s) - (s - 1) / 2 for s in size), indexing="ij")
    cut = [side // 2 - s // 2 + (s - 1) / 2 for side, s in zip(shape, size, strict=True)]
    row, column = (jnp.where(still, at, (side - 1) / 2) for at, side in zip(cut, shape, strict=True))
    cos, sin = ((zoom * f(angle))[:, None, None] for f in (jnp.cos, jnp.sin))
    down, across = (1.0, 1.0) if flip is None else (jnp.where(flip[:, i], -1.0, 1.0)[:, None, None] for i in (0, 1))
    return row + (cos * down * r - sin * across * c), column + (sin * down * r + cos * across * c)


def _corners(x, row, column, beyond):
    """The four pixels of x [N, h, w, C] around each place, upper left first, `beyond` where there is none, and their bilinear weights."""
    n, height, width, channels = x.shape
    flat = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=beyond).reshape(n, -1, channels)
    row, column = jnp.clip(row, -1, height), jnp.clip(column, -1, width)  # a frame of one pixel stands for all that lies beyond
    top, left = jnp.clip(jnp.floor(row), -1, height - 1), jnp.clip(jnp.floor(column), -1, width - 1)
    down, right = row - top, column - left
    first = ((top + 1) * (width + 2) + left + 1).astype(jnp.int32)
    read = jax.vmap(lambda picture, index: jnp.take(picture, index, axis=0, mode="clip"))
    weight = (1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right
    return [read(flat, first + step) for step in (0, 1, width + 2, width + 3)], weight


def read_image(image, row, column) -> jax.Array:
    """[N, H, W, C]: image [N, h, w, C] read at (row, column) [N, H, W], bilinearly, 0 beyond its border. Whole places return it exactly."""
    return sum(w[..., None] * value for value, w in zip(*_corners(image, row, column, 0), strict=True))


def read_label(label, row, column) -> jax.Array:
    """[N, H, W] int32: the class of label [N, h, w] that weighs most among the four pixels around each place; OUTSIDE is a class too.

    A class has the bilinear weights of its pixels, in thousandths and half precision, as the original rounds them: what is nearly equal is
    equal. A tie goes to the nearest pixel's class (a half to the even pixel) if that is among the equals, else to the smallest.

    Known values: whole places return the label exactly; halfway between the pixels 1 and 2 of a row lies pixel 2's class.
    """
    corner, weight = _corners(label.astype(jnp.int32)[..., None], row, column, OUTSIDE)
    label = [value[..., 0] for value in corner]
    below, right = (jnp.round(at) > jnp.floor(at) for at in (row, column))
    nearest = jnp.where(below, jnp.where(right, label[3], label[2]), jnp.where(right, label[1], label[0]))

    def score(mine):
        total = 1000 * sum(jnp.where(other == mine, w, 0.0) for other, w in zip(label, weight, strict=True))
        return jax.lax.reduce_precision(total, exponent_bits=5, mantissa_bits=10)  # a cast there and back may be optimised away

    scores = [score(mine) for mine in label]
    best = jnp.maximum(jnp.maximum(scores[0], scores[1]), jnp.maximum(scores[2], scores[3]))
    winner, tied = jnp.iinfo(jnp.int32).max, False
    for mine, points in zip(label, scores, strict=True):
        winner = jnp.where(points == best, jnp.minimum(winner, mine), winner)
        tied |= (points == best) & (mine == nearest)
    return jnp.where(tied, nearest, winner)


def mirror_axes(x, flip) -> jax.Array:
    """x [N, H, W, C] with rows, columns reversed in the samples where flip [N, 2] says so."""
    for axis in (1, 2):
        at = jnp.arange(x.shape[axis])
        at = jnp.where(flip[:, axis - 1, None], at[::-1], at)  # read by index: choosing between x and its mirror image makes x twice
        x = jnp.take_along_axis(x, jnp.expand_dims(at, (3 - axis, 3)), axis=axis, mode="clip")
    return x


def apply_draws(key, image, label, draws, *, size, masked=False) -> tuple[jax.Array, jax.Array]:
    """`nnunet_pair` with its dice given; key is for the noise's pixels. A change that no sample drew is not computed."""
    shape = image.shape[1:3]
    image = read_image(image, *places(shape, size, draws.angle, draws.zoom))
    label = read_label(label, *places(shape, size, draws.angle, draws.zoom, draws.flip))  # mirrored as it is read: cheaper than later
    n, height, width, channels = image.shape
    planes = jnp.moveaxis(image, -1, 1).reshape(n * channels, height, width)
    steps = (
        (jnp.repeat(draws.noise, channels), 0, lambda x, value: gray.noise(key, x, value)),
        (draws.blur.reshape(-1, 2), 0, gray.blur),
        (draws.brightness.reshape(-1), 1, lambda x, value: x * value[:, None, None]),
        (draws.contrast.reshape(-1), 1, gray.contrast),
        (draws.resolution.reshape(-1), 1, gray.low_resolution),
        (draws.gamma_inverted.reshape(-1), 1, lambda x, value: gray.gamma(x, value, invert=True)),
        (draws.gamma.reshape(-1), 1, gray.gamma),
    )
    for value, neutral, change in steps:
        planes = jax.lax.cond((value != neutral).any(), change, lambda x, value: x, planes, value)
    image = mirror_axes(jnp.moveaxis(planes.reshape(n, channels, height, width), 1, -1), draws.flip)
    if masked:
        image = jnp.where((label == OUTSIDE)[..., None], 0.0, image)
    return image, jnp.maximum(label, 0)


def nnunet_pair(
    key, image, label, *, size, turn=180.0, mirror=("rows", "columns"), upright=False, masked=False
) -> tuple[jax.Array, jax.Array]:
    """A random change of each labelled image as nnU-Net makes it, cut to the patch the network sees (ranges and chances: `draw`).

    Turn and zoom in one reading of the enlarged crop, then noise, blur, brightness, contrast, low resolution, gamma of the inverted image,
    gamma, mirrors. Each sample draws for itself.

    Args:
      key: one key, one batch.
      image: [N, h, w, C] float32, z-scores; beyond it lies 0.
      label: [N, h, w] int, OUTSIDE (-1) where there is none; beyond it too.
      size: (H, W) of the patch.
      turn: largest turn either way [degrees]. mirror: the axes that may be mirrored.
      upright: an ultrasound image has its probe on top. Rows are then never mirrored and no turn exceeds 15 degrees.
      masked: grey values were normalised inside a mask alone; what ends up outside it (label OUTSIDE) becomes 0 again.

    Returns: image [N, H, W, C] float32, label [N, H, W] int32 with OUTSIDE turned into 0.

    Raises: ValueError for an axis that has no such name.
    """
    if unknown := set(mirror) - {"rows", "columns"}:
        raise ValueError(f"mirror: found {sorted(unknown)[0]!r}; allowed are 'rows' and 'columns'")
    if upright:
        turn, mirror = min(turn, 15.0), tuple(axis for axis in mirror if axis != "rows")
    for_dice, for_noise = jax.random.split(key)
    draws = draw(for_dice, image.shape[0], image.shape[-1], turn=turn, mirror=mirror)
    return apply_draws(for_noise, image.astype(jnp.float32), label, draws, size=size, masked=masked)
