"""Stills whose plane is known, and batches of them among frames of sweeps: what anatomy-aware pretraining draws from a store.

A still is a cine whose attributes name a plane; it has one frame, as a rule. A sweep is any other cine, however short: nobody said what it
shows. Of stills whose plane is unknown frames=1 draws as many as of sweeps.
"""

from typing import NamedTuple

import numpy as np

from uscl.data.clips import read_clips
from uscl.data.loader import deal, read_cines, rng_of
from uscl.types import UserError

JOINED = "+"  # between the columns, and between the texts, of a label that two columns make together
_STILLS = 2**31  # added to a seed, which is below it: stills and sweeps are dealt in orders of their own


class Planes(NamedTuple):
    """cine int64 [n], ascending; label int64 [n], an index into names; patient [n], a name each; names (sorted), of the whole store."""

    cine: np.ndarray
    label: np.ndarray
    patient: np.ndarray
    names: tuple[str, ...]


def labelled_planes(store, patients, *, column, ignore=()):
    """The stills of `patients`: those whose text in the column is neither empty nor in `ignore`.

    column: of attributes.csv; "plane+brain_plane" joins two, so that each pair of texts is a label of its own, "Fetal brain+Other" say.

    Returns `Planes`. A label means the same for any patients: names are those of the whole store. Of a still of several frames every
    one shows the plane.

    Raises: UserError where there is no such column, or the whole store holds no plane but ignored ones.
    """
    value = _texts(store, column)
    names = tuple(sorted(set(value.tolist()) - {"", *ignore}))
    if not names:
        raise UserError(f"{store.path / 'attributes.csv'}: column {column!r} holds no plane that is not ignored ({', '.join(ignore)})")
    cine = store.cines_of(patients)
    cine = cine[np.isin(value[cine], names)]
    return Planes(cine, np.searchsorted(names, value[cine]).astype(np.int64), store.cines.patient[cine], names)


def columns_of(store, column):
    """[the column], or those that "a+b" joins where the store has no column of this whole name."""
    return [column] if column in store.attributes else column.split(JOINED)


def known_columns(store, column):
    """Whether attributes.csv has the column, or all that it joins."""
    return all(part in store.attributes for part in columns_of(store, column))


def _texts(store, column):
    parts = columns_of(store, column)
    for part in parts:
        if part not in store.attributes:
            there = ", ".join(map(repr, store.attributes)) or "none"
            raise UserError(f"{store.path / 'attributes.csv'}: it has no column {part!r}; its columns are {there}")
    return np.array([JOINED.join(filter(None, texts)) for texts in zip(*(store.attributes[part] for part in parts), strict=True)], str)


class _Drawn:
    """Which stills and sweeps a step has: of each kind all are dealt out once in random order before any comes again."""

    def __init__(self, store, patients, *, stills, sweeps, shortest, column, ignore, seed):
        self.store, self.seed, self.counts = store, seed, (stills, sweeps)
        self.label, self.names = np.full(len(store.cines.frames), -1, np.int32), ()
        found = np.zeros(0, np.int64)
        if stills:
            planes = labelled_planes(store, patients, column=column, ignore=ignore)
            found, self.names = planes.cine, planes.names
            self.label[planes.cine] = planes.label
        rest = np.setdiff1d(store.cines_of(patients), found)
        self.ids = found, rest[store.cines.frames[rest] >= shortest]
        self.left_out = len(rest) - len(self.ids[1])
        for asked, ids, kind in zip(self.counts, self.ids, ("stills with a plane", f"sweeps of {shortest} frames or more"), strict=True):
            if asked > len(ids):
                shorter = kind.startswith("sweeps") and asked <= len(rest) and shortest > 1
                how = f"{self.left_out} are shorter: lower frames" if shorter else "lower batch, or change share"
                raise UserError(f"config.anatomy.batch: by share and frames it asks for {asked} {kind}, there are {len(ids)}; {how}")

    def cines(self, step):
        """int64 [stills], int64 [sweeps]: the cines of this step, all different."""
        drawn = zip(self.ids, self.counts, (self.seed + _STILLS, self.seed), strict=True)
        return [deal(ids, count, seed=seed, step=step) if count else ids[:0] for ids, count, seed in drawn]


class PlaneBatches(_Drawn):
    """`batch` frames a step: at least a `share` of them stills, the rest `frames` frames of each of some sweeps. Of (seed, step) alone.

    There are floor((1 - share) batch / frames) sweeps; stills, which stand first, fill the batch. Frames of a sweep are different and lie
    within `reach` of its frames that follow one another, any such place being as likely; 0: anywhere in it. Sweeps of fewer than `frames`
    frames are never drawn, and `left_out` counts them. `names` are those of the labels.

    Raises: UserError where there are too few stills or sweeps, for a reach below `frames`, and for a share of 0 with a batch that is no
    multiple of `frames`. A share of 0 takes every cine for a sweep and asks for no column.
    """

    def __init__(self, store, patients, *, batch, share, frames, column, ignore=(), reach=0, seed):
        sweeps = int((1 - share) * batch / frames + 1e-9)
        if not share and batch % frames:
            raise UserError(f"config.anatomy.batch: found {batch}; without stills (share=0) it must be a multiple of frames={frames}")
        if 0 < reach < frames:
            raise UserError(f"reach: found {reach}; {frames} frames of a sweep do not lie within it")
        options = {"shortest": frames, "column": column, "ignore": ignore, "seed": seed}
        super().__init__(store, patients, stills=batch - frames * sweeps, sweeps=sweeps, **options)
        self.size, self.frames, self.reach = batch, frames, reach

    def indices(self, step):
        """int64 [2, batch]: cine and frame of every row, without reading a pixel."""
        (stills, sweeps), rng, length = self.cines(step), rng_of(self.seed, step), self.store.cines.frames
        shown = rng.integers(0, length[stills])
        drawn = [self._some(rng, int(length[cine])) for cine in sweeps]
        return np.stack([np.concatenate([stills, np.repeat(sweeps, self.frames)]), np.concatenate([shown, *drawn])]).astype(np.int64)

    def _some(self, rng, length):
        room = min(self.reach or length, length)
        return rng.integers(0, length - room + 1) + rng.permutation(room)[: self.frames]

    def batch(self, step, *, rows=slice(None)):
        """The batch of this step, or the rows of it that a slice names: `read_cines`, and label int32 [batch], -1 where unknown."""
        cine, frame = self.indices(step)[:, rows]
        return read_cines(self.store, cine, frame) | {"label": self.label[cine]}


class CineTriples(_Drawn):
    """`batch` cines a step, three frames of each, as USCL draws them: different ones from anywhere in it. Of (seed, step) alone.

    At least a `share` of the cines are stills. Of two frames the third place has the first again, of one all three have it: see
    `uscl.augment.mix_frames`, which wants to know by length. Raises: UserError where there are too few stills or other cines.
    """

    def __init__(self, store, patients, *, batch, share, column, ignore=(), seed):
        sweeps = int((1 - share) * batch + 1e-9)
        super().__init__(store, patients, stills=batch - sweeps, sweeps=sweeps, shortest=1, column=column, ignore=ignore, seed=seed)
        self.size = batch

    def indices(self, step):
        """Cine int64 [batch] and frame int64 [batch, 3], without reading a pixel."""
        cine, rng = np.concatenate(self.cines(step)), rng_of(self.seed, step)
        return cine, np.stack([np.resize(rng.permutation(int(n))[:3], 3) for n in self.store.cines.frames[cine]])

    def batch(self, step, *, rows=slice(None)):
        """image uint8 [batch, 3, S, S, 1], frame [batch, 3]; cine, length, label [batch], int32, -1 where the plane is unknown."""
        cine, frame = self.indices(step)
        return read_clips(self.store, cine[rows], frame[rows]) | {"label": self.label[cine[rows]]}
