"""Speed and memory, measured side by side in one run: a row is a function that returns what it found, and a line in `ROWS`."""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from uscl import temporal
from uscl.phantom import kidney
from uscl.study import (
    bench_clip_views,
    bench_clips,
    bench_data,
    bench_dicom,
    bench_losses,
    bench_metrics,
    bench_nnunet,
    bench_ntxent,
    bench_occlusion,
    bench_pipeline,
    bench_step,
)

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
    """[N, N] weights under jit at two sizes: time, the same for merely filling the matrix, bytes of the result and of every temporary.

    The result goes into memory that is already there, as inside a training step; a matrix of 64 MB in fresh memory takes 20 ms for the
    operating system to hand over its pages, whatever is written to them.
    """
    for kind in ("binary", "linear", "partition"):
        for n in (1024, 4096):
            inputs = jnp.arange(n) // 8, (jnp.arange(n) * 7) % 200, jnp.full(n, 200)
            make = _reusing(lambda c, f, t, kind=kind: temporal.temporal_weights(c, f, kind=kind, length=t))
            fill = _reusing(lambda c, f, t, n=n: jnp.full((n, n), t[0], jnp.float32))
            memory = make.lower(jnp.zeros((n, n)), *inputs).compile().memory_analysis()
            ours, filling = (median_seconds(_again(work, n, inputs)) for work in (make, fill))
            yield {
                "row": f"temporal_weights {kind}", "n": n, "ms": 1e3 * ours, "fill_ms": 1e3 * filling, "times_fill": ours / filling,
                "result_bytes": memory.output_size_in_bytes, "temporary_bytes": memory.temp_size_in_bytes,
            }  # fmt: skip


def _reusing(work: Callable) -> Callable:
    """The jitted work, writing its result over its first argument."""
    return jax.jit(lambda old, *inputs: work(*inputs), donate_argnums=0, keep_unused=True)


def _again(work: Callable, n: int, inputs) -> Callable[[], jax.Array]:
    held = [jnp.zeros((n, n))]

    def once():
        held[0] = work(held[0], *inputs)
        return held[0]

    return once


def phantom() -> Iterator[dict[str, Any]]:
    """The kidney phantom, 40 cines of 40 frames of 96 x 96, on two processes."""
    started = time.perf_counter()
    cines = sum(1 for _ in kidney.make(0, patients=40, frames=40, size=96))
    yield {"row": "phantom", "cines": cines, "seconds": time.perf_counter() - started}


ROWS = {
    "temporal_weights": temporal_weights,
    "phantom": phantom,
    "dicom_decode": bench_dicom.dicom_decode,
    "store_reading": bench_data.store_reading,
    "store_formats": bench_data.store_formats,
    "loaders": bench_data.loaders,
    "nt_xent": bench_ntxent.nt_xent,
    "metrics": bench_metrics.metrics_rows,
    "unet_step": bench_step.unet_step,
    "unet_parts": bench_step.unet_parts,
    "unet_gpu": bench_step.unet_gpu,
    "pipeline": bench_pipeline.pipeline,
    "streamed": bench_losses.streamed,
    "nnunet_inference": bench_nnunet.nnunet_inference,
    "clip_step": bench_clips.clip_step,
    "clip_views": bench_clip_views.clip_views,
    "occlusion": bench_occlusion.occlusion,
}
