"""Batches from a store: a batch is a pure function of (seed, step), so that a resumed run sees what it would have seen.

Rows of a batch lie cine by cine, so a host of many can read its slice: `read_cines(store, *indices(step)[:, slice])`.
"""

import threading
import time
from collections import deque

import numpy as np

from uscl.types import UserError

SAMPLINGS = ("uniform", "neighbours", "parts")


def read_cines(store, cine, frame):
    """The batch of these frames: image uint8 [N, S, S, 1]; cine, frame and length (frames in that cine) int32 [N]."""
    image = store.frames[store.cines.first[cine] + frame][..., None]
    numbers = {"cine": cine, "frame": frame, "length": store.cines.frames[cine]}
    return {"image": image, **{name: values.astype(np.int32) for name, values in numbers.items()}}


def read_labelled(store, rows):
    """The batch of these labelled rows: image [N, S, S, 1], label [N, S, S] uint8; mm float32 [N], nan if unknown."""
    batch = read_cines(store, store.labelled.cine[rows], store.labelled.frame[rows])
    del batch["length"]
    return batch | {"label": store.labels[rows], "mm": store.cines.mm_per_pixel[batch["cine"]].astype(np.float32)}


class CineBatches:
    """Unlabelled batches for contrastive stages: `cines` cines a step and `frames` frames of each.

    Cines: an epoch deals all cines of `patients` out once in random order, `cines` at a time and all different within a
    batch; the few that do not fill a batch sit this epoch out (others in the next). Cines of fewer than `shortest` frames are
    never drawn; `left_out` counts them.

    Frames of a cine of T frames, by `sampling`:
      uniform     `frames` different ones; drawn with replacement where T < frames.
      neighbours  frames / 2 different anchors (with replacement where T is less), each followed by a partner drawn from
                  the other frames within +-reach of it. Frames of two pairs may coincide; with T = 1 so do the two.
      parts       frames / parts of each of the `parts` equal parts of the cine, frame t lying in part floor(t parts / T) as under
                  the partition rule; different frames where the part has as many. Index mod parts is the part.

    Raises:
      UserError: fewer cines than `cines`; an unknown sampling; an odd number of frames for neighbours, no multiple of
        `parts` for parts; a cine with fewer frames than `parts`.
    """

    def __init__(self, store, patients, *, cines, frames, sampling, reach=5, parts=4, shortest=1, seed):
        everyone = store.cines_of(patients)
        self.store, self.ids = store, everyone[store.cines.frames[everyone] >= shortest]
        self.left_out = len(everyone) - len(self.ids)
        self.cines, self.frames, self.sampling, self.seed = cines, frames, sampling, seed
        self.reach, self.parts = reach, parts
        if sampling not in SAMPLINGS:
            raise UserError(f"sampling: found {sampling!r}; allowed is one of {', '.join(map(repr, SAMPLINGS))}")
        if min(cines, frames, reach, parts) < 1:
            raise UserError(f"{cines=}, {frames=}, {reach=}, {parts=}: each must be at least 1")
        if cines > len(self.ids):
            long = f" of {shortest} frames or more" if shortest > 1 else ""
            raise UserError(f"cines: a batch asks for {cines} cines, the patients have {len(self.ids)}{long}; lower cines")
        if sampling == "neighbours" and frames % 2:
            raise UserError(f"frames: found {frames}; sampling 'neighbours' draws pairs, so it must be even")
        if sampling == "parts" and frames % parts:
            raise UserError(f"frames: found {frames}; sampling 'parts' needs a multiple of parts={parts}")
        for cine in self.ids if sampling == "parts" else ():
            if (length := store.cines.frames[cine]) < parts:
                name = f"cine {cine} ({store.cines.source[cine] or store.cines.patient[cine]})"
                raise UserError(f"parts: {name} has {length} frames; sampling 'parts' needs at least parts={parts}")

    def indices(self, step):
        """int64 [2, cines * frames]: cine and frame of every row of the batch, without reading a pixel."""
        epoch, turn = divmod(step, len(self.ids) // self.cines)
        order = np.random.default_rng(np.random.SeedSequence([self.seed, epoch])).permutation(self.ids)
        cine = order[turn * self.cines : (turn + 1) * self.cines]
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, step], spawn_key=(1,)))  # independent of `order`
        draw = {"uniform": _choose, "neighbours": self._neighbours, "parts": self._parts}[self.sampling]
        frame = np.stack([draw(rng, int(length), self.frames) for length in self.store.cines.frames[cine]])
        return np.stack([np.repeat(cine, self.frames), frame.ravel()])

    def batch(self, step):
        return read_cines(self.store, *self.indices(step))

    def _neighbours(self, rng, length, count):
        anchor = _choose(rng, length, count // 2)
        low, high = np.maximum(anchor - self.reach, 0), np.minimum(anchor + self.reach, length - 1)
        partner = low + rng.integers(0, np.maximum(high - low, 1))  # one of the frames in reach, the anchor left out:
        partner = np.minimum(partner + (partner >= anchor), high)  # those from the anchor on move up by one
        return np.stack([anchor, partner], axis=1).ravel()

    def _parts(self, rng, length, count):
        edges = -(-np.arange(self.parts + 1) * length // self.parts)  # ceil(p T / parts): the first frame of part p
        drawn = [low + _choose(rng, high - low, count // self.parts) for low, high in zip(edges[:-1], edges[1:], strict=True)]
        return np.stack(drawn, axis=1).ravel()


def _choose(rng, length, count):
    return rng.choice(length, count, replace=length < count)


class LabelledBatches:
    """Labelled batches for fine-tuning: `batch` of the store's labelled `rows` a step.

    Permutations of the rows follow one another without a gap, so a batch may be larger than the number of rows.
    UserError: no rows.
    """

    def __init__(self, store, rows, *, batch, seed):
        self.store, self.rows, self.size, self.seed = store, np.asarray(rows), batch, seed
        if not len(self.rows):
            raise UserError("labelled frames: there are 0 to learn from; at least 1 is needed")

    def batch(self, step):
        first, skipped = divmod(step * self.size, len(self.rows))
        epochs = range(first, first + 1 + (skipped + self.size - 1) // len(self.rows))
        rngs = [np.random.default_rng(np.random.SeedSequence([self.seed, epoch])) for epoch in epochs]
        order = np.concatenate([rng.permutation(self.rows) for rng in rngs])
        return read_labelled(self.store, order[skipped : skipped + self.size])


def all_rows(store, rows, batch):
    """Yields every row once, in order, in labelled batches of `batch` rows with "valid" bool [batch].

    The last batch is filled up with copies of the last row that are not valid.
    """
    rows = np.asarray(rows)
    for start in range(0, len(rows), batch):
        place = np.arange(start, start + batch)
        yield read_labelled(store, rows[np.minimum(place, len(rows) - 1)]) | {"valid": place < len(rows)}


class prefetch:
    """`with prefetch(batch_fn, start, stop) as batches: for batch in batches: ...`, read ahead by a thread of its own.

    Yields batch_fn(step) for start <= step < stop in order, read at most `depth` ahead. What batch_fn raises is raised
    here, after the batches before it. Leaving the block, also in the middle, waits for the one batch being read and
    ends the thread. `wait_seconds`: the time the consumer has spent waiting so far.
    """

    def __init__(self, batch_fn, start, stop, *, depth=4):
        if depth < 1:
            raise ValueError(f"depth is {depth}; it must be at least 1")
        self.wait_seconds, self._depth, self._ready = 0.0, depth, deque()
        self._changed, self._closed, self._ended, self._error = threading.Condition(), False, False, None
        self._thread = threading.Thread(target=self._fill, args=(batch_fn, start, stop), name="prefetch", daemon=True)
        self._thread.start()

    def _fill(self, batch_fn, start, stop):
        error = None
        try:
            for step in range(start, stop):
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or len(self._ready) < self._depth)
                    if self._closed:
                        return
                batch = batch_fn(step)
                with self._changed:
                    self._ready.append(batch)
                    self._changed.notify_all()
        except BaseException as caught:
            error = caught
        finally:
            with self._changed:
                self._ended, self._error = True, error
                self._changed.notify_all()

    def __iter__(self):
        return self

    def __next__(self):
        began = time.perf_counter()
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._ready or self._ended)
            self.wait_seconds += time.perf_counter() - began
            if self._closed:
                raise ValueError("this prefetch is closed")
            if self._ready:
                batch = self._ready.popleft()
                self._changed.notify_all()
                return batch
        if self._error is not None:
            raise self._error
        raise StopIteration

    def close(self):
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self._ready.clear()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
