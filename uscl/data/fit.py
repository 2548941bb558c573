"""A frame of any shape into the store's square: aspect kept, zeros around it."""

import math

import numpy as np
from PIL import Image


def fit(frame: np.ndarray, size: int, mm: float = math.nan) -> tuple[np.ndarray, float]:
    """Scales the longer side to `size`, centres, pads with 0. Resampling is a triangle filter as wide as the reduction (antialiased).

    Args: frame: uint8 [H, W]. size: side of the result in pixels. mm: mm per pixel of `frame`, may be nan.
    Returns: uint8 [size, size]; mm per pixel of the result, mm * max(H, W) / size.
    Known values: a constant 7 of 40 x 80 at size 20: 5 rows of 0, 10 rows of 7, 5 rows of 0; mm 0.1 -> 0.4.
    """
    return _place(frame, size, Image.Resampling.BILINEAR), mm * max(frame.shape) / size


def fit_label(label: np.ndarray, size: int) -> np.ndarray:
    """The same geometry for label values uint8 [H, W] -> uint8 [size, size]: the nearest pixel, so that no new value appears."""
    return _place(label, size, Image.Resampling.NEAREST)


def _place(x: np.ndarray, size: int, filter: Image.Resampling) -> np.ndarray:
    if x.ndim != 2 or x.dtype != np.uint8:
        raise ValueError(f"expected uint8 [H, W], got {x.dtype} {x.shape}")
    height, width = (max(1, round(n * size / max(x.shape))) for n in x.shape)
    top, left = (size - height) // 2, (size - width) // 2
    out = np.zeros((size, size), np.uint8)
    out[top : top + height, left : left + width] = np.asarray(Image.fromarray(x).resize((width, height), filter))
    return out
