"""What every stage of a run is given, and the training that all of them share."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import ml_collections
import optax

from uscl import models
from uscl.data.loader import CineBatches
from uscl.data.prefetch import prefetch
from uscl.data.store import Store
from uscl.stages.pairs import Pairs
from uscl.train import checkpoint, guards, loop, state, step
from uscl.train import mesh as meshes
from uscl.train.logs import Log


@dataclass(frozen=True)
class Run:
    """One run: its configuration, folder, data, devices and log."""

    config: ml_collections.ConfigDict
    folder: Path
    store: Store
    mesh: jax.sharding.Mesh
    log: Log

    def cine_batches(self, stage: str, pairs: Pairs) -> CineBatches:
        """Frames of the training patients' cines, drawn as the pair rule needs them; stills are no cines and sit out."""
        block = self.config[stage]
        meshes.check_batch(self.mesh, block.cines * block.frames, key=f"config.{stage}.cines x config.{stage}.frames")
        batches = CineBatches(
            self.store, self.store.patients("train"), cines=block.cines, frames=block.frames,
            sampling=pairs.sampling, reach=pairs.reach, parts=pairs.parts, seed=self.config.seed,
            shortest=pairs.parts if pairs.sampling == "parts" else 2,
        )  # fmt: skip
        left = f"; {batches.left_out} too short to draw from" if batches.left_out else ""
        self.log.info(f"{stage}: {len(batches.ids)} cines of the training patients{left}")
        return batches

    def model_options(self) -> dict[str, Any]:
        block = self.config.model
        return {"width": tuple(block.width), "momentum": block.bn_momentum, "dtype": block.dtype, "remat": block.remat}


ADVICE = guards.Advice(
    chance="a lower pairs.temperature, another pairs.kind (what attracts must look alike: 'none' or 'binary' before 'partition'), "
    "learning_rate a third or three times as high, or weaker views (views.smallest nearer 1, speckle, shadow and gain at 0)",
    collapse="pairs.negatives='all', more cines a step, a lower pairs.temperature, or a lower learning_rate",
)


@dataclass(frozen=True)
class Course:
    """How long a training goes, what moves the weights, and which of them it ends with.

    validate_every: steps between two looks at the validation patients. keep: 'best' of those looks, or 'last'.
    folder: where checkpoints lie, below the run's folder.
    """

    steps: int
    optimizer: optax.GradientTransformation
    validate_every: int
    folder: str
    keep: str = "best"


def course_of(run: Run, stage: str) -> Course:
    """The course that the stage's block of the configuration describes."""
    block = run.config[stage]
    optimizer = make_optimizer(learning_rate=block.learning_rate, schedule=block.schedule, steps=block.steps)
    return Course(block.steps, optimizer, block.validate_every if "validate_every" in block else 0, stage)


def make_optimizer(*, learning_rate: float, schedule: str, steps: int) -> optax.GradientTransformation:
    """Adam at a constant rate, or falling to 0 by a cosine over the stage."""
    return optax.adam(optax.cosine_decay_schedule(learning_rate, steps) if schedule == "cosine" else learning_rate)


def initialise(run: Run, model, shape: tuple[int, ...], carried: dict[str, Any] | None) -> dict[str, Any]:
    """Fresh weights for images of `shape` [H, W, C]; parts that an earlier stage has learnt take their place by name."""
    variables = models.initialise(model, run.config.seed, shape)
    return variables if carried is None else models.transfer(carried, variables, batch_stats=run.config.model.carry_statistics)


def train(
    run: Run,
    stage: str,
    loss_fn: Callable,
    variables: dict[str, Any],
    batches,
    *,
    weights: dict[str, float],
    frozen: tuple[str, ...] = (),
    equalise: bool = False,
    validate: Callable | None = None,
    course: Course | None = None,
    advice: guards.Advice = ADVICE,
) -> dict[str, Any]:
    """Trains `variables` on the stage's loss and returns them; resumes where the stage's newest checkpoint stands.

    With `validate` the weights of the best look at the validation patients are returned, otherwise the last ones; a `course` may ask for
    the last ones all the same, and takes the place of what the stage's block says. `batches` has `.size` and `.batch(step, rows=slice)`.
    Each of several processes reads its share of every batch, and is returned the weights as NumPy arrays.
    """
    config = run.config
    course = course or course_of(run, stage)
    folder, optimizer = run.folder / course.folder, course.optimizer
    trainable = (lambda name: name not in frozen) if frozen else None
    start = state.create(variables["params"], variables["batch_stats"], optimizer, terms=weights, seed=config.seed, trainable=trainable)
    rows = {"rows": meshes.share(run.mesh, batches.size)} if jax.process_count() > 1 else {}
    final, best = loop.run(
        start,
        step.make_step(loss_fn, optimizer, run.mesh, weights=weights, equalise=equalise, trainable=trainable),
        lambda first: prefetch(partial(batches.batch, **rows), first, course.steps),
        stage=stage, steps=course.steps, log=run.log, mesh=run.mesh,
        checkpoints=checkpoint.Checkpoints(folder / "checkpoints", keep=config.log.keep),
        log_every=config.log.every, save_every=config.log.save_every,
        validate=validate, validate_every=course.validate_every if validate else 0,
        guard=guards.make_guard(stage, steps=course.steps, seed=config.seed, folder=folder, tell=run.log.info, advice=advice),
    )  # fmt: skip
    kept = final if best is None or course.keep == "last" else best
    return meshes.take_home(run.mesh, {"params": kept.params, "batch_stats": kept.batch_stats})
