"""What a study will take: from a few measured updates first, then from the runs that have ended."""

import datetime
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uscl.stages.kinds import NETWORK, kind_of
from uscl.study.tasks import Task, read


def updates(task: Task, stage: str) -> tuple[int, int]:
    """How many updates the stage makes, and how many looks at the validation patients."""
    block = task.config[stage] if stage in task.config else {}
    if stage == "nnunet":
        return block.epochs * block.iterations, -(-block.epochs // block.validate_every)
    if "steps" not in block:
        return 0, 0
    if stage in ("classify", "planes"):
        trained = len(block.fractions) * block.draws * len({"supervised", "finetuned"} & set(block.modes))
        return trained * block.steps, trained * -(-block.steps // block.look_every)
    every = next((block[key] for key in ("validate_every", "look_every") if key in block), 0)
    return block.steps, -(-block.steps // every) if every else 0


def form(task: Task, stage: str) -> str:
    """What the stage's times are kept under: its name, and of a ResNet also how deep and wide it is."""
    if kind_of(stage, {NETWORK: task.config.finetune.network}) != "stills":
        return stage
    return f"{stage} of ResNet-{task.config.anatomy.depth}, {task.config.anatomy.width} wide"


class Cost:
    """Seconds a task takes on one seat.

    measured: {`form` of a stage: {"first", "update", "look"}} as `measure` tells it; folder: the study's, whose ended runs correct it.
    Where neither knows a stage the task counts 0, and `complete` is False.
    """

    def __init__(self, measured: Mapping[str, Mapping[str, float]], folder: Path):
        self.measured, self.folder, self.complete = measured, folder, True
        self._ended: dict[Any, list[float]] = {}

    def learn(self, task: Task) -> None:
        """Takes note of how long an ended task took, from its timing.json."""
        seconds = read(self.folder / task.name / "timing.json")
        for stage in task.stages:
            if stage in seconds:
                self._ended.setdefault((form(task, stage), updates(task, stage)), []).append(float(seconds[stage]))

    def of(self, task: Task) -> float:
        """Seconds: the median of what the same stages took, else first + updates x update + looks x look; and start and report."""
        around = sum(self.measured.get(name, {}).get("first", 0.0) for name in ("start", "report"))
        return around + sum(self._stage(task, stage) for stage in task.stages)

    def _stage(self, task: Task, stage: str) -> float:
        counts, name = updates(task, stage), form(task, stage)
        if (name, counts) in self._ended:
            return statistics.median(self._ended[name, counts])
        if name not in self.measured:
            self.complete = False
            return 0.0
        mine = self.measured[name]
        return mine["first"] + counts[0] * mine.get("update", 0.0) + counts[1] * mine.get("look", 0.0)

    def together(self, tasks: Sequence[Task], seats: int) -> float:
        """Seconds until all of them have ended on so many seats, each beginning as soon as a seat and what it needs are there."""
        free, ends, pending = [0.0] * seats, {}, list(tasks)
        names = {task.name for task in tasks}
        while pending:
            now = min(free)
            ready = (t for t in pending if t.after not in names or ends.get(t.after, float("inf")) <= now)
            task = next(ready, None)
            if task is None:  # the seat waits for the next task that ends
                free[free.index(now)] = min(end for end in ends.values() if end > now)
                continue
            pending.remove(task)
            ends[task.name] = free[free.index(now)] = now + self.of(task)
        return max(free, default=0.0)


class Ticker:
    """One line whenever a task ends: how many are done, and the time left, at the pace so far."""

    def __init__(self, tasks: Mapping[str, Task], cost: Cost, seats: int, ended: int, tell):
        self.tasks, self.cost, self.seats, self.tell = tasks, cost, seats, tell
        self.before, self.seen, self.begun = ended, set(), {}
        self.spent = self.planned = 0.0

    def __call__(self, outcome, running: Sequence[str]) -> None:
        now = time.monotonic()
        for name in running:
            self.begun.setdefault(name, now)
        new = [name for name in (*outcome.ended, *outcome.failed) if name in self.tasks and name not in self.seen]
        for name in new:
            self.seen.add(name)
            if name not in self.begun:
                continue  # was done before, or is not begun for want of what it needs
            took = now - self.begun[name]
            if name in outcome.ended:
                self.spent, self.planned = self.spent + took, self.planned + self.cost.of(self.tasks[name])
                self.cost.learn(self.tasks[name])
            how = "done" if name in outcome.ended else f"FAILED ({outcome.failed[name]})"
            count = f"[{len(outcome.ended & self.tasks.keys())}/{len(self.tasks)}]"
            self.tell(f"{count} {name} {how} in {spoken(took)}; {spoken(self.left(running, now))} left")

    def left(self, running: Sequence[str], now: float) -> float:
        """Seconds: what is still to do over the seats, times the pace of what was done."""
        pace = self.spent / self.planned if self.planned else 1.0
        waiting = sum(self.cost.of(task) for name, task in self.tasks.items() if name not in self.seen and name not in running)
        begun = sum(max(pace * self.cost.of(self.tasks[name]) - (now - self.begun[name]), 0.0) for name in running)
        return (pace * waiting + begun) / self.seats


def spoken(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
