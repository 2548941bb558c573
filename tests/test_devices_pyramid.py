"""A ResNet that learns from labels on several devices: segmentation with both decoders, and the telling apart of planes."""

import contextlib
from functools import cache

import fetuses
import jax
import numpy as np
import pytest
import test_devices_stages
import test_devices_stills
from step_on import step_on
from test_devices_stages import CLASSES, TERMS, assert_agree, batch_of

from uscl import models
from uscl.stages import finetune, planes, stills
from uscl.train import mesh as meshes

pytestmark = pytest.mark.slow
MODELS = {"resnet_unet": models.ResNetUNet, "resnet_fpn": models.ResNetFPN, "planes": models.Classifier}


def smooth():
    """The kinks of the ResNet's layers and of the decoder's replaced, as those tests tell."""
    stack = contextlib.ExitStack()
    stack.enter_context(test_devices_stages.smooth())
    stack.enter_context(test_devices_stills.smooth())
    return stack


def stage_loss(name):
    """(the stage's own loss with all its terms and its augmentation, its variables). Running statistics are those of the batch."""
    model = MODELS[name](classes=CLASSES, encoder=models.ResNet(blocks=(1, 1), width=8, momentum=0.0))
    made = fetuses.config()
    if name == "planes":
        loss_fn = planes.make_loss(model, stills.make_view(made.anatomy.views), made.model.normalise)
    else:
        block = made.finetune
        loss_fn = finetune.make_loss(model, values=CLASSES, weights=dict.fromkeys(TERMS, 1.0), dice=block.dice, speckle=block.speckle,
                                     augment=block.augment, kind=made.model.normalise)  # fmt: skip
    return loss_fn, models.initialise(model, 0, batch_of()["image"].shape[1:])


@cache
def result(name, devices):
    here, (loss_fn, variables) = meshes.make_mesh(devices), stage_loss(name)
    batch = batch_of()
    if name == "planes":
        batch = {"image": batch["image"][:, None], "target": np.int32([0, 2, 1, 1, 0, 2, 2, 0])}
    step, variables = step_on(here, loss_fn, smooth), jax.device_get(variables)
    placed = meshes.put_batch(here, {name: x[meshes.share(here, len(x))] for name, x in batch.items()})
    (loss, stats), gradient = jax.tree.map(np.asarray, step(variables["params"], variables["batch_stats"], placed, np.uint32([0, 2])))
    return {"loss": loss, "stats": stats, "gradient": gradient}


@pytest.mark.parametrize("name", MODELS)
def test_labels_on_several_devices(name):
    one = result(name, 1)
    assert all(np.linalg.norm(leaf) > 0 for path, leaf in jax.tree_util.tree_leaves_with_path(one["gradient"]) if path[-1].key != "bias")
    for devices in (n for n in (2, 4, 8) if n <= jax.device_count()):
        assert_agree(one, result(name, devices))
