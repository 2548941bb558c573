"""A toy problem whose course is known from NumPy, its updates without the loop, and one command of the loop in a folder."""
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax

from uscl.train import loop, mesh, state
from uscl.train.checkpoint import Checkpoints
from uscl.train.logs import Log
from uscl.train.step import make_step

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
