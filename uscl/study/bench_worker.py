"""A process that holds one contender of a comparison: `python -m uscl.study.bench_worker MODULE:FUNCTION OPTIONS CORES CAP`.

It answers its parent line by line. `answer FILE`: what the contender computed is saved there. `time N`: mean and least seconds of N units
of work, after one that is not counted. `peak`: memory. Nothing of JAX or of a peer is imported before the cores and the cap are set, since
thread pools are made to the number of cores they find.
"""

import ctypes
import importlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Contender:
    """What a contender function returns.

    answer: arrays by name, for the other side to agree with, or to start from (weights). once: does one unit of work and waits for its
    end. images: how many images a unit holds, 0 where seconds are what counts. note: more for the row. peak: memory of an accelerator in
    MiB, where there is one.
    """

    answer: Mapping[str, np.ndarray]
    once: Callable[[], object]
    images: int = 0
    note: dict = field(default_factory=dict)
    peak: Callable[[], float] | None = None


def peak_mib() -> float:
    """The most memory this process was resident in so far, pages of mapped files included. Linux; nan elsewhere.

    Not `ru_maxrss`, which a process started by a large one inherits from it.
    """
    status = Path("/proc/self/status")
    return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024 if status.exists() else float("nan")


def limit(cores: int, cap_gib: float) -> None:
    """This process and its children run on the first `cores` cores they may use, and may allocate so much each; 0 is no cap."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    if cap_gib:
        resource.setrlimit(resource.RLIMIT_DATA, (int(cap_gib * 2**30),) * 2)


def die_with_parent(*_) -> None:
    """Asks Linux to end this process when its parent ends: one that is stopped would not notice by itself, and stay."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def seconds_of(once: Callable, count: int) -> list[float]:
    """Of each of `count` units of work, after one that is not counted."""
    once()
    clock = [time.perf_counter()]
    for _ in range(count):
        once()
        clock.append(time.perf_counter())
    return np.diff(clock).tolist()


def main(place: str, options: str, cores: str, cap: str) -> None:
    talk = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not be taken for an answer

    def tell(**found):
        talk.write(json.dumps(found) + "\n")
        talk.flush()

    die_with_parent()
    limit(int(cores), float(cap))
    try:
        module, function = place.split(":")
        contender = getattr(importlib.import_module(module), function)(**json.loads(options))
        tell(images=contender.images, note=contender.note)
        for line in sys.stdin:
            order, _, argument = line.strip().partition(" ")
            if order == "answer":
                np.savez(argument, **contender.answer)
                tell(done=True)
            elif order == "time":
                seconds = seconds_of(contender.once, int(argument))
                tell(mean=sum(seconds) / len(seconds), least=min(seconds))
            else:
                tell(mib=peak_mib(), **({"device_mib": contender.peak()} if contender.peak else {}))
    except Exception as error:  # told to the parent, which makes it part of the row
        tell(error=f"{type(error).__name__}: {error}".splitlines()[0][:300])
        raise


if __name__ == "__main__":
    main(*sys.argv[1:])
