"""NumPy's initial weights against the distributions Flax draws from, and what they promise."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from uscl.models import GlobalModel, UNet, initialise

WIDTH = (4, 6, 8, 8, 8, 8)


def test_the_same_distributions_as_the_modules_own():
    """Deviations from the two rules by hand: He's sqrt(2 / fan_in) and Glorot's limit / sqrt(3); Flax's own draw agrees with both."""
    model = GlobalModel(width=WIDTH[:3])  # Flax's draws compile for long: no deeper than what is looked at
    ours = initialise(model, 0, (16, 16, 1))
    flax = jax.jit(partial(model.init, train=False))(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), ours) == jax.tree.map(lambda x: (x.shape, x.dtype), dict(flax))
    for variables in (ours, flax):
        level = variables["params"]["encoder"]["level3"]["conv2"]
        np.testing.assert_allclose(np.std(level["kernel"]), np.sqrt(2 / (9 * 8)), rtol=0.1)
        dense = np.asarray(variables["params"]["g1"]["dense1"]["kernel"])
        np.testing.assert_allclose(np.abs(dense).max(), np.sqrt(6 / sum(dense.shape)), rtol=1e-3)
        np.testing.assert_allclose(dense.std(), np.sqrt(2 / sum(dense.shape)), rtol=0.02)
        assert (level["scale"] == 1).all() and (level["shift"] == 0).all() and (level["bias"] == 0).all()
        running = variables["batch_stats"]["encoder"]["level3"]["conv2"]
        assert (running["var"] == 1).all() and (running["mean"] == 0).all()


def test_shared_parts_start_alike_and_seeds_differ():
    a, b = initialise(GlobalModel(width=WIDTH), 3, (64, 64, 1)), initialise(UNet(classes=3, width=WIDTH), 3, (64, 64, 1))
    jax.tree.map(np.testing.assert_array_equal, a["params"]["encoder"], b["params"]["encoder"])
    c = initialise(GlobalModel(width=WIDTH), 4, (64, 64, 1))
    kernels = [v["params"]["encoder"]["level1"][conv]["kernel"] for v in (a, c) for conv in ("conv1", "conv2")]
    assert not np.allclose(kernels[0], kernels[2]) and not np.allclose(kernels[1], kernels[3])
    assert abs(np.corrcoef(np.ravel(kernels[1]), np.ravel(kernels[3]))[0, 1]) < 0.3
