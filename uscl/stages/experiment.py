"""An experiment: its stages in order, each going on where it was, then the report. One call is one run of `launch/main.py`."""

import contextlib
import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from uscl import report
from uscl.config import flatten, validate
from uscl.config.difference import Facts, refused
from uscl.data.store import Store
from uscl.stages import anatomy, classify, decoder, encoder, evaluate, finetune, nnunet, planes, saliency, source, video
from uscl.stages import start as starts
from uscl.stages.kinds import check_order
from uscl.stages.run import Run
from uscl.train import hosts, lock, pages
from uscl.train import mesh as meshes
from uscl.train.logs import Log, environment, write_json
from uscl.types import UserError

STAGES = {
    "encoder": encoder, "decoder": decoder, "finetune": finetune, "nnunet": nnunet, "evaluate": evaluate,
    "video": video, "classify": classify, "saliency": saliency,
    "anatomy": anatomy, "planes": planes,
}  # fmt: skip
LABELLED = ("finetune", "nnunet", "evaluate")  # stages that need labelled frames


def run(config, workdir: str) -> Path:
    """Runs the configured stages in `workdir` and returns the path of the report.

    A stage whose last checkpoint stands is not trained again; one that was interrupted goes on from its newest checkpoint.
    One process at a time works in the folder; of the several processes of one run the first holds it and writes.
    Raises UserError for a configuration, a store or a folder that does not fit, and for a disk that is full.
    """
    validate(config)
    for name in config.stages:
        if name not in STAGES:
            raise UserError(f"config.stages: found {name!r}; allowed are {', '.join(STAGES)}")
    check_order(config)
    folder = Path(workdir)
    pages.keep()
    meshes.enable_compilation_cache()
    with disk_told(folder), contextlib.ExitStack() as stack:
        first(lambda: stack.enter_context(lock.hold(folder)))
        first(lambda: keep_config(folder, config))
        hosts.wait_for(folder / "config.json")
        log = stack.enter_context(Log(folder))
        store = first(lambda: source.open_store(config, folder, log))
        hosts.wait_for(config.data.store or folder / "data")
        store = store or source.open_store(config, folder, log)
        mesh, carried = meshes.make_mesh(), starts.carried(config, store=store, tell=log.info)
        first(lambda: keep_data(folder, store, start=config.start))
        source.check_labels(store, [name for name in config.stages if name in LABELLED])
        if "evaluate" in config.stages:
            evaluate.check(config, store)
        if "classify" in config.stages:
            classify.check(config, store, mesh)
        if "planes" in config.stages:
            planes.check(config, store, mesh)
        if "saliency" in config.stages:
            saliency.check(config)
        first(lambda: source.save_sample(store, folder))
        run = Run(config=config, folder=folder, store=store, mesh=mesh, log=log)
        for name in config.stages:
            with timed(folder, name):
                carried = STAGES[name].run(run, carried)
        first(lambda: log.info(f"report: {report.draw(folder)}"))
    return folder / "report.html"


def first(work: Callable[[], Any]) -> Any:
    """The first of a run's processes does it, and has what it returns; the others wait and have None. Where it fails, all end."""
    result = failure = None
    if hosts.primary():
        try:
            result = work()
        except Exception as error:
            failure = error
    if hosts.agree(int(failure is not None)):
        raise failure or UserError("the first process of this run could not go on; it says why")
    return result


def keep_config(folder: Path, config) -> None:
    """Writes config.json, or holds the one that is there against `config`: a folder is one experiment.

    `uscl.config.difference` says what may change all the same: length, logging, location.
    """
    path, mine = folder / "config.json", json.loads(config.to_json(sort_keys=False))
    if path.exists():
        facts = Facts(
            order=tuple(config.stages), begun=begun(folder),
            same_data=lambda: same_data(folder, config.data.store), same_start=lambda: same_start(folder, config.start),
        )  # fmt: skip
        changed = refused(flatten(json.loads(path.read_text())), flatten(mine), facts)
        if changed:
            raise UserError(
                f"{path}: {', '.join(map(str, changed))}; "
                "go on with the same values, or give the changed experiment a --workdir of its own"
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, mine)


def begun(folder: Path) -> set[str]:
    """Stages that have a checkpoint, of their own or of one of their parts."""
    return {name for name in STAGES for place in ("", "*/") if any((folder / name).glob(f"{place}checkpoints/[0-9]*"))}


def noted(folder: Path, what: str = "store") -> str | None:
    """Checksum of the store the run began with, or of the weights it starts from (what='start'), as environment.json has it."""
    path = folder / "environment.json"
    return json.loads(path.read_text()).get(what, {}).get("checksum") if path.exists() else None


def same_data(folder: Path, store: str) -> bool:
    """Whether the store at this path is the one the run began with, or it never came so far as to have one."""
    known = noted(folder)
    if known is None:
        return not begun(folder)
    return bool(store) and Store.open(store).checksum == known


def same_start(folder: Path, path: str) -> bool:
    """Whether the run at `path` has the weights this one began from, or this one never came so far."""
    known = noted(folder, "start")
    if known is None:
        return not begun(folder)
    return bool(path) and starts.checksum(path) == known


def keep_data(folder: Path, store: Store, start: str = "") -> None:
    """Writes environment.json, with the checksums of the store and of what is started from; refuses what has changed under its path."""
    found = {"store": (store.path, store.checksum)} | ({"start": (start, starts.checksum(start))} if start else {})
    for what, (path, checksum) in found.items():
        if begun(folder) and noted(folder, what) not in (None, checksum):
            raise UserError(
                f"{path}: the checksum of the {what} is {checksum}, and was {noted(folder, what)} when the run in {folder} began; "
                "go on with the same data, or give the changed experiment a --workdir of its own"
            )
    kept = {what: {"path": str(path), "checksum": checksum} for what, (path, checksum) in found.items()}
    kept["store"]["test"] = starts.kept_out(store)
    write_json(folder / "environment.json", environment() | kept)


@contextlib.contextmanager
def disk_told(folder: Path):
    """A disk that is full is no fault of ours: one sentence, wherever it was met. What was saved before stands."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise UserError(f"{error.filename or folder}: {error.strerror}; make room, and the same command goes on") from error


@contextlib.contextmanager
def timed(folder: Path, stage: str):
    """Adds the seconds spent inside to the stage's entry in timing.json, also when they end by an interruption, and to that in cpu.json
    those of all cores, in this process and in its children that have ended."""
    clocks = {"timing.json": time.monotonic, "cpu.json": lambda: sum(os.times()[:4])}
    started = {name: clock() for name, clock in clocks.items()}
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # on a full disk it is another sentence that counts
            for name, clock in clocks.items():
                path = folder / name
                seconds = json.loads(path.read_text()) if path.exists() else {}
                if hosts.primary():
                    write_json(path, seconds | {stage: round(seconds.get(stage, 0) + clock() - started[name], 1)})
