"""Knobs, rules and the files in configs/."""
import importlib.util
from pathlib import Path

import pytest

from uscl import config as uscl_config
from uscl.config.knobs import KNOBS
from uscl.types import UserError

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.py"))


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("scale", uscl_config.SCALES)
@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_is_valid_at_both_scales(path, scale):
    config = load(path).get_config(scale)
    uscl_config.validate(config)
    assert (config.experiment, config.scale) == (path.stem, scale)


def test_paper_scale_is_the_papers_protocol():
    config = uscl_config.default("paper")
    assert (config.encoder.steps, config.decoder.steps, config.finetune.steps) == (10001, 10001, 10001)
    assert (config.nnunet.epochs, config.nnunet.iterations, config.nnunet.base, config.nnunet.learning_rate) == (1000, 250, 32, 1e-2)
    assert (config.data.size, config.encoder.learning_rate, config.encoder.pairs.temperature, config.temporal.margin) == (192, 1e-3, 0.1, 5)


def test_every_default_keeps_its_own_rule():
    for key, knob in KNOBS.items():
        assert knob.rule.holds(knob.quick), key
        assert knob.paper is None or knob.rule.holds(knob.paper), key


@pytest.mark.parametrize(
    "key,value,words",
    [
        ("finetune.label_fraction", 0.0, ["config.finetune.label_fraction", "0.0", "above 0", "at most 1"]),
        ("encoder.pairs.kind", "cubic", ["config.encoder.pairs.kind", "'cubic'", "'binary'", "'linear'"]),
        ("encoder.steps", -1, ["config.encoder.steps", "-1", "at least 1"]),
        ("temporal.stages", ("encode",), ["config.temporal.stages", "'encode'", "'encoder'"]),
        ("data.validation", float("nan"), ["config.data.validation", "nan"]),
        ("data.fold", -2, ["config.data.fold", "-2", "at least -1"]),
        ("data.fold", True, ["config.data.fold", "True", "at least -1"]),
        ("nnunet.preset", "resenc", ["config.nnunet.preset", "'resenc'", "'resenc_l'"]),
        ("nnunet.folds", "ten", ["config.nnunet.folds", "'ten'", "'split'", "'five'", "'all'"]),
    ],
)
def test_a_wrong_value_is_named_with_its_rule(key, value, words):
    config = uscl_config.default()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError) as caught:
        uscl_config.validate(config)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes,words",
    [
        ({"encoder.frames": 6, "encoder.pairs.sampling": "parts"}, ["config.encoder.frames=6", "multiple of the parts"]),
        ({"data.validation": 0.5, "data.test": 0.6}, ["config.data.validation=0.5", "config.data.test=0.6"]),
        ({"finetune.loss.dice": 0.0, "finetune.loss.speckle": 1.0}, ["finetune.loss.dice=0.0", "blind to area"]),
        ({"nnunet.loss.dice": 0.0, "nnunet.loss.cross_entropy": 0.0}, ["nnunet.loss.cross_entropy=0.0", "blind to area"]),
    ],
)
def test_values_that_do_not_fit_together_are_named(changes, words):
    config = uscl_config.default()
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError) as caught:
        uscl_config.validate(config)
    assert all(word in str(caught.value) for word in words), caught.value


def test_an_unknown_key_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"config\.finetune\.label_fracton.*did you mean config\.finetune\.label_fraction"):
        uscl_config.validate({"finetune": {"label_fracton": 0.1}})


def test_a_locked_config_refuses_new_keys():
    with pytest.raises(AttributeError):
        uscl_config.default().encoder.step = 3


def test_unknown_scale():
    with pytest.raises(UserError, match="'huge'.*quick, paper"):
        uscl_config.default("huge")
