"""Several processes as one run: what the cluster tells, and two processes of four devices each, which compute what one process does.

Run as a script this file is one of the two: python tests/test_hosts.py WORK FOLDER PORT NUMBER.
"""
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from uscl.data.loader import CineBatches, LabelledBatches
from uscl.data.store import Store
from uscl.data.writer import StoreWriter
from uscl.train import hosts, mesh
from uscl.types import UserError

SLURM = {"SLURM_JOB_ID": "77", "SLURM_STEP_NODELIST": "n[01-02]", "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1",
         "SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_NODEID": "1"}  # fmt: skip
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "6", "OMPI_COMM_WORLD_RANK": "5", "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}
ONE_EACH, ALL = None, []  # JAX's local_device_ids


@pytest.fixture
def joined(monkeypatch):
    """Calls of `jax.distributed.initialize`, which does nothing, in an environment no cluster has touched."""
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a, local_device_ids, **_: calls.append((*a, local_device_ids)))
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "KUBERNETES_", "JOB_COMPLETION", "JAX_COORD", "JAX_LOCAL", "CUDA_VISIBLE")):
            monkeypatch.delenv(name)
    yield calls
    jax.config.update("jax_enable_preemption_service", True)


@pytest.mark.parametrize("env, flags, call", [
    ({}, {}, None),
    ({}, {"processes": 1}, None),
    ({}, {"coordinator": "10.0.0.1:99", "processes": 2, "process": 1}, ("10.0.0.1:99", 2, 1, ALL)),
    (SLURM, {}, (None, 4, 3, ONE_EACH)),
    (SLURM, {"processes": 1}, None),
    (SLURM | {"SLURM_STEP_NUM_TASKS": "1"}, {}, None),  # srun --ntasks=1 inside an allocation of 4
    ({k: v for k, v in SLURM.items() if k != "SLURM_STEP_NODELIST"}, {}, None),  # python in the batch script, without srun
    (SLURM | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, {}, None),
    (SLURM | {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, {}, (None, 4, 3, ONE_EACH)),
    (SLURM | {"CUDA_VISIBLE_DEVICES": "3"}, {}, (None, 4, 3, ALL)),  # --gpus-per-task=1
    (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "3,1"}, {}, (None, 4, 3, ALL)),  # alone on its node: all of its GPUs
    (SLURM | {"JAX_LOCAL_DEVICE_IDS": "2"}, {"coordinator": "a:1"}, ("a:1", 4, 3, ONE_EACH)),
    (OPEN_MPI, {}, (None, 6, 5, ALL)),
    (OPEN_MPI, {"coordinator": "a:1"}, ("a:1", 6, 5, ALL)),
    (OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}, {}, None),
    ({"KUBERNETES_SERVICE_HOST": "10.1.1.1"}, {}, None),
])  # fmt: skip
def test_who_joins_whom(env, flags, call, joined, monkeypatch):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    hosts.start(**flags)
    assert joined == ([] if call is None else [call])
    assert call is None or not jax.config.jax_enable_preemption_service


@pytest.mark.parametrize("flags, told", [
    ({"coordinator": "a:1"}, "--processes: not given"),
    ({"process": 0}, "--processes: not given"),
    ({"processes": 0}, "--processes: found 0"),
    ({"processes": 2, "coordinator": "a:1"}, "--process: not given.*0 to 1"),
    ({"processes": 2, "process": 2, "coordinator": "a:1"}, "--process: found 2.*0 to 1"),
    ({"processes": 2, "process": 0, "coordinator": "a"}, "--coordinator: found 'a'.*HOST:PORT"),
])  # fmt: skip
def test_flags_that_do_not_fit(flags, told, joined):
    with pytest.raises(UserError, match=told):
        hosts.start(**flags)
    assert not joined


def test_a_place_where_nobody_meets(joined, monkeypatch):
    def nobody(*_, **__):
        raise RuntimeError("DEADLINE_EXCEEDED: nobody\nand more")

    monkeypatch.setattr(jax.distributed, "initialize", nobody)
    with pytest.raises(UserError, match="process 1 of 2 could not join the others at a:1: DEADLINE_EXCEEDED: nobody$"):
        hosts.start(coordinator="a:1", processes=2, process=1)


def test_alone():
    assert hosts.primary() and hosts.agree(7) == 7
    hosts.barrier("alone")
    hosts.wait_for(__file__)
    here = mesh.make_mesh(4)
    assert mesh.share(here, 8) == slice(0, 8)
    tree = {"x": jax.numpy.ones(2)}
    assert mesh.take_home(here, tree) is tree


def test_a_host_reads_its_rows_alone(tmp_path):
    with StoreWriter(tmp_path / "store", size=4, classes={"a": [1]}) as writer:
        for cine in range(4):
            pixels = np.random.default_rng(cine).integers(0, 2, (9, 4, 4), np.uint8)
            writer.add(patient=f"p{cine}", frames=100 * pixels, labels={t: pixels[t] for t in range(9)}, mm_per_pixel=0.2, source=f"{cine}")
    store = Store.open(tmp_path / "store")
    rows = store.rows_of([f"p{n}" for n in range(4)])
    for source in (
        CineBatches(store, [f"p{n}" for n in range(4)], cines=2, frames=4, sampling="uniform", seed=1),
        LabelledBatches(store, rows, batch=8, seed=1),
    ):
        whole, parts = source.batch(5), [source.batch(5, rows=slice(start, start + 4)) for start in (0, 4)]
        assert source.size == 8
        for name, values in whole.items():
            np.testing.assert_array_equal(values, np.concatenate([part[name] for part in parts]), err_msg=name)


# --- two processes of four devices ---


def together(work, folder, *, seconds=240, script=__file__):
    """Both processes' exit status and stderr."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    commands = [[sys.executable, script, work, str(folder), str(port), str(number)] for number in range(2)]
    processes = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for command in commands]
    try:
        told = [process.communicate(timeout=seconds)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], told


def pieces(folder):
    """The hosts' own functions, and a toy training through the whole loop."""
    import toy

    from uscl.stages import predict
    from uscl.train.logs import write_json

    number, here = jax.process_index(), mesh.make_mesh()
    assert hosts.primary() == (number == 0) and jax.device_count() == 8 and jax.process_count() == 2
    assert [hosts.agree(10 * number + turn) for turn in range(3)] == [0, 1, 2]
    if number == 0:
        time.sleep(1)
        (folder / "late").touch()
    hosts.wait_for(folder / "late")
    assert mesh.share(here, 16) == slice(8 * number, 8 * number + 8)
    x = np.arange(32, dtype=np.float32).reshape(16, 2)
    with jax.transfer_guard("disallow"):
        whole = mesh.put_batch(here, {"x": x[mesh.share(here, 16)]})["x"]
    assert whole.shape == (16, 2) and jax.jit(lambda x: x.sum())(whole) == x.sum()
    for shard in whole.addressable_shards:
        np.testing.assert_array_equal(shard.data, x[shard.index])
    with pytest.raises(UserError, match="12 images do not split evenly over 8 devices of 2 processes; .* such as 8 or 16"):
        mesh.check_batch(here, 12)
    write_json(folder / f"only_{number}.json", {})

    # a network that answers with the grey value: brighter than half is class 1
    model = SimpleNamespace(apply=lambda variables, x, train: jax.numpy.concatenate([0.5 - x, x - 0.5], -1) * variables["params"])
    image = np.random.default_rng(0).integers(0, 256, (16, 4, 4, 1), np.uint8)
    values, probability = predict.make_predictor(model, here, kind="none")(np.float32(1), {}, image)
    np.testing.assert_array_equal(np.asarray(values), image[..., 0] > 127)
    assert np.asarray(probability).shape == (16, 4, 4, 2)

    def batch(number):
        return {name: x[mesh.share(here, toy.BATCH)] for name, x in toy.toy_batch(number).items()}

    final, best = toy.train(folder / "toy", toy=toy.make_toy(8), batch=batch, steps=20, validate=toy.score, validate_every=5)
    home = mesh.take_home(here, final.params)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(home))
    np.savez(folder / f"toy_{number}.npz", **toy.leaves(home))
    again, _ = toy.train(folder / "toy", toy=toy.make_toy(8), batch=batch, steps=20, validate=toy.score, validate_every=5)
    toy.assert_same(again, final)


def test_two_processes_train_as_one(tmp_path):
    import toy

    status, told = together("pieces", tmp_path)
    assert status == [0, 0], "\n".join(told)
    assert (tmp_path / "only_0.json").exists() and not (tmp_path / "only_1.json").exists()
    alone, _ = toy.train(tmp_path / "alone", toy=toy.make_toy(1), steps=20, validate=toy.score, validate_every=5)
    for number in range(2):
        found = np.load(tmp_path / f"toy_{number}.npz")
        for name, value in toy.leaves(alone.params).items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-7)
    one, two = (toy.lines(tmp_path / name) for name in ("alone", "toy"))
    assert len(one) == len(two) == 9
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys() and all(b[name] == pytest.approx(a[name], rel=1e-5) for name in a if name != "stage")


def stages(folder):
    """Every stage's losses, gradients and statistics."""
    import test_devices_stages as every

    kept = {}
    for name, case in json.loads((folder / "cases.json").read_text()):
        for keys, leaf in jax.tree_util.tree_leaves_with_path(every.result(name, tuple(case), 8)):
            kept[f"{name} {case} {jax.tree_util.keystr(keys)}"] = leaf
    np.savez(folder / f"stages_{jax.process_index()}.npz", **kept)


def check_stages(folder, cases):
    import test_devices_stages as every

    (folder / "cases.json").write_text(json.dumps(cases))
    status, told = together("stages", folder, seconds=1200)
    assert status == [0, 0], "\n".join(told)
    for number in range(2):
        found = np.load(folder / f"stages_{number}.npz")
        for name, case in cases:
            one = every.result(name, case, 1)
            keys = [jax.tree_util.keystr(keys) for keys, _ in jax.tree_util.tree_leaves_with_path(one)]
            other = jax.tree.unflatten(jax.tree.structure(one), [found[f"{name} {list(case)} {key}"] for key in keys])
            every.assert_agree(one, other)


@pytest.mark.slow
def test_the_encoder_in_two_processes(tmp_path):
    check_stages(tmp_path, [("encoder", (0, 2)), ("encoder", (2, 1))])


@pytest.mark.slow
def test_every_stage_in_two_processes(tmp_path):
    from test_devices_stages import PRODUCT

    check_stages(tmp_path, PRODUCT)


def failing(folder):
    if jax.process_index() == int((folder / "who").read_text()):
        raise ValueError("this one fails")
    hosts.barrier("never")


@pytest.mark.slow
@pytest.mark.parametrize("who", [0, 1])
def test_an_error_in_one_ends_the_other(who, tmp_path):
    (tmp_path / "who").write_text(str(who))
    began = time.monotonic()
    status, told = together("failing", tmp_path)
    assert time.monotonic() - began < hosts.GONE + 60
    assert all(status) and "ValueError: this one fails" in told[who] and "another task died" in told[1 - who]


def one_of_two(**works):
    """What a script of `together` does: joins the other one and does the work its command line names, with the folder there."""
    from uscl.stages import experiment  # noqa: F401  (as launch/main does: no import may wake the devices)

    hosts.start(coordinator=f"127.0.0.1:{sys.argv[3]}", processes=2, process=int(sys.argv[4]))
    works[sys.argv[1]](Path(sys.argv[2]))


if __name__ == "__main__":
    one_of_two(pieces=pieces, stages=stages, failing=failing)
