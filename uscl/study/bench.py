"""Speed and memory, measured side by side in one run: a row is a function that returns what it found, and a line in `ROWS`."""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from uscl import temporal
from uscl.phantom import kidney

REPEATS = 9


def median_seconds(work: Callable[[], Any]) -> float:
    """Median of `REPEATS` runs after one that is not counted."""
    jax.block_until_ready(work())
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        jax.block_until_ready(work())
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def temporal_weights() -> Iterator[dict[str, Any]]:
    """[N, N] weights under jit at two sizes: milliseconds, bytes of the result and of every temporary beside it."""
    for kind in ("binary", "linear", "partition"):
        before = None
        for n in (1024, 4096):
            cine, frame, length = jnp.arange(n) // 8, (jnp.arange(n) * 7) % 200, jnp.full(n, 200)
            make = jax.jit(lambda c, f, t, kind=kind: temporal.temporal_weights(c, f, kind=kind, length=t))
            memory = make.lower(cine, frame, length).compile().memory_analysis()
            seconds = median_seconds(lambda make=make, inputs=(cine, frame, length): make(*inputs))
            yield {
                "row": f"temporal_weights {kind}", "n": n, "ms": 1e3 * seconds, "times_before": before and seconds / before,
                "result_bytes": memory.output_size_in_bytes, "temporary_bytes": memory.temp_size_in_bytes,
            }  # fmt: skip
            before = seconds


def phantom() -> Iterator[dict[str, Any]]:
    """The kidney phantom, 40 cines of 40 frames of 96 x 96, on two processes."""
    started = time.perf_counter()
    cines = sum(1 for _ in kidney.make(0, patients=40, frames=40, size=96))
    yield {"row": "phantom", "cines": cines, "seconds": time.perf_counter() - started}


ROWS = {"temporal_weights": temporal_weights, "phantom": phantom}
