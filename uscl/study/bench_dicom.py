"""How fast a cine's gray frames are decoded, against the way a reader of pydicom's manual would go."""

import statistics
import time
from collections.abc import Iterator
from typing import Any

import pydicom.examples
from pydicom.pixels import iter_pixels, pixel_array

from uscl.data import recordings

ROUNDS = 15


def dicom_decode() -> Iterator[dict[str, Any]]:
    """The YBR_FULL_422 cine inside pydicom's wheel (JPEG, 30 frames of 240 x 320), header included; the ways take turns.

    CPU time of one thread. `pixel_array` decodes colour for all frames at once; `iter_pixels` with raw=True leaves the luma as it is.
    """
    path = pydicom.examples.get_path("ybr_color")
    ways = {
        "uscl": lambda: sum(1 for _ in recordings.read(path).frames),
        "pydicom pixel_array": lambda: len(pixel_array(path, decoding_plugin="pillow")),
        "pydicom iter_pixels raw": lambda: sum(1 for _ in iter_pixels(path, raw=True)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    frames = {name: work() for name, work in ways.items()}
    for _ in range(ROUNDS):
        for name, work in ways.items():
            began = time.process_time()
            work()
            seconds[name].append(time.process_time() - began)
    ours = statistics.median(seconds["uscl"])
    for name, taken in seconds.items():
        median = statistics.median(taken)
        yield {"row": f"dicom_decode {name}", "frames_per_s": frames[name] / median, "times_slower_than_uscl": median / ours}
