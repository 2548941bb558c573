"""nnU-Net's 2-D planner: patch, network and batch from the sizes of the frames, by arithmetic alone.

Isensee et al. 2021, version 2.8.1 of the code. `Plan` and its file are in `uscl/models/plan_file.py`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uscl.models.plan_file import PLANNERS, Plan, read_plan, write_plan
from uscl.types import UserError

__all__ = ["PLANNERS", "Plan", "initial_patch", "make_plan", "read_plan", "rotation_range", "write_plan"]

EDGE = 4  # no stage's map gets an edge shorter than this [px]
WIDEST = 512  # features
REFERENCE_BATCH = 12  # images whose feature maps the presets' reference stands for


@dataclass(frozen=True)
class Preset:
    reference: float  # feature-map elements of one image, REFERENCE_BATCH of which fit into `memory`
    memory: float  # [GB]
    smallest: int  # batch that must fit; the patch shrinks until it does
    covered: float  # largest share of all training pixels in one batch
    first: tuple[int, ...] = ()  # blocks of the first stages
    others: int = 2  # and of all others
    decoder: int = 2
    residual: bool = False


PRESETS = {"plain": Preset(85e6, 8, 2, 0.05)} | {
    name: Preset(reference, memory, REFERENCE_BATCH, 1.0, (1, 3, 4), 6, 1, True)
    for name, reference, memory in (("resenc_m", 135e6, 8), ("resenc_l", 380e6, 24), ("resenc_xl", 560e6, 40))
}


def make_plan(shapes, *, kept: Sequence[float], values: int, channels: int = 1, spacing: tuple[float, float] = (1.0, 1.0),
              preset: str = "plain", memory: float | None = None, base: int = 32) -> Plan:  # fmt: skip
    """The plan that nnU-Net makes for a 2-D data set.

    The patch starts as the median frame, at most 2048^2 pixels of the frame's aspect in millimetres. Stages halve every axis whose pixels
    are less than twice as long as the finest's, down to edges of 4 to 7 pixels; the patch grows to a multiple of the strides' product. Then

        E = values A_0 + sum_s c_s F_s A_s       elements of all feature maps of one image

    with A_s the area of stage s, F_s = min(512, base 2^s) and c_s the maps of that size in encoder and decoder (plain: 2 + 3, the last
    stage 2; residual: 2 blocks_s + 1 + 2, the last stage 2 blocks_s + 1; the first has the stem in place of the shortcut). The axis with
    the largest patch / median shrinks while the smallest batch does not fit: 2 E / 12 (plain) or E (residual) above R = reference memory /
    preset's memory. batch = round(12 R / E), with at most 5 % (residual: 100 %) of the pixels of all cases, and at least 2.

    Arguments:
      shapes: [n, 2] rows and columns of each training case after the crop [px].
      kept: [n] share of each case's area that the crop to non-zero keeps; a median below 3/4 makes the standardisation masked.
      values: entries of `labels` in the original's dataset.json: classes and background.
      channels, spacing: of the images; one spacing for all [any unit of length].
      preset: 'plain', 'resenc_m', 'resenc_l', 'resenc_xl'. memory: target [GB], the preset's own (8, 8, 24, 40) if None.
      base: features of the first stage; the original has 32.

    Returns: Plan.
    Raises: UserError for frames too small for two stages, a preset that is not there, and numbers out of range.
    Known values: 411 cases of 768 x 1024, values=4: 8 stages, batch 4. Of 256 x 256: 7 stages, batch 21, 49 without the 5 %.
    """
    shapes, kept = np.asarray(shapes, np.float64), np.asarray(kept, np.float64)
    if preset not in PRESETS:
        raise UserError(f"preset: found {preset!r}; allowed are {', '.join(PRESETS)}")
    chosen = PRESETS[preset]
    memory = chosen.memory if memory is None else memory
    if shapes.ndim != 2 or shapes.shape[1:] != (2,) or not len(shapes) or kept.shape != shapes.shape[:1]:
        raise UserError(f"shapes, kept: found arrays of {shapes.shape} and {kept.shape}; allowed are [n, 2] and [n] of at least one case")
    for name, number, least in (("values", values, 2), ("channels", channels, 1), ("base", base, 1)):
        if number != int(number) or number < least:
            raise UserError(f"{name}: found {number}; allowed is a whole number of at least {least}")
    for name, number in (("spacing", spacing[0]), ("spacing", spacing[1]), ("memory", memory)):
        if not 0 < number < math.inf:
            raise UserError(f"{name}: found {number}; allowed is a number above 0")
    median = tuple(map(float, np.median(shapes, 0)))

    def outline(size):
        patch, strides, kernels = _topology(size, spacing)
        features = tuple(min(WIDEST, base * 2**s) for s in range(len(strides)))
        blocks = (chosen.first + (chosen.others,) * len(strides))[: len(strides)]
        return patch, strides, kernels, features, blocks, _elements(patch, strides, features, blocks, values, chosen)

    aspect = [1 / s for s in spacing]
    scale = (2048**2 / math.prod(aspect)) ** 0.5
    patch, strides, kernels, features, blocks, elements = outline([min(round(a * scale), m) for a, m in zip(aspect, median, strict=True)])
    if len(strides) < 2:
        raise UserError(f"frames: the median is {median[0]:g} x {median[1]:g} pixels after the crop; allowed are edges of 12 and more")
    reference = chosen.reference * (memory / chosen.memory)
    while elements * chosen.smallest / REFERENCE_BATCH > reference:
        axis = 0 if patch[0] / median[0] > patch[1] / median[1] else 1
        smaller = list(patch)
        # Stepping by the present divisor would skip sizes that a smaller one allows: 256 goes to 224 = 7 x 32, not to 192.
        smaller[axis] -= _product(strides)[axis]
        step = _product(_topology(smaller, spacing)[1])[axis]
        patch, strides, kernels, features, blocks, elements = outline([n - step * (i == axis) for i, n in enumerate(patch)])
        if len(strides) < 2:
            raise UserError(f"memory: found {memory:g} GB; not even the smallest network of two stages fits, allowed is more")
    fits = round(reference / elements * REFERENCE_BATCH)
    cap = round(math.prod(median) * len(shapes) * chosen.covered / math.prod(patch))
    return Plan(
        preset=preset, patch=patch, batch=max(min(fits, cap), 2), features=features, strides=strides, kernels=kernels, blocks=blocks,
        decoder=(chosen.decoder,) * (len(strides) - 1), residual=chosen.residual, masked=bool(np.median(kept) < 0.75), shape=median,
        spacing=(float(spacing[0]), float(spacing[1])), channels=int(channels),
    )  # fmt: skip


def rotation_range(patch: tuple[int, int]) -> float:
    """Largest turn of the augmentation [degrees]: 180, or 15 where one edge of the patch is more than 1.5 times the other."""
    return 15.0 if max(patch) / min(patch) > 1.5 else 180.0


def initial_patch(plan: Plan, *, turn: float | None = None, zoom: float = 1 / 0.85) -> tuple[int, int]:
    """Rows and columns the loader reads, so that a turned and scaled patch finds content: the turned patch's extent times `zoom`.

    turn: largest angle [degrees], `rotation_range` of the patch if None; above 90 as 90. Rows reach r cos + c sin, columns |c cos - r sin|,
    neither less than the patch: the original looks at one direction of the turn only, and enlarges by 1 / 0.85 though its augmentation
    shrinks objects by up to 1.4; what then lies outside is filled with zeros. zoom=1.4 reads enough for the scaling as well.

    Known values: 768 x 1024 -> 1204 x 1204, 512 -> 602, 256 -> 301, 192 -> 225 (each square, 180 degrees).
    """
    (rows, columns), angle = plan.patch, math.radians(min(abs(rotation_range(plan.patch) if turn is None else turn), 90))
    cos, sin = math.cos(angle), math.sin(angle)
    return int(max(rows, rows * cos + columns * sin) * zoom), int(max(columns, abs(columns * cos - rows * sin)) * zoom)


def _topology(size, spacing):
    """The patch grown to a multiple of the strides' product, the strides and the kernels, for a patch of `size` and pixels of `spacing`."""
    edges, pixels, kernel = list(size), list(spacing), [1, 1]
    strides, kernels = [(1, 1)], []
    while True:
        long = [axis for axis in (0, 1) if edges[axis] >= 2 * EDGE]
        halved = [axis for axis in long if pixels[axis] / min(pixels[a] for a in long) < 2]
        if not halved or (len(halved) == 1 and edges[halved[0]] < 3 * EDGE):
            break
        # An axis of long pixels is not mixed with its neighbours until the other has caught up with it; from then on it is.
        kernel = [3 if pixels[axis] / min(pixels) < 2 else kernel[axis] for axis in (0, 1)]
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if axis in halved else 1 for axis in (0, 1)))
        for axis in halved:
            pixels[axis], edges[axis] = pixels[axis] * 2, math.ceil(edges[axis] / 2)
    factor = _product(strides)
    return tuple(math.ceil(n / f) * f for n, f in zip(size, factor, strict=True)), tuple(strides), (*kernels, (3, 3))


def _product(strides):
    return [math.prod(axis) for axis in zip(*strides, strict=True)]


def _elements(patch, strides, features, blocks, values, preset) -> int:
    """Elements of all feature maps of one image (E of `make_plan`): those of the finest segmentation head, of no other head."""
    area = math.prod(patch)
    total = values * area
    for stage, (stride, width, count) in enumerate(zip(strides, features, blocks, strict=True)):
        area //= math.prod(stride)
        encoder = 2 * count + 1 if preset.residual else count  # the one: the stem at the first stage, the shortcut at all others
        decoder = preset.decoder + 1 if stage < len(strides) - 1 else 0
        total += (encoder + decoder) * width * area
    return total
