"""Views of a frame for contrastive learning: a part of the picture, other grey values, and where the parts of two views meet.

Images are float [N, H, W, C] in [0, 1]; every draw is made per image. A box is (top, left, height, width) in pixels of the source, measured
between pixel edges: pixel p covers [p, p + 1). A negative width mirrors: left is then the box's right edge. Float32 throughout.
"""
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

BOX = 100 / 192  # Chaitanya's box, as a share of the side, and the range of its top-left corner
BOX_OFFSET = (10 / 192, 70 / 192)


class View(NamedTuple):
    """What a view shows, [N, H, W, C], and the box [N, 4] of the source it shows it from."""

    image: jax.Array
    box: jax.Array


def crop_resize(image, box, size) -> jax.Array:
    """Each image's box, resized to `size` (height, width) bilinearly; samples beyond the border take the border's value.

    Output pixel i reads the source at start + (i + 1/2) length / size - 1/2, along each axis.

    Known values: the box (0, 0, H, W) returns the image exactly, (0, W, H, -W) its mirror image; (1, 0, H, W) moves it up by a pixel.
    """
    for axis in (1, 2):
        side, count = image.shape[axis], size[axis - 1]
        at = box[:, axis - 1, None] + (jnp.arange(count) + 0.5) * (box[:, axis + 1, None] / count) - 0.5
        at = jnp.clip(at, 0, side - 1)
        low = jnp.floor(at).astype(jnp.int32)
        across = (slice(None), slice(None), None, None) if axis == 1 else (slice(None), None, slice(None), None)
        take = jax.vmap(lambda picture, index, axis=axis: jnp.take(picture, index, axis=axis - 1))
        part = (at - low)[across]
        image = (1 - part) * take(image, low) + part * take(image, jnp.minimum(low + 1, side - 1))
    return image


def random_boxes(key, n, height, width, *, scale=(BOX**2, BOX**2), offset=BOX_OFFSET) -> jax.Array:
    """[n, 4] boxes of the source's proportions: area uniform in `scale`, a share of the source's; top and left uniform in `offset`,
    shares of the side, or anywhere inside the source when it is None.

    Known values: by default 100 x 100 at a side of 192, corners in [10, 70), so any two boxes share at least 40 x 40 pixels.
    """
    for_area, for_corner = jax.random.split(key)
    share = jnp.sqrt(jax.random.uniform(for_area, (n, 1), minval=scale[0], maxval=scale[1]))
    low, high = (0.0, 1 - share) if offset is None else offset
    corner = low + (high - low) * jax.random.uniform(for_corner, (n, 2))
    return jnp.concatenate([corner, jnp.broadcast_to(share, (n, 2))], axis=1) * jnp.array([height, width] * 2, jnp.float32)


def box_to_view(points, box, size) -> jax.Array:
    """Where a view, or a map of side `size` (height, width) made from it, shows points of the source: [..., P, 2] -> [..., P, 2].

    Points and result are (row, column) pixel positions, pixel centres at whole numbers; box is [..., 4].

    Known values: of the box (0, 0, H, W) at size (H, W) nothing moves; at half the size the source's 0.5 is the map's 0.
    """
    start, length = box[..., None, :2], box[..., None, 2:]
    return (points + 0.5 - start) * (jnp.array(size, jnp.float32) / length) - 0.5


def lattice(count=13) -> np.ndarray:
    """[R, 2] places of the regions as shares of an area: {0, 1/2, 1}^2 row by row, then with 13 the quarter points {1/4, 3/4}^2.

    Raises: ValueError for a count other than 13 or 9.
    """
    if count not in (9, 13):
        raise ValueError(f"count: found {count}; allowed are 9 and 13")
    grid = [np.stack(np.meshgrid(a, a, indexing="ij"), axis=-1).reshape(-1, 2) for a in ([0, 0.5, 1], [0.25, 0.75])]
    return np.concatenate(grid)[:count].astype(np.float32)


def common_regions(boxes, size, *, count=13, region=3, shared=False) -> jax.Array:
    """Top-left corners of the same regions of the source on the decoder maps of several views.

    Each image's `lattice` is laid over the area all its views show, narrowed so that a region around any of its points lies inside each
    map; corner = the point on that view's map - region / 2, between pixel edges, which is the position of the region's first pixel.

    Args:
      boxes: [V, N, 4], the boxes of V views of N images.
      size: (height, width) of the maps.
      count: 13 or 9 regions.
      region: side of a region [pixels of the map]; a mirrored view holds its content mirrored.
      shared: lay one lattice over what all N images' views show, for losses that compare regions of different images.

    Returns: [V, N, R, 2] (row, column), fractional, within [0, side - region]. Views that show no common area have no region in common:
      there the corners nearest to each other return.

    Known values: full boxes give lattice * (side - region); two views shifted by a map pixel give corners that differ by 1.
    """
    side = jnp.array(size, jnp.float32)
    start, length = boxes[..., :2], boxes[..., 2:]
    margin = region / 2 * jnp.abs(length) / side
    over = (0, 1) if shared else 0
    first = jnp.max(jnp.minimum(start, start + length) + margin, axis=over, keepdims=True)
    last = jnp.min(jnp.maximum(start, start + length) - margin, axis=over, keepdims=True)
    middle, reach = (first + last) / 2, jnp.maximum(last - first, 0)
    points = middle[:, :, None] + (lattice(count) - 0.5) * reach[:, :, None]
    corners = (points - start[:, :, None]) * (side / length)[:, :, None] - region / 2
    return jnp.clip(corners, 0, side - region)


def jitter(key, image, *, brightness=0.0, contrast=0.0, gamma=0.0, limit=1.5) -> jax.Array:
    """Other grey values: x^g, then + b, then contrast c about the image's mean, then clipped to [0, limit].

    ln g uniform within +-ln(1 - gamma), b within +-brightness, c in 1 +- contrast; a range of 0 leaves its step out.
    """
    keys = jax.random.split(key, 3)

    def draw(key, reach):
        return jax.random.uniform(key, (len(image), 1, 1, 1), minval=-reach, maxval=reach)

    if gamma:
        image = jnp.maximum(image, 0) ** jnp.exp(draw(keys[0], -np.log1p(-gamma)))
    if brightness:
        image = image + draw(keys[1], brightness)
    if contrast:
        mean = image.mean((1, 2, 3), keepdims=True)
        image = mean + (image - mean) * (1 + draw(keys[2], contrast))
    return jnp.clip(image, 0, limit)


def normalise(image, kind) -> jax.Array:
    """Grey values at the network's door, per image: 'none'; 'standardise' to mean 0 and deviation 1; 'percentile' (x - p1) / (p99 - p1),
    not clipped. A constant image becomes 0 under the latter two. Raises ValueError for another word."""
    if kind == "none":
        return image
    if kind == "standardise":
        centred = image - image.mean((1, 2, 3), keepdims=True)
        return centred * jax.lax.rsqrt(jnp.square(centred).mean((1, 2, 3), keepdims=True) + 1e-8)
    if kind == "percentile":
        low, high = jnp.quantile(image.reshape(len(image), -1), jnp.array([0.01, 0.99]), axis=1)[..., None, None, None]
        return (image - low) / jnp.maximum(high - low, 1e-3)  # a quarter of a grey level: only a constant image is below
    raise ValueError(f"kind: found {kind!r}; allowed are 'none', 'standardise' and 'percentile'")


def view(key, image, *, crop="box", smallest=0.3, brightness=0.3, contrast=0.3, gamma=0.0, flip=0.0) -> View:
    """One random view of each image (Chaitanya et al. 2020, encoder stage, by default), drawn for each image where his code draws grey
    values once a batch.

    Args:
      key: one key, one view.
      image: [N, H, W, C] in [0, 1].
      crop: 'box' (100/192 of the side, see `random_boxes`), 'random' (area uniform in [smallest, 1]) or 'none'; resized to full size.
      smallest: 'random' only. From 0.25 on any two views overlap.
      brightness, contrast, gamma: see `jitter`; the result is clipped to [0, 1.5].
      flip: probability of a left-right flip, told by the box's negative width.

    Returns: View(image [N, H, W, C], box [N, 4] [pixels of the source]).

    Raises: ValueError for another word.

    Known values: crop='none' and all else 0 return the image exactly, with the box (0, 0, H, W).
    """
    n, height, width, _ = image.shape
    for_box, for_flip, for_grey = jax.random.split(key, 3)
    if crop == "none":
        box = jnp.tile(jnp.array([0, 0, height, width], jnp.float32), (n, 1))
    elif crop in ("box", "random"):
        how = {} if crop == "box" else {"scale": (smallest, 1.0), "offset": None}
        box = random_boxes(for_box, n, height, width, **how)
    else:
        raise ValueError(f"crop: found {crop!r}; allowed are 'box', 'random' and 'none'")
    if flip:
        mirrored = box * jnp.array([1, 1, 1, -1]) + box[:, 3:] * jnp.array([0, 1, 0, 0])
        box = jnp.where(jax.random.bernoulli(for_flip, flip, (n, 1)), mirrored, box)
    if crop != "none" or flip:
        image = crop_resize(image, box, (height, width))
    return View(jitter(for_grey, image, brightness=brightness, contrast=contrast, gamma=gamma), box)
