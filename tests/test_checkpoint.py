"""Checkpoints: what goes in comes out, wherever it is read; what does not fit or is damaged is told."""
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from uscl.train import checkpoint, folders, mesh, state
from uscl.train.checkpoint import Checkpoints, load_weights, save_weights
from uscl.types import UserError

ROOT = Path(__file__).parent.parent


def make_tree(seed=0):
    """Everything a state may hold: namedtuples and empty nodes of optax, None, half precision, integers, a large leaf."""
    rng = np.random.default_rng(seed)
    params = {"encoder": {"kernel": jnp.asarray(rng.normal(size=(200, 50)), jnp.float32), "half": jnp.ones(3, jnp.bfloat16) / 3}}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(1e-3, 10)))
    new = state.create(params, {}, optimizer, ["a", "b"], seed)
    return {"state": new, "best": None, "extra": (np.arange(3), [np.float32(0.1), jnp.int8(7)])}


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for (name, mine), theirs in zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(theirs), err_msg=str(name))


@pytest.mark.parametrize("writers,readers", [(4, 1), (1, 4), (4, 4)])
def test_round_trip_between_numbers_of_devices(tmp_path, writers, readers):
    tree = mesh.put_replicated(mesh.make_mesh(writers), make_tree())
    store = Checkpoints(tmp_path / "encoder" / "checkpoints")
    assert store.latest() is None and store.steps() == []
    assert store.save(12, tree) == tmp_path / "encoder" / "checkpoints" / "12"
    here = mesh.make_mesh(readers)
    again = Checkpoints(tmp_path / "encoder" / "checkpoints").restore(12, jax.eval_shape(lambda: tree), mesh=here)
    assert_same(again, tree)
    for mine, theirs in zip(jax.tree.leaves(again), jax.tree.leaves(tree), strict=True):
        assert mine.dtype == theirs.dtype and mine.sharding == mesh.replicated(here)


def test_written_by_four_devices_read_where_there_is_one(tmp_path):
    tree = mesh.put_replicated(mesh.make_mesh(4), {"params": {"w": jnp.arange(6.0).reshape(2, 3)}})
    save_weights(tmp_path / "weights", tree)
    code = (
        "import sys, jax; from uscl.train.checkpoint import load_weights; "
        "w = load_weights(sys.argv[1])['params']['w']; print(jax.device_count(), w.sum(), w.devices())"
    )
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "weights"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout == "1 15.0 {CpuDevice(id=0)}\n", done.stderr


def test_weights_without_a_pattern_are_nested_dicts(tmp_path):
    variables = {"params": {"encoder": {"conv": {"kernel": jnp.ones((3, 3))}}, "head": {"bias": jnp.zeros(2)}}, "batch_stats": {}}
    save_weights(tmp_path / "weights", {"params": {"old": jnp.ones(1)}})
    save_weights(tmp_path / "weights", variables)  # replaces
    again = load_weights(tmp_path / "weights")
    assert_same(again, {"params": variables["params"]})
    assert_same(load_weights(tmp_path / "weights", variables), variables)


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda p: {**p, "w": jnp.ones((2, 4))}, r"params/w is float32\[2, 3\], .* needs float32\[2, 4\]"),
        (lambda p: {**p, "w": jnp.ones((2, 3), jnp.bfloat16)}, r"params/w is float32\[2, 3\], .* needs bfloat16\[2, 3\]"),
        (lambda p: {**p, "new": jnp.ones(1)}, "holds no params/new"),
        (lambda p: {"b": p["b"]}, "holds params/w, which .* nothing of"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, message):
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    store = Checkpoints(tmp_path)
    store.save(5, {"params": params})
    with pytest.raises(UserError, match=f"{tmp_path / '5'}: {message}"):
        store.restore(5, {"params": change(params)})


def test_the_newest_stay(tmp_path):
    store = Checkpoints(tmp_path, keep=2)
    for step in (5, 10, 100):
        store.save(step, {"w": jnp.full(2, step)})
    assert store.steps() == [10, 100] and store.latest() == 100
    np.testing.assert_array_equal(store.restore(10, {"w": jnp.zeros(2, jnp.int32)})["w"], 10)
    store.save(50, {"w": jnp.full(2, 50)})  # whoever saves 50 now has gone back behind 100
    assert store.steps() == [10, 50]
    store.save(50, {"w": jnp.full(2, 51)})
    np.testing.assert_array_equal(store.restore(50, {"w": jnp.zeros(2, jnp.int32)})["w"], 51)
    with pytest.raises(ValueError, match="keep"):
        Checkpoints(tmp_path, keep=0)


def largest(folder):
    return max((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


def flip(folder):
    content = bytearray(largest(folder).read_bytes())
    content[len(content) // 2] ^= 1
    largest(folder).write_bytes(content)


DAMAGE = {
    "emptied": lambda folder: [shutil.rmtree(folder), folder.mkdir()],
    "truncated": lambda folder: os.truncate(largest(folder), 1000),
    "missing": lambda folder: largest(folder).unlink(),
    "flipped": flip,
    "checksums": lambda folder: (folder / folders.CHECKSUMS).write_text("{"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_newest_is_told_in_one_line_and_the_one_before_used(tmp_path, kind, caplog):
    store, tree = Checkpoints(tmp_path), {"w": jax.random.normal(jax.random.key(0), (100, 100))}
    store.save(10, tree)
    store.save(20, tree)
    DAMAGE[kind](tmp_path / "20")
    assert store.latest() == 10
    (record,) = [r for r in caplog.records if r.name.startswith("uscl")]
    assert "\n" not in record.getMessage() and f"{tmp_path / '20'} is damaged" in record.getMessage()
    with pytest.raises(UserError, match=f"{tmp_path / '20'}: can't be read as a checkpoint"):
        store.restore(20, tree)
    assert_same(store.restore(10, tree), tree)
    store.save(15, tree)
    assert store.steps() == [10, 15]
    for step in (10, 15):
        DAMAGE[kind](tmp_path / str(step))
    with pytest.raises(UserError, match="none of the 2 checkpoints can be read"):
        store.latest()


def test_copies_on_the_host_share_no_memory():
    tree = mesh.put_replicated(mesh.make_mesh(1), make_tree())
    copied = checkpoint.copy_to_host(tree)
    assert_same(copied, tree)
    for mine, theirs in zip(jax.tree.leaves(copied), jax.tree.leaves(tree), strict=True):
        assert type(mine) is np.ndarray and mine.dtype == theirs.dtype and not np.shares_memory(mine, np.asarray(theirs))


def test_the_best_stays_until_there_is_a_better_one(tmp_path):
    store = Checkpoints(tmp_path, keep=2)
    for step, best in ((1, 1), (2, 1), (3, 1), (4, 1), (5, 5), (6, 5)):
        store.save(step, {"w": np.ones(1)}, best=best)
        if step == 4:
            assert store.steps() == [1, 3, 4]
    assert store.steps() == [5, 6]


def test_missing_checkpoint(tmp_path):
    with pytest.raises(UserError, match="7: can't be read as a checkpoint: no such folder"):
        Checkpoints(tmp_path).restore(7, {"w": jnp.ones(1)})


@pytest.mark.parametrize("moment", ["_checksums", "replace"])
def test_killed_while_saving_leaves_the_one_before(tmp_path, monkeypatch, moment):
    store, tree = Checkpoints(tmp_path), {"w": jnp.ones(2)}
    store.save(10, tree)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(folders.os if moment == "replace" else folders, moment, killed)
        with pytest.raises(KeyboardInterrupt):
            store.save(20, tree)
    assert store.steps() == [10] and store.latest() == 10
    store.save(30, tree)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["10", "30"]


def test_orbax_is_quiet(tmp_path):
    heard = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    absl = logging.getLogger("absl")
    level = absl.level
    absl.addHandler(handler)
    absl.setLevel(logging.DEBUG)
    try:
        store = Checkpoints(tmp_path)
        store.save(1, {"w": jnp.ones(2)})
        store.restore(1, {"w": jnp.ones(2)})
        assert heard == []
        absl.warning("ours")
        assert heard == ["ours"]
    finally:
        absl.removeHandler(handler)
        absl.setLevel(level)
