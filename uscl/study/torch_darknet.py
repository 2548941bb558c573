"""The clip classifier of `uscl.models.darknet3d` in torch, layer for layer: the peer of the bench's clip rows. Imported where torch is."""

import numpy as np
import torch
from torch import nn

from uscl.models.darknet3d import BLOCKS, PLANS

WIDTHS = PLANS["tiny"]["widths"]


class ConvNorm(nn.Module):
    """LeakyReLU(BatchNorm(convolution)), without bias; (k - 1) / 2 zeros on every side."""

    def __init__(self, channels, features, kernel=3, stride=1):
        super().__init__()
        self.conv = nn.Conv3d(channels, features, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm3d(features)  # momentum and epsilon are ours in torch's words already
        self.act = nn.LeakyReLU(0.1, inplace=True)

    def forward(self, x):
        return self.act(self.norm(self.conv(x)))


class Residual(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.conv1, self.conv2 = ConvNorm(features, features, kernel=1), ConvNorm(features, features)

    def forward(self, x):
        return x + self.conv2(self.conv1(x))


class Stage(nn.Sequential):
    def __init__(self, channels, features, blocks):
        super().__init__()
        self.add_module("down", ConvNorm(channels, features, stride=2))
        for i in range(1, blocks + 1):
            self.add_module(f"block{i}", Residual(features))


class Encoder(nn.Sequential):
    def __init__(self, widths=WIDTHS, blocks=BLOCKS):
        super().__init__()
        self.add_module("stage_0", ConvNorm(1, widths[0]))
        for i, count in enumerate(blocks, start=1):
            self.add_module(f"stage_{i}", Stage(widths[i - 1], widths[i], count))


class Classifier(nn.Module):
    """Clips [N, 1, T, H, W] -> class scores [N, classes]."""

    def __init__(self, classes=2, widths=WIDTHS):
        super().__init__()
        self.encoder, self.head = Encoder(widths), nn.Linear(widths[-1], classes)

    def forward(self, x):
        return self.head(self.encoder(x).mean((2, 3, 4)))


# What our leaves are called here. Kernels also turn: ours end with (channels, features), torch's begin with (features, channels).
LEAVES = {"conv/kernel": "conv.weight", "scale": "norm.weight", "zero_scale": "norm.weight", "shift": "norm.bias"}
LEAVES |= {"mean": "norm.running_mean", "var": "norm.running_var"}
HEAD = {"head/kernel": "head.weight", "head/bias": "head.bias"}


def named(model: nn.Module, paths) -> dict[str, str]:
    """Ours -> theirs, for the paths among `paths` that begin with params/ or batch_stats/; all that the twin has must be met.

    Raises: ValueError where the two networks do not have the same parameters and statistics.
    """
    there, found = {name for name in model.state_dict() if not name.endswith("num_batches_tracked")}, {}
    for path in paths:
        kind, _, name = path.partition("/")
        if kind not in ("params", "batch_stats"):
            continue
        leaf = "conv/kernel" if name.endswith("conv/kernel") else name.rpartition("/")[2]
        found[path] = HEAD.get(name) or f"{name.removesuffix(leaf).replace('/', '.')}{LEAVES[leaf]}"
    if set(found.values()) != there:
        raise ValueError(f"only one of the two networks has {sorted(set(found.values()) ^ there)}")
    return found


def load(model: nn.Module, ours) -> dict[str, str]:
    """Copies our parameters and running statistics, arrays by "params/encoder/stage_0/conv/kernel", into the twin; returns their names.

    Raises: ValueError where the two networks differ, in a name or in a shape.
    """
    names, state = named(model, list(ours)), model.state_dict()
    with torch.no_grad():
        for path, there in names.items():
            value = np.asarray(ours[path])
            value = value.transpose(-1, -2, *range(value.ndim - 2)) if value.ndim > 1 else value
            if tuple(state[there].shape) != value.shape:
                raise ValueError(f"{path}: {value.shape} of ours, {there}: {tuple(state[there].shape)} of the twin")
            state[there].copy_(torch.from_numpy(np.array(value, order="C")))
    return names


def like_ours(value: torch.Tensor) -> np.ndarray:
    """A parameter, a gradient or a statistic of the twin with our order of axes."""
    value = value.detach().cpu().numpy().copy()  # it would change with the network
    return value.transpose(*range(2, value.ndim), 1, 0) if value.ndim > 1 else value
