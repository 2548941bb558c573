"""Video files, through FFmpeg (PyAV): gray frames one by one. Frames are those that decode, whatever the header counts."""

import math
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from uscl.data.recordings import Recording, check_size
from uscl.types import UserError


def read(path: Path) -> Recording:
    """The first video stream. frame_ms: from the average frame rate, nan if the file states none. A video has no scale: mm is nan.

    Raises UserError: no video stream in the file, or frames larger than are decoded.
    """
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise UserError(f"{path.name}: holds no video stream")
        stream = container.streams.video[0]
        check_size(path, stream.height, stream.width)
        rate = float(stream.average_rate or stream.guessed_rate or 0)
    return Recording(_frames(path), 1000 / rate if rate > 0 else math.nan, math.nan, path.name)


def _frames(path: Path) -> Iterator[np.ndarray]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        aspect = float(stream.sample_aspect_ratio or 1)
        for frame in container.decode(stream):
            check_size(path, frame.height, frame.width)  # a stream may change its size on the way
            # DVD exports of scanners store 720 x 576 pixels that are not square; widen, so that a pixel is as wide as high
            width = frame.width if abs(aspect - 1) < 0.005 else max(1, round(frame.width * aspect))
            yield frame.reformat(width=width, format="gray").to_ndarray()
