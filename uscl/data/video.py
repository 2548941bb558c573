"""Video files, through FFmpeg (PyAV): gray frames one by one. Frames are those that decode, whatever the header counts."""

import io
import math
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from uscl.data.recordings import Recording, check_size, luma
from uscl.types import UserError

# FFmpeg looks at what a file holds, not at its name: a playlist called a.mp4 would be followed to other files and into the network.
FORMATS = "asf,avi,gif,h264,hevc,matroska,webm,mov,mp4,mpeg,mpegts,mpegvideo"
OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}


def read(path: Path) -> Recording:
    """The first video stream, as stored: interlaced rows and a flag to rotate are left alone. A video has no scale: mm is nan.

    frame_ms: from the average frame rate, nan if the file states none. promised: the frames its header counts, None where the format
    has no count (MPEG program streams: a count from their duration is off by one or two). columns: where pixels are not square.

    Raises UserError: no video stream in the file, or frames larger than are decoded.
    """
    with _opened(path) as container:
        if not container.streams.video:
            raise UserError(f"{path.name}: holds no video stream")
        stream = container.streams.video[0]
        if not stream.height or not stream.width:
            raise UserError(f"{path.name}: states no size of its pictures, or one that FFmpeg does not believe")
        check_size(path, stream.height, stream.width, max(1, stream.frames))
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        columns = stream.width if _width(stream, stream.width) != stream.width else None
        promised = stream.frames if stream.frames > 0 else None
    ms = 1000 / rate if rate > 0 else math.nan
    return Recording(frames(path), ms, math.nan, path.name, promised=promised, columns=columns)


def frames(path: Path, file: io.BytesIO | None = None) -> Iterator[np.ndarray]:
    """Gray frames uint8 [H, W] of a video, or of the one that `file` holds; `path` is what an error names. Widened to square pixels."""
    with _opened(path, file) as container:
        if not container.streams.video:
            raise UserError(f"{path.name}: holds no video stream")
        stream = container.streams.video[0]
        for frame in container.decode(stream):
            check_size(path, frame.height, frame.width)  # a stream may change its size on the way
            width = _width(stream, frame.width)
            if any(component.is_alpha for component in frame.format.components):
                x = frame.reformat(width=width, format="rgba").to_ndarray()
                yield luma(x) * (x[..., 3] >= 128)  # FFmpeg makes what is transparent white; the background of ultrasound is black
            else:
                yield frame.reformat(width=width, format="gray").to_ndarray()


def _opened(path: Path, file: io.BytesIO | None = None):
    return av.open(f"file:{path}" if file is None else file, container_options=OPTIONS if file is None else {"format_whitelist": FORMATS})


def _width(stream, width: int) -> int:
    """DVD exports of scanners store 720 x 576 pixels that are not square; wider, so that a pixel is as wide as high."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return width if abs(aspect - 1) < 0.005 else max(1, round(width * aspect))
