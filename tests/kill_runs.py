"""Runs killed with SIGKILL at any moment end with the bytes of an undisturbed one: python tests/kill_runs.py --runs=50

Each run is the real command, launch/main.py on a tiny phantom. It is killed once or twice and started again until it is
done; then the parameters, the best ones, the optimizer state and the position of each stage's last checkpoint and
metrics.jsonl are compared, byte for byte. Every other kill is by the clock, at a moment drawn over the length of a run; the
others wait until a checkpoint is being written (or removed) and kill within its few milliseconds.

Starts are forked from one process that has done the imports, which are most of the time of so short a run.
"""
import argparse
import hashlib
import json
import os
import random
import runpy
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent
STAGES = ("encoder", "decoder", "finetune")
SETTING = {
    "stages": STAGES, "data.patients": 8, "data.frames": 8, "data.size": 32, "data.labelled": 2, "model.width": (2,) * 6,
    "encoder.steps": 12, "decoder.steps": 12, "finetune.steps": 12, "encoder.cines": 2, "decoder.cines": 2, "decoder.blocks": 4,
    "finetune.batch": 4, "finetune.validate_every": 4, "evaluate.batch": 4, "log.every": 1, "log.save_every": 2,
}  # fmt: skip
LONGEST = 900.0  # seconds one start may take


def command(workdir: Path) -> None:
    """The command a user types, less its imports and its report."""
    os.chdir(ROOT)
    changes = [f"--config.{key}={value}" for key, value in SETTING.items()]
    sys.argv = ["launch/main.py", "--config=configs/speckle.py", f"--workdir={workdir}", *changes]
    runpy.run_path("launch/main.py", run_name="__main__")


def start(workdir: Path, work: Callable[[Path], object]) -> int:
    """Forks a process that does the work, and returns its number; what it prints goes to WORKDIR.txt."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            out = os.open(f"{workdir}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(out, 1)
            os.dup2(out, 2)
            work(workdir)
            status = 0
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return pid


def ended(pid: int) -> int | None:
    """Exit status, negative for a signal, or None while it runs."""
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def finish(workdir: Path, work: Callable[[Path], object]) -> float:
    """Starts the work and lets it end by itself; seconds it took."""
    began, pid = time.monotonic(), start(workdir, work)
    while (status := ended(pid)) is None:
        if time.monotonic() - began > LONGEST:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    if status != 0:
        raise SystemExit(f"{workdir}: ended with status {status}\n" + Path(f"{workdir}.txt").read_text()[-3000:])
    return time.monotonic() - began


def saving(workdir: Path) -> bool:
    """Whether a checkpoint is being written or removed at this moment."""
    return any(True for _ in workdir.glob("*/checkpoints/*.partial*"))


def kill(workdir: Path, work: Callable[[Path], object], draw: random.Random, length: float, *, saves: int, aimed: bool) -> str:
    """Starts the work and kills it; "save" or "elsewhere" for where it was hit, "late" if it had ended before."""
    after, skip = draw.uniform(0.1, 1.0) * length, draw.randrange(saves) if aimed else 0
    began, pid, were = time.monotonic(), start(workdir, work), False
    while True:
        now = saving(workdir) if aimed else False
        skip -= were and not now  # this one has passed
        were = now
        if (now and skip <= 0) if aimed else (time.monotonic() - began >= after):
            time.sleep(draw.uniform(0, 0.01) if aimed else 0)
            break
        if ended(pid) is not None:
            return "late"
        time.sleep(0.001 if aimed else 0.01)
    os.kill(pid, signal.SIGKILL)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != -signal.SIGKILL:
        return "late"
    return "save" if saving(workdir) else "elsewhere"


def contents(workdir: Path, stages: Iterable[str]) -> dict[str, str]:
    """What must not differ: metrics.jsonl, and every leaf of each stage's newest checkpoint, by their bytes."""
    import jax

    from uscl.train import checkpoint

    found = {"metrics.jsonl": hashlib.sha256((workdir / "metrics.jsonl").read_bytes()).hexdigest()}
    for stage in stages:
        store = checkpoint.Checkpoints(workdir / stage / "checkpoints")
        newest = store.latest()
        found[f"{stage}"] = str(newest)
        for name, leaf in jax.tree_util.tree_leaves_with_path(checkpoint.load_weights(store.folder / str(newest))):
            told = str((leaf.dtype, leaf.shape)).encode() + jax.device_get(leaf).tobytes()
            found[f"{stage}{jax.tree_util.keystr(name)}"] = hashlib.sha256(told).hexdigest()
    return found


def apart(workdir: Path, stages: Iterable[str]) -> dict[str, str]:
    """The contents, read in a child: JAX started here would not survive the forks."""
    ends = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(ends[1], json.dumps(contents(workdir, stages)).encode())
        os._exit(0)
    os.close(ends[1])
    with os.fdopen(ends[0], "rb") as file:
        told = file.read()
    os.waitpid(pid, 0)
    return json.loads(told)


def main(runs: int, seed: int, folder: Path, work: Callable[[Path], object], stages: Iterable[str], saves: int) -> dict[str, int]:
    """Kills `runs` runs of `work(workdir)`, of about `saves` saves each. Returns the kills by what they hit.

    Ends with status 1 at the first run that differs from the undisturbed one; its folder then stays.
    """
    reference = folder / "reference"
    finish(reference, work)
    shutil.rmtree(reference)
    length = finish(reference, work)  # a second time: now the programs come from the cache, as they do in what follows
    expected = apart(reference, stages)
    draw, hits = random.Random(seed), {"save": 0, "elsewhere": 0, "late": 0}
    print(f"an undisturbed run takes {length:.1f} s and leaves {len(expected)} things to compare", flush=True)
    for number in range(runs):
        workdir = folder / f"run{number}"
        aimed, times = number % 2 == 0, 1 + (number % 4 == 3)
        told = [kill(workdir, work, draw, length, saves=saves, aimed=aimed) for _ in range(times)]
        for hit in told:
            hits[hit] += 1
        seconds = finish(workdir, work)
        found = apart(workdir, stages)
        wrong = [name for name in sorted(expected | found) if expected.get(name) != found.get(name)]
        verdict = f"DIFFERS: {wrong}" if wrong else "the same"
        print(f"run {number}: hit {', '.join(told)}; then {seconds:.1f} s to the end; {verdict}", flush=True)
        if wrong:
            raise SystemExit(f"{workdir} is not what {reference} is")
        shutil.rmtree(workdir)
    return hits


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the runs live; a temporary folder otherwise")
    given = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from uscl import report  # with the next line, all that a start imports
    from uscl.stages import experiment  # noqa: F401

    report.draw = lambda workdir: workdir  # seconds of every start, and nothing it draws is compared
    where = given.folder or Path(tempfile.mkdtemp(prefix="kill_runs"))
    where.mkdir(parents=True, exist_ok=True)
    counts = main(given.runs, given.seed, where.resolve(), command, STAGES, saves=18)
    print(f"{given.runs} runs, all the same; kills by what they hit: {counts}")
    if given.folder is None:
        shutil.rmtree(where)
