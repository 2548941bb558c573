"""Rates that fall by a power, and SGD that steps as torch's does."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uscl.train.schedules import nesterov_sgd, poly_by_epoch
from uscl.types import UserError

# torch 2.13, float64: clip_grad_norm_ at 12, SGD(1e-2, weight_decay=3e-5, momentum=.99, nesterov=True), nnunetv2's PolyLRScheduler of
# 3 epochs, two steps each; the gradients are those of the test below. Clipping sets in at the fourth step.
TORCH = [
    [0.940299403, -1.920398806, 2.94623812956612, 0.46650915630464573, -0.13059985075],
    [0.7914955476112564, -1.8015930714619126, 2.9611645843093295, 0.4138241789518129, 0.027706300725610894],
    [0.6061188381258406, -1.692166149847927, 3.0255088577461056, 0.3862132284856005, 0.15740878337694192],
    [0.33697454821468936, -1.5621658540513306, 3.0953536137219397, 0.379420284897433, 0.2951915605064221],
    [0.1493352805337056, -1.4838578912144713, 3.113741221126982, 0.3816185929872206, 0.3696821678827741],
    [-0.07833335673669131, -1.398881464368901, 3.1135589613172585, 0.3810421822049758, 0.442499157593759],
]


def test_rates_of_the_original():
    schedule = poly_by_epoch(250_000, rate=1e-2)
    for epoch, rate in {0: 0.01, 1: 0.009990999549834914, 2: 0.009981998198678612, 250: 0.007718895067235705,
                        500: 0.005358867312681466, 999: 1.995262314968881e-05}.items():  # fmt: skip
        for step in (250 * epoch, 250 * epoch + 249):
            np.testing.assert_allclose(schedule(step), rate, rtol=1e-6)
    assert schedule(250_000) == 0 and schedule(300_000) == 0
    assert schedule(jnp.int32(3)).dtype == jnp.float32
    short = poly_by_epoch(5, rate=1.0, epoch=2, power=1.0)  # three epochs, the last of one update
    np.testing.assert_allclose([short(step) for step in range(6)], [1, 1, 2 / 3, 2 / 3, 1 / 3, 1 / 3], rtol=1e-6)
    for steps, epoch in ((0, 250), (10, 0)):
        with pytest.raises(UserError, match="at least 1"):
            poly_by_epoch(steps, rate=1.0, epoch=epoch)


def test_steps_as_torch():
    params = {"a": jnp.array([1.0, -2.0, 3.0]), "b": jnp.array([[0.5, -0.25]])}
    optimizer = nesterov_sgd(poly_by_epoch(6, rate=1e-2, epoch=2))
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for step, expected in enumerate(TORCH):
        k = step + 1.0
        gradient = {"a": jnp.array([3 * k, -4, 5 * np.cos(k)]), "b": jnp.array([[2 * np.sin(k), k - 7]])}
        change, state = update(gradient, state, params)
        params = jax.tree.map(jnp.add, params, change)
        np.testing.assert_allclose(np.concatenate([params["a"], params["b"][0]]), expected, rtol=1e-5, atol=1e-6)


def test_by_hand():
    optimizer = nesterov_sgd(0.1, momentum=0.5, decay=0.0, clip=1e9)
    p = jnp.zeros(1)
    state = optimizer.init(p)
    for expected in (-0.15, -0.325):  # v = 1, then 1.5; 0.1 * (1 + v / 2) a step
        change, state = optimizer.update(jnp.ones(1), state, p)
        p = p + change
        np.testing.assert_allclose(p, expected, rtol=1e-6)
    tight = nesterov_sgd(1.0, momentum=0.0, decay=0.0, clip=1e-6)  # torch's 1e-6 beside the norm, where it is seen
    np.testing.assert_allclose(tight.update(jnp.array([1e-6]), tight.init(p), p)[0], -5e-7, rtol=1e-5)
    decayed, heavy = nesterov_sgd(1.0, momentum=0.0, decay=0.5, clip=1.0), jnp.array([4.0])
    change = decayed.update(jnp.array([3.0]), decayed.init(heavy), heavy)[0]
    np.testing.assert_allclose(change, -3, rtol=1e-5)  # 3 clipped to 1, plus 4 / 2 unclipped
    np.testing.assert_array_equal(optimizer.update(jnp.zeros(1), optimizer.init(p), p)[0], 0)
