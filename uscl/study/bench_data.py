"""Rows of the bench for the store: what it costs to write and to read, beside the formats and the loader it could have had.

Every figure comes from a process of its own (`python -m uscl.study.bench_data WORK ARGUMENTS`), so that the peak of its memory is its own.
Frames are 192 x 192, cines 200 frames long; a batch is 16 frames of each of 8 cines, at random. Files are in the page cache unless a
figure says cold, which is cold for this machine's kernel; a disk that is another machine's file may be warm there.
"""

import importlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from uscl.data.loader import CineBatches
from uscl.data.prefetch import prefetch
from uscl.data.store import Store
from uscl.study.bench_formats import FORMATS, LENGTH, PERIOD, content
from uscl.study.bench_worker import peak_mib

CINES, FRAMES = 8, 16  # of a batch
WINDOW, WINDOWS = 0.2, 9  # seconds in which frames are counted, and of how many such the median is taken
SMALL, LARGE = 70, 700  # cines
TOO_SLOW = ("ArrayRecord a cine", "zarr3 a frame", "zarr3 shard a cine, zstd")  # to be written or read at the large size


# ---- rows --------------------------------------------------------------------------------------------------------------------------
def store_formats(counts: tuple[int, ...] = (SMALL, LARGE)) -> Iterator[dict[str, Any]]:
    """Each format: written; read by two threads, from the page cache and, where there is more than can be read in that time, cold."""
    for count in counts:
        for name, (library, *_) in FORMATS.items():
            if count >= LARGE and name in TOO_SLOW:
                continue
            row = {"row": f"store_formats {name}", "cines": count}
            if importlib.util.find_spec(library) is None:
                yield row | {"skipped": f"{library} is not installed"}
                continue
            with tempfile.TemporaryDirectory(prefix="uscl-bench-") as folder:
                row |= _alone("write", folder, name, count) | _alone("read", folder, name, count, False)
                if count >= LARGE:
                    row["cold_frames_s"] = _alone("read", folder, name, count, True)["frames_s"]
            yield row


def store_reading() -> Iterator[dict[str, Any]]:
    """A store of 700 cines beside one of 70: written, and read by the loader as a training does."""
    with tempfile.TemporaryDirectory(prefix="uscl-bench-") as folder:
        for count in (SMALL, LARGE):
            os.mkdir(f"{folder}/{count}")
            yield {"row": "store_writing", "cines": count} | _alone("write", f"{folder}/{count}", "npy, pread", count)
        for workers in (0, 1, 2):
            row = {"row": "store_reading", "workers": workers}
            yield row | _alone("read_stores", [f"{folder}/{count}" for count in (SMALL, LARGE)], workers)


def loaders() -> Iterator[dict[str, Any]]:
    """The same batches read ahead by our prefetch and by Grain."""
    with tempfile.TemporaryDirectory(prefix="uscl-bench-") as folder:
        _alone("write", folder, "npy, pread", SMALL)
        for workers in (0, 1, 2, 4):
            for loader in ("prefetch", "grain"):
                row = {"row": f"loaders {loader}", "workers": workers}
                missing = loader == "grain" and importlib.util.find_spec("grain") is None
                yield row | ({"skipped": "grain is not installed"} if missing else _alone("load", folder, loader, workers))


# ---- what a process of its own does ------------------------------------------------------------------------------------------------
def write(folder: str, name: str, count: int) -> dict[str, Any]:
    started = time.perf_counter()
    FORMATS[name][1](Path(folder), count)
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    for path in files:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    seconds, size = time.perf_counter() - started, sum(path.stat().st_size for path in files)
    return {"write_frames_s": count * LENGTH / seconds, "write_mib": peak_mib(), "files": len(files), "gb": size / 1e9}


def read(folder: str, name: str, count: int, cold: bool) -> dict[str, Any]:
    frames, expected = FORMATS[name][2](Path(folder), count), content()
    indices = [_draw(count, step) for step in range(1000)]
    _read_files(Path(folder), drop=cold)
    (windows,) = rates([lambda step: frames(indices[step % len(indices)])], workers=2)
    np.testing.assert_array_equal(frames(indices[0]), expected[(indices[0] // LENGTH + indices[0] % LENGTH) % PERIOD])
    return {"frames_s": statistics.median(windows), "read_mib": peak_mib()}


def read_stores(folders: list[str], workers: int) -> dict[str, Any]:
    """The stores take turns, a window each, so that whatever else the machine is doing meets them alike. cost_ratio: the time of a frame
    in the last over that in the first, the median over windows."""
    for folder in folders:
        _read_files(Path(folder), drop=False)
    windows = rates([_batches(folder).batch for folder in folders], workers)
    ratios = [first / last for first, last in zip(windows[0], windows[-1], strict=True)]
    row = {"cost_ratio": statistics.median(ratios), "read_mib": peak_mib()}
    return row | {f"frames_s_{Path(folder).name}": statistics.median(w) for folder, w in zip(folders, windows, strict=True)}


def load(folder: str, loader: str, workers: int) -> dict[str, Any]:
    batches, started, before = _batches(folder), time.perf_counter(), len(sys.modules)
    if loader == "grain":
        importlib.import_module("grain")
    seconds, modules = time.perf_counter() - started, len(sys.modules) - before
    (windows,) = rates([batches.batch], workers, _Grain if loader == "grain" else prefetch)
    return {"frames_s": statistics.median(windows), "import_s": seconds, "modules": modules, "mib": peak_mib()}


class _Grain:
    """What prefetch does, by Grain."""

    def __init__(self, batch_fn, start, stop, *, depth, workers):
        import grain

        options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=depth if workers else 0)
        self.batches = iter(grain.MapDataset.range(start, stop).map(batch_fn).to_iter_dataset(options))

    def __enter__(self):
        return self.batches

    def __exit__(self, *exception):
        self.batches.close()


def rates(batch_fns: list[Callable], workers: int, ahead: Callable = prefetch) -> list[list[float]]:
    """Frames/s of each, one number a window, not counting the first batches, which were asked for ahead."""
    found = [[] for _ in batch_fns]
    for window in range(WINDOWS):
        for batch_fn, rate in zip(batch_fns, found, strict=True):
            with ahead(batch_fn, window * 10**6, (window + 1) * 10**6, depth=4, workers=workers) as batches:
                for _ in range(5):
                    next(batches)
                count, started = 0, time.perf_counter()
                while time.perf_counter() - started < WINDOW:
                    next(batches)
                    count += 1
                rate.append(count * CINES * FRAMES / (time.perf_counter() - started))
    return found


def _batches(folder: str) -> CineBatches:
    store = Store.open(Path(folder) / "store")
    return CineBatches(store, store.cines.patient.tolist(), cines=CINES, frames=FRAMES, sampling="uniform", seed=0)


def _draw(count: int, step: int) -> np.ndarray:
    rng = np.random.default_rng([0, step])
    return np.concatenate([c * LENGTH + rng.choice(LENGTH, FRAMES, replace=False) for c in rng.choice(count, CINES, replace=False)])


def _read_files(folder: Path, *, drop: bool) -> None:
    """Brings files into the page cache; or asks the kernel to drop them, which it does for pages that are on disk and not mapped."""
    piece = bytearray(1 << 22)
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb", buffering=0) as file:
                if drop:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                while not drop and file.readinto(piece):
                    pass


def _alone(work: str, *arguments: Any) -> dict[str, Any]:
    command = [sys.executable, "-m", "uscl.study.bench_data", work, json.dumps(arguments)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


if __name__ == "__main__":
    works = {work.__name__: work for work in (write, read, read_stores, load)}
    print(json.dumps(works[sys.argv[1]](*json.loads(sys.argv[2]))))
