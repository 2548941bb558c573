"""Clips: an update run again, and runs killed at any moment."""

import json
import subprocess
import sys
from pathlib import Path

import lungs
import pytest

from uscl.data.clips import ClipBatches, LabelledClips
from uscl.stages import classify, clips, experiment, replay
from uscl.train import guards


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return lungs.make_store(tmp_path_factory.mktemp("store") / "lungs")


@pytest.fixture(scope="module")
def done(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("done")
    lungs.run(lungs.config(store), folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("place, update", [("video", 3), ("classify/finetuned_60_0", 4)])
def test_an_update_run_again_has_the_runs_own_metrics(place, update, done, store):
    lines = [json.loads(line) for line in (done / "metrics.jsonl").read_text().splitlines()]
    told = next(line for line in lines if (line["stage"], line["step"]) == (place, update))
    data = experiment.Store.open(store)
    made, patients = lungs.config(store), data.patients("train")
    if place == "video":
        batches = ClipBatches(data, patients, clips=4, frames=4, seed=0, shortest=4)
    else:
        with lungs.small():
            few = classify.few(clips.videos_of(made, data, "train"), 0.6, seed=0)
        batches = LabelledClips(data, few.cine, few.label, batch=4, frames=4, seed=0)
    guards.Keep(done / place, seed=0, tell=print)(update, {"loss": float("nan")}, batches.batch(update - 1))
    with lungs.small():
        first, *metrics, last = replay.replay(done, place, update)
    assert first.endswith("its batch is what the store gives") and last == "every output, term and gradient is finite"
    found = dict(line.split() for line in metrics)
    assert found["loss"] == f"{told['loss']:.6g}" and found.items() <= {name: f"{told[name]:.6g}" for name in found}.items()


KILLS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import conftest  # the kept programs
import kill_runs
import lungs

made = lungs.config(sys.argv[3], **{"classify.draws": 1, "video.steps": 8})
stages = ["video", "classify/supervised_60_0", "classify/finetuned_60_0"]
print(kill_runs.main(4, 0, Path(sys.argv[1]), lambda workdir: lungs.run(made, workdir), stages, saves=4))
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bytes(store, tmp_path):
    tests = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", KILLS, tmp_path, tests, store], capture_output=True, text=True, timeout=900, cwd=tests)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("the same") == 4, done.stdout
