"""DICOM files that are no ultrasound, claim too much, break off, or mean harm: each is told in one sentence."""

import tracemalloc
import warnings
import zlib

import numpy as np
import pydicom
import pytest
from dicoms import COLOUR, GRAY, frames_of, jpeg, write_dicom
from pydicom.uid import RLELossless

from uscl.data import dicom_header, dicom_pixels, recordings
from uscl.types import UserError

BASELINE, J2K = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"


def refused(path, match):
    with pytest.raises(UserError, match=f"{path.name}: .*{match}") as caught:
        list(recordings.read(path).frames)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    return caught.value


def test_what_holds_no_ultrasound(tmp_path):
    refused(write_dicom(tmp_path / "a.dcm", GRAY, Modality="CT"), "modality is CT; allowed is ultrasound")
    frames_of(write_dicom(tmp_path / "b.dcm", GRAY, Modality="US"))
    path = write_dicom(tmp_path / "c.dcm", GRAY)
    ds = pydicom.dcmread(path)
    del ds.Rows, ds.PixelData
    for uid, kind in (
        ("1.2.840.10008.5.1.4.1.1.88.11", "a structured report"),
        ("1.2.840.10008.1.3.10", "the directory"),
        ("1.2.3", "an object"),
    ):
        ds.file_meta.MediaStorageSOPClassUID = uid
        ds.save_as(path)
        refused(path, f"{kind}.* without an image")
    ds.Rows = 20
    ds.save_as(path)
    refused(path, "pixels are missing")
    (tmp_path / "d.dcm").write_bytes(b"")
    refused(tmp_path / "d.dcm", "is empty")
    (tmp_path / "e.dcm").write_bytes(b"\x30\x82\x01\x00\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03" + bytes(300))
    refused(tmp_path / "e.dcm", "is encrypted")
    (tmp_path / "f.dcm").write_bytes(b"no dicom at all")
    refused(tmp_path / "f.dcm", "it is no DICOM file")


def test_colour_spaces_that_are_not_read(tmp_path):
    refused(write_dicom(tmp_path / "f.dcm", bytes(3600), "YBR_PARTIAL_420", shape=(1, 20, 30)), "YBR_PARTIAL_420")
    with warnings.catch_warnings(action="ignore"):
        path = write_dicom(tmp_path / "g.dcm", bytes(1800), "DOE^JANE", shape=(1, 20, 30))
    assert "DOE" not in str(refused(path, "unknown name"))
    path.write_bytes(write_dicom(tmp_path / "h.dcm", GRAY).read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0"))
    refused(path, "transfer syntax has no reader")


def test_too_much_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(dicom_pixels, "frames", lambda *_: pytest.fail("decoded"))
    for tags in ({"Rows": 65535, "Columns": 65535}, {"NumberOfFrames": 2**31 - 1}):
        refused(write_dicom(tmp_path / "a.dcm", GRAY, **tags), "claims .* at most")
    for tags in ({"Rows": 1, "Columns": 1}, {"Rows": 7}):
        refused(write_dicom(tmp_path / "a.dcm", GRAY, **tags), "at least")


def test_a_frame_of_another_size_than_the_header_says(tmp_path):
    for syntax, data in (
        (BASELINE, jpeg(np.zeros((64, 64), np.uint8))),
        (J2K, b"\xff\x4f\xff\x51\0\x29\0\0" + b"\xff" * 32),
        (J2K, bytes(50)),
    ):
        refused(write_dicom(tmp_path / "a.dcm", [data], syntax=syntax, shape=(1, 20, 30)), "a compressed frame states .* pixels")


def test_frames_until_the_break(tmp_path):
    for name, options in (("a.dcm", {}), ("b.dcm", {"compress": RLELossless})):
        whole = write_dicom(tmp_path / name, COLOUR, "RGB", **options).read_bytes()
        (tmp_path / name).write_bytes(whole[:-1000])
        found, decoded = recordings.read(tmp_path / name), []
        with pytest.raises(UserError, match=f"{name}: breaks off"):
            decoded.extend(found.frames)
        assert len(decoded) == 2 and found.promised == 3


def test_a_header_that_claims_more_frames(tmp_path):
    for options in ({}, {"compress": RLELossless}):
        path = write_dicom(tmp_path / "a.dcm", GRAY, **options)
        path.write_bytes(path.read_bytes().replace(b"\x28\x00\x08\x00IS\x02\x003 ", b"\x28\x00\x08\x00IS\x02\x009 "))
        found = recordings.read(path)
        assert found.promised == 9
        np.testing.assert_array_equal(np.stack(list(found.frames)), GRAY)
    path.write_bytes(write_dicom(tmp_path / "b.dcm", GRAY[:1]).read_bytes().replace(b"OB\0\0\x58\x02", b"OB\0\0\x50\x02"))
    refused(path, "fewer than those of one frame")


def test_bombs(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", GRAY, syntax="1.2.840.10008.1.2.1.99")
    data = path.read_bytes()
    start = 144 + int.from_bytes(data[140:144], "little")
    engine = zlib.compressobj(wbits=-15)
    pixels = b"\xe0\x7f\x10\x00OB\0\0" + (2**31).to_bytes(4, "little")
    bomb = engine.compress(zlib.decompress(data[start:], -15)[: -GRAY.size - 12] + pixels)
    path.write_bytes(data[:start] + bomb + b"".join(engine.compress(bytes(2**20)) for _ in range(64)) + engine.flush())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dicom_header, "MOST_INFLATED", 2**23)
        tracemalloc.start()
        refused(path, "inflates to more than")
        assert tracemalloc.get_traced_memory()[1] < 2**26
        tracemalloc.stop()
    path = write_dicom(tmp_path / "b.dcm", GRAY, PatientID="M" * 64)
    path.write_bytes(path.read_bytes().replace(b"LO\x40\x00" + b"M" * 64, b"UN\0\0\0\0\0\xf0" + b"M" * 60))  # an element of 4 GB
    tracemalloc.start()
    refused(path, "")
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


@pytest.mark.parametrize(("times", "match"), [(5000, "cannot be read"), (-(2**20), "header holds more than")])
def test_regions_within_regions_and_a_million_of_them(tmp_path, monkeypatch, times, match):
    monkeypatch.setattr(dicom_header, "MOST_HEADER", 2**17)
    path = write_dicom(tmp_path / "a.dcm", GRAY, SequenceOfUltrasoundRegions=[])
    data, head = path.read_bytes(), b"\x18\x00\x11\x60SQ\0\0"
    start, item = data.index(head), b"\xfe\xff\x00\xe0"
    nested = (head + b"\xff\xff\xff\xff" + item + b"\xff\xff\xff\xff") * times
    many = head + b"\xff\xff\xff\xff" + (item + bytes(4)) * -times + b"\xfe\xff\xdd\xe0" + bytes(4)
    path.write_bytes(data[:start] + (nested or many) + data[start:])
    refused(path, match)
