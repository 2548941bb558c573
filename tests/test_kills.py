"""`prepare` killed at any moment: the same command again ends with the same bytes."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from made import clip, made, still, stills, video

from uscl.data.store import Store

KILLS = 10
# Children are forked from one process that has imported everything. A child counts what it does to the file system and, at the given
# count, dies as if the power had gone. Its arguments: how many kills, and pairs of a source and the store's folder to start from, or "".
PROGRAM = f"""
import os, shutil, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from made import made

TOUCHING = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree")

def run(source, out, deadline):
    pid = os.fork()
    if pid == 0:
        count = 0
        def hook(event, arguments):
            nonlocal count
            if event in TOUCHING:
                count += 1
                if count == deadline:
                    os.kill(os.getpid(), signal.SIGKILL)
        if deadline is not None:
            sys.addaudithook(hook)
        made(source, out, beam=True)
        if deadline == 0:
            print(count, flush=True)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def begin(out, start):
    for end in ("", ".private", ".partial", ".replaced"):
        shutil.rmtree(str(out) + end, ignore_errors=True)
        if start and end in ("", ".private"):
            shutil.copytree(start + end, str(out) + end)

out, kills = Path(sys.argv[1]), int(sys.argv[2])
source, start, salt = sys.argv[3:6]
begin(out, start)
if not start:
    os.mkdir(str(out) + ".private")
    shutil.copy(salt, str(out) + ".private/salt")
moments = int(sys.argv[6])
for k in range(kills):
    begin(out, start)
    if not start:
        os.mkdir(str(out) + ".private")
        shutil.copy(salt, str(out) + ".private/salt")
    deadline = 1 + (2 * k + 1) * moments // (2 * kills)
    assert run(source, out, deadline) == -signal.SIGKILL, deadline
    assert run(source, out, None) == 0
    shutil.copytree(out, sys.argv[7] + str(k))
"""
COUNT = PROGRAM.split("out, kills =")[0] + "begin(Path(sys.argv[1]), sys.argv[3]); run(sys.argv[2], Path(sys.argv[1]), 0)"


def contents(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def child(program, *arguments):
    done = subprocess.run([sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = stills(tmp_path_factory.mktemp("kills") / "s", "1234567", side=(40, 48))
    for name in "abc":
        video(folder / f"{name}.mkv", clip(5, 40, 48))
    return folder


@pytest.mark.parametrize("again", [False, True], ids=["a new store", "a store brought up to date"])
def test_killed_anywhere_it_ends_with_the_same_bytes(source, tmp_path, again):
    reference, start = tmp_path / "reference", ""
    if again:
        start = tmp_path / "start"
        child(COUNT, start, source, "")
        whole = tmp_path / "s"
        shutil.copytree(source, whole)  # with the times of the files, by which they are known
        source = whole
        still(source, "8", side=(40, 48))
        video(source / "d.mkv", clip(5, 40, 48))
    moments = int(child(COUNT, reference, source, start))
    salt = tmp_path / "reference.private" / "salt"
    child(PROGRAM, tmp_path / "out", KILLS, source, start, salt, moments, tmp_path / "result")
    expected = contents(reference)
    assert len(expected) >= 9 and moments > 5 * KILLS
    for k in range(KILLS):
        assert contents(tmp_path / f"result{k}") == expected
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("out")) == ["out", "out.private"]
    assert not (tmp_path / "out.private" / "parts").exists()


def test_the_command_and_its_workers_killed_by_the_clock(source, tmp_path):
    def command(out):
        program = Path(__file__).parent.parent / "launch" / "prepare.py"
        return [sys.executable, program, f"--source={source}", f"--out={out}", "--size=16", "--workers=2", "--nobeam"]

    began = time.monotonic()
    subprocess.run(command(tmp_path / "reference"), check=True, capture_output=True, timeout=120)
    seconds = time.monotonic() - began
    (tmp_path / "out.private").mkdir()
    shutil.copy(tmp_path / "reference.private" / "salt", tmp_path / "out.private" / "salt")
    running = subprocess.Popen(command(tmp_path / "out"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    time.sleep(0.6 * seconds)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    subprocess.run(command(tmp_path / "out"), check=True, capture_output=True, timeout=120)
    names = [p.name for p in (tmp_path / "reference").iterdir() if p.name != "report.html"]
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "reference" / name).read_bytes(), name
    assert json.loads((tmp_path / "out" / "store.json").read_text())["frames"] == 22


def stopped(source, out, monkeypatch, where):
    """`prepare` that ends, as by a kill, when the file named `where` is about to be put in its place."""
    replace = os.replace

    def stop(old, new):
        if Path(new).name == where and not str(old).endswith(".partial"):
            raise SystemExit("killed")
        replace(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        with pytest.raises(SystemExit):
            made(source, out)


@pytest.mark.parametrize("where", ["prepared.npy", "prepared.jsonl"])
def test_killed_while_the_notes_come_into_force(tmp_path, monkeypatch, where):
    source, out, private = stills(tmp_path / "s", "12345678"), tmp_path / "out", tmp_path / "out.private"
    made(source, out)
    still(source, "9")
    stopped(source, out, monkeypatch, where)
    still(source, "x")  # and before the next run the source has changed again, and that one is killed while it writes
    with pytest.raises(ZeroDivisionError):
        made(source, out, progress=lambda things, total, what: 1 / (what != "writing") and things)
    assert made(source, out)["recordings"] == 10
    assert made(source, out)["new"] == 0
    assert np.load(private / "prepared.npy").shape == (10, 40) and not list(private.glob("next.*"))


def test_notes_on_a_store_that_never_was_are_not_believed(tmp_path):
    source, out = stills(tmp_path / "s", "12345678"), tmp_path / "out"
    made(source, out)
    checksum = Store.open(out).checksum
    still(source, "9")
    with pytest.raises(ZeroDivisionError):
        made(source, out, progress=lambda things, total, what: 1 / (what != "writing") and things)
    for place in ("images", "masks"):
        (source / place / "9.png").unlink()
    for _ in range(2):
        assert made(source, out)["new"] == 0 and Store.open(out).checksum == checksum


def test_ctrl_c_ends_the_workers_and_keeps_what_is_done(tmp_path):
    source = tmp_path / "s"
    stills(source, "1234")
    for name in "abcdef":
        video(source / f"{name}.mkv", clip(300, 64, 64))
    program = Path(__file__).parent.parent / "launch" / "prepare.py"
    command = [sys.executable, program, f"--source={source}", f"--out={tmp_path / 'out'}", "--size=16", "--workers=1"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
    parts, begun = tmp_path / "out.private" / "parts", time.monotonic()
    while not [p for p in parts.glob("*") if p.suffix != ".partial"] and time.monotonic() - begun < 60:
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait(30) == 130 and "Traceback" not in running.stderr.read()
    kept = [p.name for p in parts.iterdir() if p.suffix != ".partial"]
    assert kept and not (tmp_path / "out").exists()
    with pytest.raises(ProcessLookupError):  # nobody of its group is left, once the system has swept up
        while time.monotonic() - begun < 90:
            os.killpg(running.pid, 0)
            time.sleep(0.05)
    assert made(source, tmp_path / "out", beam=True, keep_names=False)["new"] == 10 - len(kept)
