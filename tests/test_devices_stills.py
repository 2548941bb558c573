"""Stills on several devices: loss, gradient and statistics of both pretraining methods, as on one."""

import contextlib
from functools import cache
from unittest import mock

import fetuses
import flax.linen as nn
import jax
import numpy as np
import pytest
from step_on import step_on
from test_devices_stages import assert_agree

from uscl import models
from uscl.config.anatomy import METHODS
from uscl.models import resnet
from uscl.models.norms import norm
from uscl.stages import anatomy, stills
from uscl.train import mesh as meshes

N, SIDE = 8, 32


@contextlib.contextmanager
def smooth():
    """A softplus for the rectifier's kink, as in test_devices_stages, and a mean for the maximum's."""

    def soft_norm(x, scale, shift, axes, epsilon, slope):
        z, *statistics = norm(x, scale, shift, axes, epsilon)
        return slope * z + (1 - slope) * nn.softplus(z), *statistics

    def mean_pool(x):
        return nn.avg_pool(x, (2, 2), (2, 2))

    places = [(nn, "relu", nn.softplus), (resnet, "norm", soft_norm), (resnet, "max_pool_overlapping", mean_pool)]
    with contextlib.ExitStack() as stack:
        for place in places:
            stack.enter_context(mock.patch.object(*place))
        yield


def stage_loss(method):
    """(the method's own loss, its variables), views and all. Without momentum the running statistics are those of the batch."""
    encoder = models.ResNet(blocks=(1, 1), width=8, momentum=0.0)
    model = models.StillModel(encoder=encoder, hidden=8, features=4, classes=3 if method == "uscl" else 0)
    view, how = stills.make_view(fetuses.config().anatomy.views), {"temperature": 0.5, "ratio": 0.7}
    if method == "uscl":
        loss_fn = anatomy.make_mixed_loss(model, view, "standardise", **how)
    else:
        loss_fn = anatomy.make_loss(model, view, "standardise", anatomy.Rule("linear", horizon=9.0), **how)
    return loss_fn, models.initialise(model, 0, (SIDE, SIDE, 1))


@cache
def result(method, devices):
    here, (loss_fn, variables) = meshes.make_mesh(devices), stage_loss(method)
    step = step_on(here, loss_fn, smooth)
    rng, three = np.random.default_rng(5), (3,) if method == "uscl" else ()
    image = np.kron(rng.integers(0, 255, (N, *three, 8, 8, 1)), np.ones((1,) * (1 + len(three)) + (4, 4, 1)))
    batch = {
        "image": image.astype(np.uint8), "cine": np.int32([0, 1, 2, 3, 5, 5, 5, 5]), "frame": np.int32([0, 0, 0, 0, 3, 9, 4, 17]),
        "length": np.int32([1, 2, 1, 1, 20, 20, 20, 20]), "label": np.int32([2, 0, 2, 0, -1, -1, -1, -1]),
    }  # fmt: skip
    mine = {name: x[meshes.share(here, N)] for name, x in batch.items()}
    variables, batch = jax.device_get(variables), meshes.put_batch(here, mine)
    (loss, stats), gradient = jax.tree.map(np.asarray, step(variables["params"], variables["batch_stats"], batch, np.uint32([0, 2])))
    return {"loss": loss, "stats": stats, "gradient": gradient}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_stills_on_several_devices(method):
    one = result(method, 1)
    for devices in (n for n in (2, 4, 8) if n <= jax.device_count()):
        assert_agree(one, result(method, devices))
