"""Clips on several devices: loss, gradient and statistics of each pretraining method and of the classification, as on one."""

import contextlib
from functools import cache
from unittest import mock

import flax.linen as nn
import jax
import lungs
import numpy as np
import pytest
from step_on import step_on
from test_devices_stages import assert_agree

from uscl import models
from uscl.models import ClipEncoder, clip_heads, conv3d
from uscl.models.norms import norm
from uscl.stages import classify, clips, video
from uscl.train import mesh as meshes

N, SHAPE = 8, (4, 16, 16, 1)
SMALL = {"widths": (4, 8), "blocks": (1,)}


@contextlib.contextmanager
def smooth():
    """A softplus for the kink of the (leaky) rectifier, as in test_devices_stages: rounding would carry values over it."""

    def soft_norm(x, scale, shift, axes, epsilon, slope):
        z, *statistics = norm(x, scale, shift, axes, epsilon)
        return slope * z + (1 - slope) * nn.softplus(z), *statistics

    places = [(nn, "relu", nn.softplus), (conv3d, "norm", soft_norm), (clip_heads, "norm", soft_norm)]
    with contextlib.ExitStack() as stack:
        for place in places:
            stack.enter_context(mock.patch.object(*place))
        yield


def stage_loss(name):
    """(the stage's own loss, its variables), views and all. Without momentum the running statistics are those of the batch."""
    made, encoder = lungs.config(), ClipEncoder(**SMALL, momentum=0.0)
    view = clips.make_view(made.video.views, temporal=name != "classify")
    if name == "classify":
        model = models.Classifier(encoder=encoder)
        return classify.make_loss(model, view, "standardise"), models.initialise(model, 0, SHAPE)
    method = video.METHODS[name]
    model = models.ClipModel(encoder=encoder, hidden=8, features=4, layers=method.layers, normalised=method.normalised,
                             predicts=method.predicts, momentum=0.0)  # fmt: skip
    variables = video.with_target(models.initialise(model, 0, SHAPE), method)
    rng = np.random.default_rng(1)  # the target lags behind
    if method.target:
        target = variables["batch_stats"]["target"]
        target["params"] = jax.tree.map(lambda x: x + np.float32(0.1) * rng.normal(size=x.shape).astype(np.float32), target["params"])
    return video.make_loss(model, method, view, "standardise", temperature=0.5, decay=0.9), variables


@cache
def result(name, devices):
    here, (loss_fn, variables) = meshes.make_mesh(devices), stage_loss(name)
    step = step_on(here, loss_fn, smooth)
    rng = np.random.default_rng(5)
    smoothly = np.kron(rng.integers(0, 255, (N, 4, 4, 4, 1)), np.ones((1, 1, 4, 4, 1)))
    batch = {"image": smoothly.astype(np.uint8), "target": np.int32([0, 1, 1, 0, 0, 0, 1, 1])}
    batch = meshes.put_batch(here, {name: x[meshes.share(here, N)] for name, x in batch.items()})
    variables = jax.device_get(variables)
    (loss, stats), gradient = jax.tree.map(np.asarray, step(variables["params"], variables["batch_stats"], batch, np.uint32([0, 2])))
    target = stats.pop("target", {"params": {}, "batch_stats": {}})
    return {"loss": loss, "stats": {"own": stats, **({"target": target["batch_stats"]} if target["batch_stats"] else {})},
            "gradient": gradient}, target["params"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", [*video.METHODS, "classify"])
def test_clips_on_several_devices(name):
    one, target = result(name, 1)
    for devices in (n for n in (2, 4, 8) if n <= jax.device_count()):
        other, moved = result(name, devices)
        assert_agree(one, other)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), target, moved)
