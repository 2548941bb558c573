"""The order of a cine's own negatives: by hand, a float64 loop, exact ends, gradients of nothing, blocks, devices, a stage."""
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from uscl import config as uscl_config
from uscl.curriculum import ORDERS, admitted
from uscl.data.loader import CineBatches, Timed
from uscl.data.store import Store
from uscl.data.writer import StoreWriter
from uscl.losses import info_nce, pairwise_contrastive
from uscl.stages import encoder
from uscl.stages.pairs import rule_of
from uscl.temporal import pair_blocks, pair_weights, temporal_weights
from uscl.types import UserError

CINE = np.array([3, 3, 3, 7, 7, 3, 9, 7])
FRAME = np.array([0, 4, 6, 4, 0, 30, 4, 5])
LENGTH = np.array([40, 40, 40, 16, 16, 40, 1, 16])
EVERY = slice(None)


def by_loop(progress, order, until, softness):
    c = np.ones((8, 8))
    done = min(1.0, progress / until)
    for i in range(8):
        for j in range(8):
            if CINE[i] == CINE[j]:
                r = min(1.0, abs(int(FRAME[i]) - int(FRAME[j])) / max(LENGTH[i] - 1, 1))
                x = r if order == "near_to_far" else 1 - r
                c[i, j] = min(1.0, max(0.0, (done * (1 + softness) - x) / softness))
    return c


@pytest.mark.parametrize("order", ORDERS)
def test_agrees_with_loop(order):
    f = jax.jit(lambda p: admitted(CINE, FRAME, length=LENGTH, progress=p, order=order, until=0.8, softness=0.3)(EVERY, EVERY))
    for progress in (0.0, 0.03, 0.2, 0.55, 0.7, 0.8, 1.0):
        got = f(np.float32(progress))
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, by_loop(progress, order, 0.8, 0.3), atol=2e-6)
    rows = f(np.linspace(0, 1, 8, dtype=np.float32))  # a progress for each anchor is its row's
    for i, progress in enumerate(np.linspace(0, 1, 8)):
        np.testing.assert_allclose(rows[i], by_loop(progress, order, 0.8, 0.3)[i], atol=2e-6)


def test_by_hand():
    """Frames 0, 5, 10 of 11: gaps 1/2 and 1 of the largest."""
    def c(order, progress):
        return admitted(np.zeros(3, int), np.array([0, 5, 10]), length=11, progress=progress, order=order, softness=0.5)(EVERY, EVERY)[0]

    np.testing.assert_allclose(c("near_to_far", 0.25), [1, 0.5, 0])
    np.testing.assert_allclose(c("far_to_near", 0.25), [0, 0.5, 1])
    np.testing.assert_allclose(c("near_to_far", 0.125), [0.75, 0, 0])  # a = 1/4: 1/4 + (1/4 - 0) / (1/2)
    np.testing.assert_allclose(c("far_to_near", 0.375), [0.25, 1, 1])  # a = 3/4: 3/4 + (3/4 - 1) / (1/2)


@pytest.mark.parametrize("softness", [0.03, 0.25, 0.3, 5.0])
@pytest.mark.parametrize("order", ORDERS)
def test_nothing_at_first_all_in_the_end_and_never_back(order, softness):
    rule = {"length": 30, "order": order, "until": 0.7, "softness": softness}
    f = jax.jit(lambda progress: admitted(np.zeros(30, int), np.arange(30), progress=progress, **rule)(EVERY, EVERY))
    steps = [np.asarray(f(np.float32(s / 20))) for s in range(21)]
    assert not steps[0].any() and all((step == 1).all() for step in steps[14:]) and (steps[13] < 1).any()
    assert all((later >= sooner).all() for sooner, later in zip(steps, steps[1:], strict=False))
    gaps = steps[5][0]  # of frame 0 to all others, by gap
    assert (np.diff(gaps) <= 0).all() if order == "near_to_far" else (np.diff(gaps) >= 0).all()


@pytest.mark.parametrize("wrong", [{"order": "sideways"}, {"until": 0}, {"until": 1.1}, {"softness": 0}, {"frame": FRAME[:3]}], ids=str)
def test_mistakes(wrong):
    with pytest.raises(ValueError):
        admitted(CINE, **{"frame": FRAME, "length": LENGTH, "progress": 0.5, "order": "far_to_near"} | wrong)
    with pytest.raises(ValueError, match="admit"):
        pair_weights(np.eye(8), CINE, negatives="all", admit=np.ones((3, 3)))


@pytest.mark.parametrize("negatives", ["same_cine", "all"])
def test_only_the_cines_own_negatives_are_weighed_in_blocks_as_in_matrices(negatives):
    admit = admitted(CINE, FRAME, length=LENGTH, progress=0.2, order="near_to_far")
    rule = {"kind": "linear", "length": LENGTH}
    weights = temporal_weights(CINE, FRAME, **rule)
    plain = pair_weights(weights, CINE, negatives=negatives, views=2)
    positive, negative = pair_weights(weights, CINE, negatives=negatives, views=2, admit=admit(EVERY, EVERY))
    np.testing.assert_array_equal(positive, plain[0])
    np.testing.assert_allclose(negative, plain[1] * np.tile(by_loop(0.2, "near_to_far", 0.5, 0.25), (2, 2)), atol=1e-6)
    i, j = np.arange(16)[::-2], np.array([0, 5, 5, 15])
    blocks = pair_blocks(CINE, FRAME, **rule, negatives=negatives, views=2, admit=admit)(i, j)
    for got, w in zip(blocks, (positive, negative), strict=True):
        np.testing.assert_array_equal(got, np.asarray(w)[np.ix_(i, j)])


@pytest.mark.slow
@pytest.mark.parametrize("loss", [info_nce, pairwise_contrastive])
def test_what_is_not_admitted_has_no_gradient(loss):
    """Only the own cine repels: at progress 0 it does not, and the gradient of the whole loss is that of the positives alone."""
    z = np.float32(1 + 0.1 * np.random.default_rng(0).normal(size=(8, 4)))
    slope = jax.jit(jax.grad(lambda z, *pairs: loss(z, *pairs).sum()))

    def gradient(progress, kind):
        share = admitted(CINE, FRAME, length=LENGTH, progress=progress, order="far_to_near")(EVERY, EVERY)
        return slope(z, *pair_weights(temporal_weights(CINE, FRAME, kind=kind, sigma=3.0), CINE, negatives="same_cine", admit=share))

    np.testing.assert_array_equal(gradient(0.0, "none"), 0)  # and a frame attracts only itself
    assert np.abs(gradient(0.2, "gaussian")[0]).max() > 0 and not np.array_equal(gradient(0.2, "gaussian"), gradient(0.4, "gaussian"))
    if loss is pairwise_contrastive:
        assert np.abs(gradient(0.3, "none")[5]).max() > 0  # frame 30 is far from 0, 4 and 6


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    """Three cines of 20 frames; two frames of each a step."""
    path = tmp_path_factory.mktemp("curriculum") / "store"
    with StoreWriter(path, size=4, classes={"a": [1]}) as writer:
        for number in range(3):
            writer.add(patient=f"p{number}", frames=np.zeros((20, 4, 4), np.uint8), labels={})
    return CineBatches(Store.open(path), ["p0", "p1", "p2"], cines=3, frames=4, sampling="uniform", seed=0)


def rule(**changes):
    config = uscl_config.default()
    config.encoder.pairs.update({"kind": "binary", "negatives": "all"} | changes)
    uscl_config.validate(config)
    return rule_of(config, "encoder")


def test_progress_is_a_function_of_the_step(batches):
    source = rule(curriculum="far_to_near").timed(batches, steps=40)
    assert isinstance(source, Timed) and source.size == 12
    for step in (31, 0, 7):  # in any order, as a resumed run asks
        batch = source.batch(step, rows=slice(4, 12))
        assert set(batch) == {"image", "cine", "frame", "length", "progress"} and batch["progress"].dtype == np.float32
        np.testing.assert_array_equal(batch["progress"], np.full(8, np.float32(step / 40)))
    assert rule().timed(batches, steps=40) is batches


def test_a_rule_takes_its_share_of_the_negatives_on_several_devices(batches):
    pairs, plain = rule(curriculum="near_to_far", curriculum_until=0.8), rule()
    batch = pairs.timed(batches, steps=40).batch(10)
    positive, negative = pairs.matrices(batch, views=2)
    want = plain.matrices(batch, views=2)
    r = np.abs(batch["frame"][:, None] - batch["frame"][None, :]) / 19
    share = np.where(batch["cine"][:, None] == batch["cine"], np.clip((0.3125 * 1.25 - r) / 0.25, 0, 1), 1)  # a = 10 / 40 / 0.8
    np.testing.assert_array_equal(positive, want[0])
    np.testing.assert_allclose(negative, want[1] * np.tile(share, (2, 2)), atol=1e-6)
    i = np.arange(24)
    np.testing.assert_array_equal(pairs.blocks(batch, views=2)(i, i)[1], negative)
    small = {name: x for name, x in batch.items() if name != "image"}
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    spread = jax.device_put(small, NamedSharding(mesh, PartitionSpec("data")))
    np.testing.assert_allclose(jax.jit(lambda b: pairs.matrices(b, 2)[1])(spread), negative, atol=1e-6)


def test_the_reports_matrices_are_those_of_both_ends(batches, tmp_path):
    pairs = rule(curriculum="far_to_near")
    encoder.save_pairs(SimpleNamespace(folder=tmp_path), "encoder", pairs, pairs.timed(batches, steps=40).batch(0))
    kept = np.load(tmp_path / "encoder" / "pairs.npz")
    same = np.tile(kept["cine"][:, None] == kept["cine"], (2, 2))
    assert not kept["negative"][same].any() and kept["negative_last"][same].any() and (kept["negative"][~same] == 1).all()
    encoder.save_pairs(SimpleNamespace(folder=tmp_path), "encoder", rule(), batches.batch(0))
    assert "negative_last" not in np.load(tmp_path / "encoder" / "pairs.npz")


@pytest.mark.parametrize("changes, words", [({"curriculum": "far_to_near", "negatives": "other_cines"}, "own frames"),
                                            ({"margin": 2.5}, "must be whole"), ({"horizon": 0.5}, "must be whole")])  # fmt: skip
def test_knobs_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        rule(**changes)
    assert rule(margin=2.5, unit="seconds").margin == 2.5
