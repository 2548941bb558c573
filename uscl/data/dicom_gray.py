"""What the numbers of a DICOM image mean: their layout, and gray from each of the colour spaces."""

from dataclasses import dataclass

import numpy as np
import pydicom
from pydicom.pixels import apply_color_lut
from pydicom.uid import UID

from uscl.data.recordings import luma, to_uint8

GRAY = ("MONOCHROME1", "MONOCHROME2")
LUMA_FIRST = ("YBR_FULL", "YBR_FULL_422")  # full-range YCbCr: channel 0 is the gray image as the scanner made it
COLOUR = ("RGB", "YBR_ICT", "YBR_RCT")  # the two JPEG 2000 spaces are decoded to RGB by the codec itself
PALETTE = ("PALETTE COLOR",)
REFUSED = ("YBR_PARTIAL_420", "YBR_PARTIAL_422", "HSV", "ARGB", "CMYK", "XYB")


@dataclass(frozen=True)
class Layout:
    """How the pixels are written. allocated, stored: bits; shift: of the stored ones above the lowest. frames: as the header claims.

    table: uint8 [2^stored], the gray of each palette entry.
    """

    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    shift: int
    signed: bool
    planar: int
    space: str
    syntax: UID
    frames: int
    table: np.ndarray | None = None


def samples(data: bytes, p: Layout, *, paired: bool = False) -> np.ndarray:
    """Numbers as they lie in the file: [H, W], or [H, W, 3]; of a space with luma first the luma alone."""
    x = np.frombuffer(data, np.uint8 if p.allocated == 8 else np.dtype(np.uint16).newbyteorder("<" if p.syntax.is_little_endian else ">"))
    if p.samples == 1:
        return x.reshape(p.rows, p.columns)
    if paired:  # two lumas, then the two colours they share
        return x.reshape(p.rows, -1, 4)[..., :2].reshape(p.rows, -1)[:, : p.columns]
    x = x.reshape(3, p.rows, p.columns).transpose(1, 2, 0) if p.planar else x.reshape(p.rows, p.columns, 3)
    return x[..., 0] if p.space in LUMA_FIRST else x


def gray(x: np.ndarray, p: Layout) -> np.ndarray:
    """Stored numbers [H, W] or RGB [H, W, 3] -> uint8 [H, W]."""
    bits = p.stored
    if bits != 8 or x.dtype != np.uint8:
        x = (x.astype(np.int32) >> p.shift) & (2**bits - 1)  # cuts off overlays in unused bits, and makes -1 the highest code
    if p.table is not None:
        return p.table[x]
    if p.signed:
        x = x ^ (1 << (bits - 1))  # two's complement to an offset: the lowest number becomes 0
    x = to_uint8(x, bits)
    x = x if x.ndim == 2 else luma(x)
    return 255 - x if p.space == "MONOCHROME1" else x


def palette(header: pydicom.Dataset, bits: int) -> np.ndarray:
    """uint8 [2^bits], the gray of each number a pixel can have."""
    x = apply_color_lut(np.arange(2**bits, dtype=np.uint8 if bits <= 8 else np.uint16)[None], header)[0]
    return luma(x if x.dtype == np.uint8 else x >> 8)  # some palettes of 16 bits end at 0xFF00, others at 0xFFFF; both are white
