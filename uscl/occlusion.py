"""Occlusion saliency of a clip: hide a block of it, see by how much a score falls, and do so all over the clip.

No gradient, no label where an encoder's embedding is the score, and no architecture: `uscl.occlusion_fast` gives the same map sooner for a
network whose first layers see only their surroundings. Whatever follows is for a network in inference mode, and can be jitted:

    explain = jax.jit(lambda weights, clip: occlusion(partial(score, weights), clip, window=(16, 8, 8), stride=(16, 4, 4)))
"""

from collections.abc import Callable
from functools import reduce

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

_TINY = 1e-12  # an embedding shorter than this has no direction


def occlusion(score: Callable, clip, *, window, stride, baseline=0.0, chunk: int = 16) -> Array:
    """How much a score loses where the clip is hidden (Zeiler and Fergus 2014, in the general form that Captum gives it).

        map(p) = mean over the windows B that cover p of [score(clip) - score(clip with B replaced by the baseline)]

    Windows stand at 0, stride, 2 stride, ... until one reaches the end of the axis, where it is cut. Above 0 is what speaks for the
    score, below 0 what speaks against it. A score that changes by less than about 1e-7 of itself changes by rounding: logits do better
    than probabilities near 1. A single image is a clip of one frame.

    Args:
      score: (clips [N, T, H, W, C]) -> [N]; the logit of a class, or `embedding_distance` for an encoder without labels.
      clip: [T, H, W, C], floating point.
      window, stride: (frames, rows, columns), 1 <= stride <= window <= the clip's size.
      baseline: what is shown instead: a number, or an array that broadcasts to the clip; "mean", the clip's mean of each channel; "blur",
        at each pixel the mean of those at most window // 2 away along each axis, so that brightness stays and structure goes.
      chunk: at most so many clips go into `score` at a time.

    Returns: float32 [H, W] where the window takes in all frames, else [T, H, W]; in the units of the score.

    Raises: ValueError for a clip that is not [T, H, W, C] floats, a window or stride outside its range, an unknown baseline, chunk < 1, or
      a score that is not one number a clip.

    Known values: score = sum(w clip), baseline 0, stride = window: each pixel holds the sum of w clip over its window. A score that does
    not look at the clip: 0.
    """
    clip = checked(clip)
    windows = Windows(clip.shape[:3], window, stride)
    shown = replacement(clip, baseline, windows.window)

    def hidden(number):
        inside = windows.inside(windows.at(number), (0, 0, 0), clip.shape[:3])
        return scored(score, jnp.where(inside, shown, clip))

    return windows.spread(scored(score, clip[None]) - in_chunks(hidden, windows.count, chunk))


def embedding_distance(encode: Callable, clip, *, distance: str = "euclidean") -> Callable:
    """Makes a score of an encoder without labels: how near an embedding stays to that of the clip itself, so that a fall is a distance.

        euclidean   -|encode(x) - encode(clip)|        cosine   cos(encode(x), encode(clip)) - 1

    Args:
      encode: (clips [N, ...]) -> embeddings [N, D]. For `fast_occlusion`, what turns features into embeddings.
      clip: one of them, without N.
      distance: "euclidean", in the embedding's units, or "cosine", within 0 .. 2.

    Returns: score(clips [N, ...]) -> [N] float32, at most 0, and 0 for the clip; occlusion's map is then nowhere below 0, up to rounding.

    Raises: ValueError for an unknown distance.

    Known values: an encoder that returns its two inputs, of the clip (3, 4), scores (0, 0) with -5; (4, -3) with -1 by cosine. By
    cosine, an embedding of length 0 scores -1/2.
    """
    if distance not in ("euclidean", "cosine"):
        raise ValueError(f"distance: found {distance!r}; allowed are 'euclidean' and 'cosine'")

    def embed(clips):
        z = encode(clips).astype(jnp.float32)
        if distance == "euclidean":
            return z
        return z / jnp.maximum(jnp.linalg.norm(z, axis=-1, keepdims=True), _TINY)

    here = embed(jnp.asarray(clip)[None])

    def score(clips):
        apart = embed(clips) - here
        if distance == "euclidean":
            return -jnp.linalg.norm(apart, axis=-1)
        return -jnp.square(apart).sum(-1) / 2  # 1 - cos of unit vectors, without its cancellation

    return score


class Windows:
    """All places of a window in a clip of `shape` (frames, rows, columns), numbered with columns fastest.

    lows, highs: for each axis the first pixel of each place, and the first behind it; counts: places along each axis; count: of all.
    """

    def __init__(self, shape, window, stride):
        self.shape, self.window, self.stride = tuple(shape), tuple(window), tuple(stride)
        if not len(self.window) == len(self.stride) == 3:
            raise ValueError(f"window {window} and stride {stride}: (frames, rows, columns) expected")
        if not all(1 <= s <= w <= n for n, w, s in zip(self.shape, self.window, self.stride, strict=True)):
            raise ValueError(f"window {window} and stride {stride} of a clip {self.shape}: 1 <= stride <= window <= size expected")
        axes = list(zip(self.shape, self.window, self.stride, strict=True))
        self.lows = [np.arange(-(-(n - w) // s) + 1) * s for n, w, s in axes]
        self.highs = [np.minimum(low + w, n) for low, (n, w, _) in zip(self.lows, axes, strict=True)]
        self.counts = tuple(len(low) for low in self.lows)
        self.count = int(np.prod(self.counts))

    def at(self, number) -> tuple[Array, ...]:
        """Numbers [N] of places -> the place along each axis, three of [N]."""
        return jnp.unravel_index(number, self.counts)

    def inside(self, at, starts, sizes) -> Array:
        """Which pixels of a crop the windows hide: bool [N, *sizes, 1]. starts: where crops begin on each axis, a number or one a place."""
        masks = []
        for axis, (start, size) in enumerate(zip(starts, sizes, strict=True)):
            low, high = (jnp.asarray(ends[axis] - start)[at[axis]][:, None] for ends in (self.lows, self.highs))
            mask = (low <= jnp.arange(size)) & (jnp.arange(size) < high)
            masks.append(mask.reshape(-1, *(size if axis == other else 1 for other in range(3)), 1))
        return reduce(jnp.logical_and, masks)

    def spread(self, falls) -> Array:
        """One number a place [count] -> for each pixel the mean over the places that cover it: [T, H, W], or [H, W]."""
        covers = []
        for n, low, high in zip(self.shape, self.lows, self.highs, strict=True):
            cover = (low[:, None] <= np.arange(n)) & (np.arange(n) < high[:, None])
            covers.append(jnp.asarray(cover / cover.sum(0), jnp.float32))  # the number that cover a pixel is a product over axes
        falls = falls.astype(jnp.float32).reshape(self.counts)
        saliency = jnp.einsum("abc,at,bh,cw->thw", falls, *covers, precision=lax.Precision.HIGHEST)
        return saliency[0] if self.window[0] == self.shape[0] else saliency


def replacement(clip, baseline, window) -> Array:
    """What is shown where the clip [T, H, W, C] is hidden, broadcast to it; `baseline` as for `occlusion`."""
    if not isinstance(baseline, str):
        return jnp.broadcast_to(jnp.asarray(baseline, clip.dtype), clip.shape)
    if baseline == "mean":
        return jnp.broadcast_to(clip.mean((0, 1, 2), dtype=jnp.float32).astype(clip.dtype), clip.shape)
    if baseline != "blur":
        raise ValueError(f"baseline: found {baseline!r}; allowed are a number, an array, 'mean' and 'blur'")
    bands = [np.abs(np.subtract.outer(np.arange(n), np.arange(n))) <= w // 2 for n, w in zip(clip.shape, window, strict=False)]
    means = [jnp.asarray(band / band.sum(1, keepdims=True), jnp.float32) for band in bands]
    return jnp.einsum("thwc,at,bh,dw->abdc", clip, *means, precision=lax.Precision.HIGHEST).astype(clip.dtype)


def in_chunks(function, count: int, chunk: int) -> Array:
    """function(numbers [n]) -> [n] of the numbers 0 .. count - 1, in rounds of one size, at most `chunk`: [count]."""
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}; at least 1 clip goes through at a time")
    rounds = -(-count // chunk)
    size = -(-count // rounds)  # as even as possible: what fills the last round up is computed for nothing
    numbers = np.minimum(np.arange(rounds * size, dtype=np.int32), count - 1).reshape(rounds, size)
    return lax.map(function, jnp.asarray(numbers)).reshape(-1)[:count]


def scored(score, clips) -> Array:
    """score(clips) as float32, one number each."""
    scores = score(clips)
    if scores.shape != (len(clips),):
        raise ValueError(f"score: one number a clip expected, [{len(clips)}]; found shape {scores.shape}")
    return scores.astype(jnp.float32)


def checked(clip) -> Array:
    """The clip as an array, if it is one of floats [T, H, W, C]."""
    clip = jnp.asarray(clip)
    if clip.ndim != 4 or not jnp.issubdtype(clip.dtype, jnp.floating):
        raise ValueError(f"clip: [T, H, W, C] floats expected; found {clip.dtype} {clip.shape}")
    return clip
