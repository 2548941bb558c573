"""Mesh, step and signals, on a toy problem whose course is known from NumPy."""
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
from toy import BATCH, HIDDEN, IN, WEIGHTS, assert_same, drive, leaves, make_toy, start_params, toy_batch, toy_loss

from uscl.train import mesh, state
from uscl.train.interrupt import Signals
from uscl.train.step import make_step
from uscl.types import UserError


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
