"""Memory that is freed stays with the process; looked at from outside, in a process of its own."""
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from uscl.train import pages
if sys.argv[1] == "keep" and not pages.keep():
    print("no"); sys.exit()
import ctypes
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes, c.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def use():
    block = c.malloc(64 << 20)
    ctypes.memset(block, 1, 64 << 20)
    c.free(block)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how):
    return subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout.strip()


def test_a_block_is_found_in_place():
    kept = faults("keep")
    if kept == "no":
        pytest.skip("this machine's malloc takes no advice")
    pages = (64 << 20) // 4096  # where a page is larger there are fewer, and neither bound is touched
    assert int(faults("as it is")) > pages / 32  # else the test could not fail
    assert int(kept) < pages / 100
