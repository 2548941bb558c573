"""Occlusion saliency that computes anew only what a window reaches: the same map as `uscl.occlusion`, for a convolutional network.

The first layers hold most of the work, and each of their features sees only a neighbourhood. So they run on crops about the window, the
block of features that changed is pasted into the map of the untouched clip, and the rest of the network goes on from there.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from uscl.occlusion import Windows, checked, in_chunks, replacement, scored


class Local(NamedTuple):
    """Layers whose feature i sees, along each axis, only the inputs from step i - reach to step i + reach.

    function: (maps [N, T, H, W, C]) -> [N, T', H', W', D], the same at every place but for the zeros beyond the border: convolutions,
    pooling, normalisation by running statistics. step, reach: (frames, rows, columns); `receptive` counts them. A reach too large costs
    time, one too small gives a wrong map.
    """

    function: Callable
    step: tuple[int, int, int]
    reach: tuple[int, int, int]


def receptive(layers: Sequence) -> tuple[int, int]:
    """(step, reach) along one axis of (kernel, stride) layers, one after another; branches that are added: the longest alone.

        step = product of the strides        reach = sum over layers of side (product of the strides before)

    side is k // 2 of an odd kernel with as much padding on both sides. An even kernel without padding, such as 2 x 2 pooling, sees k - 1
    to one side. Known values: 3x3: (1, 1); 3x3, 3x3 of stride 2, 1x1, 3x3: (2, 4); 3x3, 2x2 pooling, 3x3: (2, 4).
    """
    step, reach = 1, 0
    for kernel, stride in layers:
        reach += step * (kernel // 2 if kernel % 2 else kernel - 1)
        step *= stride
    return step, reach


def fast_occlusion(early: Sequence[Local], late: Callable, clip, *, window, stride, baseline=0.0, chunk: int = 16) -> Array:
    """`occlusion` of the score late(early(clip)), equal up to rounding.

        each part of `early`, on a crop about what changed before it:
        block = the features that see a changed input        crop = the inputs that the block sees, whole steps from the border

    Crops of one part have one size, so that they share a batch; near the border they are moved inwards until they end with the clip, whose
    padding is then the true one. Elsewhere the padding at a crop's edge reaches features that are thrown away.

    Args:
      early: one or more `Local` in their order. More than one pays where the first has a much smaller reach than all together.
      late: (features [N, T', H', W', D]) -> scores [N]: the rest of the network; of an encoder,
        embedding_distance(rest, features of the clip).
      clip, window, stride, baseline, chunk: as for `occlusion`.

    Returns: float32 [H, W] or [T, H, W], as `occlusion`.

    Raises: ValueError as `occlusion` does, and where a part does not shrink its maps by its step.

    Known values: those of `occlusion`.
    """
    clip = checked(clip)
    windows = Windows(clip.shape[:3], window, stride)
    shown = replacement(clip, baseline, windows.window)
    maps = [clip]
    for part in early:
        maps.append(part.function(maps[-1][None])[0])
    crops, changed = [], zip(windows.lows, windows.highs, strict=True)
    for part, before, after in zip(early, maps, maps[1:], strict=False):
        axes = list(zip(before.shape[:3], after.shape[:3], changed, part.step, part.reach, strict=True))
        if any(not n - 2 * reach - step < features * step < n + step for n, features, _, step, reach in axes):
            raise ValueError(f"early[{len(crops)}] turned {before.shape[:3]} into {after.shape[:3]}, which is not its step {part.step}")
        crops.append([_crop(*axis) for axis in axes])
        changed = [(axis.first, axis.behind) for axis in crops[-1]]
    crops.append([_whole(n, low) for n, (low, _) in zip(maps[-1].shape[:3], changed, strict=True)])

    def hidden(number):
        at = windows.at(number)
        inside = windows.inside(at, [axis.start for axis in crops[0]], [axis.size for axis in crops[0]])
        x = jnp.where(inside, _cut(shown, at, crops[0]), _cut(clip, at, crops[0]))
        for k, (part, axes, into) in enumerate(zip(early, crops, crops[1:], strict=False)):
            features, expected = part.function(x), tuple(axis.features for axis in axes)
            if features.shape[1:4] != expected:
                raise ValueError(f"early[{k}]: step {part.step} makes {expected} of a crop {x.shape[1:4]}; found {features.shape[1:4]}")
            x = _paste(features, _cut(maps[k + 1], at, into), at, axes, into, part.step)
        return scored(late, x)

    return windows.spread(scored(late, maps[-1][None]) - in_chunks(hidden, windows.count, chunk))


class _Crop(NamedTuple):
    """Along one axis, for every place: inputs start .. start + size, and of their `features` those from `first` up to `behind`."""

    start: np.ndarray
    size: int
    features: int
    first: np.ndarray
    behind: np.ndarray


def _crop(n, features, changed, step, reach) -> _Crop:
    low, behind = changed
    first = np.clip(-((reach - low) // step), 0, features - 1)
    last = np.clip((behind - 1 + reach) // step, first, features - 1)
    block = int((last - first).max()) + 1
    first = np.minimum(first, features - block)
    # From here on all of the block is asked for; and the crop holds all that changed, so that it can be pasted whole.
    start = np.maximum(0, step * np.minimum(first - -(-reach // step), low // step))
    end = np.minimum(n, np.maximum(step * (first + block - 1) + reach + 1, behind))
    left = (n - int((end - start).max())) // step  # so many whole steps the crop may leave out
    return _Crop(np.minimum(start, left * step), n - left * step, features - left, first, first + block)


def _whole(n, low) -> _Crop:
    nought = np.zeros_like(low)
    return _Crop(nought, n, n, nought, nought + n)


def _corners(at, axes):
    """[N, 4]: where blocks of maps [T, H, W, C] begin. axes: three arrays with a number for each place."""
    corners = [jnp.asarray(values, jnp.int32)[i] for i, values in zip(at, axes, strict=True)]
    return jnp.stack([*corners, jnp.zeros_like(corners[0])], axis=-1)


def _cut(x, at, crops):
    """From one map [T, H, W, C] the crop of each place: [N, ...]."""
    sizes = (*(axis.size for axis in crops), x.shape[-1])
    if sizes == x.shape:
        return jnp.broadcast_to(x, (len(at[0]), *sizes))
    return jax.vmap(lambda corner: lax.dynamic_slice(x, corner, sizes))(_corners(at, [axis.start for axis in crops]))


def _paste(features, onto, at, crops, into, step):
    """The block that changed, out of a crop's features and onto the crop of the map behind it."""
    sizes = (*(int(axis.behind[0] - axis.first[0]) for axis in crops), features.shape[-1])
    sources = _corners(at, [axis.first - axis.start // s for axis, s in zip(crops, step, strict=True)])
    targets = _corners(at, [axis.first - other.start for axis, other in zip(crops, into, strict=True)])

    def one(features, onto, source, target):
        return lax.dynamic_update_slice(onto, lax.dynamic_slice(features, source, sizes), target)

    return jax.vmap(one)(features, onto, sources, targets)
