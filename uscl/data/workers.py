"""Work on hostile files, in processes that may die of it: a decoder that crashes, hangs or eats the memory costs one file.

Each child lives for many tasks. What a child dies of may be an earlier file's doing, or the machine's; so a verdict against a file is
only taken after a second try, in a new child. `work` must therefore bear being begun again.
"""

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any

from uscl.types import UserError

READY, BEAT, DONE, MEMORY, BUG = range(5)  # what a child says, each with a value: of DONE and MEMORY it is the task's outcome
START_SECONDS = 120.0  # for a child's imports; a cluster's network disk can take its time
BEATS_PER_PATIENCE = 20  # a frame takes a millisecond; there is no use in telling the parent of each


@dataclass(frozen=True)
class Failure:
    """Why a task has no result: a UserError's own sentence, or words to stand behind the file's name."""

    reason: str


def run(
    work: Callable[[Any, Callable[[], None]], Any], tasks: Iterable, *, workers: int, patience: float = 10.0, memory: int = 4 * 2**30
) -> Iterator[tuple[int, Any]]:
    """Yields (index of the task, what `work(task, beat)` returned, or a Failure) in order of completion; `tasks` is read as they are begun.

    work: a function of a module's top level; it, the tasks and the results are pickled, so they should be small. It calls `beat()` after
    every frame, which costs next to nothing, in the thread it was itself called in. workers: processes, and the most tasks under way; 0:
    in this process, unprotected, for a debugger. patience: seconds without a beat until a child is killed. memory: bytes a child may map
    beyond what its imports took, where the platform limits that; a task's own threads count too.

    A Failure is a UserError of `work`, or a child that crashed, went quiet or ran out of memory. Closing the generator, an exception and
    the end of this process, SIGKILL included, end the children as well. What they print is dropped.
    Raises RuntimeError with the child's traceback for any other exception of `work`, and where a child cannot start.
    """
    if workers == 0:
        for index, task in enumerate(tasks):
            yield index, _told(work, task, lambda: None, memory)[1]
        return
    numbered, idle, busy, done = enumerate(tasks), [], {}, []
    try:
        while True:
            while len(busy) < workers and (job := next(numbered, None)) is not None:
                child = idle.pop() if idle else _Child(work, patience, memory)
                busy[child.pipe] = child
                child.begin(job)
            yield from done  # only now, so that no child waits for whoever uses the results
            done.clear()
            if not busy:
                return
            first = min(child.deadline for child in busy.values())
            heard = wait(list(busy), timeout=max(0.0, first - time.monotonic()))
            late = [pipe for pipe, child in busy.items() if pipe not in heard and child.deadline <= time.monotonic()]
            for pipe in (*heard, *late):
                child = busy[pipe]
                if (outcome := child.hear() if pipe in heard else child.overdue()) is None:
                    continue
                del busy[pipe]
                if not child.ended:
                    idle.append(child)
                elif not child.again:
                    fresh = _Child(work, patience, memory)
                    busy[fresh.pipe] = fresh
                    fresh.begin(child.job, again=True)
                    continue
                done.append((child.job[0], outcome[0]))
    finally:
        for child in (*idle, *busy.values()):
            child.end()


class _Child:
    """One process, as its parent sees it. job: (index, task); again: this is its second try."""

    def __init__(self, work: Callable, patience: float, memory: int):
        spawn = multiprocessing.get_context("spawn")  # a fork would copy locks that other threads of this process hold
        self.pipe, theirs = spawn.Pipe()
        self.patience, self.ready, self.ended = patience, False, False
        self.process = spawn.Process(target=_serve, args=(theirs, work, patience, memory), daemon=True)
        self.process.start()
        theirs.close()  # the child's copy is then the only one, so that its end is heard here

    def begin(self, job: tuple[int, Any], *, again: bool = False) -> None:
        self.job, self.again = job, again
        self.deadline = time.monotonic() + (self.patience if self.ready else START_SECONDS)
        with contextlib.suppress(ConnectionError):  # a child that is dead already is heard of as such
            self.pipe.send(job[1])

    def hear(self) -> tuple[Any] | None:
        """One message; (outcome,) if with it the task is over."""
        try:
            kind, value = self.pipe.recv()
        except (EOFError, ConnectionError):
            return (Failure(self._death()),)
        self.ready, self.deadline = True, time.monotonic() + self.patience
        if kind == BUG:
            raise RuntimeError(f"a worker failed at task {self.job[0]}:\n{value}")
        if kind == MEMORY:  # what it still holds is unknown
            self.end()
        return (value,) if kind in (DONE, MEMORY) else None

    def overdue(self) -> tuple[Any]:
        self.end()
        if not self.ready:
            raise RuntimeError(f"a worker took more than {START_SECONDS:g} s to start")
        return (Failure(f"took more than {self.patience:g} s over one frame"),)

    def end(self) -> None:
        self.ended = True
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def _death(self) -> str:
        self.process.join(1)  # its pipe closes a moment before its status is known
        self.end()
        code = self.process.exitcode
        how = {-s: f"signal {s.name.removeprefix('SIG')}" for s in signal.Signals}.get(code, f"status {code}")
        if not self.ready:
            raise RuntimeError(f"a worker ended while it started ({how}); it says why above")
        return "needs more memory than there is (signal KILL)" if how == "signal KILL" else f"its decoder crashed ({how})"


def _serve(pipe: Connection, work: Callable, patience: float, memory: int) -> None:
    """The child: tasks in, verdicts out, until it is killed or its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # C libraries write to the descriptors, past sys.stderr
    os.dup2(nowhere, 2)
    tasks, said = queue.SimpleQueue(), time.monotonic()
    threading.Thread(target=_listen, args=(pipe, tasks), daemon=True).start()
    _limit_memory(memory)

    def beat() -> None:
        nonlocal said
        if (now := time.monotonic()) - said >= patience / BEATS_PER_PATIENCE:
            said = now
            pipe.send((BEAT, None))

    pipe.send((READY, None))
    while True:
        task = tasks.get()
        try:
            pipe.send(_told(work, ForkingPickler.loads(task), beat, memory))  # our own parent's; one that cannot be loaded is a bug
        except Exception:
            pipe.send((BUG, traceback.format_exc()))


def _listen(pipe: Connection, tasks: queue.SimpleQueue) -> None:
    try:
        while True:
            tasks.put(pipe.recv_bytes())
    except (EOFError, OSError):  # the parent is gone, which nobody would notice in the middle of a task
        os._exit(1)


def _told(work: Callable, task: Any, beat: Callable[[], None], memory: int) -> tuple[int, Any]:
    try:
        return DONE, work(task, beat)
    except (MemoryError, UserError) as error:
        if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError):
            return MEMORY, Failure(f"needs more than {memory / 2**30:g} GiB of memory")
        return DONE, Failure(str(error))


def _limit_memory(memory: int) -> None:
    """Of address space, which is all that can be limited; counted from here on, because libraries map much that they never touch."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows has no such thing, macOS no /proc
        import resource

        with open("/proc/self/statm") as file:
            limit = int(file.read().split()[0]) * resource.getpagesize() + memory
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
