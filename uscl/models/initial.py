"""Initial weights, drawn by NumPy: the same on every machine, and at once, where compiling JAX's draws takes ten seconds a network."""
import zlib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uscl.models.nnunet_blocks import GAIN


def initialise(model, seed: int, shape: tuple[int, ...]) -> dict[str, Any]:
    """Variables {"params", "batch_stats"} of a model of this package for images of `shape` [H, W, C] or clips [T, H, W, C], float32.

    The distributions are those of `model.init`: convolutions N(0, 2 / fan_in), dense layers Glorot's uniform, scales and variances 1, all
    else 0; nnU-Net's convolutions N(0, 2 / (1 + 0.01^2) / fan_in), where a transposed one's fan_in counts what comes out, as torch does.
    A leaf's draw depends on the seed and its name alone, so parts that two models share start from the same weights.

    Raises: ValueError for a leaf of a kind this package does not have.
    """
    shapes = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    return jax.tree_util.tree_map_with_path(lambda path, leaf: jnp.asarray(_draw(seed, path, leaf.shape)), shapes)


def _draw(seed: int, path, shape: tuple[int, ...]) -> np.ndarray:
    name = "/".join(part.key for part in path)
    kind = path[-1].key
    if kind in ("scale", "var"):
        return np.ones(shape, np.float32)
    if kind in ("bias", "shift", "mean", "zero_scale"):
        return np.zeros(shape, np.float32)
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, zlib.crc32(name.encode())])))
    if kind == "kernel" and len(shape) in (4, 5):
        return (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1]))).astype(np.float32)
    if kind in ("leaky_kernel", "spread_kernel"):
        fan_in = np.prod(shape[:-1] if kind == "leaky_kernel" else shape[1:])
        return (rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(GAIN / fan_in))).astype(np.float32)
    if kind == "kernel" and len(shape) == 2:
        limit = np.sqrt(6 / sum(shape))
        return rng.uniform(-limit, limit, shape).astype(np.float32)
    raise ValueError(f"{name}: there is no rule for a leaf of shape {shape}")
