"""An experiment: its stages in order, each going on where it was, then the report. One call is one run of `launch/main.py`."""

import contextlib
import json
import time
from pathlib import Path

from uscl import report
from uscl.config import flatten, validate
from uscl.stages import decoder, encoder, evaluate, finetune, source
from uscl.stages.run import Run
from uscl.train import mesh as meshes
from uscl.train.logs import Log, environment, write_json
from uscl.types import UserError

STAGES = {"encoder": encoder, "decoder": decoder, "finetune": finetune, "evaluate": evaluate}
LABELLED = ("finetune", "evaluate")  # stages that need labelled frames


def run(config, workdir: str) -> Path:
    """Runs the configured stages in `workdir` and returns the path of the report.

    A stage whose last checkpoint stands is not trained again; one that was interrupted goes on from its newest checkpoint.
    Raises UserError for a configuration, a store or a folder that does not fit.
    """
    validate(config)
    for name in config.stages:
        if name not in STAGES:
            raise UserError(f"config.stages: found {name!r}; allowed are {', '.join(STAGES)}")
    folder = Path(workdir)
    keep_config(folder, config)
    meshes.enable_compilation_cache()
    with Log(folder) as log:
        write_json(folder / "environment.json", environment())
        store = source.open_store(config, folder, log)
        source.check_labels(store, [name for name in config.stages if name in LABELLED])
        source.save_sample(store, folder)
        run = Run(config=config, folder=folder, store=store, mesh=meshes.make_mesh(), log=log)
        carried = None
        for name in config.stages:
            with timed(folder / "timing.json", name):
                carried = STAGES[name].run(run, carried)
        page = report.draw(folder)
        log.info(f"report: {page}")
    return page


def keep_config(folder: Path, config) -> None:
    """Writes config.json, or holds the one that is there against `config`: a folder is one experiment. Only `log.*` may change."""
    path, mine = folder / "config.json", json.loads(config.to_json(sort_keys=False))
    if path.exists():
        before, now = flatten(json.loads(path.read_text())), flatten(mine)
        changed = [key for key in sorted(before | now) if before.get(key) != now.get(key) and not key.startswith("log.")]
        if changed:
            key = changed[0]
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise UserError(
                f"{path}: config.{key} was {before.get(key)!r} here and is {now.get(key)!r} now{more}; "
                "go on with the same values, or give the changed experiment a --workdir of its own"
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, mine)


@contextlib.contextmanager
def timed(path: Path, stage: str):
    """Adds the seconds spent inside to the stage's entry in `path`, also when they end by an interruption."""
    started = time.monotonic()
    try:
        yield
    finally:
        seconds = json.loads(path.read_text()) if path.exists() else {}
        write_json(path, seconds | {stage: round(seconds.get(stage, 0) + time.monotonic() - started, 1)})
