"""Checkpoints on disk: the only file that knows Orbax.

A tree is flattened to named leaves, so that what lies on disk depends on names and shapes alone, not on how optax or a
dataclass is put together. Beside Orbax's files lies `checksums.json`: Orbax restores a flipped bit without a word, and
answers a missing file with pages of text.
"""
import functools
import json
import logging
import os
import shutil
import zlib
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh, SingleDeviceSharding

from uscl.train.mesh import replicated
from uscl.types import UserError

CHECKSUMS = "checksums.json"
PARTIAL = ".partial"  # a folder being written; whatever carries this in its name is no checkpoint

log = logging.getLogger(__name__)
# Orbax tells each save and restore in a dozen lines through absl. Errors still pass.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname or record.levelno >= logging.ERROR)


class Checkpoints:
    """The checkpoints of one stage: FOLDER/STEP/, written whole or not at all; the newest `keep` stay."""

    def __init__(self, folder: Path | str, *, keep: int = 2):
        if keep < 1:
            raise ValueError(f"keep must be at least 1, not {keep}")
        self.folder = Path(folder).resolve()
        self.keep = keep

    def steps(self) -> list[int]:
        """Steps a checkpoint exists of, whole or damaged, in ascending order."""
        if not self.folder.is_dir():
            return []
        return sorted(int(entry.name) for entry in self.folder.iterdir() if entry.name.isdecimal() and entry.is_dir())

    def latest(self) -> int | None:
        """Step of the newest checkpoint that is whole, or None if there is none at all. Damaged ones are told and passed over.

        Raises:
            UserError: there are checkpoints, and every one of them is damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            damage = _damage(self.folder / str(step))
            if damage is None:
                return step
            log.warning("checkpoint %s is damaged (%s); looking for the one before", self.folder / str(step), damage)
        if steps:
            raise UserError(f"{self.folder}: none of the {len(steps)} checkpoints can be read; delete the folder to begin the stage anew")
        return None

    def save(self, step: int, tree) -> Path:
        """Writes a tree of arrays under this step and drops what is older than the newest `keep`.

        Later steps are dropped as well: whoever saves step 40 came from a step before it and passed over a damaged 60.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / str(step)
        _write(path, tree)
        steps = self.steps()
        kept = {str(s) for s in [s for s in steps if s <= step][-self.keep :]}
        for entry in self.folder.iterdir():
            if PARTIAL in entry.name or (entry.name.isdecimal() and entry.name not in kept):
                shutil.rmtree(entry, ignore_errors=True)
        return path

    def restore(self, step: int, like, *, mesh: Mesh | None = None):
        """Reads the checkpoint of a step into the form of `like`; see `load_weights`."""
        return load_weights(self.folder / str(step), like, mesh=mesh)


def save_weights(folder: Path | str, variables) -> Path:
    """Writes a tree of arrays, such as a stage's final variables, to a folder, replacing what was there."""
    path = Path(folder).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, variables)
    return path


def load_weights(folder: Path | str, like=None, *, mesh: Mesh | None = None):
    """Reads what `save_weights` or `Checkpoints.save` wrote.

    Args:
        folder: the folder written.
        like: tree of arrays or ShapeDtypeStructs whose structure, shapes and types are expected; None returns nested
            dicts of whatever is there.
        mesh: devices to hold the arrays, each in full, however many there were at the time of writing; None is the
            first device.

    Raises:
        UserError: there is no such checkpoint, it is damaged, or a leaf is missing, too many, or of another shape or type.
    """
    path = Path(folder).resolve()
    damage = _damage(path)
    if damage is not None:
        raise UserError(f"{path}: can't be read as a checkpoint: {damage}")
    stored = _checkpointer().metadata(path).item_metadata.tree
    if like is not None:
        _compare(path, stored, _flatten(like))
    sharding = SingleDeviceSharding(jax.devices()[0]) if mesh is None else replicated(mesh)
    target = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding) for name, leaf in stored.items()}
    leaves = _checkpointer().restore(path, args=ocp.args.StandardRestore(target))
    if like is None:
        return _nest(leaves)
    return jax.tree_util.tree_map_with_path(lambda keys, _: leaves[_name(keys)], like)


@functools.cache
def _checkpointer():
    return ocp.Checkpointer(ocp.StandardCheckpointHandler())


def _write(path: Path, tree):
    """Orbax writes beside the place, then come the checksums, then one rename: a killed process leaves no half checkpoint."""
    partial = path.with_name(path.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    _checkpointer().save(partial, args=ocp.args.StandardSave(_flatten(tree)))
    (partial / CHECKSUMS).write_text(json.dumps(_checksums(partial), indent=0, sort_keys=True))
    if path.exists():
        shutil.rmtree(path)
    os.replace(partial, path)


def _checksums(path: Path) -> dict[str, int]:
    files = (file for file in path.rglob("*") if file.is_file() and file.name != CHECKSUMS)
    return {file.relative_to(path).as_posix(): zlib.crc32(file.read_bytes()) for file in files}


def _damage(path: Path) -> str | None:
    """What is wrong with a checkpoint's files, in a few words, or None."""
    if not path.is_dir():
        return "no such folder"
    try:
        expected = json.loads((path / CHECKSUMS).read_text())
        found = _checksums(path)
    except (OSError, ValueError) as error:
        return f"{CHECKSUMS}: {error.__class__.__name__}"
    for name, checksum in expected.items():
        if found.get(name) != checksum:
            return f"{name} is {'altered' if name in found else 'missing'}"
    return None


def _name(keys) -> str:
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def _flatten(tree) -> dict:
    """Leaves by name, such as state/params/encoder/kernel."""
    return {_name(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _nest(leaves: dict) -> dict:
    tree = {}
    for name, leaf in leaves.items():
        *parents, last = name.split("/")
        functools.reduce(lambda node, part: node.setdefault(part, {}), parents, tree)[last] = leaf
    return tree


def _compare(path: Path, stored: dict, expected: dict):
    for name in sorted(stored.keys() | expected.keys()):
        if name not in stored:
            raise UserError(f"{path}: holds no {name}, which the present configuration needs")
        if name not in expected:
            raise UserError(f"{path}: holds {name}, which the present configuration knows nothing of")
        there, here = stored[name], expected[name]
        if tuple(there.shape) != tuple(here.shape) or np.dtype(there.dtype) != np.dtype(here.dtype):
            raise UserError(
                f"{path}: {name} is {there.dtype}{list(there.shape)}, the present configuration needs {here.dtype}{list(here.shape)}"
            )
