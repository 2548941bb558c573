"""All that changes during a stage, in one tree: what is not in here need not be saved to continue a run exactly."""
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Position and weights of a stage.

    Attributes:
        step: int32 [], number of updates done.
        params: parameters, a dict whose top-level names are the submodules of the model.
        batch_stats: running statistics of BatchNorm, or {}.
        opt_state: state of the optimizer, for the trained submodules only.
        scales: term of the loss -> float32 [], running mean of its size, 0 while it has never been above 0.
        key: uint32 [2], data of the stage's random key, the same at every update: a step folds its number in. Kept untyped
            because jit takes a typed key's sharding for a new one at the third call.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    scales: dict[str, jax.Array]
    key: jax.Array


def create(
    params: Mapping[str, Any],
    batch_stats: Mapping[str, Any],
    optimizer: optax.GradientTransformation,
    terms: Iterable[str],
    seed: int,
    *,
    trainable: Callable[[str], bool] | None = None,
) -> TrainState:
    """State before the first update.

    Args:
        params: parameters by submodule.
        batch_stats: BatchNorm's running statistics, or {}.
        optimizer: the transformation that is given to `make_step` as well.
        terms: names of the loss's terms.
        seed: seed of the stage's random key.
        trainable: the predicate given to `make_step`; submodules it refuses take no optimizer memory.

    Raises:
        ValueError: `trainable` refuses every submodule.
    """
    trained, _ = split(params, trainable)
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=dict(params),
        batch_stats=dict(batch_stats),
        opt_state=optimizer.init(trained),
        scales={name: jnp.zeros((), jnp.float32) for name in sorted(terms)},
        key=jax.random.key_data(jax.random.key(seed)),
    )
    # Weakly typed scalars, which some optimizers start from, come out of the first step strongly typed: the second
    # step would be compiled anew.
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), state)


def split(params: Mapping[str, Any], trainable: Callable[[str], bool] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters as (trained, frozen), by the names of the top-level submodules; None trains them all."""
    trained = {name: tree for name, tree in params.items() if trainable is None or trainable(name)}
    if not trained:
        raise ValueError(f"nothing to train: `trainable` refuses each of {sorted(params)}")
    return trained, {name: tree for name, tree in params.items() if name not in trained}

