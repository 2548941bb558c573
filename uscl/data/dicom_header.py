"""What a DICOM header tells of a cine: its pixels' layout, time, scale and tissue region.

Only the elements listed in ALLOWED are kept, so a patient's name or birth date never enters the program.
"""

import io
import itertools
import math
import os
import statistics
import zlib
from pathlib import Path
from typing import BinaryIO

import pydicom

from uscl.types import UserError

PALETTE = [f"{c}PaletteColorLookupTable{what}" for c in ("Red", "Green", "Blue") for what in ("Descriptor", "Data")]
SEGMENTED = [f"Segmented{c}PaletteColorLookupTableData" for c in ("Red", "Green", "Blue")]
RATES = ("CineRate", "RecommendedDisplayFrameRate")  # frames a second
ALLOWED = [
    "Modality", "PatientID", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration",
    "BitsStored", "BitsAllocated", "HighBit", "PixelRepresentation", "SequenceOfUltrasoundRegions", "FrameIncrementPointer",
    "FrameTime", "FrameTimeVector", "ActualFrameDuration", *RATES, *PALETTE, *SEGMENTED,
]  # fmt: skip
TISSUE_2D = (1, 1)  # RegionSpatialFormat, RegionDataType
CENTIMETRES = 3  # the one length among PhysicalUnitsX/YDirection
MOST_REGIONS = 64  # scanners write up to about ten
MOST_HEADER = 2**20  # bytes; the largest palettes and the times of 10,000 frames take half of it, a sequence of empty items 2 s
MOST_INFLATED = 2**29  # bytes of a deflated file; deflate packs nothing 1000 times over: a file of 1 MiB can claim a GiB


class _Deflated(Exception):
    """Only of a deflated data set pydicom asks for all the rest at once."""


class _TooLong(Exception):
    pass


class _Bounded(io.BufferedIOBase):
    """A file that gives out no more of itself than a header has, so that no length in it, true or not, can fill the memory."""

    def __init__(self, file: BinaryIO):
        self.file, self.left = file, MOST_HEADER
        self.size = file.seek(0, os.SEEK_END)
        file.seek(0)

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            raise _Deflated
        size = min(size, max(0, self.size - self.file.tell()))
        self.left -= size
        if self.left < 0:
            raise _TooLong
        return self.file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()


def read(path: Path, file: BinaryIO) -> tuple[pydicom.Dataset, BinaryIO]:
    """The allowed elements, and the file that holds the pixels, at their element's tag: `file`, or its inflated copy in memory."""
    try:
        return _parsed(path, file), file
    except _Deflated:
        file = _inflated(path, file)
        return _parsed(path, file), file


def _parsed(path: Path, file: BinaryIO) -> pydicom.Dataset:
    bounded = _Bounded(file)
    try:
        return pydicom.dcmread(bounded, specific_tags=ALLOWED, stop_before_pixels=True)
    except pydicom.errors.InvalidDicomError:
        raise UserError(f"{path.name}: cannot be read; it is no DICOM file, which has the mark DICM at byte 128") from None
    finally:  # whatever pydicom made of it on the way
        if bounded.left < 0:
            raise UserError(f"{path.name}: its header holds more than {MOST_HEADER} bytes to be read; no scanner writes as much")


def _inflated(path: Path, file: BinaryIO) -> BinaryIO:
    """The file with its data set inflated, as Explicit VR Little Endian. `file` stands behind its meta elements."""
    syntax = b"1.2.840.10008.1.2.1\0"
    element = b"\x02\x00\x10\x00UI" + len(syntax).to_bytes(2, "little") + syntax
    out = io.BytesIO()
    out.write(bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00" + len(element).to_bytes(4, "little") + element)
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    while not engine.eof and (data := engine.unconsumed_tail or file.read(2**16)):
        out.write(engine.decompress(data, 2**20))
        if out.tell() > MOST_INFLATED:
            raise UserError(f"{path.name}: inflates to more than {MOST_INFLATED} bytes; save it under another transfer syntax")
    out.seek(0)
    return out


def numbers(header: pydicom.Dataset, keyword: str) -> list[float]:
    """The finite numbers of an element, of one or many; [] where it is missing or no number, because a cine is not lost for that."""
    try:
        value = header.get(keyword)
        values = [float(x) for x in (value if isinstance(value, pydicom.multival.MultiValue) else [value])]
        return [x for x in values if math.isfinite(x)]
    except (TypeError, ValueError):
        return []


def frame_ms(header: pydicom.Dataset) -> float:
    """Milliseconds between frames: what FrameIncrementPointer names, else FrameTime, FrameTimeVector, CineRate, the display rate,
    ActualFrameDuration; nan where none is above 0. Of several times the median: one pause in a loop says nothing of its other frames.
    """

    def middle(keyword: str) -> float:
        return statistics.median([x for x in numbers(header, keyword) if x > 0] or [0])  # a vector's first entry is 0

    known = {
        **{k: middle(k) for k in ("FrameTime", "FrameTimeVector")},
        **{k: 1000 / (middle(k) or math.inf) for k in RATES},
        "ActualFrameDuration": middle("ActualFrameDuration"),
    }
    pointed = header.get("FrameIncrementPointer")
    pointed = pydicom.datadict.keyword_for_tag(pointed) if isinstance(pointed, int) else None
    return next((t for t in (known.get(pointed, 0), *known.values()) if t > 0), math.nan)


def tissue(header: pydicom.Dataset, rows: int, columns: int) -> tuple[tuple[slice, slice] | None, float]:
    """The 2-D tissue region with most pixels inside the image, the first of equals, clipped to it; None where there is none.

    And its mm per pixel, the sign dropped: nan where it is missing, not a length, the placeholder 1, different along the two axes by
    more than 1 %, or where the region leaves the image: such a file was scaled down and kept the old header.
    """
    best, mm, most = None, math.nan, 0
    for region in itertools.islice(header.get("SequenceOfUltrasoundRegions") or [], MOST_REGIONS):
        corners = [numbers(region, f"RegionLocation{k}") for k in ("MinY0", "MaxY1", "MinX0", "MaxX1")]
        if (region.get("RegionSpatialFormat"), region.get("RegionDataType")) != TISSUE_2D or not all(corners):
            continue
        y0, y1, x0, x1 = (int(c[0]) for c in corners)  # the maxima are the last pixels inside
        box = slice(max(0, y0), min(y1 + 1, rows)), slice(max(0, x0), min(x1 + 1, columns))
        pixels = math.prod(max(0, s.stop - s.start) for s in box)
        if pixels > most:
            inside = y1 <= rows and x1 <= columns  # one past the last pixel is a common slip
            best, mm, most = box, _mm(region) if inside else math.nan, pixels
    return best, mm


def _mm(region: pydicom.Dataset) -> float:
    if any(region.get(f"PhysicalUnits{k}Direction") != CENTIMETRES for k in "XY"):
        return math.nan
    dx, dy = (abs((numbers(region, f"PhysicalDelta{k}") or [0])[0]) for k in "XY")
    return 10 * dx if dx > 0 and dx != 1 and abs(dx - dy) <= 0.01 * dx else math.nan
