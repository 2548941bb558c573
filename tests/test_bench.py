"""The bench's comparison, with contenders whose times and answers are known; the rows' own peers where they are installed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from uscl.study import bench_peers
from uscl.study.bench_peers import compare

FAKES = '''
import os, signal, time
from pathlib import Path
import numpy as np
from uscl.study.bench_worker import Contender

def state(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] if os.path.exists(f"/proc/{pid}/stat") else "-"

def made(name, seconds, log, answer):
    (Path(log) / name).write_text(str(os.getpid()))
    other = Path(log) / ("B" if name == "A" else "A")
    print("libraries talk")
    def once():
        time.sleep(seconds)
        with open(Path(log) / "turns", "a") as file:
            file.write(name + (state(other.read_text()) if other.exists() else "-"))
    return Contender({"loss": np.asarray(answer, float)}, once, note={"threads": 1})

def ours(folder, log): return made("A", 0.04, log, [1.0, 2.0])
def twice(folder, log): return made("B", 0.08, log, [1.0, 2.0])
def wrong(folder, log): return made("B", 0.0, log, [1.0, 2.1])
def shape(folder, log): return made("B", 0.0, log, [1.0])
def lost(folder, log): return made("B", 0.0, log, [1.0, np.nan])
def silent(folder, log): return Contender({}, lambda: None)
def broken(folder, log): raise RuntimeError("no such operator\\nsecond line")
def killed(folder, log): os.kill(os.getpid(), signal.SIGKILL)
def greedy(folder, log): return Contender({"loss": np.ones(2**28)}, lambda: None)
def starts(folder, log):
    assert np.load(folder + "/ours.npz")["loss"][1] == 2.0
    return made("B", 0.0, log, [1.0, 2.0])
'''


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    (tmp_path / "fakes.py").write_text(FAKES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def row(peer, library="numpy", **more):
        given = {"repetitions": 7, "turn": 0.0, "size": "none", "goal": 1.5} | more
        return compare("fake", "fakes:ours", f"fakes:{peer}", {"log": str(tmp_path)}, library=library, **given)

    return row


def alive(pid: int) -> bool:
    path = Path(f"/proc/{pid}/stat")
    return path.exists() and path.read_text().rpartition(")")[2].split()[0] != "Z"


def test_the_ratio_and_the_order_of_turns(fakes, tmp_path):
    row = fakes("twice")
    assert 1.7 < row["ratio_least"] < 2.3 and 1.3 < row["ratio"] < 3 and row["ratio_q1"] <= row["ratio"] <= row["ratio_q3"]
    assert row["ours_least_ms"] >= 40 and row["peer_least_ms"] >= 80 and row["repetitions"] == 7 and row["agreement"] == 0
    assert row["ours_threads"] == 1 and row["ours_mib"] > 5 and row["peer_mib"] > 5 and row["goal"] == 1.5
    assert row["versions"]["numpy"] == np.__version__ and "failed" not in row and "skipped" not in row
    turns = (tmp_path / "turns").read_text()
    stopped = "T" if sys.platform == "linux" else "-"
    assert turns == (2 * f"A{stopped}" + 2 * f"B{stopped}") * 8, "A B A B, the other stopped meanwhile; one turn to count, seven to time"
    assert not any(alive(int((tmp_path / name).read_text())) for name in "AB")
    json.dumps(row)


@pytest.mark.parametrize(
    "peer,words",
    [
        ("wrong", "differ by 0.05"),
        ("shape", "'loss' differ in shape"),
        ("lost", "where they are finite"),
        ("silent", "no answer to compare"),
        ("broken", "fakes:broken: RuntimeError: no such operator"),
        ("killed", "status -9"),
    ])  # fmt: skip
def test_a_peer_that_does_not_agree_is_not_timed(fakes, tmp_path, peer, words):
    row = fakes(peer)
    assert words in row["failed"] and "ratio" not in row and "\n" not in row["failed"]
    assert not (tmp_path / "turns").exists()
    assert not alive(int((tmp_path / "A").read_text()))


def test_tolerance(fakes):
    assert "ratio" in fakes("wrong", tolerance=0.06, repetitions=1)


def test_the_peer_may_start_from_our_answer(fakes):
    assert "ratio" in fakes("starts", repetitions=1)


@pytest.mark.skipif(sys.platform != "linux", reason="the cap on allocations is Linux's")
def test_memory_is_capped(fakes):
    assert "MemoryError" in fakes("greedy", cap=1.0)["failed"]


def test_a_peer_that_is_not_installed_is_a_row_that_says_so(fakes):
    row = fakes("twice", library="no_such_library")
    assert "no_such_library is not installed" in row["skipped"] and row["ours_least_ms"] >= 40 and "ratio" not in row


def test_distance_is_relative_to_the_largest_entry(tmp_path):
    np.savez(tmp_path / "ours.npz", a=[0.0, 4.0], b=[1.0, np.inf], kept_back=[1.0])
    np.savez(tmp_path / "peer.npz", a=[1.0, 4.0], b=[1.1, np.inf])
    assert bench_peers.distance(tmp_path) == 0.25


@pytest.mark.skipif(sys.platform != "linux", reason="ended by Linux when the parent ends")
def test_no_contender_outlives_a_bench_that_is_killed(fakes, tmp_path):
    options = {"folder": "", "log": str(tmp_path)}
    code = f"from uscl.study.bench_peers import Contestant; import time\nwith Contestant('fakes:ours', {options}): time.sleep(60)"
    bench = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 30
    while not (tmp_path / "A").exists() or not (tmp_path / "A").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pid = int((tmp_path / "A").read_text())
    time.sleep(0.3)  # it is stopped by now, or about to be
    os.kill(bench.pid, signal.SIGKILL)
    bench.wait()
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("work", ["forward", "gradient", "step"])
def test_the_twin_in_torch_is_the_same_network(tmp_path, work):
    pytest.importorskip("torch", reason="pip install -e .[bench]")
    from uscl.study import bench_step

    options = {"folder": str(tmp_path), "batch": 8, "side": 96, "work": work}
    ours = bench_step.ours(**options)
    np.savez(tmp_path / "ours.npz", **ours.answer)
    twin = bench_step.twin(**options)
    np.savez(tmp_path / "peer.npz", **twin.answer)
    assert bench_peers.distance(tmp_path) < (1e-2 if work == "step" else 1e-3)
    if work == "step":
        assert ours.note["parameters"] == twin.note["parameters"] == 2_095_760


@pytest.mark.slow
def test_launch_bench_tells_what_it_found(tmp_path):
    command = [sys.executable, "launch/bench.py", "--only=nt_xent", f"--json={tmp_path / 'rows'}"]
    subprocess.run(command, check=True, cwd=Path(__file__).parent.parent)
    rows = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
    assert [row["size"] for row in rows] == ["B=512 D=128", "B=1024 D=128"]
    assert all("ratio" in row or "skipped" in row for row in rows)
