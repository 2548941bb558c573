"""Learning rates that fall by a power, and stochastic gradient descent as torch writes it: what nnU-Net is trained by."""
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from uscl.types import UserError


def poly_by_epoch(steps: int, *, rate: float, epoch: int = 250, power: float = 0.9) -> Callable:
    """Rate of an update, the same within an epoch (Isensee et al. 2021, version 2.8.1 of the code: 1000 epochs of 250 updates).

        rate(step) = rate * (1 - floor(step / epoch) / epochs)^power,   epochs = ceil(steps / epoch)

    Args:
      steps: updates of the whole training.
      rate: rate of the first epoch.
      epoch: updates in an epoch.
      power: 1 is a straight line.

    Returns: step (int or integer array, from 0) -> float32; 0 from the end on.

    Raises: UserError for steps or epoch below 1.

    Known values: 250000 steps at rate 0.01: 0.01 up to step 249, 0.00999099955 at 250, 0.00535886731 at 125000, 1.99526e-5 from 249750.
    """
    if steps < 1 or epoch < 1:
        raise UserError(f"the schedule found {steps} steps in epochs of {epoch}; both must be at least 1")
    epochs = -(-steps // epoch)

    def schedule(step):
        # Counted down in integers: 1 - 999/1000 in float32 would keep four digits, and fewer the longer the training.
        left = jnp.maximum(epochs - jnp.asarray(step) // epoch, 0)
        return jnp.float32(rate) * (left.astype(jnp.float32) / epochs) ** power

    return schedule


def nesterov_sgd(schedule, momentum: float = 0.99, decay: float = 3e-5, clip: float = 12.0) -> optax.GradientTransformation:
    """Clipping by the norm of all gradients together, then torch's SGD with Nesterov momentum and weight decay in the gradient.

        g <- g * min(1, clip / (|g| + 1e-6));  g <- g + decay * p;  v <- momentum * v + g;  p <- p - rate * (g + momentum * v)

    v starts at 0, decay acts on every parameter, biases and norms included, and is not clipped.

    Args:
      schedule: step -> rate, or a rate.
      momentum: share of v kept.
      decay: per parameter; nnU-Net 3e-5.
      clip: largest norm, above 0.

    Known values: p = 0, g = 1, rate 0.1, momentum 0.5, decay 0, clip large: p = -0.15 after one update, -0.325 after two.
    """
    return optax.chain(
        _clip(clip), optax.add_decayed_weights(decay), optax.trace(momentum, nesterov=True), optax.scale_by_learning_rate(schedule)
    )


def _clip(largest):
    # optax's own divides by the norm alone; torch adds 1e-6, and what is compared with torch should not differ in the first step.
    def update(gradient, state, params=None):
        factor = jnp.minimum(largest / (optax.tree.norm(gradient) + 1e-6), 1.0)
        return jax.tree.map(lambda g: g * factor, gradient), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
