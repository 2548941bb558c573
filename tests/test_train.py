"""Mesh, state, step, loop and signals, on toy problems whose course is known from NumPy."""
import json
import os
import signal
import stat
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from uscl.train import loop, mesh, state
from uscl.train.checkpoint import Checkpoints
from uscl.train.interrupt import Interrupted, Signals
from uscl.train.logs import Log
from uscl.train.step import make_step
from uscl.types import UserError

BATCH, IN, HIDDEN = 8, 3, 5


def start_params():
    rng = np.random.default_rng(0)
    return {
        "encoder": {"kernel": rng.normal(size=(IN, HIDDEN)).astype(np.float32), "bias": np.zeros(HIDDEN, np.float32)},
        "head": {"kernel": rng.normal(size=(HIDDEN, 1)).astype(np.float32)},
    }


def toy_batch(number):
    rng = np.random.default_rng([1, number])
    x = rng.normal(size=(BATCH, IN)).astype(np.float32)
    return {"x": x, "y": np.sin(x.sum(1, keepdims=True)).astype(np.float32)}


def toy_loss(params, batch_stats, batch, key):
    """Squared error of a small network, and a norm; `noise` shows which key came in."""
    hidden = jnp.tanh(batch["x"] @ params["encoder"]["kernel"] + params["encoder"]["bias"])
    error = hidden @ params["head"]["kernel"] - batch["y"]
    terms = {"fit": jnp.mean(error**2), "size": jnp.sum(params["head"]["kernel"] ** 2)}
    seen = 0.9 * batch_stats["seen"] + 0.1 * batch["x"].mean(0)
    return terms, ({"seen": seen}, {"noise": jax.random.uniform(key), "chance": 1.0})


def numpy_training(updates, *, rate, momentum, weights):
    """The same training in float64: the gradient by hand, momentum as v = momentum v + g, w = w - rate v."""
    p = {k: v.astype(np.float64) for k, v in (("W", start_params()["encoder"]["kernel"]), ("b", np.zeros(HIDDEN)),
                                              ("V", start_params()["head"]["kernel"]))}  # fmt: skip
    velocity = {k: np.zeros_like(v) for k, v in p.items()}
    told = []
    for number in range(updates):
        x, y = (toy_batch(number)[k].astype(np.float64) for k in ("x", "y"))
        hidden = np.tanh(x @ p["W"] + p["b"])
        error = hidden @ p["V"] - y
        back = 2 * error / BATCH * weights["fit"]
        inner = (back @ p["V"].T) * (1 - hidden**2)
        gradient = {"W": x.T @ inner, "b": inner.sum(0), "V": hidden.T @ back + 2 * weights["size"] * p["V"]}
        fit, size = (error**2).mean(), (p["V"] ** 2).sum()
        norm = np.sqrt(sum((g**2).sum() for g in gradient.values()))
        told.append({"loss": weights["fit"] * fit + weights["size"] * size, "fit": fit, "size": size, "gradient_norm": norm})
        for k in p:
            velocity[k] = momentum * velocity[k] + gradient[k]
            p[k] = p[k] - rate * velocity[k]
    return p, told


WEIGHTS = {"fit": 1.0, "size": 0.01}


def make_toy(devices=4, *, optimizer=None, loss=toy_loss, weights=WEIGHTS, **options):
    here = mesh.make_mesh(devices)
    optimizer = optimizer or optax.adam(1e-2)
    new = state.create(start_params(), {"seen": jnp.zeros(IN)}, optimizer, weights, 3, trainable=options.get("trainable"))
    return here, new, make_step(loss, optimizer, here, weights=weights, **options)


def drive(here, new, step, updates, batch=toy_batch):
    """The updates without the loop: final state and every update's metrics."""
    new, told = mesh.put_replicated(here, new), []
    for number in range(updates):
        new, metrics = step(new, mesh.put_batch(here, batch(number)))
        told.append({k: float(v) for k, v in metrics.items()})
    return new, told


def leaves(tree):
    return {jax.tree_util.keystr(k): np.asarray(v) for k, v in jax.tree_util.tree_leaves_with_path(tree)}


def assert_same(one, other):
    one, other = leaves(one), leaves(other)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name, strict=True)


# --- mesh ---


def test_mesh_is_auto_and_similarities_span_the_whole_batch():
    here = mesh.make_mesh()
    assert here.axis_names == ("data",) and here.size == 4
    z = mesh.put_batch(here, {"z": np.arange(16, dtype=np.float32).reshape(8, 2)})["z"]
    assert z.sharding.spec == PartitionSpec("data") and {s.data.shape for s in z.addressable_shards} == {(2, 2)}
    np.testing.assert_array_equal(jax.jit(lambda z: z @ z.T)(z), np.asarray(z) @ np.asarray(z).T)  # raises under Explicit axes


@pytest.mark.parametrize("batch,near", [(10, "8 or 12"), (3, "such as 4"), (0, "such as 4")])
def test_batch_that_does_not_split(batch, near):
    with pytest.raises(UserError, match=f"encoder.frames: {batch} images .* 4 devices.*{near}"):
        mesh.make_mesh(batch=batch, key="encoder.frames")
    assert mesh.make_mesh(batch=12).size == 4


@pytest.mark.parametrize("devices", [0, 5])
def test_devices_that_are_not_there(devices):
    with pytest.raises(UserError, match=f"devices: {devices} .*1 to 4"):
        mesh.make_mesh(devices)
    assert mesh.make_mesh(jax.devices()[1:3]).devices.tolist() == jax.devices()[1:3]


@pytest.mark.parametrize("devices", [1, 4])
def test_replicas_are_copies(devices):
    here, source = mesh.make_mesh(devices), {"a": jnp.arange(3.0), "b": np.ones(2, np.float32), "c": jnp.int32(1)}
    first = mesh.put_replicated(here, source)
    again = mesh.put_replicated(here, first)
    consume = jax.jit(lambda tree: jax.tree.map(lambda x: 2 * x, tree), donate_argnums=0)
    for copy in (again, first):
        assert copy["a"].sharding == mesh.replicated(here)
        consume(copy)
        assert copy["a"].is_deleted() and copy["b"].is_deleted()
    for name, value in {"a": [0, 1, 2], "b": [1, 1], "c": 1}.items():
        np.testing.assert_array_equal(source[name], value)


def test_compilation_cache_is_the_users_own(tmp_path, monkeypatch):
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs", "jax_persistent_cache_min_entry_size_bytes")
    before = {name: getattr(jax.config, name) for name in names}
    try:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert mesh.enable_compilation_cache() == mesh.Path(before[names[0]])  # one that is set stays
        jax.config.update(names[0], None)
        folder = mesh.enable_compilation_cache()
        assert folder == tmp_path / "uscl" / "jax" and stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0
        assert [getattr(jax.config, name) for name in names] == [str(folder), 0, -1]
        (tmp_path / "file").touch()
        assert mesh.enable_compilation_cache(tmp_path / "file" / "cache") is None
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


# --- step ---


@pytest.mark.parametrize("devices", [1, 4])
def test_step_follows_numpy(devices):
    here, new, step = make_toy(devices, optimizer=optax.sgd(0.1, momentum=0.9))
    new, told = drive(here, new, step, 5)
    expected, lines = numpy_training(5, rate=0.1, momentum=0.9, weights=WEIGHTS)
    for mine, theirs in ((new.params["encoder"]["kernel"], "W"), (new.params["encoder"]["bias"], "b"), (new.params["head"]["kernel"], "V")):
        np.testing.assert_allclose(mine, expected[theirs], rtol=2e-5, atol=2e-6)
    for mine, theirs in zip(told, lines, strict=True):
        for name, value in theirs.items():
            assert mine[name] == pytest.approx(value, rel=2e-5), name
    assert int(new.step) == 5 and new.params["head"]["kernel"].sharding == mesh.replicated(here)
    seen = np.zeros(IN)
    for number in range(5):
        seen = 0.9 * seen + 0.1 * toy_batch(number)["x"].mean(0)
    np.testing.assert_allclose(new.batch_stats["seen"], seen, rtol=1e-5, atol=1e-7)


def test_each_update_folds_its_number_into_the_key():
    here, new, step = make_toy()
    last, told = drive(here, new, step, 3)
    expected = [float(jax.random.uniform(jax.random.fold_in(jax.random.key(3), n))) for n in range(3)]
    assert [line["noise"] for line in told] == expected
    assert_same(last.key, jax.random.key_data(jax.random.key(3)))


def test_state_is_donated_and_compiled_once():
    # Its state starts as a weakly typed scalar and leaves the first update strongly typed.
    summing = optax.GradientTransformation(lambda params: jnp.asarray(0.0), lambda g, s, params=None: (g, s + optax.tree.norm(g)))
    here, new, step = make_toy(optimizer=optax.chain(summing, optax.sgd(1e-2)))
    new = mesh.put_replicated(here, new)
    old, (new, _) = new, step(new, mesh.put_batch(here, toy_batch(0)))
    assert old.params["head"]["kernel"].is_deleted()
    for number in (1, 2):
        new, _ = step(new, mesh.put_batch(here, toy_batch(number)))
    assert step._cache_size() == 1


def test_frozen_parameters_rest():
    optimizer = optax.adamw(1e-2, weight_decay=0.1)  # weight decay would move them without any gradient
    here, new, step = make_toy(optimizer=optimizer, trainable=lambda name: name != "encoder")
    last, _ = drive(here, new, step, 3)
    assert_same(last.params["encoder"], start_params()["encoder"])
    assert not np.array_equal(last.params["head"]["kernel"], start_params()["head"]["kernel"])
    assert sum(leaf.size for leaf in jax.tree.leaves(new.opt_state)) == 2 * HIDDEN + 1  # two moments of the head, one count
    assert not any("encoder" in name for name in leaves(new.opt_state))
    with pytest.raises(ValueError, match="nothing to train.*encoder.*head"):
        make_toy(trainable=lambda name: False)


def test_frozen_parameters_count_as_constants_in_the_gradient():
    here, new, step = make_toy(trainable=lambda name: name == "head")
    _, (line,) = drive(here, new, step, 1)
    kernel = start_params()["encoder"]["kernel"].astype(np.float64)
    x, y = (toy_batch(0)[k].astype(np.float64) for k in ("x", "y"))
    head = start_params()["head"]["kernel"].astype(np.float64)
    hidden = np.tanh(x @ kernel)
    gradient = hidden.T @ (2 * (hidden @ head - y) / BATCH) + 0.02 * head
    assert line["gradient_norm"] == pytest.approx(np.linalg.norm(gradient), rel=1e-5)


def test_zero_weight_is_zero_gradient_even_where_it_is_not_finite():
    def with_kink(params, batch_stats, batch, key):
        terms, rest = toy_loss(params, batch_stats, batch, key)
        return {**terms, "kink": jnp.sqrt(jnp.sum(params["encoder"]["bias"] ** 2))}, rest  # its gradient at 0 is NaN

    plain, _ = drive(*make_toy(), 1)
    zero, (line,) = drive(*make_toy(loss=with_kink, weights={**WEIGHTS, "kink": 0.0}), 1)
    assert_same(plain.params, zero.params)
    assert line["kink"] == 0.0 and np.isfinite(line["gradient_norm"])
    spoilt, _ = drive(*make_toy(loss=with_kink, weights={**WEIGHTS, "kink": 1.0}), 1)
    assert not np.isfinite(spoilt.params["encoder"]["bias"]).all()


def measured(params, batch_stats, batch, key):
    """Terms w_a a and w_b b with w = 1 at first: their values and gradients are dictated by the batch."""
    return {k: params["w"][k] * batch[k].mean() for k in ("a", "b")}, (batch_stats, {})


def equalised(sizes, *, decay=0.5, weights=None):
    """Losses, scales and gradients over updates whose terms are (a, b); rate 0 keeps w = 1, the gradient norm shows both."""
    here, weights = mesh.make_mesh(1), weights or {"a": 1.0, "b": 0.0}
    optimizer = optax.trace(decay=0.0)  # passes the gradient on; its state is the gradient
    new = state.create({"w": {"a": jnp.ones(()), "b": jnp.ones(())}}, {}, optax.chain(optimizer, optax.scale(0.0)), weights, 0)
    step = make_step(measured, optax.chain(optimizer, optax.scale(0.0)), here, weights=weights, equalise=True, decay=decay)
    new, course = mesh.put_replicated(here, new), []
    for a, b in sizes:
        new, metrics = step(new, mesh.put_batch(here, {"a": np.full(4, a, np.float32), "b": np.full(4, b, np.float32)}))
        gradient = new.opt_state[0].trace["w"]
        course.append([float(v) for v in (metrics["loss"], new.scales["a"], new.scales["b"], gradient["a"], gradient["b"])])
    return np.array(course)


def test_equalised_terms_by_hand():
    # a: 4, 2, 0, -6 -> means 4, (4+2)/2 = 3, 3 (nothing to measure), (3+6)/2 = 4.5; loss 4/4, 2/3, 0, -6/4.5; gradient a/s
    course = equalised([(4, 0), (2, 0), (0, 0), (-6, 0)])
    np.testing.assert_allclose(course[:, 0], [1, 2 / 3, 0, -6 / 4.5], rtol=1e-6)
    np.testing.assert_allclose(course[:, 1], [4, 3, 3, 4.5], rtol=1e-6)
    np.testing.assert_allclose(course[:, 3], [1, 2 / 3, 0, -6 / 4.5], rtol=1e-6)  # not 0: the mean is a constant
    np.testing.assert_array_equal(course[:, [2, 4]], 0)


def test_equalised_terms_of_any_scale_weigh_the_same():
    course = equalised([(1e-3, 500), (2e-3, 250)], decay=0.9, weights={"a": 2.0, "b": 0.5})
    a, b = 0.9 * 1e-3 + 0.1 * 2e-3, 0.9 * 500 + 0.1 * 250
    np.testing.assert_allclose(course[:, 0], [2.5, 2 * 2e-3 / a + 0.5 * 250 / b], rtol=1e-6)
    np.testing.assert_allclose(course[:, 1:3], [[1e-3, 500], [a, b]], rtol=1e-6)


def test_a_term_that_starts_at_zero_does_not_blow_up():
    course = equalised([(0, 3), (1e-12, 3), (5, 3), (5e3, 3)], decay=0.99, weights={"a": 1.0, "b": 1.0})
    np.testing.assert_allclose(course[:, 1], [0, 0, 5, 0.99 * 5 + 0.01 * 5e3], rtol=1e-6)
    np.testing.assert_allclose(course[:, 3], [0, 1e-12, 1, 5e3 / (0.99 * 5 + 0.01 * 5e3)], rtol=1e-5)
    assert course[-1, 3] <= 1 / (1 - 0.99)


def test_step_refuses_a_loss_that_does_not_fit():
    def scalars(extra):
        return lambda p, s, b, k: (lambda terms, rest: (terms, (rest[0], {**rest[1], **extra})))(*toy_loss(p, s, b, k))

    for options, message in (
        ({"weights": {"fit": 1.0}}, "terms .*'fit', 'size'.* weights .*'fit'"),
        ({"loss": scalars({"noise": jnp.ones(3)})}, "noise must be a scalar"),
        ({"loss": scalars({"fit": 1.0})}, r"share a name: \['fit'\]"),
        ({"loss": scalars({"gradient_norm": 1.0})}, r"share a name: \['gradient_norm'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            drive(*make_toy(**options), 1)
    with pytest.raises(ValueError, match="decay"):
        make_toy(decay=1.0)


# --- loop ---

SETTING = {"stage": "toy", "steps": 20, "log_every": 3, "save_every": 8}
SCORES = {5: 0.3, 10: 0.7, 15: 0.7, 20: 0.1}


def score(now):
    return SCORES[int(now.step)]


def train(folder, *, toy=None, batch=toy_batch, before=lambda number: None, **options):
    """One command: the loop in a folder, with a hook before the batch of each update."""
    here, new, step = toy or make_toy()

    def batches(start):
        for number in range(start, 10**6):
            before(number + 1)
            yield batch(number)

    with Log(folder) as log:
        store = Checkpoints(folder / "toy" / "checkpoints")
        return loop.run(new, step, batches, log=log, checkpoints=store, mesh=here, **{**SETTING, **options})


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_loop_is_the_steps_and_nothing_else(tmp_path):
    here, new, step = make_toy()
    expected, told = drive(here, new, step, 20)
    last, best = train(tmp_path, toy=(here, new, step))
    assert_same(last, expected)
    assert best is None and not new.params["head"]["kernel"].is_deleted()
    assert step._cache_size() == 1
    assert [line["step"] for line in lines(tmp_path)] == [3, 6, 9, 12, 15, 18, 20]
    for line in lines(tmp_path):
        assert list(line)[:3] == ["stage", "step", "loss"] and line.pop("stage") == "toy"
        assert {k: np.float32(v) for k, v in told[line.pop("step") - 1].items()} == {k: np.float32(v) for k, v in line.items()}
    assert Checkpoints(tmp_path / "toy" / "checkpoints").steps() == [16, 20]


# Between everything; where it is validated; where it is saved anyway.
@pytest.mark.parametrize("number,status,at", [(signal.SIGINT, 130, 7), (signal.SIGTERM, 143, 10), (signal.SIGTERM, 143, 16)])
def test_interrupted_and_continued_is_undisturbed_bit_for_bit(tmp_path, number, status, at):
    toy = make_toy()
    whole = train(tmp_path / "whole", toy=toy, validate=score, validate_every=5)

    def disturb(now):
        if now == at:
            os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    with pytest.raises(Interrupted) as stop:
        train(tmp_path / "cut", toy=toy, validate=score, validate_every=5, before=disturb)
    assert stop.value.code == status and stop.value.signal == number and signal.getsignal(number) is handler
    assert Checkpoints(tmp_path / "cut" / "toy" / "checkpoints").latest() == at
    said = (tmp_path / "cut" / "run.log").read_text()
    assert f"{signal.Signals(number).name} after update {at} of 20; saved in {tmp_path / 'cut' / 'toy' / 'checkpoints' / str(at)}" in said
    seen = []
    rest = train(tmp_path / "cut", toy=make_toy(), validate=score, validate_every=5, before=seen.append)
    assert seen == list(range(at + 1, 21))
    assert_same(rest, whole)
    assert (tmp_path / "cut" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_crash_goes_on_from_the_checkpoint_and_rewrites_what_came_after(tmp_path):
    toy = make_toy()
    whole = train(tmp_path / "whole", toy=toy)

    def crash(now):
        if now == 15:
            raise OSError("disk on fire")

    with pytest.raises(OSError, match="disk on fire"):
        train(tmp_path / "cut", toy=toy, before=crash)
    assert [line["step"] for line in lines(tmp_path / "cut")] == [3, 6, 9, 12]
    assert_same(train(tmp_path / "cut", toy=toy), whole)
    assert (tmp_path / "cut" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_best_is_the_first_highest_and_survives(tmp_path):
    toy, seen = make_toy(), {}

    def look(now):
        seen[int(now.step)] = jax.tree.map(np.array, now.params)
        return jnp.tanh(np.float32(score(now)))  # a validation may move data as it likes

    last, best = train(tmp_path, toy=toy, validate=look, validate_every=5)
    assert list(seen) == [5, 10, 15, 20] and int(best.step) == 10
    assert_same(best.params, seen[10])
    assert_same(last.params, seen[20])
    told = {line["step"]: line for line in lines(tmp_path)}
    assert list(told) == [3, 5, 6, 9, 10, 12, 15, 18, 20]
    for number, line in told.items():
        assert "loss" in line and ("validation" in line) == (number in SCORES)
    assert [told[n]["best"] for n in SCORES] == pytest.approx(np.tanh([0.3, 0.7, 0.7, 0.7]))
    with Log(tmp_path) as log:  # a finished stage is read, not run
        again = loop.run(
            toy[1], toy[2], lambda start: pytest.fail("batches of a finished stage"), log=log, mesh=toy[0],
            checkpoints=Checkpoints(tmp_path / "toy" / "checkpoints"), validate=look, validate_every=5, **SETTING,
        )  # fmt: skip
    assert_same(again, (last, best))
    assert len(lines(tmp_path)) == 9 and len(seen) == 4


def test_validation_at_the_end_alone(tmp_path):
    _, best = train(tmp_path, validate=score)
    assert int(best.step) == 20 and [line["step"] for line in lines(tmp_path) if "validation" in line] == [20]


def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    def poisoned(number):
        batch = toy_batch(number)
        return {**batch, "y": batch["y"] * (np.nan if number + 1 == 11 else 1)}

    with pytest.raises(FloatingPointError, match=r"toy: \w+ is nan at update 11; the checkpoint of update 8 is kept in .*checkpoints"):
        train(tmp_path, batch=poisoned)
    assert Checkpoints(tmp_path / "toy" / "checkpoints").latest() == 8
    assert [line["step"] for line in lines(tmp_path)] == [3, 6, 9]


def test_nan_is_never_saved(tmp_path):
    def poisoned(number):
        batch = toy_batch(number)
        return {**batch, "y": batch["y"] * (np.nan if number + 1 == 8 else 1)}  # the very update that is saved

    with pytest.raises(FloatingPointError, match="at update 8; no checkpoint was saved before"):
        train(tmp_path, batch=poisoned)
    infinite = optax.sgd(lambda count: jnp.where(count == 7, jnp.inf, 1e-3))  # update 8: finite loss, infinite weights
    with pytest.raises(FloatingPointError, match="a parameter is -?(inf|nan) at update 8"):
        train(tmp_path, toy=make_toy(optimizer=infinite))
    assert Checkpoints(tmp_path / "toy" / "checkpoints").steps() == []
    with pytest.raises(FloatingPointError, match="the validation score is nan at update 5"):
        train(tmp_path, validate=lambda now: float("nan"), validate_every=5)


def test_a_batch_of_another_shape_is_refused(tmp_path):
    def ragged(number):
        return {k: v[:4] if number == 4 else v for k, v in toy_batch(number).items()}

    with pytest.raises(RuntimeError, match="toy: update 5 was compiled anew"):
        train(tmp_path, batch=ragged)


def test_updates_may_not_move_data_behind_the_loops_back(tmp_path):
    here, new, step = make_toy()

    def leaking(now, batch):
        return step(now, {**batch, "y": np.zeros(batch["y"].shape, np.float32)})  # never put on the mesh

    leaking._cache_size = step._cache_size
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        train(tmp_path, toy=(here, new, leaking))


def test_batches_may_be_a_context_and_may_not_end_early(tmp_path):
    closed = []

    class Source:
        def __init__(self, start):
            self.rest = iter([toy_batch(n) for n in range(start, 4)])

        def __enter__(self):
            return self.rest

        def __exit__(self, *_):
            closed.append(True)

    here, new, step = make_toy()
    with Log(tmp_path) as log:
        common = {**SETTING, "log": log, "checkpoints": Checkpoints(tmp_path / "c"), "mesh": here}
        with pytest.raises(ValueError, match="toy: the batches ended before update 5 of 20"):
            loop.run(new, step, Source, **common)
        loop.run(new, step, Source, **{**common, "steps": 4})
    assert closed == [True, True]


def test_a_folder_that_went_further_is_refused(tmp_path):
    train(tmp_path)
    with pytest.raises(UserError, match="checkpoints/20: 20 updates are done, the toy stage is set to 12"):
        train(tmp_path, steps=12)


# --- signals ---


def test_second_interrupt_stops_at_once_but_not_a_doubled_one():
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.received == signal.SIGINT
        signals._first -= 2.0
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_signals_are_left_alone_off_the_main_thread():
    problems = []

    def body():
        try:
            with Signals() as signals:
                assert signals.received is None and signal.getsignal(signal.SIGTERM) == before
        except BaseException as problem:
            problems.append(problem)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert problems == []
