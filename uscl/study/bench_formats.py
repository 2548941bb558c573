"""The formats a store could have had: for each, how to write generated cines to a folder and how to read any frames [n] from it.

Peers are imported where they are used, so that a process holds one of them and a bench without one goes on.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage

from uscl.data.pixels import Pixels
from uscl.data.writer import StoreWriter

SIZE, LENGTH, PERIOD = 192, 200, 25  # side [px] and frames of a cine, and frames after which it repeats


def content() -> np.ndarray:
    """uint8 [PERIOD, S, S]: speckle inside a sector, zero outside, as compressors will meet it. Cine c starts at frame c of it."""
    rng = np.random.default_rng(0)
    parts = [ndimage.gaussian_filter(rng.normal(size=(PERIOD, SIZE, SIZE)).astype(np.float32), (0, 1, 1.5)) for _ in range(2)]
    y, x = np.mgrid[:SIZE, :SIZE]
    return (np.hypot(*parts) * 400).clip(0, 255).astype(np.uint8) * (np.abs(x - SIZE / 2) < 20 + 0.6 * y)


def cines_of(count: int) -> Iterator[np.ndarray]:
    frames = content()
    for cine in range(count):
        yield frames[(np.arange(LENGTH) + cine) % PERIOD]


def write_npy(folder: Path, count: int) -> None:
    with StoreWriter(folder / "store", size=SIZE, classes={"organ": [1]}) as writer:
        for cine, frames in enumerate(cines_of(count)):
            writer.add(patient=f"p{cine}", frames=frames, labels={0: (frames[0] > 0).astype(np.uint8)})


def read_npy(folder: Path, count: int) -> Callable:
    file = folder / "store" / "frames.npy"
    return Pixels(file, count * LENGTH, SIZE, np.load(file, mmap_mode="r").offset).__getitem__


def read_memmap(folder: Path, count: int) -> Callable:
    return np.load(folder / "store" / "frames.npy", mmap_mode="r").__getitem__


def _record(per_cine: bool) -> tuple[Callable, Callable]:
    def write(folder, count):
        from array_record.python.array_record_module import ArrayRecordWriter

        writer = ArrayRecordWriter(str(folder / "frames.array_record"), "group_size:1,uncompressed")
        for frames in cines_of(count):
            for record in [frames] if per_cine else frames:
                writer.write(record.tobytes())
        writer.close()

    def read(folder, count):
        from array_record.python.array_record_module import ArrayRecordReader

        reader = ArrayRecordReader(str(folder / "frames.array_record"), options="readahead_buffer_size:0")

        def frames(index):
            record, place = np.divmod(index, LENGTH) if per_cine else (index, np.zeros_like(index))
            which, back = np.unique(record, return_inverse=True)
            found = [np.frombuffer(text, np.uint8).reshape(-1, SIZE, SIZE) for text in reader.read(which.tolist())]
            return np.stack([found[n][t] for n, t in zip(back, place, strict=True)])

        return frames

    return write, read


def _zarr(codecs: list[dict], shard: bool) -> tuple[Callable, Callable]:
    def write(folder, count):
        import tensorstore

        codec = {"name": "sharding_indexed", "configuration": {"chunk_shape": [1, SIZE, SIZE], "codecs": codecs}}
        grid = {"name": "regular", "configuration": {"chunk_shape": [LENGTH if shard else 1, SIZE, SIZE]}}
        metadata = {"shape": [count * LENGTH, SIZE, SIZE], "data_type": "uint8", "chunk_grid": grid, "codecs": [codec] if shard else codecs}
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(folder)}, "metadata": metadata, "create": True}
        store = tensorstore.open(spec).result()
        for cine, frames in enumerate(cines_of(count)):
            store[cine * LENGTH : (cine + 1) * LENGTH].write(frames).result()

    def read(folder, count):
        import tensorstore

        store = tensorstore.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": str(folder)}}).result()
        return lambda index: store[index].read().result()

    return write, read


RAW, ZSTD = [{"name": "bytes"}], [{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 1}}]
FORMATS = {  # name: the library beyond NumPy, writer, reader
    "npy, pread": ("numpy", write_npy, read_npy),
    "npy, memmap": ("numpy", write_npy, read_memmap),
    "ArrayRecord a frame": ("array_record", *_record(False)),
    "ArrayRecord a cine": ("array_record", *_record(True)),
    "zarr3 a frame": ("tensorstore", *_zarr(RAW, False)),
    "zarr3 shard a cine": ("tensorstore", *_zarr(RAW, True)),
    "zarr3 shard a cine, zstd": ("tensorstore", *_zarr(ZSTD, True)),
}
