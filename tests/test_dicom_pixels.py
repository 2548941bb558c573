"""The pixels of DICOM files in every colour space and transfer syntax, against what was written and against pydicom's own decode."""

import base64
import tracemalloc

import numpy as np
import pydicom
import pytest
from dicoms import COLOUR, GRAY, JFIF, RNG, bt601, frames_of, jpeg, lossless_jpeg, packed, write_dicom
from pydicom.uid import ExplicitVRBigEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless
from videos import write_video

from uscl.data import recordings
from uscl.types import UserError

BASELINE, LOSSLESS, HTJ2K = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.201"


def test_gray_is_the_pixels_and_a_missing_frame_count_is_one(tmp_path):
    np.testing.assert_array_equal(frames_of(write_dicom(tmp_path / "a.dcm", GRAY)), GRAY)
    np.testing.assert_array_equal(frames_of(write_dicom(tmp_path / "b.dcm", GRAY[:1])), GRAY[:1])
    assert recordings.read(tmp_path / "b.dcm").promised == 1 and recordings.read(tmp_path / "a.dcm").promised == 3
    np.testing.assert_array_equal(frames_of(write_dicom(tmp_path / "d.dcm", GRAY, "MONOCHROME1")), 255 - GRAY)
    implicit = write_dicom(tmp_path / "e.dcm", GRAY, syntax="1.2.840.10008.1.2")
    np.testing.assert_array_equal(frames_of(implicit), GRAY)


@pytest.mark.parametrize("compress", [None, RLELossless, JPEG2000Lossless])
def test_colour_becomes_luma(tmp_path, compress):
    truth = COLOUR.repeat(2, 1).repeat(2, 2)  # JPEG 2000 wants 32 pixels
    found = frames_of(write_dicom(tmp_path / "a.dcm", truth, "RGB", compress=compress))
    np.testing.assert_allclose(found, bt601(truth), atol=0.51)


@pytest.mark.parametrize("space", ["RGB", "YBR_FULL"])
def test_planes(tmp_path, space):
    planes = COLOUR.transpose(0, 3, 1, 2).tobytes()
    found = frames_of(write_dicom(tmp_path / "a.dcm", planes, space, shape=(3, 20, 30), PlanarConfiguration=1))
    np.testing.assert_allclose(found, bt601(COLOUR) if space == "RGB" else COLOUR[..., 0], atol=0.51)


def test_ybr_is_its_first_channel_untouched(tmp_path):
    np.testing.assert_array_equal(frames_of(write_dicom(tmp_path / "a.dcm", COLOUR, "YBR_FULL")), COLOUR[..., 0])
    np.testing.assert_array_equal(frames_of(write_dicom(tmp_path / "b.dcm", COLOUR, "YBR_FULL", compress=RLELossless)), COLOUR[..., 0])
    pairs = np.zeros((3, 20, 15, 4), np.uint8)  # two lumas, then the colour they share
    pairs[..., 0], pairs[..., 1], pairs[..., 2:] = COLOUR[:, :, ::2, 0], COLOUR[:, :, 1::2, 0], 77
    halved = write_dicom(tmp_path / "c.dcm", pairs.tobytes(), "YBR_FULL_422", shape=(3, 20, 30))
    np.testing.assert_array_equal(frames_of(halved), COLOUR[..., 0])
    unhalved = write_dicom(tmp_path / "d.dcm", COLOUR, "YBR_FULL_422")  # some writers leave all of the colour in
    np.testing.assert_array_equal(frames_of(unhalved), COLOUR[..., 0])


@pytest.mark.parametrize(("low_byte", "bits"), [(0, 16), (1, 16), (0, 8)])
@pytest.mark.parametrize("compress", [None, RLELossless])
def test_palette(tmp_path, low_byte, bits, compress):
    table = RNG.integers(0, 256, (256, 3), np.uint8)
    wide = table.astype(np.uint16) * (256 + low_byte) if bits == 16 else table
    names = [f"{c}PaletteColorLookupTable" for c in ("Red", "Green", "Blue")]
    tags = {f"{n}Descriptor": [256, 0, bits] for n in names} | {f"{n}Data": wide[:, i].tobytes() for i, n in enumerate(names)}
    found = frames_of(write_dicom(tmp_path / "a.dcm", GRAY, "PALETTE COLOR", compress=compress, **tags))
    np.testing.assert_allclose(found, bt601(table[GRAY]), atol=0.51)


@pytest.mark.parametrize("compress", [None, RLELossless, JPEG2000Lossless])
def test_sixteen_bits_are_scaled_by_the_bits_stored(tmp_path, compress):
    deep = RNG.integers(0, 4096, (2, 40, 60)).astype(np.uint16)
    deep[0, 0, :2] = 0, 4095
    found = frames_of(write_dicom(tmp_path / "a.dcm", deep, bits=12, compress=compress))
    np.testing.assert_allclose(found, deep * (255 / 4095), atol=0.51)
    assert found.dtype == np.uint8 and found[0, 0, 0] == 0 and found[0, 0, 1] == 255
    signed = (deep.astype(np.int32) - 2048).astype(np.int16)
    np.testing.assert_array_equal(
        frames_of(write_dicom(tmp_path / "b.dcm", signed, bits=12, compress=compress, PixelRepresentation=1)), found
    )
    if compress is None:  # an overlay in the four highest bits; and numbers in the higher bits, with dirt below
        np.testing.assert_array_equal(frames_of(write_dicom(tmp_path / "c.dcm", deep | 0xA000, bits=12)), found)
        np.testing.assert_array_equal(frames_of(write_dicom(tmp_path / "d.dcm", deep << 4 | 5, bits=12, HighBit=15)), found)


def test_big_endian(tmp_path):
    big = {"syntax": ExplicitVRBigEndian}
    deep = RNG.integers(0, 65536, (2, 20, 30)).astype(np.uint16)
    found = frames_of(write_dicom(tmp_path / "a.dcm", deep.astype(">u2"), bits=16, **big))
    np.testing.assert_allclose(found, deep / 257, atol=0.51)
    np.testing.assert_array_equal(frames_of(write_dicom(tmp_path / "b.dcm", GRAY, vr="OB", **big)), GRAY)
    odd = RNG.integers(0, 256, (3, 9, 11), np.uint8)  # words of two bytes, swapped, that two frames share
    words = np.frombuffer(odd.tobytes() + b"\0", np.uint16).byteswap().tobytes()
    np.testing.assert_array_equal(frames_of(write_dicom(tmp_path / "c.dcm", words, vr="OW", shape=odd.shape, **big)), odd)


def smooth(frames=3):
    y, x = np.mgrid[:20, :30]
    return np.stack([np.stack([120 + 5 * t + 3 * x - y, 90 + 4 * y - x, 60 + x + y + t], -1) for t in range(frames)]).astype(np.uint8)


def test_jpeg_is_in_the_space_that_its_marks_tell_or_else_the_header(tmp_path):
    truth = smooth()
    cases = {
        "gray": ("MONOCHROME2", [jpeg(x[..., 0]) for x in truth], truth[..., 0]),
        "jfif": ("YBR_FULL_422", [jpeg(x) for x in truth], bt601(truth)),
        "mislabelled": ("RGB", [jpeg(x) for x in truth], bt601(truth)),
        "adobe": ("RGB", [jpeg(x, keep_rgb=True) for x in truth], bt601(truth)),
        "unmarked": ("RGB", [jpeg(x, "YCbCr", marked=False, subsampling=0) for x in truth], bt601(truth)),
        "gray_after_all": ("RGB", [jpeg(x[..., 0]) for x in truth], truth[..., 0]),
        "unmarked_ybr": ("YBR_FULL", [jpeg(x, "YCbCr", marked=False) for x in truth], truth[..., 0]),
    }
    for name, (space, frames, expected) in cases.items():
        path = write_dicom(tmp_path / f"{name}.dcm", frames, space, syntax=BASELINE, shape=truth.shape[:3])
        np.testing.assert_allclose(frames_of(path), expected, atol=4, err_msg=name)


def test_lossless_jpeg(tmp_path):
    for syntax, marks in ((LOSSLESS, b""), ("1.2.840.10008.1.2.4.57", JFIF)):
        for space, truth, expected in (("MONOCHROME2", GRAY, GRAY), ("RGB", COLOUR, bt601(COLOUR)), ("YBR_FULL", COLOUR, COLOUR[..., 0])):
            frames = [lossless_jpeg(x, marks=marks) for x in truth]
            path = write_dicom(tmp_path / "a.dcm", frames, space, syntax=syntax, shape=(3, 20, 30))
            np.testing.assert_allclose(frames_of(path), expected, atol=0.51)
    deep = lossless_jpeg(np.full((20, 30), 999), bits=12)
    deep = recordings.read(write_dicom(tmp_path / "b.dcm", [deep], syntax=LOSSLESS, bits=12, shape=(1, 20, 30)))
    if not pydicom.pixels.get_decoder(LOSSLESS).is_available:
        with pytest.raises(UserError, match="b.dcm: no decoder .* pip install python-gdcm"):
            list(deep.frames)


@pytest.mark.parametrize("space", ["MONOCHROME2", "RGB", "YBR_FULL"])
def test_jpeg_ls(tmp_path, space):
    pytest.importorskip("jpeg_ls", reason="pyjpegls is not installed")
    truth = GRAY if space == "MONOCHROME2" else COLOUR
    found = frames_of(write_dicom(tmp_path / "a.dcm", truth, space, compress=JPEGLSLossless))
    np.testing.assert_allclose(found, {"MONOCHROME2": GRAY, "RGB": bt601(COLOUR), "YBR_FULL": COLOUR[..., 0]}[space], atol=0.51)


def test_high_throughput_jpeg_2000(tmp_path):
    y, x = np.mgrid[:16, :24]
    stream = base64.b64decode(  # (7 x + 13 y) % 251, written by OpenJPH
        "/0//UQApQAAAAAAYAAAAEAAAAAAAAAAAAAAAGAAAABAAAAAAAAAAAAABBwEB/1AACAACAAAAAv9SAAwAAgABAAUEBEAB/1wAEyBIUFBQUFBQUFBQUFBQSEhI/2QAFwABT3Bl"
        "bkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAQsAAf+TwCQAx3QAwBKAtgEHdADAEsATQBKA9ADHdAAKlAGBdAD0AAd0AMAVEAVcAVaQKPsABXu1AHoCCcDaABABvFYACAqICvsA"
        "AAB8VgDAFpQBasAWmI9H8+Gi8HQseP3AJwkxlCBYAAsRRwxkMOQ7GG7T/MAgghAeLCNZAH/ygIUeeHlrBMCAJeBB9GIGyQDALpYBdTALbKTHeH/+o/P5dp43g384Pp+u42vG"
        "/vOkMMnw34ALoL4ALwNCcAEenA8aH9kaHRsPjBj2sa0xIhujAwMDA/H9SBllAALDEzlgj24YLECxAXzq+/T9vZ7X9+X19/1LACJOkQKESe8QLGC/AP/Z"
    )
    path = write_dicom(tmp_path / "a.dcm", [stream], syntax=HTJ2K, shape=(1, 16, 24))
    np.testing.assert_array_equal(frames_of(path)[0], (7 * x + 13 * y) % 251)


def test_deflated(tmp_path):
    plain = write_dicom(tmp_path / "a.dcm", GRAY, syntax="1.2.840.10008.1.2.1.99", FrameTime=40)
    np.testing.assert_array_equal(frames_of(plain), GRAY)
    assert recordings.read(plain).frame_ms == 40


def test_fragments(tmp_path):
    truth = smooth(3)[..., 0]
    whole = [jpeg(x) for x in truth]
    whole = [x + b"\0" * (len(x) % 2) for x in whole]
    split = [[x[:100], x[100:300], x[300:]] for x in whole]
    starts = np.cumsum([0, *(sum(len(part) + 8 for part in x) for x in split)])[:3]
    for count, data in ((3, packed(whole)), (3, packed(split)), (3, packed(split, starts)), (1, packed(split[:1])), (2, packed(split))):
        path = write_dicom(tmp_path / "a.dcm", whole, syntax=BASELINE, shape=(count, 20, 30))
        path.write_bytes(path.read_bytes().replace(packed(whole), data))
        found = recordings.read(path)
        frames = np.stack(list(found.frames))
        assert found.promised == count
        np.testing.assert_allclose(frames, truth[: 1 if count == 1 else 3], atol=4)


def test_the_end_mark_inside_the_fragments_of_a_single_frame(tmp_path):
    data = jpeg(smooth(1)[0, ..., 0])
    data = data[:2] + b"\xff\xfe\0\4\xff\xd9" + data[2:]  # a comment that looks like an end
    path = write_dicom(tmp_path / "a.dcm", [[data[:8], data[8:]]], syntax=BASELINE, shape=(1, 20, 30))
    np.testing.assert_allclose(frames_of(path), smooth(1)[..., 0], atol=4)


def test_one_frame_in_memory_at_a_time(tmp_path):
    x = RNG.integers(0, 256, (40, 256, 256), np.uint8)
    for options in ({}, {"compress": RLELossless}):
        path = write_dicom(tmp_path / "a.dcm", x, **options)
        tracemalloc.start()
        assert sum(1 for _ in recordings.read(path).frames) == 40
        assert tracemalloc.get_traced_memory()[1] < 16 * x[0].size  # of 40
        tracemalloc.stop()


def test_a_film_in_dicom(tmp_path):
    truth = np.repeat(np.linspace(20, 230, 5).astype(np.uint8), 48 * 64).reshape(5, 48, 64)
    stream = write_video(tmp_path / "a.mp4", truth, codec="mpeg4", pixels="yuv420p").read_bytes()
    path = write_dicom(tmp_path / "a.dcm", [stream], "YBR_FULL_422", syntax="1.2.840.10008.1.2.4.102", shape=truth.shape)
    np.testing.assert_allclose(frames_of(path), truth, atol=4)
