"""The local loss of Chaitanya et al. 2020: small regions of a decoder's map attract the same region of a partner, repel their neighbours.

Which regions there are, which of them are neighbours, what a region holds, and how image pairs become region pairs; the loss itself is
`info_nce` on the regions' embeddings. The two lists are made once, in NumPy; everything that meets a map is JAX.
"""
import jax
import jax.numpy as jnp
import numpy as np


def region_corners(height, width, *, size=3, count=13) -> np.ndarray:
    """Top-left corners of the regions of a map (Chaitanya's geometry).

    With e = side - 4 for 3 x 3 regions (in general side - size - 1) and e = side - 1 for single pixels, along each axis:
    nine on the lattice {0, e/2, e} x {0, e/2, e}, row by row; with 13, then four at the quarter points {e/4, 3e/4}, likewise. Truncated.

    Args: height, width [pixels of the map]; size, side of a region [pixels]; count, 13 or 9.

    Returns: [R, 2] int32, (row, column).

    Raises: ValueError for another count, or a map on which two regions would fall on the same place.

    Known values: 48 x 48 gives 0, 22, 44 and quarter points 11, 33; the last 3 x 3 region ends at pixel 46.
    """
    if count not in (9, 13):
        raise ValueError(f"count: found {count}; allowed are 9 and 13")
    axes = []
    for side in (height, width):
        end = side - 1 if size == 1 else side - size - 1
        axes.append((np.array([0, end // 2, end]), np.array([end // 4, 3 * end // 4])))
        if end < 0 or len(np.unique(np.concatenate(axes[-1]) if count == 13 else axes[-1][0])) < (5 if count == 13 else 3):
            raise ValueError(f"a map of {height} x {width} is too small for {count} different regions of {size} x {size}")
    grids = [np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2) for rows, columns in zip(*axes, strict=True)]
    return np.concatenate(grids)[:count].astype(np.int32)


def region_neighbours(corners, *, k=5) -> np.ndarray:
    """The k other regions nearest to each (a rule in place of Chaitanya's table by hand, which names five nearby places for each).

    Args: corners, [R, 2] concrete numbers in any unit; k, from 0 to R - 1.

    Returns: [R, R] bool; row r is True at r's neighbours. Among equally distant regions the one listed first counts as nearer.

    Raises: ValueError when there are no k other regions.

    Known values: of 13 regions, each of the four quarter points is a neighbour of the centre (region 4); each row sums to k.
    """
    corners = np.asarray(corners, np.float64)
    if corners.ndim != 2 or not 0 <= k < len(corners):
        raise ValueError(f"k: found {k} for corners of shape {corners.shape}; [R, 2] and at most R - 1 neighbours expected")
    squared = np.square(corners[:, None] - corners[None]).sum(axis=-1)
    squared = np.round(squared / max(squared.max(), 1e-300), 9)  # equal distances must tie, whatever the rounding of their fractions
    np.fill_diagonal(squared, np.inf)
    order = np.argsort(squared, axis=1, kind="stable")
    near = np.zeros(squared.shape, bool)
    np.put_along_axis(near, order[:, :k], True, axis=1)
    return near


def sample_regions(maps, corners, *, size=3) -> jax.Array:
    """Reads size x size regions off maps, between pixels by bilinear interpolation.

    out[m, r] = maps[m, y + 0 .. y + size - 1, x + 0 .. x + size - 1, :] flattened row by row, channels last, (y, x) the region's corner.

    Args:
      maps: [M, h, w, C].
      corners: [R, 2], the same for every map, or [M, R, 2]; (row, column) in pixels of the map, whole or fractional. Samples beyond
        the border take the border's value.
      size: side of a region [pixels].

    Returns: [M, R, size * size * C] of the maps' type; exactly the map's values at whole corners inside it. Differentiable in `maps`.

    Raises: ValueError for shapes that do not fit.

    Known values: a map that is linear in row and column is read exactly at any corner inside it.
    """
    maps, corners = jnp.asarray(maps), jnp.asarray(corners, jnp.float32)
    if maps.ndim != 4 or corners.ndim not in (2, 3) or corners.shape[-1] != 2:
        raise ValueError(f"maps [M, h, w, C] and corners [R, 2] or [M, R, 2] expected: found {maps.shape} and {corners.shape}")
    m, h, w, c = maps.shape
    corners = jnp.broadcast_to(corners, (m, *corners.shape[-2:]))
    first = jnp.floor(corners)
    # All samples of a region share one fraction, so (size + 1)^2 pixels are enough; clipping the index clamps at the border.
    part = (corners - first).astype(maps.dtype)[..., None, None, None]
    index = first.astype(jnp.int32)[..., None] + jnp.arange(size + 1)
    rows, columns = jnp.clip(index[:, :, 0], 0, h - 1), jnp.clip(index[:, :, 1], 0, w - 1)
    patch = maps[jnp.arange(m)[:, None, None, None], rows[:, :, :, None], columns[:, :, None, :]]
    patch = (1 - part[:, :, 0]) * patch[:, :, :-1] + part[:, :, 0] * patch[:, :, 1:]
    patch = (1 - part[:, :, 1]) * patch[:, :, :, :-1] + part[:, :, 1] * patch[:, :, :, 1:]
    return patch.reshape(m, corners.shape[1], size * size * c)


def local_pairs(positive, neighbours, *, negatives, negative=None) -> tuple[jax.Array, jax.Array]:
    """Region pairs from image pairs, for `info_nce` on regions; region r of image m is row m R + r.

    positive[(i, r), (j, s)] = positive[i, j] where r = s, i != j.
    negative[(i, r), (j, s)] = 1 where s is a neighbour of r, and j is i or a partner of i (positive[i, j] > 0): negatives="image".
    negatives="batch" adds every region of every image that is not i and no partner of i.

    Chaitanya's pairs are those of two views of each image: R = 13 and 5 neighbours give each anchor 1 positive and 10 negatives.

    Args:
      positive: [M, M] weights of the images (`uscl.temporal.pair_weights`), the diagonal is ignored.
      neighbours: [R, R] bool, from `region_neighbours`.
      negatives: "image" or "batch".
      negative: "batch" only; [M, M] weights of the images with which those further regions repel. None: 1 for all.

    Returns: positive and negative, each [M R, M R] float32.

    Raises: ValueError for another word or matrices that are not square.
    """
    if negatives not in ("image", "batch"):
        raise ValueError(f"negatives: found {negatives!r}; allowed are 'image' and 'batch'")
    positive, neighbours = jnp.asarray(positive, jnp.float32), jnp.asarray(neighbours, bool)
    if positive.shape != 2 * positive.shape[:1] or neighbours.shape != 2 * neighbours.shape[:1]:
        raise ValueError(f"positive [M, M] and neighbours [R, R] expected: found {positive.shape} and {neighbours.shape}")
    own = jnp.eye(len(positive), dtype=bool)
    related = own | (positive > 0)
    repels = jnp.where(related[:, None, :, None] & neighbours[None, :, None, :], 1.0, 0.0)
    if negatives == "batch":
        far = jnp.ones_like(positive) if negative is None else jnp.asarray(negative, jnp.float32)
        repels = repels + jnp.where(related, 0.0, far)[:, None, :, None]
    attracts = jnp.where(own, 0.0, positive)[:, None, :, None] * jnp.eye(len(neighbours), dtype=jnp.float32)[None, :, None, :]
    side = len(positive) * len(neighbours)
    return attracts.reshape(side, side), repels.reshape(side, side)
