"""How far a training is and how fast it goes, for a person to read."""
import datetime
import sys
import time
from collections.abc import Callable, Iterable, Iterator

from tqdm import tqdm

EVERY = 10.0  # seconds between two lines where there is no terminal for a bar


def shown(things: Iterable, total: int, what: str) -> Iterator:
    """Passes the things on, with a bar and the time left on a terminal, and a line every ten seconds elsewhere."""
    if sys.stderr.isatty():
        yield from tqdm(things, desc=what, total=total, unit="", dynamic_ncols=True)
        return
    begun = told = time.monotonic()
    for done, thing in enumerate(things, 1):
        yield thing
        if (now := time.monotonic()) - told > EVERY:
            told = now
            left = datetime.timedelta(seconds=round((now - begun) / done * (total - done)))
            print(f"{what}: {done} of {total}, {left} left", file=sys.stderr, flush=True)


class Progress:
    """Counts a stage's updates; a context manager.

    The first update, which compiles, sets the clock going: speed, share of waiting and time left are of those after it.

    Args:
        stage: name shown.
        start, steps: updates done before, and in all.
        tell: tell(text, screen=bool) writes a line to run.log and, if `screen`, to stderr.
        bar: draw a bar; the lines then go to run.log alone.
        every: seconds between two lines.
        clock: seconds, for the tests.
    """

    def __init__(
        self, stage: str, start: int, steps: int, *, tell: Callable, bar: bool, every: float = EVERY, clock=time.monotonic
    ):
        self.stage, self.start, self.steps, self.tell, self.every, self.clock = stage, start, steps, tell, every, clock
        self.done, self.images, self.waited = start, 0, 0.0
        self._begun = self._told = None
        layout = "{desc} {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt}{postfix}"
        self._bar = tqdm(desc=stage, total=steps, initial=start, bar_format=layout, dynamic_ncols=True) if bar else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._bar is not None:
            self._bar.close()

    def update(self, values: dict[str, float], *, images: int, waited: float):
        """One update is done: its metrics, how many images it saw, how many seconds the device's feeder waited for them."""
        now = self.clock()
        self.done += 1
        if self._begun is None:
            self._begun = self._told = now
        else:
            self.images += images
            self.waited += waited
        if self._bar is not None:
            self._bar.set_postfix_str(self.text(values), refresh=False)
            self._bar.update()
        if self.done == self.steps or now - self._told >= self.every:
            self._told = now
            self.tell(f"{self.stage} {self.done}/{self.steps}  {self.text(values)}", screen=self._bar is None)

    def pace(self) -> dict[str, float]:
        """Updates after the first, their images, and the seconds since the first was done."""
        seconds = 0.0 if self._begun is None else self.clock() - self._begun
        return {"updates": max(self.done - self.start - 1, 0), "images": self.images, "seconds": seconds}

    def text(self, values: dict[str, float]) -> str:
        """loss 0.61 (chance 4.16)  812 images/s  data 3%  ETA 0:01:12"""
        chance = f" (chance {values['chance']:.4g})" if "chance" in values else ""
        parts = [f"loss {values['loss']:.4g}{chance}"]
        counted = self.done - self.start - 1  # the first one is not
        seconds = 0.0 if self._begun is None else self.clock() - self._begun
        if counted > 0 and seconds > 0:
            left = datetime.timedelta(seconds=round(seconds / counted * (self.steps - self.done)))
            speed = self.images / seconds
            parts += [f"{speed:.{0 if speed >= 10 else 2}f} images/s", f"data {100 * min(self.waited / seconds, 1):.0f}%", f"ETA {left}"]
        return "  ".join(parts)
