"""Where a stage stands: its state, the best so far, and the number of updates done, as the newest checkpoint has them."""
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from uscl.train import hosts
from uscl.train.checkpoint import Checkpoints
from uscl.train.logs import Log
from uscl.train.mesh import put_replicated
from uscl.train.state import TrainState
from uscl.types import UserError


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Best:
    """Weights of the highest validation score so far, the first of equals; -inf and step 0 before any validation."""

    score: jax.Array
    step: jax.Array
    params: Any
    batch_stats: Any


def recall(
    state: TrainState, checkpoints: Checkpoints, *, stage: str, steps: int, log: Log, mesh: Mesh, validated: bool
) -> tuple[TrainState, Best | None, int]:
    """State, best and number of updates of the newest whole checkpoint, on the mesh; `state`, no best and 0 without any.

    Of several processes the first chooses the checkpoint, and each reads it: they share the folder.

    Raises:
        UserError: the checkpoint is of more than `steps` updates, or does not fit `state`.
    """
    state = put_replicated(mesh, state)
    best = None
    if validated:
        best = put_replicated(mesh, Best(jnp.float32(-jnp.inf), jnp.int32(0), state.params, state.batch_stats))
    start = hosts.agree((checkpoints.latest() or 0) if hosts.primary() else 0)
    if start > steps:
        raise UserError(f"{checkpoints.folder / str(start)}: {start} updates are done, the {stage} stage is set to {steps}")
    if start:
        hosts.wait_for(checkpoints.folder / str(start))
        saved = checkpoints.restore(start, {"state": state, "best": best}, mesh=mesh)
        state, best = saved["state"], saved["best"]
        told = "done before" if start == steps else f"goes on after update {start} of {steps}"
        log.info(f"{stage}: {told}, from {checkpoints.folder / str(start)}")
    return state, best, start


def first_not_finite(tree) -> float | None:
    """The first value of a tree of NumPy arrays that is NaN or infinite, or None."""
    for leaf in jax.tree.leaves(tree):
        if not np.isfinite(leaf).all():
            return float(leaf[~np.isfinite(leaf)].flat[0])
    return None
