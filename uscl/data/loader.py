"""Batches from a store: a batch is a pure function of (seed, step), so that a resumed run sees what it would have seen.

Which rows a batch has is drawn without reading a pixel, so each host of many reads its slice of them alone: `batch(step, rows=slice)`.
"""

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


def drawable(store, patients, *, count, shortest, key):
    """int64 [n], ascending: the cines of `patients` with `shortest` frames or more, and how many have fewer.

    UserError, naming the knob `key`: fewer than the `count` that a batch asks for, or a count below 1.
    """
    everyone = store.cines_of(patients)
    ids = everyone[store.cines.frames[everyone] >= shortest]
    if count < 1:
        raise UserError(f"{key}: found {count}; a batch holds at least 1")
    if count > len(ids):
        long = f" of {shortest} frames or more" if shortest > 1 else ""
        raise UserError(f"{key}: a batch asks for {count} cines, the patients have {len(ids)}{long}; lower {key}")
    return ids, len(everyone) - len(ids)


def deal(ids, count, *, seed, step):
    """int64 [count]: the cines of the batch of this step, all different. An epoch deals all of `ids` out once in random
    order, `count` at a time; the few that do not fill a batch sit this epoch out (others in the next)."""
    epoch, turn = divmod(step, len(ids) // count)
    order = np.random.default_rng(np.random.SeedSequence([seed, epoch])).permutation(ids)
    return order[turn * count : (turn + 1) * count]


def rng_of(seed, step):
    """The random numbers for drawing frames in the batch of this step; independent of the order in `deal`."""
    return np.random.default_rng(np.random.SeedSequence([seed, step], spawn_key=(1,)))


def turns(count, size, *, seed, step):
    """int64 [size]: places 0 .. count - 1 of the batch of this step, when permutations of them follow one another without a gap."""
    first, skipped = divmod(step * size, count)
    epochs = range(first, first + 1 + (skipped + size - 1) // count)
    rngs = [np.random.default_rng(np.random.SeedSequence([seed, epoch])) for epoch in epochs]
    return np.concatenate([rng.permutation(count) for rng in rngs])[skipped : skipped + size]


class CineBatches:
    """Unlabelled batches for contrastive stages: `cines` cines a step and `frames` frames of each.

    Cines of `patients`: as `deal` has it. Those of fewer than `shortest` frames are never drawn; `left_out` counts them.

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
        self.store = store
        self.cines, self.frames, self.sampling, self.seed = cines, frames, sampling, seed
        self.size = cines * frames
        self.reach, self.parts = reach, parts
        if sampling not in SAMPLINGS:
            raise UserError(f"sampling: found {sampling!r}; allowed is one of {', '.join(map(repr, SAMPLINGS))}")
        if min(frames, reach, parts) < 1:
            raise UserError(f"{frames=}, {reach=}, {parts=}: each must be at least 1")
        self.ids, self.left_out = drawable(store, patients, count=cines, shortest=shortest, key="cines")
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
        cine, rng = deal(self.ids, self.cines, seed=self.seed, step=step), rng_of(self.seed, step)
        draw = {"uniform": _choose, "neighbours": self._neighbours, "parts": self._parts}[self.sampling]
        frame = np.stack([draw(rng, int(length), self.frames) for length in self.store.cines.frames[cine]])
        return np.stack([np.repeat(cine, self.frames), frame.ravel()])

    def batch(self, step, *, rows=slice(None)):
        """The batch of this step, or the rows of it that a slice names; see `read_cines`."""
        return read_cines(self.store, *self.indices(step)[:, rows])

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


class Timed:
    """`CineBatches` that also say when: "time" float32 [N], the frame's in its cine [s], and "progress" float32 [N], step / steps.

    seconds: whether there is a time; UserError where a cine that is drawn from has no frame_ms. steps: None, or those of the stage, and
    then there is a progress: the same for all rows, 0 in the first batch.
    """

    def __init__(self, batches, *, seconds, steps=None):
        self.batches, self.size, self.seconds, self.steps = batches, batches.size, seconds, steps
        cines = batches.store.cines
        unknown = batches.ids[np.isnan(cines.frame_ms[batches.ids])] if seconds else ()
        if len(unknown):
            name = f"cine {unknown[0]} ({cines.source[unknown[0]] or cines.patient[unknown[0]]})"
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            raise UserError(f"unit: found 'seconds'; {batches.store.path / 'cines.csv'} has no frame_ms for {name}{more}, so use 'frames'")

    def batch(self, step, *, rows=slice(None)):
        """The batch of this step, or the rows of it that a slice names."""
        batch = self.batches.batch(step, rows=rows)
        if self.seconds:
            batch["time"] = (batch["frame"] * self.batches.store.cines.frame_ms[batch["cine"]] / 1000).astype(np.float32)
        if self.steps is not None:
            batch["progress"] = np.full(len(batch["cine"]), step / self.steps, np.float32)
        return batch


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

    def batch(self, step, *, rows=slice(None)):
        """The batch of this step, or the rows of it that a slice names; see `read_labelled`."""
        place = turns(len(self.rows), self.size, seed=self.seed, step=step)
        return read_labelled(self.store, self.rows[place][rows])


def all_rows(store, rows, batch):
    """Yields every row once, in order, in labelled batches of `batch` rows with "valid" bool [batch].

    The last batch is filled up with copies of the last row that are not valid.
    """
    rows = np.asarray(rows)
    for start in range(0, len(rows), batch):
        place = np.arange(start, start + batch)
        yield read_labelled(store, rows[np.minimum(place, len(rows) - 1)]) | {"valid": place < len(rows)}
