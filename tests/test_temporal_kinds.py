"""Gaussian and sigmoid weights, and time in seconds: literals, a float64 loop, rounding at a margin, blocks, devices, a store."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import reference
from uscl import config as uscl_config
from uscl.data.loader import CineBatches, Timed
from uscl.data.store import Store
from uscl.data.writer import StoreWriter
from uscl.losses import info_nce, streamed_info_nce
from uscl.stages.pairs import rule_of
from uscl.temporal import pair_blocks, pair_weights, temporal_weights
from uscl.types import UserError

CINE = np.array([3, 3, 3, 7, 7, 3, 9, 7])
FRAME = np.array([0, 4, 6, 4, 0, 30, 4, 5])
RULES = {"gaussian": {"kind": "gaussian", "sigma": 3.5}, "sigmoid": {"kind": "sigmoid", "alpha": 0.3},
         "binary": {"kind": "binary", "margin": 5}, "linear": {"kind": "linear", "horizon": 10}}  # fmt: skip
SMOOTH = ("gaussian", "sigmoid")
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # to compile: nothing here runs for long


@pytest.mark.parametrize("scale", [1, 0.04], ids=["frames", "seconds"])
@pytest.mark.parametrize("name", RULES)
def test_agrees_with_loop_eager_and_jitted(name, scale):
    """In seconds at 40 ms a frame: the times of the frames, and every length of the rule in seconds as well."""
    longer = {"margin": scale, "horizon": scale, "sigma": scale, "alpha": 1 / scale}
    options = {key: value * longer[key] if scale != 1 and key in longer else value for key, value in RULES[name].items()}
    want, time = reference.temporal_weights(CINE, FRAME, **RULES[name]), FRAME if scale == 1 else FRAME * scale
    f = partial(temporal_weights, **options)
    for got in (f(CINE, time), jax.jit(f)(CINE, time)):
        assert got.dtype == jnp.float32 and got.shape == (8, 8)
        np.testing.assert_allclose(got, want, atol=5e-7)
        np.testing.assert_array_equal(np.diag(got), 1)


def test_known_values():
    one, frame = np.zeros(3, int), np.array([0, 3, 10])
    weights = partial(temporal_weights, one, frame)
    a, b, c = 0.60653066, 0.0038659201, 0.06572853  # exp of -9/18, -100/18, -49/18
    np.testing.assert_allclose(weights(kind="gaussian", sigma=3), [[1, a, b], [a, 1, c], [b, c, 1]], rtol=1e-6)
    a, b, c = 0.53788284, 0.06889039, 0.17679935  # 2 / (1 + exp of 1, 10/3, 7/3)
    np.testing.assert_allclose(weights(kind="sigmoid", alpha=1 / 3), [[1, a, b], [a, 1, c], [b, c, 1]], rtol=1e-6)
    assert temporal_weights(one, np.array([0, 6, 9]), kind="gaussian", sigma=3)[0, 1] == pytest.approx(0.13533528, rel=1e-6)
    assert temporal_weights(one, np.array([0, 5, 9]), kind="sigmoid", alpha=np.log(3) / 5)[0, 1] == pytest.approx(0.5, rel=1e-6)
    for second, first in (({"kind": "binary", "margin": 2.5}, {"kind": "binary"}), ({"kind": "gaussian", "sigma": 1.5}, RULES["gaussian"]
                          | {"sigma": 3}), ({"kind": "linear", "horizon": 5.0}, RULES["linear"])):  # fmt: skip
        np.testing.assert_allclose(temporal_weights(one, frame / 2, **second), weights(**first), rtol=1e-6)
    lengths = temporal_weights(one, frame * 0.04, kind="linear", length=np.full(3, 0.4))  # horizon None: the cine's length, in seconds too
    np.testing.assert_allclose(lengths, weights(kind="linear", length=np.full(3, 10)), atol=1e-6)


@pytest.mark.parametrize("name", SMOOTH)
def test_large_gaps_and_tiny_widths_end_in_zero(name):
    frame = np.array([-(2**31), 2**31 - 1, 2**31 - 2], np.int32)
    got = np.asarray(temporal_weights(np.zeros(3, int), frame, **RULES[name]))
    np.testing.assert_allclose(got, reference.temporal_weights(np.zeros(3), frame, **RULES[name]), atol=2e-7)
    key, sharp = {"gaussian": ("sigma", 1e-6), "sigmoid": ("alpha", 1e6)}[name]
    f = partial(temporal_weights, CINE, np.arange(8), kind=name)  # no two frames alike: the rule of two views alone
    np.testing.assert_array_equal(f(**{key: sharp}), np.eye(8))
    if name == "gaussian":  # traced, so it cannot be refused
        np.testing.assert_array_equal(jax.jit(lambda s: f(sigma=s))(0.0), np.eye(8))


@pytest.mark.parametrize("ms", [1.0, 33.333, 1000 / 30, 40.0, 66.7, 109.9])
def test_a_margin_of_whole_frames_does_not_hang_on_rounding(ms):
    """Every gap of 0 to 12 frames anywhere in ten minutes, against margins that are a whole number of frames, in seconds."""
    start = np.random.default_rng(0).integers(0, 600_000 / ms, 200)
    frame = np.concatenate([start, start + np.arange(200) % 13])
    pairs = np.arange(200), np.arange(200, 400)
    for count in (0, 3, 5, 12):
        got = temporal_weights(np.zeros(400, int), np.float32(frame * ms / 1000), kind="binary", margin=count * ms / 1000)
        np.testing.assert_array_equal(np.asarray(got)[pairs], np.arange(200) % 13 <= count)


@pytest.mark.parametrize("options", [{"kind": "gaussian", "sigma": 0}, {"kind": "sigmoid", "alpha": -1.0},
                                     {"kind": "gaussian", "sigma": np.inf}, {"kind": "linear"},
                                     {"kind": "partition", "length": np.full(8, 40)}], ids=str)  # fmt: skip
def test_mistakes(options):
    with pytest.raises(ValueError):
        temporal_weights(CINE, FRAME / 25, **options)
    with pytest.raises(ValueError, match="finite"):
        temporal_weights(CINE, np.where(FRAME == 30, np.nan, FRAME), kind="binary")


@pytest.mark.parametrize("name", RULES)
def test_blocks_of_times_are_those_of_the_matrices_to_the_last_bit(name):
    time = np.float32(FRAME * 0.0333)
    pairs = pair_blocks(CINE, time, **RULES[name], negatives="all", views=2)
    want = pair_weights(temporal_weights(CINE, time, **RULES[name]), CINE, negatives="all", views=2)
    i, j = np.arange(16)[::-2], np.array([0, 5, 5, 15])
    for got, w in zip(pairs(i, j), want, strict=True):
        np.testing.assert_array_equal(got, np.asarray(w)[np.ix_(i, j)])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian", pytest.param("sigmoid", marks=pytest.mark.slow)])
def test_four_devices_agree_with_one_and_streamed_with_dense(name):
    rng = np.random.default_rng(0)
    batch = {"z": rng.normal(size=(16, 2, 5)), "time": rng.integers(0, 20, 16) * 0.05}
    rule = {"kind": name, "sigma": 0.3, "alpha": 4.0}

    def f(batch):
        cine, time, how = batch["cine"], batch["time"], {"negatives": "all", "views": 2}

        def dense(z):
            weights = temporal_weights(cine, time, **rule)
            return info_nce(jnp.concatenate([z[:, 0], z[:, 1]]), *pair_weights(weights, cine, **how)).mean()

        def streamed(z):
            return streamed_info_nce(jnp.concatenate([z[:, 0], z[:, 1]]), pair_blocks(cine, time, **rule, **how), block=10).mean()

        values, gradients = zip(*(jax.value_and_grad(loss)(batch["z"]) for loss in (dense, streamed)), strict=True)
        return jnp.stack(values), jnp.stack(gradients)

    batch = jax.tree.map(np.float32, batch) | {"cine": np.repeat(np.arange(4, dtype=np.int32), 4)}
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    f = jax.jit(f, compiler_options=FAST)
    one, four = f(batch), f(jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data"))))
    for a, b in zip(one, four, strict=True):
        np.testing.assert_allclose(a[1], a[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
    want = reference.temporal_weights(batch["cine"], batch["time"].astype(float), **rule)
    want = reference.info_nce(np.concatenate([batch["z"][:, 0], batch["z"][:, 1]]), *reference.pair_weights(want, batch["cine"], "all", 2))
    assert one[0][0] == pytest.approx(want.mean(), rel=1e-5)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Four patients of a cine each, at 20, 40, unknown and 50 ms a frame."""
    path = tmp_path_factory.mktemp("times") / "store"
    with StoreWriter(path, size=4, classes={"a": [1]}) as writer:
        for number, ms in enumerate((20.0, 40.0, None, 50.0)):
            writer.add(patient=f"p{number}", frames=np.zeros((30, 4, 4), np.uint8), labels={}, frame_ms=ms, source=f"file{number}.dcm")
    return Store.open(path)


def test_a_batch_tells_the_time_when_it_is_asked(store):
    batches = CineBatches(store, ["p0", "p1", "p3"], cines=3, frames=4, sampling="uniform", seed=0)
    plain, timed = batches.batch(5), Timed(batches, seconds=True).batch(5)
    assert set(timed) - set(plain) == {"time"} and timed["time"].dtype == np.float32
    np.testing.assert_allclose(timed["time"], plain["frame"] * np.take([0.02, 0.04, np.nan, 0.05], plain["cine"]), rtol=1e-6)
    for name, values in plain.items():
        np.testing.assert_array_equal(timed[name], values)
    half = Timed(batches, seconds=True).batch(5, rows=slice(6, 12))
    np.testing.assert_array_equal(half["time"], timed["time"][6:])
    with pytest.raises(UserError, match=r"unit: found 'seconds'; .*cines\.csv has no frame_ms for cine 2 \(file2\.dcm\)"):
        Timed(CineBatches(store, ["p2", "p3"], cines=2, frames=4, sampling="uniform", seed=0), seconds=True)


@pytest.mark.parametrize("changes, asks", [
    ({"kind": "gaussian"}, False), ({"kind": "gaussian", "unit": "seconds"}, True), ({"unit": "seconds"}, True),
    ({"kind": "linear", "unit": "seconds"}, False), ({"kind": "linear", "unit": "seconds", "horizon": 0.5}, True),
    ({"kind": "none", "unit": "seconds"}, False), ({"kind": "partition", "unit": "seconds"}, False),
])  # fmt: skip
def test_a_stage_asks_for_times_where_its_rule_has_a_unit(store, changes, asks):
    """And its weights are those of the frames of each cine, 20, 40 and 50 ms apart."""
    config = uscl_config.default()
    config.temporal.update({"stages": ("encoder",), "sigma": 0.2, "margin": 0.2, "negatives": "all"} | changes)
    pairs = rule_of(config, "encoder")
    batches = CineBatches(store, ["p0", "p1", "p3"], cines=3, frames=4, sampling="uniform", seed=0)
    source = pairs.timed(batches, steps=10)
    assert (source is not batches) == asks
    batch = source.batch(0)
    frame = batch["frame"] * np.take([0.02, 0.04, 9, 0.05], batch["cine"]) if asks else batch["frame"]
    rule = {"kind": "binary", "sigma": 0.2, "margin": 0.2, "horizon": None, "length": batch["length"]} | changes
    rule.pop("unit", None)
    want = reference.temporal_weights(batch["cine"], frame, **rule | ({"margin": 0.2 + 1e-9} if asks else {}))
    np.testing.assert_allclose(pairs.weights(batch), want, atol=1e-6)
    whole, i = pairs.matrices(batch, views=2), np.arange(24)
    for got, w in zip(pairs.blocks(batch, views=2)(i, i), whole, strict=True):
        np.testing.assert_array_equal(got, w)
