"""The Nakagami image of a batch, as logarithms, for the speckle loss: local parameters do not fall where a region spans two tissues."""
import jax
import jax.numpy as jnp

_TINY = 1e-12  # a power relative to the largest, below this is none
_HIGHEST = jax.lax.Precision.HIGHEST
SMALLEST = 3.0  # pixels: below, a window holds too few to have a variance


def window_sides(window, window_mm=0.0, mm=None) -> jax.Array:
    """Sides of the window [pixels]: `window` [], or where `window_mm` is above 0 [B]: window_mm / mm, and `window` where mm is nan.

    Args: window, pixels; window_mm, mm; mm [B], mm a pixel of each image, nan where unknown. No side is below 3.

    Raises: ValueError for a window_mm without mm. Known values: 2.6 mm at 0.2 mm a pixel: 13; at 2 mm a pixel: 3.
    """
    if not window_mm:
        return jnp.maximum(jnp.asarray(window, jnp.float32), SMALLEST)
    if mm is None:
        raise ValueError(f"window_mm={window_mm} needs mm [B], the mm a pixel of each image")
    mm = jnp.asarray(mm, jnp.float32)
    known = jnp.isfinite(mm) & (mm > 0)
    return jnp.maximum(jnp.where(known, window_mm / jnp.where(known, mm, 1.0), window), SMALLEST)


def local_logs(image, valid, side) -> tuple[jax.Array, jax.Array]:
    """ln m and ln omega by moments in a sliding square window, at every pixel of every image.

    With p = image^2 and E the mean over the valid pixels of the window: omega = E[p], 1 / m = E[p^2] / E[p]^2 - 1, held in [1/100, 20].
    A pixel on the window's edge counts by the share of it that lies inside, so that any side, whole or not, gives a centred window.

    Each sum is a product with a banded matrix from the left and from the right, so that the side may differ from image to image.
    `uscl.nakagami.parameter_map` is the same for one image and a whole side, where m ends at 10; m on gray goes further.

    Args:
      image: [B, H, W] envelope >= 0.
      valid: [B, H, W] bool, the pixels that count.
      side: [] or [B], of the window [pixels].

    Returns: logs [B, H, W, 2], float32, without a gradient: they are data; 0 where unknown. known [B, H, W] bool: valid pixels cover at
    least half of the window's part inside the image, and are not black throughout.

    Known values: on a chequerboard of p = 1/4 and 3/4 a window of side 4 holds equal parts of both: (ln 4, ln 1/2), 2 pixels or more from
    the border. A constant p: (ln 100, ln p).
    """
    image, valid = jax.lax.stop_gradient(image).astype(jnp.float32), valid.astype(jnp.float32)
    half = jnp.broadcast_to(jnp.asarray(side, jnp.float32), image.shape[:1])[:, None, None] / 2 + 0.5
    rows, columns = (jnp.clip(half - jnp.abs(jnp.arange(n)[:, None] - jnp.arange(n)), 0, 1) for n in image.shape[1:])

    def box(x):
        return jnp.matmul(jnp.matmul(rows, x, precision=_HIGHEST), columns, precision=_HIGHEST)

    scale = image.max(axis=(1, 2), keepdims=True)  # fourth powers of an RF envelope would overflow
    scale = jnp.where(scale > 0, scale, 1.0)
    p = valid * jnp.square(image / scale)
    count = box(valid)
    share = 1 / jnp.where(count > 0, count, 1.0)
    power = box(p) * share
    known = (2 * count >= rows.sum(-1)[:, :, None] * columns.sum(-1)[:, None, :]) & (power > _TINY)
    safe = jnp.where(known, power, 1.0)
    # A window's sums are of one size, so in float32 the uncentred second moment serves any m up to the limit.
    variation = jnp.clip(box(jnp.square(p)) * share / jnp.square(safe) - 1, 0.01, 20.0)
    logs = jnp.stack([-jnp.log(variation), jnp.log(safe) + 2 * jnp.log(scale)], axis=-1)
    return jnp.where(known[..., None], logs, 0.0), known
