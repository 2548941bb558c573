"""How long each stage of a run takes here, from a few updates: `python -m uscl.study.measure FOLDER`, the folder of a run that has only its
config.json. Written is FOLDER/measured.json: {stage: {"first", "update", "look"}} in seconds.

"first" is everything that is done once: reading, compiling, the evaluation where that is the stage. "look" is one look at the validation
patients. "start" and "report" are what a process spends before and after its stages.
"""

import sys
import time
from functools import partial
from pathlib import Path

import jax

UPDATES, SECONDS = 3, 4.0  # at least so many updates, and more within so much time


def main(folder: Path, began: float) -> None:
    from uscl import report
    from uscl.stages import experiment, replay, source, start
    from uscl.stages.run import Run
    from uscl.train import mesh as meshes
    from uscl.train import pages
    from uscl.train.logs import Log, write_json

    config = replay.read_config(folder)
    pages.keep()
    meshes.enable_compilation_cache()
    told: dict[str, dict[str, float]] = {}
    with Log(folder) as log:
        run = Run(config=config, folder=folder, store=source.open_store(config, folder, log), mesh=meshes.make_mesh(), log=log)
        told["start"] = {"first": time.time() - began}
        carried = start.carried(config, store=run.store)
        for stage in config.stages:
            at, mine = time.monotonic(), {"update": 0.0, "look": 0.0, "spent": 0.0}
            options = {} if stage in ("evaluate", "saliency") else {"train": partial(few_updates, mine=mine)}
            carried = experiment.STAGES[stage].run(run, carried, **options)
            first = time.monotonic() - at - mine.pop("spent")
            told[stage] = {"first": first, **mine}
        at = time.monotonic()
        report.draw(folder)
        told["report"] = {"first": time.monotonic() - at}
    write_json(folder / "measured.json", told)


def few_updates(
    run, stage, loss_fn, variables, batches, *, weights, frozen=(), equalise=False, validate=None, course=None, advice=None, mine
):
    """Stands in for `stages.run.train`, with the same arguments: a few updates and looks, timed into `mine`; the weights they end with."""
    from uscl.stages import run as stage_run
    from uscl.train import mesh as meshes
    from uscl.train import state, step

    course = course or stage_run.course_of(run, stage)
    trainable = (lambda name: name not in frozen) if frozen else None
    begun = state.create(variables["params"], variables["batch_stats"], course.optimizer, weights, run.config.seed, trainable=trainable)
    update = step.make_step(loss_fn, course.optimizer, run.mesh, weights=weights, equalise=equalise, trainable=trainable)
    now = meshes.put_replicated(run.mesh, begun)
    now, metrics = update(now, meshes.put_batch(run.mesh, batches.batch(0)))
    jax.block_until_ready(metrics)
    at, count = time.monotonic(), 0
    while count < UPDATES or time.monotonic() - at < SECONDS:
        now, metrics = update(now, meshes.put_batch(run.mesh, batches.batch(count + 1)))
        jax.block_until_ready(metrics)
        count += 1
    mine["spent"] += time.monotonic() - at
    mine["update"] = (time.monotonic() - at) / count
    if validate is not None:
        validate(now)  # compiles
        at = time.monotonic()
        validate(now)
        mine["look"] = time.monotonic() - at
        mine["spent"] += mine["look"]
    return meshes.take_home(run.mesh, {"params": now.params, "batch_stats": now.batch_stats})


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else time.time())
