"""What a run tells: metrics.jsonl for programs, run.log and the screen for people, TensorBoard events for its viewers.

metrics.jsonl holds nothing but what the run computed. Times and speeds go to run.log, so two runs of one command on one
machine write the same metrics.jsonl, byte for byte, interrupted or not. Of several processes the first one writes; the others
print their warnings on the screen, with their number.
"""
import csv
import importlib.metadata
import io
import json
import logging
import math
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tensorboardX import SummaryWriter
from tqdm import tqdm

from uscl.train import hosts
from uscl.train.progress import Progress

PACKAGES = ("uscl", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy", "ml_collections", "tensorboardX")


class Log:
    """The log of one run's folder; a context manager."""

    def __init__(self, workdir: Path | str):
        self.folder, self._writes = Path(workdir), hosts.primary()
        self._boards: dict[str, SummaryWriter] = {}
        screen = _Screen()
        screen.addFilter(lambda record: getattr(record, "screen", True))
        self._handlers = [screen]
        who = ""
        if self._writes:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = logging.FileHandler(self.folder / "run.log", encoding="utf-8")
            file.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S"))
            self._handlers.append(file)
        else:
            screen.setLevel(logging.WARNING)
            who = f"process {jax.process_index()}: "
        screen.setFormatter(logging.Formatter(f"%(asctime)s  {who}%(message)s", "%H:%M:%S"))
        self._logger = logging.getLogger("uscl")
        self._before = self._logger.level, self._logger.propagate
        self._logger.setLevel(logging.INFO)
        self._logger.propagate = False  # the root's handlers, absl's among them, would print every line a second time
        for handler in self._handlers:
            self._logger.addHandler(handler)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for board in self._boards.values():
            board.close()
        self._boards = {}
        for handler in self._handlers:
            self._logger.removeHandler(handler)
            handler.close()
        self._handlers = []
        self._logger.level, self._logger.propagate = self._before

    def info(self, text: str, *, screen: bool = True):
        """One line in run.log, and on the screen unless a bar already shows it there."""
        self._logger.info(text, extra={"screen": screen})

    def resume(self, stage: str, step: int):
        """Forgets what this stage told beyond `step`, the update to go on from, and a last line torn by a crash."""
        if not self._writes:
            return
        path = self.folder / "metrics.jsonl"
        if path.exists():
            before = path.read_bytes().splitlines(keepends=True)
            kept = [line for line in before if _stays(line, stage, step)]
            if kept != before:
                _replace(path, b"".join(kept))
        if stage in self._boards:
            self._boards.pop(stage).close()
        self._board(stage, purge_step=step + 1)

    def metrics(self, stage: str, step: int, values: Mapping[str, float]):
        """One line of metrics.jsonl: stage, step, loss, then the others by name. Float32 values in their shortest exact form.

        Raises:
            ValueError: a value is NaN or infinite, which JSON has no word for.
        """
        values = {name: float(str(np.float32(value))) for name, value in sorted(values.items(), key=lambda v: (v[0] != "loss", v[0]))}
        line = json.dumps({"stage": stage, "step": int(step), **values}, allow_nan=False)
        if not self._writes:
            return
        with open(self.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(line + "\n")
        for name, value in values.items():
            self._board(stage).add_scalar(name, value, step)

    def training(self, stage: str, start: int, steps: int, *, bar: bool = True) -> Progress:
        """Progress of a stage's training, as a bar on a terminal and as lines elsewhere."""
        return Progress(stage, start, steps, tell=self.info, bar=self._bar(bar))

    def progress(self, items: Iterable, total: int, what: str) -> Iterator:
        """Passes the items on, with a bar on a terminal and one line in run.log at the end."""
        yield from tqdm(items, desc=what, total=total, file=sys.stderr, leave=False, disable=not self._bar())
        self.info(f"{what}: {total} done")

    def _bar(self, wanted: bool = True) -> bool:
        return wanted and self._writes and sys.stderr.isatty()

    def _board(self, stage: str, purge_step: int | None = None) -> SummaryWriter:
        # A folder for each stage: the viewer's purge hides later events of all curves in a folder, and steps begin anew.
        # The suffix: the writer names its file by the second, and one begun in the same second would overwrite it.
        if stage not in self._boards:
            self._boards[stage] = SummaryWriter(
                str(self.folder / "tensorboard" / stage), purge_step=purge_step, flush_secs=30, filename_suffix=f".{time.time_ns()}"
            )
        return self._boards[stage]


class _Screen(logging.Handler):
    """Writes lines to stderr above whatever bar is being drawn there."""

    def emit(self, record):
        tqdm.write(self.format(record), file=sys.stderr)


def _stays(line: bytes, stage: str, step: int) -> bool:
    try:
        entry = json.loads(line)
        return line.endswith(b"\n") and (entry["stage"] != stage or entry["step"] <= step)
    except (ValueError, KeyError, TypeError):
        return False


def _replace(path: Path, content: bytes):
    """Writes a file beside its place and moves it there: readers see the old one or the new one, never half of one."""
    partial = path.with_name(f".{path.name}.partial")
    with open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def write_json(path: Path | str, obj: Any):
    """Writes JSON in one go, by the first process alone. NumPy and JAX values become plain ones, NaN and infinity become null."""
    if hosts.primary():
        _replace(Path(path), (json.dumps(_plain(obj), indent=2, allow_nan=False) + "\n").encode())


def write_csv(path: Path | str, head: Sequence[str], rows: Iterable[Sequence[Any]]):
    """Writes a table in one go, by the first process alone."""
    if hosts.primary():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([head, *rows])
        _replace(Path(path), text.getvalue().encode())


def _plain(obj):
    if isinstance(obj, Mapping):
        return {str(key): _plain(value) for key, value in obj.items()}
    if isinstance(obj, (np.ndarray, np.generic, jax.Array)):
        return _plain(np.asarray(obj).tolist())
    if isinstance(obj, (list, tuple)):
        return [_plain(value) for value in obj]
    if isinstance(obj, float):
        return obj if math.isfinite(obj) else None
    return obj if obj is None or isinstance(obj, (bool, int, str)) else str(obj)


def environment() -> dict[str, Any]:
    """What a result depends on beside the configuration: versions, devices, system, command line."""
    devices = jax.devices()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "processes": jax.process_count(),
        "devices": {"count": len(devices), "platform": devices[0].platform, "kind": devices[0].device_kind},
        "packages": {name: _version(name) for name in PACKAGES},
        "argv": sys.argv,
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
