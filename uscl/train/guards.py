"""What watches a stage while it runs: the batch behind a NaN is kept, and a run that learns nothing is told so while it can be stopped.

A guard is called as guard(number, metrics, batch) with each update's metrics and its NumPy batch, before the loop holds them against NaN.
None of them changes a run: they read, write beside it, and tell.
"""

import math
import os
import zipfile
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from uscl.types import Batch, UserError

Guard = Callable[[int, Mapping[str, float], Batch], None]

FIRST = 1 / 3  # share of a stage that may pass without having learnt anything
LEAST = 50  # updates a mean is taken over, at least: single batches differ by more than what is asked for
NEAR = 0.02  # a mean loss that is not this share below chance has not left it
POINT = 0.1  # embedding_std of embeddings whose cosines are 0.99 on average: at temperature 0.1 the loss is within 0.1 nat of chance
LINE = 1.5  # effective_rank: 1 is a line, and two equal directions have 2
GROUPS = 4  # batches of fewer cines may rightly lie on a line: two groups that repel each other end at opposite points


class Advice(NamedTuple):
    """What to try, in words that follow "Try": where the loss sits at chance, and where the embeddings have collapsed."""

    chance: str = "a learning_rate a third or three times as high"
    collapse: str = "a lower learning_rate"


PLAIN = Advice()


def make_guard(stage: str, *, steps: int, seed: int, folder: Path | str, tell: Callable[[str], None], advice: Advice = PLAIN) -> Guard:
    """The guards of a stage of `steps` updates in one; `folder` is the stage's, `tell` gets each warning, once, with its advice."""
    about = {"steps": steps, "tell": tell}
    guards = (
        Keep(folder, seed=seed, tell=tell),
        Chance(stage, try_=advice.chance, **about),
        Collapse(stage, try_=advice.collapse, **about),
    )

    def guard(number, metrics, batch):
        for one in guards:
            one(number, metrics, batch)

    return guard


class Keep:
    """Writes the batch of an update with a metric that is not finite to FOLDER/offending/NUMBER.npz; see `read_batch`."""

    def __init__(self, folder: Path | str, *, seed: int, tell: Callable[[str], None]):
        self.folder, self.seed, self.tell = Path(folder) / "offending", seed, tell

    def __call__(self, number, metrics, batch):
        if all(math.isfinite(value) for value in metrics.values()):
            return
        share = f"-{jax.process_index()}" if jax.process_count() > 1 else ""  # each process holds its share of the batch
        path = self.folder / f"{number}{share}.npz"
        partial = path.with_suffix(".partial")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(partial, "wb") as file:
                np.savez(file, step=number, seed=self.seed, **{f"batch.{name}": np.asarray(values) for name, values in batch.items()})
            os.replace(partial, path)
            self.tell(f"the batch of update {number} is kept in {path}; launch/replay.py runs that update again")
        except OSError as error:  # what went wrong in the run is told next, and must not be hidden by a full disk
            self.tell(f"the batch of update {number} could not be kept: {error}")


def read_batch(folder: Path | str, number: int) -> tuple[dict[str, np.ndarray], int]:
    """(batch, seed) that `Keep` wrote for update `number` of the stage in `folder`; shares of several processes are joined in their order.

    Raises UserError where there is none, or it can't be read.
    """
    kept = Path(folder) / "offending"
    paths = sorted(kept.glob(f"{number}-*.npz"), key=lambda path: int(path.stem.partition("-")[2]))
    paths = paths or [kept / f"{number}.npz"]
    parts = []
    for path in paths:
        try:
            with np.load(path, allow_pickle=False) as file:
                parts.append({name: file[name] for name in file.files})
        except FileNotFoundError:
            there = ", ".join(sorted(path.stem for path in kept.glob("*.npz"))) or "none"
            raise UserError(f"{path}: no batch was kept of update {number}; there are: {there}") from None
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: can't be read: {error}") from error
    names = [name for name in parts[0] if name.startswith("batch.")]
    return {name[6:]: np.concatenate([part[name] for part in parts]) for name in names}, int(parts[0]["seed"])


class Chance:
    """Warns once when the loss has not come below chance.

    From the first third of the stage on, the mean loss over the last quarter of the stage's length (at least 50 updates) is held against
    the mean of `chance`: above 98 % of it the stage has learnt nothing yet. Stages without that metric, or with a chance of 0, pass.
    """

    def __init__(self, stage: str, *, steps: int, tell: Callable[[str], None], try_: str = PLAIN.chance):
        self.stage, self.tell, self.try_, self.told = stage, tell, try_, False
        self.window = max(LEAST, steps // 4)
        self.first = steps * FIRST
        self._seen: deque[tuple[float, float]] = deque(maxlen=self.window)

    def __call__(self, number, metrics, batch):
        if self.told or "chance" not in metrics or "loss" not in metrics:
            return
        self._seen.append((metrics["loss"], metrics["chance"]))
        if number < self.first or len(self._seen) < self.window:
            return
        loss, chance = np.mean(self._seen, axis=0)
        if chance > 0 and loss > (1 - NEAR) * chance:
            self.told = True
            self.tell(
                f"WARNING {self.stage}: the loss sits at chance, {loss:.4g} of {chance:.4g} over the last {self.window} updates; nothing "
                f"is learnt. Try {self.try_}"
            )


class Collapse:
    """Warns once when the embeddings of the contrastive stages lie in a point or on a line.

    It looks at the means of `embedding_std` and `effective_rank` over 50 updates, from the first third of the stage on; before, untrained
    networks, whose embeddings all point nearly the same way, would be told too.
    """

    def __init__(self, stage: str, *, steps: int, tell: Callable[[str], None], try_: str = PLAIN.collapse):
        self.stage, self.tell, self.try_, self.told = stage, tell, try_, False
        self.first = steps * FIRST
        self._seen: deque[tuple[float, float]] = deque(maxlen=LEAST)

    def __call__(self, number, metrics, batch):
        if self.told or not {"embedding_std", "effective_rank"} <= metrics.keys():
            return
        self._seen.append((metrics["embedding_std"], metrics["effective_rank"]))
        if number < self.first or len(self._seen) < LEAST:
            return
        std, rank = np.mean(self._seen, axis=0)
        line = rank < LINE and ("cine" not in batch or len(np.unique(batch["cine"])) >= GROUPS)
        if std < POINT or line:
            self.told = True
            what = f"to a point (embedding_std {std:.3g}, 1 is even)" if std < POINT else f"to a line (effective_rank {rank:.3g})"
            self.tell(f"WARNING {self.stage}: the embeddings have collapsed {what} over the last {LEAST} updates. Try {self.try_}")
