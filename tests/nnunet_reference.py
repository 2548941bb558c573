"""nnU-Net's network in float64 NumPy, pixel by pixel, and the small plans it is tried on."""

from types import SimpleNamespace

import jax
import numpy as np

THREE, ONE, TWO = (3, 3), (1, 1), (2, 2)


def plan(features, strides, blocks, decoder, residual=False, first=THREE):
    kernels = (first, *(THREE,) * (len(features) - 1))
    names = {"features": features, "strides": strides, "kernels": kernels, "blocks": blocks, "decoder": decoder, "residual": residual}
    return SimpleNamespace(**names)


def halved(features, blocks, decoder, residual=False):
    return plan(features, (ONE, *(TWO,) * (len(features) - 1)), blocks, decoder, residual)


PLAIN = halved((3, 4, 6), (2, 1, 2), (1, 2))
UNEVEN = plan((3, 4, 4), (ONE, (1, 2), (2, 1)), (1, 2, 2), (1, 1), True, first=(1, 3))
FULL = (32, 64, 128, 256, 512, 512, 512)

FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # to compile: nothing here runs for long
RNG = np.random.default_rng(5)


# --- the same in float64, pixel by pixel ---


def convolution(x, kernel, stride):
    """out(i, j) = sum over the window centred at (s i, t j), which is 0 outside the map."""
    (n, height, width, _), (k, l, _, features), (s, t) = x.shape, kernel.shape, stride
    padded = np.pad(x, ((0, 0), (k // 2, k // 2), (l // 2, l // 2), (0, 0)))
    out = np.zeros((n, len(range(0, height, s)), len(range(0, width, t)), features))
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            out[:, i, j] = np.tensordot(padded[:, s * i : s * i + k, t * j : t * j + l], kernel, 3)
    return out


def normalised(x, scale, shift):
    std = np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)
    return (x - x.mean((1, 2), keepdims=True)) / std * scale + shift


def activated(x):
    return np.where(x > 0, x, 0.01 * x)


def conv_norm(p, x, stride=ONE):
    x = convolution(x, p["leaky_kernel"], stride) + p.get("bias", 0)  # the bias, which ours leaves out
    return normalised(x, p["scale"] if "scale" in p else p["zero_scale"], p["shift"])


def transposed(p, x):
    (n, height, width, _), (_, s, t, features) = x.shape, p["spread_kernel"].shape
    out = np.zeros((n, s * height, t * width, features)) + p["bias"]
    for i in range(s):
        for j in range(t):
            out[:, i::s, j::t] += x @ p["spread_kernel"][:, i, j]
    return out


def averaged(x, stride):
    return sum(x[:, i :: stride[0], j :: stride[1]] for i in range(stride[0]) for j in range(stride[1])) / np.prod(stride)


def residual(p, x, stride):
    y = conv_norm(p["conv2"], activated(conv_norm(p["conv1"], x, stride)))
    skip = averaged(x, stride)
    return activated(y + (conv_norm(p["skip"], skip) if "skip" in p else skip))


def network(p, plan, x):
    """Every head's scores, finest first."""
    x = activated(conv_norm(p["stem"], x)) if plan.residual else x
    maps, scores, n = [], [], len(plan.features)
    for s, count in enumerate(plan.blocks):
        for i in range(count):
            stride, part = plan.strides[s] if i == 0 else ONE, p[f"stage{s}"]
            x = residual(part[f"block{i + 1}"], x, stride) if plan.residual else activated(conv_norm(part[f"conv{i + 1}"], x, stride))
        maps.append(x)
    for s, count in zip(reversed(range(n - 1)), plan.decoder, strict=True):
        x = np.concatenate([transposed(p[f"level{s}"]["up"], x), maps[s]], axis=-1)
        for i in range(count):
            x = activated(conv_norm(p[f"level{s}"]["convs"][f"conv{i + 1}"], x))
        scores.append(x @ p[f"head{s}"]["leaky_kernel"][0, 0] + p[f"head{s}"]["bias"])
    return scores[::-1]


def wide(tree):
    return jax.tree.map(lambda a: np.asarray(a, np.float64), tree)


def slope(f, at, along, step=1e-6):
    """Derivative of f, a function of a tree of float64, along a tree: central difference."""
    ahead, behind = (f(jax.tree.map(lambda a, d, h=h: a + h * d, at, along)) for h in (step, -step))
    return (ahead - behind) / (2 * step)


def dot(a, b):
    return sum(float(np.sum(np.asarray(x, np.float64) * y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def random_like(tree):
    return jax.tree.map(lambda a: RNG.normal(size=a.shape), tree)
