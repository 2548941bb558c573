"""The readers of still images and of numbered sequences, against files made here."""

import itertools
import struct
import zlib

import numpy as np
import pytest
from dicoms import GRAY, RNG, bt601, frames_of
from PIL import Image

from uscl.data import images, recordings
from uscl.data.sequences import read_sequence
from uscl.types import UserError


def refused(path, match):
    with pytest.raises(UserError, match=f"{path.name}.*: .*{match}") as caught:
        list(recordings.read(path).frames)
    assert "\n" not in str(caught.value)


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
    Image.fromarray(GRAY[0]).convert("P").save(tmp_path / "f.png")
    np.testing.assert_array_equal(frames_of(tmp_path / "f.png")[0], GRAY[0])
    Image.fromarray(GRAY[0] > 99).save(tmp_path / "g.png")
    np.testing.assert_array_equal(frames_of(tmp_path / "g.png")[0], 255 * (GRAY[0] > 99))
    Image.fromarray(GRAY[0].astype(np.float32)).save(tmp_path / "h.tif")
    refused(tmp_path / "h.tif", "floating-point")


def test_pages_are_frames(tmp_path):
    pages = [Image.fromarray(g) for g in GRAY]
    pages[0].save(tmp_path / "e.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(frames_of(tmp_path / "e.tif"), GRAY)
    assert recordings.read(tmp_path / "e.tif").promised == 3 and images.is_image(tmp_path / "e.TIF")
    pages[0].save(tmp_path / "f.tif", save_all=True, append_images=[Image.new("L", (40, 50))])
    refused(tmp_path / "f.tif", "frame 1 is 50 x 40 pixels and those before it 20 x 30")


def test_more_frames_than_a_cine_has(tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "MOST_PIXELS", 4 * GRAY[0].size)
    endless, got = recordings.checked(tmp_path / "a.gif", itertools.repeat(GRAY[0])), []
    with pytest.raises(UserError, match="a.gif: claims 5 frames"):
        got.extend(endless)
    assert len(got) == 4
    with pytest.raises(UserError, match="a.gif: not one frame"):
        list(recordings.checked(tmp_path / "a.gif", iter(())))


def png(width, height, depth=8):
    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(2**20))) + chunk(b"IEND", b"")


def tiff(width, height):
    fields = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 100)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(fields)) + entries + bytes(200)


def test_bombs_and_specks(tmp_path):
    for write, suffix in ((png, "png"), (tiff, "tif")):
        path = tmp_path / f"a.{suffix}"
        for width, height, match in ((100_000, 100_000, "claims"), (9000, 9000, "claims"), (1, 1, "at least"), (4000, 4, "at least")):
            path.write_bytes(write(width, height))
            refused(path, match)


def test_a_file_that_is_not_what_its_name_says(tmp_path):
    (tmp_path / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "e.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\nshowpage\n"
    )  # would start Ghostscript
    (tmp_path / "d.txt").write_text("notes")
    (tmp_path / "f.png").write_bytes(b"")
    for name, match in (("c.png", "cannot be read"), ("e.png", "cannot be read"), ("d.txt", "no reader"), ("f.png", "empty")):
        refused(tmp_path / name, match)
    with pytest.raises(UserError, match="missing.dcm: there is no such file"):
        recordings.read(tmp_path / "missing.dcm")
    Image.fromarray(GRAY[0]).save(tmp_path / "h.png", "PPM")  # one of the many formats that nobody asked for
    refused(tmp_path / "h.png", "cannot be read")
    Image.fromarray(GRAY[0]).save(tmp_path / "g.png")
    (tmp_path / "g.png").write_bytes((tmp_path / "g.png").read_bytes()[:300])
    refused(tmp_path / "g.png", "cannot be read")


def write_sequence(folder, frames=GRAY):
    paths = [folder / f"IM_{i:03}.png" for i in range(len(frames))]
    for path, frame in zip(paths, frames, strict=True):
        Image.fromarray(frame).save(path)
    return paths


def test_a_sequence_is_its_files_in_the_order_given(tmp_path):
    paths = write_sequence(tmp_path)
    found = read_sequence(paths[::-1])
    assert (found.promised, found.source, found.person) == (3, "IM_002.png", "") and np.isnan([found.frame_ms, found.mm_per_pixel]).all()
    np.testing.assert_array_equal(np.stack(list(found.frames)), GRAY[::-1])
    np.testing.assert_array_equal(list(read_sequence(paths[:1]).frames), GRAY[:1])


def test_a_sequence_names_the_file_that_will_not_do(tmp_path):
    paths = write_sequence(tmp_path)
    Image.fromarray(GRAY[0][:, :20]).save(tmp_path / "small.png")
    (tmp_path / "broken.png").write_bytes(b"rubbish")
    Image.fromarray(GRAY[0]).save(tmp_path / "pages.tif", save_all=True, append_images=[Image.fromarray(GRAY[1])])
    (tmp_path / "a.mp4").write_bytes(b"rubbish")
    faults = {"small.png": "is 20 x 20 pixels", "broken.png": "cannot be read", "pages.tif": "several pages", "a.mp4": "not an image",
              "gone.png": "not an image file"}  # fmt: skip
    for name, fault in faults.items():
        decoded = []
        with pytest.raises(UserError, match=f"{name}: .*{fault}"):
            decoded.extend(itertools.islice(read_sequence([*paths, tmp_path / name]).frames, 9))
        assert len(decoded) in (0, 3)
