"""A saliency map over the pictures it is of: one frame as a tile, and a whole clip as a small animation inside the page."""

import base64
import html
import io

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw

from uscl.metrics.saliency import highest
from uscl.report import overlays

TRUTH, KEPT = "#3ddc97", "#ffffff"
HEAT = colormaps["inferno"]
SIDE = 192  # pixels of an animation, about; a smaller clip is enlarged
EACH = 100  # ms of a frame
NARROW = 3  # tiles in a row of a narrow page
LEGEND = [
    ("line", TRUTH, "box of the truth"), ("dash", KEPT, "highest tenth of the map"),
    *(("fill", "#%02x%02x%02x" % HEAT(0.3 + 0.7 * share, bytes=True)[:3], said) for share, said in  # noqa: UP031
      ((0.35, "hiding it costs little"), (1.0, "hiding it costs the most"))),
]  # fmt: skip


def coloured(image, saliency, top):
    """The picture, uint8 [H, W], in gray with its map [H, W] as colour: RGB in [0, 1]. What is at most 0 has none, `top` the most."""
    gray = np.repeat(np.asarray(image, float)[..., None] / 255, 3, axis=-1)
    share = np.clip(np.asarray(saliency, float) / top, 0, 1) if top > 0 else np.zeros(np.shape(saliency))
    weight = 0.7 * np.sqrt(share)[..., None]  # the root, or all but the highest is invisible
    return (1 - weight) * gray + weight * HEAT(0.3 + 0.7 * share)[..., :3]


def outlines(boxes, shape, saliency=None):
    """What a tile draws: each box (top, left, bottom, right; inclusive), and a line around the highest tenth of the map."""
    found = []
    for top, left, bottom, right in boxes:
        mask = np.zeros(shape, bool)
        mask[top : bottom + 1, left : right + 1] = True
        found.append((mask, TRUTH, False))
    return found if saliency is None else [(highest(saliency), KEPT, True), *found]


def tile(image, caption, boxes, saliency=None, top=0.0):
    """A panel: a frame with its boxes, and a map over it."""
    picture = image if saliency is None else 255 * coloured(image, saliency, top)
    return overlays.tile(picture.astype(np.uint8), caption, outlines(boxes, image.shape, saliency))


def animation(images, boxes, saliency=None):
    """A clip [T, H, W] with its boxes, and a map [H, W] or [T, H, W] over it, as the bytes of an animated WebP that runs for ever."""
    top = 0.0 if saliency is None else float(saliency.max())
    scale, frames = max(1, round(SIDE / max(images.shape[1:]))), []
    for t, (image, own) in enumerate(zip(images, boxes, strict=True)):
        seen = np.zeros(image.shape) if saliency is None else saliency if saliency.ndim == 2 else saliency[t]
        pixels = Image.fromarray((255 * coloured(image, seen, top)).astype(np.uint8))
        frame = pixels.resize((scale * image.shape[1], scale * image.shape[0]), Image.Resampling.BICUBIC)
        for y, x, bottom, right in own:
            place = [scale * x, scale * y, scale * (right + 1) - 1, scale * (bottom + 1) - 1]
            ImageDraw.Draw(frame).rectangle([int(edge) for edge in place], outline=TRUTH, width=max(1, SIDE // 96))
        frames.append(frame)
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], duration=EACH, loop=0, quality=75, method=2, kmin=0, kmax=1)
    return file.getvalue()


def block(clips):
    """A block of the page that moves; clips: {caption: bytes of an animation}."""
    cells = []
    for caption, data in clips.items():
        source = "data:image/webp;base64," + base64.b64encode(data).decode()
        alt = html.escape(f"ultrasound video, {caption}")
        cells.append({"svg": f'<img src="{source}" alt="{alt}" style="display: block; width: 100%">', "caption": caption, "width": 1.8})
    return {"kind": "tiles", "cells": cells, "columns": len(cells), "narrow": NARROW, "legend": []}
