"""Changes of a clip's frame order: reversed, some frames swapped, some replaced, told by one vector of frame numbers a clip.

A vector [T] names, for every place of the result, the frame of the source that stands there; nothing is read before all of the changes
have been made to it, so that pixels move once (`reorder`).
"""
import jax
import jax.numpy as jnp


def shuffled(index, at, count, dice) -> jax.Array:
    """The first `count` of the places `at` have their frames permuted among themselves, every order equally likely.

    Args: index [T] int; at [m] int, different places; count, an integer array [] from 0 to m; dice [m] uniform in [0, 1).

    Returns: [T], the same frames. Of 2 places half are left as they were, of k places one in k! is.
    """
    slot = jnp.arange(len(at))
    order = jnp.argsort(jnp.where(slot < count, dice, 1.0 + slot))  # from count on all stay
    return index.at[at].set(index[at[order]], unique_indices=True)


def replaced(index, at, count, dice) -> jax.Array:
    """The first `count` of the places `at` show what another place of the clip showed before, every other place equally likely.

    Args: as for `shuffled`. Returns: [T]. A clip of a single frame has no other and stays.
    """
    away = jnp.where(jnp.arange(len(at)) < count, 1 + jnp.floor(dice * (len(index) - 1)).astype(jnp.int32), 0)
    return index.at[at].set(index[(at + away) % len(index)], unique_indices=True)


def frame_order(key, n, frames, *, reverse=0.5, shuffle=0.5, replace=0.5, most=4) -> jax.Array:
    """Frame numbers for n clips of T = `frames` frames: reversed, then `shuffled`, then `replaced`, each by its own coin for each clip.

    The lung paper's Table 2 says "0-4 frames" for the latter two: here k is drawn uniformly from 0, 1, .., `most`, for each on its own, so
    that a clip whose coin fell may still keep its order. Which frames change, and that replacements come from the same clip, the paper
    leaves open: any, and never a frame by itself.

    Args: one key for all clips; reverse, shuffle, replace: probabilities, also traced; most: largest number of frames, of T at the most.

    Returns: [n, T] int32 within 0, .., T - 1.

    Known values: probabilities 0 give 0, 1, .., T - 1; reverse=1 alone gives T - 1, .., 0; shuffle=0.5 alone changes the order of
      0.5 (1/2 + 5/6 + 23/24) / 5 = 0.229 of the clips, replace=0.5 alone in 0.5 * 4/5 = 0.4.
    """
    m = min(most, frames)
    dice = jax.random.uniform(key, (n, 5 + 2 * m + 2 * frames))  # all at once: each call of the generator takes time to compile
    coin = dice[:, :3] < jnp.array([reverse, shuffle, replace])
    count = jnp.where(coin[:, 1:], jnp.floor(dice[:, 3:5] * (most + 1)).astype(jnp.int32), 0)
    at = jnp.argsort(dice[:, 5 + 2 * m :].reshape(n, 2, frames), axis=-1)[..., :m]  # m different places, for each of the two
    forward = jnp.arange(frames, dtype=jnp.int32)
    index = jnp.where(coin[:, :1], forward[::-1], forward)
    index = jax.vmap(shuffled)(index, at[:, 0], count[:, 0], dice[:, 5 : 5 + m])
    return jax.vmap(replaced)(index, at[:, 1], count[:, 1], dice[:, 5 + m : 5 + 2 * m])


def reorder(clip, index) -> jax.Array:
    """[B, T, H, W, C]: place t of clip b shows its frame index[b, t]. index [B, T] int within the clip."""
    return jnp.take_along_axis(clip, index[:, :, None, None, None], axis=1, mode="clip")
