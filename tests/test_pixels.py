"""Pixels read from a file: those NumPy finds there, by any index, thread, process or pickled copy; and never mapped."""

import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

from uscl.data.pixels import Pixels
from uscl.types import UserError

COUNT, SIZE, OFFSET = 60, 5, 13
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, SIZE, SIZE), np.uint8)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "images.bin"
    path.write_bytes(b"x" * OFFSET + IMAGES.tobytes() + b"more")
    return path


@pytest.fixture
def pixels(file):
    return Pixels(file, COUNT, SIZE, OFFSET)


@pytest.mark.parametrize("index", [
    0, 59, np.int64(7), np.uint8(3), np.array(4), slice(None), slice(3, 9), slice(50, 100), slice(9, 3), slice(2, 40, 7),
    [5], [3, 4, 5], [5, 4, 3], [7, 7, 8, 8], [], [59, 0], np.arange(60), np.array([[1, 2, 3], [9, 8, 0]]),
    np.array([2, 3], np.uint8), np.zeros((2, 0), int), np.arange(12).reshape(3, 4).T,
], ids=repr)  # fmt: skip
def test_reads_what_numpy_finds(pixels, index):
    found, expected = pixels[index], IMAGES[np.asarray(index, int) if isinstance(index, list) else index]
    np.testing.assert_array_equal(found, expected, strict=True)
    assert type(found) is np.ndarray and found.flags.c_contiguous and found.flags.writeable
    found[...] = 0  # memory of its own: neither the file nor another read sees it
    np.testing.assert_array_equal(pixels[:], IMAGES)


def test_looks_like_an_array(pixels):
    assert (len(pixels), pixels.shape, pixels.dtype, pixels.offset) == (60, (60, 5, 5), np.uint8, 13)
    np.testing.assert_array_equal(list(pixels), IMAGES)


def test_any_indices(pixels):
    rng = np.random.default_rng(1)
    for _ in range(300):
        steps = rng.choice([1, 1, 1, 0, -1, 9], rng.integers(1, 30))
        index = np.cumsum(steps) % COUNT
        np.testing.assert_array_equal(pixels[index], IMAGES[index])


@pytest.mark.parametrize("index", [
    -1, 60, np.int64(-3), [0, 60], [-1], [3, -60], 2**63, 2**70,
    np.array([2**63], np.uint64), slice(-3, None), slice(0, -1), slice(9, 3, -1),
    1.0, [0.5], True, [True] * 60, (1, 2), "3", None, ...,
], ids=repr)  # fmt: skip
def test_what_is_no_index(pixels, index):
    with pytest.raises(IndexError, match="images.bin"):
        pixels[index]


@pytest.mark.parametrize("index,reads", [([3, 4, 5, 9, 0, 1], 3), (slice(10, 50), 1), ([5, 4], 2), ([6, 6], 2), ([59, 0], 2), ([], 0)])
def test_what_follows_is_read_at_once(pixels, monkeypatch, index, reads):
    calls, preadv = [], os.preadv
    monkeypatch.setattr(os, "preadv", lambda *a: calls.append(a) or preadv(*a))
    pixels[index]
    assert len(calls) == reads


def test_a_read_may_stop_early(pixels, monkeypatch):
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, buffers, place: preadv(file, [buffers[0][:7]], place))
    np.testing.assert_array_equal(pixels[[3, 4, 40]], IMAGES[[3, 4, 40]])


def test_the_file_must_be_there_and_whole(file, pixels, tmp_path):
    Pixels(file, COUNT, SIZE, OFFSET + 4)
    with pytest.raises(UserError, match=r"images.bin: found 1517 bytes; its 60 images need 1518, so the copy is not whole"):
        Pixels(file, COUNT, SIZE, OFFSET + 5)
    with pytest.raises(UserError, match="none.bin: cannot be opened .No such file"):
        Pixels(tmp_path / "none.bin", 1, SIZE)
    assert len(Pixels(file, 0, SIZE)[[]]) == 0
    for wrong in ((-1, 5, 0), (1, 0, 0), (1, 5, -1)):
        with pytest.raises(ValueError, match="no file holds that"):
            Pixels(file, *wrong)
    os.truncate(file, OFFSET + 10 * SIZE * SIZE)
    np.testing.assert_array_equal(pixels[3:10], IMAGES[3:10])
    with pytest.raises(UserError, match="images.bin: ends at byte 263, earlier than when it was opened"):
        pixels[3:11]


def test_a_pickled_copy_opens_the_file_anew(file, pixels):
    again = pickle.loads(pickle.dumps(pixels))
    assert again._file != pixels._file and repr(again) == repr(pixels)
    del pixels
    np.testing.assert_array_equal(again[[7, 8]], IMAGES[[7, 8]])


def test_closes_its_file(file):
    pixels = Pixels(file, COUNT, SIZE)
    number = pixels._file
    os.fstat(number)
    del pixels
    with pytest.raises(OSError):
        os.fstat(number)


def test_threads_do_not_disturb_each_other(pixels):
    def read(seed):
        rng = np.random.default_rng(seed)
        for _ in range(200):
            index = rng.integers(0, COUNT, 9)
            if (pixels[index] != IMAGES[index]).any():
                wrong.append(seed)
        done.append(seed)

    wrong, done = [], []
    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(done) == 6


def alone(code, *arguments):
    """Runs code in a process of its own, free of JAX's threads, and returns what it prints."""
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_processes_do_not_disturb_each_other(file):
    code = """
import os, sys, numpy as np
from uscl.data.pixels import Pixels
pixels = Pixels(sys.argv[1], 60, 5, 13)
images = np.fromfile(sys.argv[1], np.uint8)[13:1513].reshape(60, 5, 5)
child = os.fork()
rng = np.random.default_rng(child == 0)
good = all((pixels[i] == images[i]).all() for i in rng.integers(0, 60, (3000, 4)))
if child == 0:
    os._exit(not good)
sys.exit(os.waitpid(child, 0)[1] or not good)
"""
    alone(code, file)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the peak of memory is read from /proc, which is Linux's")
def test_reading_a_file_does_not_make_it_resident(tmp_path):
    path = tmp_path / "large.bin"
    with open(path, "wb") as file:
        file.truncate(128 << 20)  # 2048 images of 256 x 256, a hole on disk
    code = """
import sys, numpy as np
from uscl.data.pixels import Pixels
peak = lambda: int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
pixels, before = Pixels(sys.argv[1], 2048, 256), peak()
for index in np.random.default_rng(0).permutation(2048).reshape(-1, 16):
    pixels[index]
print(peak() - before)
"""
    assert int(alone(code, path)) < 16 << 10  # KiB; all of it mapped would be 128 << 10
