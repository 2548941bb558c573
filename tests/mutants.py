"""Ways to break a file: in any byte, or by a header that lies. Each is a pure function of the file's bytes and a seed."""

import io
import random
import re
import struct
import warnings
import zlib

import pydicom
from mutants_text import lie_csv, lie_json
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

NUMBERS = (0, 1, 2, 3, 7, 8, 12, 16, 32, 64, 255, 4096, 32767, 65534, 65535, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)
TEXTS = ("", "0", "1", "-1", "3.7", "1e9", "1e400", "nan", "-inf", "abc", "99999999", "2147483648", "1\\2\\3", " ", "9" * 300, "\0\0")
SPACES = ("MONOCHROME1", "MONOCHROME2", "RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT", "ARGB", "CMYK", "")
SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.1.99", "1.2.3", "",
            *(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91, 100, 102, 201)))  # fmt: skip
HEADER = 1024

# Where formats keep their sizes and counts: (marker, offset from its start, struct format of the number)
_BOXES = [(x, -4, ">I") for x in (b"moov", b"trak", b"mdia", b"stbl", b"stsd", b"mdat", b"ftyp", b"avc1", b"mp4v", b"esds", b"avcC")]
_TABLES = [(x, o, ">I") for x in (b"stsz", b"stco", b"stsc", b"stts", b"elst", b"mdhd", b"ctts") for o in (8, 12, 16, 20)]
_TAGS = [(struct.pack("<H", t), o, "<I") for t in (256, 257, 258, 259, 262, 273, 277, 278, 279, 317) for o in (4, 8)]
SIZES = {
    "png": [(b"IHDR", o, ">I") for o in (-4, 4, 8)] + [(b"IHDR", o, "B") for o in (12, 13, 14, 15, 16)] + [(b"IDAT", -4, ">I")],
    "jpg": [(b"\xff\xc0", o, ">H") for o in (2, 5, 7)] + [(b"\xff\xc0", o, "B") for o in (4, 9, 11)] + [(b"\xff\xc4", 2, ">H")],
    "bmp": [(b"BM", o, f) for o, f in ((10, "<I"), (14, "<I"), (18, "<I"), (22, "<I"), (28, "<H"), (30, "<I"), (46, "<I"))],
    "tif": _TAGS + [(b"II*\0", 4, "<I")],
    "gif": [(b"GIF8", o, f) for o, f in ((6, "<H"), (8, "<H"), (10, "B"))] + [(b"\0,", o, "<H") for o in (2, 4, 6, 8)],
    "avi": [(b"avih", o, "<I") for o in (4, 8, 24, 40, 44)] + [(b"strf", o, "<I") for o in (4, 12, 16, 20, 24)]
    + [(b"strh", o, "<I") for o in (8, 28, 32, 40, 52)] + [(x, 4, "<I") for x in (b"RIFF", b"LIST", b"idx1", b"00dc")],
    "mp4": _BOXES + _TABLES + [(b"mp4v", 28, ">I"), (b"tkhd", 80, ">I")], "mov": _BOXES + _TABLES + [(b"avc1", 28, ">I")],
    "mpeg": [(b"\0\0\1\xb3", o, ">H") for o in (4, 5, 7)] + [(b"\0\0\1\xe0", 4, ">H"), (b"\0\0\1\xba", 4, ">I")],
    "nii": [(b"\x5c\1\0\0", o, f) for o, f in ((0, "<I"), (40, "<H"), (42, "<H"), (44, "<H"), (46, "<H"), (70, "<H"), (108, "<I"))],
    "webm": [(m, o, "B") for m in (b"\xb0", b"\xba", b"\x1f\x43\xb6\x75", b"\xa3", b"\xae") for o in (1, 2, 3)],
    "wmv": [(b"\x40\x9e\x69\xf8\x4d\x5b\xcf\x11", o, "<I") for o in (0, 16, 20, 60)] + [(b"WMV2", o, "<I") for o in (-12, -8, 4)],
}  # fmt: skip


def mutate(data: bytes, suffix: str, seed: int) -> bytes:
    """`data`, a file of that suffix (without a dot), broken in one to three ways."""
    rng = random.Random(seed)
    special = {"dcm": lie_dicom, "json": lie_json, "csv": lie_csv}.get(suffix, lie_size if suffix in SIZES else None)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if special and rng.random() < (0.9 if suffix in ("json", "csv") else 0.6):
            try:
                data = special(data, suffix, rng)
                continue
            except Exception:  # an earlier break has left nothing to lie about
                pass
        data = rng.choice((flip, flip, cut, overwrite, repeat, remove, number))(data, rng)
    return data


def flip(data: bytes, rng) -> bytes:
    x, most = bytearray(data), rng.choice((len(data), HEADER))
    for _ in range(rng.choice((1, 4, 64))) if x else ():
        x[rng.randrange(min(len(x), most))] ^= 1 << rng.randrange(8)
    return bytes(x)


def cut(data: bytes, rng) -> bytes:
    return data[: rng.choice((rng.randrange(len(data) + 1), rng.randrange(min(len(data), HEADER) + 1), len(data) - 1))]


def _span(data, rng):
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 16, 256, 4096)))


def overwrite(data: bytes, rng) -> bytes:
    a, b = _span(data, rng)
    return data[:a] + rng.choice((b"\0", b"\xff", b"\x80")) * (b - a) + data[b:]


def repeat(data: bytes, rng) -> bytes:
    a, b = _span(data, rng)
    return data[:b] + data[a:b] * rng.choice((1, 2, 50)) + data[b:]


def remove(data: bytes, rng) -> bytes:
    a, b = _span(data, rng)
    return data[:a] + data[b:]


def number(data: bytes, rng) -> bytes:
    """One of NUMBERS somewhere in the header."""
    form = rng.choice(("<I", ">I", "<H", ">H"))
    return put(data, rng.randrange(max(1, min(len(data), HEADER))), form, rng.choice(NUMBERS))


def put(data: bytes, at: int, form: str, value: int) -> bytes:
    n = struct.calcsize(form)
    return data[:at] + struct.pack(form, value % 256**n) + data[at + n :]


def lie_size(data: bytes, suffix: str, rng) -> bytes:
    """A size or a count that the format's header holds."""
    marker, offset, form = rng.choice([field for field in SIZES[suffix] if field[0] in data])
    at = rng.choice([m.start() for m in re.finditer(re.escape(marker), data)][:20])
    data = put(data, max(0, at + offset), form, rng.choice(NUMBERS))
    return sealed(data) if suffix == "png" else data


def sealed(png: bytes) -> bytes:
    """With the right checksum after the header, so that its lie is believed."""
    at = png.index(b"IHDR")
    return put(png, at + 17, ">I", zlib.crc32(png[at : at + 17]))


def lie_dicom(data: bytes, _, rng) -> bytes:
    """An element that says something else, or nothing, or is gone."""
    with warnings.catch_warnings(action="ignore"):
        ds = pydicom.dcmread(io.BytesIO(data), force=True)
        region = (ds.get("SequenceOfUltrasoundRegions") or [Dataset()])[0]
        names = [e.keyword for e in ds if e.keyword] + [
            "NumberOfFrames",
            "FrameTimeVector",
            "CineRate",
            "PlanarConfiguration",
            "ExtendedOffsetTable",
        ]
        choice = rng.random()
        if choice < 0.15:
            ds.file_meta.TransferSyntaxUID = rng.choice(SYNTAXES)
        elif choice < 0.3:
            ds.PixelData = rng.choice((b"", ds.PixelData[: rng.randrange(len(ds.PixelData))], ds.PixelData * 3, b"\xfe\xff\0\xe0" * 500))
        elif choice < 0.5:
            lie_element(region, rng.choice([e.keyword for e in region]), rng)
        elif choice < 0.6:
            ds.PhotometricInterpretation = rng.choice(SPACES)
        elif choice < 0.63:
            return nest(data, rng.choice((20, 5000)))
        else:
            lie_element(ds, rng.choice(names), rng)
        out = io.BytesIO()
        ds.save_as(out, enforce_file_format=False)
    return out.getvalue()


def nest(data: bytes, depth: int) -> bytes:
    """The regions' sequence in the first item of itself, again and again, and never closed. pydicom takes minutes to write such a file."""
    at = data.index(b"\x18\0\x11\x60SQ")
    return data[:at] + (b"\x18\0\x11\x60SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\xff\xff\xff\xff") * depth + data[at:]


def lie_element(ds: Dataset, keyword: str, rng) -> None:
    tag, vr = pydicom.datadict.tag_for_keyword(keyword), pydicom.datadict.dictionary_VR(keyword).split(" ")[0]
    if rng.random() < 0.1:
        ds.pop(tag, None)
    elif vr in ("US", "UL", "SL", "SS"):
        top = {"US": 2**16, "UL": 2**32, "SL": 2**31, "SS": 2**15}[vr]
        value = rng.choice(NUMBERS) % top
        ds[tag] = DataElement(tag, vr, rng.choice((value, value, [value] * 4)))
    elif vr == "FD":
        ds[tag] = DataElement(tag, vr, rng.choice((0.0, 1.0, -0.02, 1e308, 5e-324, float("nan"), float("inf"))))
    elif vr in ("OB", "OW", "OV"):
        ds[tag] = DataElement(tag, vr, rng.choice((b"", b"\0" * 8, b"\xff" * 64)))
    elif vr == "SQ":
        ds[tag].value = rng.choice(([], [Dataset()], list(ds[tag].value) * 300))
    else:
        ds[tag] = DataElement(tag, "LO", rng.choice((*TEXTS, *map(str, NUMBERS))), validation_mode=0)
