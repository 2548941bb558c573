"""Stills and sweeps: a whole run, an update run again, and runs killed at any moment."""

import json
import subprocess
import sys
from pathlib import Path

import fetuses
import pytest

from uscl.config.anatomy import METHODS
from uscl.data.store import Store
from uscl.stages import anatomy, replay
from uscl.train import guards


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return fetuses.make_store(tmp_path_factory.mktemp("store") / "fetuses")


@pytest.fixture(scope="module")
def done(store, tmp_path_factory):
    folders = {method: tmp_path_factory.mktemp(method) for method in METHODS}
    for method, folder in folders.items():
        fetuses.run(fetuses.config(store, **{"anatomy.method": method}), folder)
    return folders


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_run_looks_and_is_not_trained_again(method, done, store):
    found = lines(done[method])
    assert [line["step"] for line in found] == [1, 2, 3, 4] and {line["stage"] for line in found} == {"anatomy"}
    assert all(0 <= line[name] <= 1 for line in found[1::2] for name in ("validation", "linear_f1"))
    assert ("cross_entropy" in found[0]) == (method == "uscl") and ("positives" in found[0]) == (method == "awcl")
    before = (done[method] / "metrics.jsonl").read_bytes()
    fetuses.run(fetuses.config(store, **{"anatomy.method": method}), done[method])
    assert (done[method] / "metrics.jsonl").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_an_update_run_again_has_the_runs_own_metrics(method, done, store):
    told = lines(done[method])[2]
    made = fetuses.config(store, **{"anatomy.method": method})
    with fetuses.opened(made, done[method].parent / "beside") as opened:
        batches = anatomy.make_batches(opened)
    assert batches.store.checksum == Store.open(store).checksum
    guards.Keep(done[method] / "anatomy", seed=0, tell=print)(3, {"loss": float("nan")}, batches.batch(2))
    with fetuses.small():
        first, *metrics, last = replay.replay(done[method], "anatomy", 3)
    assert first.endswith("its batch is what the store gives") and last == "every output, term and gradient is finite"
    found = dict(line.split() for line in metrics)
    assert found["loss"] == f"{told['loss']:.6g}" and found.items() <= {name: f"{told[name]:.6g}" for name in found}.items()


KILLS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import conftest  # the kept programs
import kill_runs
import fetuses

made = fetuses.config(sys.argv[3], **{"anatomy.steps": 8, "anatomy.near.kind": "binary"})
print(kill_runs.main(4, 0, Path(sys.argv[1]), lambda workdir: fetuses.run(made, workdir), ["anatomy"], saves=4))
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bytes(store, tmp_path):
    tests = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", KILLS, tmp_path, tests, store], capture_output=True, text=True, timeout=900, cwd=tests)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("the same") == 4, done.stdout
