"""Processes side by side: who waits for whom, failures, seats, and what stops them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from uscl.study import crew
from uscl.study.crew import find_seats
from uscl.study.run import told_by
from uscl.types import UserError

ROOT = Path(__file__).parent.parent


def item(folder, name, code, after=None):
    return crew.Work(name, [sys.executable, "-S", "-c", code], folder / f"{name}.txt", after)


def stamp(path, seconds=0.0):
    return f"import time; t = time.time(); time.sleep({seconds}); open({str(path)!r}, 'a').write(f'{{t}} {{time.time()}}')"


def quiet(outcome, running):
    pass


def test_tasks_wait_for_what_they_need_and_work_side_by_side(tmp_path):
    seen = []
    needs = {"a": None, "b": "a", "c": None, "d": "x"}
    todo = [item(tmp_path, name, stamp(tmp_path / f"{name}.when", 0.3), after) for name, after in needs.items()]
    outcome = crew.work(todo, [crew.Seat(), crew.Seat()], {"x"}, lambda outcome, running: seen.append(tuple(running)))
    assert outcome.ended == set("abcdx") and not outcome.failed
    begun, ended = zip(*[map(float, (tmp_path / f"{n}.when").read_text().split()) for n in "abcd"], strict=True)
    assert begun[1] > ended[0] and begun[2] < ended[0], "b after a; c beside a"
    assert max(map(len, seen)) == 2 and ("a", "c") in seen


def test_a_failure_is_told_and_the_rest_goes_on(tmp_path):
    todo = [item(tmp_path, "a", "raise SystemExit('no more disk')"), item(tmp_path, "b", "", "a"), item(tmp_path, "c", "", "b"),
            item(tmp_path, "d", ""), item(tmp_path, "e", "import os; os.kill(os.getpid(), 9)")]  # fmt: skip
    outcome = crew.work(todo, [crew.Seat()], (), quiet)
    assert outcome.ended == {"d"}
    assert outcome.failed == {"a": "exit status 1", "b": "not begun: it needs a", "c": "not begun: it needs b", "e": "ended by SIGKILL"}
    assert told_by(tmp_path / "a.txt") == f"; no more disk (log: {tmp_path / 'a.txt'})" and told_by(tmp_path / "none") == ""


def test_seats(tmp_path):
    cores = sorted(os.sched_getaffinity(0))
    for count in range(1, len(cores) + 1):
        dealt = [core for seat in crew.seats_on_cpu(count) for core in seat.cores]
        assert sorted(dealt) == cores and len(crew.seats_on_cpu(count)) == count
    with pytest.raises(UserError, match=rf"--jobs: found 999; allowed is 1 to {len(cores)}"):
        crew.seats_on_cpu(999)
    told = tmp_path / "told"
    code = f"import os; open({str(told)!r},'a').write(str(sorted(os.sched_getaffinity(0)))+os.environ['CUDA_VISIBLE_DEVICES'])"
    crew.work([item(tmp_path, "a", code)], [crew.Seat(tuple(cores[-1:]), {"CUDA_VISIBLE_DEVICES": "3"})], (), quiet)
    assert told.read_text() == f"[{cores[-1]}]3"
    assert [seat.environment for seat in find_seats(["4", "6"], 0)] == [{"CUDA_VISIBLE_DEVICES": "4"}, {"CUDA_VISIBLE_DEVICES": "6"}]


SAVES = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (open({0!r}, 'w').write('saved'), sys.exit(143)))
open({1!r}, 'w')
time.sleep(60)
"""
STUDY = """
import sys
from pathlib import Path
from uscl import command
from uscl.study import crew
signal = command.signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
crew.work([crew.Work('a', [sys.executable, '-S', '-c', sys.argv[1]], Path(sys.argv[2]))], [crew.Seat()], (), lambda *_: None)
"""


@pytest.mark.parametrize("number,saved", [(signal.SIGINT, True), (signal.SIGTERM, True), (signal.SIGKILL, False)])
def test_whatever_stops_the_study_stops_its_processes(number, saved, tmp_path):
    here = {name: tmp_path / name for name in ("saved", "begun", "output")}
    study = subprocess.Popen([sys.executable, "-c", STUDY, SAVES.format(str(here["saved"]), str(here["begun"])), here["output"]], cwd=ROOT,
                             stderr=subprocess.DEVNULL)  # fmt: skip
    until = time.monotonic() + 30
    while not here["begun"].exists() and time.monotonic() < until:
        time.sleep(0.02)
    child = int(subprocess.run(["pgrep", "-P", str(study.pid)], capture_output=True, text=True).stdout)
    study.send_signal(number)
    assert study.wait(30) != 0
    until = time.monotonic() + 10
    while alive(child) and time.monotonic() < until:
        time.sleep(0.02)
    assert not alive(child) and here["saved"].exists() == saved


def alive(pid):
    """Whether the process is still at work; one that nobody has asked after is a zombie, and is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
