"""Heads of phantom fetuses: a ResNet pretrained on planes becomes the encoder of a network that segments, from the data to the report."""

import json
from unittest import mock

import jax
import numpy as np
import pytest
from fetuses import SMALL, STEPS, config

from uscl.stages import experiment, stills
from uscl.train import checkpoint

WIDTH = 4
FEATURES = {"resnet_unet": 16, "resnet_fpn": 2 * WIDTH}  # of the map that the tail sees
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=FEATURES)
def ran(request, tmp_path_factory):
    """(network, folder) of a run on eight fetuses whose encoder stays as its pretraining left it."""
    folder = tmp_path_factory.mktemp(request.param)
    changes = {
        "data.patients": 8, "data.frames": 8, "data.cines": 9, "data.size": 40, "data.validation": 0.2, "data.test": 0.4,
        "anatomy.width": WIDTH, "finetune.network": request.param, "finetune.freeze": ("encoder",), "finetune.steps": STEPS,
        "finetune.batch": 4, "finetune.validate_every": 2, "finetune.loss.speckle": 1.0, "evaluate.batch": 4,
    }  # fmt: skip
    with mock.patch.dict(stills.PLANS, {18: SMALL}):
        experiment.run(config(stages=("anatomy", "finetune", "evaluate"), **changes), folder)
    return request.param, folder


def kept(folder, stage):
    return checkpoint.load_weights(folder / stage / "checkpoints" / str(STEPS))["state"]


def test_the_pretrained_encoder_segments(ran):
    network, folder = ran
    before, after = (kept(folder, stage)["params"] for stage in ("anatomy", "finetune"))
    assert set(before) == {"encoder", "projector"} and set(after) == {"encoder", "decoder", "tail"}
    assert jax.tree.structure(before["encoder"]) == jax.tree.structure(after["encoder"])
    jax.tree.map(np.testing.assert_array_equal, after["encoder"], before["encoder"])
    assert set(after["decoder"]) == ({"blocks", "up"} if network == "resnet_unet" else {"lateral1", "lateral2", "smooth1", "smooth2"})


def test_it_is_evaluated_with_all_parts_of_the_report(ran):
    network, folder = ran
    results = json.loads((folder / "results.json").read_text())
    assert results["classes"] == ["head"] and 0 <= results["metrics"]["dsc"]["mean"] <= 1 and results["n_test"] == 6
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines] == ["anatomy"] * STEPS + ["finetune"] * STEPS
    assert all(np.isfinite(line["loss"]) for line in lines)
    found = dict(np.load(folder / "evaluate" / "embedding.npz", allow_pickle=False))
    assert found["z"].shape == (len(found["cine"]), 2 * WIDTH) and np.ptp(found["z"], axis=0).max() > 0
    assert found["region_z"].shape == (results["n_test"], FEATURES[network]) and set(found["region_class"]) == {"head"}
    page = (folder / "report.html").read_text()
    assert '<p class="missing">' not in page and all(f'id="{part}"' in page for part in ("classes", "cases", "nakagami", "embedding"))
