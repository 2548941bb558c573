"""Temporal weights and pair weights: known values, an integer-exact loop, large integers, memory."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reference
from uscl.temporal import pair_weights, temporal_weights

CINE = np.array([3, 3, 3, 7, 7, 3, 9, 7])
FRAME = np.array([0, 4, 6, 4, 0, 30, 4, 5])
LENGTH = np.array([40, 40, 40, 16, 16, 40, 5, 16])
OPTIONS = {
    "none": {"kind": "none"},
    "binary": {"kind": "binary", "margin": 5},
    "linear": {"kind": "linear", "horizon": 10},
    "linear, a horizon each": {"kind": "linear", "horizon": np.arange(4, 12)},
    "linear, the cine's length": {"kind": "linear", "length": LENGTH},
    "partition": {"kind": "partition", "length": LENGTH},
    "partition in 3": {"kind": "partition", "length": LENGTH, "parts": 3},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_agrees_with_loop_eager_and_jitted(options):
    want = reference.temporal_weights(CINE, FRAME, **options)
    eager = temporal_weights(CINE, FRAME, **options)
    jitted = jax.jit(partial(temporal_weights, **options))(jnp.asarray(CINE), jnp.asarray(FRAME))
    assert eager.dtype == jnp.float32 and eager.shape == (8, 8)
    np.testing.assert_allclose(eager, want, atol=2e-7)
    np.testing.assert_allclose(jitted, want, atol=2e-7)
    np.testing.assert_array_equal(np.diag(eager), 1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["none", "binary", "linear", "partition"])
def test_random_batches(kind, seed):
    rng = np.random.default_rng(seed)
    cine, frame, length = rng.integers(0, 4, 20), rng.integers(0, 60, 20), np.full(20, 60)
    options = {"kind": kind, "margin": int(rng.integers(0, 20)), "horizon": float(rng.uniform(1, 50)), "length": length,
               "parts": int(rng.integers(1, 9))}
    got = temporal_weights(cine, frame, **options)
    np.testing.assert_allclose(got, reference.temporal_weights(cine, frame, **options), atol=5e-7)


def test_known_values():
    cine, frame = np.array([0, 0, 0, 1]), np.array([10, 15, 16, 10])
    np.testing.assert_array_equal(temporal_weights(cine, frame, kind="none"), np.eye(4))
    np.testing.assert_array_equal(temporal_weights(cine, frame, kind="binary"),  # 5 apart is in, 6 apart is out
                                  [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(temporal_weights(cine, frame, kind="linear", horizon=8),
                               [[1, .375, .25, 0], [.375, 1, .875, 0], [.25, .875, 1, 0], [0, 0, 0, 1]], atol=1e-7)
    rows = temporal_weights(cine, frame, kind="linear", horizon=np.array([5, 10, 6, 1]))  # the row's horizon, not the column's
    np.testing.assert_allclose(rows, [[1, 0, 0, 0], [.5, 1, .9, 0], [0, 5 / 6, 1, 0], [0, 0, 0, 1]], atol=1e-7)
    cine, frame = np.zeros(3, int), np.array([0, 3, 10])
    np.testing.assert_array_equal(temporal_weights(cine, frame, kind="binary"), [[1, 1, 0], [1, 1, 0], [0, 0, 1]])
    np.testing.assert_allclose(temporal_weights(cine, frame, kind="linear", horizon=10),
                               [[1, .7, 0], [.7, 1, .3], [0, .3, 1]], atol=1e-7)
    nothing = jax.jit(lambda h: temporal_weights(cine, frame, kind="linear", horizon=h))(0.0)  # traced, so it cannot be refused
    np.testing.assert_array_equal(nothing, np.eye(3))


def test_frame_drawn_twice():
    for options, want in (({"kind": "none"}, 0), ({"kind": "binary", "margin": 0}, 1), ({"kind": "linear", "horizon": 3}, 1)):
        assert temporal_weights(np.array([4, 4]), np.array([9, 9]), **options)[0, 1] == want


def test_binary_margin_zero_is_none():
    frame = np.arange(8)
    np.testing.assert_array_equal(temporal_weights(CINE, frame, kind="binary", margin=0),
                                  temporal_weights(CINE, frame, kind="none"))


def test_partition_counts_across_cines_and_clips_the_remainder():
    # 10 frames in 4 parts: floor(4 t / 10) = 0001122233... a frame counted past the end stays in the last part
    frame = np.array([0, 2, 3, 4, 5, 7, 8, 9, 10])
    w = temporal_weights(np.arange(9), frame, kind="partition", length=np.full(9, 10))
    part = np.array([0, 0, 1, 1, 2, 2, 3, 3, 3])
    np.testing.assert_array_equal(w, part[:, None] == part)
    w = temporal_weights(np.arange(4), np.array([0, 49, 50, 199]), kind="partition", length=np.full(4, 200))
    np.testing.assert_array_equal(w, [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize("jitted", [False, True])
def test_exact_for_large_integers(jitted):
    base = 10**9
    cine = np.array([2**24 + 1, 2**24 + 1, 2**24 + 1, 2**24], np.int32)  # float32 could not tell the two cines apart
    frame = np.array([base, base + 5, base + 6, base], np.int32)  # float32 steps by 64 here

    def weights(**options):
        f = partial(temporal_weights, **options)
        return np.asarray((jax.jit(f) if jitted else f)(cine, frame))

    np.testing.assert_array_equal(weights(kind="binary"), [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]])
    linear = weights(kind="linear", horizon=8)
    np.testing.assert_array_equal(linear, [[1, .375, .25, 0], [.375, 1, .875, 0], [.25, .875, 1, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize("options", [{"kind": "binary"}, {"kind": "linear", "horizon": 300}], ids=["binary", "linear"])
def test_differences_do_not_wrap(options):
    extremes = np.array([2**31 - 1, -(2**31), 0, 2**31 - 2], np.int32)  # the first two differ by 2^32 - 1, which wraps to -1
    want = reference.temporal_weights(np.zeros(4), extremes, **options)
    np.testing.assert_allclose(temporal_weights(np.zeros(4, np.int32), extremes, **options), want, atol=1e-7)
    for dtype, frame in ((np.uint8, [1, 255, 4]), (np.int8, [-100, 100, -101]), (np.int16, [-30000, 30000, 30001])):
        want = reference.temporal_weights(np.zeros(3), frame, **options)
        for array in (np.array, jnp.array):  # the horizon need not fit the frames' type
            got = temporal_weights(np.zeros(3, np.int32), array(frame, dtype), **options)
            np.testing.assert_allclose(got, want, atol=2e-7)


@pytest.mark.parametrize("parts", [2, 4, 7])
@pytest.mark.parametrize("length", [10**9, 2 * 10**9 + 1, 2**31 - 1])
def test_partition_of_a_billion_frames(length, parts):
    borders = [-(-p * length // parts) for p in range(1, parts)]  # the first frame of each part
    frame = np.array([0, length - 1] + [b + d for b in borders for d in (-1, 0)], np.int32)
    lengths, cine = np.full(len(frame), length, np.int32), np.arange(len(frame))
    want = reference.temporal_weights(cine, frame, "partition", length=lengths, parts=parts)
    np.testing.assert_array_equal(temporal_weights(cine, frame, kind="partition", length=lengths, parts=parts), want)


def test_linear_over_a_billion_frames():
    frame = np.array([0, 250_000_000, 500_000_001, 10**9], np.int32)
    want = reference.temporal_weights(np.zeros(4), frame, "linear", horizon=10**9)
    np.testing.assert_allclose(temporal_weights(np.zeros(4, int), frame, kind="linear", horizon=10**9), want, atol=2e-7)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_permuting_the_anchors_permutes_the_matrix(options):
    order = np.random.default_rng(0).permutation(8)
    shuffled = {k: v[order] if isinstance(v, np.ndarray) else v for k, v in options.items()}
    np.testing.assert_array_equal(temporal_weights(CINE[order], FRAME[order], **shuffled),
                                  np.asarray(temporal_weights(CINE, FRAME, **options))[order][:, order])


def test_no_second_matrix_in_memory():
    n = 512
    integers = jax.ShapeDtypeStruct((n,), jnp.int32)
    for options in ({"kind": "none"}, {"kind": "binary"}, {"kind": "linear", "horizon": 9.0}, {"kind": "linear"}, {"kind": "partition"}):
        compiled = jax.jit(lambda c, f, length, o=options: temporal_weights(c, f, length=length, **o)).lower(
            integers, integers, integers).compile()
        spare = compiled.memory_analysis().temp_size_in_bytes
        assert spare <= 8 * n * 8 + 16384, f"{options}: {spare} bytes beside the [N, N] result"


@pytest.mark.parametrize("options", [{"kind": "nearest"}, {"kind": "partition"}, {"kind": "linear"}], ids=str)
def test_programmers_mistakes(options):
    with pytest.raises(ValueError):
        temporal_weights(CINE, FRAME, **options)


@pytest.mark.parametrize("views", [1, 2, 3])
@pytest.mark.parametrize("negatives", ["other_cines", "same_cine", "all"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_pair_weights_agree_with_loop(options, negatives, views):
    weights = reference.temporal_weights(CINE, FRAME, **options)
    want = reference.pair_weights(weights, CINE, negatives, views)
    f = partial(pair_weights, negatives=negatives, views=views)
    for got in (f(jnp.asarray(weights, jnp.float32), CINE), jax.jit(f)(jnp.asarray(weights, jnp.float32), CINE)):
        for g, w in zip(got, want, strict=True):
            assert g.dtype == jnp.float32 and g.shape == (8 * views, 8 * views)
            np.testing.assert_allclose(g, w, atol=2e-7)


def test_pair_weights_known_values():
    cine, w = np.array([0, 0, 1]), np.array([[1, .25, 0], [.25, 1, 0], [0, 0, 1]], np.float32)
    outside = np.array([[0, 0, 1], [0, 0, 1], [1, 1, 0]])
    inside = np.array([[0, .75, 0], [.75, 0, 0], [0, 0, 0]])
    for negatives, want in (("other_cines", outside), ("same_cine", inside), ("all", outside + inside)):
        positive, negative = pair_weights(w, cine, negatives=negatives)
        np.testing.assert_array_equal(positive, w - np.eye(3))
        np.testing.assert_array_equal(negative, want)
    # an own view stays a positive and no negative, whatever the matrix holds on its diagonal
    positive, negative = pair_weights(np.zeros((3, 3), np.float32), cine, negatives="all", views=2)
    np.testing.assert_array_equal(positive, np.kron([[0, 1], [1, 0]], np.eye(3)))
    np.testing.assert_array_equal(negative, np.kron(np.ones((2, 2)), 1 - np.eye(3)))


def test_partition_rule_counts_of_the_slice_paper():
    # 3 volumes of 4 parts in 3 views push 27 of 36 away; in 4 views 36 of 48: the same part is never a negative
    cine, frame = np.repeat(np.arange(3), 4), np.tile(np.array([1, 3, 5, 7]), 3)
    w = temporal_weights(cine, frame, kind="partition", length=np.full(12, 8))
    for views, pushed in ((3, 27), (4, 36)):
        positive, negative = pair_weights(w, cine, negatives="all", views=views)
        np.testing.assert_array_equal(np.sum(negative, axis=1), pushed)
        np.testing.assert_array_equal(np.sum(positive, axis=1), 12 * views - pushed - 1)


def test_pair_weights_reject_an_unknown_rule():
    with pytest.raises(ValueError):
        pair_weights(np.eye(8, dtype=np.float32), CINE, negatives="some")
