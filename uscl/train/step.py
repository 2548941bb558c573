"""One update of the parameters, compiled once: the only place where a gradient is taken and an optimizer called."""
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from uscl.train.mesh import batch_sharding, replicated
from uscl.train.state import TrainState, split

# A term's size at or below this counts as zero: the term is absent from the batch, which says nothing about its scale.
NOTHING = 1e-8

# loss_fn(params, batch_stats, batch, key) -> {term: mean loss []}, (new batch_stats, {metric: scalar []})
LossFn = Callable[[Any, Any, Mapping[str, jax.Array], jax.Array], tuple[dict[str, jax.Array], tuple[Any, dict[str, jax.Array]]]]


def make_step(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    weights: Mapping[str, float],
    equalise: bool = False,
    decay: float = 0.99,
    trainable: Callable[[str], bool] | None = None,
):
    """Makes `step(state, batch) -> (state, metrics)`, jitted, with the state replicated and donated and the batch split.

    loss = sum_k weights[k] * term_k                       equalise False
    loss = sum_k weights[k] * term_k / stop_gradient(s_k)  equalise True, s_k the running mean of |term_k|

    The mean is updated before it is used: s = |term| the first time the term is above 1e-8, so the term enters with
    exactly its weight, and decay * s + (1 - decay) * |term| from then on; term_k / s_k never exceeds 1 / (1 - decay).
    Batches in which the term is 0 leave s as it is, because they hold nothing to measure; while s is 0 the divisor is 1.

    A term of weight 0 is reported and left out of the sum, so its gradient is exactly 0 even where it would not be finite.
    Frozen submodules are constants of the derivative: bitwise unchanged, no gradient, no optimizer memory. Their running
    statistics are `batch_stats`, no parameters, and become whatever `loss_fn` returns. The random key given to
    `loss_fn` is the state's with the number of updates done before folded in.

    Args:
        loss_fn: returns the terms, each the mean loss over the whole batch, and what is passed on. Every value has shape [].
        optimizer: the one the state was created with.
        mesh: from `make_mesh`.
        weights: weight of every term, by name.
        equalise: divide each term by the running mean of its size.
        decay: share of the old value kept in the running mean, 0 <= decay < 1.
        trainable: says by the name of a top-level submodule whether it is trained; None trains all.

    Returns:
        The step. Its metrics, all float32 []: `loss`, each term, `gradient_norm` of the trained parameters, and those of
        `loss_fn`. The state passed in is used up.

    Raises:
        ValueError: at the first call, when the terms are not those in `weights`, a value is no scalar, or a metric's name
            is taken.

    Known values: terms 4 then 2 of weight 1, decay 0.5: loss 4/4 = 1, then 2/3; scales 4, then 3.
    """
    if not 0.0 <= decay < 1.0:
        raise ValueError(f"decay must lie in [0, 1), not {decay}")
    weights = {name: float(weight) for name, weight in weights.items()}

    def combine(terms, scales):
        if set(terms) != set(weights):
            raise ValueError(f"loss_fn returned the terms {sorted(terms)}, weights are given for {sorted(weights)}")
        loss = jnp.zeros((), jnp.float32)
        new_scales = dict(scales)
        for name in sorted(terms):
            term = _scalar(name, terms[name])
            if equalise:
                new_scales[name] = _running_mean(scales[name], jax.lax.stop_gradient(jnp.abs(term)), decay)
                divisor = jnp.where(new_scales[name] > 0.0, new_scales[name], 1.0)
            else:
                divisor = 1.0
            if weights[name] != 0.0:
                loss = loss + weights[name] * term / divisor
        return loss, new_scales

    def step(state: TrainState, batch):
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        trained, frozen = split(state.params, trainable)

        def objective(trained):
            terms, (batch_stats, metrics) = loss_fn({**trained, **frozen}, state.batch_stats, batch, key)
            loss, scales = combine(terms, state.scales)
            return loss, (terms, scales, batch_stats, metrics)

        (loss, (terms, scales, batch_stats, metrics)), gradient = jax.value_and_grad(objective, has_aux=True)(trained)
        updates, opt_state = optimizer.update(gradient, state.opt_state, trained)
        trained = optax.apply_updates(trained, updates)
        ours = {"loss": loss, **terms, "gradient_norm": optax.tree.norm(gradient)}
        taken = sorted((set(ours) & set(metrics)) | (set(terms) & {"loss", "gradient_norm"}))
        if taken:
            raise ValueError(f"two metrics share a name: {taken}")
        new = TrainState(state.step + 1, {**trained, **frozen}, batch_stats, opt_state, scales, state.key)
        return new, {name: _scalar(name, value) for name, value in {**ours, **metrics}.items()}

    everywhere = replicated(mesh)
    return jax.jit(
        step,
        in_shardings=(everywhere, batch_sharding(mesh)),
        out_shardings=(everywhere, everywhere),
        donate_argnums=0,
    )


def _running_mean(mean, size, decay):
    measured = jnp.where(mean > 0.0, decay * mean + (1.0 - decay) * size, size)
    return jnp.where(size > NOTHING, measured, mean)


def _scalar(name, value):
    value = jnp.asarray(value, jnp.float32)
    if value.shape:
        raise ValueError(f"{name} must be a scalar, its shape is {value.shape}; take the mean over the batch")
    return value
