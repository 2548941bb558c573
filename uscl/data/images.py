"""Still images, through Pillow."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from uscl.data.recordings import MOST_FRAME_PIXELS, READERS, Recording, check_size, luma, to_uint8
from uscl.types import UserError

FORMATS = ["BMP", "JPEG", "PNG", "TIFF"]  # Pillow looks at what a file holds, and knows formats that run programs
SUFFIXES = [suffix for suffix, reader in READERS.items() if reader == __name__]


def read(path: Path) -> Recording:
    """An image as a recording of one frame, a TIFF of several pages as one of several. Transparency is dropped. No time, no scale."""
    with opened(path) as image:
        pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
        check_size(path, image.height, image.width, pages)
    return Recording(frames(path, pages), math.nan, math.nan, path.name, promised=pages)


def frames(path: Path, pages: int = 1) -> Iterator[np.ndarray]:
    """Gray frames uint8 [H, W] of an image's first pages. Gray of 16 bits is scaled by its whole range, so that pages stay comparable."""
    with opened(path) as image:
        for page in range(pages):
            image.seek(page)
            check_size(path, image.height, image.width)
            if image.mode.startswith("I"):  # 16-bit gray
                yield to_uint8(np.clip(np.asarray(image), 0, 65535), 16)
            elif image.mode == "F":
                raise UserError(f"{path.name}: its pixels are floating-point numbers of unknown range; allowed are 8 and 16 bits")
            else:
                yield np.asarray(image) if image.mode == "L" else luma(np.asarray(image.convert("RGB")))


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The file as a Pillow image. Raises UserError where it claims more pixels than Pillow believes."""
    try:
        with warnings.catch_warnings(action="ignore"):  # its own warning comes above the limit of check_size
            image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError:
        raise UserError(f"{path.name}: claims more pixels than the {MOST_FRAME_PIXELS} a frame that are decoded") from None
    with image:
        yield image


def is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES
