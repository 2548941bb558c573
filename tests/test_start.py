"""A run that begins from another's weights: which weights those are, what is refused, and that it ends as one run of all stages does."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import pytest

from uscl import config as uscl_config
from uscl.stages import experiment, start
from uscl.train.checkpoint import Checkpoints
from uscl.types import UserError


@dataclass
class Store:
    """As much of a store as `start` asks for."""

    checksum: str = "abc"
    path: Path = Path("/stores/mine")

    def patients(self, part):
        return {"test": ["somebody"]}[part]


def config(**changes):
    made = uscl_config.default()
    made.update_from_flattened_dict(changes)
    return made


def weights(number):
    kernel, mean = np.full((2, 3), number, np.float32), np.arange(3.0) + number
    return {"params": {"encoder": {"kernel": kernel}}, "batch_stats": {"encoder": {"mean": mean}}}


def finished(folder, *, steps=4, best=None, checksum="abc", stages=("encoder",), last=None):
    """A run's folder as far as `start` reads it; the last weights are 1s, the best ones, where it validated, 2s."""
    made = config(**{"stages": stages, **{f"{s}.steps": steps for s in stages if s in ("encoder", "decoder", "finetune")}})
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(made.to_json())
    (folder / "environment.json").write_text(json.dumps({"store": {"path": "/stores/other", "checksum": checksum}}))
    tree = {"state": {**weights(1), "step": np.int32(steps)}, "best": best and {**weights(2), "score": np.float32(0.5)}}
    trained = [s for s in stages if s != "evaluate"][-1]
    Checkpoints(folder / trained / "checkpoints").save(last or steps, tree)
    return str(folder)


def test_the_last_weights_are_carried_or_the_best_of_a_stage_that_validates(tmp_path):
    plain, looked = finished(tmp_path / "a"), finished(tmp_path / "b", best=True, stages=("finetune", "evaluate"))
    for path, number in ((plain, 1), (looked, 2)):
        found = start.carried(config(start=path), store=Store())
        jax.tree.map(np.testing.assert_array_equal, found, weights(number))
        assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(found))
    assert start.carried(config(), store=Store()) is None


@pytest.mark.parametrize(
    "made,asked,told",
    [
        ({"checksum": "other"}, {}, "learnt from a store with the checksum other, /stores/mine has abc"),
        ({"last": 3}, {}, r"at update 3 of 4; let that run end"),
        ({"stages": ("nnunet", "evaluate")}, {}, "ends with 'nnunet'; allowed"),
        ({}, {"stages": ("nnunet", "evaluate")}, "together with the stage 'nnunet'"),
        ({}, {"model.width": (1, 2, 3, 4, 5, 6)}, r"config\.model\.width: found \[1, 2, 3, 4, 5, 6\]; the run in .* has \[16, 32"),
        ({}, {"model.normalise": "none"}, r"config\.model\.normalise: found 'none'"),
    ],
)
def test_what_does_not_fit_is_refused(made, asked, told, tmp_path):
    path = finished(tmp_path / "run", **made)
    with pytest.raises(UserError, match=told) as caught:
        start.carried(config(start=path, **asked), store=Store())
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(UserError, match=rf"config\.start: {tmp_path / 'config.json'} can't be read"):
        start.carried(config(start=str(tmp_path)), store=Store())


def test_a_checksum_is_of_the_weights_wherever_they_lie(tmp_path):
    one = finished(tmp_path / "one")
    again = finished(tmp_path / "again" / "deeper")  # trained anew, to the same weights
    other = finished(tmp_path / "other", best=True)
    assert start.checksum(one) == start.checksum(again) != start.checksum(other) and start.checksum("") == ""


def test_the_weights_may_move_but_not_change(tmp_path):
    old, folder = finished(tmp_path / "old"), tmp_path / "run"
    mine = config(start=old)
    experiment.keep_config(folder, mine)
    experiment.keep_data(folder, Store(), start=old)
    assert json.loads((folder / "environment.json").read_text())["start"] == {"path": old, "checksum": start.checksum(old)}
    (folder / "finetune" / "checkpoints" / "3").mkdir(parents=True)
    moved, other = str(tmp_path / "moved"), finished(tmp_path / "other", best=True)
    shutil.move(old, moved)
    experiment.keep_config(folder, config(start=moved))
    for wrong in ({"start": other}, {}):
        with pytest.raises(UserError, match=r"config\.start was .*moved' here and is .* now \(other weights to start from\)"):
            experiment.keep_config(folder, config(**wrong))
    shutil.rmtree(moved)
    finished(Path(moved), best=True)
    with pytest.raises(UserError, match=f"{moved}: the checksum of the start is"):
        experiment.keep_data(folder, Store(), start=moved)


TINY = {
    "data.patients": 8, "data.frames": 8, "data.size": 32, "data.labelled": 2, "model.width": (2,) * 6, "encoder.steps": 3,
    "decoder.steps": 3, "finetune.steps": 4, "encoder.cines": 2, "decoder.cines": 2, "decoder.blocks": 4, "finetune.batch": 4,
    "finetune.validate_every": 2, "evaluate.batch": 4, "evaluate.bootstrap": 100, "log.every": 1, "log.save_every": 2,
}  # fmt: skip


@pytest.mark.slow
def test_in_three_folders_as_in_one(tmp_path):
    """Encoder, decoder and fine-tuning, each begun from the folder before, tell what one run of all three tells, to the last byte."""
    experiment.run(config(**TINY), tmp_path / "whole")
    data = {"data.store": str(tmp_path / "whole" / "data")}
    before, lines = "", b""
    for name, stages in (("first", ("encoder",)), ("second", ("decoder",)), ("third", ("finetune", "evaluate"))):
        experiment.run(config(**TINY, **data, stages=stages, start=before), tmp_path / name)
        before, lines = str(tmp_path / name), lines + (tmp_path / name / "metrics.jsonl").read_bytes()
    assert lines == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    for name in ("results.json", "evaluate/cases.csv"):
        assert (tmp_path / "third" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
