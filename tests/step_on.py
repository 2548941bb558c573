"""A stage's loss on several devices: its value, gradient and statistics, compiled once with the batch split."""

import jax
from test_devices_stages import FAST

from uscl.train import mesh as meshes


def step_on(here, loss_fn, smooth):
    """step(params, batch_stats, batch, key data) -> ((loss, statistics), gradient) on the mesh `here`, traced inside `smooth()`."""

    def objective(params, batch_stats, batch, key):
        with smooth():
            terms, (stats, _) = loss_fn(params, batch_stats, batch, jax.random.wrap_key_data(key))
        return sum(terms.values()), stats

    everywhere = meshes.replicated(here)
    return jax.jit(jax.value_and_grad(objective, has_aux=True), compiler_options=FAST, out_shardings=everywhere,
                   in_shardings=(everywhere, everywhere, meshes.batch_sharding(here), everywhere))  # fmt: skip
