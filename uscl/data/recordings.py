"""Recordings as they come from a scanner: one registry, file suffix -> reader, and what every reader shares.

A reader is a module with `read(path) -> Recording`. A new format is one new file and its suffixes below.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from uscl.types import UserError

READERS = {  # modules by name, so that a format's library is imported only when such a file is read
    ".dcm": "uscl.data.dicom", ".dicom": "uscl.data.dicom",
    ".avi": "uscl.data.video", ".gif": "uscl.data.video", ".m4v": "uscl.data.video", ".mkv": "uscl.data.video",
    ".mov": "uscl.data.video", ".mp4": "uscl.data.video", ".mpeg": "uscl.data.video", ".mpg": "uscl.data.video",
    ".webm": "uscl.data.video", ".wmv": "uscl.data.video",
    ".bmp": "uscl.data.images", ".jpeg": "uscl.data.images", ".jpg": "uscl.data.images", ".png": "uscl.data.images",
    ".tif": "uscl.data.images", ".tiff": "uscl.data.images",
    ".nii": "uscl.data.volumes", ".nii.gz": "uscl.data.volumes", ".mha": "uscl.data.volumes", ".mhd": "uscl.data.volumes",
}  # fmt: skip
DICOM_MAGIC = (128, b"DICM")  # scanners often write DICOM files without a suffix, or with a number for one
ENCRYPTED = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03"  # the object identifier of a CMS envelope, DICOM's secure media

LEAST_SIDE = 8  # pixels; smaller is an icon or a header that lies, never an ultrasound image
ROWS_AT_ONCE = 64  # of a colour image made gray, so that a large one does not take twelve times its memory
MOST_FRAME_PIXELS = 2**26  # 8192 x 8192; a header can claim any size, and decoders believe it
MOST_PIXELS = 2**33  # of a whole cine: 10 minutes of 1024 x 768 at 18 frames/s


@dataclass(frozen=True)
class Recording:
    """One recorded loop, or a still as a loop of one frame.

    frames: gray uint8 [H, W] of the whole image, all of one size, decoded one at a time while iterated, once. frame_ms: milliseconds
    between frames, nan if unknown. mm_per_pixel: of these frames, nan if unknown. source: the file's name. person: who it is of, where
    the format tells; it may identify a patient, so it stays out of `repr`, and it and the file's name are to be hashed before they are
    written anywhere. region: (rows, columns) of the largest 2-D tissue region, clipped to the image; None where the format tells none.
    promised: the frames its header claims, None if it claims nothing. columns: the width as stored, where frames were widened so that
    their pixels are square.
    """

    frames: Iterator[np.ndarray]
    frame_ms: float
    mm_per_pixel: float
    source: str
    person: str = field(default="", repr=False)
    region: tuple[slice, slice] | None = None
    promised: int | None = None
    columns: int | None = None


def suffix_of(path: Path) -> str | None:
    """The registered suffix `path` is read by, or None where no reader takes it. DICOM is known by its content too."""
    if path.name.lower().endswith(".nii.gz"):
        return ".nii.gz"
    if (suffix := path.suffix.lower()) in READERS:
        return suffix
    with told(path), open(path, "rb") as file:
        offset, magic = DICOM_MAGIC
        return ".dcm" if file.read(offset + len(magic))[offset:] == magic else None


def read(path: str | Path) -> Recording:
    """Opens any recording. Whatever goes wrong, here or while its frames are decoded, is a UserError that names the file.

    The sentence carries the kind of a library's error, never its text, which may quote what the file says of a patient.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; a recording is a DICOM file, a video, an image or a volume")
    if path.stat().st_size == 0:
        raise UserError(f"{path.name}: is empty, a file of 0 bytes")
    if (suffix := suffix_of(path)) is None:
        raise UserError(f"{path.name}: {path.suffix or 'no suffix'!r} has no reader; allowed are DICOM and {' '.join(READERS)}")
    with open(path, "rb") as file:
        if ENCRYPTED in file.read(64):
            raise UserError(f"{path.name}: is encrypted; save it from the archive without a password")
    with told(path):
        recording = importlib.import_module(READERS[suffix]).read(path)
    return replace(recording, frames=checked(path, recording.frames))


@contextmanager
def told(path: Path):
    """Turns any error inside into a UserError: a broken file is not our mistake, and the files after it can still be read."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path.name}: cannot be read; the file is broken or not what its name says ({type(error).__name__})") from error


def checked(path: Path, frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The frames, as long as they are of one size and fewer than a bomb's; at least one. Else UserError, after the good ones."""
    shape, count = None, 0
    with told(path):
        for frame in frames:
            if frame.shape != (shape or frame.shape):
                raise UserError(
                    f"{path.name}: frame {count} is {_size(frame.shape)} pixels and those before it {_size(shape)}; all must agree"
                )
            shape, count = frame.shape, count + 1
            check_size(path, *shape, count)
            yield frame
    if not count:
        raise UserError(f"{path.name}: not one frame of it decodes; it is broken or holds no pictures")


def check_size(path: Path, rows: int, columns: int, frames: int = 1) -> None:
    """Raises UserError where a header claims more pixels than any scanner makes, or next to none: asked before anything is decoded."""
    if min(rows, columns) < LEAST_SIDE or frames < 1:
        raise UserError(
            f"{path.name}: has {frames} frames of {rows} x {columns} pixels; at least 1 of {LEAST_SIDE} x {LEAST_SIDE} is needed"
        )
    if rows * columns > MOST_FRAME_PIXELS or rows * columns * frames > MOST_PIXELS:
        raise UserError(
            f"{path.name}: claims {frames} frames of {rows} x {columns} pixels; at most {MOST_FRAME_PIXELS} a frame "
            f"and {MOST_PIXELS} in all are decoded"
        )


def to_uint8(x: np.ndarray, bits: int) -> np.ndarray:
    """Levels 0 .. 2^bits - 1 (bits <= 16) scaled to 0 .. 255 and rounded; the same for every frame, so frames stay comparable."""
    if bits == 8:
        return x.astype(np.uint8)
    top = 2**bits - 1
    return ((x.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)


def luma(rgb: np.ndarray) -> np.ndarray:
    """Gray of a colour image by the weights of ITU-R BT.601, rounded. uint8 [..., 3] -> uint8 [...].

    Known values: (255, 255, 255) -> 255, (255, 0, 0) -> 76, (0, 255, 0) -> 150, (0, 0, 255) -> 29; r = g = b = v -> v.
    """
    gray = np.empty(rgb.shape[:-1], np.uint8)
    for rows in (slice(i, i + ROWS_AT_ONCE) for i in range(0, len(rgb), ROWS_AT_ONCE)):
        r, g, b = (rgb[rows, ..., i].astype(np.uint32) for i in range(3))
        gray[rows] = (299 * r + 587 * g + 114 * b + 500) // 1000
    return gray


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} x {shape[1]}"
