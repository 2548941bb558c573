"""nnU-Net from a phantom to its results with the real augmentation: folds, interruptions, two processes."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import nnunets
from nnunets import STEPS, rows_of, tiny
from uscl.data.patches import PatchBatches
from uscl.models.plan import read_plan
from uscl.stages import experiment, nnunet_loss, replay
from uscl.train import guards

plans, made = nnunets.plans, nnunets.made  # fixtures


@pytest.mark.slow
def test_five_folds_interrupted_and_resumed_equal_undisturbed(tmp_path, plans, monkeypatch):
    """Regions, upright and speckle as well: SIGINT while a batch of the third fold is fetched, then the same command once more."""
    changes = {"nnunet.folds": "five", "nnunet.regions": True, "nnunet.upright": True, "nnunet.loss.speckle": 1.0, "nnunet.plans": plans}
    experiment.run(tiny(**changes), tmp_path / "whole")
    fetch, seen = PatchBatches.batch, []

    def batch(self, step, **how):
        if (tmp_path / "cut/nnunet/fold_1/checkpoints/4").exists() and step == 1 and not seen:
            seen.append(step)
            os.kill(os.getpid(), signal.SIGINT)
        return fetch(self, step, **how)

    monkeypatch.setattr(PatchBatches, "batch", batch)
    with pytest.raises(SystemExit) as stopped:
        experiment.run(tiny(**changes), tmp_path / "cut")
    assert stopped.value.code == 130 and seen and not (tmp_path / "cut/nnunet/fold_2/checkpoints/4").exists()
    monkeypatch.undo()
    experiment.run(tiny(**changes), tmp_path / "cut")
    for name in ("results.json", "metrics.jsonl", "evaluate/cases.csv", "nnunet/postprocessing.json", "nnunet/plans.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes(), name
    lines = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines] == [f"nnunet_fold_{k}" for k in range(5) for _ in range(STEPS)]
    assert all({"dice", "cross_entropy", "speckle"} <= line.keys() for line in lines)
    assert json.loads((tmp_path / "whole/results.json").read_text())["n_train_labels"] == 12
    page = (tmp_path / "whole/report.html").read_text()
    for told in ("5 networks", "a sigmoid for each of 4 regions", "upright: turns up to ±15°", "nnunet_fold_4"):
        assert told in page, told
    assert 'id="embedding"' not in page  # nnU-Net has none


@pytest.mark.slow
def test_an_update_of_a_fold_run_again(tmp_path, plans):
    kept, fetch = {}, PatchBatches.batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PatchBatches, "batch", lambda self, n: kept.setdefault((self.seed, n), fetch(self, n)))
        experiment.run(tiny(**{"nnunet.folds": "five", "nnunet.plans": plans}), tmp_path)
    seed = list(dict.fromkeys(seed for seed, _ in kept))[1]  # the second fold's
    guards.Keep(tmp_path / "nnunet/fold_1", seed=0, tell=print)(STEPS, {"loss": float("nan")}, kept[seed, STEPS - 1])
    _, *metrics, last = replay.replay(tmp_path, "nnunet/fold_1", STEPS)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    line = next(line for line in lines if line["stage"] == "nnunet_fold_1" and line["step"] == STEPS)
    told = dict(m.split() for m in metrics)
    assert last == "every output, term and gradient is finite" and {"dice", "cross_entropy", "loss"} <= told.keys()
    assert told == {name: f"{line[name]:.6g}" for name in told}


@pytest.mark.slow
def test_no_label_outside_the_image_reaches_the_loss(made):
    """A store with black borders gives -1 in its patches; what comes out of the augmentation has none."""
    run = made()
    batches = PatchBatches(run.store, rows_of(run, "train"), patch=(32, 32), read=(45, 45), batch=8, masked=True, seed=0)
    batch = batches.batch(0)
    assert (batch["label"] == -1).mean() > 0.2
    pair = jax.jit(lambda key, image, label: nnunet_loss.nnunet_pair(key, image, label, size=(32, 32), masked=True))
    for step in range(3):
        _, label = pair(jax.random.key(step), batch["image"], batch["label"])
        assert label.shape == (8, 32, 32) and set(np.unique(label)) <= set(range(4))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["all", "planned"])
def test_other_ways_to_train(how, tmp_path):
    """One network on train and validation, with nothing to decide post-processing on; a residual network, planned here."""
    changes = {"all": {"nnunet.folds": "all"}, "planned": {"nnunet.preset": "resenc_m"}}[how]
    experiment.run(tiny(**{"nnunet.batch": 4, "nnunet.base": 2} | changes), tmp_path)
    assert (tmp_path / "nnunet/postprocessing.json").exists() == (how == "planned")
    assert read_plan(tmp_path / "nnunet/plans.json").residual == (how == "planned")
    assert json.loads((tmp_path / "results.json").read_text())["n_train_labels"] == {"all": 12, "planned": 10}[how]


@pytest.mark.slow
def test_two_processes_run_as_one(tmp_path, plans):
    """Two processes of four devices, each reading its half of every batch, and one of four: the same numbers."""
    changes = {"nnunet.plans": plans, "nnunet.batch": 8}
    experiment.run(tiny(**changes), tmp_path / "alone")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    changes["data.store"] = str(tmp_path / "alone/data")
    command = [sys.executable, __file__, json.dumps(changes), str(tmp_path / "both"), str(port)]
    processes = [subprocess.Popen([*command, str(number)], stderr=subprocess.PIPE, text=True) for number in range(2)]
    try:
        told = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(told)
    one, two = ([json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()] for name in ("alone", "both"))
    assert len(one) == len(two) == STEPS
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys() and all(b[name] == pytest.approx(a[name], rel=1e-3) for name in ("loss", "dice", "gradient_norm"))
    found = [json.loads((tmp_path / name / "results.json").read_text())["metrics"]["dsc"]["mean"] for name in ("alone", "both")]
    assert found[0] == pytest.approx(found[1], abs=0.02)


if __name__ == "__main__":
    from uscl.train import hosts

    hosts.start(coordinator=f"127.0.0.1:{sys.argv[3]}", processes=2, process=int(sys.argv[4]))
    experiment.run(tiny(**json.loads(sys.argv[1])), Path(sys.argv[2]))
