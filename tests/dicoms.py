"""DICOM files whose pixels are known, written for the tests of their reader."""

import io

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid

from uscl.data import recordings

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (3, 20, 30), np.uint8)
COLOUR = RNG.integers(0, 256, (3, 20, 30, 3), np.uint8)
JFIF = b"\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0"


def bt601(rgb):
    return rgb.astype(np.float64) @ [0.299, 0.587, 0.114]


def frames_of(path):
    return np.stack(list(recordings.read(path).frames))


def write_dicom(path, pixels, space="MONOCHROME2", *, bits=8, compress=None, syntax=ExplicitVRLittleEndian, vr=None, shape=None, **tags):
    """pixels: [T, H, W] or [T, H, W, 3]; or the element's bytes, or a list of frames to encapsulate, with shape (T, H, W) given."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = UltrasoundMultiFrameImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    count, ds.Rows, ds.Columns = shape or pixels.shape[:3]
    ds.SamplesPerPixel = 3 if space.startswith(("RGB", "YBR")) else 1
    ds.PhotometricInterpretation, ds.PixelRepresentation = space, 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = (8 if bits <= 8 else 16), bits, bits - 1
    if ds.SamplesPerPixel == 3:
        ds.PlanarConfiguration = 0
    if count > 1:
        ds.NumberOfFrames = count
    for key, value in tags.items():
        setattr(ds, key, value)
    if isinstance(pixels, list):
        ds.PixelData = packed(pixels)
        ds["PixelData"].is_undefined_length = True
    else:
        data = pixels.tobytes() if isinstance(pixels, np.ndarray) else pixels
        ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = vr or ("OB" if bits <= 8 else "OW")
    if compress:
        ds.compress(compress, generate_instance_uid=False)
    ds.save_as(path, enforce_file_format=True)
    return path


def packed(frames, table=()):
    """Encapsulated: a frame is its bytes, or a list of the bytes of its fragments. table: the offsets, as they are to be written."""

    def item(data):
        data += b"\0" * (len(data) % 2)
        return b"\xfe\xff\x00\xe0" + len(data).to_bytes(4, "little") + data

    parts = [part for frame in frames for part in (frame if isinstance(frame, list) else [frame])]
    return item(np.array(table, "<u4").tobytes()) + b"".join(map(item, parts))


def region(x0, y0, x1, y1, *, kind=(1, 1), delta=(0.02, 0.02), units=(3, 3)):
    ds = Dataset()
    ds.RegionSpatialFormat, ds.RegionDataType = kind
    ds.RegionLocationMinX0, ds.RegionLocationMinY0, ds.RegionLocationMaxX1, ds.RegionLocationMaxY1 = x0, y0, x1, y1
    ds.PhysicalUnitsXDirection, ds.PhysicalUnitsYDirection = units
    ds.PhysicalDeltaX, ds.PhysicalDeltaY = delta
    return ds


def jpeg(x, mode=None, *, marked=True, **options):
    """A lossy JPEG of uint8 [H, W] or [H, W, 3]; `marked` leaves the JFIF segment in, which says that it is YCbCr."""
    image = Image.fromarray(x)
    image = Image.frombytes(mode, image.size, x.tobytes()) if mode else image
    image.save(out := io.BytesIO(), "JPEG", quality=95, **options)
    data = out.getvalue()
    return data if marked else data[:2] + data[20:]


def lossless_jpeg(x, *, bits=8, marks=b""):
    """JPEG process 14, first predictor, uint [H, W] or [H, W, 3]. A Huffman code of 5 bits for each number of bits of a difference."""
    x = x.reshape(*x.shape[:2], -1).astype(int)
    parts = x.shape[2]

    def segment(marker, data):
        return bytes([0xFF, marker]) + (len(data) + 2).to_bytes(2, "big") + data

    size = bytes([bits]) + b"".join(n.to_bytes(2, "big") for n in x.shape[:2]) + bytes([parts])
    head = segment(0xC3, size + b"".join(bytes([i + 1, 0x11, 0]) for i in range(parts)))
    head += segment(0xC4, bytes([0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)]))
    head += segment(0xDA, bytes([parts, *(b for i in range(parts) for b in (i + 1, 0)), 1, 0, 0]))
    before = np.empty_like(x)
    before[:, 1:], before[1:, 0], before[0, 0] = x[:, :-1], x[:-1, 0], 2 ** (bits - 1)
    text = ""
    for d in (x - before).ravel().tolist():
        n = abs(d).bit_length()
        text += f"{n:05b}" + (f"{d if d > 0 else d + 2**n - 1:0{n}b}" if n else "")
    text += "1" * (-len(text) % 8)
    return b"\xff\xd8" + marks + head + int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0") + b"\xff\xd9"
