"""What a run can begin from, by the kind of its network: whose encoder fits which segmenting network, and a public ResNet's file."""

import hashlib
import json
import shutil
from unittest import mock

import fetuses
import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from uscl import config as uscl_config
from uscl.stages import kinds, start, stills
from uscl.train.checkpoint import Checkpoints, load_weights
from uscl.types import UserError

RESNET = {"finetune.network": "resnet_unet"}


class Store:
    """As much of a store as `start` asks for."""

    checksum, path = "abc", "/stores/mine"

    def patients(self, part):
        return ["somebody"]


def config(**changes):
    made = uscl_config.default()
    made.update_from_flattened_dict(changes)
    return made


def finished(folder, **changes):
    made = config(**{"stages": ("anatomy",), "anatomy.steps": 2, "finetune.steps": 2} | changes)
    folder.mkdir()
    (folder / "config.json").write_text(made.to_json())
    (folder / "environment.json").write_text(json.dumps({"store": {"checksum": "abc"}}))
    state = {"params": {"encoder": {"kernel": np.ones(2)}}, "batch_stats": {}, "step": np.int32(2)}
    Checkpoints(folder / kinds.trained(json.loads(made.to_json())) / "checkpoints").save(2, {"state": state})
    return str(folder)


@pytest.mark.parametrize("stages, network, told", [
    (("anatomy", "finetune", "evaluate"), "resnet_fpn", ""),
    (("encoder", "decoder", "finetune", "evaluate"), "unet", ""),
    (("anatomy", "planes", "finetune"), "unet", "'anatomy' before 'finetune'; .* stills, .* frames, .* choose a config.finetune.network"),
    (("encoder", "finetune"), "resnet_unet", "'encoder' before 'finetune'; .* network of frames, the second one of stills"),
    (("video", "finetune"), "resnet_unet", "'video' before 'finetune'; .* make them two runs$"),
])  # fmt: skip
def test_the_order_of_stages(stages, network, told):
    made = config(**{"stages": stages, "finetune.network": network})
    if not told:
        return kinds.check_order(made)
    with pytest.raises(UserError, match=f"config.stages: found {told}"):
        kinds.check_order(made)


@pytest.mark.parametrize("theirs, ours, told", [
    ({}, {"stages": ("finetune", "evaluate"), **RESNET}, ""),
    ({}, {"stages": ("finetune", "evaluate")}, "ends with a network of stills; config.stages begins with one of frames"),
    ({"stages": ("finetune", "evaluate"), **RESNET}, {"stages": ("planes",)}, ""),
    ({"stages": ("finetune",), **RESNET}, {"stages": ("evaluate",), **RESNET}, ""),
    ({"stages": ("finetune",), "finetune.network": "resnet_fpn"}, {"stages": ("planes", "evaluate"), **RESNET},
     r"config\.finetune\.network: found 'resnet_unet'; .* has 'resnet_fpn'"),
    ({"stages": ("finetune",), "finetune.network": "resnet_fpn"}, {"stages": ("anatomy", "finetune"), **RESNET}, ""),
    ({"stages": ("finetune",)}, {"stages": ("finetune",), **RESNET}, "ends with a network of frames; .* one of stills"),
    ({}, {"stages": ("finetune",), "anatomy.width": 32, **RESNET}, r"config\.anatomy\.width: found 32; .* has 16"),
    ({"stages": ("encoder",), "encoder.steps": 2}, {"stages": ("finetune",)}, ""),
])  # fmt: skip
def test_what_a_run_can_begin_from(theirs, ours, told, tmp_path):
    made = config(start=finished(tmp_path / "run", **theirs), **ours)
    if not told:
        assert start.carried(made, store=Store())["params"]["encoder"]["kernel"].tolist() == [1, 1]
        return
    with pytest.raises(UserError, match=told):
        start.carried(made, store=Store())


def test_runs_from_before_there_was_a_choice(tmp_path):
    folder = finished(tmp_path / "run", stages=("finetune",))
    kept = json.loads((tmp_path / "run" / "config.json").read_text())
    del kept["finetune"]["network"], kept["start_elsewhere"]
    (tmp_path / "run" / "config.json").write_text(json.dumps(kept))
    assert start.carried(config(start=folder, stages=("evaluate",)), store=Store())


def public():
    """A ResNet of a block in each of two stages under torchvision's names; each tensor is filled with another number."""
    layers = {"conv1": (64, 3, 7, 7)} | {f"layer1.0.conv{k}": (64, 64, 3, 3) for k in (1, 2)}
    layers |= {"layer2.0.conv1": (128, 64, 3, 3), "layer2.0.conv2": (128, 128, 3, 3), "layer2.0.downsample.0": (128, 64, 1, 1)}
    tensors = {}
    for conv, shape in layers.items():
        norm = conv.replace("conv", "bn").replace("downsample.0", "downsample.1")
        tensors[f"{conv}.weight"] = np.full(shape, len(tensors), np.float32)
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{norm}.{leaf}"] = np.full(shape[0], len(tensors), np.float32)
    return tensors | {"fc.weight": np.ones((5, 128), np.float32)}


@pytest.fixture
def file(tmp_path):
    path = str(tmp_path / "resnet.safetensors")
    save_file(public() | {"conv1.weight": np.full((64, 3, 7, 7), 2, np.float32)}, path)
    with mock.patch.dict(stills.PLANS, {depth: {"blocks": (1, 1), "bottleneck": depth == 50} for depth in (18, 50)}):
        yield path


def test_a_public_file_is_an_encoder(file):
    for stages, more in ((("planes",), {}), (("anatomy", "planes"), {}), (("finetune", "evaluate"), RESNET)):
        found = start.carried(config(**{"start": file, "stages": stages, "anatomy.width": 64} | more), store=Store())
        assert {kind: list(tree) for kind, tree in found.items()} == {"params": ["encoder"], "batch_stats": ["encoder"]}
        encoder, statistics = found["params"]["encoder"], found["batch_stats"]["encoder"]
        assert set(encoder) == {"stem", "stage1", "stage2"}
        np.testing.assert_array_equal(encoder["stem"]["kernel"], np.full((7, 7, 1, 64), 6, np.float32))
        names = list(public())
        skip = encoder["stage2"]["block1"]["skip"]["kernel"]
        assert skip.shape == (1, 1, 64, 128) and (skip == names.index("layer2.0.downsample.0.weight")).all()
        assert (statistics["stage1"]["block1"]["conv2"]["var"] == names.index("layer1.0.bn2.running_var")).all()
    with open(file, "rb") as opened:
        assert start.checksum(file) == hashlib.sha256(opened.read()).hexdigest()


@pytest.mark.parametrize("changes, told", [
    ({"stages": ("encoder",)}, "config.start: .*resnet.safetensors names .* of a ResNet.* begins with a network of frames"),
    ({"stages": ("finetune",)}, "begins with a network of frames"),
    ({"stages": ("classify",)}, "begins with a network of clips"),
    ({"stages": ("nnunet", "evaluate")}, "together with the stage 'nnunet'"),
    ({"anatomy.width": 32}, "config.anatomy.width: found 32; the weights in .*resnet.safetensors.* need 64"),
    ({"anatomy.depth": 50}, "config.start: .*resnet.safetensors does not fit config.anatomy.depth=50: .*layer"),
    ({"start": "/nowhere/weights.pth"}, "/nowhere/weights.pth: is a pickle, which is never opened"),
    ({"start": "/nowhere/weights.safetensors"}, "/nowhere/weights.safetensors: can't be read"),
])  # fmt: skip
def test_a_file_that_does_not_fit(changes, told, file):
    made = config(**{"start": file, "stages": ("planes",), "anatomy.width": 64} | changes)
    with pytest.raises(UserError, match=told) as caught:
        start.carried(made, store=Store())
    assert "\n" not in str(caught.value)


def test_a_file_that_is_gone_has_no_checksum(tmp_path):
    with pytest.raises(UserError, match=r"config\.start: .*gone\.safetensors can't be read: No such file"):
        start.checksum(str(tmp_path / "gone.safetensors"))


@pytest.mark.slow
def test_a_run_on_a_public_file(file, tmp_path):
    """Its encoder is what the frozen mode holds still, and the file's checksum is kept: the file may move, but not change."""
    made = {"stages": ("planes",), "start": file, "anatomy.width": 64, "planes.modes": ("features",)}
    store, run = fetuses.make_store(tmp_path / "store"), tmp_path / "run"
    fetuses.run(fetuses.config(store, **made), run)
    kept = load_weights(run / "planes" / "networks" / "features")
    with fetuses.small():
        found = start.carried(fetuses.config(store, **made), store=Store())
    for kind in ("params", "batch_stats"):
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(kept[kind]["encoder"]), found[kind]["encoder"])
    assert json.loads((run / "environment.json").read_text())["start"] == {"path": file, "checksum": start.checksum(file)}
    moved = shutil.copy(file, str(tmp_path / "moved.safetensors"))
    fetuses.run(fetuses.config(store, **made | {"start": moved}), run)
    (run / "planes" / "checkpoints" / "1").mkdir(parents=True)
    save_file(public() | {"bn1.bias": np.ones(64, np.float32)}, moved)
    with pytest.raises(UserError, match="moved.safetensors: the checksum of the start is"):
        fetuses.run(fetuses.config(store, **made | {"start": moved}), run)
