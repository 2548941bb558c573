"""NIfTI and MetaImage files: axes, gray, scale, and headers that lie. Files by SimpleITK, and by hand from the NIfTI-1 layout."""

import gzip
import struct

import numpy as np
import pytest
import SimpleITK as sitk
from dicoms import COLOUR, GRAY, RNG, bt601, frames_of

from uscl.data import recordings, volumes
from uscl.types import UserError


def write(path, x, *, spacing=(0.3, 0.3, 1), compress=False, vector=False):
    image = sitk.GetImageFromArray(x, isVector=vector)
    image.SetSpacing(spacing[: image.GetDimension()])
    sitk.WriteImage(image, str(path), compress)
    return path


def nifti(x, *, pixdim=(0.3, 0.3, 1, 1), dims=None, units=2 | 8):
    """A NIfTI-1 file by hand; x [..., T, Z, Y, X], the last axis the fastest in the file."""
    head = bytearray(352)
    dims = dims or x.shape[::-1]
    code = {"u1": 2, "i2": 4, "i4": 8, "f4": 16}[x.dtype.str[1:]]
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into(f"<{1 + len(dims)}h", head, 40, len(dims), *dims)
    struct.pack_into("<hh", head, 70, code, 8 * x.itemsize)
    struct.pack_into("<5f", head, 76, 1, *pixdim)
    struct.pack_into("<f", head, 108, 352)
    head[123] = units
    head[344:348] = b"n+1\0"
    return bytes(head) + x.tobytes()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ", ".mha", ".mhd"])
def test_x_runs_along_the_columns_and_slices_are_frames(tmp_path, suffix):
    x = GRAY.copy()
    x[1, 2, 25] = 255
    if suffix.lower().startswith(".nii"):
        (tmp_path / f"a{suffix}").write_bytes(gzip.compress(nifti(x)) if "z" in suffix.lower() else nifti(x))
    else:
        write(tmp_path / f"a{suffix}", x)
    found = recordings.read(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(np.stack(list(found.frames)), x)
    assert found.mm_per_pixel == pytest.approx(0.3) and np.isnan(found.frame_ms) and found.promised == 3
    assert recordings.suffix_of(tmp_path / f"a{suffix}") == suffix.lower()
    np.testing.assert_array_equal(frames_of(write(tmp_path / "b.mha", x, compress=True)), x)
    np.testing.assert_array_equal(frames_of(write(tmp_path / "c.mhd", x[0], compress=True))[0], x[0])


def test_a_film_of_one_slice_has_time(tmp_path):
    x = RNG.integers(0, 256, (6, 1, 20, 30), np.uint8)
    for step, units, ms in ((0.04, 2 | 8, 40), (40, 2 | 16, 40), (1, 2 | 8, np.nan), (3600, 2 | 8, np.nan)):
        (tmp_path / "a.nii").write_bytes(nifti(x, pixdim=(0.3, 0.3, 1, step), units=units))
        found = recordings.read(tmp_path / "a.nii")
        np.testing.assert_allclose(found.frame_ms, ms, rtol=1e-5)
        np.testing.assert_array_equal(np.stack(list(found.frames)), x[:, 0])
    (tmp_path / "b.nii").write_bytes(nifti(np.zeros((2, 3, 20, 30), np.uint8)))
    with pytest.raises(UserError, match="b.nii: has 4 axes .* films of one slice"):
        recordings.read(tmp_path / "b.nii")


@pytest.mark.parametrize(
    ("spacing", "mm"), [((0.2, 0.2), 0.2), ((0.2, 0.2015), 0.2), ((0.2, 0.3), np.nan), ((1, 1), np.nan), ((2, 2), 2), ((0.3, 0.15), np.nan)]
)
def test_scale(tmp_path, spacing, mm):
    np.testing.assert_allclose(recordings.read(write(tmp_path / "a.mha", GRAY, spacing=(*spacing, 7))).mm_per_pixel, mm)


def test_numbers_within_a_byte_stay_and_others_are_scaled_over_the_whole_file(tmp_path):
    kept = GRAY.astype(np.int16)
    np.testing.assert_array_equal(frames_of(write(tmp_path / "a.mha", kept)), GRAY)
    np.testing.assert_array_equal(frames_of(write(tmp_path / "b.mha", kept.astype(np.float32))), GRAY)
    for low in (-500, 0):
        deep = RNG.integers(low, 3000, GRAY.shape).astype(np.int16)
        deep[0] //= 9
        expected = (deep - float(deep.min())) / (float(deep.max()) - deep.min()) * 255
        np.testing.assert_allclose(frames_of(write(tmp_path / "c.mha", deep)), expected, atol=0.51)
    shares = (GRAY / 255).astype(np.float32)
    shares[0, 0, :3] = 0, 0.5, 1
    (shares[1, 0, 0], shares[1, 0, 1]) = np.nan, np.inf
    found = frames_of(write(tmp_path / "d.mha", shares))
    np.testing.assert_allclose(found[shares <= 1], shares[shares <= 1] * 255, atol=0.51)
    assert found[1, 0, :2].tolist() == [0, 0]
    np.testing.assert_array_equal(frames_of(write(tmp_path / "e.mha", np.full((3, 20, 30), -3.5))), 0)
    np.testing.assert_allclose(frames_of(write(tmp_path / "f.mha", COLOUR, vector=True)), bt601(COLOUR), atol=0.51)


def test_labels_are_the_numbers_themselves(tmp_path):
    label = RNG.integers(-2, 900, (2, 20, 30))
    for kind in (np.int16, np.float32):
        found = list(volumes.values(write(tmp_path / "a.nii.gz", label.astype(kind))))
        assert {x.dtype for x in found} == {np.dtype(np.int32)}
        np.testing.assert_array_equal(found, label)
    for bad in (0.5, np.nan, 2.0**40):
        with pytest.raises(UserError, match="b.mha: .*whole numbers"):
            list(volumes.values(write(tmp_path / "b.mha", np.full((20, 30), bad))))


def refused(path, match):
    with pytest.raises(UserError, match=f"{path.name}: .*{match}") as caught:
        list(recordings.read(path).frames)
    assert "\n" not in str(caught.value)


def test_headers_that_lie(tmp_path, capfd):
    for name in ("a.nii", "a.nii.gz"):

        def put(data, path=tmp_path / name):
            path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
            return path

        refused(put(nifti(GRAY)[:-20]), "ends 20 bytes before the pixels")  # filled up with zeros by the library
        refused(put(nifti(GRAY, dims=(30, 20, 300))), "bytes before the pixels")
        refused(put(nifti(GRAY, dims=(30000, 30000, 9))), "claims .* at most")
        refused(put(nifti(GRAY, dims=(1000, 1000, 1000))), "claims 1000000000 numbers")
        refused(put(nifti(GRAY, dims=(2, 2, 450))), "at least")
        refused(put(nifti(GRAY)[:100]), "cannot be read")
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(nifti(GRAY))[:-300])
    refused(tmp_path / "b.nii.gz", "")
    for compress in (False, True):
        for name in ("c.mha", "c.mhd"):
            path = write(tmp_path / name, GRAY, compress=compress)
            path.write_bytes(path.read_bytes().replace(b"DimSize = 30 20 3", b"DimSize = 30 20 900"))
            refused(path, "before the pixels" if compress else "")
    assert "DimSize" not in "".join(capfd.readouterr())


def test_a_header_has_no_other_files_read(tmp_path):
    (tmp_path / "in").mkdir()
    path = write(tmp_path / "in" / "a.mhd", GRAY)
    (tmp_path / "secret.raw").write_bytes(bytes(1800))
    for name in ("../secret.raw", str(tmp_path / "secret.raw"), "LIST", "a%d.raw 1 3 1", "gone.raw"):
        text = path.read_text().splitlines()[:-1]
        (tmp_path / "in" / "b.mhd").write_text("\n".join([*text, f"ElementDataFile = {name}", ""]))
        refused(tmp_path / "in" / "b.mhd", "not beside it")
