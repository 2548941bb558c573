"""Segmentation on a ResNet: parameters by hand, both decoders against NumPy, any size, what transfer carries, and the knob."""

from functools import partial
from types import SimpleNamespace

import fetuses
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from scipy.ndimage import map_coordinates
from test_models import plain_conv

from uscl.config import validate
from uscl.models import ResNet, ResNetFPN, ResNetUNet, StillModel, UNet, initialise, parameter_count, transfer
from uscl.models.pyramid import PyramidDecoder, UpDecoder, enlarge, repeat
from uscl.models.resnet import PLANS
from uscl.stages import finetune
from uscl.types import UserError

SMALL = ResNet(blocks=(1, 1), width=3)
SIDES = {"stem": (11, 9), "stage1": (6, 5), "stage2": (3, 3)}  # of images of 22 x 17
CHANNELS = {"stem": 3, "stage1": 3, "stage2": 6}
SIZE = (22, 17)


def layer(size, inputs, outputs):
    """size^2 in out weights, out biases, and BatchNorm's scale and shift."""
    return size * size * inputs * outputs + 3 * outputs


# Each block: up-convolution, a convolution of two maps joined, one more; the last has two of the three. 512, 256, 128, 64, 64, then 16
UP = (
    (layer(2, 512, 256) + layer(3, 512, 256) + layer(3, 256, 256))  # 525 056 + 1 180 416 + 590 592 = 2 296 064
    + (layer(2, 256, 128) + layer(3, 256, 128) + layer(3, 128, 128))  # 131 456 + 295 296 + 147 840 = 574 592
    + (layer(2, 128, 64) + layer(3, 128, 64) + layer(3, 64, 64))  # 32 960 + 73 920 + 37 056 = 143 936
    + (layer(2, 64, 64) + layer(3, 128, 64))  # 16 576 + 73 920 = 90 496
    + layer(2, 64, 16)  # 4 144
)
PYRAMID = sum(256 * channels + 256 for channels in (64, 128, 256, 512)) + 4 * layer(3, 256, 128)  # 246 784 + 4 * 295 296
COUNTS = {  # (decoder, tail)
    ResNetUNet: (UP, 2 * layer(3, 16, 16) + 9 * 16 * 2),
    ResNetFPN: (PYRAMID, 128 * 2 + 2),
}


@pytest.mark.parametrize("kind", COUNTS)
def test_counts_and_shapes(kind):
    """Sides that are no multiple of 32, gray images; half floats inside and float32 at the door."""
    assert COUNTS[kind] in [(3_109_232, 4_992), (1_427_968, 258)]
    model = kind(classes=2, encoder=ResNet(**PLANS[18], dtype="bfloat16", remat=True))
    x = jax.ShapeDtypeStruct((2, 33, 47, 1), jnp.float32)

    how = {"train": False, "capture_intermediates": lambda module, _: module.name == "decoder"}
    scores, variables = jax.eval_shape(partial(model.init_with_output, **how), jax.random.key(0), x)
    parts = {name: parameter_count(part) for name, part in variables["params"].items()}
    assert parts == {"encoder": 11_170_240, "decoder": COUNTS[kind][0], "tail": COUNTS[kind][1]}
    assert scores.shape == (2, 33, 47, 2) and scores.dtype == jnp.float32
    (features,) = variables["intermediates"]["decoder"]["__call__"]
    assert features.shape == (2, 33, 47, 16 if kind is ResNetUNet else 128) and features.dtype == jnp.bfloat16


def test_enlargements():
    x = np.random.default_rng(0).normal(size=(2, 4, 3, 2))
    np.testing.assert_array_equal(enlarge(jnp.array([0.0, 4]).reshape(1, 1, 2, 1))[0, :, :, 0], [[0, 1, 3, 4]] * 2)
    np.testing.assert_allclose(enlarge(jnp.float32(x)), bilinear(x), atol=1e-6)
    np.testing.assert_array_equal(repeat(jnp.float32(x)), np.float32(x).repeat(2, 1).repeat(2, 2))


# --- the decoders in NumPy, float64 ---


def bilinear(x):
    """By the place that each pixel's centre has among the old centres; outside them, the edge."""
    n, height, width, channels = x.shape
    places = np.meshgrid((np.arange(2 * height) + 0.5) / 2 - 0.5, (np.arange(2 * width) + 0.5) / 2 - 0.5, indexing="ij")
    maps = [[map_coordinates(x[i, ..., c], places, order=1, mode="nearest") for c in range(channels)] for i in range(n)]
    return np.moveaxis(np.array(maps), 1, 3)


def plain_layer(variables, x, name):
    """ReLU(BatchNorm(convolution + bias)) by running statistics."""
    p, s = (flatten_dict(variables[kind], sep="/") for kind in ("params", "batch_stats"))
    y = plain_conv(x, p[f"{name}/kernel"]) + p[f"{name}/bias"]
    y = (y - s[f"{name}/mean"]) / np.sqrt(np.float64(s[f"{name}/var"]) + 1e-3) * p[f"{name}/scale"] + p[f"{name}/shift"]
    return np.maximum(y, 0)


def plain_up(variables, maps):
    x = maps[-1]
    for place, skip in enumerate(maps[-2::-1], start=1):
        x = plain_layer(variables, x.repeat(2, 1).repeat(2, 2), f"blocks/block{place}/up")[:, : skip.shape[1], : skip.shape[2]]
        x = plain_layer(variables, np.concatenate([x, skip], -1), f"blocks/block{place}/conv1")
        x = x if place == len(maps) - 1 else plain_layer(variables, x, f"blocks/block{place}/conv2")
    return plain_layer(variables, x.repeat(2, 1).repeat(2, 2), "up")[:, : SIZE[0], : SIZE[1]]


def plain_pyramid(variables, maps):
    dense, pyramid = variables["params"], {}
    for l in (2, 1):
        pyramid[l] = maps[l] @ np.float64(dense[f"lateral{l}"]["kernel"]) + dense[f"lateral{l}"]["bias"]
    rows, columns = maps[1].shape[1:3]
    pyramid[1] += pyramid[2].repeat(2, 1).repeat(2, 2)[:, :rows, :columns]
    smooth = {l: plain_layer(variables, p, f"smooth{l}") for l, p in pyramid.items()}
    total = smooth[1] + bilinear(smooth[2])[:, :rows, :columns]
    return bilinear(bilinear(total))[:, : SIZE[0], : SIZE[1]]


@pytest.mark.parametrize("kind, plain", [(UpDecoder, plain_up), (PyramidDecoder, plain_pyramid)])
def test_decoder(kind, plain):
    rng, model = np.random.default_rng(2), kind()
    maps = [rng.normal(size=(2, *SIDES[name], CHANNELS[name])) for name in SIDES]
    half = [jnp.float32(x) for x in maps]
    shapes = jax.eval_shape(partial(model.init, train=False, size=SIZE), jax.random.key(0), half)
    variables = jax.tree.map(lambda leaf: rng.uniform(0.2, 0.8, leaf.shape).astype(np.float32) * rng.choice([1, 1, -1]), shapes)
    variables["batch_stats"] = jax.tree.map(np.abs, variables["batch_stats"])
    found = jax.jit(partial(model.apply, train=False, size=SIZE))(variables, half)
    expected = plain(variables, maps)
    assert found.shape == expected.shape == (2, *SIZE, 16 if kind is UpDecoder else 6) and np.ptp(expected) > 1
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


# --- what stages hand on, and the knob ---


@pytest.mark.parametrize("kind", COUNTS)
def test_transfer_carries_every_leaf_of_the_encoder_and_no_other(kind):
    pretrained = initialise(StillModel(encoder=SMALL, hidden=4, features=2), 1, (32, 32, 1))
    fresh = initialise(kind(classes=2, encoder=SMALL), 2, (32, 32, 1))
    marked = jax.tree.map(lambda leaf: leaf + 7, pretrained)
    theirs, mine, found = (flatten_dict(tree, sep="/") for tree in (marked, fresh, transfer(marked, fresh)))
    carried = {name for name in found if found[name] is not mine[name]}
    assert carried == {name for name in theirs if name.split("/")[1] == "encoder"} and len(carried) == 30
    for name in carried:
        np.testing.assert_array_equal(found[name], theirs[name], err_msg=name)
    assert {name.split("/")[1] for name in set(mine) - carried} == {"decoder", "tail"}


def test_the_knob():
    def network(**changes):
        made = fetuses.config(**{"anatomy.depth": 50, "anatomy.width": 5, "model.bn_momentum": 0.5, "model.remat": True} | changes)
        validate(made)
        options = {"width": tuple(made.model.width), "momentum": 0.5, "dtype": "float32", "remat": True}
        run = SimpleNamespace(config=made, store=SimpleNamespace(values=4), model_options=lambda: options)
        return finetune.make_network(run)

    encoder = ResNet(**PLANS[50], width=5, momentum=0.5, remat=True)
    assert network(**{"finetune.network": "resnet_unet"}) == ResNetUNet(classes=4, encoder=encoder)
    assert network(**{"finetune.network": "resnet_fpn"}) == ResNetFPN(classes=4, encoder=encoder)
    assert isinstance(network(), UNet)
    for name in ("resnet_unet", "resnet_fpn"):
        bound = network(**{"finetune.network": name}).bind({})
        assert (bound.decoder.momentum, bound.decoder.dtype) == (0.5, "float32")
    with pytest.raises(
        UserError, match=r"config\.finetune\.network: found 'resnet'; allowed is one of 'unet', 'resnet_unet', 'resnet_fpn'"
    ):
        network(**{"finetune.network": "resnet"})
