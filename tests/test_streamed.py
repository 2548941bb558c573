"""Streamed losses: the dense ones' values and gradients at every block size, corner and number of devices, in memory that grows with M."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import reference
from uscl.losses import info_nce, pairwise_contrastive, streamed_info_nce, streamed_pairwise
from uscl.temporal import pair_blocks, pair_weights, temporal_weights

LOSSES = {
    "pair": (info_nce, streamed_info_nce, reference.info_nce, {}),
    "all": (info_nce, streamed_info_nce, reference.info_nce, {"denominator": "all"}),
    "euclidean": (pairwise_contrastive, streamed_pairwise, reference.pairwise_contrastive, {"margin": 1.3}),
    "cosine": (pairwise_contrastive, streamed_pairwise, reference.pairwise_contrastive, {"distance": "cosine"}),
}
each_loss = pytest.mark.parametrize("dense, streamed, ref, options", LOSSES.values(), ids=LOSSES)
KINDS = {"none": {"kind": "none"}, "binary": {"kind": "binary", "margin": 7}, "linear": {"kind": "linear", "horizon": 20},
         "linear by length": {"kind": "linear"}, "gaussian": {"kind": "gaussian"}, "sigmoid": {"kind": "sigmoid"},
         "partition": {"kind": "partition", "parts": 3}}


def frames(n, seed=0):
    rng = np.random.default_rng(seed)
    return {"cine": np.arange(n, dtype=np.int32) // 4, "frame": rng.integers(0, 60, n).astype(np.int32), "length": np.full(n, 60, np.int32)}


def entries(positive, negative):
    return lambda i, j: tuple(jnp.asarray(x)[i][:, j] for x in (positive, negative))


def weighted(loss, z, *pairs, **options):
    """A sum in which each anchor has a weight of its own, with its gradient and the [M] losses."""
    def total(z):
        each = loss(z, *pairs, **options)
        return each @ jnp.cos(jnp.arange(len(each)) * 1.0), each

    (_, each), gradient = jax.value_and_grad(total, has_aux=True)(z)
    return each, gradient


def agree(got, want, tolerance=1e-5):
    for a, b in zip(got, want, strict=True):
        assert a.dtype == jnp.float32 and a.shape == b.shape and np.all(np.isfinite(a))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def of_rule(dense, streamed, options, rule, m, block, negatives="all"):
    """Both forms on two views of m / 2 frames."""
    z = np.random.default_rng(1).normal(size=(m, 16)).astype(np.float32) + 0.5

    def by_blocks(z, cine, frame, length):
        pairs = pair_blocks(cine, frame, length=length, negatives=negatives, views=2, **rule)
        return weighted(streamed, z, pairs, block=block, **options)

    def whole(z, cine, frame, length):
        pairs = pair_weights(temporal_weights(cine, frame, length=length, **rule), cine, negatives=negatives, views=2)
        return weighted(dense, z, *pairs, **options)

    batch = frames(m // 2)
    agree(jax.jit(by_blocks)(z, **batch), jax.jit(whole)(z, **batch))


@each_loss
def test_agrees_with_the_dense_form(dense, streamed, ref, options):
    of_rule(dense, streamed, options, KINDS["linear by length"], 510, 128)  # in 4 blocks of 128 with two rows to spare


@pytest.mark.slow
@each_loss
@pytest.mark.parametrize("negatives", ["other_cines", "all"])
@pytest.mark.parametrize("rule", KINDS.values(), ids=KINDS)
def test_every_rule(dense, streamed, ref, options, rule, negatives):
    for m, block in ((62, 64), (302, 100)):
        of_rule(dense, streamed, options, rule, m, block, negatives)


@pytest.mark.slow
@each_loss
def test_agrees_with_the_dense_form_of_4096(dense, streamed, ref, options):
    of_rule(dense, streamed, options, KINDS["partition"], 4096, 1000)


@pytest.mark.parametrize("negatives", ["other_cines", "same_cine", "all"])
@pytest.mark.parametrize("rule", KINDS.values(), ids=KINDS)
def test_blocks_of_pairs_are_those_of_the_matrices_to_the_last_bit(rule, negatives):
    batch = frames(12, seed=2)
    batch["frame"][3] = batch["frame"][2]  # a frame drawn twice is not its own view
    for views in (1, 3):
        pairs = pair_blocks(**batch, negatives=negatives, views=views, **rule)
        want = pair_weights(temporal_weights(**batch, **rule), batch["cine"], negatives=negatives, views=views)
        i, j = np.arange(12 * views)[::-2], np.array([0, 5, 5, 11, 12 * views - 1])
        for got, w in zip(pairs(i, j), want, strict=True):
            assert got.dtype == jnp.float32
            np.testing.assert_array_equal(got, np.asarray(w)[np.ix_(i, j)])


def test_a_horizon_for_each_anchor_stays_with_its_row():
    batch, horizon = frames(8), np.arange(10, 18)
    pairs = pair_blocks(batch["cine"], batch["frame"], kind="linear", horizon=horizon, negatives="all")
    want = reference.temporal_weights(batch["cine"], batch["frame"], kind="linear", horizon=horizon) * (1 - np.eye(8))
    np.testing.assert_allclose(pairs(np.array([6, 1]), np.arange(8))[0], want[[6, 1]], atol=2e-7)
    assert np.any(want != want.T)


@pytest.mark.parametrize("wrong", [{"kind": "nearest"}, {"kind": "partition"}, {"negatives": "some"}, {"views": 0}], ids=str)
def test_pair_blocks_refuse_what_the_matrices_refuse(wrong):
    batch = frames(4)
    with pytest.raises(ValueError):
        pair_blocks(batch["cine"], batch["frame"], **({"kind": "none", "negatives": "all"} | wrong))


def random_pairs(m=9, d=5):
    """Graded, asymmetric, overlapping pairs with weights on the diagonal, an anchor without positives and one without any pair."""
    rng = np.random.default_rng(4)
    positive, negative = (rng.uniform(0, 1, (m, m)) * (rng.uniform(size=(m, m)) < share) for share in (0.5, 0.6))
    positive[2] = 0
    positive[5] = negative[5] = 0
    negative[7] = 0
    return [a.astype(np.float32) for a in (rng.normal(size=(m, d)) * 3, positive, negative)]


@each_loss
def test_agrees_with_loops(dense, streamed, ref, options):
    z, positive, negative = random_pairs()
    want = ref(z, positive, negative, **options)
    whole = jax.jit(lambda z: weighted(dense, z, positive, negative, **options))
    got = jax.jit(lambda z: weighted(streamed, z, entries(positive, negative), block=2, **options))(z)  # 9 anchors in 5 blocks
    np.testing.assert_allclose(got[0], want, rtol=2e-5, atol=2e-6)
    agree(got, whole(z))
    assert got[0][5] == 0


def test_half_precision_ends_at_the_door():
    z, positive, negative = random_pairs()
    half, pairs = jnp.asarray(z, jnp.bfloat16), entries(positive, negative)
    agree([streamed_info_nce(half, pairs)], [streamed_info_nce(half.astype(jnp.float32), pairs)], 0)


@each_loss
def test_zero_weight_gives_gradient_exactly_zero(dense, streamed, ref, options):
    z, positive, negative = random_pairs()
    positive[4], negative[4] = np.arange(9) == 1, np.arange(9) == 8
    f = jax.jit(jax.grad(lambda z, p, n, anchors: streamed(z, entries(p, n), block=4, **options) @ anchors))
    gradient = f(z, positive, negative, np.eye(9, dtype=np.float32)[4])
    np.testing.assert_array_equal(gradient[np.array([0, 2, 3, 5, 6, 7])], 0)
    assert np.any(gradient[1]) and np.any(gradient[4])
    negative *= streamed is streamed_info_nce  # no positives, then for the margin loss no negatives either
    assert not np.any(f(z, positive * 0, negative, np.ones(9, np.float32)))


@each_loss
def test_corners(dense, streamed, ref, options):
    cold = dense is info_nce  # the lowest temperature: a similarity of 1000 is known to 6e-5
    e, options, rounding = np.eye(6, 3), options | ({"temperature": 0.001} if cold else {}), 1e-3 if cold else 1e-6
    f = jax.jit(lambda z, p, n: (*weighted(streamed, z, entries(p, n), block=4, **options), dense(z, p, n, **options)))
    off = 1 - np.eye(6)
    for z in (np.ones((6, 3)), np.zeros((6, 3)), np.where(np.arange(6)[:, None] == 2, 0, e + 1), 1e25 * (e - 0.3), 1e-25 * (e - 0.3),
              np.where(np.arange(6)[:, None] % 2, -1.0, 1.0) * np.ones((6, 3)), 1 + 1e-7 * np.arange(18).reshape(6, 3)):
        for positive, negative in ((off, off), (off, 0 * off), (0 * off, off), (np.eye(6, k=3), off), (1e-20 * off, 1e-25 * off)):
            z, positive, negative = (np.asarray(x, np.float32) for x in (z, positive, negative))
            each, gradient, want = f(z, positive, negative)
            assert np.all(np.isfinite(gradient)) and np.all(np.asarray(each) >= 0)
            np.testing.assert_allclose(each, want, rtol=1e-4, atol=rounding)
    assert streamed(np.ones((1, 3)), entries(np.zeros((1, 1)), np.zeros((1, 1))), **options) == 0


def test_known_values():
    n = 7
    pairs = pair_blocks(np.arange(n), np.zeros(n, int), kind="none", negatives="all", views=2)
    for denominator in ("pair", "all"):
        loss = streamed_info_nce(3 * jnp.ones((2 * n, 4)), pairs, denominator=denominator, block=5)
        np.testing.assert_allclose(loss, np.log(2 * n - 1), rtol=2e-5)
    loss = streamed_pairwise(jnp.ones((4, 2)), lambda i, j: (jnp.zeros((2, 2)), jnp.ones((2, 2))), margin=1.4, block=2)
    np.testing.assert_allclose(loss, 1.4**2 / 2, rtol=1e-6)


def test_a_traced_temperature_has_the_dense_forms_gradient():
    z, positive, negative = random_pairs()
    got, want = (jax.jit(jax.grad(lambda t, f=f: f(t).sum()))(0.3) for f in (
        lambda t: streamed_info_nce(z, entries(positive, negative), temperature=t, block=4),
        lambda t: info_nce(z, positive, negative, temperature=t)))
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_pairs_made_from_traced_arrays_inside_loops_and_checkpoints():
    """Where a custom derivative that closes over tracers fails: the pairs exist inside a checkpointed body of a scan."""
    z, positive, negative = random_pairs()

    @jax.checkpoint
    def body(carry, scale):
        return carry + streamed_info_nce(z * carry[0], entries(positive * scale, negative), block=4).mean(), None

    got = jax.jit(jax.grad(lambda start: jax.lax.scan(body, start, jnp.ones(2))[0][0]))(jnp.ones(1))
    np.testing.assert_allclose(got, [1.0], atol=1e-5)  # the length of z does not matter, so nothing but the start's own share comes back


@pytest.mark.parametrize("name", ["pair", *(pytest.param(name, marks=pytest.mark.slow) for name in ("all", "euclidean", "cosine"))])
def test_four_devices_agree_with_one_and_share_the_work(name):
    _, streamed, _, options = LOSSES[name]

    @jax.jit
    def f(z, cine, frame, length):
        pairs = pair_blocks(cine, frame, length=length, kind="linear", negatives="all", views=2)
        return weighted(streamed, jnp.concatenate([z[:, 0], z[:, 1]]), pairs, block=32, **options)

    arrays = np.random.default_rng(0).normal(size=(64, 2, 16)).astype(np.float32), *frames(64).values()
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    spread = jax.device_put(arrays, NamedSharding(mesh, PartitionSpec("data")))
    agree(f(*spread), f(*jax.device_put(arrays, jax.devices()[0])))
    assert "f32[8,32]" in f.lower(*spread).compile().as_text()  # blocks of 32 x 32 with 8 of the rows on each device


@pytest.mark.parametrize("name", ["pair", pytest.param("euclidean", marks=pytest.mark.slow)])
def test_memory_grows_with_m(name):
    _, streamed, _, options = LOSSES[name]

    def used(m):
        def f(z, cine, frame):
            pairs = pair_blocks(cine, frame, kind="binary", negatives="all", views=2)
            return streamed(z, pairs, block=64, **options).sum()

        shapes = [jax.ShapeDtypeStruct(s, t) for s, t in (((m, 32), jnp.float32), ((m // 2,), jnp.int32), ((m // 2,), jnp.int32))]
        return jax.jit(jax.value_and_grad(f)).lower(*shapes).compile().memory_analysis().temp_size_in_bytes

    assert used(8192) < 4 * 8192**2 / 32  # the dense form holds several [M, M]


@pytest.mark.parametrize("f, options", [(streamed_info_nce, {"denominator": "both"}), (streamed_info_nce, {"temperature": 0}),
                                        (streamed_pairwise, {"distance": "manhattan"}), (streamed_pairwise, {"block": 0})])
def test_mistakes_are_refused(f, options):
    z, positive, negative = random_pairs()
    with pytest.raises(ValueError):
        f(z, entries(positive, negative), **options)
    with pytest.raises(ValueError, match="pairs"):
        f(z, lambda i, j: (jnp.zeros((2, 2)), jnp.zeros((2, 2))))
    with pytest.raises(ValueError, match="z"):
        f(z[0], entries(positive, negative))
