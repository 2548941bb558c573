"""The video reader against files made here, whose frames are known, and against real cines."""

import math
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from dicoms import RNG, bt601, frames_of
from PIL import Image
from videos import write_video

from uscl.data import recordings
from uscl.types import UserError


def test_every_frame_that_was_put_in(tmp_path):
    frames = RNG.integers(0, 256, (7, 48, 64), np.uint8)
    found = recordings.read(write_video(tmp_path / "a.mkv", frames, rate=Fraction(30, 1)))
    np.testing.assert_array_equal(np.stack(list(found.frames)), frames)
    assert found.frame_ms == pytest.approx(1000 / 30) and math.isnan(found.mm_per_pixel) and found.person == ""
    assert found.promised is None and found.region is None and found.columns is None  # Matroska counts no frames


def test_colour_becomes_luma_of_the_full_range(tmp_path):
    colours = [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255), (90, 90, 90)]
    frames = np.stack([np.broadcast_to(np.uint8(c), (48, 64, 3)) for c in colours])
    found = frames_of(write_video(tmp_path / "a.mp4", frames, codec="mpeg4", pixels="yuv420p"))
    np.testing.assert_allclose(found.mean((1, 2)), bt601(np.array(colours)), atol=4)  # 16..235 in the file


def test_a_header_that_lies(tmp_path):
    frames = RNG.integers(0, 256, (20, 48, 64), np.uint8)
    path = write_video(tmp_path / "a.mp4", frames, codec="mpeg4", pixels="yuv420p", options={"movflags": "faststart"})
    assert recordings.read(path).promised == 20 == len(frames_of(path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found, decoded = recordings.read(path), []
    try:
        decoded.extend(found.frames)
    except UserError:
        pass
    assert found.promised == 20 and 5 <= len(decoded) < 20


def test_pixels_that_are_not_square(tmp_path):
    frames = RNG.integers(0, 256, (2, 48, 64), np.uint8)
    wide = write_video(tmp_path / "b.mp4", frames, codec="mpeg4", pixels="yuv420p", aspect=Fraction(3, 2))
    assert frames_of(wide).shape == (2, 48, 96) and recordings.read(wide).columns == 64


def test_a_picture_that_changes_its_size_on_the_way(tmp_path):
    streams = []
    for i, side in enumerate((48, 64)):
        frames = np.full((6, side, side), 99, np.uint8)
        streams.append(
            write_video(tmp_path / f"{i}.mpg", frames, codec="mpeg1video", pixels="yuv420p", container="mpeg1video").read_bytes()
        )
    (tmp_path / "a.mpg").write_bytes(b"".join(streams))
    decoded = []
    with pytest.raises(UserError, match=r"a.mpg: frame \d is 64 x 64 pixels and those before it 48 x 48"):
        decoded.extend(recordings.read(tmp_path / "a.mpg").frames)
    assert 4 <= len(decoded) <= 6


def test_a_gif_that_is_transparent_is_black_there(tmp_path):
    truth = np.zeros((3, 40, 50, 4), np.uint8)
    for t in range(3):
        truth[t, 5:20, 5 + 9 * t : 20 + 9 * t] = 200, 100, 50, 255
    pages = [Image.fromarray(x) for x in truth]
    pages[0].save(tmp_path / "a.gif", save_all=True, append_images=pages[1:], duration=50, disposal=2)
    found = recordings.read(tmp_path / "a.gif")
    np.testing.assert_allclose(np.stack(list(found.frames)), bt601(truth[..., :3]), atol=1)
    assert found.frame_ms == pytest.approx(50)


def test_a_canvas_no_scanner_has(tmp_path):
    Image.new("L", (40, 50)).save(tmp_path / "a.gif")
    data = (tmp_path / "a.gif").read_bytes()
    for side, match in ((65535, "no size"), (9000, "claims .* at most"), (1, "at least")):
        (tmp_path / "a.gif").write_bytes(data[:6] + side.to_bytes(2, "little") * 2 + data[10:])
        with pytest.raises(UserError, match=f"a.gif: .*{match}"):
            list(recordings.read(tmp_path / "a.gif").frames)


def test_a_playlist_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video("b.avi", np.zeros((3, 48, 64), np.uint8), codec="mpeg4", pixels="yuv420p")
    lists = {
        "a.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nb.avi\n#EXT-X-ENDLIST\n",
        "c.mp4": "ffconcat version 1.0\nfile b.avi\n",  # FFmpeg alone would give the frames of b.avi
        "concat:b.avi": "no video",
    }
    for name, text in lists.items():
        Path(name).write_text(text)
        with pytest.raises(UserError, match=name):
            list(recordings.read(name).frames)
    Path("b.avi").rename("concat:b.avi")
    assert len(frames_of("concat:b.avi")) == 3  # a name, not a command


def test_without_video_or_without_anything(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(UserError, match="a.mkv: holds no video"):
        recordings.read(tmp_path / "a.mkv")
    (tmp_path / "b.mp4").write_bytes(bytes(range(200)))
    with pytest.raises(UserError, match="b.mp4: cannot be read") as caught:
        recordings.read(tmp_path / "b.mp4")
    assert "\n" not in str(caught.value)


# Cines of the lung set whose frames are not as many as their duration at their frame rate, measured by a full decode: what FFmpeg and
# OpenCV report as the count of an MPEG program stream, which has none of its own.
TOO_FEW_TOLD = {
    "Reg_pat1Image_133043.mpeg": (245, 246), "Reg_pat1Image_133138.mpeg": (260, 262), "Reg_pat3Image_134904.mpeg": (245, 247),
    "Reg_pat4Image_140024.mpeg": (436, 438),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(TOO_FEW_TOLD))
def test_an_mpeg_promises_nothing_because_its_duration_is_wrong(data_root, name):
    path = next((data_root / "lung_pocus").rglob(name))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        told = round(stream.duration * stream.time_base * stream.average_rate)
    found = recordings.read(path)
    assert found.promised is None and (told, sum(1 for _ in found.frames)) == TOO_FEW_TOLD[name]


def test_a_real_cine_of_every_container(data_root):
    counts = {"Cov_recommendations_likebutterfly_mov5.mov": 138, "Vir_whitelung_h1n1.mp4": 123, "Reg_pat4Image_140238.mpeg": 215}
    for name, count in counts.items():
        found = recordings.read(next((data_root / "lung_pocus").rglob(name)))
        frames = list(found.frames)
        assert len(frames) == count and found.promised == (None if name.endswith("mpeg") else count)
        assert 10 < found.frame_ms < 100 and np.mean(frames) > 5


@pytest.mark.slow
def test_all_44_cines_decode(data_root):
    paths = [
        p for p in (data_root / "lung_pocus" / "pocus_videos").rglob("*") if recordings.READERS.get(p.suffix.lower()) == "uscl.data.video"
    ]
    assert len(paths) == 44
    for path in paths:
        found = recordings.read(path)
        count = sum(1 for _ in found.frames)
        assert count >= 100 and found.promised in (None, count), path.name
