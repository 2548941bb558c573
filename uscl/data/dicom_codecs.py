"""One compressed DICOM frame -> gray. Only the luma is decoded where the codec allows; pydicom's own decoders do the rest."""

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes, RLELossless

from uscl.data import dicom_gray
from uscl.data.dicom_gray import LUMA_FIRST, Layout
from uscl.types import UserError

LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
KNOWN = (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes, RLELossless)
SIZED = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # JPEG's markers that carry the size; 0xF7 is JPEG-LS's
INSTALL = {  # what reads the rest; nothing under a licence that allows less than ours is installed unasked
    **dict.fromkeys(JPEGLSTransferSyntaxes, "JPEG-LS; pip install pyjpegls"),
    **dict.fromkeys(JPEG2000TransferSyntaxes, "JPEG 2000; pip install pylibjpeg pylibjpeg-openjpeg"),
    **dict.fromkeys(LOSSLESS, "lossless JPEG of this kind; pip install python-gdcm"),
    **dict.fromkeys(JPEGTransferSyntaxes[:2], "JPEG of more than 8 bits; pip install pylibjpeg-libjpeg, which is under GPL-3"),
}


class Stream(NamedTuple):
    """What a compressed frame states of itself; of the last three only a JPEG: its components' names and the marks of two conventions."""

    rows: int
    columns: int
    names: bytes = b""
    jfif: bool = False
    adobe: int | None = None


def decode(path: Path, data: bytes, p: Layout) -> np.ndarray:
    """A compressed frame -> gray uint8 [rows, columns]. Raises UserError: another size than the header's, or no decoder for it."""
    x = None
    try:
        if p.syntax == RLELossless:
            x = _rle(data, p)
        else:
            stream = stated(data)
            if stream is None or (stream.rows, stream.columns) != (p.rows, p.columns):  # before a decoder takes memory for it
                found = f"{stream.rows} x {stream.columns}" if stream else "no"
                raise UserError(f"{path.name}: a compressed frame states {found} pixels and the header {p.rows} x {p.columns}")
            if p.syntax in JPEGTransferSyntaxes and p.allocated == 8:
                x = _jpeg(data, p, stream)
    except ValueError:
        pass  # samples of 12 bits, a run that goes on past the picture: others may know what to do
    return dicom_gray.gray(x if x is not None else _pydicom(path, data, p), p)


def stated(data: bytes) -> Stream | None:
    """What a JPEG, JPEG-LS or JPEG 2000 stream states before its pixels, None where it is none."""
    if (at := data.find(b"\xff\x4f\xff\x51", 0, 2**12)) >= 0 and len(data) >= at + 24:  # behind the boxes of a JP2 file, if there are any
        x1, y1, x0, y0 = (int.from_bytes(data[at + i : at + i + 4], "big") for i in (8, 12, 16, 20))
        return Stream(y1 - y0, x1 - x0)
    at, jfif, adobe = 2 if data[:2] == b"\xff\xd8" else len(data), False, None
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, body = data[at + 1], data[at + 4 : at + 24]
        if marker in SIZED:
            return Stream(*struct.unpack_from(">HH", body, 1), data[at + 10 : at + 10 + 3 * body[5] : 3], jfif, adobe)
        jfif |= marker == 0xE0 and body[:5] == b"JFIF\0"
        adobe = body[11] if marker == 0xEE and body[:5] == b"Adobe" and len(body) > 11 else adobe
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")  # 0xFF may be repeated before a marker
    return None


def _jpeg(data: bytes, p: Layout, stream: Stream) -> np.ndarray:
    """[H, W], or RGB [H, W, 3] where no luma is stored, through libjpeg-turbo, which from version 3 reads lossless JPEG of 8 bits too.

    Which space the components are in, the stream's marks say where it has them (JFIF: YCbCr, Adobe: its flag), else the header.
    """
    lossless = p.syntax in LOSSLESS
    untouched = lossless or stream.adobe == 0 or (p.space == "RGB" and not stream.jfif and stream.adobe is None)
    if p.samples == 1 or len(stream.names) != 3 or not untouched:
        mode = "L"  # libjpeg then leaves the colours out
    elif stream.jfif or stream.adobe or (stream.adobe is None and not lossless and stream.names != b"RGB"):
        mode = "YCbCr"  # what libjpeg takes them for: asked for the same, it changes nothing
    else:
        mode = "RGB"
    x = np.asarray(Image.frombytes(mode, (p.columns, p.rows), data, "jpeg", mode, ""))
    return x[..., 0] if x.ndim == 3 and p.space in LUMA_FIRST else x


def _rle(data: bytes, p: Layout) -> np.ndarray | None:
    """[H, W] or RGB [H, W, 3]. A segment holds one byte of one sample of every pixel, the high byte first; of YCbCr only the luma's."""
    deep = p.allocated // 8
    ends = [*np.frombuffer(data[4:64], "<u4")[: min(int.from_bytes(data[:4], "little"), 15)].tolist(), len(data)]
    if len(ends) != p.samples * deep + 1:
        return None
    wanted = 1 if p.space in LUMA_FIRST else p.samples
    planes = [
        # TIFF's code for runs is the same; as one long row, because some writers let a run go on into the next row
        np.asarray(Image.frombytes("L", (p.rows * p.columns, 1), data[ends[i] : ends[i + 1]], "packbits", "L")).reshape(p.rows, p.columns)
        for i in range(wanted * deep)
    ]
    if deep == 2:
        planes = [high.astype(np.uint16) << 8 | low for high, low in zip(planes[::2], planes[1::2], strict=True)]
    return planes[0] if wanted == 1 else np.stack(planes, -1)


def _pydicom(path: Path, data: bytes, p: Layout) -> np.ndarray:
    decoder = get_decoder(p.syntax)
    try:
        x, _ = decoder.as_array(
            encapsulate([data]), raw=True, rows=p.rows, columns=p.columns, samples_per_pixel=p.samples, number_of_frames=1,
            bits_allocated=p.allocated, bits_stored=p.stored, pixel_representation=int(p.signed), photometric_interpretation=p.space,
            planar_configuration=p.planar, pixel_keyword="PixelData",
        )  # fmt: skip
    except (RuntimeError, NotImplementedError) as error:
        if p.syntax not in INSTALL or decoder.is_available and p.syntax not in JPEGTransferSyntaxes:
            raise
        raise UserError(f"{path.name}: no decoder installed here reads its frames; if it is whole, it is {INSTALL[p.syntax]}") from error
    return x[..., 0] if x.ndim == 3 and p.space in LUMA_FIRST else x
