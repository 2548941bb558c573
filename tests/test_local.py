"""Regions: the 13 places, the 5 nearest, bilinear patches, local pairs, and the local loss written out for two views."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import reference
from uscl.losses import info_nce, local_pairs, region_corners, region_neighbours, sample_regions

# Compiled as it is used; dispatching its operations one by one would take most of the time of these tests.
jitted = jax.jit(sample_regions, static_argnames="size")


def test_corners_of_the_48_pixel_map():
    # 3 x 3 patches on a 48-pixel map: free side 44, lattice 0, 22, 44 and the quarter points 11, 33
    lattice = [(a, b) for a in (0, 22, 44) for b in (0, 22, 44)]
    want = [*lattice, (11, 11), (11, 33), (33, 11), (33, 33)]
    np.testing.assert_array_equal(region_corners(48, 48), want)
    np.testing.assert_array_equal(region_corners(48, 48, count=9), lattice)
    assert np.issubdtype(np.asarray(region_corners(48, 48)).dtype, np.integer)


@pytest.mark.parametrize("height, width, size, count", [(12, 12, 3, 13), (24, 40, 3, 13), (96, 48, 3, 9), (16, 16, 1, 13),
                                                        (48, 24, 1, 13), (12, 24, 3, 13)])
def test_corners_agree_with_loop(height, width, size, count):
    got = np.asarray(region_corners(height, width, size=size, count=count))
    np.testing.assert_array_equal(got, reference.region_corners(height, width, size, count))
    assert got.min() == 0 and np.all(got + size <= (height, width)) and len(set(map(tuple, got))) == count


def test_a_map_too_small_or_an_unknown_count_is_refused():
    for options in ({"height": 2, "width": 2}, {"height": 48, "width": 48, "count": 11}):
        with pytest.raises(ValueError):
            region_corners(**options)


@pytest.mark.parametrize("k", [1, 4, 5, 12])
@pytest.mark.parametrize("height, width", [(48, 48), (24, 48), (12, 12)])
def test_neighbours_agree_with_loop(height, width, k):
    corners = reference.region_corners(height, width)
    got = np.asarray(region_neighbours(corners, k=k))
    assert got.dtype == bool
    np.testing.assert_array_equal(got, reference.region_neighbours(corners, k))
    np.testing.assert_array_equal(got.sum(axis=1), k)
    assert not np.any(np.diag(got))


def test_neighbours_known_places():
    near = np.asarray(region_neighbours(reference.region_corners(48, 48)))
    # around the centre (4): the four quarter points, then of four equally far edge middles the lowest index (1)
    assert set(np.flatnonzero(near[4])) == {9, 10, 11, 12, 1}
    # from the quarter point 9: its four lattice points are equally near, then quarter points 10 and 11 tie
    assert set(np.flatnonzero(near[9])) == {0, 1, 3, 4, 10}
    # from the corner 0: its quarter point, edge middles 1 and 3, the centre, then quarter points 10 and 11 tie
    assert set(np.flatnonzero(near[0])) == {9, 1, 3, 4, 10}


@pytest.mark.parametrize("size", [1, 3])
def test_whole_corners_cut_exact_patches(size):
    maps = np.random.default_rng(0).normal(size=(2, 12, 16, 3)).astype(np.float32)
    corners = reference.region_corners(12, 16, size)
    want = np.array([[m[y:y + size, x:x + size].reshape(-1) for y, x in corners] for m in maps])
    for places in (corners, corners.astype(np.float32), np.broadcast_to(corners, (2, 13, 2)).astype(np.float32)):
        got = jitted(maps, places, size=size)
        assert got.dtype == jnp.float32
        np.testing.assert_array_equal(got, want)


def test_fractional_corners_and_the_border():
    rng = np.random.default_rng(1)
    maps = rng.normal(size=(3, 9, 7, 2)).astype(np.float32)
    inside = rng.uniform(0, 4, size=(3, 8, 2)).astype(np.float32)
    np.testing.assert_allclose(jitted(maps, inside), reference.sample_regions(maps, inside), atol=2e-6)
    anywhere = rng.uniform(-5, 12, size=(3, 8, 2)).astype(np.float32)
    got = sample_regions(maps, anywhere)
    np.testing.assert_allclose(got, reference.sample_regions(maps, anywhere), atol=2e-6)
    np.testing.assert_allclose(jitted(maps, anywhere), got, atol=1e-6)
    np.testing.assert_allclose(jitted(maps * 0 + 4, anywhere), 4, rtol=1e-6)


def test_bilinear_reads_a_ramp_exactly():
    y, x = np.meshgrid(np.arange(8.0), np.arange(8.0), indexing="ij")
    maps = (3 * y - 2 * x)[None, ..., None].astype(np.float32)
    got = jitted(maps, np.array([[1.25, 2.5]], np.float32))[0, 0]
    cells = [3 * (1.25 + a) - 2 * (2.5 + b) for a in range(3) for b in range(3)]
    np.testing.assert_allclose(got, cells, rtol=1e-6)


def test_gradient_of_regions():
    maps = np.random.default_rng(2).normal(size=(1, 6, 6, 1)).astype(np.float32)
    corners = np.array([[0.3, 1.6], [2.4, 0.7]], np.float32)
    check_grads(jitted, (maps, corners), order=1, atol=1e-2, rtol=1e-2, eps=1e-2)
    # a pixel no patch touches gets exactly no gradient, the pixels of one patch exactly one each
    gradient = jax.jit(jax.grad(lambda m: sample_regions(m, np.array([[1, 2]]), size=3).sum()))(maps)
    want = np.zeros((1, 6, 6, 1))
    want[0, 1:4, 2:5] = 1
    np.testing.assert_array_equal(gradient, want)
    half = jitted(maps.astype(jnp.bfloat16), corners)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(half, np.float32), jitted(maps, corners), atol=5e-2)


def some_positive(seed=0, m=5):
    rng = np.random.default_rng(seed)
    positive = rng.uniform(size=(m, m)) * (rng.uniform(size=(m, m)) < 0.5)
    np.fill_diagonal(positive, 0)
    positive[3] = 0
    return positive.astype(np.float32)


@pytest.mark.parametrize("negatives", ["image", "batch"])
def test_local_pairs_agree_with_loop(negatives):
    near = reference.region_neighbours(reference.region_corners(48, 24))
    want = reference.local_pairs(some_positive(), near, negatives)
    f = partial(local_pairs, negatives=negatives)
    for got in (f(some_positive(), near), jax.jit(f)(some_positive(), near)):
        for g, w in zip(got, want, strict=True):
            assert g.shape == (65, 65) and g.dtype == jnp.float32
            np.testing.assert_array_equal(g, w.astype(np.float32))


def test_local_pairs_with_weighted_further_images():
    near, weights = reference.region_neighbours(reference.region_corners(24, 24)), some_positive(1)
    for negatives in ("image", "batch"):
        want = reference.local_pairs(some_positive(), near, negatives, weights)
        for g, w in zip(local_pairs(some_positive(), near, negatives=negatives, negative=weights), want, strict=True):
            np.testing.assert_array_equal(g, w.astype(np.float32))


def test_local_pairs_known_counts():
    near = reference.region_neighbours(reference.region_corners(48, 48))
    two_views = np.kron([[0, 1], [1, 0]], np.eye(3)).astype(np.float32)
    positive, negative = local_pairs(two_views, near, negatives="image")
    np.testing.assert_array_equal(positive, np.kron(two_views, np.eye(13)))
    np.testing.assert_array_equal(positive, local_pairs(two_views + np.eye(6), near, negatives="image")[0])
    np.testing.assert_array_equal(np.sum(negative, axis=1), 10)  # 5 neighbours in each of the two maps
    _, batch = local_pairs(two_views, near, negatives="batch")
    np.testing.assert_array_equal(np.sum(batch, axis=1), 10 + 4 * 13)  # and all 13 regions of the 4 other images
    assert np.all(batch >= negative) and not np.any(np.logical_and(positive, batch))
    for matrix in (positive, negative, batch):
        assert not np.any(np.diag(matrix))
    with pytest.raises(ValueError):
        local_pairs(two_views, near, negatives="cine")


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_the_local_loss_of_two_views(temperature):
    """The slice paper's local term, anchor by anchor: the same region in the other view, 5 neighbours in both maps."""
    n, r, near = 3, 13, reference.region_neighbours(reference.region_corners(24, 24))
    z = np.random.default_rng(3).normal(size=(2 * n, r, 4)).astype(np.float32)
    u, want = reference.unit(z), np.zeros((2 * n, r))
    for i in range(2 * n):
        twin = (i + n) % (2 * n)
        for a in range(r):
            e = [np.exp(u[i, a] @ u[j, b] / temperature) for j in (i, twin) for b in np.flatnonzero(near[a])]
            match = np.exp(u[i, a] @ u[twin, a] / temperature)
            want[i, a] = -np.log(match / (match + sum(e)))
    two_views = np.kron([[0, 1], [1, 0]], np.eye(n)).astype(np.float32)
    positive, negative = local_pairs(two_views, near, negatives="image")
    got = jax.jit(info_nce)(z.reshape(-1, 4), positive, negative, temperature=temperature)
    np.testing.assert_allclose(got, want.reshape(-1), rtol=2e-5, atol=2e-6)


def test_zero_weight_and_worst_corner_of_the_local_loss():
    near = reference.region_neighbours(reference.region_corners(24, 24))
    positive, negative = local_pairs(some_positive(m=4) * 0 + np.eye(4, k=1, dtype=np.float32), near, negatives="image")
    z = np.random.default_rng(4).normal(size=(4 * 13, 3)).astype(np.float32)
    gradient = jax.jit(jax.grad(lambda z: info_nce(z, positive, negative)[:13].sum()))(z)  # image 0 has image 1 for a partner
    assert np.all(np.abs(gradient[:26]).max(axis=1) > 0)
    np.testing.assert_array_equal(gradient[26:], 0)
    cold = jax.jit(jax.value_and_grad(lambda z: info_nce(z, positive, negative, temperature=0.01).sum()))
    for worst in (np.ones_like(z), np.zeros_like(z)):
        value, gradient = cold(worst)
        assert np.isfinite(value) and np.all(np.isfinite(gradient))
