"""What the DICOM reader takes from a header, that it never repeats it, and real files against pydicom's own decode."""

import logging
import math
import warnings

import numpy as np
import pydicom
import pytest
from dicoms import GRAY, bt601, frames_of, region, write_dicom
from PIL import Image
from pydicom.pixels import apply_color_lut, pixel_array

from uscl.data import dicom_header, recordings
from uscl.types import UserError

NAN = math.nan
J2K = "1.2.840.10008.1.2.4.90"
TIME, VECTOR = pydicom.tag.Tag("FrameTime"), pydicom.tag.Tag("FrameTimeVector")


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"FrameIncrementPointer": TIME, "FrameTime": 40, "FrameTimeVector": [0, 20, 20], "CineRate": 10}, 40),
        ({"FrameIncrementPointer": VECTOR, "FrameTime": 40, "FrameTimeVector": [0, 20, 30], "CineRate": 10}, 25),
        ({"FrameIncrementPointer": VECTOR, "FrameTimeVector": [0, 20, 21, 5000, 22]}, 21.5),  # one pause
        ({"FrameIncrementPointer": TIME, "FrameTime": 0, "CineRate": 10, "RecommendedDisplayFrameRate": 50}, 100),
        ({"FrameTime": 33.5}, 33.5),
        ({"FrameTime": "", "CineRate": 0, "RecommendedDisplayFrameRate": 50, "ActualFrameDuration": 77}, 20),
        ({"CineRate": 0, "ActualFrameDuration": 77}, 77),
        ({"FrameIncrementPointer": VECTOR, "FrameTimeVector": [0, 0, 0]}, NAN),
        ({"FrameTime": 0}, NAN),
        ({"FrameTime": -40}, NAN),
        ({}, NAN),
    ],
)
def test_time(tmp_path, tags, expected):
    np.testing.assert_allclose(recordings.read(write_dicom(tmp_path / "a.dcm", GRAY, **tags)).frame_ms, expected)


INNER = (slice(3, 13), slice(2, 12))


@pytest.mark.parametrize(
    ("regions", "box", "mm"),
    [
        ([region(2, 3, 11, 12)], INNER, 0.2),  # the maxima are inside
        ([region(0, 0, 29, 19, kind=(3, 3)), region(2, 3, 11, 12), region(0, 0, 19, 19)], (slice(0, 20), slice(0, 20)), 0.2),
        ([region(2, 3, 30, 20, delta=(-0.03, 0.03))], (slice(3, 20), slice(2, 30)), 0.3),  # one past the end, and a negative step
        ([region(5, 3, 500, 400), region(0, 0, 19, 19)], (slice(3, 20), slice(5, 30)), NAN),  # clipped; its scale is not this image's
        ([region(2, 3, 40, 12)], (slice(3, 13), slice(2, 30)), NAN),
        ([region(2, 3, 11, 22)], (slice(3, 20), slice(2, 12)), NAN),
        ([region(2, 3, 11, 12, delta=(1, 1))], INNER, NAN),
        ([region(2, 3, 11, 12, delta=(0, 0))], INNER, NAN),
        ([region(2, 3, 11, 12, units=(4, 3))], INNER, NAN),
        ([region(2, 3, 11, 12, delta=(0.02, 0.03))], INNER, NAN),
        ([region(40, 40, 50, 50)], None, NAN),
        ([region(0, 0, 5, 5, kind=(2, 1))], None, NAN),
        ([pydicom.Dataset(), region(2, 3, 11, 12)], INNER, 0.2),
        ([region(0, 0, 5, 5, kind=(2, 1))] * 64 + [region(2, 3, 11, 12)], None, NAN),  # no scanner writes so many
        ([], None, NAN),
    ],
)
def test_region_is_told_and_the_image_stays_whole(tmp_path, regions, box, mm):
    path = write_dicom(tmp_path / "a.dcm", GRAY, SequenceOfUltrasoundRegions=regions)
    np.testing.assert_array_equal(frames_of(path), GRAY)
    found = recordings.read(path)
    assert found.region == box
    np.testing.assert_allclose(found.mm_per_pixel, mm)


def test_it_says_whose_it_is_but_not_aloud(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", GRAY, PatientID=" MRN-77 ", PatientName="Doe^Jane")
    found = recordings.read(path)
    assert found.person == "MRN-77" and "MRN-77" not in repr(found) and found.source == "a.dcm"
    assert recordings.read(write_dicom(tmp_path / "b.dcm", GRAY)).person == "b"
    assert not {"PatientName", "PatientBirthDate", "StudyDate"} & set(dicom_header.ALLOWED)


def test_no_suffix_is_needed(tmp_path):
    for name in ("IM0001", "1.2.840.113"):
        np.testing.assert_array_equal(frames_of(write_dicom(tmp_path / name, GRAY)), GRAY)


def test_odd_values_of_the_header_are_not_repeated(tmp_path, capfd):
    path = write_dicom(tmp_path / "a.dcm", GRAY, PatientID="M" * 64, CineRate="30", RecommendedDisplayFrameRate="50")
    data = path.read_bytes().replace(b"LO\x40\x00" + b"M" * 64, b"LO\x42\x00" + b"M" * 66)  # longer than allowed: pydicom complains
    path.write_bytes(data.replace(b"\x18\x00\x40\x00IS\x02\x0030", b"\x18\x00\x40\x00IS\x02\x00J7"))
    heard, handler = [], logging.Handler()
    handler.emit = heard.append
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = recordings.read(path)
    finally:
        logging.getLogger().removeHandler(handler)
    stream = b"\xff\x4f\xff\x51\0\x29\0\0\0\0\0\x1e\0\0\0\x14" + bytes(99)  # a size, and then nothing
    with pytest.raises(UserError, match="b.dcm: cannot be read"):
        list(recordings.read(write_dicom(tmp_path / "b.dcm", [stream], syntax=J2K, shape=(1, 20, 30))).frames)
    assert found.person == "M" * 66 and found.frame_ms == 20 and not heard
    assert capfd.readouterr() == ("", "")


def test_real_files_agree_with_pydicom(data_root):
    paths = sorted((data_root / "dicom").glob("*.dcm"))
    assert len(paths) >= 12
    for path in paths:
        ds = pydicom.dcmread(path)
        whole = ds.pixel_array
        if ds.PhotometricInterpretation == "PALETTE COLOR":
            whole = apply_color_lut(whole, ds)
            whole = whole / 256 if whole.dtype == np.uint16 else whole
        rgb = whole.reshape(-1, ds.Rows, ds.Columns, 3)
        unclipped = ((rgb > 0) & (rgb < 255)).all(-1) | (ds.PhotometricInterpretation[:8] != "YBR_FULL")
        frames = frames_of(path)
        assert frames.shape == rgb.shape[:3] and np.abs(frames - bt601(rgb))[unclipped].max() <= 1.5, path.name
        if ds.PhotometricInterpretation == "YBR_FULL_422":  # colours that RGB cannot hold lose luma on the way through it
            np.testing.assert_array_equal(frames, pixel_array(path, raw=True)[..., 0])


def test_the_cine_that_comes_with_pydicom():
    path = pydicom.examples.get_path("ybr_color")
    found = recordings.read(path)
    frames = np.stack(list(found.frames))
    np.testing.assert_array_equal(frames, pixel_array(path, raw=True)[..., 0])
    assert frames.shape == (30, 240, 320) and found.frame_ms == pytest.approx(33.333) and found.promised == 30
    assert found.region == (slice(31, 240), slice(84, 320))  # in the header it ends at 595, 414
    assert np.isnan(found.mm_per_pixel)


def test_only_luma_is_decoded(monkeypatch):
    asked, real = [], Image.frombytes
    monkeypatch.setattr(Image, "frombytes", lambda *args: asked.append(args[4]) or real(*args))
    frames_of(pydicom.examples.get_path("ybr_color"))
    assert asked == ["L"] * 30
