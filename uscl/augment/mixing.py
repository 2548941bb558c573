"""Mixing the frames of a cine: the two samples of a recording that USCL contrasts (Chen et al. 2021)."""

import jax
import jax.numpy as jnp
import numpy as np


def mix_frames(key, frames, *, alpha=0.5, beta=0.5, count=None) -> jax.Array:
    """Two samples of each cine, each of them between a frame of its own and a third frame, the anchor, that both share.

        sample_1 = l f_1 + (1 - l) f_2,   sample_2 = l f_3 + (1 - l) f_2,   l ~ Beta(alpha, beta), one for a cine

    f_2 is the anchor. The frames have been augmented before, each on its own, as in the released code; Beta(1/2, 1/2) prefers the two
    ends, so samples are often nearly plain frames. A batch holds a cine once, so everything in it repels but the cine's other sample:
    `pair_weights(eye(N), arange(N), negatives="all", views=2)` and `info_nce(.., temperature=0.5, denominator="all")`.

    Args:
      key: one key.
      frames: [N, 3, H, W, C] float, three different frames f_1, f_2, f_3 of each of N cines, drawn from all of the cine.
      alpha, beta: of the distribution, > 0; may be traced.
      count: [N] integers, how many frames the cine has. From 3 on they are mixed. Of 2, in places 0 and 1, and of 1, which stands in
        both places with another augmentation in each, these two places are the samples, as they are; place 2 is not used. None: 3.

    Returns: [N, 2, H, W, C] of the frames' type, float32 for integers. Sample v of cine n is row v N + n of the batch after
    `swapaxes(0, 1).reshape(2 * N, H, W, C)`.

    Raises: ValueError for another shape, a count below 1, or an alpha or beta that is not positive.

    Known values: f_1 = 1, f_2 = 0, f_3 = 2 everywhere give l and 2 l; f_1 = f_2 = f_3 gives that frame twice. By default l has mean 1/2,
    variance 1/8, and lies below 0.1 with probability 2/pi asin(sqrt(0.1)) = 0.205.
    """
    frames = jnp.asarray(frames)
    if frames.ndim != 5 or frames.shape[1] != 3:
        raise ValueError(f"frames [N, 3, H, W, C] expected: found {frames.shape}")
    for name, value in (("alpha", alpha), ("beta", beta)):
        if isinstance(value, int | float | np.number) and not 0 < value < float("inf"):
            raise ValueError(f"{name}: found {value}; it must be positive and finite")
    if count is not None and np.shape(count) != frames.shape[:1]:
        raise ValueError(f"count [{len(frames)}] expected, one for each cine: found {np.shape(count)}")
    if count is not None and not isinstance(count, jax.Array) and np.min(count, initial=1) < 1:
        raise ValueError(f"count: found a cine of {np.min(count)} frames; each needs 1 or more")
    frames = frames if jnp.issubdtype(frames.dtype, jnp.floating) else frames.astype(jnp.float32)
    share = _beta(key, len(frames), alpha, beta).astype(frames.dtype)[:, None, None, None, None]
    mixed = share * frames[:, ::2] + (1 - share) * frames[:, 1:2]
    if count is None:
        return mixed
    return jnp.where((jnp.asarray(count) >= 3)[:, None, None, None, None], mixed, frames[:, :2])


def _beta(key, n, alpha, beta) -> jax.Array:
    """[n] draws from Beta(alpha, beta). With both 1/2, told as numbers, by its quantiles, which compile in a sixth of the time: the
    general sampler's loops take 1.8 s of a CPU."""
    if isinstance(alpha, float) and isinstance(beta, float) and alpha == beta == 0.5:
        return jnp.square(jnp.sin(jnp.pi / 2 * jax.random.uniform(key, (n,))))
    return jax.random.beta(key, alpha, beta, (n,))
