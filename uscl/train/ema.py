"""A network's slow copy: the exponential moving average of its parameters, as BYOL and MoCo train against."""
from collections.abc import Callable

import jax
import jax.numpy as jnp

from uscl.types import UserError


def ema(target, online, decay):
    """The target after one more update of the online network (Grill et al. 2020, eq. 1; He et al. 2020, eq. 2).

        target <- target + (1 - decay) (online - target) = decay target + (1 - decay) online

    Where both agree the target stays what it is to the last bit, and decay 1 leaves it as it is. It is to be called after the optimizer's
    update, outside of what is differentiated.

    Args:
      target, online: trees of the same structure and shapes. A leaf keeps its target's type; keep it float32, since 16 bits would round
        most updates away. What is not floating point, a counter for one, is taken from online.
      decay: share of the target kept, in [0, 1]; a number or float32 [], such as `cosine_decay` gives.

    Returns: the new target.

    Raises: ValueError for a decay outside [0, 1], where it is a plain number, and for trees that do not fit; it names the leaf.

    Known values: target 0, online 1, decay 0.99: 0.01, then 0.0199, then 0.029701; after k updates 1 - 0.99^k.
    """
    if isinstance(decay, int | float) and not 0 <= decay <= 1:
        raise ValueError(f"decay: found {decay}; it must lie in [0, 1]")

    def move(path, old, new):
        old, new = jnp.asarray(old), jnp.asarray(new)
        if old.shape != new.shape:  # broadcasting would hide it
            raise ValueError(f"{jax.tree_util.keystr(path)}: the target's shape is {old.shape}, the online network's {new.shape}")
        if not jnp.issubdtype(old.dtype, jnp.floating):
            return new
        wide = jnp.promote_types(old.dtype, jnp.float32)
        return (old.astype(wide) + (1 - decay) * (new.astype(wide) - old.astype(wide))).astype(old.dtype)

    return jax.tree_util.tree_map_with_path(move, target, online)


def cosine_decay(steps: int, *, base: float = 0.996) -> Callable:
    """Decay that rises along a cosine, so that the target comes to rest with the training (Grill et al. 2020; MoCo v3, base 0.99).

        decay(step) = 1 - (1 - base) (1 + cos(pi step / steps)) / 2

    Args:
      steps: updates of the whole training.
      base: decay at the first step, in [0, 1].

    Returns: step (int or integer array, from 0) -> float32 of the same shape; 1 from `steps` on.

    Raises: UserError for steps below 1 or a base outside [0, 1].

    Known values: base 0.996: 0.996 at step 0, 0.998 halfway, 1 at the end; a third of the way, where the cosine is 1/2, 0.997.
    """
    if steps < 1 or not 0 <= base <= 1:
        raise UserError(f"the target's decay found {steps} steps from base {base}; at least 1 step and a base in [0, 1] are needed")

    def decay(step):
        share = jnp.minimum(jnp.asarray(step).astype(jnp.float32) / steps, 1.0)
        return 1 - (1 - base) / 2 * (1 + jnp.cos(jnp.pi * share))

    return decay
