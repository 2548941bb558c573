"""DICOM ultrasound: gray frames one by one, cropped to the tissue, with time and scale from the header.

Only the elements listed in ALLOWED are read, so a patient's name or birth date never enters the program.
"""

import logging
import math
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
from pydicom.pixels import apply_color_lut, iter_pixels, pixel_array

from uscl.data.recordings import Recording, check_size, luma, to_uint8
from uscl.types import UserError

logging.getLogger("pydicom").propagate = False  # what it says of odd values quotes them, and a patient may be in there

PALETTE = [f"{c}PaletteColorLookupTable{what}" for c in ("Red", "Green", "Blue") for what in ("Descriptor", "Data")]
SEGMENTED = [f"Segmented{c}PaletteColorLookupTableData" for c in ("Red", "Green", "Blue")]
TIMES = ["FrameIncrementPointer", "FrameTime", "FrameTimeVector", "CineRate", "RecommendedDisplayFrameRate"]
ALLOWED = [
    "PatientID", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsStored", "BitsAllocated",
    "PixelRepresentation", "SequenceOfUltrasoundRegions", *TIMES, *PALETTE, *SEGMENTED,
]  # fmt: skip
LUMA_FIRST = ("YBR_FULL", "YBR_FULL_422")  # full-range YCbCr: channel 0 is the gray image as the scanner made it
GRAY = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")  # the two JPEG 2000 spaces are decoded to RGB by the codec itself
TISSUE_2D = (1, 1)  # RegionSpatialFormat, RegionDataType
CENTIMETRES = 3  # the one length among PhysicalUnitsX/YDirection


def read(path: Path) -> Recording:
    """One DICOM file as a recording, single frames included; frames are decoded as they are asked for.

    Cropped to the largest 2-D tissue region, clipped to the image; a file without one is kept whole, with whatever text is burned in.
    frame_ms: what FrameIncrementPointer names, else FrameTime, FrameTimeVector (mean), CineRate, RecommendedDisplayFrameRate; 0 counts
    as missing. mm_per_pixel: of that region; the sign is dropped; nan where it is missing, not a length, the placeholder 1, different
    along the two axes by more than 1 %, or where the region leaves the image: such a file was scaled down and kept the old header.

    Raises UserError: no pixels, a colour space that is not read, or more pixels than are decoded.
    """
    with warnings.catch_warnings(action="ignore"):  # they quote the header as its log does
        header = pydicom.dcmread(path, specific_tags=ALLOWED, stop_before_pixels=True)
        space = str(header.get("PhotometricInterpretation", ""))
        rows, columns, bits = (int(header.get(k) or 0) for k in ("Rows", "Columns", "BitsStored"))
        if not rows:
            raise UserError(f"{path.name}: this DICOM object holds no image; allowed are single and multi-frame images")
        check_size(path, rows, columns, int(header.get("NumberOfFrames") or 1))
        if space not in LUMA_FIRST + GRAY + COLOUR or not 1 <= bits <= 16:
            raise UserError(
                f"{path.name}: PhotometricInterpretation {space!r} of {bits} bits has no reader; allowed are "
                f"{', '.join(LUMA_FIRST + GRAY + COLOUR)} of 1 to 16 bits"
            )
        region = _tissue_region(header, rows, columns)
        box, mm = _box(region, rows, columns), _mm(region, rows, columns)
        person = str(header.get("PatientID") or "").strip() or path.stem
        return Recording(_frames(path, header, space, bits, box), _frame_ms(header), mm, path.name, person)


def _frames(path: Path, header, space: str, bits: int, box: tuple[slice, slice]) -> Iterator[np.ndarray]:
    raw = space in LUMA_FIRST
    if space == "YBR_FULL_422" and not header.file_meta.TransferSyntaxUID.is_encapsulated:
        # pydicom 3.0.2 forgets after the first of these frames that two pixels share their colour; so each is asked for afresh
        frames = (pixel_array(path, index=i, raw=raw) for i in range(int(header.get("NumberOfFrames") or 1)))
    else:
        frames = iter_pixels(path, raw=raw)
    while True:
        with warnings.catch_warnings(action="ignore"):  # not held across a yield: it would silence the caller too
            x = next(frames, None)
        if x is None:
            return
        yield _gray(x[box], header, space, bits)


def _gray(x: np.ndarray, header, space: str, bits: int) -> np.ndarray:
    if space == "PALETTE COLOR":
        x = apply_color_lut(x, header)
        x, bits = (x if x.dtype == np.uint8 else x >> 8), 8  # some palettes of 16 bits end at 0xFF00, others at 0xFFFF; both are white
    elif space in LUMA_FIRST:
        x = x[..., 0]
    elif header.get("PixelRepresentation"):
        x = x.astype(np.int32) + 2 ** (bits - 1)
    x = to_uint8(x, bits)
    x = x if x.ndim == 2 else luma(x)
    return 255 - x if space == "MONOCHROME1" else x


def _numbers(header, keyword: str) -> list[float]:
    """The numbers of an element, of one or many; [] where it is missing or no number, because a cine is not lost for that."""
    try:
        value = header.get(keyword)
        return [float(x) for x in (value if isinstance(value, pydicom.multival.MultiValue) else [value])]
    except (TypeError, ValueError):
        return []


def _frame_ms(header) -> float:
    def mean(x):
        return sum(x) / max(1, len(x))

    known = {
        "FrameTime": mean(_numbers(header, "FrameTime")),
        "FrameTimeVector": mean(_numbers(header, "FrameTimeVector")[1:]),  # its first entry is 0
        **{k: 1000 / (mean(_numbers(header, k)) or math.inf) for k in ("CineRate", "RecommendedDisplayFrameRate")},
    }
    pointed = header.get("FrameIncrementPointer")
    pointed = pydicom.datadict.keyword_for_tag(pointed) if isinstance(pointed, int) else None
    candidates = [known.get(pointed, 0), *known.values()]
    return next((t for t in candidates if math.isfinite(t) and t > 0), math.nan)


def _tissue_region(header, rows: int, columns: int):
    """The 2-D tissue region with most pixels inside the image, the first of equals; None where there is none."""
    best, most = None, 0
    for region in header.get("SequenceOfUltrasoundRegions") or []:
        if (region.get("RegionSpatialFormat"), region.get("RegionDataType")) == TISSUE_2D:
            down, across = _box(region, rows, columns)
            pixels = max(0, down.stop - down.start) * max(0, across.stop - across.start)
            if pixels > most:
                best, most = region, pixels
    return best


def _box(region, rows: int, columns: int) -> tuple[slice, slice]:
    """Its rows and columns, clipped to the image. The header's maxima are the last pixels inside."""
    if region is None:
        return slice(0, rows), slice(0, columns)
    x0, y0 = (max(0, int(region[f"RegionLocationMin{k}0"].value)) for k in "XY")
    x1, y1 = (int(region[f"RegionLocationMax{k}1"].value) + 1 for k in "XY")
    return slice(y0, min(y1, rows)), slice(x0, min(x1, columns))


def _mm(region, rows: int, columns: int) -> float:
    if region is None or any(region.get(f"PhysicalUnits{k}Direction") != CENTIMETRES for k in "XY"):
        return math.nan
    if region.RegionLocationMaxX1 > columns or region.RegionLocationMaxY1 > rows:  # one past the last pixel is a common slip
        return math.nan
    dx, dy = (abs(float(region.get(f"PhysicalDelta{k}") or 0)) for k in "XY")
    if not (math.isfinite(dx) and dx > 0) or dx == 1 or abs(dx - dy) > 0.01 * dx:
        return math.nan
    return 10 * dx
