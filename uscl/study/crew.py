"""Processes side by side, each on a device or on cores of its own, each task as soon as what it needs is there."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from uscl.types import UserError

POLL = 0.1  # seconds between two looks at the processes
# Takes its seat, then becomes the command. On Linux it dies with the study that began it (PR_SET_PDEATHSIG is 1), so that one that is
# killed leaves nobody at work in its folders. A program of its own, because no Python may run between fork and exec beside threads.
SETTLE = """
import ctypes, os, signal, sys
parent, cores, *command = sys.argv[1:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(parent):
        sys.exit(1)
if cores and hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, map(int, cores.split(",")))
os.execvp(command[0], command)
"""
PATIENCE = 120.0  # seconds a process may take to save and leave, once asked to


@dataclass(frozen=True)
class Seat:
    """Where one process works: these cores (empty: any), with these variables in its environment."""

    cores: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def seats_on_cpu(jobs: int = 0) -> list[Seat]:
    """Seats on disjoint cores, a core each where `jobs` is 0: two processes on a core each do 1.3 to 1.5 times the work of one on both.

    Cores are those this process may use. Memory bounds the default to a process for every 2 GiB. UserError for more jobs than cores.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    if jobs > len(cores):
        raise UserError(f"--jobs: found {jobs}; allowed is 1 to {len(cores)}, the cores of this machine, or 0 to choose")
    if jobs < 1:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        jobs = max(1, min(len(cores), int(memory / 2**31)))
    dealt = [tuple(cores[n::jobs]) for n in range(jobs)]
    return [Seat(mine, {"OMP_NUM_THREADS": str(len(mine)), "JAX_PLATFORMS": "cpu"}) for mine in dealt]


def seats_on_gpus(devices: Sequence[str]) -> list[Seat]:
    """A seat a device, which sees that one alone."""
    return [Seat((), {"CUDA_VISIBLE_DEVICES": device}) for device in devices]


def find_seats(devices: Sequence[str] | None, count: int) -> list[Seat]:
    """A seat a GPU where there are GPUs and `count` does not ask for processes on the CPU, otherwise seats on cores."""
    if devices:
        return seats_on_gpus(devices)
    if count or os.environ.get("JAX_PLATFORMS") == "cpu":
        return seats_on_cpu(count)
    look = "import jax; print(jax.default_backend(), jax.local_device_count())"  # in a process of its own: here it would hold the memory
    quiet = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    found = subprocess.run([sys.executable, "-c", look], env=quiet, capture_output=True, text=True)
    kind, number = found.stdout.split() if found.returncode == 0 else ("cpu", "0")
    if kind == "cpu":
        return seats_on_cpu()
    if kind != "gpu":
        return [Seat()]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return seats_on_gpus(visible.split(",") if visible else [str(n) for n in range(int(number))])


@dataclass
class Work:
    """A task as the crew sees it: its command, the file its output is added to, and the task it has to wait for."""

    name: str
    command: Sequence[str]
    output: Path
    after: str | None = None


@dataclass
class Outcome:
    """Names of the tasks that have ended well, and what went wrong with the others: {name: a few words}."""

    ended: set[str]
    failed: dict[str, str] = field(default_factory=dict)


def work(todo: Sequence[Work], seats: Sequence[Seat], ended: Collection[str], tell: Callable[[Outcome, list[str]], None]) -> Outcome:
    """Runs all of `todo`, earlier ones first, and goes on past those that fail; what waits for a failed one is not begun.

    `tell(outcome, running)` is called often. Whatever ends this call early, Ctrl-C and SIGTERM too, first asks the processes to save and
    leave, and waits until they have; on Linux they also end with this process when it is killed.
    """
    outcome, pending = Outcome(set(ended)), list(todo)
    running: dict[int, tuple[Work, subprocess.Popen]] = {}
    try:
        while pending or running:
            for number, (item, process) in list(running.items()):
                if (status := process.poll()) is not None:
                    del running[number]
                    if status == 0:
                        outcome.ended.add(item.name)
                    else:
                        outcome.failed[item.name] = _why(status)
            for item in [item for item in pending if item.after in outcome.failed]:
                pending.remove(item)
                outcome.failed[item.name] = f"not begun: it needs {item.after}"
            for number in [n for n in range(len(seats)) if n not in running]:
                item = next((item for item in pending if item.after is None or item.after in outcome.ended), None)
                if item is not None:
                    pending.remove(item)
                    running[number] = item, begin(item, seats[number])
            tell(outcome, [item.name for item, _ in running.values()])
            time.sleep(POLL if running else 0)
    finally:
        stop([process for _, process in running.values()])
    return outcome


def begin(item: Work, seat: Seat) -> subprocess.Popen:
    """Starts a task on its seat, in a session of its own: a Ctrl-C at the terminal comes to us alone, and we pass it on once."""
    item.output.parent.mkdir(parents=True, exist_ok=True)
    line = [sys.executable, "-I", "-S", "-c", SETTLE, str(os.getpid()), ",".join(map(str, seat.cores)), *item.command]
    with open(item.output, "ab") as output:
        return subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **seat.environment},
            start_new_session=True,
        )  # fmt: skip


def stop(processes: Sequence[subprocess.Popen]) -> None:
    """Asks them to save and leave, and waits; whoever does not within the time, or when Ctrl-C comes again, is killed."""
    try:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        until = time.monotonic() + PATIENCE
        for process in processes:
            process.wait(max(until - time.monotonic(), 0.1))
    except (subprocess.TimeoutExpired, KeyboardInterrupt, SystemExit):
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def _why(status: int) -> str:
    return f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
