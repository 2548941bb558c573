"""A run goes on exactly: at another number of devices, with the writer beside the updates, after a full disk, after SIGKILL."""
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from toy import assert_same, leaves, lines, make_toy, score, train

from uscl.train import checkpoint, folders
from uscl.train.background import Background
from uscl.train.checkpoint import Checkpoints
from uscl.train.interrupt import Interrupted
from uscl.types import UserError

ROOT = Path(__file__).parent.parent


def interrupt_at(number):
    return lambda now: os.kill(os.getpid(), signal.SIGTERM) if now == number else None


# --- devices ---


@pytest.mark.parametrize("writers,readers", [(4, 1), (1, 4)])
def test_a_checkpoint_goes_on_at_another_number_of_devices(tmp_path, writers, readers):
    whole = train(tmp_path / "whole", toy=make_toy(readers), validate=score, validate_every=5)
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", toy=make_toy(writers), validate=score, validate_every=5, before=interrupt_at(11))
    seen = []
    rest = train(tmp_path / "cut", toy=make_toy(readers), validate=score, validate_every=5, before=seen.append)
    assert seen == list(range(12, 21)) and int(rest[0].step) == 20 and int(rest[1].step) == int(whole[1].step) == 10
    assert [line["step"] for line in lines(tmp_path / "cut")] == [line["step"] for line in lines(tmp_path / "whole")]
    mine, theirs = leaves(rest), leaves(whole)
    for name in theirs:
        np.testing.assert_allclose(mine[name], theirs[name], rtol=1e-5, atol=1e-6, err_msg=name)


# --- the best, and saving beside the training ---


def test_the_best_is_kept_beside_the_newest(tmp_path):
    # Scores 0.3, 0.7, 0.7, 0.1 at 5, 10, 15, 20: saved where it is best so far, and at 8, 16 and 20.
    _, best = train(tmp_path, validate=score, validate_every=5)
    store = Checkpoints(tmp_path / "toy" / "checkpoints")
    assert store.steps() == [10, 16, 20]
    here, new, _ = make_toy()
    kept = checkpoint.load_weights(store.folder / "10")
    for name, leaf in leaves(best.params).items():
        block, part = re.findall(r"'(\w+)'", name)
        np.testing.assert_array_equal(kept["state"]["params"][block][part], leaf)


def test_saving_does_not_hold_up_the_updates(tmp_path, monkeypatch):
    """The writer of update 8 waits until update 12 has been fed, and writes what was true at 8 all the same."""
    fed, saved, write = threading.Event(), {}, folders.write

    def slow(path, fill, **options):
        if path.name == "8":
            assert fed.wait(60), "the updates wait for the writer"
        write(path, fill, **options)

    def before(now):
        if now == 8:
            saved["steps"] = Checkpoints(tmp_path / "a" / "toy" / "checkpoints").steps()
        if now == 12:
            saved["at 12"] = Checkpoints(tmp_path / "a" / "toy" / "checkpoints").steps()
            fed.set()

    monkeypatch.setattr(folders, "write", slow)
    train(tmp_path / "a", before=before, steps=15)
    assert saved == {"steps": [], "at 12": []}
    monkeypatch.undo()
    train(tmp_path / "b", steps=8)
    one, other = (checkpoint.load_weights(tmp_path / run / "toy" / "checkpoints" / "8") for run in "ab")
    assert_same(one, other)


def test_nothing_is_saved_before_what_precedes_it_is_told(tmp_path, monkeypatch):
    told, write = {}, folders.write

    def seen(path, fill, **options):
        told[path.name] = [line["step"] for line in lines(tmp_path)][-1]
        write(path, fill, **options)

    monkeypatch.setattr(folders, "write", seen)
    train(tmp_path, log_every=1, steps=8)
    assert told == {"8": 8}


def test_background_runs_one_call_at_a_time_and_loses_no_failure():
    seen, go = [], threading.Event()

    def fail():
        raise OSError("no")

    with Background("test") as background:
        background.start(lambda: (go.wait(10), seen.append(1)))
        background.check()  # has not ended, and is not waited for
        assert seen == []
        go.set()
        background.start(lambda: seen.append(len(seen)))
        assert seen[0] == 1
        background.wait()
        assert seen == [1, 1]
        background.start(fail)
        with pytest.raises(OSError, match="no"):
            background.wait()
        background.wait()  # told once
        background.start(fail)
        with pytest.raises(OSError, match="no"):
            background.start(lambda: seen.append("not begun"))
        assert seen == [1, 1]
    with pytest.raises(OSError, match="no"), Background("test") as background:
        background.start(fail)
    with pytest.raises(KeyError), Background("test") as background:
        background.start(fail)
        raise KeyError  # what ended the block goes on


def test_an_interpreter_that_ends_waits_for_the_writer(tmp_path):
    program = (
        "import time, sys, pathlib; from uscl.train.background import Background; b = Background('x'); "
        "b.start(lambda: (time.sleep(0.5), pathlib.Path(sys.argv[1]).touch()))"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "written"], cwd=ROOT, check=True, timeout=60)
    assert (tmp_path / "written").exists()


def test_a_guard_sees_each_update_with_its_batch_before_it_is_judged(tmp_path):
    seen = []

    def batch(number):
        x = np.full((8, 3), number, np.float32)
        return {"x": x, "y": np.full((8, 1), np.nan if number == 6 else 0, np.float32)}

    def guard(number, metrics, host):
        seen.append((number, float(host["x"][0, 0]), np.isfinite(metrics["loss"])))

    with pytest.raises(FloatingPointError, match="update 7"):
        train(tmp_path, batch=batch, guard=guard)
    assert seen == [(n, n - 1, n != 7) for n in range(1, 8)]


# --- killed ---

KILLS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import conftest  # the kept programs
import kill_runs
import toy

def work(workdir):
    toy.train(workdir, toy=toy.make_toy(1), validate=toy.score, validate_every=5, steps=20, save_every=2)

print(kill_runs.main(3, 0, Path(sys.argv[1]), work, ["toy"], saves=10))
"""


def test_killed_at_any_moment_it_ends_with_the_same_bytes(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLS, tmp_path, ROOT / "tests"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("the same") == 3, done.stdout


@pytest.mark.slow
def test_the_command_killed_at_any_moment_ends_with_the_same_bytes(tmp_path):
    program = [sys.executable, ROOT / "tests" / "kill_runs.py", "--runs=4", f"--folder={tmp_path}"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr


# --- a full disk ---


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_ends_the_run_in_one_sentence_and_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    whole = train(tmp_path / "whole")
    monkeypatch.setattr(folders, "_settle", lambda path: full() if path.name == "16.partial" else None)
    folder = tmp_path / "cut" / "toy" / "checkpoints"
    with pytest.raises(UserError) as told:
        train(tmp_path / "cut")
    sentence = f"{folder / '16'}: can't be written (No space left on device); the checkpoint of update 8 stands; make room"
    assert str(told.value).startswith(sentence) and "\n" not in str(told.value)
    assert [entry.name for entry in folder.iterdir()] == ["8"]
    monkeypatch.undo()
    assert_same(train(tmp_path / "cut"), whole)
    assert (tmp_path / "cut" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_nothing_is_begun_where_there_is_no_room(tmp_path, monkeypatch):
    store, tree = Checkpoints(tmp_path), {"w": np.zeros(2**20)}  # 8 MiB
    store.save(1, tree)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda path: usage._replace(free=2**23))
    monkeypatch.setattr(checkpoint, "_checkpointer", lambda: pytest.fail("it was begun"))
    with pytest.raises(UserError, match=f"{tmp_path / '2'}: can't be written .No space left on device.; the checkpoint of update 1 stands"):
        store.save(2, tree)
    assert store.steps() == [1]


def test_a_limit_of_the_real_file_system(tmp_path):
    """TensorStore meets the limit, in a process of its own; it must not print either."""
    program = """
import resource, sys
import numpy as np
from uscl.train.checkpoint import Checkpoints
from uscl.types import UserError
store = Checkpoints(sys.argv[1])
store.save(1, {"w": np.arange(100.0)})
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    store.save(2, {"w": np.random.default_rng(0).normal(size=100_000)})
except UserError as error:
    print(error)
print(store.latest(), [entry.name for entry in store.folder.iterdir()], store.restore(1, {"w": np.zeros(100)})["w"].sum())
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path], cwd=ROOT, capture_output=True, text=True, timeout=120)
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{tmp_path / '2'}: can't be written (File too large); the checkpoint of update 1 stands") and done.stderr == ""
    assert second == "1 ['1'] 4950.0"
