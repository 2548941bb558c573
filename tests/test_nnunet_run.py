"""nnU-Net as a stage of a run: what it leaves, that it is not trained twice, which weights count."""

import csv
import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

import nnunets
from nnunets import PARAMETERS, PLAN, tiny
from uscl.models.plan import read_plan
from uscl.report import pairs, plan
from uscl.report.folder import Folder, Missing
from uscl.stages import experiment, nnunet
from uscl.stages import run as stage_run
from uscl.types import UserError

pytestmark = pytest.mark.usefixtures("quick_programs")
plans, done, made = nnunets.plans, nnunets.done, nnunets.made  # fixtures


def test_a_run_leaves_what_the_contract_promises(done):
    results = json.loads((done / "results.json").read_text())
    assert list(results) == ["experiment", "scale", "classes", "n_test", "n_test_patients", "n_train_labels", "metrics"]
    assert list(results["metrics"]) == ["dsc", "dsc_skip_empty", "hd95_mm", "surface_dice", "delta_snr", "signed_snr"]
    cases = list(csv.DictReader((done / "evaluate" / "cases.csv").open()))
    assert results["n_test"] == 4 and results["n_train_labels"] == 2 * 5 and len(cases) == 4 * len(results["classes"])
    lines = [json.loads(line) for line in (done / "metrics.jsonl").read_text().splitlines()]
    found = [(line["stage"], line["step"], "validation" in line) for line in lines]
    assert found == [("nnunet", 1, False), ("nnunet", 2, True), ("nnunet", 3, False), ("nnunet", 4, True)]
    for line in lines:
        assert line["loss"] == pytest.approx(line["dice"] + line["cross_entropy"], rel=1e-5) and -1 <= line["dice"] < 0
    assert read_plan(done / "nnunet" / "plans.json") == PLAN
    rules = json.loads((done / "nnunet" / "postprocessing.json").read_text())
    assert [step["of"] for step in rules["tried"]] == ["foreground", *results["classes"]]
    facts, table, _, after = plan.section(Folder(done), None)["blocks"]
    assert facts["facts"]["augmentation"].startswith("faithful to nnU-Net: turns up to ±180°, flips of both axes")
    assert facts["facts"]["network"] == f"1 network of {PARAMETERS} parameters, a softmax over 4 label values"
    assert table["table"]["rows"] == [["1", "32 × 32", "4", "3 × 3", "1 × 1", "1", "1"], ["2", "16 × 16", "8", "3 × 3", "2 × 2", "1", "–"]]
    assert len(after["table"]["rows"]) == 1 + len(results["classes"])
    certain = json.loads((done / "evaluate" / "calibration.json").read_text())
    assert sum(certain["bins"]["count"]) == certain["pixels"] > 0 and 0 <= certain["ece"] <= 1
    probability = np.load(done / "evaluate" / "activations.npz")["probability"]
    assert probability.shape == (4, 4, 32, 32) and np.abs(probability.astype(int).sum(1) - 255).max() <= 2
    assert not (done / "evaluate" / "geometry.json").exists() and (done / "evaluate" / "sensitivity.json").exists()
    assert json.loads((done / "cpu.json").read_text()).keys() == {"nnunet", "evaluate"}
    with pytest.raises(Missing, match="evaluate/embedding.npz was not written"):
        pairs.embedding(Folder(done), None)


def test_the_same_command_again_trains_nothing(done, plans, monkeypatch):
    monkeypatch.setattr(experiment.report, "draw", lambda folder: folder)
    before = {path: path.read_bytes() for path in done.rglob("*.json*") if path.name not in ("timing.json", "cpu.json", "environment.json")}
    experiment.run(tiny(**{"nnunet.plans": plans}), done)
    assert before == {path: path.read_bytes() for path in before}
    with pytest.raises(UserError, match=r"config\.nnunet\.epochs was 2 here and is 3 now"):
        experiment.run(tiny(**{"nnunet.plans": plans, "nnunet.epochs": 3}), done)


def test_a_plan_edited_after_the_training_began_is_refused(done, plans):
    path = done / "nnunet" / "plans.json"
    text = path.read_text()
    path.write_text(text.replace('"batch_size": 4', '"batch_size": 8'))
    try:
        with pytest.raises(UserError, match="plans.json: the plan has changed since the training began"):
            experiment.run(tiny(**{"nnunet.plans": plans}), done)
    finally:
        path.write_text(text)


def test_the_last_weights_count_where_they_are_asked_for(made):
    """A weight that grows by 1 with every update, and looks that like it less and less."""
    run = made(devices=1)
    batches = SimpleNamespace(size=2, batch=lambda step, rows=slice(None): {"x": np.ones((2, 1), np.float32)})
    grows = lambda params, stats, batch, key: ({"t": -(params["a"]["w"] * batch["x"]).mean()}, (stats, {}))  # noqa: E731
    for keep, expected in (("last", 4.0), ("best", 2.0)):
        course = stage_run.Course(4, stage_run.optax.sgd(1.0), 2, f"somewhere/{keep}", keep)
        start = {"params": {"a": {"w": jnp.zeros(())}}, "batch_stats": {}}
        found = stage_run.train(run, keep, grows, start, batches, weights={"t": 1.0}, validate=lambda s: -float(s.step), course=course)
        assert float(found["params"]["a"]["w"]) == expected
        assert (run.folder / "somewhere" / keep / "checkpoints" / "4").is_dir()


@pytest.mark.parametrize("speckle", [0.0, 2.0])
def test_what_the_training_is_given(speckle, made, plans):
    """Rate 0.01, then 0.01 (1 - 1/2)^0.9 in the second of two epochs; momentum of a gradient of 1 by hand: 1, 1.99, 2.9701."""
    seen = {}

    def train(run, stage, loss_fn, variables, batches, **how):
        seen.update(how, stage=stage, batches=batches, variables=variables)

    run = made(**{"nnunet.plans": plans, "nnunet.loss.speckle": speckle, "nnunet.upright": True})
    assert nnunet.run(run, None, train=train) is None  # as in a replay, which ends where the update was
    course = seen["course"]
    assert (course.steps, course.validate_every, course.folder, course.keep, seen["stage"]) == (4, 2, "nnunet", "last", "nnunet")
    assert seen["weights"] == {"dice": 1.0, "cross_entropy": 1.0} | ({"speckle": 2.0} if speckle else {})
    assert seen["equalise"] == bool(speckle) and ("gray" in seen["batches"].batch(0)) == bool(speckle)
    assert seen["batches"].batch(0)["image"].shape == (4, 46, 37, 1)  # 32 (cos 15 + sin 15) / 0.85 and 32 / 0.85
    assert nnunet.mirrored_axes(run) == ("columns",) and nnunet.mirrored_axes(made()) == ("rows", "columns")
    params = {"w": jnp.zeros(())}
    state = course.optimizer.init(params)
    for rate, momentum in ((0.01, 1), (0.01, 1.99), (0.01 * 0.5**0.9, 2.9701)):
        update, state = course.optimizer.update({"w": jnp.ones(())}, state, params)
        assert float(update["w"]) == pytest.approx(-rate * (1 + 0.99 * momentum), rel=1e-5)
