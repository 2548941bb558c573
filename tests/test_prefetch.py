"""Reading ahead: every batch once and in order for any number of threads, errors in their place, nothing left behind."""

import signal
import threading
import time

import pytest

from uscl.data.prefetch import prefetch
from uscl.types import UserError


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not alive()


def alive():
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def settled(calls, count):
    """Waits until `count` calls were made, and long enough for one too many to be seen."""
    end = time.monotonic() + 2
    while len(calls) < count and time.monotonic() < end:
        time.sleep(0.002)
    time.sleep(0.02)
    return sorted(calls)


@pytest.mark.parametrize("workers", [0, 1, 2, 4, 9])
def test_every_step_once_in_order_however_long_each_takes(workers):
    def read(step):
        calls.append(step)
        time.sleep((0.004, 0.001, 0, 0.002, 0)[step % 5])
        return step * step

    calls = []
    with prefetch(read, 5, 45, depth=6, workers=workers) as ahead:
        assert [next(ahead) for _ in range(3)] == [25, 36, 49]
        assert list(ahead) == [step * step for step in range(8, 45)]
        assert next(ahead, None) is None and next(ahead, None) is None
    assert sorted(calls) == list(range(5, 45))
    with prefetch(read, 3, 3, workers=workers) as ahead:
        assert list(ahead) == []


def test_four_workers_read_at_the_same_time():
    meeting = threading.Barrier(4, timeout=2)  # breaks, and so raises, if fewer than four come
    with prefetch(lambda step: meeting.wait() >= 0, 0, 8, depth=4, workers=4) as ahead:
        assert list(ahead) == [True] * 8


def test_without_workers_the_caller_reads():
    with prefetch(lambda step: threading.current_thread(), 0, 3, workers=0) as ahead:
        assert list(ahead) == [threading.current_thread()] * 3 and not alive()


@pytest.mark.parametrize("workers,ahead_of", [(0, 0), (1, 3), (2, 3), (5, 3)])
def test_asks_just_so_far_ahead_and_closes_in_the_middle(workers, ahead_of):
    calls = []
    with prefetch(lambda step: calls.append(step) or step, 0, 10**9, depth=3, workers=workers) as ahead:
        assert settled(calls, ahead_of) == list(range(ahead_of))
        assert [next(ahead), next(ahead)] == [0, 1]
        assert settled(calls, 2 + ahead_of) == list(range(2 + ahead_of))
    assert settled(calls, 2 + ahead_of) == list(range(2 + ahead_of))
    with pytest.raises(ValueError, match="closed"):
        next(ahead)
    ahead.close()  # twice does no harm


def test_closing_waits_for_what_is_being_read_and_asks_for_nothing_more():
    begun, go, finished = threading.Event(), threading.Event(), []
    ahead = prefetch(lambda step: begun.set() or go.wait(2) and finished.append(step), 0, 9, depth=4, workers=1)
    begun.wait(2)
    threading.Timer(0.05, go.set).start()
    ahead.close()
    assert finished == [0] and not alive()


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_an_error_comes_after_the_batches_before_it_and_stays(workers):
    def read(step):
        if step == 3:  # fails at once, before the others of a pool are done
            raise UserError("disk gone")
        time.sleep(0.01)
        return step

    seen = []
    with prefetch(read, 0, 9, workers=workers) as ahead:
        with pytest.raises(UserError, match="disk gone"):
            for batch in ahead:
                seen.append(batch)
        for _ in range(3):  # no later batch takes the place of the one that failed
            with pytest.raises(UserError, match="disk gone"):
                next(ahead)
    assert seen == [0, 1, 2]


def test_closes_when_the_consumer_fails():
    with pytest.raises(KeyError), prefetch(lambda step: step, 0, 10**9, workers=2):
        raise KeyError


def test_an_interrupted_wait_loses_no_batch():
    def interrupt(*_):
        raise KeyboardInterrupt

    go, main = threading.Event(), threading.main_thread().ident
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with prefetch(lambda step: go.wait(2) and step, 0, 5) as ahead:
            threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGUSR1)).start()
            with pytest.raises(KeyboardInterrupt):
                next(ahead)
            go.set()
            assert list(ahead) == [0, 1, 2, 3, 4]
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("workers", [0, 1])
def test_counts_the_time_waited(workers):
    with prefetch(lambda step: time.sleep(0.05), 0, 4, workers=workers) as ahead:  # the consumer is faster: it waits for all
        list(ahead)
    assert 0.1 < ahead.wait_seconds < 2


def test_a_slow_consumer_waits_for_nothing():
    with prefetch(lambda step: time.sleep(0.005), 0, 8) as ahead:
        for _ in range(8):
            time.sleep(0.03)
            next(ahead)
    assert ahead.wait_seconds < 0.12  # of the 0.24 s that the consumer takes


def test_what_cannot_be():
    for options in ({"depth": 0}, {"workers": -1}):
        with pytest.raises(ValueError, match="at least"):
            prefetch(lambda step: step, 0, 1, **options)
