"""Labelled images for fine-tuning: image and label moved together, through one resampling, as Chaitanya et al. 2020 move them."""
import jax
import jax.numpy as jnp

from uscl.augment.frames import jitter


def warp(image, rows, columns, fill) -> jax.Array:
    """Reads each image at (rows, columns), bilinearly; beyond its pixels lies `fill`, into which the border fades over one pixel.

    out = sum over the four pixels around a place of weight * value, plus the weight that falls outside * fill.

    Args: image [N, H, W, C] float; rows, columns [N, h, w], pixel centres at whole numbers; fill, [C] or a number.

    Returns: [N, h, w, C]. Channels that sum to 1, `fill` included, still do.

    Known values: whole places inside the image return its values exactly.
    """
    n, height, width, channels = image.shape
    flat = image.reshape(n, height * width, channels)
    top, left = jnp.floor(rows), jnp.floor(columns)
    down, right = rows - top, columns - left
    out, inside = 0.0, 0.0
    for row, row_weight in ((top, 1 - down), (top + 1, down)):
        for column, column_weight in ((left, 1 - right), (left + 1, right)):
            within = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            weight = jnp.where(within, row_weight * column_weight, 0.0)[..., None]
            index = jnp.clip(row, 0, height - 1).astype(jnp.int32) * width + jnp.clip(column, 0, width - 1).astype(jnp.int32)
            out = out + weight * jax.vmap(lambda picture, i: picture[i])(flat, index)
            inside = inside + weight
    return out + (1 - inside) * fill


def random_affine(key, n, *, right_angles=True) -> jax.Array:
    """[n, 2, 2] matrices that take a place of the result, from the centre, to its place in the source: one of five, equally likely:

    turn by U(-15, 15) degrees; zoom by U(0.95, 1.05); left-right flip; nothing; turn by 45, 90, .. or 315 degrees.
    Without `right_angles` one of the first four: depth runs down an ultrasound image, so the last makes images no probe records.
    The published code flips a second coin before a flip, so that one image in ten is mirrored; here one in five, like the others.
    """
    keys = jax.random.split(key, 4)
    choice = jax.random.randint(keys[0], (n,), 0, 5 if right_angles else 4)
    small = jnp.deg2rad(jax.random.uniform(keys[1], (n,), minval=-15.0, maxval=15.0))
    large = jnp.deg2rad(45.0 * jax.random.randint(keys[2], (n,), 1, 8))
    angle = jnp.where(choice == 0, small, jnp.where(choice == 4, large, 0.0))
    zoom = jnp.where(choice == 1, jax.random.uniform(keys[3], (n,), minval=0.95, maxval=1.05), 1.0)
    mirror = jnp.where(choice == 2, -1.0, 1.0)
    cos, sin = jnp.cos(angle) / zoom, jnp.sin(angle) / zoom
    return jnp.stack([jnp.stack([cos, -sin], axis=-1), jnp.stack([sin, cos * mirror], axis=-1)], axis=-2)


def elastic_field(key, n, height, width, *, sigma=5.0) -> jax.Array:
    """[n, height, width, 2] displacements (row, column) [pixels]: a 3 x 3 grid of N(0, sigma) brought to full size bicubically.

    sigma is in pixels at a side of 192 and grows with the side.
    """
    grid = jax.random.normal(key, (n, 3, 3, 2)) * (sigma / 192 * jnp.array([height, width], jnp.float32))
    return jax.image.resize(grid, (n, height, width, 2), "cubic")


def finetune_pair(
    key, image, label, *, right_angles=True, elastic=5.0, elastic_probability=0.525, affine_probability=1.0, intensity=True
) -> tuple[jax.Array, jax.Array]:
    """A random change of each labelled image (Chaitanya et al. 2020, fine-tuning), image and label by the same warp.

    The turn, zoom or flip of `random_affine`, then `elastic_field`, composed into one bilinear warp about the centre; then, for the image,
    brightness within +-0.1 and contrast 0.8 to 1.2 about its mean, clipped to [0, 1].

    Args:
      key: one key, one batch.
      image: [N, H, W, C] in [0, 1]; beyond it lies 0.
      label: [N, H, W, K] one-hot or soft, channel 0 the background; beyond it lies background.
      right_angles: whether multiples of 45 degrees are among the choices.
      elastic: standard deviation of the elastic grid [pixels at a side of 192]; 0 switches it off.
      elastic_probability: share of the images that are deformed; the published code leaves a random 1 to 18 of 20 as they are.
      affine_probability: share of the images that are turned, zoomed, flipped or left by choice.
      intensity: whether grey values change. The published code means to and never gets there.

    Returns: image [N, H, W, C], label [N, H, W, K], soft at edges, still summing to 1 over K. Float32.

    Known values: elastic=0, affine_probability=0, intensity=False returns both arguments exactly.
    """
    n, height, width, channels = image.shape
    keys = jax.random.split(key, 5)
    grid = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), axis=-1).astype(jnp.float32)
    places = jnp.broadcast_to(grid, (n, height, width, 2))
    if elastic:
        deformed = jax.random.bernoulli(keys[1], elastic_probability, (n, 1, 1, 1))
        places = places + jnp.where(deformed, elastic_field(keys[0], n, height, width, sigma=elastic), 0.0)
    moved = jax.random.bernoulli(keys[3], affine_probability, (n, 1, 1))
    matrix = jnp.where(moved, random_affine(keys[2], n, right_angles=right_angles), jnp.eye(2))
    centre = (jnp.array([height, width], jnp.float32) - 1) / 2
    # Written out: a matrix product may run in less than float32 on some devices, which here would move pixels.
    from_centre = (places - centre)[..., None, :]
    places = (matrix[:, None, None] * from_centre).sum(axis=-1) + centre

    both = jnp.concatenate([image, label], axis=-1).astype(jnp.float32)  # gathered together: half the index arithmetic
    beyond = jnp.zeros(both.shape[-1]).at[channels].set(1.0)
    both = warp(both, places[..., 0], places[..., 1], beyond)
    image, label = both[..., :channels], both[..., channels:]
    return (jitter(keys[4], image, brightness=0.1, contrast=0.2, limit=1.0) if intensity else image), label
