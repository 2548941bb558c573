"""The slow copy: by hand, closed form, what must not move by a bit, types, misfits; and the cosine of its decay."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uscl.train.ema import cosine_decay, ema
from uscl.types import UserError


def test_by_hand_and_in_closed_form():
    target, online = {"a": jnp.zeros(2), "b": {"c": jnp.full((1, 3), 2.0)}}, {"a": jnp.ones(2), "b": {"c": jnp.full((1, 3), -2.0)}}
    for want in (0.01, 0.0199, 0.029701):
        target = ema(target, online, 0.99)
        np.testing.assert_allclose(target["a"], want, rtol=1e-6)
    np.testing.assert_allclose(target["b"]["c"], 2 - 4 * 0.029701, rtol=1e-6)
    step = jax.jit(ema)
    for _ in range(97):
        target = step(target, online, 0.99)
    np.testing.assert_allclose(target["a"], 1 - 0.99**100, rtol=1e-5)


def test_what_must_not_move():
    rng = np.random.default_rng(0)
    target, online = ({"x": np.float32(rng.normal(size=1000))} for _ in range(2))
    for f in (ema, jax.jit(ema)):
        np.testing.assert_array_equal(f(target, online, 1.0)["x"], target["x"])
        for decay in (0.0, 0.9, np.float32(0.996)):
            np.testing.assert_array_equal(f(target, target, decay)["x"], target["x"])
        np.testing.assert_allclose(f(target, online, 0.0)["x"], online["x"], atol=1e-6)


def test_types_stay_and_counters_follow():
    target = {"half": jnp.ones(2, jnp.bfloat16), "count": jnp.int32(3), "full": jnp.ones(2)}
    online = {"half": jnp.full(2, 3.0), "count": jnp.int32(7), "full": jnp.full(2, 2, jnp.bfloat16)}
    got = ema(target, online, 0.75)
    assert [got[k].dtype for k in target] == [x.dtype for x in target.values()]
    np.testing.assert_array_equal(got["half"].astype(np.float32), 1.5)
    np.testing.assert_array_equal(got["full"], 1.25)
    assert got["count"] == 7
    wide = ema(jnp.full(1, 256, jnp.bfloat16), jnp.float32([258.9]), 0.5)  # 257.45: rounded once, at the end
    np.testing.assert_array_equal(wide.astype(np.float32), 258)
    assert ema({}, {}, 0.5) == {}


def test_misfits_are_told():
    with pytest.raises(ValueError, match=r"\['a'\]\['b'\].*\(2,\).*\(1,\)"):
        ema({"a": {"b": jnp.zeros(2)}}, {"a": {"b": jnp.zeros(1)}}, 0.5)
    with pytest.raises(ValueError):
        ema({"a": jnp.zeros(2)}, {"b": jnp.zeros(2)}, 0.5)
    for decay in (-0.1, 1.1, 2):
        with pytest.raises(ValueError, match="decay: found"):
            ema(jnp.zeros(1), jnp.zeros(1), decay)


def test_decay_rises_along_a_cosine():
    decay = cosine_decay(300)
    for step, want in {0: 0.996, 100: 0.997, 150: 0.998, 200: 0.999, 300: 1, 400: 1}.items():
        np.testing.assert_allclose(decay(step), want, rtol=1e-7)
    every = jax.jit(decay)(jnp.arange(301))
    assert every.dtype == jnp.float32 and every.shape == (301,) and np.all(np.diff(every) >= 0) and every[300] == 1
    want = [1 - 0.01 * (np.cos(np.pi * k / 7) + 1) / 2 for k in range(8)]
    np.testing.assert_allclose(cosine_decay(7, base=0.99)(np.arange(8)), want, rtol=1e-6)
    for broken in (partial(cosine_decay, 0), partial(cosine_decay, 5, base=1.01), partial(cosine_decay, 5, base=-1)):
        with pytest.raises(UserError, match="decay"):
            broken()
