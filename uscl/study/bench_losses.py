"""The streamed losses against the dense ones, and how much memory and time a batch takes that the dense ones could not hold."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uscl import losses
from uscl.temporal import pair_blocks, pair_weights, temporal_weights

ROUNDS, WIDTH, SAME = 9, 128, 1024
FORMS: dict[str, tuple[Callable, Callable, dict[str, str]]] = {
    "info_nce pair": (losses.info_nce, losses.streamed_info_nce, {"denominator": "pair"}),
    "info_nce all": (losses.info_nce, losses.streamed_info_nce, {"denominator": "all"}),
    "pairwise euclidean": (losses.pairwise_contrastive, losses.streamed_pairwise, {"distance": "euclidean"}),
    "pairwise cosine": (losses.pairwise_contrastive, losses.streamed_pairwise, {"distance": "cosine"}),
}


def streamed(large: bool = False) -> Iterator[dict[str, Any]]:
    """Value and gradient of 1,024 embeddings by both forms, in turns, pair weights included; then 8,192 in a process of its own.

    large: 65,536 embeddings in place of the 8,192, several minutes on two cores.
    """
    for name, (dense, stream, options) in FORMS.items():
        batch = _batch(SAME)
        ways = {"dense": _gradient(partial(_dense, dense, options)), "streamed": _gradient(partial(_streamed, stream, options))}
        found = {way: jax.block_until_ready(work(*batch)) for way, work in ways.items()}
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(ROUNDS):
            for way, work in ways.items():
                began = time.perf_counter()
                jax.block_until_ready(work(*batch))
                seconds[way].append(time.perf_counter() - began)
        ours, theirs = (statistics.median(seconds[way]) for way in ("streamed", "dense"))
        apart = jnp.abs(found["streamed"][1] - found["dense"][1]).max() / jnp.abs(found["dense"][1]).max()
        yield {"row": f"streamed {name}", "m": SAME, "ms": 1e3 * ours, "dense_ms": 1e3 * theirs, "times_dense": ours / theirs,
               "gradient_apart": float(apart)}  # fmt: skip
    m = 65536 if large else 8192
    code = f"from uscl.study import bench_losses; bench_losses.alone({m})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    yield {"row": "streamed info_nce pair, alone", **json.loads(done.stdout.splitlines()[-1])}


def alone(m: int) -> None:
    """Prints time and largest resident memory of one value and gradient of m embeddings; for a fresh process."""
    work = _gradient(partial(_streamed, losses.streamed_info_nce, {}))
    batch = _batch(m)
    compiled = work.lower(*batch).compile()
    began = time.perf_counter()
    value, gradient = jax.block_until_ready(compiled(*batch))
    taken = time.perf_counter() - began
    if not np.isfinite(value) or not np.isfinite(np.asarray(gradient)).all():
        raise ArithmeticError(f"the streamed loss of {m} embeddings is not finite")
    status = Path("/proc/self/status")  # Linux only
    peak = [int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")] if status.exists() else []
    print(json.dumps({"m": m, "seconds": taken, "temporary_mib": compiled.memory_analysis().temp_size_in_bytes / 2**20,
                      "resident_mib": peak[0] / 1024 if peak else None}))  # fmt: skip


def _batch(m: int):
    """Embeddings of two views of m / 2 frames, eight of each cine of 60."""
    rng, n = np.random.default_rng(0), m // 2
    z = rng.normal(size=(m, WIDTH)).astype(np.float32)
    return jnp.asarray(z), jnp.arange(n) // 8, jnp.asarray(rng.integers(0, 60, n)), jnp.full(n, 60)


def _dense(loss, options, z, cine, frame, length):
    weights = temporal_weights(cine, frame, kind="linear", length=length)
    return loss(z, *pair_weights(weights, cine, negatives="all", views=2), **options).mean()


def _streamed(loss, options, z, cine, frame, length):
    return loss(z, pair_blocks(cine, frame, kind="linear", length=length, negatives="all", views=2), **options).mean()


def _gradient(loss: Callable):
    return jax.jit(jax.value_and_grad(loss))
