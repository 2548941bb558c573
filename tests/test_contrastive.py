"""info_nce and pairwise_contrastive: known values, a float64 loop, gradients at the corners, what must not matter."""
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import reference
from uscl.losses import info_nce, pairwise_contrastive
from uscl.temporal import pair_weights, temporal_weights

LOSSES = {
    "info_nce pair": (info_nce, reference.info_nce, {}),
    "info_nce all": (info_nce, reference.info_nce, {"denominator": "all"}),
    "info_nce pair, warm": (info_nce, reference.info_nce, {"temperature": 0.7}),
    "info_nce all, warm": (info_nce, reference.info_nce, {"denominator": "all", "temperature": 0.7}),
    "pairwise": (pairwise_contrastive, reference.pairwise_contrastive, {}),
    "pairwise, wide": (pairwise_contrastive, reference.pairwise_contrastive, {"margin": 1.7}),
    "pairwise cosine": (pairwise_contrastive, reference.pairwise_contrastive, {"distance": "cosine"}),
}
each_loss = pytest.mark.parametrize("loss, ref, options", LOSSES.values(), ids=LOSSES)


def random_pairs(seed, m=9, d=5):
    """Graded, asymmetric, overlapping pairs, an anchor without positives and one without any pair at all."""
    rng = np.random.default_rng(seed)
    positive = rng.uniform(0, 1, (m, m)) * (rng.uniform(size=(m, m)) < 0.5)
    negative = rng.uniform(0, 1, (m, m)) * (rng.uniform(size=(m, m)) < 0.6)
    positive[2] = 0
    positive[5] = negative[5] = 0
    for a in (positive, negative):
        np.fill_diagonal(a, 0)
    return [a.astype(np.float32) for a in (rng.normal(size=(m, d)) * 3, positive, negative)]


@each_loss
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_loop_eager_and_jitted(loss, ref, options, seed):
    arrays = random_pairs(seed)
    want = ref(*arrays, **options)
    eager, jitted = loss(*arrays, **options), jax.jit(partial(loss, **options))(*arrays)
    assert eager.shape == (9,) and eager.dtype == jnp.float32
    np.testing.assert_allclose(eager, want, rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(jitted, eager, rtol=1e-5, atol=1e-6)
    assert eager[5] == 0
    half = [jnp.asarray(a, jnp.bfloat16) for a in arrays]  # half precision ends at the door
    got = loss(*half, **options)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, ref(*[np.asarray(a, np.float64) for a in half], **options), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("denominator", ["pair", "all"])
@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
def test_equal_embeddings_give_chance(denominator, temperature):
    n = 7
    weights = temporal_weights(np.arange(n), np.zeros(n, int), kind="none")
    positive, negative = pair_weights(weights, np.arange(n), negatives="all", views=2)
    z = jnp.ones((2 * n, 4)) * jnp.array([3.0, -1, 2, 0.5])
    loss = info_nce(z, positive, negative, temperature=temperature, denominator=denominator)
    np.testing.assert_allclose(loss, np.log(2 * n - 1), rtol=2e-5)


def test_known_values():
    z, first, last = np.array([[1, 0], [3, 0], [-2, 0]]), np.eye(3, k=1), np.eye(3, k=2)  # cosine 1 attracts, -1 repels
    for denominator, temperature in product(("pair", "all"), (0.2, 1.0)):
        got = info_nce(z, first, last, temperature=temperature, denominator=denominator)[0]
        np.testing.assert_allclose(got, np.log1p(np.exp(-2 / temperature)), rtol=1e-3, atol=1e-7)
    assert info_nce(z, first, 0 * last)[0] == 0
    for distance, orthogonal, off in (("euclidean", 1, 1 - np.eye(3)), ("cosine", .5, 1 - np.eye(3))):
        f = partial(pairwise_contrastive, distance=distance)
        np.testing.assert_allclose(f(np.ones((3, 2)), 0 * off, off, margin=1.4), 1.4**2 / 2, rtol=1e-5)
        np.testing.assert_allclose(f(np.ones((3, 2)), off, 0 * off), 0, atol=1e-6)
        np.testing.assert_allclose(f(z, last, 0 * last)[0], 2, rtol=1e-6)
        np.testing.assert_allclose(f(np.array([[1, 0], [0, 9]]), np.eye(2, k=1), 0 * np.eye(2))[0], orthogonal, rtol=1e-6)
    close, pair, none = np.array([[1, 0], [1, 1e-3]]), 1 - np.eye(2), np.zeros((2, 2))  # a millidistance is not lost to 2 - 2 cos
    np.testing.assert_allclose(pairwise_contrastive(close, pair, none), 5e-7, rtol=1e-2)
    np.testing.assert_allclose(pairwise_contrastive(close, none, pair), 0.999**2 / 2, rtol=1e-5)


def test_info_nce_by_hand():
    z = np.array([[1, 0], [0, 2], [-5, 0]], np.float32)  # similarities 0 (to 1), -1 (to 2) and 0 (1 to 2)
    positive = np.array([[0, 1, 0], [0, 0, 0], [.5, 0, 0]], np.float32)
    negative = np.array([[0, 0, .25], [1, 0, 1], [1, 1, 0]], np.float32)
    e = np.exp(-2.0)
    pair = info_nce(z, positive, negative, temperature=0.5)
    np.testing.assert_allclose(pair, [np.log(1 + .25 * e), 0, 2 + np.log(2 * e + 1)], rtol=1e-6, atol=2e-7)
    every = info_nce(z, positive, negative, temperature=0.5, denominator="all")
    np.testing.assert_allclose(every, [np.log(1 + .25 * e), 0, 2 + np.log(e + 1)], rtol=1e-6, atol=2e-7)


def test_positives_stand_in_the_denominator_of_all_only():
    positive = (1 - np.eye(4)) * np.array([1, .25, .5, 1])  # weights of positives do not thin the denominator
    for denominator, want in (("all", np.log(3)), ("pair", 0)):
        got = info_nce(np.ones((4, 2)), positive, np.zeros((4, 4)), denominator=denominator)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_pairwise_by_hand():
    z = np.array([[2, 0], [0, 3], [1, 0]], np.float32)  # distances sqrt(2), 0 and sqrt(2)
    positive = np.array([[0, 1, 0], [0, 0, .5], [0, 0, 0]], np.float32)
    negative = np.array([[0, 0, 1], [0, 0, .5], [0, 0, 0]], np.float32)
    got = pairwise_contrastive(z, positive, negative, margin=2.0)
    np.testing.assert_allclose(got, [(1 + 2) / 2, .5 * (1 + (2 - np.sqrt(2)) ** 2 / 2), 0], rtol=1e-5)
    got = pairwise_contrastive(z, positive, negative, margin=0.3)  # apart by more than the margin: no push
    np.testing.assert_allclose(got, [(1 + .045) / 2, .5, 0], rtol=1e-5)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("gap", [2, 5, 9])
def test_linear_weights_put_the_optimum_at_one_minus_w_margins(distance, gap):
    margin = 1.2
    weights = temporal_weights(np.zeros(2, int), np.array([0, gap]), kind="linear", horizon=10)
    positive, negative = pair_weights(weights, np.zeros(2, int), negatives="same_cine")

    def f(angle):  # one of two embeddings moves on the circle
        z = jnp.stack([jnp.array([1.0, 0.0]), jnp.stack([jnp.cos(angle), jnp.sin(angle)])])
        return pairwise_contrastive(z, positive, negative, margin=margin, distance=distance).mean()

    best = gap / 10 * margin
    angle = 2 * np.arcsin(best / 2) if distance == "euclidean" else np.arccos(1 - best)
    slope = jax.grad(f)
    assert abs(slope(angle)) < 2e-5
    assert slope(angle - 0.05) < -1e-3 and slope(angle + 0.05) > 1e-3


@each_loss
def test_zero_weight_gives_gradient_exactly_zero(loss, ref, options):
    z, positive, negative = random_pairs(3)
    positive[4] *= np.arange(9) == 1
    negative[4] *= np.arange(9) == 8
    gradient = jax.grad(lambda z: loss(z, positive, negative, **options)[4])(z)
    np.testing.assert_array_equal(gradient[np.array([0, 2, 3, 5, 6, 7])], 0)
    # a frame that no anchor pairs with, and that pairs with none, feels nothing from the whole batch
    positive[7] = positive[:, 7] = negative[7] = negative[:, 7] = 0
    gradient = jax.grad(lambda z: loss(z, positive, negative, **options).sum())(z)
    assert not np.any(gradient[7]) and np.any(gradient[0])
    # nor does an anchor without positives feel the negatives of info_nce, or an anchor without pairs anything
    negative *= loss is info_nce
    value, gradient = jax.value_and_grad(lambda z: loss(z, positive * 0, negative, **options).sum())(z)
    assert value == 0 and not np.any(gradient)


@each_loss
def test_gradients_against_differences(loss, ref, options):
    z, positive, negative = random_pairs(1)
    z = z / 3
    options = {"temperature": 0.5, **options} if loss is info_nce else options
    check_grads(jax.jit(lambda z: loss(z, positive, negative, **options)), (z,), order=1, atol=1e-2, rtol=1e-2, eps=1e-3)


def corners(m=6, d=3):
    e = np.eye(m, d)
    return {
        "identical": np.ones((m, d)), "zero": np.zeros((m, d)), "one zero": np.where(np.arange(m)[:, None] == 2, 0, e + 1),
        "antipodal": np.where(np.arange(m)[:, None] % 2, -1.0, 1.0) * np.ones((m, d)), "huge": 1e25 * (e - 0.3),
        "tiny": 1e-25 * (e - 0.3), "nearly identical": 1 + 1e-7 * np.arange(m * d).reshape(m, d),
    }


@each_loss
def test_finite_at_the_corners(loss, ref, options):
    options = {**options, "temperature": 0.01} if loss is info_nce else options
    off = 1 - np.eye(6, dtype=np.float32)
    graded = (np.random.default_rng(0).uniform(size=(6, 6)) * off).astype(np.float32)
    f = jax.jit(jax.value_and_grad(lambda z, p, n: loss(z, p, n, **options).sum()))
    for corner, z in corners().items():
        z = z.astype(np.float32)
        for positive, negative in ((off, off), (graded, off - graded), (off, 0 * off), (0 * off, off), (np.eye(6, k=3) * off, off)):
            value, gradient = f(z, np.float32(positive), negative)
            assert np.isfinite(value) and value >= 0 and np.all(np.isfinite(gradient)), corner
            if corner in ("antipodal", "huge", "tiny", "one zero"):
                np.testing.assert_allclose(value, ref(z, positive, negative, **options).sum(), rtol=1e-4, atol=1e-4)
    assert loss(np.ones((1, 3)), np.zeros((1, 1)), np.zeros((1, 1)), **options) == 0


@each_loss
def test_what_must_not_matter(loss, ref, options):
    z, positive, negative = random_pairs(2)
    want = loss(z, positive, negative, **options)
    o = np.random.default_rng(1).permutation(9)
    moved = loss(z[o], positive[o][:, o], negative[o][:, o], **options)
    np.testing.assert_allclose(moved, want[o], rtol=1e-5, atol=1e-6)
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(5, 5)))[0]
    turned = np.linspace(0.1, 9, 9)[:, None] * z @ rotation  # and each embedding's length
    np.testing.assert_allclose(loss(turned, positive, negative, **options), want, rtol=1e-4, atol=1e-4)
    # the common size of an anchor's weights: of the positives for info_nce, of both for the margin loss
    p, n = (positive * 1e-4, negative) if loss is info_nce else (positive * 1e-4, negative * 1e-4)
    np.testing.assert_allclose(loss(z, p, n, **options), want, rtol=1e-4, atol=1e-5)
    if loss is info_nce:
        eye = np.eye(9, dtype=np.float32)
        np.testing.assert_allclose(loss(z, positive + eye, negative + 2 * eye, **options), want, rtol=1e-5, atol=1e-6)


def test_unknown_words_are_refused():
    for loss, options in ((info_nce, {"denominator": "both"}), (pairwise_contrastive, {"distance": "manhattan"})):
        with pytest.raises(ValueError):
            loss(*random_pairs(0), **options)
