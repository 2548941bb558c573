"""Carries what one stage learnt into the next stage's model, part by part, by name."""
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

PARTS = ("encoder", "decoder", "tail")  # everything else is a head, made for one stage and never carried on


def transfer(source: Mapping[str, Any], target: Mapping[str, Any], *, batch_stats: bool = True) -> dict[str, Any]:
    """`target` with every leaf under encoder, decoder or tail that `source` has too; neither argument is changed.

    Args:
      source, target: variables {"params": ..., "batch_stats": ...} of any two models of this package.
      batch_stats: False leaves BatchNorm's running statistics at the target's, as the published code does.

    Returns: variables with exactly the target's leaves.

    Raises: ValueError when a leaf to be carried has another shape, with its name and both shapes.

    Known values: from GlobalModel to UNet the whole encoder moves; from LocalModel(3) the encoder and blocks 1 to 3.
    """
    result = flatten_dict(dict(target), keep_empty_nodes=True)
    for path, leaf in flatten_dict(dict(source)).items():
        kind, part = path[0], path[1] if len(path) > 1 else ""
        if path not in result or part not in PARTS or kind not in ("params", *(("batch_stats",) if batch_stats else ())):
            continue
        if np.shape(leaf) != np.shape(result[path]):
            raise ValueError(f"{'/'.join(path)}: the source's shape is {np.shape(leaf)}, the target's {np.shape(result[path])}")
        result[path] = leaf
    return unflatten_dict(result)


def parameter_count(tree) -> int:
    """How many numbers the arrays of a tree hold; give it `variables["params"]` to leave running statistics out."""
    return sum(int(np.prod(np.shape(leaf))) for leaf in jax.tree.leaves(tree))
