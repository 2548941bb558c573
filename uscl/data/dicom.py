"""DICOM ultrasound: gray frames one by one, with time, scale and tissue region from the header."""

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from uscl.data import dicom_codecs, dicom_gray, dicom_header, dicom_pixels
from uscl.data.recordings import Recording, check_size
from uscl.types import UserError

logging.getLogger("pydicom").propagate = False  # what it says of odd values quotes them, and a patient may be in there

SPACES = dicom_gray.GRAY + dicom_gray.LUMA_FIRST + dicom_gray.COLOUR + dicom_gray.PALETTE
NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
BUFFER = 2**17  # bytes: finding the frames of a small cine then takes one or two reads
NO_ULTRASOUND = {"CR", "CT", "DX", "IO", "MG", "MR", "NM", "OP", "OPT", "PT", "PX", "RF", "SM", "XA"}
NO_IMAGE = {  # how the class of an object without an image begins
    "1.2.840.10008.1.3.10": "the directory of a disc", "1.2.840.10008.5.1.4.1.1.88.": "a structured report",
    "1.2.840.10008.5.1.4.1.1.104.": "a document", "1.2.840.10008.5.1.4.1.1.11.": "a presentation state",
    "1.2.840.10008.5.1.4.1.1.9.": "a waveform", "1.2.840.10008.5.1.4.1.1.66": "a set of raw or derived data",
}  # fmt: skip


def read(path: Path) -> Recording:
    """One DICOM file as a recording, single frames included; frames are the whole image, decoded as they are asked for.

    frame_ms, region and mm_per_pixel: see dicom_header. promised: NumberOfFrames, 1 where it is missing, as the standard says.

    Raises UserError: no image, not ultrasound, a colour space or transfer syntax that is not read, more pixels than are decoded.
    """
    with warnings.catch_warnings(action="ignore"), open(path, "rb") as file:  # pydicom's warnings quote the header as its log does
        header, held = dicom_header.read(path, file)
        place = file.tell() if held is file else None
        if not header.get("Rows"):
            kind = str(header.file_meta.get("MediaStorageSOPClassUID", ""))
            kind = next((name for start, name in NO_IMAGE.items() if kind.startswith(start)), "an object")
            raise UserError(f"{path.name}: {kind} without an image; allowed are single and multi-frame images")
        if (modality := str(header.get("Modality", ""))) in NO_ULTRASOUND:
            raise UserError(f"{path.name}: its modality is {modality}; allowed is ultrasound, US")
        syntax = str(header.file_meta.get("TransferSyntaxUID", ""))
        if syntax not in (*NATIVE, *dicom_codecs.KNOWN) and not syntax.startswith(dicom_pixels.VIDEO):
            raise UserError(
                f"{path.name}: its transfer syntax has no reader; allowed are native, deflated, RLE, JPEG, JPEG-LS, JPEG 2000, video"
            )
        layout = _layout(path, header)
        check_size(path, layout.rows, layout.columns, layout.frames)
        region, mm = dicom_header.tissue(header, layout.rows, layout.columns)
        person = str(header.get("PatientID") or "").strip() or path.stem
        ms = dicom_header.frame_ms(header)
    return Recording(_frames(path, place, layout), ms, mm, path.name, person, region, layout.frames)


def _layout(path: Path, header) -> dicom_gray.Layout:
    def whole(keyword: str, default: int) -> int:
        return int((dicom_header.numbers(header, keyword) or [default])[0])

    space = str(header.get("PhotometricInterpretation", "")).strip()
    samples = 1 if space in dicom_gray.GRAY + dicom_gray.PALETTE else 3
    allocated = whole("BitsAllocated", 8)
    stored = whole("BitsStored", allocated)
    shift = max(0, min(whole("HighBit", stored - 1) + 1 - stored, allocated - stored))
    if space not in SPACES or whole("SamplesPerPixel", samples) != samples or allocated not in (8, 16) or not 1 <= stored <= allocated:
        space = space if space in (*SPACES, *dicom_gray.REFUSED) else "of an unknown name"
        raise UserError(
            f"{path.name}: the colour space {space} in {stored} of {allocated} bits and {whole('SamplesPerPixel', samples)} samples has no "
            f"reader; allowed are {', '.join(SPACES)} of 1 to 16 bits, gray and palettes of 1 sample, colours of 3"
        )
    table = dicom_gray.palette(header, stored) if space in dicom_gray.PALETTE else None
    return dicom_gray.Layout(
        rows=whole("Rows", 0), columns=whole("Columns", 0), frames=max(1, whole("NumberOfFrames", 1)), samples=samples,
        allocated=allocated, stored=stored, shift=shift, signed=bool(whole("PixelRepresentation", 0)),
        planar=whole("PlanarConfiguration", 0), space=space, syntax=header.file_meta.TransferSyntaxUID, table=table,
    )  # fmt: skip


def _frames(path: Path, place: int | None, layout: dicom_gray.Layout) -> Iterator[np.ndarray]:
    with open(path, "rb", buffering=BUFFER) as file:
        if place is None:
            with warnings.catch_warnings(action="ignore"):
                _, file = dicom_header.read(path, file)  # afresh: an inflated copy lives no longer than its frames are asked for
        else:
            file.seek(place)
        frames = dicom_pixels.frames(path, file, layout)
        while True:
            with warnings.catch_warnings(action="ignore"):  # not held across a yield: it would silence the caller too
                x = next(frames, None)
            if x is None:
                return
            yield x
