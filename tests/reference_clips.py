"""Convolution, layer and network of clips, float64 NumPy in loops over the kernel's taps, and random variables for both sides."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def drawn(model, shape, seed=5):
    """Variables of NumPy's, every one of them random, running statistics too; the weights' deviation keeps the maps' size."""
    shapes = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
    rng = np.random.default_rng(seed)

    def leaf(path, a):
        fan_in = np.prod(a.shape[:-1]) if path[-1].key == "kernel" else 25
        center = float(path[-1].key in ("scale", "zero_scale", "var"))
        return (center + rng.uniform(-1, 1, a.shape) * np.sqrt(3 / fan_in)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(leaf, dict(shapes))


def taps(x, size, stride):
    """(place in the kernel, the padded clip's values it meets) for each tap; all lengths n give 1 + (n - 1) // stride."""
    p = size // 2
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (p, p), (p, p), (p, p), (0, 0)))
    ends = [1 + stride * ((n - 1) // stride) for n in x.shape[1:4]]
    for place in np.ndindex(size, size, size):
        yield place, padded[:, *(slice(i, i + n, stride) for i, n in zip(place, ends, strict=True))]


def plain_convolution(x, kernel, stride):
    return sum(met @ np.asarray(kernel, np.float64)[place] for place, met in taps(x, len(kernel), stride))


def plain_gradients(x, kernel, stride, g):
    """Of (convolution * g).sum(): each tap hands g back to where it came from."""
    dk, p = np.zeros(kernel.shape), len(kernel) // 2
    dx = np.zeros([n + 2 * p * (0 < i < 4) for i, n in enumerate(x.shape)])
    for place, met in taps(x, len(kernel), stride):
        dk[place] = np.einsum("btijc,btijf->cf", met, g)
        view = dx[:, *(slice(i, i + 1 + stride * (n - 1), stride) for i, n in zip(place, g.shape[1:4], strict=True))]
        view += g @ np.asarray(kernel[place], np.float64).T
    return dx[:, *(slice(p, p + n) for n in x.shape[1:4])], dk


def plain_layer(x, params, running, stride, train, seen):
    y = plain_convolution(x, params["conv"]["kernel"], stride)
    mean, var = (y.mean((0, 1, 2, 3)), y.var((0, 1, 2, 3))) if train else (running["mean"], running["var"])
    seen.append((mean, var))
    y = (y - mean) / np.sqrt(var + 1e-5) * params["scale" if "scale" in params else "zero_scale"] + params["shift"]
    return np.maximum(y, 0.1 * y)


def plain_network(x, params, running, train):
    """The map, and (mean, var) of every layer by name."""
    seen = []
    x = plain_layer(x, params["stage_0"], running["stage_0"], 1, train, seen)
    for stage in sorted(set(params) - {"stage_0"}):
        p, r = params[stage], running[stage]
        x = plain_layer(x, p["down"], r["down"], 2, train, seen)
        for block in sorted(set(p) - {"down"}):
            y = plain_layer(x, p[block]["conv1"], r[block]["conv1"], 1, train, seen)
            x = x + plain_layer(y, p[block]["conv2"], r[block]["conv2"], 1, train, seen)
    return x, seen
