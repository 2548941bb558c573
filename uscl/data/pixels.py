"""Square gray images in a file, read where they are needed and never mapped.

The pixels of a store are a plain .npy file by measurement (2026-11-20, two cores of an AMD EPYC, both busy with more than this; 700 cines
of 200 frames of 192 x 192, batches of 8 cines x 16 frames by two threads; `uscl.study.bench_data`). Frames/s in the page cache, frames/s
from the disk, peak memory: read as here 74,000, 31,000, 0.15 GB; as a memory map 115,000, 13,000, 4.6 GB; ArrayRecord with a record a
frame 33,000, 27,000, 0.3 GB; zarr3 by TensorStore with a shard a cine 63,000, 42,000, 0.2 GB. Any NumPy opens the file.
"""

import operator
import os
import weakref

import numpy as np

from uscl.types import UserError


class Pixels:
    """Read-only uint8 [count, S, S] in a file, from byte `offset` on.

    `pixels[int]` is [S, S]; `pixels[int array]` of any shape is [*array.shape, S, S]; `pixels[slice]` is [n, S, S]. Every
    read is a fresh array that the file is read straight into, images that follow one another at once. The file is read
    and not mapped, as the pages of a map count as memory of the process, and a store may be larger than the memory.

    Threads may read side by side, and so may forked processes, for a read moves no common position. A pickled copy opens
    the file anew. The file is closed with the last reference.

    Raises:
      UserError: the file cannot be opened, or holds fewer bytes than promised, at the start or later.
      IndexError: an index below 0 or from `count` on, also within a slice; indices that are no whole numbers.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, path, count, size, offset=0):
        self.path, self.shape, self.offset = os.fspath(path), (int(count), int(size), int(size)), int(offset)
        self._bytes = self.shape[1] * self.shape[2]  # of an image
        if count < 0 or size < 1 or offset < 0:
            raise ValueError(f"{self.path}: {count=}, {size=}, {offset=}: no file holds that")
        try:
            self._file = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be opened ({error.strerror})") from None
        # Not at exit: a thread that still reads would then read from whatever is opened next under the same number.
        weakref.finalize(self, os.close, self._file).atexit = False
        if (found := os.fstat(self._file).st_size) < (least := self.offset + self.shape[0] * self._bytes):
            raise UserError(f"{self.path}: found {found} bytes; its {count} images need {least}, so the copy is not whole")

    def __reduce__(self):
        return Pixels, (self.path, self.shape[0], self.shape[1], self.offset)

    def __repr__(self):
        return f"Pixels({self.path!r}, count={self.shape[0]}, size={self.shape[1]}, offset={self.offset})"

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self._gather(self._range(index))
        if not isinstance(index, (bool, tuple)):  # which NumPy takes for something else
            try:
                return self._gather(np.array([operator.index(index)], np.int64))[0]
            except (TypeError, OverflowError):
                index = np.asarray(index)
                if index.dtype.kind in "iu" or (index.dtype.kind == "f" and not index.size):  # np.asarray([]) is float
                    return self._gather(index)
        raise IndexError(f"{self.path}: an index is a whole number, an array of them, or a slice")

    def _range(self, index):
        if any(value is not None and operator.index(value) < 0 for value in (index.start, index.stop, index.step)):
            raise IndexError(f"{self.path}: {index} counts from the end; images are counted from 0 on")
        return np.arange(*index.indices(len(self)))

    def _gather(self, index):
        flat = index.ravel().astype(np.int64)
        if flat.size and not (0 <= flat.min() and flat.max() < len(self)):
            raise IndexError(f"{self.path}: images {flat.min()} to {flat.max()} asked for; it holds 0 to {len(self) - 1}")
        images = np.empty((len(flat), *self.shape[1:]), np.uint8)
        starts = np.flatnonzero(np.diff(flat, prepend=-2) != 1)  # where a run of images that follow one another begins
        memory = memoryview(images.reshape(-1))
        for low, high in zip(starts.tolist(), [*starts[1:].tolist(), len(flat)], strict=True) if flat.size else ():
            self._read(memory[low * self._bytes : high * self._bytes], self.offset + int(flat[low]) * self._bytes)
        return images.reshape(*index.shape, *self.shape[1:])

    def _read(self, memory, place):
        while len(memory):  # a call may return less than asked, and does above 2 GiB
            count = os.preadv(self._file, [memory], place)
            if not count:
                raise UserError(f"{self.path}: ends at byte {place}, earlier than when it was opened; it has been cut short")
            memory, place = memory[count:], place + count
