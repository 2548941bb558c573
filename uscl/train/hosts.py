"""Several processes as one run: how they find each other, which of them writes, where they wait for one another.

One that ends by an error ends them all: it prints its traceback, the others stop within `GONE` seconds of its end, or of its last sign of
life if it was killed, and say that another task died. The same command goes on from the newest checkpoint.
"""
import functools
import importlib.util
import itertools
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import jax

from uscl.types import UserError

GONE = 30  # seconds of silence after which a process counts as lost
PATIENCE = 24 * 3600  # seconds at a barrier: whoever is lost is noticed long before, so this only has to outlast any work of one process
SEEN = 60.0  # seconds a shared folder may take to show on one host what another wrote

_barriers, _agreements = Counter(), itertools.count()


def start(*, coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> None:
    """Joins the processes of this run; to be called before anything asks JAX for its devices. Alone, it does nothing.

    What is not given, the cluster tells: SLURM's srun, Open MPI's mpirun, or Kubernetes (a Job, where the `kubernetes` package is
    installed). One task of SLURM or Open MPI is alone, as is a process that nobody has told anything.

    Args:
        coordinator: HOST:PORT of process 0, a free port there that the others reach.
        processes: how many there are in all.
        process: number of this one, from 0.

    Raises:
        UserError: arguments that do not fit together or leave something open, or not all processes were there in five minutes.
    """
    told = launcher(os.environ)
    count = processes if processes is not None else told[0] if told else None
    if count is None and (coordinator or process is not None):
        raise UserError("--processes: not given, nor told by a cluster; --coordinator=HOST:PORT, --processes=N and --process=I go together")
    if count is not None and count < 1:
        raise UserError(f"--processes: found {count}; at least 1 is needed")
    if count == 1 or (count is None and not _in_a_kubernetes_job(os.environ)):
        return
    number = process if process is not None or told is None else told[1]
    if processes is not None and number is None:
        raise UserError(f"--process: not given, and no cluster tells it; allowed are 0 to {count - 1}, another one for each process")
    if count is not None and not 0 <= number < count:
        raise UserError(f"--process: found {number}; allowed are 0 to {count - 1}, another one for each process")
    if coordinator and not coordinator.rpartition(":")[2].isdecimal():
        raise UserError(f"--coordinator: found {coordinator!r}; it is HOST:PORT, such as node01:29500")
    _join(coordinator, count, number, one_gpu=told is not None and one_gpu_each(os.environ, told[2]))


def _join(coordinator, count, number, *, one_gpu):
    who = f"process {number} of {count}" if count else "this process"
    where = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS") or "the place the cluster tells"
    print(f"uscl: {who} joins the others at {where}", file=sys.stderr, flush=True)
    # JAX's own SIGTERM handler tells nobody who does not ask it, and would keep ours from stopping the run.
    jax.config.update("jax_enable_preemption_service", False)
    local = coordinator is not None and coordinator.startswith(("127.", "localhost:"))
    # [] is "all that can be seen"; None leaves it to JAX, which then takes one by the process's number on its machine.
    devices = None if one_gpu or count is None or "JAX_LOCAL_DEVICE_IDS" in os.environ else []
    try:
        jax.distributed.initialize(
            coordinator, count, number, local_device_ids=devices, heartbeat_timeout_seconds=GONE, shutdown_timeout_seconds=GONE,
            coordinator_bind_address=coordinator if local else None,  # nobody outside needs to reach a run of one machine
        )  # fmt: skip
    except (RuntimeError, ValueError) as error:
        told = str(error).partition("\n")[0]
        raise UserError(f"--coordinator: {who} could not join the others at {where}: {told}") from error


def launcher(env: Mapping[str, str]) -> tuple[int, int, int] | None:
    """(processes, number of this one, how many of them on this machine) as srun or mpirun tell them, None without either."""
    if "OMPI_COMM_WORLD_SIZE" in env:
        return int(env["OMPI_COMM_WORLD_SIZE"]), int(env["OMPI_COMM_WORLD_RANK"]), int(env["OMPI_COMM_WORLD_LOCAL_SIZE"])
    if all(name in env for name in ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")):
        count = int(env.get("SLURM_STEP_NUM_TASKS", env["SLURM_NTASKS"]))  # SLURM_NTASKS may be the allocation's, not this srun's
        return count, int(env["SLURM_PROCID"]), _tasks_here(env, count)
    return None


def _tasks_here(env, count):
    """SLURM's "2(x3),1" is 2 tasks on each of three nodes and 1 on the fourth; SLURM_NODEID is the place in that list."""
    per_node = []
    for part in env.get("SLURM_STEP_TASKS_PER_NODE", str(count)).split(","):
        tasks, _, times = part.partition("(x")
        per_node += [int(tasks)] * int(times.rstrip(")") or 1)
    return per_node[min(int(env.get("SLURM_NODEID", 0)), len(per_node) - 1)]


def one_gpu_each(env: Mapping[str, str], here: int) -> bool:
    """Whether the `here` processes of this machine have to share out its GPUs: several, and each is shown one for every process or more.

    A process alone on its machine takes all of them; one that is shown fewer was given its own by the cluster.
    """
    shown = env.get("CUDA_VISIBLE_DEVICES")
    return here > 1 and (shown is None or len(shown.split(",")) >= here)


def _in_a_kubernetes_job(env):
    return "KUBERNETES_SERVICE_HOST" in env and "JOB_COMPLETION_INDEX" in env and importlib.util.find_spec("kubernetes") is not None


def primary() -> bool:
    """Whether this is process 0, the one that writes; a process alone is."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits until every process is here; with one process, nothing. All must pass the same barriers in the same order.

    Through the coordinator and not the devices: a collective on CPU gives up after half a minute, and one process may need hours.
    """
    if not jax.distributed.is_initialized():
        return
    _barriers[name] += 1
    _client().wait_at_barrier(f"uscl/{name}/{_barriers[name]}", PATIENCE * 1000)


def agree(number: int) -> int:
    """Process 0's number, on all; the others' are ignored. With one process, the number. All must call it in the same order."""
    if not jax.distributed.is_initialized():
        return number
    key = f"uscl/agreed/{next(_agreements)}"
    if primary():
        _client().key_value_set(key, str(number))
        return number
    return int(_client().blocking_key_value_get(key, PATIENCE * 1000))


def wait_for(path: Path | str) -> None:
    """Waits until process 0 has written this file or folder: process 0 calls it when it has, the others where they need it.

    Raises:
        UserError: a host does not see it, so the hosts do not share the folder.
    """
    barrier(f"{path}")
    give_up = time.monotonic() + SEEN
    while not Path(path).exists():
        if primary() or time.monotonic() > give_up:
            raise UserError(f"{path}: process {jax.process_index()} does not see what process 0 wrote; all hosts must share this folder")
        time.sleep(0.2)


@functools.cache
def _client():
    # JAX shows no other door to its coordinator; Orbax takes this one too. Checked with JAX 0.10 by tests/test_hosts.py.
    from jax._src import distributed

    return distributed.global_state.client
