"""nnU-Net's two networks against the original's, weights carried over; skipped where nnunetv2 is not installed."""
# ruff: noqa: E402

import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

HOW = "nnunetv2 is not installed; in an environment of its own: pip install nnunetv2==2.8.1 pytest pytest-xdist -e ."
nnunetv2 = pytest.importorskip("nnunetv2", reason=HOW)
torch = pytest.importorskip("torch", reason=HOW)

from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from uscl import models
from uscl.models.nnunet import NNUNet

PARTS = (
    (r"encoder\.stem\.convs\.0", lambda n: "stem"), (r"encoder\.stages\.(\d+)\.0\.convs\.(\d+)", lambda n, s, i: f"stage{s}/conv{i + 1}"),
    (r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.conv([12])", lambda n, s, b, c: f"stage{s}/block{b + 1}/conv{c}"),
    (r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.skip\.[01]", lambda n, s, b: f"stage{s}/block{b + 1}/skip"),
    (r"decoder\.stages\.(\d+)\.convs\.(\d+)", lambda n, l, i: f"level{n - 2 - l}/convs/conv{i + 1}"),
    (r"decoder\.transpconvs\.(\d+)", lambda n, l: f"level{n - 2 - l}/up"), (r"decoder\.seg_layers\.(\d+)", lambda n, l: f"head{n - 2 - l}"),
)  # fmt: skip
LEAVES = {"conv.weight": "leaky_kernel", "conv.bias": "bias", "norm.weight": "scale", "norm.bias": "shift", "bias": "bias"}


def carried(named, stages: int) -> dict:
    """{name in the original: tensor} as our parameters."""
    tree = {}
    for name, tensor in named:
        place, found = next((place, found) for pattern, place in PARTS if (found := re.match(pattern + r"\.", name)))
        *path, last = place(stages, *map(int, found.groups())).split("/")
        leaf, value = name[found.end() :], tensor.detach().numpy()
        if leaf == "weight":
            key, value = ("spread_kernel", value.transpose(0, 2, 3, 1)) if last == "up" else ("leaky_kernel", value.transpose(2, 3, 1, 0))
        else:
            key, value = LEAVES[leaf], value.transpose(2, 3, 1, 0) if leaf == "conv.weight" else value
        key = "zero_scale" if key == "scale" and re.search(r"blocks.\d+.conv2", name) else key
        inner = tree
        for part in (*path, last):
            inner = inner.setdefault(part, {})
        inner[key] = value
    return tree


@pytest.mark.parametrize("kind", ["PlainConvUNet", "ResidualEncoderUNet"])
def test_network(kind):
    """Same parameters, same outputs at every resolution and same gradients with the original's weights; equal spread of fresh weights."""
    plan = SimpleNamespace(
        features=(16, 24, 32, 32), strides=((1, 1), (2, 2), (2, 1), (2, 2)), kernels=((3, 3),) * 4, blocks=(1, 2, 2, 1), decoder=(2, 1, 1),
        residual=kind.startswith("Residual"),
    )  # fmt: skip
    settings = {
        "n_stages": 4, "features_per_stage": plan.features, "kernel_sizes": plan.kernels, "strides": plan.strides,
        "n_blocks_per_stage" if plan.residual else "n_conv_per_stage": plan.blocks, "n_conv_per_stage_decoder": plan.decoder,
        "conv_op": "torch.nn.Conv2d", "conv_bias": True, "norm_op": "torch.nn.InstanceNorm2d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True}, "dropout_op": None, "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
    }  # fmt: skip
    torch.manual_seed(0)
    place = f"dynamic_network_architectures.architectures.unet.{kind}"
    net = get_network_from_plans(place, settings, ("conv_op", "norm_op", "nonlin"), 1, 3, deep_supervision=True)
    network = NNUNet.of(plan, 3)
    fresh = models.initialise(network, 0, (32, 32, 1))["params"]
    theirs = carried(net.named_parameters(), 4)
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, theirs)
    for path, leaf in jax.tree_util.tree_leaves_with_path(fresh):
        other = theirs
        for part in path:
            other = other[part.key]
        if leaf.size > 2000 or np.ptp(other) == 0:
            np.testing.assert_allclose(np.std(leaf), np.std(other), rtol=0.1, err_msg=str(path))
            np.testing.assert_allclose(np.mean(leaf), np.mean(other), atol=0.1 * np.std(other), err_msg=str(path))
    with torch.no_grad():
        for parameter in net.parameters():  # norms and biases, too: a fresh scale of 0 hides what is behind it
            parameter += 0.2 * torch.randn(parameter.shape)
    image = np.random.default_rng(8).normal(size=(2, 32, 48, 1)).astype(np.float32)
    expected = net(torch.tensor(image.transpose(0, 3, 1, 2)))
    sum(x.tanh().sum() for x in expected).backward()
    params = carried(net.named_parameters(), 4)

    def score(params):
        outputs = network.apply({"params": params}, image, train=True)
        return sum(jnp.tanh(x).sum() for x in outputs), outputs

    gradient, outputs = jax.jit(jax.grad(score, has_aux=True))(params)
    assert len(outputs) == len(expected) == 3
    for ours, other in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(ours, other.detach().numpy().transpose(0, 2, 3, 1), atol=2e-4)
    wanted = carried(((name, parameter.grad) for name, parameter in net.named_parameters()), 4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3 * max(1, np.abs(b).max())), gradient, wanted)
