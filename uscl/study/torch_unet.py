"""The networks of `uscl.models` in torch, layer for layer: the peer of the bench's training rows. Imported where torch is."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

WIDTH = (16, 32, 64, 128, 128, 128)


class ConvNorm(nn.Module):
    """ReLU(BatchNorm(convolution + bias)), SAME; an even kernel is padded below and to the right."""

    def __init__(self, channels, features, size=3):
        super().__init__()
        self.size = size
        self.conv = nn.Conv2d(channels, features, size, padding=1 if size == 3 else 0)
        self.norm = nn.BatchNorm2d(features, eps=1e-3, momentum=0.01)

    def forward(self, x):
        x = functional.pad(x, (0, 1, 0, 1)) if self.size == 2 else x
        return functional.relu(self.norm(self.conv(x)), inplace=True)


class Level(nn.Module):
    def __init__(self, channels, features):
        super().__init__()
        self.conv1, self.conv2 = ConvNorm(channels, features), ConvNorm(features, features)

    def forward(self, x):
        return self.conv2(self.conv1(x))


class Encoder(nn.Module):
    def __init__(self, width=WIDTH):
        super().__init__()
        for level, features in enumerate(width, start=1):
            self.add_module(f"level{level}", Level(1 if level == 1 else width[level - 2], features))

    def forward(self, x):
        maps = []
        for level in self.children():
            x = level(functional.max_pool2d(x, 2, ceil_mode=True) if maps else x)
            maps.append(x)
        return maps


class Block(nn.Module):
    def __init__(self, channels, features, last):
        super().__init__()
        self.up, self.conv1 = ConvNorm(channels, features, 2), ConvNorm(2 * features, features)
        self.conv2 = nn.Identity() if last else ConvNorm(features, features)

    def forward(self, x, skip):
        x = self.up(functional.interpolate(x, scale_factor=2, mode="nearest"))[..., : skip.shape[2], : skip.shape[3]]
        return self.conv2(self.conv1(torch.cat([x, skip], dim=1)))


class Decoder(nn.Module):
    def __init__(self, width=WIDTH):
        super().__init__()
        for l in range(1, len(width)):
            self.add_module(f"block{l}", Block(width[-l], width[-1 - l], last=l == len(width) - 1))

    def forward(self, maps):
        x = maps[-1]
        for l, block in enumerate(self.children(), start=1):
            x = block(x, maps[-1 - l])
        return x


class Tail(nn.Module):
    def __init__(self, features, classes):
        super().__init__()
        self.convs, self.last = Level(features, features), nn.Conv2d(features, classes, 3, padding=1, bias=False)

    def forward(self, x):
        return self.last(self.convs(x))


class UNet(nn.Module):
    """Images [N, 1, H, W] -> class scores [N, classes, H, W]."""

    def __init__(self, classes, width=WIDTH):
        super().__init__()
        self.encoder, self.decoder, self.tail = Encoder(width), Decoder(width), Tail(width[0], classes)

    def forward(self, x):
        return self.tail(self.decoder(self.encoder(x)))


class GlobalModel(nn.Module):
    """Images [N, 1, S, S] -> embeddings [N, 128]: the encoder, its deepest map flattened as we flatten it, two dense layers."""

    def __init__(self, size, width=WIDTH, hidden=1024, features=128):
        super().__init__()
        self.encoder = Encoder(width)
        side = -(-size // 2 ** (len(width) - 1))
        self.dense1 = nn.Linear(side * side * width[-1], hidden, bias=False)
        self.dense2 = nn.Linear(hidden, features, bias=False)

    def forward(self, x):
        x = self.encoder(x)[-1].permute(0, 2, 3, 1).flatten(1)
        return self.dense2(functional.relu(self.dense1(x)))


# What our leaves are called here, and how their axes are turned.
LEAVES = {"kernel": "conv.weight", "bias": "conv.bias", "scale": "norm.weight", "shift": "norm.bias"}
OTHERS = {"tail/kernel": "tail.last.weight", "g1/dense1/kernel": "dense1.weight", "g1/dense2/kernel": "dense2.weight"}


def load(model: nn.Module, ours) -> None:
    """Copies our parameters, arrays by "params/encoder/level1/conv1/kernel", into the twin; every one of its parameters must be met.

    Raises: ValueError where the two networks do not have the same parameters.
    """
    state, met = dict(model.named_parameters()), set()
    for path in ours:
        name = path.removeprefix("params/")
        if name == path:
            continue
        parent, _, leaf = name.rpartition("/")
        there = OTHERS.get(name) or f"{parent.replace('/', '.')}.{LEAVES[leaf]}"
        value = np.asarray(ours[path])
        value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
        if there not in state or tuple(state[there].shape) != value.shape:
            raise ValueError(f"{path}: the twin has no {there} of shape {value.shape}")
        with torch.no_grad():
            state[there].copy_(torch.from_numpy(np.array(value, order="C")))
        met.add(there)
    if met != set(state):
        raise ValueError(f"parameters of the twin that we do not have: {sorted(set(state) - met)}")
