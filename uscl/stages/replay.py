"""Runs one update of a stage again, on the batch that was kept when it went wrong, and says where the first number was lost."""

import json
import tempfile
from functools import partial
from pathlib import Path

import jax
import numpy as np

from uscl import config as uscl_config
from uscl.models.finite import watch
from uscl.stages import run as stage_run
from uscl.stages import source
from uscl.stages import start as starts
from uscl.stages.experiment import STAGES
from uscl.train import guards, lock, position, state, step
from uscl.train import mesh as meshes
from uscl.train.checkpoint import Checkpoints
from uscl.train.logs import Log
from uscl.types import UserError


def replay(workdir: Path | str, stage: str, number: int) -> list[str]:
    """Lines that tell what update `number` of `stage` does: its metrics, and the first place that is not finite.

    The stage goes from its newest checkpoint before `number` through the updates in between to that one, whose batch is the one kept in
    STAGE/offending/; nothing of the run is changed but what its stages write anew alike.

    Raises UserError where the folder holds no run or no such batch, or is in use.
    """
    folder = Path(workdir)
    config = read_config(folder)
    place, stage = stage, stage.partition("/")[0]  # nnunet/fold_2 is a part of the stage nnunet
    if stage not in config.stages or stage == "evaluate":
        raise UserError(f"--stage: found {stage!r}; the run in {folder} trains {', '.join(s for s in config.stages if s != 'evaluate')}")
    batch, seed = guards.read_batch(folder / place, number)
    if seed != config.seed:
        raise UserError(f"{folder / place / 'offending'}: the batch of update {number} is of seed {seed}, the run's is {config.seed}")
    config.model.remat = False  # the same values, and every module's output can be looked at
    told: list[str] = []
    with lock.hold(folder), tempfile.TemporaryDirectory() as beside, Log(beside) as log:
        run = stage_run.Run(config=config, folder=folder, store=source.open_store(config, folder, log), mesh=meshes.make_mesh(), log=log)
        carried = starts.carried(config, store=run.store)
        for name in config.stages[: config.stages.index(stage)]:
            carried = STAGES[name].run(run, carried)
        STAGES[stage].run(run, carried, train=partial(_again, number=number, batch=batch, told=told, place=place))
    return told


def read_config(folder: Path):
    """The configuration a run's folder was made with."""
    path = folder / "config.json"
    try:
        kept = uscl_config.flatten(json.loads(path.read_text()))
    except FileNotFoundError:
        raise UserError(f"{path}: there is none; --run is the --workdir of a run") from None
    except ValueError as error:
        raise UserError(f"{path}: can't be read: {error}") from error
    config = uscl_config.default()
    config.update_from_flattened_dict({key: tuple(value) if isinstance(value, list) else value for key, value in kept.items()})
    uscl_config.validate(config)
    return config


def _again(
    run, stage, loss_fn, variables, batches, *, weights, frozen=(), equalise=False, validate=None, course=None, advice=None,
    number, batch, told, place,
):  # fmt: skip
    """Stands in for `stages.run.train`, with the same arguments, and stops after update `number`; earlier folds are done."""
    course = course or stage_run.course_of(run, stage)
    if course.folder != place:
        return stage_run.train(
            run, stage, loss_fn, variables, batches,
            weights=weights, frozen=frozen, equalise=equalise, validate=validate, course=course,
        )  # fmt: skip
    optimizer = course.optimizer
    trainable = (lambda name: name not in frozen) if frozen else None
    start = state.create(variables["params"], variables["batch_stats"], optimizer, terms=weights, seed=run.config.seed, trainable=trainable)
    update = step.make_step(loss_fn, optimizer, run.mesh, weights=weights, equalise=equalise, trainable=trainable)
    now, _, at = position.recall(
        start, _Before(run.folder / place / "checkpoints", number),
        stage=stage, steps=number, log=run.log, mesh=run.mesh, validated=validate is not None,
    )  # fmt: skip
    for n in range(at, number - 1):
        now, _ = update(now, meshes.put_batch(run.mesh, batches.batch(n)))
    mine = batches.batch(number - 1)
    same = mine.keys() == batch.keys() and all(np.array_equal(mine[name], batch[name]) for name in mine)
    before = jax.device_get(now)
    _, metrics = update(now, meshes.put_batch(run.mesh, batch))
    told.append(f"update {number} of {stage}, from {f'the checkpoint of update {at}' if at else 'the start'}; its batch is "
                + ("what the store gives" if same else "not what the store gives now"))  # fmt: skip
    told += [f"{name} {float(value):.6g}" for name, value in jax.device_get(metrics).items()]
    told.append(where(loss_fn, before, batch, weights))


def where(loss_fn, now: state.TrainState, batch, weights) -> str:
    """The first place at which an update from the state `now` meets a number that is not finite: parameters, modules, terms, gradient."""
    lost = _not_finite({"params": now.params, "batch_stats": now.batch_stats})
    if lost:
        return f"not finite before the update: {', '.join(lost)}"
    names: list[str] = []

    def objective(params):
        key = jax.random.fold_in(jax.random.wrap_key_data(now.key), now.step)
        with watch() as notes:
            terms, _ = loss_fn(params, now.batch_stats, batch, key)
        names[:] = [name for name, _ in notes]
        return sum(weights[name] * terms[name] for name in terms if weights[name]), (terms, [finite for _, finite in notes])

    (_, (terms, finite)), gradient = jax.jit(jax.value_and_grad(objective, has_aux=True))(now.params)
    first = next((name for name, good in zip(names, finite, strict=True) if not good), None)
    if first is not None:
        return f"the first module whose output is not finite: {first}"
    lost = _not_finite(terms)
    if lost:
        return f"every module's output is finite, these terms of the loss are not: {', '.join(lost)}"
    lost = _not_finite(gradient)
    return f"the loss is finite, its gradient is not: {', '.join(lost)}" if lost else "every output, term and gradient is finite"


def _not_finite(tree) -> list[str]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [jax.tree_util.keystr(keys, simple=True, separator="/") for keys, leaf in leaves if not np.isfinite(leaf).all()]


class _Before(Checkpoints):
    """The checkpoints of a stage that are older than update `number`."""

    def __init__(self, folder: Path, number: int):
        super().__init__(folder)
        self.number = number

    def steps(self) -> list[int]:
        return [done for done in super().steps() if done < self.number]
