"""Us and a peer on the same work: each in a process of its own, agreement first, then turns A-B-A-B, and a row with the ratio.

While one has its turn the other is stopped, threads and loaders included. Machines are noisy, and neighbours in time meet the same noise:
the ratio is taken between neighbouring turns, and quoted as the median with the quartiles of those.
"""

import importlib.metadata
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

CORES, CAP_GIB = 2, 12.0  # of each contender
REPETITIONS, TURN = 9, 0.3  # turns of each; seconds a turn is made to last, where a unit of work is shorter
LIBRARIES = ("jax", "jaxlib", "flax", "numpy", "torch", "torchvision", "lightly", "monai", "kornia", "captum")


class Failed(Exception):
    """A contender that could not do the work, in one line."""


class Contestant:
    """A contender's process; a context manager, stopped while nothing is asked of it."""

    def __init__(self, place: str, options: dict[str, Any], *, cores: int = CORES, cap: float = CAP_GIB, cpu: bool = True):
        own = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""} if cpu else {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        own |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(cores))
        command = [sys.executable, "-m", "uscl.study.bench_worker", place, json.dumps(options), str(cores), str(cap)]
        # A session of its own, so that loaders it starts are stopped and ended with it.
        self.process = subprocess.Popen(
            command, env=os.environ | own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.place = place

    def __enter__(self):
        try:
            self.about = self._heard()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.communicate()

    def ask(self, order: str) -> dict[str, Any]:
        os.killpg(self.process.pid, signal.SIGCONT)
        try:
            self.process.stdin.write(order + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the reason is waiting to be read
        return self._heard()

    def _heard(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()  # below 0: the signal
            raise Failed(f"{self.place} ended with status {status}" + (", often for want of memory" if status in (-6, -9, -11) else ""))
        found = json.loads(line)
        if "error" in found:
            raise Failed(f"{self.place}: {found['error']}")
        os.killpg(self.process.pid, signal.SIGSTOP)
        return found


def compare(
    row: str, ours: str, peer: str, options: dict[str, Any], *, library: str, size: str, goal: float | None = None,
    tolerance: float = 1e-4, repetitions: int = REPETITIONS, turn: float = TURN, cpu: bool = True, cap: float = CAP_GIB,
) -> dict[str, Any]:  # fmt: skip
    """One row of the bench.

    Args:
      row, size: what the row is called, and the size of the work in words.
      ours, peer: "MODULE:FUNCTION", each called in its process as function(folder=FOLDER, **options) and returning a `Contender`. The
        peer is made second, and finds our answer in FOLDER/ours.npz.
      options: plain values, the same for both.
      library: what must be installed for the peer to run.
      goal: ratio to reach.
      tolerance: how far an answer of the peer may be from ours, as a share of the largest entry of that array.
      repetitions, turn: turns of each side, and seconds one should last.
      cpu: hide accelerators from both.
      cap: GiB each process may allocate, 0 for no cap; drivers of accelerators reserve more than they use.

    Returns: ours_ms, peer_ms (or images_s where the contenders count images), ratio = peer / ours in time, so above 1 we are faster; its
    quartiles ratio_q1 and ratio_q3; ratio_least, between the fastest units of each; load of the machine before we began, which, where it is
    not near 0, says that others had our cores, and delays most those threads that wait for each other; goal; agreement, the worst of the
    shares above; memory; versions. Or, with what could still be measured: `skipped` (the peer is not installed), `failed` (we or the peer
    could not do the work, or the two do not agree; nothing is timed then).

    Known values: a peer that sleeps twice as long as we do has ratio 2.
    """
    found: dict[str, Any] = {"row": row, "size": size, "peer": library, "cores": CORES, "load": os.getloadavg()[0]}
    missing = importlib.util.find_spec(library) is None
    with tempfile.TemporaryDirectory(prefix="uscl-bench-") as folder:
        options = {"folder": folder} | options
        try:
            with Contestant(ours, options, cap=cap, cpu=cpu) as us:
                us.ask(f"answer {folder}/ours.npz")
                if missing:
                    (times,) = _turns([us], repetitions, turn)
                    skipped = f"{library} is not installed; pip install -e .[bench] and see setup.py"
                    return found | {"skipped": skipped} | _side("ours", us, times)
                with Contestant(peer, options, cap=cap, cpu=cpu) as them:
                    them.ask(f"answer {folder}/peer.npz")
                    found["agreement"] = distance(Path(folder))
                    if not found["agreement"] <= tolerance:
                        raise Failed(f"the answers differ by {found['agreement']:.2g} of their size; {tolerance:.2g} is allowed")
                    times = _turns([us, them], repetitions, turn)
                    found |= _side("ours", us, times[0]) | _side("peer", them, times[1])
        except Failed as failure:
            return found | {"failed": str(failure)}
    found |= _ratio(times)
    if found["load"] > CORES / 4:
        found["noisy"] = "others had our cores: this ratio is not to be quoted"
    return found | ({"goal": goal} if goal else {}) | {"versions": versions()}


def distance(folder: Path) -> float:
    """The largest difference between the peer's answer and ours, as a share of the largest entry of that array."""
    with np.load(folder / "ours.npz") as ours, np.load(folder / "peer.npz") as peer:
        worst = 0.0
        if not peer.files:
            raise Failed("the peer gave no answer to compare")
        for name in peer.files:
            a, b = ours[name].astype(np.float64), peer[name].astype(np.float64)
            if a.shape != b.shape or (np.isfinite(a) != np.isfinite(b)).any():
                raise Failed(f"the answers {name!r} differ in shape or in where they are finite: {a.shape} and {b.shape}")
            seen = np.isfinite(a)
            worst = max(worst, float(np.abs(a[seen] - b[seen]).max(initial=0) / max(np.abs(a[seen]).max(initial=0), 1e-12)))
    return worst


def _turns(sides: list[Contestant], repetitions: int, turn: float) -> list[list[dict[str, float]]]:
    """What the turns of each side took; a turn before them, not counted, says how many units make one."""
    counts = [max(1, math.ceil(turn / side.ask("time 1")["mean"])) for side in sides]
    taken = [[side.ask(f"time {count}") for side, count in zip(sides, counts, strict=True)] for _ in range(repetitions)]
    return [list(times) for times in zip(*taken, strict=True)]


def _side(name: str, side: Contestant, times: list[dict[str, float]]) -> dict[str, Any]:
    median, images = float(np.median([turn["mean"] for turn in times])), side.about["images"]
    speed = {f"{name}_images_s": images / median} if images else {f"{name}_ms": 1e3 * median}
    speed[f"{name}_least_ms"] = 1e3 * min(turn["least"] for turn in times)
    noted = {f"{name}_{key}": value for key, value in (side.about["note"] | side.ask("peak")).items()}
    return speed | noted


def _ratio(times: list[list[dict[str, float]]]) -> dict[str, float]:
    """How many times longer the peer takes, by neighbouring turns, and by the fastest unit of each."""
    ratios = [them["mean"] / us["mean"] for us, them in zip(*times, strict=True)]
    low, middle, high = (float(q) for q in np.quantile(ratios, [0.25, 0.5, 0.75]))
    ours, theirs = (min(turn["least"] for turn in side) for side in times)
    return {"ratio": middle, "ratio_q1": low, "ratio_q3": high, "ratio_least": theirs / ours, "repetitions": len(ratios)}


def versions() -> dict[str, str]:
    """Of what is installed, by name; metadata alone, nothing is imported."""
    known = {"python": ".".join(map(str, sys.version_info[:3]))}
    for library in LIBRARIES:
        if importlib.util.find_spec(library) is not None:
            known[library] = importlib.metadata.version(library)
    return known
