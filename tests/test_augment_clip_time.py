"""Frame orders of a clip: how often they are reversed, how many frames are shuffled or replaced, by counts over thousands of draws."""
import math

import jax
import jax.numpy as jnp
import numpy as np
from drawn import KEY, random

from uscl.augment import clip_time

N = 6000


def counted(hits, probability):
    """Whether a count lies within five standard deviations of a binomial's mean."""
    n = np.size(hits)
    return abs(np.sum(hits) - n * probability) <= 5 * math.sqrt(n * probability * (1 - probability)) + 1e-9


order = jax.jit(lambda key, *chance: clip_time.frame_order(key, N, 16, **dict(zip(("reverse", "shuffle", "replace"), chance, strict=True))))


def orders(reverse=0.0, shuffle=0.0, replace=0.0):
    return np.asarray(order(KEY, reverse, shuffle, replace))


def test_reversed():
    index, forth = orders(reverse=0.5), np.arange(16)
    back = (index == forth[::-1]).all(1)
    assert counted(back, 0.5) and (index[~back] == forth).all() and index.dtype == np.int32


def test_shuffled():
    """Moved frames by the derangements: of k frames permuted, d move in C(k, d) D(d) / k! of the cases; D = 1, 2, 9 for d = 2, 3, 4."""
    index = orders(shuffle=0.5)
    assert (np.sort(index, 1) == np.arange(16)).all()
    moved = (index != np.arange(16)).sum(1)
    for d, share in ((0, 1 - 0.2291667), (1, 0), (2, 0.125), (3, 0.0666667), (4, 0.0375)):
        assert counted(moved == d, share), d
    assert all(counted(column, (0.125 * 2 + 0.0666667 * 3 + 0.0375 * 4) / 16) for column in (index != np.arange(16)).T)


def test_replaced():
    index = orders(replace=0.5)
    changed = index != np.arange(16)
    for k in range(5):
        assert counted(changed.sum(1) == k, 0.6 if k == 0 else 0.1), k
    away = ((index - np.arange(16)) % 16)[changed]
    assert all(abs((away == d).mean() - 1 / 15) < 5 * math.sqrt(1 / 15 / len(away)) for d in range(1, 16))
    assert all(counted(column, 0.5 * 2 / 16) for column in changed.T)


def test_by_hand():
    """The first three of places 5, 1, 4, 2 take part, told by dice."""
    index, at = jnp.array([10, 11, 12, 13, 14, 15]), jnp.array([5, 1, 4, 2])
    dice = jnp.array([0.9, 0.1, 0.5, 0.0])
    # the smallest dice first: place 5 gets place 1's frame, place 1 place 4's, place 4 place 5's
    np.testing.assert_array_equal(clip_time.shuffled(index, at, 3, dice), [10, 14, 12, 13, 15, 11])
    # dice * 5 other places, rounded down: 5, 1 and 3 places on
    np.testing.assert_array_equal(clip_time.replaced(index, at, 3, dice), [10, 12, 12, 13, 11, 14])
    np.testing.assert_array_equal(clip_time.replaced(jnp.array([7]), jnp.array([0]), 1, jnp.array([0.9])), [7])


def test_clips_shorter_than_the_draw():
    index = np.asarray(jax.jit(lambda key: clip_time.frame_order(key, 2000, 2, reverse=0.0, shuffle=1.0, replace=0.0))(KEY))
    assert counted(index[:, 0] == 1, 0.3) and (index.sum(1) == 1).all()  # k = 2, 3 or 4 permutes both of two


def test_orders_together():
    index = orders(reverse=0.5, shuffle=0.5, replace=0.5)
    backwards = (index == np.arange(16)[::-1]).sum(1) >= 8
    assert counted(backwards, 0.5)
    index = np.where(backwards[:, None], 15 - index, index)
    assert (index != np.arange(16)).sum(1).max() == 8
    assert counted((index == np.arange(16)).all(1), (1 - 0.2291667) * 0.6)
    clip = random(4, 2, 5, 2, 3, 1)
    got = clip_time.reorder(clip, jnp.array([[4, 3, 2, 1, 0], [0, 0, 2, 4, 1]]))
    np.testing.assert_array_equal(got[0], clip[0, ::-1])
    np.testing.assert_array_equal(got[1], clip[1][np.array([0, 0, 2, 4, 1])])
