"""The loop of a stage: batches in, updates, a look at the validation patients now and then, checkpoints."""
import contextlib
import math
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable

import jax
import numpy as np
from jax.sharding import Mesh

from uscl.train import hosts, roofline
from uscl.train.background import Background
from uscl.train.checkpoint import Checkpoints, copy_to_host
from uscl.train.interrupt import Interrupted, Signals
from uscl.train.logs import Log
from uscl.train.mesh import put_batch, put_replicated
from uscl.train.position import Best, first_not_finite, recall
from uscl.train.state import TrainState
from uscl.types import Batch

# Updates the host may be ahead of the devices: enough to keep them busy, few enough that Ctrl-C and NaN are soon noticed.
AHEAD = 2
# Updates between two questions among several processes whether to stop: each waits for the devices.
ASK = 10


def run(
    state: TrainState,
    step: Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]],
    batches: Callable[[int], Iterable[Batch]],
    *,
    stage: str,
    steps: int,
    log: Log,
    checkpoints: Checkpoints,
    mesh: Mesh,
    log_every: int,
    save_every: int,
    validate: Callable[[TrainState], float | tuple[float, dict[str, float]]] | None = None,
    validate_every: int = 0,
    guard: Callable[[int, dict[str, float], Batch], None] | None = None,
    bar: bool = True,
) -> tuple[TrainState, Best | None]:
    """Trains until `steps` updates are done, going on from the newest checkpoint by itself.

    Order of a resume: (1) the newest whole checkpoint replaces `state` and the best so far; with none, `state` is the
    start. (2) The log forgets this stage's lines beyond it. (3) `batches(n)` is asked for, n the updates done.
    Order within update n: take the batch, update; log if n is a multiple of `log_every` or the last; validate if due;
    save if due, better than ever, last, or interrupted. So a checkpoint of update n lacks nothing that happened up to n, and
    a run that was interrupted, or killed, ends with the same weights and the same metrics.jsonl as one that was not.

    A save copies the state to the host, and a thread writes it while the updates go on; the next save waits for it, and so
    do the end and every way out. Of several processes the first one reads the log's position, writes and decides to stop.

    Metrics are read back `AHEAD` updates late, so the devices always have the next update at hand, and each update's
    are read: a NaN is told with the very update it came from. Nothing is saved before all that precedes it was read.

    Args:
        state: start of the stage; it is copied, the caller's arrays stay valid.
        step: from `make_step`.
        batches: batches(n) iterates over NumPy batches, the first being that of update n + 1; a context manager is entered.
        stage, steps: name, and number of updates in all.
        log, checkpoints, mesh: where to tell, where to save, where to compute.
        log_every, save_every: updates between two lines, and between two checkpoints.
        validate: validate(state) is a score, the higher the better, or (score, {name: number to log}). It is asked for every
            `validate_every` updates, and at the last; 0 is at the last alone. It may move data to the devices as it likes, the updates
            may not.
        guard: guard(n, metrics, batch) sees every update's metrics with its NumPy batch, in order and up to `AHEAD` updates
            late, before they are held against NaN here and before anything of n is saved; for parameters that are not
            finite it is called once more, with {"parameter": value}. It may warn, keep the batch, or raise.
        bar: draw a progress bar if stderr is a terminal.

    Returns:
        The state after the last update, and the best weights, None without `validate`.

    Raises:
        FloatingPointError: a metric, a parameter or the score is NaN or infinite; the last checkpoint from before stands.
        Interrupted: Ctrl-C or SIGTERM came; the update begun is finished and saved.
        UserError: the newest checkpoint is of more than `steps` updates, or does not fit `state`; or one can't be written,
            which is told at the update by which it has failed.
        RuntimeError: the step was compiled a second time, because a batch had other shapes or types than the first.
    """
    state, best, start = recall(state, checkpoints, stage=stage, steps=steps, log=log, mesh=mesh, validated=validate is not None)
    if start == steps:
        return state, best
    log.resume(stage, start)

    unread: deque[tuple[int, Batch, float, dict[str, jax.Array]]] = deque()
    compiled = None
    writer = Background("checkpoint")

    def due(number: int) -> bool:
        return validate is not None and (number == steps or (validate_every > 0 and number % validate_every == 0))

    def fail(what: str, value: float, number: int):
        writer.wait()
        last = checkpoints.latest()
        kept = f"the checkpoint of update {last} is kept in {checkpoints.folder}" if last else "no checkpoint was saved before"
        raise FloatingPointError(f"{stage}: {what} is {value} at update {number}; {kept}")

    def read(behind: int) -> dict[str, float]:
        """Reads the metrics of all but the newest `behind` updates, logs what is due, returns the last."""
        values: dict[str, float] = {}
        while len(unread) > behind:
            number, batch, waited, metrics = unread.popleft()
            values = {name: float(value) for name, value in jax.device_get(metrics).items()}
            if guard is not None:
                guard(number, values, batch)
            for name, value in values.items():
                if not math.isfinite(value):
                    fail(name, value, number)
            progress.update(values, images=len(next(iter(batch.values()))) * jax.process_count(), waited=waited)
            if (number % log_every == 0 or number == steps) and not due(number):
                log.metrics(stage, number, values)
        return values

    def look(number: int, values: dict[str, float]) -> Best:
        """Validates, and logs the update's metrics together with the score."""
        told = validate(state)
        score, more = told if isinstance(told, tuple) else (told, {})
        score = np.float32(score)  # the precision it is saved in, or a resumed run could choose otherwise
        if not np.isfinite(score):
            fail("the validation score", float(score), number)
        better = score > float(best.score)
        kept = put_replicated(mesh, Best(score, np.int32(number), state.params, state.batch_stats)) if better else best
        log.metrics(stage, number, {**values, **more, "validation": score, "best": float(kept.score)})
        return kept

    def save(number: int, batch: Batch):
        writer.check()
        host = copy_to_host({"state": state, "best": best})
        value = first_not_finite((host["state"].params, host["state"].batch_stats))
        if value is not None:
            if guard is not None:
                guard(number, {"parameter": value}, batch)
            fail("a parameter", value, number)
        if hosts.primary():
            writer.start(lambda: checkpoints.save(number, host, best=None if best is None else int(host["best"].step)))

    def stopped_by(number: int) -> int:
        """The signal that came, or 0; several processes stop at the same update, when the first of them was told to."""
        if jax.process_count() == 1:
            return signals.received or 0
        return hosts.agree(signals.received or 0) if number % ASK == 0 else 0

    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(Signals())
        stack.enter_context(writer)
        progress = stack.enter_context(log.training(stage, start, steps, bar=bar))
        source = batches(start)
        source = iter(stack.enter_context(source) if hasattr(source, "__enter__") else source)
        for number in range(start + 1, steps + 1):
            asked = time.monotonic()
            batch = next(source, None)
            if batch is None:
                raise ValueError(f"{stage}: the batches ended before update {number} of {steps}")
            waited = time.monotonic() - asked
            with jax.transfer_guard("disallow"):
                placed = put_batch(mesh, batch)
                state, metrics = step(state, placed)
            unread.append((number, batch, waited, metrics))
            if compiled is None:
                compiled = step._cache_size()
            elif step._cache_size() != compiled:
                raise RuntimeError(f"{stage}: update {number} was compiled anew; every batch must have the first one's shapes and types")
            better = False
            if due(number):
                before, best = best, look(number, read(0))
                better = best is not before
            else:
                read(AHEAD)
            writer.check()
            stop = stopped_by(number)
            if number == steps or number % save_every == 0 or better or stop:
                read(0)
                save(number, batch)
            if stop:
                writer.wait()
                path = checkpoints.folder / str(number)
                name = signal.Signals(stop).name
                log.info(f"{stage}: {name} after update {number} of {steps}; saved in {path}, the same command goes on from there")
                raise Interrupted(stop)
        log.info(roofline.summary(stage, step, state, placed, **progress.pace()))
        writer.wait()
        hosts.barrier(f"{stage} is saved")
    if signals.received:  # it came after the last checkpoint was written
        raise Interrupted(signals.received)
    return state, best
