"""Small sources for the tests of `prepare`: stills with masks, and cines in which something moves."""

import av
import numpy as np
from PIL import Image

from uscl.data.prepare import prepare

RNG = np.random.default_rng(1)


def picture(height=24, width=32):
    """Noise with a rectangle that is different each time, so that no two are taken for one another."""
    x = RNG.integers(0, 256, (height, width), np.uint8)
    top, left = RNG.integers(0, height // 2), RNG.integers(0, width // 2)
    x[top : top + height // 2, left : left + width // 2] //= 4
    return x


def still(folder, name, *, values=(0, 1, 2), mask=True, side=(24, 32)):
    """folder/images/NAME.png, and folder/masks/NAME.png of vertical bands, one a value."""
    for place in ("images", "masks"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(*side)).save(folder / "images" / f"{name}.png")
    if mask:
        Image.fromarray(bands(values, side)).save(folder / "masks" / f"{name}.png")


def bands(values=(0, 1, 2), side=(24, 32)):
    return np.tile(np.repeat(np.uint8(values), -(-side[1] // len(values)))[: side[1]], (side[0], 1))


def stills(folder, names="1234", **how):
    for name in names:
        still(folder, name, **how)
    return folder


def clip(frames=6, height=20, width=40):
    return np.stack([picture(height, width) for _ in range(frames)])


def video(path, frames, rate=25):
    """A lossless file of gray frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:], "gray"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode())
    return path


def made(sources, out, **how):
    """`prepare` in this process, small, and with names as they are."""
    sources = sources if isinstance(sources, list) else [sources]
    return prepare(sources, out, **{"size": 16, "processes": 0, "beam": False, "keep_names": True, **how})
