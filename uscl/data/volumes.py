"""NIfTI and MetaImage files, through SimpleITK: a picture, a film of pictures, or the slices of a volume."""

import gzip
import math
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from uscl.data.recordings import Recording, check_size, luma, suffix_of
from uscl.types import UserError

sitk.ProcessObject.SetGlobalWarningDisplay(False)  # it would quote headers on stderr

MOST_NUMBERS = 2**27  # of a whole file, 512 x 512 x 512: these formats are not read slice by slice
DATA_FILE = re.compile(rb"^[ \t]*ElementDataFile[ \t]*=[ \t]*([^\r\n]*?)[ \t]*\r?\n", re.MULTILINE)
COMPRESSED = re.compile(rb"^[ \t]*CompressedData[ \t]*=[ \t]*[Tt1]", re.MULTILINE)
FRAME_MS = (1, 10_000)  # what the spacing of a time axis may be; anything else is a placeholder or another unit


def read(path: Path) -> Recording:
    """A 2-D image, a stack whose slices are the frames, or a film of single slices as a recording; x, the fastest axis, runs along columns.

    Whole numbers within 0 .. 255 stay as they are; any others are scaled linearly so that the least of the whole file becomes 0 and the
    greatest 255; what is not finite becomes 0. mm_per_pixel: the spacing, if both in-plane ones agree within 1 %; nan if not, or if both
    are 1, the placeholder. frame_ms: the fourth axis' spacing, in seconds as ITK has it, unless that is the placeholder 1; nan if there
    is none.

    Raises UserError: a film of volumes, more numbers than are read at once, fewer than its header claims, a data file out of its folder.
    """
    header = _header(path)
    size, spacing = header.GetSize(), header.GetSpacing()
    mm = spacing[0] if abs(spacing[0] - spacing[1]) <= 0.01 * spacing[0] and tuple(spacing[:2]) != (1, 1) else math.nan
    ms = 1000 * spacing[3] if len(size) > 3 and spacing[3] != 1 else math.nan
    ms = ms if FRAME_MS[0] <= ms <= FRAME_MS[1] else math.nan
    return Recording(_frames(header), ms, mm, path.name, promised=math.prod(size[2:]))


def values(path: Path) -> Iterator[np.ndarray]:
    """The numbers of a file of labels as they are: int32 [H, W] of each slice. Raises UserError where they are not whole numbers."""
    for x in _slices(_header(path)):
        if x.ndim != 2 or not (np.all(np.abs(x) < 2**31) and np.all(x == np.round(x))):  # nan is equal to nothing
            raise UserError(f"{path.name}: holds other values than whole numbers of 32 bits; a label is one such number a pixel")
        yield x.astype(np.int32)


def _header(path: Path) -> sitk.ImageFileReader:
    """A reader that knows the header, which was found true before memory is taken for what it claims."""
    nifti = suffix_of(path) in (".nii", ".nii.gz")
    data_file, start = (path, 0) if nifti else _data_file(path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NiftiImageIO" if nifti else "MetaImageIO")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    size, components = reader.GetSize(), reader.GetNumberOfComponents()
    if len(size) > 4 or (len(size) == 4 and size[2] > 1 and size[3] > 1) or components not in (1, 3):
        raise UserError(
            f"{path.name}: has {len(size)} axes and {components} numbers a pixel; allowed are images, stacks, films of one slice"
        )
    check_size(path, size[1], size[0], math.prod(size[2:]))
    if (numbers := math.prod(size) * components) > MOST_NUMBERS:
        raise UserError(f"{path.name}: claims {numbers} numbers; at most {MOST_NUMBERS} are read from a file of this format")
    if nifti:
        missing = _missing_nifti(path, numbers)
    else:
        missing = _missing_meta(data_file, start, numbers * sitk.Image([1, 1], reader.GetPixelID(), components).GetSizeOfPixelComponent())
    if missing > 0:  # the library would fill up with zeros or with whatever is in memory, and say nothing
        raise UserError(f"{path.name}: ends {missing} bytes before the pixels its header claims")
    return reader


def _data_file(path: Path) -> tuple[Path, int | None]:
    """The file a MetaImage's pixels are in, which must be this one or beside it: a header must not have other files read.

    And where compressed ones begin, None if they are not compressed.
    """
    with open(path, "rb") as file:
        head = file.read(2**16)
    if (found := DATA_FILE.search(head)) is None:
        raise UserError(f"{path.name}: does not name the file of its pixels")
    compressed, name = COMPRESSED.search(head, 0, found.start()) is not None, found[1]
    if name == b"LOCAL":
        return path, found.end() if compressed else None
    if re.search(rb"[/\\:%\s]", name) or not (other := path.parent / name.decode(errors="replace")).is_file():
        raise UserError(f"{path.name}: the file of its pixels is not beside it, or is a list; allowed is one file in the same folder")
    return other, 0 if compressed else None


def _missing_nifti(path: Path, numbers: int) -> int:
    """Bytes that a NIfTI file lacks. Inflated without being kept."""
    with gzip.open(path) if path.suffix.lower() == ".gz" else open(path, "rb") as file:
        head = file.read(544)
        order = "<" if struct.unpack_from("<i", head)[0] in (348, 540) else ">"
        newer = struct.unpack_from(order + "i", head)[0] == 540  # NIfTI-2
        bits = struct.unpack_from(order + "h", head, 14 if newer else 72)[0]
        offset = struct.unpack_from(order + ("q" if newer else "f"), head, 168 if newer else 108)[0]
        left = max(0, int(offset)) + numbers * bits // 8 - len(head)
        while left > 0 and (piece := file.read(min(left, 2**20))):
            left -= len(piece)
    return left


def _missing_meta(path: Path, start: int | None, need: int) -> int:
    """Bytes that compressed pixels of a MetaImage lack; of others SimpleITK itself asks."""
    if start is None:
        return 0
    engine = zlib.decompressobj(zlib.MAX_WBITS | 32)  # zlib or gzip
    with open(path, "rb") as file:
        file.seek(start)
        while need > 0 and not engine.eof and (data := engine.unconsumed_tail or file.read(2**16)):
            need -= len(engine.decompress(data, 2**20))
    return need


def _slices(reader: sitk.ImageFileReader) -> Iterator[np.ndarray]:
    image = reader.Execute()
    x = sitk.GetArrayFromImage(image)  # a copy: a view would outlive the image it looks into
    yield from x.reshape(-1, *(x.shape[-3:] if image.GetNumberOfComponentsPerPixel() > 1 else x.shape[-2:]))


def _frames(reader: sitk.ImageFileReader) -> Iterator[np.ndarray]:
    slices = list(_slices(reader))  # views of one array
    finite = [x[np.isfinite(x)] if x.dtype.kind == "f" else x for x in slices]
    low, high = (float(f([f(x) for x in finite if x.size] or [0])) for f in (np.min, np.max))
    whole = 0 <= low and high <= 255 and all(x.dtype.kind != "f" or np.array_equal(x, np.round(x)) for x in finite)
    scale = 255 / (high - low) if high > low else 0
    del finite
    for x in slices:
        if not whole:
            x = np.round((np.nan_to_num(x.astype(np.float64), nan=low, posinf=low, neginf=low) - low) * scale)
        elif x.dtype.kind == "f":
            x = np.nan_to_num(x, nan=0, posinf=0, neginf=0)
        x = x.astype(np.uint8)
        yield luma(x) if x.ndim == 3 else x
