"""nnU-Net's plain network and its sliding window in torch: the peer of the bench's inference rows. Imported where torch is.

Modules bear the names of our parameters, so that `load` carries one over to the other. Like the original it adds the convolutions' biases,
which the norm behind them takes away again.
"""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class ConvInstance(nn.Module):
    """LeakyReLU(InstanceNorm(convolution + bias)), kernel 3 x 3; the norm as groups of one channel, which torch computes faster."""

    def __init__(self, channels, features, stride=(1, 1)):
        super().__init__()
        self.conv = nn.Conv2d(channels, features, 3, stride, padding=1)
        self.norm = nn.GroupNorm(features, features, eps=1e-5)

    def forward(self, x):
        return functional.leaky_relu(self.norm(self.conv(x)), 0.01, inplace=True)


def stage(channels, features, count, stride=(1, 1)) -> nn.Sequential:
    """`conv1`, `conv2`, .. of equal width, the first one strided."""
    parts = nn.Sequential()
    for i in range(count):
        parts.add_module(f"conv{i + 1}", ConvInstance(features if i else channels, features, (1, 1) if i else stride))
    return parts


class Level(nn.Module):
    def __init__(self, below, features, count, stride):
        super().__init__()
        self.up = nn.ConvTranspose2d(below, features, stride, stride)
        self.convs = stage(2 * features, features, count)

    def forward(self, x, skip):
        return self.convs(torch.cat([self.up(x), skip], dim=1))


class NNUNet(nn.Module):
    """The network of a plan with 3 x 3 kernels: images [N, 1, H, W] -> the finest scores [N, heads, H, W]; other heads lie idle."""

    def __init__(self, plan, heads):
        super().__init__()
        self.depth, channels = len(plan.features), 1
        for s, (features, count, stride) in enumerate(zip(plan.features, plan.blocks, plan.strides, strict=True)):
            self.add_module(f"stage{s}", stage(channels, features, count, stride))
            channels = features
        for s, count in zip(range(self.depth - 2, -1, -1), plan.decoder, strict=True):
            self.add_module(f"level{s}", Level(plan.features[s + 1], plan.features[s], count, plan.strides[s + 1]))
            self.add_module(f"head{s}", nn.Conv2d(plan.features[s], heads, 1))

    def forward(self, x):
        maps = []
        for s in range(self.depth):
            x = getattr(self, f"stage{s}")(x)
            maps.append(x)
        for s in range(self.depth - 2, -1, -1):
            x = getattr(self, f"level{s}")(x, maps[s])
        return self.head0(x)


def load(model: NNUNet, ours) -> None:
    """Copies our parameters, arrays by "params/stage0/conv1/leaky_kernel", into the twin; every one of its parameters must be met.

    Raises: ValueError where the two networks do not have the same parameters.
    """
    state, met = dict(model.named_parameters()), set()
    for path in ours:
        *parents, leaf = path.removeprefix("params/").split("/")
        if not path.startswith("params/"):
            continue
        inner = {"leaky_kernel": "conv.", "bias": "conv.", "scale": "norm.", "shift": "norm."} if parents[-1].startswith("conv") else {}
        name = ".".join(parents) + "." + inner.get(leaf, "") + ("bias" if leaf in ("bias", "shift") else "weight")
        value = np.asarray(ours[path])
        if value.ndim == 4:
            value = value.transpose(0, 3, 1, 2) if leaf == "spread_kernel" else value.transpose(3, 2, 0, 1)
        if name not in state or tuple(state[name].shape) != value.shape:
            raise ValueError(f"{path}: the twin has no {name} of shape {value.shape}")
        with torch.no_grad():
            state[name].copy_(torch.from_numpy(np.array(value, order="C")))
        met.add(name)
    if met != set(state):
        raise ValueError(f"parameters of the twin that we do not have: {sorted(set(state) - met)}")


def starts(size: int, patch: int) -> list[int]:
    """First pixels of tiles that overlap by half at least."""
    steps = math.ceil(2 * (size - patch) / patch)
    return [round(i * (size - patch) / steps) for i in range(steps + 1)] if steps else [0]


def importance(patch) -> torch.Tensor:
    axes = [torch.exp(-0.5 * ((torch.arange(p) - p // 2) / (p / 8)) ** 2) for p in patch]
    return 10 * torch.outer(*axes)


@torch.inference_mode()
def predict(model: NNUNet, image: torch.Tensor, patch, batch: int) -> torch.Tensor:
    """Image [1, H, W], at least as large as the patch -> scores [K, H, W], the Gaussian-weighted mean over tiles; no mirroring."""
    places = [(y, x) for y in starts(image.shape[1], patch[0]) for x in starts(image.shape[2], patch[1])]
    if len(places) == 1:
        return model(image[None].contiguous(memory_format=torch.channels_last))[0]
    weight, total, seen = importance(patch), None, torch.zeros(image.shape[1:])
    for first in range(0, len(places), batch):
        cuts = [(slice(None), slice(y, y + patch[0]), slice(x, x + patch[1])) for y, x in places[first : first + batch]]
        scores = model(torch.stack([image[cut] for cut in cuts]).contiguous(memory_format=torch.channels_last))
        total = torch.zeros(scores.shape[1], *image.shape[1:]) if total is None else total
        for cut, score in zip(cuts, scores, strict=True):
            total[cut] += score * weight
            seen[cut[1:]] += weight
    return total / seen
