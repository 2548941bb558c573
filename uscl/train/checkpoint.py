"""Checkpoints on disk: the only file that knows Orbax.

A tree is flattened to named leaves, so that what lies on disk depends on names and shapes alone, not on how optax or a
dataclass is put together. `folders` sees to it that a checkpoint is there whole or not at all: Orbax restores a flipped bit
without a word, and answers a missing file with pages of text. Orbax is handed NumPy arrays only and is told that it is
alone, so it waits for no other process: one writes, and each reads for itself.
"""
import functools
import logging
import os
import re
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from uscl.train import folders
from uscl.train.mesh import put_replicated
from uscl.types import UserError

log = logging.getLogger(__name__)
# Orbax tells each save and restore in a dozen lines through absl, and each error with a traceback beside the one it raises.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname or record.levelno >= logging.CRITICAL)
logging.getLogger("asyncio").addFilter(lambda record: "orbax" not in record.getMessage())


class Checkpoints:
    """The checkpoints of one stage: FOLDER/STEP/, written whole or not at all; the newest `keep` stay, and the best."""

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
            damage = folders.damage(self.folder / str(step))
            if damage is None:
                return step
            log.warning("checkpoint %s is damaged (%s); looking for the one before", self.folder / str(step), damage)
        if steps:
            raise UserError(f"{self.folder}: none of the {len(steps)} checkpoints can be read; delete the folder to begin the stage anew")
        return None

    def save(self, step: int, tree, *, best: int | None = None) -> Path:
        """Writes a tree of arrays under this step and drops what is older than the newest `keep`, except the step `best`.

        Later steps are dropped as well: whoever saves step 40 came from a step before it and passed over a damaged 60.

        Raises:
            UserError: the disk is full, or can't be written; nothing is left of this step, and the older ones stand.
        """
        path = self.folder / str(step)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(path, tree)
        except OSError as error:
            before = self.steps()
            stands = f"the checkpoint of update {before[-1]} stands" if before else "there is none from before"
            raise UserError(f"{path}: can't be written ({error.strerror}); {stands}; make room, and the same command goes on") from error
        kept = {str(s) for s in [s for s in self.steps() if s <= step][-self.keep :]} | {str(best)}
        for entry in list(self.folder.iterdir()):
            if folders.PARTIAL in entry.name or (entry.name.isdecimal() and (entry.name not in kept or int(entry.name) > step)):
                folders.remove(entry)
        return path

    def restore(self, step: int, like, *, mesh: Mesh | None = None):
        """Reads the checkpoint of a step into the form of `like`; see `load_weights`."""
        return load_weights(self.folder / str(step), like, mesh=mesh)


def save_weights(folder: Path | str, variables) -> Path:
    """Writes a tree of arrays, such as a stage's final variables, to a folder, replacing what was there."""
    path = Path(folder).resolve()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, variables)
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror}") from error
    return path


def copy_to_host(tree):
    """A tree of NumPy arrays that share no memory with the devices', which the next step may then use up."""
    return jax.tree.map(lambda leaf: np.array(leaf, copy=True), tree)


def load_weights(folder: Path | str, like=None, *, mesh: Mesh | None = None):
    """Reads what `save_weights` or `Checkpoints.save` wrote.

    Args:
        folder: the folder written.
        like: tree of arrays or ShapeDtypeStructs whose structure, shapes and types are expected; None returns nested
            dicts of whatever is there.
        mesh: devices to hold the arrays, each in full, however many there were at the time of writing; None is this
            process's first device.

    Raises:
        UserError: there is no such checkpoint, it is damaged, or a leaf is missing, too many, or of another shape or type.
    """
    path = Path(folder).resolve()
    damage = folders.damage(path)
    if damage is not None:
        raise UserError(f"{path}: can't be read as a checkpoint: {damage}")
    stored = _checkpointer().metadata(path).item_metadata.tree
    if like is not None:
        _compare(path, stored, _flatten(like))
    target = {name: np.empty(leaf.shape, leaf.dtype) for name, leaf in stored.items()}
    leaves = _checkpointer().restore(path, args=ocp.args.StandardRestore(target))
    leaves = jax.device_put(leaves, jax.local_devices()[0]) if mesh is None else put_replicated(mesh, leaves)
    if like is None:
        return _nest(leaves)
    return jax.tree_util.tree_map_with_path(lambda keys, _: leaves[_name(keys)], like)


@functools.cache
def _checkpointer():
    alone = ocp.options.MultiprocessingOptions(primary_host=jax.process_index(), active_processes={jax.process_index()})
    return ocp.Checkpointer(ocp.StandardCheckpointHandler(multiprocessing_options=alone), multiprocessing_options=alone)


def _write(path: Path, tree):
    """Raises OSError, also where it is TensorStore that met the full disk and calls that a ValueError."""
    leaves = {name: np.asarray(leaf) for name, leaf in _flatten(tree).items()}
    needs = sum(leaf.nbytes + 4096 for leaf in leaves.values()) + 2**20  # generous on names and layout
    try:
        folders.write(path, lambda partial: _checkpointer().save(partial, args=ocp.args.StandardSave(leaves)), needs=needs)
    except ValueError as error:
        code = re.search(r"os_error_code='(\d+)'", str(error))
        if not code:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error


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
