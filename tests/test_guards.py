"""Guards on made-up courses of a run, the measures they look at on embeddings known by hand, and an update run again."""
import json

import jax
import numpy as np
import optax
import pytest

from uscl import config as uscl_config
from uscl import models
from uscl.metrics.embedding import spread
from uscl.models.finite import watch
from uscl.stages import experiment, replay
from uscl.stages.run import CineBatches
from uscl.train import guards, loop, mesh, roofline, state
from uscl.train.checkpoint import Checkpoints
from uscl.train.logs import Log
from uscl.train.step import make_step
from uscl.types import UserError

RNG = np.random.default_rng(0)
AXES = np.concatenate([np.eye(6), -np.eye(6)])
BATCH = {"image": RNG.integers(0, 255, (6, 4, 4, 1)).astype(np.uint8), "cine": np.repeat(np.arange(3, dtype=np.int32), 2)}


# --- embeddings ---


def by_hand(z):
    """float64: NumPy's covariance and its eigenvalues."""
    u = np.asarray(z, float)
    u = u / np.linalg.norm(u, axis=1, keepdims=True)
    eigenvalues = np.linalg.eigvalsh(np.cov(u.T, bias=True))
    return np.sqrt(u.shape[1]) * u.std(0).mean(), eigenvalues.sum() ** 2 / (eigenvalues**2).sum()


KNOWN = {
    "axes": (AXES, 1.0, 6.0),
    "of any length": (AXES * np.arange(1, 13)[:, None], 1.0, 6.0),
    "all equal": (np.tile(RNG.normal(size=6), (12, 1)), 0.0, 0.0),
    "a line": (np.array([[3.0, 4], [-3, -4]] * 4), 0.7 * 2**0.5, 1.0),
    "zeros": (np.zeros((4, 3)), 0.0, 0.0),
    "two of three axes": (AXES[[0, 1, 6, 7]][:, :3], 3**0.5 * 2 * 0.5**0.5 / 3, 2.0),
}


@pytest.mark.parametrize("z, std, rank", KNOWN.values(), ids=KNOWN)
def test_known_spreads(z, std, rank):
    got = spread(z)
    assert float(got["embedding_std"]) == pytest.approx(std, abs=1e-6) and float(got["effective_rank"]) == pytest.approx(rank, abs=1e-5)
    assert all(value.dtype == np.float32 and value.shape == () for value in got.values())


@pytest.mark.parametrize("shape", [(40, 7), (5, 12)])
def test_spread_follows_the_eigenvalues(shape):
    z = RNG.normal(size=shape) * np.linspace(0.2, 3, shape[1]) + 1
    np.testing.assert_allclose(list(spread(z).values()), by_hand(z), rtol=1e-5)
    assert not np.any(jax.grad(lambda z: sum(spread(z).values()))(z.astype(np.float32)))
    with pytest.raises(ValueError, match=r"z \[M, D\] expected"):
        spread(z[0])


# --- warnings ---


def course(kind, values, steps=400, batch=BATCH):
    """What a guard tells, and at which update, over made-up metrics: values(n) for update n."""
    told, now = [], [0]
    guard = kind("encoder", steps=steps, tell=lambda text: told.append((now[0], text)), try_="something else")
    for number in range(1, steps + 1):
        now[0] = number
        guard(number, values(number), batch)
    return told


def noisy(loss, chance=3.8):
    noise = np.random.default_rng(1).normal(0, 0.05, 1000)
    return lambda n: {"loss": float(loss(n) + noise[n]), "chance": chance}


def test_a_loss_at_chance_is_told_once_and_early():
    ((number, text),) = course(guards.Chance, lambda n: {"loss": 3.79, "chance": 3.8})
    assert number == 134  # the first update of the second third
    assert text.startswith("WARNING encoder: the loss sits at chance, 3.79 of 3.8 over the last 100 updates")
    assert text.endswith("nothing is learnt. Try something else")
    assert len(course(guards.Chance, noisy(lambda n: 5.0))) == 1  # above is no better
    assert [n for n, _ in course(guards.Chance, noisy(lambda n: 3.79), steps=90)] == [50]  # never over fewer than 50


LEARNING = {"falls": lambda n: 3.8 - 0.01 * n, "just below": lambda n: 0.97 * 3.8, "late": lambda n: 3.8 if n < 90 else 3.4}


@pytest.mark.parametrize("loss", LEARNING.values(), ids=LEARNING)
def test_a_loss_that_leaves_chance_is_not_told(loss):
    assert course(guards.Chance, noisy(loss)) == []


def test_stages_without_chance_pass():
    assert course(guards.Chance, lambda n: {"loss": 1.0}) == [] and course(guards.Chance, noisy(lambda n: 0.0, chance=0.0)) == []
    assert course(guards.Chance, noisy(lambda n: 3.8), steps=49) == [] and course(guards.Collapse, lambda n: {"loss": 1.0}) == []
    assert len(course(guards.Chance, lambda n: {"loss": 3.8, "chance": 3.8} if n > 300 else {"loss": 2.0, "chance": 3.8})) == 1  # fell back


def embedded(std, rank):
    return lambda n: {"loss": 1.0, "embedding_std": std if n > 50 else 0.0, "effective_rank": rank if n > 50 else 1.0}


def test_collapse():
    many = {"cine": np.arange(4)}
    ((number, text),) = course(guards.Collapse, embedded(0.05, 20.0))
    assert number == 134 and "to a point (embedding_std 0.05" in text and text.endswith("Try something else")
    ((number, text),) = course(guards.Collapse, embedded(0.5, 1.1), batch=many)
    assert number == 134 and "to a line (effective_rank 1.1)" in text
    assert course(guards.Collapse, embedded(0.5, 1.1)) == []  # three cines may lie on a line
    assert course(guards.Collapse, embedded(0.4, 5.0), batch=many) == []


# --- the batch that is kept ---


@pytest.mark.parametrize("metrics", [{"loss": float("nan")}, {"loss": 1.0, "gradient_norm": float("inf")}, {"parameter": float("-inf")}])
def test_the_offending_batch_is_kept_whole(metrics, tmp_path):
    told = []
    guard = guards.make_guard("encoder", steps=100, seed=7, folder=tmp_path, tell=told.append)
    guard(36, {"loss": 1.0, "chance": 1.0}, BATCH)
    assert not list(tmp_path.iterdir()) and not told
    guard(37, metrics, BATCH)
    assert [path.name for path in (tmp_path / "offending").iterdir()] == ["37.npz"] and "37.npz" in told[0]
    with np.load(tmp_path / "offending" / "37.npz", allow_pickle=False) as file:
        assert int(file["step"]) == 37 and int(file["seed"]) == 7
    batch, seed = guards.read_batch(tmp_path, 37)
    assert seed == 7 and batch.keys() == BATCH.keys()
    for name, values in BATCH.items():
        np.testing.assert_array_equal(batch[name], values, strict=True)


def test_kept_batches_that_cannot_be_written_or_read(tmp_path):
    told = []
    (tmp_path / "file").touch()
    guards.Keep(tmp_path / "file", seed=0, tell=told.append)(3, {"loss": float("nan")}, BATCH)
    assert "could not be kept" in told[0]
    guards.Keep(tmp_path, seed=0, tell=told.append)(3, {"loss": float("nan")}, BATCH)
    with pytest.raises(UserError, match=r"offending/4.npz: no batch was kept of update 4; there are: 3"):
        guards.read_batch(tmp_path, 4)
    whole = (tmp_path / "offending" / "3.npz").read_bytes()
    np.savez(tmp_path / "offending" / "6.npz", seed=0, **{"batch.image": np.array([{}], dtype=object)})
    for number, content in ((5, whole[: len(whole) // 2]), (6, None), (7, b"")):
        if content is not None:
            (tmp_path / "offending" / f"{number}.npz").write_bytes(content)
        with pytest.raises(UserError, match=f"{number}.npz: can't be read"):
            guards.read_batch(tmp_path, number)


def test_shares_of_several_processes_are_joined_in_order(tmp_path):
    (tmp_path / "offending").mkdir()
    for process in range(11):
        np.savez(tmp_path / "offending" / f"3-{process}.npz", step=3, seed=1, **{"batch.cine": np.full(2, process)})
    np.testing.assert_array_equal(guards.read_batch(tmp_path, 3)[0]["cine"], np.repeat(np.arange(11), 2))


def test_the_loop_stops_and_the_batch_is_there(tmp_path):
    def loss_fn(params, batch_stats, batch, key):
        return {"fit": (params["head"]["w"] * batch["x"]).mean()}, (batch_stats, {})

    def batches(first):
        for n in range(first, 9):
            yield {"x": np.full(4, np.inf if n == 4 else n, np.float32)}

    here, optimizer = mesh.make_mesh(1), optax.sgd(0.1)
    start = state.create({"head": {"w": np.ones(1, np.float32)}}, {}, optimizer, ("fit",), 0)
    step = make_step(loss_fn, optimizer, here, weights={"fit": 1.0})
    with Log(tmp_path) as log, pytest.raises(FloatingPointError, match="fit is inf at update 5; the checkpoint of update 4 is kept"):
        loop.run(start, step, batches, stage="fit", steps=9, log=log, checkpoints=Checkpoints(tmp_path / "fit" / "checkpoints"), mesh=here,
                 log_every=1, save_every=2, bar=False,
                 guard=guards.make_guard("fit", steps=9, seed=0, folder=tmp_path / "fit", tell=log.info))  # fmt: skip
    assert [path.name for path in (tmp_path / "fit" / "offending").iterdir()] == ["5.npz"]
    assert np.isinf(guards.read_batch(tmp_path / "fit", 5)[0]["x"]).all() and Checkpoints(tmp_path / "fit" / "checkpoints").latest() == 4
    assert "offending/5.npz" in (tmp_path / "run.log").read_text()


# --- replay ---


def small():
    """A small encoder of two levels without its running: (model, variables, images)."""
    model = models.GlobalModel(width=(2, 2))
    return model, models.initialise(model, 0, (8, 8, 1)), RNG.normal(size=(4, 8, 8, 1)).astype(np.float32)


@pytest.mark.parametrize("change, expected", [
    (("encoder", "level2", "conv1", "scale", 3e38), "the first module whose output is not finite: encoder/level2/conv1"),
    (("g1", "dense1", "kernel", np.nan), "not finite before the update: params/g1/dense1/kernel"),
])  # fmt: skip
def test_the_first_module_that_is_not_finite(change, expected):
    """3e38 is a float32, and twice as much is none."""
    model, variables, x = small()
    variables = jax.tree.map(np.array, variables)
    *path, value = change
    leaf = variables["params"]
    for name in path:
        leaf = leaf[name]
    leaf[:] = value

    def loss_fn(params, batch_stats, batch, key):
        z, new = model.apply({"params": params, "batch_stats": batch_stats}, batch["x"], train=True, mutable=["batch_stats"])
        return {"size": (z**2).mean()}, (new["batch_stats"], {})

    now = state.create(variables["params"], variables["batch_stats"], optax.sgd(1.0), ("size",), 0)
    assert replay.where(loss_fn, now, {"x": x}, {"size": 1.0}) == expected


@pytest.mark.parametrize("f, expected", [
    (lambda w: jax.numpy.log(-(w**2).sum()), "every module's output is finite, these terms of the loss are not: size"),
    (lambda w: jax.numpy.sqrt(w * 0).sum(), "the loss is finite, its gradient is not: head/w"),
    (lambda w: (w**2).sum(), "every output, term and gradient is finite"),
])  # fmt: skip
def test_a_term_or_a_gradient_that_is_not_finite(f, expected):
    now = state.create({"head": {"w": np.ones(3, np.float32)}}, {}, optax.sgd(1.0), ("size", "off"), 0)

    def loss_fn(params, batch_stats, batch, key):
        return {"size": f(params["head"]["w"]), "off": jax.numpy.float32(0)}, (batch_stats, {})

    assert replay.where(loss_fn, now, {}, {"size": 1.0, "off": 0.0}) == expected


def test_modules_are_noted_inside_out():
    model, variables, x = small()
    with watch() as notes:
        model.apply(variables, x, train=False)
    names = [name for name, _ in notes]
    assert names[:3] == ["encoder/level1/conv1", "encoder/level1/conv2", "encoder/level1"] and names[-2:] == ["g1", "the model"]
    assert all(finite for _, finite in notes)


@pytest.mark.slow
def test_an_update_run_again_has_the_runs_own_metrics(tmp_path):
    config = uscl_config.default()
    config.experiment, config.stages = "tiny", ("encoder",)
    config.update_from_flattened_dict(
        {"data.patients": 8, "data.frames": 8, "data.size": 32, "model.width": (2, 2, 4, 4, 4, 4), "encoder.steps": 5, "encoder.cines": 2,
         "encoder.pairs.negatives": "all", "log.every": 1, "log.save_every": 3}
    )  # fmt: skip
    kept, fetch = {}, CineBatches.batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CineBatches, "batch", lambda self, n: kept.setdefault(n, fetch(self, n)))
        experiment.run(config, tmp_path)
    with pytest.raises(UserError, match="no batch was kept of update 5"):
        replay.replay(tmp_path, "encoder", 5)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    guards.Keep(tmp_path / "encoder", seed=0, tell=print)(5, {"loss": float("nan")}, kept[4])
    first, *metrics, last = replay.replay(tmp_path, "encoder", 5)
    assert first == "update 5 of encoder, from the checkpoint of update 3; its batch is what the store gives"
    line = json.loads(before.splitlines()[-1])
    assert line.pop("step") == 5 and line.pop("stage") == "encoder"
    assert dict(m.split() for m in metrics) == {name: f"{value:.6g}" for name, value in line.items()}
    assert last == "every output, term and gradient is finite" and (tmp_path / "metrics.jsonl").read_bytes() == before
    with pytest.raises(UserError, match="--stage: found 'decoder'"):
        replay.replay(tmp_path, "decoder", 5)
    with pytest.raises(UserError, match="config.json: there is none"):
        replay.replay(tmp_path / "nothing", "encoder", 5)


# --- roofline ---


def test_share_of_the_roofline():
    assert roofline.share(4.0, flops=2e12, traffic=1e9, rate=1e12, bandwidth=1e10) == (0.5, "arithmetic")
    assert roofline.share(3.0, flops=1e11, traffic=3e9, rate=1e12, bandwidth=1e10) == (pytest.approx(0.1), "bandwidth")


def test_devices_by_name():
    for kind, bandwidth in (("NVIDIA H100 80GB HBM3", 3.35e12), ("NVIDIA H100 PCIe", 2.0e12), ("NVIDIA A100-SXM4-40GB", 1.56e12)):
        assert roofline.peak_of(kind).bandwidth == bandwidth
    assert roofline.peak_of("NVIDIA GeForce RTX 2060").half == 6.5e12 and roofline.peak_of("cpu") is None


def test_the_line_of_a_stages_end():
    told = {"updates": 10, "images": 480, "seconds": 2.0}
    assert roofline.text("encoder", **told) == "encoder: 240 images/s with validation and saves"
    assert "too short" in roofline.text("encoder", updates=0, images=0, seconds=0.0)
    device = {"memory": {"peak_bytes_in_use": 3_200_000_000, "bytes_limit": 6_000_000_000}, "program": (0.65e12, 33.6e9)}
    line = roofline.text("encoder", **told, kind="NVIDIA GeForce RTX 2060", **device)  # 0.1 s of the one, 0.1 of the other, in 0.2 s
    assert line == ("encoder: 240 images/s with validation and saves, peak memory 3.2 of 6 GB, 50 % of the roofline (arithmetic binds; "
                    "0.65 TFLOP and 33.6 GB an update and device; NVIDIA GeForce RTX 2060)")  # fmt: skip
    half, full = (roofline.text("e", **told, kind="NVIDIA H100", memory=None, program=(9.89e12, 0), half=h) for h in (True, False))
    assert "5 % of" in half and "10 % of" in full
    assert "unknown: 'GPU X' is not in the table" in roofline.text("e", **told, kind="GPU X", **device)


def test_cost_of_a_product():
    lowered = jax.jit(lambda a, b: a @ b).lower(*(jax.ShapeDtypeStruct(s, np.float32) for s in ((64, 32), (32, 16))))
    flops, traffic = roofline.cost(lowered, 2)
    assert flops == 64 * 32 * 16 and traffic == pytest.approx(4 * (64 * 32 + 32 * 16 + 64 * 16))
    low = jax.jit(lambda a: a @ a).lower(jax.ShapeDtypeStruct((4, 4), jax.numpy.bfloat16))
    assert "xbf16>" in low.as_text() and "xbf16>" not in lowered.as_text()  # how a program that computes in bfloat16 is known
    assert roofline.summary("fit", None, {}, {}, updates=2, images=8, seconds=4.0) == "fit: 2 images/s with validation and saves"
