"""The weights a run begins from: those that another run's last trained stage ended with, so that a pretraining serves many fine-tunings."""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from uscl.config import flatten
from uscl.train import checkpoint
from uscl.types import UserError

HANDING_ON = ("encoder", "decoder", "finetune", "video", "anatomy")  # stages whose parts a later stage can take by name
ENDS = ("evaluate", "classify", "saliency", "planes")  # stages that hand on what they were given
LAST = ("video", "anatomy")  # stages that hand on their last weights although they look: what they look at are labels
KINDS = {"video": "clips", "classify": "clips", "saliency": "clips", "anatomy": "stills", "planes": "stills"}  # all others: "frames"
ALIKE = {  # what two runs must share, by the kind of their network
    "frames": ("model.width", "model.normalise"), "clips": ("video.plan", "model.normalise"),
    "stills": ("anatomy.depth", "anatomy.width", "model.normalise"),
}  # fmt: skip


def kind_of(stage: str) -> str:
    """What the stage's network is of: "frames", "clips" or "stills"."""
    return KINDS.get(stage, "frames")


def check_order(stages) -> None:
    """UserError where a stage would pass by what the one before it has learnt, because its network is of another kind."""
    trained = [name for name in stages if name in HANDING_ON]
    for before, after in zip(trained[:-1], trained[1:], strict=True):
        has, needs = kind_of(before), kind_of(after)
        if has != needs:
            raise UserError(
                f"config.stages: found {before!r} before {after!r}; the first has a network of {has}, the second one of {needs}, "
                "so nothing would be handed on; make them two runs"
            )


def carried(config, *, store) -> dict[str, Any] | None:
    """Variables {"params", "batch_stats"} as the run in `config.start` ended with them, NumPy; None where `config.start` is empty.

    The best look's weights where that run's last stage chose by its looks, its last weights otherwise: what it would have handed to a next
    stage. Raises UserError where that run is none, is not finished, learnt from another store, had another network, or ends with
    nnunet.
    """
    if not config.start:
        return None
    folder, kept = _kept(config.start)
    if "nnunet" in config.stages:
        raise UserError("config.start: found together with the stage 'nnunet', which learns from random weights; leave one of them out")
    noted = _json(folder / "environment.json").get("store", {})
    if noted.get("checksum") != store.checksum:
        raise UserError(
            f"config.start: the run in {folder} learnt from a store with the checksum {noted.get('checksum')}, {store.path} has "
            f"{store.checksum}; another store may hold this one's test patients under another split, so start from a run on the same one"
        )
    if noted.get("test", kept_out(store)) != kept_out(store):
        raise UserError(
            f"config.start: the run in {folder} kept other patients out for its test, so it may have learnt from this one's; "
            "start from a run with the same config.data.cross, config.data.fold and config.data.split_seed"
        )
    has, needs = kind_of(_trained(kept)), kind_of(config.stages[0])
    if has != needs:
        raise UserError(f"config.start: the run in {folder} ends with a network of {has}; config.stages begins with one of {needs}")
    mine = json.loads(config.to_json())
    for key in ALIKE[has]:
        theirs, ours = kept.get(key), flatten(mine).get(key)
        if theirs != ours:
            raise UserError(f"config.{key}: found {ours!r}; the run in {folder}, which config.start names, has {theirs!r}")
    return _weights(folder, kept)


def kept_out(store) -> str:
    """Hash of the names of a store's test patients."""
    return hashlib.sha256("\n".join(sorted(store.patients("test"))).encode()).hexdigest()[:16]


def _trained(kept: dict[str, Any]) -> str:
    """The last stage that learnt what a next one can take."""
    return next((stage for stage in reversed(kept.get("stages", ())) if stage not in ENDS), "")


def checksum(path: str) -> str:
    """Of the weights in a run's folder, wherever it lies and whenever it was trained: SHA-256 of names, shapes, numbers; "" for ""."""
    if not path:
        return ""
    folder, kept = _kept(path)
    digest = hashlib.sha256()
    for name, leaf in jax.tree_util.tree_leaves_with_path(_weights(folder, kept)):
        digest.update(f"{jax.tree_util.keystr(name)} {leaf.dtype} {leaf.shape}".encode() + np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def _kept(path: str) -> tuple[Path, dict[str, Any]]:
    """A run's folder and its flat configuration."""
    folder = Path(path)
    return folder, flatten(_json(folder / "config.json"))


def _weights(folder: Path, kept: dict[str, Any]) -> dict[str, Any]:
    stage = _trained(kept)
    if stage not in HANDING_ON:
        raise UserError(f"config.start: the run in {folder} ends with {stage!r}; allowed is one that ends with {', '.join(HANDING_ON)}")
    place = checkpoint.Checkpoints(folder / stage / "checkpoints")
    done, steps = place.latest() or 0, kept[f"{stage}.steps"]
    if done < steps:
        raise UserError(f"config.start: {folder / stage} is at update {done} of {steps}; let that run end first")
    tree = checkpoint.load_weights(place.folder / str(done))
    side = tree["best"] if "best" in tree and stage not in LAST else tree["state"]
    return jax.device_get({"params": side["params"], "batch_stats": side.get("batch_stats", {})})


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"config.start: {path} can't be read ({error}); name a run's folder, the --workdir of launch/main.py") from error
