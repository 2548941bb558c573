"""Views of a frame for the contrastive stages: a part of the picture, other grey values, ultrasound's own changes."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from uscl import augment, losses
from uscl.augment import View


def to_float(image: jax.Array) -> jax.Array:
    """Stored grey values, uint8, as float32 in [0, 1]."""
    return image.astype(jnp.float32) / 255


def make_view(*, attenuation, gain, shadow, haze, speckle, **frame) -> Callable[[jax.Array, jax.Array], View]:
    """view(key, image) as a `views` block of the configuration describes it: the machine's changes first, then crop and grey values."""

    def view(key, image):
        for_machine, for_frame = jax.random.split(key)
        image = augment.ultrasound(for_machine, image, attenuation=attenuation, gain=gain, shadow=shadow, haze=haze, speckle=speckle)
        return augment.view(for_frame, image, **frame)

    return view


def matched_corners(seen: Sequence[View], size: tuple[int, int], *, count: int, whole: bool, shared: bool) -> jax.Array:
    """Top-left corners [V * N, R, 2] of the same regions on the maps (height, width) of all views of a frame.

    whole: every view shows the whole frame, so the regions lie where Chaitanya's code puts them. shared: one set of places for all frames
    of the batch, which pairs of different frames need.
    """
    boxes = jnp.stack([view.box for view in seen])
    if whole:
        corners = jnp.asarray(losses.region_corners(*size, count=count), jnp.float32)
        return jnp.broadcast_to(corners, (boxes.shape[0] * boxes.shape[1], *corners.shape))
    return augment.common_regions(boxes, size, count=count, shared=shared).reshape(-1, count, 2)
