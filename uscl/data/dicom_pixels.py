"""The pixels of a DICOM file as gray frames, one in memory at a time: where they lie in the file, and what their numbers mean."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from uscl.data import dicom_codecs, dicom_gray, video
from uscl.data.dicom_gray import Layout
from uscl.types import UserError

JPEG_STARTS, JPEG_END = (b"\xff\xd8", b"\xff\x4f", b"\0\0"), b"\xff\xd9"  # JPEG and JPEG-LS, JPEG 2000, JP2
ITEM = b"\xfe\xff\x00\xe0"
MOST_FRAGMENTS = 2**20
VIDEO = "1.2.840.10008.1.2.4.10"  # .100 to .108 are MPEG-2, H.264 and HEVC, a whole film in one stream


def frames(path: Path, file: BinaryIO, layout: Layout) -> Iterator[np.ndarray]:
    """Gray frames uint8 [rows, columns]. `file` stands at the element of the pixels. Raises UserError, after the frames before a break."""
    order = "little" if layout.syntax.is_little_endian else "big"
    tag, kind, size = (file.read(n) for n in (4, 4, 4))
    if tag != (b"\xe0\x7f\x10\x00" if order == "little" else b"\x7f\xe0\x00\x10"):
        raise UserError(f"{path.name}: its header is that of an image, but the pixels are missing")
    explicit = kind in (b"OB\0\0", b"OW\0\0", b"UN\0\0")
    if not explicit:
        size = kind
        file.seek(-4, io.SEEK_CUR)
    length = int.from_bytes(size, order)
    if not layout.syntax.is_encapsulated:
        return _native(path, file, layout, length, swapped=order == "big" and kind[:2] == b"OW" and layout.allocated == 8)
    if layout.syntax.startswith(VIDEO):
        _, items, _ = _fragments(path, file)
        return video.frames(path, io.BytesIO(b"".join(_joined(file, set(), items, None, 1))))
    return _encapsulated(path, file, layout)


def _native(path: Path, file: BinaryIO, p: Layout, length: int, *, swapped: bool) -> Iterator[np.ndarray]:
    start, size = file.tell(), p.rows * p.columns * p.samples * p.allocated // 8
    paired = p.space == "YBR_FULL_422" and length < size * p.frames  # else some writer left the colour of every pixel in
    if paired:
        size = p.rows * (p.columns + p.columns % 2) * 2 * p.allocated // 8
    if length < size:
        raise UserError(f"{path.name}: its pixels are fewer than those of one frame of {p.rows} x {p.columns}")
    for i in range(min(p.frames, length // size)):
        at, odd = start + i * size, (i * size) % 2 if swapped else 0
        file.seek(at - odd)
        data = file.read(size + odd + ((size + odd) % 2 if swapped else 0))
        if swapped:  # bytes of 8 bits, written as big-endian words
            data = np.frombuffer(data[: len(data) // 2 * 2], np.uint16).byteswap().tobytes()[odd:]
        if len(data) < size:
            raise UserError(f"{path.name}: breaks off in frame {i} of {p.frames}; the rest of the file is missing")
        yield dicom_gray.gray(dicom_gray.samples(data[:size], p, paired=paired), p)


def _encapsulated(path: Path, file: BinaryIO, p: Layout) -> Iterator[np.ndarray]:
    table, items, cut = _fragments(path, file)
    for data in _joined(file, table, items, cut, p.frames):
        yield dicom_codecs.decode(path, data, p)
    if cut is not None:
        raise UserError(f"{path.name}: breaks off; the rest of the file is missing")


def _fragments(path: Path, file: BinaryIO) -> tuple[set[int], list[tuple[int, int]], int | None]:
    """Where each frame begins, as far as the file has a table of it; (place, length) of each fragment; where a lost one begins, or None.

    Walked by hand, because pydicom gives up on all frames of a file that lost its last.
    """
    here, end = file.tell(), file.seek(0, io.SEEK_END)
    items, cut = [], None
    while here + 8 <= end and cut is None:
        file.seek(here)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != ITEM:  # the delimiter, or what a writer that forgot it has put behind
            break
        if here + 8 + length > end:
            cut = here
        else:
            items.append((here + 8, length))
            here += 8 + length
        if len(items) > MOST_FRAGMENTS:
            raise UserError(f"{path.name}: more than {MOST_FRAGMENTS} fragments of compressed pixels; no scanner writes as many")
    if len(items) < 2:
        raise UserError(f"{path.name}: breaks off before its first frame; the rest of the file is missing")
    (place, length), *items = items
    file.seek(place)
    first = items[0][0]
    return {first + offset for offset in np.frombuffer(file.read(length // 4 * 4), "<u4").tolist()}, items, None if cut is None else cut + 8


def _joined(file: BinaryIO, table: set[int], items: list[tuple[int, int]], cut: int | None, promised: int) -> Iterator[bytes]:
    """The compressed frames. Which fragments make a frame the table tells, or else their number, or the mark that ends a JPEG."""
    places = {place for place, _ in items}
    tabled = len(table) > 1 and places.issuperset(t for t in table if t <= items[-1][0])
    each = len(items) == promised or (len(items) < promised and cut is None)
    parts: list[bytes] = []
    for (place, length), (following, _) in zip(items, [*items[1:], (cut, 0)], strict=True):
        file.seek(place)
        parts.append(file.read(length))
        if tabled and following is not None:
            whole = following in table
        elif promised == 1 or following is None:
            whole = following is None
        else:
            whole = each or JPEG_END in parts[-1][-10:] or parts[0][:2] not in JPEG_STARTS
        if whole:
            yield b"".join(parts)
            parts = []
