"""Ctrl-C and SIGTERM as a flag to be read between two steps, so that a run is never cut in the middle of one."""
import signal
import threading
import time


class Interrupted(SystemExit):
    """The user, or the machine, asked the run to stop, and everything is saved.

    Left alone it ends the program with the status a shell expects after that signal: 130 for Ctrl-C, 143 for SIGTERM.
    Like every SystemExit it passes by code that catches errors.
    """

    def __init__(self, number: int):
        super().__init__(128 + number)
        self.signal = number


class Signals:
    """While entered, SIGINT and SIGTERM only set `received`. A second Ctrl-C, over a second later, stops at once, unsaved.

    The second Ctrl-C has to be a deliberate one: a terminal and a wrapper script often deliver the same key press twice.
    Only a process's main thread may set handlers; in any other this does nothing.
    """

    WATCHED = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.received: int | None = None
        self._first = 0.0
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in self.WATCHED}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before = {}

    def _note(self, number, frame):
        now = time.monotonic()
        if self.received is None:
            self.received, self._first = number, now
        elif number == signal.SIGINT and now - self._first > 1.0:
            raise KeyboardInterrupt
