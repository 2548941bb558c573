"""Pretraining on stills and sweeps: what the stage asks of the training, what its looks see, what is refused."""

import dataclasses
from types import SimpleNamespace

import fetuses
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uscl import config as uscl_config
from uscl import models
from uscl.stages import anatomy, run, start, stills
from uscl.types import UserError


def test_the_models_parts():
    model = models.StillModel(encoder=models.ResNet(blocks=(1,), width=64 * 8))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False))["params"]
    assert set(shapes) == {"encoder", "projector"} and models.parameter_count(shapes["projector"]) == 328320
    wide = model.clone(features=256, classes=3)
    shapes = jax.eval_shape(lambda: wide.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False))["params"]
    assert models.parameter_count(shapes["projector"]) == 393984 and models.parameter_count(shapes["head"]) == 256 * 3 + 3


@pytest.mark.parametrize("method", ["awcl", "uscl"])
def test_what_the_stage_asks_of_the_training(method, tmp_path):
    asked = SimpleNamespace()

    def train(run, stage, loss_fn, variables, batches, **options):
        asked.__dict__.update(options, stage=stage, variables=variables, batches=batches)
        return variables

    made = fetuses.config(fetuses.make_store(tmp_path / "store"), **{"anatomy.method": method, "anatomy.look_every": 7})
    with fetuses.opened(made, tmp_path / "run") as opened:
        handed = anatomy.run(opened, None, train=train)
        assert anatomy.run(opened, None, train=lambda *_, **__: None) is None  # a replay
    mixes = method == "uscl"
    assert asked.stage == "anatomy" and asked.weights == {"contrastive": 1.0} | ({"cross_entropy": 0.4} if mixes else {})
    assert dataclasses.replace(asked.course, optimizer=None) == run.Course(fetuses.STEPS, None, 7, "anatomy", keep="last")
    assert asked.batches.size == 8 and asked.batches.names == ("brow", "crown", "foot") and asked.validate is not None
    assert set(handed["params"]) == {"encoder", "projector", *(["head"] if mixes else [])} and "encoder" in handed["batch_stats"]
    ones = {"kernel": jnp.ones(2)}
    optimizer = asked.course.optimizer
    step, _ = optimizer.update(jax.tree.map(jnp.zeros_like, ones), optimizer.init(ones), ones)
    np.testing.assert_allclose(step["kernel"], -0.01, rtol=0.02)  # Adam's first step goes by the sign of the decay, 1e-6 of a weight
    if not mixes:
        kept = np.load(tmp_path / "run" / "anatomy" / "pairs.npz")
        assert kept["weights"].shape == (8, 8) and kept["positive"].shape == (16, 16)


def test_a_look_asks_neighbours_and_a_line(tmp_path):
    """An encoder that tells which corner is bright: all planes are told right. Where it sees nothing, all stills are taken for one."""

    class Corners:
        def apply(self, variables, image, train):
            assert not train and image.shape == (8, 32, 32, 1)
            return variables["params"] * jnp.stack([image[:, a:, b:][:, :16, :16].mean((1, 2, 3)) for a in (0, 16) for b in (0, 16)], 1)

    made = fetuses.config(fetuses.make_store(tmp_path / "store"))
    with fetuses.opened(made, tmp_path / "run") as opened:
        look = stills.make_look(opened, Corners())
        state = SimpleNamespace(params={"encoder": jnp.float32(1)}, batch_stats={"encoder": jnp.float32(0)})
        assert look(state) == (1.0, {"linear_f1": 1.0})
        state.params["encoder"] = jnp.float32(0)
        assert look(state)[0] == pytest.approx((2 * 3 / (3 + 12)) / 4)  # F1 of the one class that is named, over four
    made.planes.column = "view"
    with fetuses.opened(made, tmp_path / "second") as opened:
        assert stills.make_look(opened, Corners()) is None


def test_features_of_the_middle_frames_whatever_the_batch(tmp_path):
    made = fetuses.config(fetuses.make_store(tmp_path / "store"), **{"model.normalise": "none"})
    with fetuses.opened(made, tmp_path / "run") as opened:
        features = stills.make_features(opened, lambda by, x: by * x.mean((1, 2)), batch=4, key="planes.batch")
        cines = np.array([5, 0, 19, 7, 11, 10])
        found, data = features(np.float32(2), cines), opened.store
    assert found.shape == (6, 1) and found.dtype == np.float32 and data.length(0) == 6
    want = [2 / 255 * data.frame(cine, data.length(cine) // 2).mean() for cine in cines]
    np.testing.assert_allclose(found[:, 0], want, rtol=1e-5)


@pytest.mark.parametrize("changes, message", [
    ({"anatomy.share": 1.0, "anatomy.batch": 24}, r"config.anatomy.batch: .* it asks for 24 stills with a plane, there are 18"),
    ({"anatomy.column": "view"}, "attributes.csv: it has no column 'view'; its columns are 'plane', 'anatomy'"),
    ({"anatomy.batch": 6}, "config.anatomy.batch: 6 images do not split evenly over 4 devices"),
    ({"stages": ("anatomy", "encoder")}, "'anatomy' before 'encoder'; the first has a network of stills, the second one of frames"),
    ({"stages": ("video", "anatomy")}, "'video' before 'anatomy'; the first has a network of clips, the second one of stills"),
    ({"anatomy.depth": 34}, "config.anatomy.depth: found 34; allowed is one of 18, 50"),
])  # fmt: skip
def test_what_does_not_fit_is_one_sentence(changes, message, tmp_path):
    with pytest.raises(UserError, match=message) as caught:
        fetuses.run(fetuses.config(fetuses.make_store(tmp_path / "store"), **changes), tmp_path / "run")
    assert "\n" not in str(caught.value) and not list(tmp_path.glob("**/checkpoints"))


def test_a_start_with_another_network(tmp_path):
    made = fetuses.config(fetuses.make_store(tmp_path / "store"))
    (tmp_path / "config.json").write_text(made.to_json())
    with fetuses.opened(made, tmp_path / "run") as opened:
        store = opened.store
    (tmp_path / "environment.json").write_text(f'{{"store": {{"checksum": "{store.checksum}"}}}}')
    refused = {"config.anatomy.width: found 3": {"anatomy.width": 3}, "ends with a network of stills": {"stages": ("finetune",)}}
    for message, changes in refused.items():
        with pytest.raises(UserError, match=message):
            start.carried(fetuses.config(made.data.store, start=str(tmp_path), **changes), store=store)


def test_paper_scale_is_the_released_codes_settings():
    block = uscl_config.default("paper").anatomy
    assert (block.depth, block.width, block.hidden, block.features, block.batch) == (18, 64, 512, 128, 32)
    assert (block.temperature, block.learning_rate, block.weight_decay, block.schedule) == (0.5, 1e-3, 1e-6, "constant")
    views = dict(block.views)
    assert (views.pop("crop"), views.pop("smallest"), views.pop("flip")) == ("random", 0.08, 0.5)
    assert (views.pop("brightness"), views.pop("contrast"), set(views.values())) == (0.4, 0.4, {0.0})
