"""Work beside the training: one call at a time, in a thread of its own, whose failure is not lost."""
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

log = logging.getLogger(__name__)


class Background:
    """Runs calls in a thread, one after the other; a context manager that is left only when the last one has ended.

    Not by Orbax's own asynchronous saving: the checksums and the rename have to come after its last byte, and one thread that
    calls the writer which is tested without threads is less to get wrong.

    What a call raises is raised by the next `start`, `check` or `wait`, or on leaving the block; where the block is left by
    another exception, that one goes on and the call's is logged. An interpreter that ends waits for the thread as well.
    """

    def __init__(self, name: str):
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._running: Future | None = None

    def start(self, work: Callable[[], object]) -> None:
        """Begins a call, once the one before has ended: at most one set of copies is waiting to be written."""
        self.wait()
        self._running = self._pool.submit(work)

    def check(self) -> None:
        """Raises what the call raised, if it has failed by now; does not wait."""
        if self._running is not None and self._running.done():
            self.wait()

    def wait(self) -> None:
        """Returns when nothing is under way, or raises what the call raised, once."""
        if self._running is not None:
            running = self._running
            running.exception()  # waits; if Ctrl-C comes meanwhile the call stays ours to wait for
            self._running = None
            running.result()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            self.wait()
        except Exception as error:
            if kind is None:
                raise
            log.error("%s", error)
        finally:
            self._pool.shutdown()
