"""A random view of a video clip: the augmentation of the lung paper (BYOL and SimCLR on ultrasound clips, its Table 2), on device.

Clips are float [B, T, H, W, C] in [0, 1], row 0 at the probe. Everything is drawn once for each clip and alike in all its frames, so that
what moves in a view moved in the patient; the noise alone is drawn for every voxel. What the table leaves open is decided as torchvision's
transforms of the same names decide it, and said where it is done. `draw_...` throws the dice, the other functions do as told.
"""
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from uscl.augment.clip_time import frame_order, reorder
from uscl.augment.nnunet import places, read_image


class Affine(NamedTuple):
    """How the picture of each of B clips is moved."""

    angle: jax.Array  # [B] radians
    scale: jax.Array  # [B]; above 1 things grow
    shift: jax.Array  # [B, 2] pixels, down and right


def _dice(key, n, count):
    """`count` arrays [n], uniform in [0, 1), of one call of the generator: each takes time to compile."""
    return jax.random.uniform(key, (n, count)).T


def _between(dice, low, high):
    return low + (high - low) * dice


def draw_affine(key, n, height, width, *, probability=1.0, scale=0.2, shift=0.1, turn=10.0) -> Affine:
    """scale U(1 - scale, 1 + scale), both axes alike; shift within +-shift of the height and of the width, not rounded to pixels;
    angle within +-turn [degrees]. A clip that the coin leaves out gets 1, 0 and 0."""
    coin, angle, size, down, right = _dice(key, n, 5)
    radians = turn * math.pi / 180
    by = jnp.stack([_between(down, -shift, shift) * height, _between(right, -shift, shift) * width], axis=1)
    angle, size, moved = _between(angle, -radians, radians), _between(size, 1 - scale, 1 + scale), coin < probability
    return Affine(jnp.where(moved, angle, 0.0), jnp.where(moved, size, 1.0), jnp.where(moved[:, None], by, 0.0))


def move(clip, affine, mirror) -> jax.Array:
    """Every frame scaled and turned about its centre, then shifted, then mirrored left to right where mirror [B] says so, in one reading.

    The result's place o, from the centre, shows the source's R(angle) (F o - shift) / scale, where R turns and F mirrors columns;
    bilinear, 0 beyond the border.

    Known values: angle 0, scale 1, shift 0 return the clip exactly, and with the mirror its columns reversed; shift (1, 0) moves it a
      pixel down.
    """
    b, t, h, w, c = clip.shape
    zoom, flip = 1 / affine.scale, jnp.stack([jnp.zeros_like(mirror), mirror], axis=1)
    row, column = places((h, w), (h, w), affine.angle, zoom, flip)
    cos, sin = jnp.cos(affine.angle), jnp.sin(affine.angle)
    down, right = affine.shift.T
    row = row - (zoom * (cos * down - sin * right))[:, None, None]
    column = column - (zoom * (sin * down + cos * right))[:, None, None]
    # All frames are read at the same places: as channels they lie side by side, and reading is three times as fast as frame by frame.
    frames = jnp.moveaxis(clip, 1, 3).reshape(b, h, w, t * c)
    return jnp.moveaxis(read_image(frames, row, column).reshape(b, h, w, t, c), 3, 1)


def draw_jitter(key, n, *, probability=1.0, brightness=0.3, contrast=0.3) -> tuple[jax.Array, jax.Array]:
    """Factors of `apply_jitter`, [n] each: U(1 - brightness, 1 + brightness) and U(1 - contrast, 1 + contrast); 1 and 1 by the coin."""
    coin, bright, stretch = _dice(key, n, 3)
    drawn = _between(bright, 1 - brightness, 1 + brightness), _between(stretch, 1 - contrast, 1 + contrast)
    return tuple(jnp.where(coin < probability, value, 1.0) for value in drawn)


def apply_jitter(clip, brightness, contrast) -> jax.Array:
    """clip(b (c x + (1 - c) mean)), to [0, 1], the mean of the whole clip; b, c [B] without unit.

    Brightness multiplies and contrast stretches about the mean, as in torchvision; there the mean is each frame's own. Not clipped in
    between, the two make one line through the grey values, whichever comes first.

    Known values: 1 and 1 return the clip exactly; c = 0 leaves b times its mean.
    """
    mean = clip.mean((1, 2, 3, 4))
    slope, offset = brightness * contrast, brightness * (1 - contrast) * mean
    return jnp.clip(slope[:, None, None, None, None] * clip + offset[:, None, None, None, None], 0.0, 1.0)


def _scramble(x):
    """uint32 -> uint32, one to one: the "lowbias32" hash of Wellons's hash-prospector."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def quick_normal(key, shape) -> jax.Array:
    """Nearly normal noise of mean 0 and variance 1, at a fortieth of the cost of `jax.random.normal` on a CPU, for pictures alone.

    z = (number of ones among 24 random bits + two dice with faces 0/16, .., 15/16 - 12 - 15/16) / sqrt(6 + 85/512), 32 bits a value; the
    bits are a hash of the value's place and of the key. A cheap counter replaces threefry, which takes most of the time otherwise.

    Returns: [*shape] float32, the same however the array is divided among devices.

    Known values: symmetric, variance 1, excess kurtosis -0.079, within +-5.21; its distribution function is within 0.0062 of the normal's.
    """
    offset, salt = jax.random.bits(key, (2,), jnp.uint32)
    place = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    bits = _scramble(_scramble(place + offset) ^ salt)
    dice = (bits & 15) + ((bits >> 4) & 15)
    whole = 16 * jax.lax.population_count(bits >> 8) + dice  # in sixteenths: 0 to 414, 207 in the middle
    return (whole.astype(jnp.float32) - 207.0) * (1 / (16 * math.sqrt(6 + 85 / 512)))


def draw_noise(key, n, *, probability=1.0, deviation=0.03) -> jax.Array:
    """[n] standard deviations of `add_noise`: `deviation`, 0 where the coin says none."""
    return jnp.where(jax.random.bernoulli(key, probability, (n,)), deviation, 0.0)


def add_noise(key, clip, deviation) -> jax.Array:
    """clip + deviation * `quick_normal`, to [0, 1]: independent in every voxel; deviation [B] of a full scale of 1, 0 changes nothing."""
    return jnp.clip(clip + deviation[:, None, None, None, None] * quick_normal(key, clip.shape), 0.0, 1.0)


def draw_box(key, n, height, width, *, probability=0.5, area=(0.02, 0.1), aspect=(0.3, 3.3)) -> jax.Array:
    """[n, 4] int32 boxes (top, left, height, width) to erase, anywhere inside the picture; height and width 0 where the coin says none.

    The area is uniform in `area`, a share of the picture's; height over width [pixels] log-uniform in `aspect`; sides are rounded, and
    one that would exceed the picture is cut to it (torchvision draws again).
    """
    coin, share, shape, *at = _dice(key, n, 5)
    side = jnp.sqrt(_between(share, *area) * (height * width))  # of the square
    root = jnp.exp(_between(shape, math.log(aspect[0]), math.log(aspect[1])) / 2)
    full = jnp.array([height, width], jnp.float32)
    side = jnp.clip(jnp.round(jnp.stack([side * root, side / root], axis=1)), 1, full)
    corner = jnp.floor(jnp.stack(at, axis=1) * (full - side + 1))
    return jnp.where((coin < probability)[:, None], jnp.concatenate([corner, side], axis=1), 0.0).astype(jnp.int32)


def erase_box(clip, box) -> jax.Array:
    """The box [B, 4] (top, left, height, width) of each clip set to 0 in all its frames. A side of 0 erases nothing."""
    first, last = box[:, :2, None], box[:, :2, None] + box[:, 2:, None]
    rows, columns = (
        (jnp.arange(size) >= first[:, axis]) & (jnp.arange(size) < last[:, axis]) for axis, size in enumerate(clip.shape[2:4])
    )
    return jnp.where((rows[:, :, None] & columns[:, None, :])[:, None, :, :, None], 0.0, clip)


def _chosen(how) -> dict:
    return {} if how is True else dict(how)


def clip_view(key, clip, *, affine=True, flip=0.5, jitter=True, noise=True, erase=True, temporal=True) -> jax.Array:
    """One random view of each clip: order of frames, affine and flip, brightness and contrast, noise, a box erased, in this order.

    Args:
      key: one key, one view.
      clip: [B, T, H, W, C] in [0, 1], any float type.
      affine: `draw_affine`'s probability 1, scale 0.2, shift 0.1 [of the side], turn 10 [degrees].
      flip: probability of a left-right flip, a number. Depth is never flipped.
      jitter: `draw_jitter`'s probability 1, brightness 0.3, contrast 0.3.
      noise: `draw_noise`'s probability 1, deviation 0.03 [of a full scale of 1].
      erase: `draw_box`'s probability 0.5, area (0.02, 0.1), aspect (0.3, 3.3).
      temporal: `frame_order`'s reverse, shuffle and replace 0.5, most 4. False is the paper's ablation.
      Each of these but flip is True, for the table's values; a dict of those that are to be others; or False, for nothing of the kind. The
      ranges are the table's; the probabilities of affine, jitter, noise and erasing are not in it. A change that is off is left out of
      the program, and the draws of the others do not depend on it.

    Returns: [B, T, H, W, C] float32 in [0, 1].

    Raises: ValueError for a clip of another rank; TypeError for a name that a dict should not have.

    Known values: all of them False, or all probabilities 0, return the clip exactly.
    """
    if clip.ndim != 5:
        raise ValueError(f"clip: found shape {clip.shape}; allowed is [B, T, H, W, C]")
    clip = clip.astype(jnp.float32)
    b, t, h, w, _ = clip.shape
    for_time, for_affine, for_flip, for_jitter, for_noise, for_voxels, for_box = jax.random.split(key, 7)
    if temporal is not False:
        clip = reorder(clip, frame_order(for_time, b, t, **_chosen(temporal)))
    if affine is not False or flip:
        how = {"probability": 0.0} if affine is False else _chosen(affine)
        clip = move(clip, draw_affine(for_affine, b, h, w, **how), jax.random.bernoulli(for_flip, flip, (b,)))
    if jitter is not False:
        clip = apply_jitter(clip, *draw_jitter(for_jitter, b, **_chosen(jitter)))
    if noise is not False:
        clip = add_noise(for_voxels, clip, draw_noise(for_noise, b, **_chosen(noise)))
    if erase is not False:
        clip = erase_box(clip, draw_box(for_box, b, h, w, **_chosen(erase)))
    return clip
