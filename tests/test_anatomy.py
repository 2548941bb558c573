"""Pairs by anatomy: AWCL against float64 loops, SimCLR and SupCon at its two ends, and what a frame without a label does and suffers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_anatomy as reference
from reference_selfsupervised import slope

from uscl.anatomy import anatomy_weights, coarsen, keep_labels, union
from uscl.losses import info_nce
from uscl.temporal import pair_weights, temporal_weights

KEY = jax.random.key(3)
B, D = 6, 5
MIXED = np.array([0, -1, 0, 2, -1, 0])  # one anatomy three times, one once, two frames that nobody has named
LABELS = {"mixed": MIXED, "distinct": np.arange(B), "unknown": np.full(B, -1), "one": np.full(B, 4), "pairs": np.array([0, 1, 2, 2, 1, 0])}
each_label = pytest.mark.parametrize("label", LABELS.values(), ids=LABELS)


def embeddings(seed, count=B):
    return np.random.default_rng(seed).normal(size=(2 * count, D)).astype(np.float32)


weigh, join, keep = map(jax.jit, (anatomy_weights, union, keep_labels))  # op by op, each would be compiled by itself
paired = jax.jit(pair_weights, static_argnames=("negatives", "views"))


def pairs(label):
    return paired(weigh(label), np.arange(len(label)), negatives="all", views=2)


@jax.jit
def awcl(z, label):
    """Loss of each anchor, and the gradient of their mean."""

    def mean(z):
        loss = info_nce(z, *pairs(label), temperature=0.5, denominator="all")
        return loss.mean(), loss

    (_, loss), gradient = jax.value_and_grad(mean, has_aux=True)(z)
    return loss, gradient


@each_label
def test_agrees_with_a_loop_over_the_formula(label):
    z = embeddings(0)
    loss, gradient = awcl(z, label)
    assert loss.dtype == jnp.float32 and loss.shape == (2 * B,)
    np.testing.assert_allclose(loss, reference.awcl(z, label), rtol=1e-6)
    if label is MIXED:
        want = slope(lambda z: np.mean(reference.awcl(z, label)), z)
        np.testing.assert_allclose(gradient, want, rtol=1e-4, atol=1e-6)


def test_the_loop_itself_by_hand():
    z = np.array([[1, 0], [3, 0], [0, 2], [0, 1]])  # the first views of two frames are equal, and so are the second ones
    every = np.log(np.e + 2)
    np.testing.assert_allclose(reference.nt_xent(z, 1.0), every, rtol=1e-12)
    np.testing.assert_allclose(reference.awcl(z, [-1, -1], 1.0), every, rtol=1e-12)
    np.testing.assert_allclose(reference.awcl(z, [7, 7], 1.0), every - 1 / 3, rtol=1e-12)  # one of three positives at cosine 1
    np.testing.assert_allclose(reference.awcl(z, [0, 0], 0.5, 0.07), (np.log(np.e**2 + 2) - 2 / 3) * 7.142857, rtol=1e-6)


@pytest.mark.parametrize("label", [np.arange(B), np.full(B, -1), np.array([5, -1, 3, -2, -7, -7])], ids=["distinct", "unknown", "both"])
def test_labels_distinct_or_unknown_are_simclr(label):
    z = embeddings(1)
    loss, gradient = awcl(z, label)
    np.testing.assert_allclose(loss, reference.nt_xent(z), rtol=1e-6)
    simclr = paired(np.eye(B, dtype=np.float32), np.arange(B), negatives="all", views=2)  # temporal rule "none"
    for ours, theirs in zip(pairs(label), simclr, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(gradient, awcl(z, np.full(B, -1))[1])


@each_label
def test_equal_embeddings_are_at_chance(label):
    loss, _ = awcl(np.tile(np.float32([3, -1, 2, 0.5, 0]), (2 * B, 1)), label)
    np.testing.assert_allclose(loss, np.log(2 * B - 1), rtol=1e-6)


def test_one_anatomy_is_best_where_all_are_equal():
    loss, gradient = awcl(np.ones((2 * B, D), np.float32), LABELS["one"])
    assert np.abs(gradient).max() < 1e-7
    assert all(awcl(embeddings(seed), LABELS["one"])[0].mean() > loss.mean() for seed in range(3))


def test_ratio_zero_is_simclr_and_one_is_supcon():
    z, label = embeddings(2), LABELS["pairs"]
    none, every = (keep(KEY, label, ratio=ratio) for ratio in (0.0, 1.0))
    np.testing.assert_array_equal(none, -1)
    np.testing.assert_array_equal(every, label)
    np.testing.assert_allclose(awcl(z, none)[0], reference.nt_xent(z), rtol=1e-6)
    np.testing.assert_allclose(awcl(z, every)[0], reference.awcl(z, label), rtol=1e-6)
    assert np.abs(awcl(z, every)[0] - awcl(z, none)[0]).min() > 1e-3


def test_order_of_the_batch_does_not_matter():
    z = embeddings(4)
    order = np.random.default_rng(0).permutation(B)
    rows = np.concatenate([order, B + order])
    np.testing.assert_allclose(awcl(z[rows], MIXED[order])[0], awcl(z, MIXED)[0][rows], rtol=1e-5)
    renamed = np.array([9, -1, 9, 0, -3, 9])  # which number an anatomy has, and how "unknown" is written
    np.testing.assert_array_equal(awcl(z, renamed)[0], awcl(z, MIXED)[0])


def test_unlabelled_frames_of_a_mixed_batch_are_positives_of_their_own_view_alone():
    positive, negative = (np.array(x) for x in pairs(MIXED))
    for i in (1, 4, B + 1, B + 4):
        own = np.arange(2 * B) == (i + B) % (2 * B)
        np.testing.assert_array_equal([positive[i], positive[:, i]], [own, own])
        np.testing.assert_array_equal(negative[i], ~own & (np.arange(2 * B) != i))
    np.testing.assert_array_equal(np.flatnonzero(positive[2]), [0, 5, B, B + 2, B + 5])  # both views of its anatomy
    np.testing.assert_array_equal(positive + negative, 1 - np.eye(2 * B))  # who does not attract repels
    z = embeddings(5)
    loss, alone = awcl(z, MIXED)[0], np.array(reference.nt_xent(z))
    lonely = np.array([1, 3, 4, B + 1, B + 3, B + 4])  # unlabelled, or alone of its anatomy
    np.testing.assert_allclose(loss[lonely], alone[lonely], rtol=1e-6)
    assert np.all(np.abs(np.delete(loss - alone, lonely)) > 1e-3)


@pytest.mark.parametrize("label", [-1, 3])
def test_one_frame_in_two_views_has_nothing_to_learn(label):
    for z in (embeddings(6, 1), np.ones((2, D), np.float32), np.zeros((2, D), np.float32)):
        loss, gradient = awcl(z, np.array([label]))
        np.testing.assert_array_equal(loss, 0)
        np.testing.assert_array_equal(gradient, 0)


def test_parity_with_the_released_code_is_a_factor():
    z = embeddings(7)
    np.testing.assert_allclose(awcl(z, MIXED)[0] * (0.5 / 0.07), reference.awcl(z, MIXED, base_temperature=0.07), rtol=2e-6)


def test_weights_by_hand():
    want = np.eye(5)
    want[0, 2] = want[2, 0] = 1
    got = weigh(np.array([0, 1, 0, -1, -1]))
    assert got.dtype == jnp.float32
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(weigh(np.array([0, 1, 0, 3, 4], np.uint8)), want)  # 0 is a label, not the unknown


def test_near_in_time_or_of_one_anatomy():
    cine, frame, label = np.array([0, 0, 1]), np.array([0, 3, 0]), np.array([0, 1, 0])
    near = temporal_weights(cine, frame, kind="linear", horizon=10)
    weights = join(near, weigh(label))
    np.testing.assert_allclose(weights, [[1, 0.7, 1], [0.7, 1, 0], [1, 0, 1]], rtol=1e-6)
    np.testing.assert_array_equal(join(near, jnp.full((3, 3), 0.9), weigh(label)), np.maximum(weights, np.float32(0.9)))
    positive, negative = paired(weights, cine, negatives="all", views=2)
    np.testing.assert_allclose(positive[0], [0, 0.7, 1, 1, 0.7, 1], rtol=1e-6)
    np.testing.assert_allclose(negative[0], [0, 0.3, 0, 0, 0.3, 0], atol=1e-7)


def test_all_asks_for_no_cine_and_other_cines_spares_the_same_anatomy():
    weights = weigh(MIXED)
    for cine in (np.zeros(B, int), np.array([0, 0, 1, 1, 2, 2])):
        for ours, theirs in zip(paired(weights, cine, negatives="all", views=2), pairs(MIXED), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    positive, negative = paired(weights, np.array([0, 0, 1, 1, 2, 2]), negatives="other_cines")
    np.testing.assert_array_equal(positive[0], [0, 0, 1, 0, 0, 1])
    np.testing.assert_array_equal(negative[0], [0, 0, 0, 1, 1, 0])  # frame 1, of its own cine and unnamed, neither


def test_ratio_is_a_coin_for_each_label():
    label = np.tile(np.array([0, 1, 5, -1, -4]), 2000)
    for ratio in (0.1, 0.8):
        kept = np.array(keep(KEY, label, ratio=ratio))
        assert kept.min() == -1 and np.all((kept == -1) | (kept == label))  # its own label, or none
        for anatomy in (0, 1, 5):
            assert abs((kept[label == anatomy] == anatomy).mean() - ratio) < 5 * np.sqrt(ratio * (1 - ratio) / 2000)
        again = np.array(keep(jax.random.key(4), label, ratio=ratio))
        both = ((kept >= 0) & (again >= 0))[label >= 0].mean()
        assert abs(both - ratio**2) < 5 * np.sqrt(ratio**2 * (1 - ratio**2) / 6000)  # another key, other coins


def test_coarse_and_fine_from_one_label():
    groups = np.array([0, 0, 1, -1])  # two views of the spine, a femur, and a background that is no anatomy
    label = np.array([0, 1, 2, 3, -1, 3, -6])
    coarse = coarsen(label, groups)
    np.testing.assert_array_equal(coarse, [0, 0, 1, -1, -1, -1, -1])
    np.testing.assert_array_equal(jax.jit(coarsen)(label, groups[:3]), [0, 0, 1, -1, -1, -1, -1])  # a 3 is none of three
    np.testing.assert_array_equal(coarsen(np.array([[2], [0]], np.uint8), [7, 8, 9]), [[9], [7]])
    fine, merged = weigh(label), weigh(coarse)
    assert (fine[0, 1], merged[0, 1], fine[3, 5], merged[3, 5]) == (0, 1, 1, 0)  # two views of a spine; two backgrounds


@pytest.mark.parametrize(
    "call, told",
    [
        (lambda: anatomy_weights(np.zeros((2, 2), int)), r"label \[N\]"), (lambda: anatomy_weights(np.array([0.0, 1.0])), "integers"),
        (lambda: union(), r"\[N, N\]"), (lambda: union(np.eye(3), np.eye(2)), r"\(3, 3\), \(2, 2\)"),
        (lambda: union(np.ones((2, 3))), r"\(2, 3\)"), (lambda: keep_labels(KEY, [0], ratio=1.5), "1.5"),
        (lambda: keep_labels(KEY, [0], ratio=-0.1), "-0.1"), (lambda: coarsen([0, 2], [0, 0]), "found 2, but groups names 2"),
        (lambda: coarsen([0], []), "groups"), (lambda: coarsen([0], [[0]]), "groups"),
    ],
)  # fmt: skip
def test_mistakes_are_told(call, told):
    with pytest.raises(ValueError, match=told):
        call()
