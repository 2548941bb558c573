"""Every knob of uscl: its default at both scales, its unit, its rule and what it does, in one table (`knobs.py`).

`default(scale)` builds the locked ConfigDict a file in `configs/` starts from; `validate(config)` holds a finished one against the same
table. Only this file, floor 3 and floor 4 ever see a ConfigDict: the arithmetic gets plain keyword arguments.

`quick` runs on the embedded phantom in minutes on two CPU cores. `paper` is the protocol of the kidney papers and of the contrastive
model they build on (192 x 192, 10,001 iterations a stage), where those say what it is.
"""

import difflib
from dataclasses import dataclass
from typing import Any

import ml_collections

from uscl.config.knobs import KNOBS
from uscl.types import UserError

SCALES = ("quick", "paper")


def default(scale: str = "quick") -> ml_collections.ConfigDict:
    """The locked configuration every file in `configs/` starts from."""
    if scale not in SCALES:
        raise UserError(f"config scale: found {scale!r}; allowed are {', '.join(SCALES)} (as in configs/NAME.py:paper)")
    tree: dict[str, Any] = {}
    for key, knob in KNOBS.items():
        *blocks, name = key.split(".")
        branch = tree
        for block in blocks:
            branch = branch.setdefault(block, {})
        branch[name] = knob.quick if scale == "quick" or knob.paper is None else knob.paper
    tree["scale"] = scale
    return ml_collections.ConfigDict(tree).lock()


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """{"block.name": value} of a ConfigDict or a nested dict, in its own order."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if hasattr(value, "items"):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def validate(config: Any) -> None:
    """Holds every value against its rule, then the rules that tie values together. Raises UserError at the first that is broken."""
    flat = flatten(config)
    for key, value in flat.items():
        if key not in KNOBS:
            near = difflib.get_close_matches(key, KNOBS, n=1)
            raise UserError(f"config.{key}: there is no such key" + (f"; did you mean config.{near[0]}?" if near else ""))
        if not KNOBS[key].rule.holds(value):
            raise UserError(f"config.{key}: found {value!r}; allowed is {KNOBS[key].rule.text}")
    for tie in TIES:
        if not tie.holds(flat):
            found = ", ".join(f"config.{key}={flat[key]!r}" for key in tie.keys)
            raise UserError(f"{found}: {tie.text}")


@dataclass(frozen=True)
class Tie:
    """A rule between several values."""

    keys: tuple[str, ...]
    holds: Any
    text: str


def _frames_hold_parts(stage: str) -> Tie:
    keys = (f"{stage}.pairs.sampling", f"{stage}.frames", f"{stage}.pairs.parts")
    return Tie(keys, lambda f: f[keys[0]] != "parts" or f[keys[1]] % f[keys[2]] == 0, "frames per cine must be a multiple of the parts")


def _frames_come_in_pairs(stage: str) -> Tie:
    keys = (f"{stage}.pairs.sampling", f"{stage}.frames")
    return Tie(keys, lambda f: f[keys[0]] != "neighbours" or f[keys[1]] % 2 == 0, "neighbours are drawn in pairs: frames must be even")


def _pair_ties(block: str) -> tuple[Tie, ...]:
    unit, margin, horizon, order, negatives = (f"{block}.{name}" for name in ("unit", "margin", "horizon", "curriculum", "negatives"))
    return (
        Tie(
            (unit, margin, horizon),
            lambda f: f[unit] != "frames" or (float(f[margin]).is_integer() and float(f[horizon]).is_integer()),
            "frames are counted: margin and horizon must be whole, or unit 'seconds'",
        ),
        Tie(
            (order, negatives),
            lambda f: f[order] == "none" or f[negatives] != "other_cines",
            "a curriculum orders a cine's own frames: negatives must be 'same_cine' or 'all'",
        ),
    )


def _area_counts(stage: str) -> Tie:
    keys = tuple(f"{stage}.loss.{name}" for name in ("dice", "cross_entropy", "speckle"))
    return Tie(keys, lambda f: f[keys[0]] + f[keys[1]] > 0, "the speckle loss is blind to area: dice or cross_entropy must be above 0")


TIES = (
    _frames_come_in_pairs("encoder"),
    _frames_come_in_pairs("decoder"),
    _frames_hold_parts("encoder"),
    _frames_hold_parts("decoder"),
    *_pair_ties("encoder.pairs"),
    *_pair_ties("decoder.pairs"),
    *_pair_ties("temporal"),
    Tie(("data.validation", "data.test"), lambda f: f["data.validation"] + f["data.test"] < 1, "their sum must stay below 1"),
    _area_counts("finetune"),
    _area_counts("nnunet"),
    Tie(
        ("finetune.dice.absent", "finetune.dice.smooth"),
        lambda f: f["finetune.dice.absent"] != "smooth" or f["finetune.dice.smooth"] > 0,
        "a smoothed fraction needs something to smooth with: smooth must be above 0",
    ),
    Tie(
        ("nnunet.loss.speckle", "finetune.speckle.form", "finetune.speckle.window_mm"),
        lambda f: not f["nnunet.loss.speckle"] or f["finetune.speckle.form"] != "map" or not f["finetune.speckle.window_mm"],
        "nnU-Net's patches do not know their mm: window_mm must be 0",
    ),
    Tie(
        ("decoder.views.crop", "decoder.views.flip"),
        lambda f: f["decoder.views.crop"] != "none" or f["decoder.views.flip"] == 0,
        "a flip needs matched regions, which come with crop='box' or 'random'",
    ),
    *(
        Tie((f"video.views.erase.{name}",), lambda f, key=f"video.views.erase.{name}": len(f[key]) == 2 and f[key][0] <= f[key][1],
            "the smallest and the largest are needed, in this order")
        for name in ("area", "aspect")
    ),
    Tie(
        ("saliency.window", "saliency.stride"),
        lambda f: len(f["saliency.window"]) == len(f["saliency.stride"]) == 3
        and all(not window or step <= window for window, step in zip(f["saliency.window"], f["saliency.stride"], strict=True)),
        "frames, rows and columns of each are needed, and no stride beyond its block, or pixels between blocks stay unseen",
    ),
)
