"""The noise of a clip's view: bit by bit, as a distribution, without relations between voxels, and on a clip by chance."""
import math

import jax
import jax.numpy as jnp
import numpy as np
from drawn import KEY

from uscl.augment import clips


def counted(hits, probability):
    """Whether a count lies within five standard deviations of a binomial's mean."""
    n = np.size(hits)
    return abs(np.sum(hits) - n * probability) <= 5 * math.sqrt(n * probability * (1 - probability)) + 1e-9


quick_normal = jax.jit(lambda key: clips.quick_normal(key, (4, 8, 100, 80, 1)))


def test_noise_by_the_bits():
    """In whole numbers, one voxel at a time."""
    first, second = (int(x) for x in jax.random.bits(KEY, (2,), jnp.uint32))

    def hashed(x):
        x = (x ^ x >> 16) * 0x7FEB352D % 2**32
        x = (x ^ x >> 15) * 0x846CA68B % 2**32
        return x ^ x >> 16

    want = []
    for place in range(100):
        bits = hashed(hashed((place + first) % 2**32) ^ second)
        want.append((bin(bits // 256).count("1") + bits % 16 / 16 + bits // 16 % 16 / 16 - 12.9375) / math.sqrt(6 + 85 / 512))
    np.testing.assert_allclose(np.asarray(quick_normal(KEY)).ravel()[:100], want, rtol=1e-6, atol=1e-7)


def test_noise_is_nearly_normal():
    z = np.asarray(quick_normal(KEY))[..., 0]
    count = z.size
    assert abs(z.mean()) < 5 / math.sqrt(count) and abs(z.var() - 1) < 5 * math.sqrt(2 / count) and np.abs(z).max() < 5.22
    assert abs((z**3).mean()) < 5 * math.sqrt(15 / count) and abs((z**4).mean() - (3 - 0.0793)) < 5 * math.sqrt(96 / count)
    for limit, share in ((1, 0.16164), (2, 0.022287), (3, 0.0010589)):  # the sum of 24 bits and two dice, convolved apart from here
        assert counted(z <= -limit, share) and counted(z >= limit, share)
    for lag in ((0, 0, 0, 1), (0, 0, 1, 0), (0, 1, 0, 0), (1, 0, 0, 0), (0, 0, 16, 0), (0, 0, 0, 16)):
        assert abs((z * np.roll(z, lag, (0, 1, 2, 3))).mean()) < 5 / math.sqrt(count), lag
    other = np.asarray(quick_normal(jax.random.key(8)))[..., 0]
    assert abs((z * other).mean()) < 5 / math.sqrt(count)  # another key, another stream


def test_noise_on_a_clip():
    draw = jax.jit(lambda key: (clips.draw_noise(key, 6000), clips.draw_noise(key, 6000, probability=0.2, deviation=0.1)))
    always, some = map(np.asarray, draw(KEY))
    assert (always == np.float32(0.03)).all() and counted(some > 0, 0.2) and set(np.unique(some)) == {np.float32(0), np.float32(0.1)}
    noisy = np.asarray(jax.jit(clips.add_noise)(KEY, jnp.full((2, 8, 100, 80, 1), 0.5), jnp.array([0.03, 0.0])))
    assert abs(noisy[0].std() - 0.03) < 3e-4 and (noisy[1] == 0.5).all()
