"""Public PyTorch weights of a ResNet: the safetensors file that the user supplies, its names and its layouts. No pickle is ever opened."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError
from safetensors.numpy import load_file

from uscl.models.resnet import PLANS, ResNet
from uscl.types import UserError

PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".tar")
PREFIXES = ("", "module.", "encoder.", "module.encoder.", "encoder.module.")
IGNORED = ("fc.weight", "fc.bias")  # the classifier over another data set's classes
LEAVES = {
    "kernel": "weight", "scale": "weight", "zero_scale": "weight", "shift": "bias", "mean": "running_mean", "var": "running_var",
}  # fmt: skip


def read_safetensors(path) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file by name, in the types they are stored in.

    Raises: UserError, naming the file, where it is missing, no safetensors file, or of a number type that NumPy lacks; for pickles
    (.pt, .pth and their like), which may run any program when opened, with the way to convert one.
    """
    if Path(path).suffix.lower() in PICKLED:
        raise UserError(
            f"{path}: is a pickle, which is never opened here, allowed is a safetensors file: where you trust it, convert it with "
            "safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'NAME.safetensors'), of its state_dict if it holds one"
        )
    try:
        return load_file(path)
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror or 'no such file'}") from error
    except SafetensorError as error:
        raise UserError(f"{path}: is no safetensors file: {error}") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path}: holds numbers of a type that NumPy lacks ({error}); allowed are floats of 16, 32 or 64 bits") from error


def from_torch(tensors: Mapping[str, np.ndarray], *, depth: int, channels: int, zero_last: bool = False) -> dict[str, Any]:
    """Variables of `ResNet(**PLANS[depth], zero_last=zero_last)` from a public ResNet's tensors under torchvision's names.

    `layer2.0.conv1.weight` [F, C, k, k] becomes params/stage2/block1/conv1/kernel [k, k, C, F]; `bn1` is that layer's scale and shift,
    mean and var; `downsample.0` and `.1` are `skip`. For a model that holds the network: {kind: {"encoder": ...}}, then `transfer`.

    A network of one channel gets the sum of the first kernel over red, green and blue: on a gray image it then does what the public one
    does on three copies of it. That is exact where the three are scaled alike, and ImageNet's three means and deviations nearly are.

    The names' prefix is the one of PREFIXES under which `conv1.weight` is found. With a prefix, what stands outside it belongs to other
    parts and is left; under it, `fc` and BatchNorm's batch counts are left, and any other tensor has to have its place.

    Args:
      tensors: arrays by name, of any floating type; a one-channel `conv1.weight` is taken as it is for `channels` 1.
      depth: 18 or 50.
      channels: of the images, 1 or 3.

    Returns: {"params", "batch_stats"} of new float32 arrays, every leaf of the network.

    Raises: UserError, naming the tensor, what was found and what is wanted, for one that is missing, of another shape, not of finite
    floats, or without a place; where no prefix or several fit; for another depth or number of channels.

    Known values: a first kernel of ones, [64, 3, 7, 7], becomes one of threes, [7, 7, 1, 64], for one channel.
    """
    if depth not in PLANS:
        raise UserError(f"depth: found {depth!r}, allowed are {_listed(PLANS)}")
    if channels not in (1, 3):
        raise UserError(f"channels: found {channels!r}, allowed are 1 and 3")
    init = partial(ResNet(**PLANS[depth], zero_last=zero_last).init, train=False)
    shapes = flatten_dict(jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, channels), jnp.float32)))
    prefix = _prefix(tensors)
    names = {path: prefix + torch_name(path) for path in shapes}
    for name in tensors:
        known = name in names.values() or name.removeprefix(prefix) in IGNORED or name.endswith(".num_batches_tracked")
        if name.startswith(prefix) and not known:
            raise UserError(
                f"{name}: found in the weights, but a ResNet of depth {depth} has no place for it; allowed depths: {_listed(PLANS)}"
            )
    return unflatten_dict({path: _turned(tensors, names[path], leaf.shape) for path, leaf in shapes.items()})


def torch_name(path: tuple[str, ...]) -> str:
    """Our leaf's path -> torchvision's name. Known: (params, stage2, block1, skip, scale) -> layer2.0.downsample.1.weight."""
    *place, layer, leaf = path[1:]
    is_kernel = leaf == "kernel"
    if layer == "skip":
        part = "downsample.0" if is_kernel else "downsample.1"
    else:
        number = layer.removeprefix("conv") if place else "1"  # the stem is conv1 and bn1 as well
        part = f"conv{number}" if is_kernel else f"bn{number}"
    where = f"layer{place[0].removeprefix('stage')}.{int(place[1].removeprefix('block')) - 1}." if place else ""
    return f"{where}{part}.{LEAVES[leaf]}"


def _prefix(tensors) -> str:
    fitting = [prefix for prefix in PREFIXES if f"{prefix}conv1.weight" in tensors]
    if len(fitting) == 1:
        return fitting[0]
    some = _listed([f"{prefix}conv1.weight" for prefix in fitting] or list(tensors)[:3] or ["no tensor"])
    raise UserError(f"conv1.weight: found {some} in the weights, wanted is exactly one, bare or under {_listed(PREFIXES[1:])}")


def _turned(tensors, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor `name` in our layout, checked against `shape`."""
    wanted = tuple(shape[i] for i in (3, 2, 0, 1)) if len(shape) == 4 else tuple(shape)
    if name not in tensors:
        raise UserError(f"{name}: not found in the weights, wanted with shape {wanted}")
    value = np.asarray(tensors[name])
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise UserError(f"{name}: found numbers of type {value.dtype}, wanted floats")
    value = np.array(value, np.float32)
    color = (wanted[0], 3, *wanted[2:])
    is_gray = wanted[1:2] == (1,)  # the first kernel alone reads one channel
    if value.shape == color and is_gray:
        value = value.sum(1, keepdims=True)
    if value.shape != wanted:
        raise UserError(f"{name}: found shape {value.shape}, wanted {f'{wanted} or {color}' if is_gray else wanted}")
    if not np.isfinite(value).all():
        raise UserError(f"{name}: found NaN or infinite weights, wanted finite ones")
    return np.ascontiguousarray(value.transpose(2, 3, 1, 0)) if value.ndim == 4 else value


def _listed(names) -> str:
    return ", ".join(str(name) for name in names)
