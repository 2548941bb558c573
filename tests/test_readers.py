"""The readers against files made here, whose pixels are known, and against pydicom's own decode of real ones."""

import logging
import math
import warnings
from fractions import Fraction

import av
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, UltrasoundMultiFrameImageStorage, generate_uid

from uscl.data import dicom, images, recordings
from uscl.data.fit import fit, fit_label
from uscl.types import UserError

RNG = np.random.default_rng(0)
NAN = math.nan


def bt601(rgb):
    return rgb.astype(np.float64) @ [0.299, 0.587, 0.114]


def write_dicom(path, pixels, space="MONOCHROME2", *, bits=8, compress=None, rows=None, columns=None, **tags):
    """pixels [T, H, W] or [T, H, W, 3], or bytes with rows and columns given."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = UltrasoundMultiFrameImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    whole = isinstance(pixels, np.ndarray)
    ds.Rows, ds.Columns = (pixels.shape[1:3] if whole else (rows, columns))
    ds.SamplesPerPixel = 3 if space.startswith(("RGB", "YBR")) else 1
    ds.PhotometricInterpretation, ds.PixelRepresentation = space, 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = (8 if bits <= 8 else 16), bits, bits - 1
    if ds.SamplesPerPixel == 3:
        ds.PlanarConfiguration = 0
    if whole and len(pixels) > 1:
        ds.NumberOfFrames = len(pixels)
    for key, value in tags.items():
        setattr(ds, key, value)
    data = pixels.tobytes() if whole else pixels
    ds.PixelData = data + b"\0" * (len(data) % 2)
    if compress:
        ds.compress(compress, generate_instance_uid=False)
    ds.save_as(path, enforce_file_format=True)
    return path


def region(x0, y0, x1, y1, *, kind=(1, 1), delta=(0.02, 0.02), units=(3, 3)):
    ds = Dataset()
    ds.RegionSpatialFormat, ds.RegionDataType = kind
    ds.RegionLocationMinX0, ds.RegionLocationMinY0, ds.RegionLocationMaxX1, ds.RegionLocationMaxY1 = x0, y0, x1, y1
    ds.PhysicalUnitsXDirection, ds.PhysicalUnitsYDirection = units
    ds.PhysicalDeltaX, ds.PhysicalDeltaY = delta
    return ds


def frames_of(path):
    return np.stack(list(recordings.read(path).frames))


GRAY = RNG.integers(0, 256, (3, 20, 30), np.uint8)
COLOUR = RNG.integers(0, 256, (3, 20, 30, 3), np.uint8)


def test_dicom_gray_is_the_pixels_and_a_missing_frame_count_is_one(tmp_path):
    np.testing.assert_array_equal(frames_of(write_dicom(tmp_path / "a.dcm", GRAY)), GRAY)
    np.testing.assert_array_equal(frames_of(write_dicom(tmp_path / "b.dcm", GRAY[:1])), GRAY[:1])
    np.testing.assert_array_equal(frames_of(write_dicom(tmp_path / "c.dcm", GRAY, compress=RLELossless)), GRAY)
    np.testing.assert_array_equal(frames_of(write_dicom(tmp_path / "d.dcm", GRAY, "MONOCHROME1")), 255 - GRAY)


@pytest.mark.parametrize("compress", [None, RLELossless])
def test_dicom_colour_becomes_luma(tmp_path, compress):
    found = frames_of(write_dicom(tmp_path / "a.dcm", COLOUR, "RGB", compress=compress))
    np.testing.assert_allclose(found, bt601(COLOUR), atol=0.51)
    planes = COLOUR.transpose(0, 3, 1, 2).tobytes()
    found = frames_of(write_dicom(tmp_path / "b.dcm", planes, "RGB", rows=20, columns=30, NumberOfFrames=3, PlanarConfiguration=1))
    np.testing.assert_allclose(found, bt601(COLOUR), atol=0.51)


def test_dicom_ybr_is_its_first_channel_untouched(tmp_path):
    np.testing.assert_array_equal(frames_of(write_dicom(tmp_path / "a.dcm", COLOUR, "YBR_FULL")), COLOUR[..., 0])
    np.testing.assert_array_equal(frames_of(write_dicom(tmp_path / "b.dcm", COLOUR, "YBR_FULL", compress=RLELossless)), COLOUR[..., 0])
    pairs = np.zeros((3, 20, 15, 4), np.uint8)  # two lumas, then the colour they share
    pairs[..., 0], pairs[..., 1], pairs[..., 2:] = COLOUR[:, :, ::2, 0], COLOUR[:, :, 1::2, 0], 77
    packed = write_dicom(tmp_path / "c.dcm", pairs.tobytes(), "YBR_FULL_422", rows=20, columns=30, NumberOfFrames=3)
    np.testing.assert_array_equal(frames_of(packed), COLOUR[..., 0])


@pytest.mark.parametrize(("low_byte", "bits"), [(0, 16), (1, 16), (0, 8)])
def test_dicom_palette(tmp_path, low_byte, bits):
    table = RNG.integers(0, 256, (256, 3), np.uint8)
    wide = table.astype(np.uint16) * (256 + low_byte) if bits == 16 else table
    names = [f"{c}PaletteColorLookupTable" for c in ("Red", "Green", "Blue")]
    tags = {f"{n}Descriptor": [256, 0, bits] for n in names} | {f"{n}Data": wide[:, i].tobytes() for i, n in enumerate(names)}
    found = frames_of(write_dicom(tmp_path / "a.dcm", GRAY, "PALETTE COLOR", **tags))
    np.testing.assert_allclose(found, bt601(table[GRAY]), atol=0.51)


def test_dicom_sixteen_bits_are_scaled_by_the_bits_stored(tmp_path):
    deep = RNG.integers(0, 4096, (2, 20, 30)).astype(np.uint16)
    deep[0, 0, :2] = 0, 4095
    found = frames_of(write_dicom(tmp_path / "a.dcm", deep, bits=12))
    np.testing.assert_allclose(found, deep * (255 / 4095), atol=0.51)
    assert found.dtype == np.uint8 and found[0, 0, 0] == 0 and found[0, 0, 1] == 255
    signed = (deep.astype(np.int32) - 2048).astype(np.int16)
    np.testing.assert_array_equal(frames_of(write_dicom(tmp_path / "b.dcm", signed, bits=12, PixelRepresentation=1)), found)


TIME, VECTOR = pydicom.tag.Tag("FrameTime"), pydicom.tag.Tag("FrameTimeVector")


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"FrameIncrementPointer": TIME, "FrameTime": 40, "FrameTimeVector": [0, 20, 20], "CineRate": 10}, 40),
        ({"FrameIncrementPointer": VECTOR, "FrameTime": 40, "FrameTimeVector": [0, 20, 30], "CineRate": 10}, 25),
        ({"FrameIncrementPointer": TIME, "FrameTime": 0, "CineRate": 10, "RecommendedDisplayFrameRate": 50}, 100),
        ({"FrameTime": 33.5}, 33.5),
        ({"FrameTime": "", "CineRate": 0, "RecommendedDisplayFrameRate": 50}, 20),
        ({"FrameIncrementPointer": VECTOR, "FrameTimeVector": [0, 0, 0]}, NAN),
        ({"FrameTime": 0}, NAN),
        ({}, NAN),
    ],
)
def test_dicom_time(tmp_path, tags, expected):
    np.testing.assert_allclose(recordings.read(write_dicom(tmp_path / "a.dcm", GRAY, **tags)).frame_ms, expected)


WHOLE = (slice(0, 20), slice(0, 30))


@pytest.mark.parametrize(
    ("regions", "box", "mm"),
    [
        ([region(2, 3, 11, 12)], (slice(3, 13), slice(2, 12)), 0.2),  # the maxima are inside
        ([region(0, 0, 29, 19, kind=(3, 3)), region(2, 3, 11, 12), region(0, 0, 19, 19)], (slice(0, 20), slice(0, 20)), 0.2),
        ([region(2, 3, 30, 20, delta=(-0.03, 0.03))], (slice(3, 20), slice(2, 30)), 0.3),  # one past the end, and a negative step
        ([region(5, 3, 500, 400), region(0, 0, 19, 19)], (slice(3, 20), slice(5, 30)), NAN),  # clipped; its scale is not this image's
        ([region(2, 3, 40, 12)], (slice(3, 13), slice(2, 30)), NAN),
        ([region(2, 3, 11, 22)], (slice(3, 20), slice(2, 12)), NAN),
        ([region(2, 3, 11, 12, delta=(1, 1))], (slice(3, 13), slice(2, 12)), NAN),
        ([region(2, 3, 11, 12, delta=(0, 0))], (slice(3, 13), slice(2, 12)), NAN),
        ([region(2, 3, 11, 12, units=(4, 3))], (slice(3, 13), slice(2, 12)), NAN),
        ([region(2, 3, 11, 12, delta=(0.02, 0.03))], (slice(3, 13), slice(2, 12)), NAN),
        ([region(40, 40, 50, 50)], WHOLE, NAN),
        ([region(0, 0, 5, 5, kind=(2, 1))], WHOLE, NAN),
        ([], WHOLE, NAN),
    ],
)
def test_dicom_region(tmp_path, regions, box, mm):
    path = write_dicom(tmp_path / "a.dcm", GRAY, SequenceOfUltrasoundRegions=regions)
    np.testing.assert_array_equal(frames_of(path), GRAY[:, *box])
    np.testing.assert_allclose(recordings.read(path).mm_per_pixel, mm)


def test_dicom_says_whose_it_is_but_not_aloud(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", GRAY, PatientID=" MRN-77 ", PatientName="Doe^Jane")
    found = recordings.read(path)
    assert found.person == "MRN-77" and "MRN-77" not in repr(found) and found.source == "a.dcm"
    assert recordings.read(write_dicom(tmp_path / "b.dcm", GRAY)).person == "b"
    assert not {"PatientName", "PatientBirthDate", "StudyDate"} & set(dicom.ALLOWED)


def test_dicom_needs_no_suffix(tmp_path):
    for name in ("IM0001", "1.2.840.113"):
        np.testing.assert_array_equal(frames_of(write_dicom(tmp_path / name, GRAY)), GRAY)


def test_dicom_that_claims_too_much_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(dicom, "iter_pixels", lambda *_, **__: pytest.fail("decoded"))
    for tags in ({"Rows": 65535, "Columns": 65535}, {"NumberOfFrames": 2**31 - 1}):
        with pytest.raises(UserError, match="a.dcm: claims .* at most"):
            recordings.read(write_dicom(tmp_path / "a.dcm", GRAY, **tags))


def test_what_is_broken_is_told_in_a_sentence_with_the_file(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"no dicom at all")
    (tmp_path / "b.mp4").write_bytes(bytes(range(200)))
    (tmp_path / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "d.txt").write_text("notes")
    for name in ("a.dcm", "b.mp4", "c.png", "d.txt", "missing.dcm"):
        with pytest.raises(UserError, match=name) as caught:
            list(recordings.read(tmp_path / name).frames)
        assert "\n" not in str(caught.value)
    whole = write_dicom(tmp_path / "e.dcm", COLOUR, "RGB", compress=RLELossless).read_bytes()
    (tmp_path / "e.dcm").write_bytes(whole[: len(whole) * 2 // 3])
    frames = recordings.read(tmp_path / "e.dcm").frames
    with pytest.raises(UserError, match="e.dcm"):
        list(frames)
    with pytest.raises(UserError, match="YBR_PARTIAL_420"):
        recordings.read(write_dicom(tmp_path / "f.dcm", b"\0" * 3600, "YBR_PARTIAL_420", rows=20, columns=30))


def test_dicom_does_not_repeat_odd_values_of_the_header(tmp_path):
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
    assert found.person == "M" * 66 and found.frame_ms == 20 and not heard


def test_the_cine_that_comes_with_pydicom():
    from pydicom.examples import get_path

    path = get_path("ybr_color")
    found = recordings.read(path)
    frames = np.stack(list(found.frames))
    luma = pydicom.pixels.pixel_array(path, raw=True)[..., 0]
    np.testing.assert_array_equal(frames, luma[:, 31:, 84:])  # the header's region ends at 595, 414; the image at 319, 239
    assert frames.shape == (30, 209, 236) and found.frame_ms == pytest.approx(33.333)
    assert math.isnan(found.mm_per_pixel)


def test_real_dicom_agrees_with_pydicom(data_root):
    paths = sorted((data_root / "dicom").glob("*.dcm"))
    if not paths:
        pytest.skip(f"no DICOM files in {data_root / 'dicom'}")
    for path in paths:
        ds = pydicom.dcmread(path)
        whole = ds.pixel_array
        if ds.PhotometricInterpretation == "PALETTE COLOR":
            whole = pydicom.pixels.apply_color_lut(whole, ds)
            whole = whole / 256 if whole.dtype == np.uint16 else whole
        whole = bt601(whole).reshape(-1, ds.Rows, ds.Columns)
        frames = frames_of(path)
        header = pydicom.dcmread(path, stop_before_pixels=True)
        tissue = [r for r in header.get("SequenceOfUltrasoundRegions", []) if (r.RegionSpatialFormat, r.RegionDataType) == (1, 1)]
        top, left = (tissue[0].RegionLocationMinY0, tissue[0].RegionLocationMinX0) if tissue else (0, 0)
        cut = whole[:, top : top + frames.shape[1], left : left + frames.shape[2]]
        assert cut.shape == frames.shape, path.name
        assert np.mean(np.abs(frames - cut) > 1.5) < 0.01, path.name  # saturated colours lose luma on their way through RGB


def write_video(path, frames, *, codec="ffv1", pixels="gray", rate=25, aspect=None, options=None):
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        stream.codec_context.bit_rate = 4_000_000
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for frame in frames:
            frame = av.VideoFrame.from_ndarray(frame, format="gray" if frame.ndim == 2 else "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_video_is_every_frame_that_was_put_in(tmp_path):
    frames = RNG.integers(0, 256, (7, 48, 64), np.uint8)
    found = recordings.read(write_video(tmp_path / "a.mkv", frames, rate=Fraction(30, 1)))
    np.testing.assert_array_equal(np.stack(list(found.frames)), frames)
    assert found.frame_ms == pytest.approx(1000 / 30) and math.isnan(found.mm_per_pixel) and found.person == ""


def test_video_colour_becomes_luma_of_the_full_range(tmp_path):
    colours = [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255), (90, 90, 90)]
    frames = np.stack([np.broadcast_to(np.uint8(c), (48, 64, 3)) for c in colours])
    found = frames_of(write_video(tmp_path / "a.mp4", frames, codec="mpeg4", pixels="yuv420p"))
    np.testing.assert_allclose(found.mean((1, 2)), bt601(np.array(colours)), atol=4)  # 16..235 in the file


def test_video_header_that_lies_and_pixels_that_are_not_square(tmp_path):
    frames = RNG.integers(0, 256, (20, 48, 64), np.uint8)
    path = write_video(tmp_path / "a.mp4", frames, codec="mpeg4", pixels="yuv420p", options={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 20
    decoded = []
    try:
        decoded.extend(recordings.read(path).frames)
    except UserError:
        pass
    assert 5 <= len(decoded) < 20
    wide = write_video(tmp_path / "b.mp4", frames, codec="mpeg4", pixels="yuv420p", aspect=Fraction(3, 2))
    assert frames_of(wide).shape == (20, 48, 96)


def test_video_without_video(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(UserError, match="a.mkv: holds no video"):
        recordings.read(tmp_path / "a.mkv")


def test_images_of_every_mode(tmp_path):
    picture = RNG.integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    np.testing.assert_allclose(frames_of(tmp_path / "a.png")[0], bt601(picture), atol=0.51)
    Image.fromarray(np.dstack([picture, np.full((20, 30), 9, np.uint8)])).save(tmp_path / "b.png")
    np.testing.assert_array_equal(frames_of(tmp_path / "b.png"), frames_of(tmp_path / "a.png"))
    Image.fromarray(picture[..., 0]).save(tmp_path / "c.BMP")
    np.testing.assert_array_equal(frames_of(tmp_path / "c.BMP")[0], picture[..., 0])
    deep = RNG.integers(0, 65536, (20, 30)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "d.png")
    np.testing.assert_allclose(frames_of(tmp_path / "d.png")[0], deep / 257, atol=0.51)
    pages = [Image.fromarray(g) for g in GRAY]
    pages[0].save(tmp_path / "e.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(frames_of(tmp_path / "e.tif"), GRAY)


def test_masks_of_every_mode(tmp_path):
    truth = np.zeros((20, 30), np.uint8)
    truth[2:5, 3:9], truth[10:15, 3:9] = 1, 2
    palette = Image.fromarray(truth, mode=None).convert("P")
    palette.putdata(truth.ravel().tolist())
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    palette.save(tmp_path / "p.png")
    Image.fromarray(truth * 100).save(tmp_path / "l.png")
    Image.fromarray(np.repeat(truth[..., None] * 100, 3, 2)).save(tmp_path / "g.png")
    colours = np.array([(0, 0, 0), (0, 0, 255), (255, 0, 0)], np.uint8)
    Image.fromarray(colours[truth]).save(tmp_path / "c.png")
    for name, values in (("p", [0, 1, 2]), ("l", [0, 100, 200]), ("g", [0, 100, 200]), ("c", [0, 0x0000FF, 0xFF0000])):
        raw = images.read_mask([tmp_path / f"{name}.png"])
        assert np.unique(raw).tolist() == values, name
        stored, classes = images.code(values, None)
        np.testing.assert_array_equal(images.encode(raw, stored), truth)
        assert classes == {"class_1": [1], "class_2": [2]}


def test_a_value_that_was_not_counted_is_not_given_another_ones_number():
    for value in (5, 300):
        with pytest.raises(ValueError, match="not among"):
            images.encode(np.array([[0, value]]), {0: 0, 255: 1})


def test_masks_of_one_image_are_joined(tmp_path):
    for name, rows in (("a", slice(0, 4)), ("b", slice(3, 8))):
        x = np.zeros((10, 10), bool)
        x[rows] = True
        Image.fromarray(x).save(tmp_path / f"{name}.png")
    assert images.read_mask([tmp_path / "a.png", tmp_path / "b.png"]).sum() == 80


def test_which_mask_goes_with_which_image(tmp_path):
    names = ["images/a.jpg", "masks/a.png", "images/b.png", "masks/b_mask.png", "images/c.png", "masks/z.png", "d.png", "d_mask.png",
             "d_mask_1.png", "e_mask.png"]  # fmt: skip
    found, lonely = images.pair([tmp_path / n for n in names])
    found = {str(k.relative_to(tmp_path)): [str(m.relative_to(tmp_path)) for m in v] for k, v in found.items()}
    assert found == {
        "images/a.jpg": ["masks/a.png"], "images/b.png": ["masks/b_mask.png"], "images/c.png": [], "d.png": ["d_mask.png", "d_mask_1.png"],
    }  # fmt: skip
    assert lonely == [tmp_path / "masks/z.png", tmp_path / "e_mask.png"]


def test_numbers_and_names_of_classes(tmp_path):
    assert images.code({0, 255}, None) == ({0: 0, 255: 1}, {"class_1": [1]})
    assert images.code({0, 1}, {"both": [1, 2], "one": [1]}) == ({0: 0, 1: 1, 2: 2}, {"both": [1, 2], "one": [1]})
    assert images.code({9}, None) == ({0: 0, 9: 1}, {"class_1": [1]})
    with pytest.raises(UserError, match=r"\[7\]"):
        images.code({0, 1, 7}, {"one": [1]})
    with pytest.raises(UserError, match="background"):
        images.code({0, 1}, {"all": [0, 1]})
    (tmp_path / "masks").mkdir()
    assert images.named_classes(tmp_path / "masks") is None
    (tmp_path / "classes.json").write_text('{"nerve": [1], "vessel": ["#ff0000"]}')
    assert images.named_classes(tmp_path / "masks") == {"nerve": [1], "vessel": [0xFF0000]}
    (tmp_path / "masks" / "classes.json").write_text("[1]")
    with pytest.raises(UserError, match="classes.json"):
        images.named_classes(tmp_path / "masks")


def test_fit_known_values():
    fitted, mm = fit(np.full((40, 80), 7, np.uint8), 20, 0.1)
    assert mm == pytest.approx(0.4) and fitted.dtype == np.uint8
    np.testing.assert_array_equal(fitted, np.repeat([0, 7, 0], [5, 10, 5])[:, None] * np.ones(20))
    np.testing.assert_array_equal(fit(np.full((80, 40), 7, np.uint8), 20)[0], fitted.T)
    stripes = np.tile(np.uint8([[0], [255]]), (50, 100))  # finer than the result can show: gray, not a moire
    assert np.abs(fit(stripes, 20)[0][1:-1].astype(float) - 127.5).max() < 13
    np.testing.assert_array_equal(fit(GRAY[0][:, :20], 20)[0], GRAY[0][:, :20])
    with pytest.raises(ValueError):
        fit(np.zeros((4, 4, 3), np.uint8), 8)


def test_label_and_frame_stay_aligned():
    y, x = np.mgrid[:300, :400]
    label = 2 * (((x - 250) ** 2 + (y - 90) ** 2) < 60**2).astype(np.uint8)
    frame, placed = fit(label // 2 * 255, 96)[0], fit_label(label, 96)
    assert set(np.unique(placed)) == {0, 2}
    centre = [np.average(i, weights=w) for w in (frame.astype(float), placed.astype(float)) for i in np.indices(placed.shape)]
    expected = [12 + 90 * 0.24, 250 * 0.24]
    np.testing.assert_allclose(centre, [*expected, *expected], atol=0.6)
    assert np.mean((frame > 127) != (placed == 2)) < 0.005
