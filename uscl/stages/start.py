"""The weights a run begins from: those that another run's last trained stage ended with, so that a pretraining serves many fine-tunings,
or a public ResNet's."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from uscl.data import format as layout
from uscl.models import ResNet
from uscl.models.resnet_names import from_torch, read_safetensors
from uscl.stages import origins
from uscl.stages.kinds import HANDING_ON, NETWORK, PLAIN, SEGMENTING, flat, kind_of, trained
from uscl.train import checkpoint
from uscl.types import UserError

LAST = ("video", "anatomy")  # stages that hand on their last weights although they look: what they look at are labels
ALIKE = {  # what two runs must share, by the kind of their network
    "frames": ("model.width", "model.normalise"), "clips": ("video.plan", "model.normalise"),
    "stills": ("anatomy.depth", "anatomy.width", "model.normalise"),
}  # fmt: skip


def carried(config, *, store, tell: origins.Tell = lambda text: None) -> dict[str, Any] | None:
    """Variables {"params", "batch_stats"} as `config.start` has them, NumPy; None where that is empty.

    Of a run: the best look's weights where its last stage chose by its looks, its last weights otherwise: what it would have handed to a
    next stage. Of a .safetensors file: a public ResNet as {"params": {"encoder": ...}, "batch_stats": {"encoder": ...}}. A run may have
    learnt from another store where `config.start_elsewhere` allows it, also from images of another size, for all networks are
    convolutions; `tell` is then given a line on what was checked.

    Raises UserError where that run is none, is not finished, may have learnt from this store's test patients, had another network, or ends
    with nnunet; for a file that does not fit `config.anatomy`, or before stages of another network.
    """
    if not config.start:
        return None
    if "nnunet" in config.stages:
        raise UserError("config.start: found together with the stage 'nnunet', which learns from random weights; leave one of them out")
    mine = flat(config)
    needs = kind_of(config.stages[0], mine)
    if origins.is_file(config.start):
        return _public(config.start, needs, depth=config.anatomy.depth, width=config.anatomy.width)
    folder, kept = origins.read_run(config.start)
    before = origins.line(config.start, tell)
    _check_test(before, store, elsewhere=config.start_elsewhere)
    has = kind_of(trained(kept), kept)
    if has != needs:
        raise UserError(f"config.start: the run in {folder} ends with a network of {has}; config.stages begins with one of {needs}")
    segments = next((name for name in config.stages if name in HANDING_ON + SEGMENTING), "") in SEGMENTING
    absent = {NETWORK: PLAIN} if segments and trained(kept) == "finetune" else {}  # runs from before there was a choice have this
    for key in (*ALIKE[has], *absent):
        theirs, ours = kept.get(key, absent.get(key)), mine.get(key)
        if theirs != ours:
            raise UserError(f"config.{key}: found {ours!r}; the run in {folder}, which config.start names, has {theirs!r}")
    weights = _weights(folder, kept)
    for run, noted in before:
        if noted.get("checksum") != store.checksum:
            origins.check(store, run, noted, tell)
    return weights


def _check_test(before: list[tuple[Path, dict[str, Any]]], store, *, elsewhere: bool) -> None:
    """UserError where the newest of the runs is on another store and may not be, or one on this store was tested on other patients."""
    for place, (folder, noted) in enumerate(before):
        if noted.get("checksum") == store.checksum:
            if noted.get("test", kept_out(store)) != kept_out(store):
                raise UserError(
                    f"config.start: the run in {folder} kept other patients out for its test, so it may have learnt from this one's; "
                    "start from a run with the same config.data.cross, config.data.fold and config.data.split_seed"
                )
        elif not place and not elsewhere:
            raise UserError(
                f"config.start: the run in {folder} learnt from a store with the checksum {noted.get('checksum')}, {store.path} has "
                f"{store.checksum}; another store may hold this one's test patients under another split, so start from a run on the same "
                "one, or say config.start_elsewhere=True where its patients are others"
            )


def _public(path: str, needs: str, *, depth: int, width: int) -> dict[str, Any]:
    """A file's weights as a run of stage `anatomy` would hand them on."""
    if needs != "stills":
        raise UserError(f"config.start: {path} names a file of a ResNet's weights; config.stages begins with a network of {needs}")
    tensors = read_safetensors(path)
    if width != ResNet.width:
        raise UserError(f"config.anatomy.width: found {width}; the weights in {path}, which config.start names, need {ResNet.width}")
    try:
        variables = from_torch(tensors, depth=depth, channels=1)
    except UserError as error:
        raise UserError(f"config.start: {path} does not fit config.anatomy.depth={depth}: {error}") from error
    return {kind: {"encoder": tree} for kind, tree in variables.items()}


def kept_out(store) -> str:
    """Hash of the names of a store's test patients."""
    return hashlib.sha256("\n".join(sorted(store.patients("test"))).encode()).hexdigest()[:16]


def checksum(path: str) -> str:
    """Of the weights to start from, wherever they lie: of a file its SHA-256, in a run's folder, whenever it was trained, that of names,
    shapes and numbers; "" for ""."""
    if not path:
        return ""
    if origins.is_file(path):
        try:
            return layout.sha256(path)
        except OSError as error:
            raise UserError(f"config.start: {path} can't be read: {error.strerror}") from error
    digest = hashlib.sha256()
    for name, leaf in jax.tree_util.tree_leaves_with_path(_weights(*origins.read_run(path))):
        digest.update(f"{jax.tree_util.keystr(name)} {leaf.dtype} {leaf.shape}".encode() + np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def _weights(folder: Path, kept: Mapping[str, Any]) -> dict[str, Any]:
    stage = trained(kept)
    if stage not in HANDING_ON:
        raise UserError(f"config.start: the run in {folder} ends with {stage!r}; allowed is one that ends with {', '.join(HANDING_ON)}")
    place = checkpoint.Checkpoints(folder / stage / "checkpoints")
    done, steps = place.latest() or 0, kept[f"{stage}.steps"]
    if done < steps:
        raise UserError(f"config.start: {folder / stage} is at update {done} of {steps}; let that run end first")
    tree = checkpoint.load_weights(place.folder / str(done))
    side = tree["best"] if "best" in tree and stage not in LAST else tree["state"]
    return jax.device_get({"params": side["params"], "batch_stats": side.get("batch_stats", {})})
