"""Workers against tasks that do what broken decoders do: crash, hang, eat memory, chatter, and outlive their parent."""

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from uscl.data.workers import Failure, run
from uscl.types import UserError

HERE = Path(__file__).parent
MIB = 2**20


def act(task, beat):
    """What a task's first word says, in the child."""
    kind, *rest = task
    if kind == "value":
        return rest[0], os.getpid()
    if kind == "signal":
        os.kill(os.getpid(), rest[0])
        time.sleep(60)
    if kind == "leave":
        os._exit(rest[0])
    if kind == "sleep":
        time.sleep(rest[0])
    if kind == "beats":
        for _ in range(rest[0]):
            time.sleep(0.05)
            beat()
    if kind == "many beats":
        start = time.perf_counter()
        for _ in range(rest[0]):
            beat()
        return time.perf_counter() - start
    if kind == "take":
        return len(bytearray(rest[0]))
    if kind == "told take":
        try:
            bytearray(rest[0])
        except MemoryError as error:
            raise UserError("a.dcm: cannot be read") from error
    if kind == "user":
        raise UserError(rest[0])
    if kind == "bug":
        return 1 / 0
    if kind == "unpicklable":
        return lambda: 0
    if kind == "chatter":
        os.write(1, b"chatter 1\n"), os.write(2, b"chatter 2\n"), print("chatter 3"), print("chatter 4", file=sys.stderr)
    if kind == "first time only":
        if not rest[0].exists():
            rest[0].touch()
            os.kill(os.getpid(), signal.SIGSEGV)
    if kind == "note":
        Path(rest[0], str(os.getpid())).touch()
        time.sleep(60)
    if kind == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
    return "done"


class Unreadable:
    def __reduce__(self):
        return int, ("no number",)


def outcomes(*tasks, **options):
    return dict(run(act, tasks, **{"workers": 2, **options}))


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"  # its reaper may take its time
    except OSError:
        return True


def until(true, seconds=5.0):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


@pytest.mark.parametrize("workers", [0, 2])
def test_every_task_has_its_outcome(workers):
    found = outcomes(*(("value", i) for i in range(40)), workers=workers)
    assert [found[i][0] for i in range(40)] == list(range(40))
    pids = {pid for _, pid in found.values()}
    assert pids == {os.getpid()} if workers == 0 else os.getpid() not in pids and len(pids) <= workers
    assert outcomes(workers=workers) == {}


def test_tasks_are_read_as_they_are_begun_and_come_as_they_end():
    begun, finished = 0, []

    def tasks():
        nonlocal begun
        for i in range(12):
            begun += 1
            assert begun - len(finished) <= 4  # two under way, and two whose outcomes were not asked for yet
            yield ("sleep", 0.4) if i == 0 else ("value", i)

    for index, _ in run(act, tasks(), workers=2):
        finished.append(index)
    assert finished == [*range(1, 12), 0]


def test_a_death_costs_its_own_task_alone():
    found = outcomes(
        ("value", 0), ("signal", signal.SIGSEGV), ("signal", signal.SIGABRT), ("value", 3), ("signal", signal.SIGKILL), ("leave", 0),
        ("leave", 3), ("value", 7),
    )  # fmt: skip
    assert [found[i][0] for i in (0, 3, 7)] == [0, 3, 7]
    assert [found[i].reason for i in (1, 2, 4, 5, 6)] == [
        "its decoder crashed (signal SEGV)", "its decoder crashed (signal ABRT)", "needs more memory than there is (signal KILL)",
        "its decoder crashed (status 0)", "its decoder crashed (status 3)",
    ]  # fmt: skip


def test_a_task_is_tried_twice(tmp_path):
    assert outcomes(("first time only", tmp_path / "seen"), workers=1) == {0: "done"}


def test_quiet_is_ended_and_beats_are_signs_of_life():
    start = time.monotonic()
    found = outcomes(("sleep", 60), ("beats", 14), *(("value", i) for i in range(2, 5)), patience=0.4)
    assert found[0] == Failure("took more than 0.4 s over one frame")
    assert found[1] == "done" and found[4][0] == 4
    assert time.monotonic() - start < 4


def test_quiet_is_seen_while_others_are_busy():
    start = time.monotonic()
    for index, outcome in run(act, (("sleep", 0 if i else 60) for i in itertools.count()), workers=2, patience=0.3):
        if index == 0:
            assert outcome == Failure("took more than 0.3 s over one frame")
            break
        assert time.monotonic() - start < 4


def test_a_slow_user_of_the_results_is_not_held_against_them():
    for _, outcome in run(act, [("value", 0), ("beats", 4), ("beats", 4)], workers=2, patience=0.4):
        assert not isinstance(outcome, Failure)
        time.sleep(0.5)


def test_beats_cost_little():
    assert outcomes(("many beats", 100_000), workers=1)[0] < 0.5


def test_memory_is_limited():
    found = outcomes(("take", 600 * MIB), ("told take", 600 * MIB), ("take", 300 * MIB), memory=512 * MIB)
    assert found[0] == found[1] == Failure("needs more than 0.5 GiB of memory")
    assert found[2] == 300 * MIB


@pytest.mark.parametrize("workers", [0, 1])
def test_the_users_mistakes_are_outcomes_and_ours_are_not(workers):
    assert outcomes(("user", "a.dcm: is empty"), workers=workers) == {0: Failure("a.dcm: is empty")}
    with pytest.raises(ZeroDivisionError if workers == 0 else RuntimeError, match="division by zero"):
        outcomes(("value", 1), ("bug",), workers=workers)


def test_what_cannot_be_pickled_is_our_mistake():
    with pytest.raises(RuntimeError, match="(?s)task 0.*(pickle|local object)"):
        outcomes(("unpicklable",))
    with pytest.raises(RuntimeError, match="(?s)Traceback.*ValueError"):
        outcomes(("value", Unreadable()))
    assert multiprocessing.active_children() == []


def test_a_worker_that_cannot_start_is_told(capfd):
    with pytest.raises(RuntimeError, match="ended while it started"):
        list(run(Unreadable(), [1], workers=1))
    assert "no number" in capfd.readouterr().err


def test_chatter_goes_nowhere(capfd):
    assert outcomes(("chatter",), ("leave", 1), workers=1)[0] == "done"
    assert capfd.readouterr() == ("", "")


def test_an_interrupt_is_the_parents_affair():
    assert outcomes(("interrupt",), workers=1) == {0: "done"}


def test_closing_ends_the_children_at_once():
    results = run(act, [("value", 0), ("sleep", 60), ("sleep", 60)], workers=2)
    next(results)
    start = time.monotonic()
    assert len(multiprocessing.active_children()) == 2
    results.close()
    assert multiprocessing.active_children() == [] and time.monotonic() - start < 1


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_child_outlives_its_parent(tmp_path, how):
    code = f"import test_workers as t; list(t.run(t.act, [('note', {str(tmp_path)!r})] * 2, workers=2))"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=HERE, start_new_session=True, stderr=subprocess.PIPE, text=True)
    assert until(lambda: len(list(tmp_path.iterdir())) == 2)
    children = [int(p.name) for p in tmp_path.iterdir()]
    assert not any(map(gone, children))
    if how == signal.SIGINT:
        os.killpg(parent.pid, how)  # as a terminal does
    else:
        parent.send_signal(how)
    assert until(lambda: all(map(gone, children)))
    said = parent.communicate(timeout=5)[1]
    assert parent.returncode == -how and said.count("Traceback") == (how == signal.SIGINT)
