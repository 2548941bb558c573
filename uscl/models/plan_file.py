"""What a plan of nnU-Net holds, and its JSON file: for people to edit, and refused in one sentence where it can't be obeyed."""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uscl.types import UserError

PLANNERS = {
    "plain": "ExperimentPlanner",
    "resenc_m": "nnUNetPlannerResEncM",
    "resenc_l": "nnUNetPlannerResEncL",
    "resenc_xl": "nnUNetPlannerResEncXL",
}
NETWORKS = {False: "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            True: "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"}  # fmt: skip
# Settings of the original with one value that the network and the loss here are built for; a file may leave them out.
FIXED = {
    "conv_op": "torch.nn.modules.conv.Conv2d", "conv_bias": True, "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
    "norm_op_kwargs": {"eps": 1e-5, "affine": True}, "dropout_op": None, "dropout_op_kwargs": None, "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Patch, batch and network of one data set. Lengths in pixels, rows before columns; one entry a stage, from the image down."""

    preset: str  # a name of PLANNERS, or the planner's own name in a file of some other planner
    patch: tuple[int, int]
    batch: int
    features: tuple[int, ...]
    strides: tuple[tuple[int, int], ...]  # of each stage's first convolution; the first is (1, 1)
    kernels: tuple[tuple[int, int], ...]
    blocks: tuple[int, ...]  # convolutions, or residual blocks, of each encoder stage
    decoder: tuple[int, ...]  # convolutions of each decoder level, from the deepest up: one level fewer than stages
    residual: bool
    masked: bool  # grey values are standardised over the non-zero region alone
    shape: tuple[float, float]  # median size of the frames after the crop
    spacing: tuple[float, float] = (1.0, 1.0)
    channels: int = 1


def write_plan(plan: Plan, path) -> None:
    """The plan as JSON under the key names of nnU-Net's nnUNetPlans.json; every key written is one that `read_plan` obeys."""
    network = {
        "n_stages": len(plan.strides), "features_per_stage": plan.features, "kernel_sizes": plan.kernels, "strides": plan.strides,
        _blocks_key(plan.residual): plan.blocks, "n_conv_per_stage_decoder": plan.decoder,
    }  # fmt: skip
    settings = {
        "batch_size": plan.batch, "patch_size": plan.patch, "median_image_size_in_voxels": plan.shape, "spacing": plan.spacing,
        "normalization_schemes": ["ZScoreNormalization"] * plan.channels, "use_mask_for_norm": [plan.masked] * plan.channels,
        "batch_dice": True, "architecture": {"network_class_name": NETWORKS[plan.residual], "arch_kwargs": network},
    }  # fmt: skip
    whole = {"experiment_planner_used": PLANNERS.get(plan.preset, plan.preset), "configurations": {"2d": settings}}
    partial = Path(f"{path}.partial")
    partial.write_text(_text(whole) + "\n", encoding="utf-8")
    os.replace(partial, path)


def read_plan(path) -> Plan:
    """The plan in a file of `write_plan`, edited or not, or the 2-D plan in an nnUNetPlans.json of nnU-Net (written since its version 2.4).

    Raises: UserError, naming file, key, what was found and what is allowed, for a file that is missing or no JSON, a missing key, a value
    out of its range, lists that disagree in length, a patch that the strides do not divide, and any setting that is not built here.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_unique)
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is no JSON file: {error}") from error
    top = _Table(str(path), "", content)
    top.fixed("transpose_forward", [0, 1, 2])
    planner = top.take("experiment_planner_used", lambda v: isinstance(v, str) and v != "", "the name of the planner, as text")
    preset = {name: ours for ours, name in PLANNERS.items()}.get(planner, planner)
    settings = top.table("configurations").table("2d")
    settings.fixed("batch_dice", True)
    schemes = settings.take("normalization_schemes", _each(lambda v: v == "ZScoreNormalization"), 'a list, each "ZScoreNormalization"')
    flags = [[False] * len(schemes), [True] * len(schemes)]
    masked = settings.take("use_mask_for_norm", lambda v: v in flags, f"{len(schemes)} times false or {len(schemes)} times true")[0]
    size, spacing = (settings.take(key, _each(_positive, 2), "two numbers above 0") for key in ("median_image_size_in_voxels", "spacing"))
    architecture = settings.table("architecture")
    kinds = {name: residual for residual, name in NETWORKS.items()}
    residual = kinds[architecture.take("network_class_name", lambda v: isinstance(v, str) and v in kinds, "one of " + ", ".join(kinds))]
    if preset in PLANNERS and residual != (preset != "plain"):
        top.refuse("experiment_planner_used", planner, f"a planner of {NETWORKS[residual]}, as network_class_name says")
    network = architecture.table("arch_kwargs")
    lists = {key: network.lists(key, *rule) for key, rule in _LISTS.items() if key != _blocks_key(not residual)}
    known = [*lists, *FIXED, "n_stages"]
    for key, value in network.content.items():
        if key not in known:
            network.refuse(key, value, "none: there is no such setting here, only " + ", ".join(known))
    for key, value in FIXED.items():
        network.fixed(key, value)
    strides = lists["strides"]
    if strides[0] != (1, 1) or (1, 1) in strides[1:]:
        network.refuse("strides", network.content["strides"], "[1, 1] for the first stage, and a 2 in the pair of every other")
    factor = [math.prod(axis) for axis in zip(*strides, strict=True)]
    patch = settings.take("patch_size", _each(_whole, 2), f"two {WHOLES}")
    if patch[0] % factor[0] or patch[1] % factor[1]:
        settings.refuse("patch_size", patch, f"multiples of {factor[0]} and {factor[1]}, the products of the strides")
    if patch == factor:
        settings.refuse("patch_size", patch, "more: the deepest map would be a single pixel, which has no variance to be normalised by")
    return Plan(
        preset=preset, patch=tuple(patch), batch=settings.take("batch_size", _whole, WHOLE), features=lists["features_per_stage"],
        strides=strides, kernels=lists["kernel_sizes"], blocks=lists[_blocks_key(residual)], decoder=lists["n_conv_per_stage_decoder"],
        residual=residual, masked=masked, shape=tuple(map(float, size)), spacing=tuple(map(float, spacing)), channels=len(schemes),
    )  # fmt: skip


class _Table:
    """An object of the file. Whatever is taken from it is checked, and refused by name."""

    def __init__(self, file: str, where: str, content: Any):
        self.file, self.where, self.content = file, where, content
        if not isinstance(content, dict):
            raise UserError(f"{file}: {where.rstrip('.') or 'the whole'}: found {_short(content)}; allowed is an object of keys and values")

    def refuse(self, key: str, found: Any, allowed: str):
        raise UserError(f"{self.file}: {self.where}{key}: found {_short(found)}; allowed is {allowed}")

    def take(self, key: str, holds, allowed: str) -> Any:
        if key not in self.content:
            raise UserError(f"{self.file}: {self.where}{key}: there is no such key; allowed is {allowed}")
        if not holds(self.content[key]):
            self.refuse(key, self.content[key], allowed)
        return self.content[key]

    def table(self, key: str) -> "_Table":
        return _Table(self.file, f"{self.where}{key}.", self.take(key, lambda v: True, "an object of keys and values"))

    def fixed(self, key: str, value: Any) -> None:
        if key in self.content and (self.content[key] != value or type(self.content[key]) is not type(value)):
            self.refuse(key, self.content[key], f"{json.dumps(value)} alone: nothing else is built here")

    def lists(self, key: str, holds, allowed: str, fewer: int) -> tuple:
        stages = self.take("n_stages", lambda v: _whole(v) and 2 <= v <= 16, "a whole number from 2 to 16")
        number = stages - fewer
        text = f"a list of {number} (n_stages{f' - {fewer}' if fewer else ''}), each {allowed}"
        return tuple(tuple(v) if isinstance(v, list) else v for v in self.take(key, _each(holds, number), text))


WHOLE, WHOLES = "a whole number from 1 to 65536", "whole numbers from 1 to 65536"


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65536


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9


def _each(holds, number: int | None = None):
    """Whether a value is a list of `number` entries (None: one or more) that all hold."""
    return lambda v: isinstance(v, list) and (len(v) == number if number else len(v) > 0) and all(map(holds, v))


_LISTS = {
    "features_per_stage": (_whole, WHOLE, 0),
    "kernel_sizes": (_each(lambda v: _whole(v) and v % 2 == 1, 2), "two odd " + WHOLES, 0),
    "strides": (_each(lambda v: _whole(v) and v <= 2, 2), "two numbers that are 1 or 2", 0),
    "n_conv_per_stage": (_whole, WHOLE, 0),
    "n_blocks_per_stage": (_whole, WHOLE, 0),
    "n_conv_per_stage_decoder": (_whole, WHOLE, 1),
}


def _blocks_key(residual: bool) -> str:
    return "n_blocks_per_stage" if residual else "n_conv_per_stage"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return dict(pairs)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _text(value: Any, indent: str = "") -> str:
    """JSON with one key a line and every list on the line of its key, which `json.dumps` can't do."""
    if not isinstance(value, dict):
        return json.dumps(value)
    inner = indent + "  "
    return "{\n" + ",\n".join(f"{inner}{json.dumps(key)}: {_text(v, inner)}" for key, v in value.items()) + f"\n{indent}}}"
