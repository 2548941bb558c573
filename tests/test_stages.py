"""The whole pipeline on a phantom of a few tiny frames: it runs, resumes exactly, skips what is done, refuses what does not fit."""
import csv
import json
import os
import signal

import numpy as np
import pytest

from uscl import config as uscl_config
from uscl.data.loader import CineBatches, LabelledBatches
from uscl.report.figures import Easel
from uscl.stages import experiment
from uscl.types import UserError

pytestmark = pytest.mark.usefixtures("quick_programs")
STEPS = 4


def tiny(**changes):
    config = uscl_config.default()
    config.experiment = "tiny"
    config.update_from_flattened_dict(
        {
            "data.patients": 8, "data.frames": 8, "data.size": 32, "data.labelled": 2, "model.width": (2, 2, 4, 4, 4, 4),
            "encoder.steps": STEPS, "decoder.steps": STEPS, "finetune.steps": STEPS, "encoder.cines": 2, "decoder.cines": 2,
            "decoder.blocks": 4, "finetune.batch": 4, "finetune.validate_every": 2, "finetune.loss.speckle": 1.0,
            "evaluate.batch": 4, "evaluate.bootstrap": 100, "log.every": 1, "log.save_every": 2,
        }
        | changes
    )  # fmt: skip
    return config


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """An undisturbed run. Its report's figures are painted once, as pictures; those inside the page are test_report's."""
    folder = tmp_path_factory.mktemp("done")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Easel, "_svg", lambda self, panel: "<svg></svg>")
        experiment.run(tiny(), folder)
    return folder


@pytest.fixture
def undrawn(monkeypatch):
    """Ends runs without their report, half of a tiny run's time, where nobody looks at it."""
    monkeypatch.setattr(experiment.report, "draw", lambda folder: folder)


def test_a_run_leaves_what_the_contract_promises(done):
    for name in ("config.json", "environment.json", "run.log", "metrics.jsonl", "results.json", "report.html"):
        assert (done / name).stat().st_size > 0, name
    lines = [json.loads(line) for line in (done / "metrics.jsonl").read_text().splitlines()]
    trained = ("encoder", "decoder", "finetune")
    assert [(line["stage"], line["step"]) for line in lines] == [(stage, n + 1) for stage in trained for n in range(STEPS)]
    assert all(np.isfinite(line["loss"]) for line in lines)
    for stage in trained:
        assert (done / stage / "checkpoints" / str(STEPS)).is_dir()
    assert list((done / "plots").glob("*.png"))


def test_results_are_the_cases_means(done):
    """Written once more from cases.csv, by hand."""
    results = json.loads((done / "results.json").read_text())
    cases = list(csv.DictReader((done / "evaluate" / "cases.csv").open()))
    assert results["classes"] == ["capsule", "cortex", "medulla", "central_echo_complex"]
    assert results["n_test"] * 4 == len(cases) and results["n_test_patients"] == len({case["patient"] for case in cases})
    for name in ("dsc", "hd95_mm", "delta_snr"):
        for label, found in results["metrics"][name]["per_class"].items():
            values = [float(case[name]) for case in cases if case["class"] == label]
            assert found["mean"] == pytest.approx(np.nanmean(values), abs=1e-6), (name, label)
    assert results["metrics"]["dsc"]["mean"] == pytest.approx(np.mean([float(case["dsc"]) for case in cases]), abs=1e-6)


def test_the_same_command_again_trains_nothing(done, undrawn):
    before = {name: (done / name).read_bytes() for name in ("results.json", "metrics.jsonl")}
    checkpoints = {path: path.stat().st_mtime_ns for path in done.glob("*/checkpoints/*")}
    experiment.run(tiny(), done)
    assert before == {name: (done / name).read_bytes() for name in before}
    assert checkpoints == {path: path.stat().st_mtime_ns for path in done.glob("*/checkpoints/*")}


def test_interrupted_in_every_stage_and_resumed_equals_undisturbed(done, undrawn, tmp_path, monkeypatch):
    """Ctrl-C while each stage's second batch is fetched, and the same command once more after each."""
    stages, hit = ("encoder", "decoder", "finetune"), []

    def ended(stage):
        return (tmp_path / stage / "checkpoints" / str(STEPS)).exists()

    def interrupt(patched, kind):
        fetch = kind.batch

        def batch(self, step):
            running = next(stage for stage in stages if not ended(stage))
            if step == 1 and running not in hit:
                hit.append(running)
                os.kill(os.getpid(), signal.SIGINT)
            return fetch(self, step)

        patched.setattr(kind, "batch", batch)

    with monkeypatch.context() as patched:
        for kind in (CineBatches, LabelledBatches):
            interrupt(patched, kind)
        for number, stage in enumerate(stages):
            with pytest.raises(SystemExit) as stopped:
                experiment.run(tiny(), tmp_path)
            assert stopped.value.code == 130 and hit == list(stages[: number + 1]) and not (tmp_path / "results.json").exists()
            assert not ended(stage) and all(ended(before) for before in stages[:number])
    experiment.run(tiny(), tmp_path)
    for name in ("results.json", "metrics.jsonl", "evaluate/cases.csv"):
        assert (tmp_path / name).read_bytes() == (done / name).read_bytes(), name


def test_a_folder_is_one_experiment(done):
    with pytest.raises(UserError, match=r"config\.finetune\.steps was 4 here and is 5 now"):
        experiment.run(tiny(**{"finetune.steps": 5}), done)
    experiment.keep_config(done, tiny(**{"log.every": 3}))  # what only tells more or less may change


def test_an_unknown_stage_is_named(tmp_path):
    with pytest.raises(UserError, match=r"config\.stages: found 'encode'; allowed are encoder, decoder"):
        experiment.run(tiny(stages=("encode",)), tmp_path)


def test_a_temporal_rule_reaches_both_stages(undrawn, tmp_path):
    """Weights of the first batch by hand; pretraining alone is a run too."""
    config = tiny(stages=("encoder", "decoder"), **{"encoder.steps": 1, "decoder.steps": 1})
    config.temporal.update(kind="linear", negatives="all", loss="pairwise")
    config.temporal.stages = ("encoder", "decoder")
    experiment.run(config, tmp_path)
    for stage in ("encoder", "decoder"):
        saved = np.load(tmp_path / stage / "pairs.npz")
        gap = np.abs(saved["frame"][:, None] - saved["frame"]).astype(float)
        same = saved["cine"][:, None] == saved["cine"]
        np.testing.assert_allclose(saved["weights"], same * (1 - gap / 8), atol=1e-6)
        inside = saved["negative"][: len(gap), : len(gap)][same & (gap > 0)]
        np.testing.assert_allclose(inside, (gap / 8)[same & (gap > 0)], atol=1e-6)
