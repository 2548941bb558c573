"""Batches of clips: a few frames that follow one another, from each of several cines."""

import numpy as np

from uscl.data.loader import deal, drawable, rng_of, turns
from uscl.types import UserError


def read_clips(store, cine, frame):
    """The batch of these clips, cine [B] and frame [B, T]: image uint8 [B, T, S, S, 1]; cine and length (frames in that
    cine) [B], frame [B, T] int32. A host of many reads its slice of the two."""
    image = store.frames[store.cines.first[cine][:, None] + frame][..., None]
    numbers = {"cine": cine, "frame": frame, "length": store.cines.frames[cine]}
    return {"image": image, **{name: values.astype(np.int32) for name, values in numbers.items()}}


def spaced_clips(store, cine, *, frames, stride=1, count=1):
    """Frame int64 [len(cine), count, frames] of `count` clips spread evenly over each cine; a single one stands in its middle.

    A cine too short for a clip is held at its end, as in `ClipBatches`, and gives the same clip `count` times.

    Known values: 10 frames, clips of 4: from 3 for one clip, from 0, 3 and 6 for three.
    """
    moved = _moved(store, cine, frames, stride)
    room = store.cines.frames[cine][:, None] - 1 - moved[:, -1:]
    share = np.array([0.5]) if count == 1 else np.linspace(0, 1, count)
    return np.floor(share * room).astype(np.int64)[:, :, None] + moved[:, None, :]


def _moved(store, cine, frames, stride):
    """[len(cine), frames]: how far each frame of a clip lies behind its first."""
    return np.minimum(np.arange(frames), (store.cines.frames[cine][:, None] - 1) // stride) * stride


def _anywhere(store, cine, frames, stride, rng):
    """[len(cine), frames]: a clip of each cine, each place where it fits being as likely."""
    moved = _moved(store, cine, frames, stride)
    return rng.integers(0, store.cines.frames[cine][:, None] - moved[:, -1:]) + moved


class ClipBatches:
    """`clips` clips a step, each of a different cine: `frames` frames, `stride` apart. A pure function of (seed, step).

    Cines of `patients`: as `uscl.data.loader.deal` has it. Those of fewer than `shortest` frames are never drawn;
    `left_out` counts them.

    A clip starts anywhere it fits, each place being as likely. A cine too short for it gives all the frames, `stride`
    apart, that it has and then repeats the last of them, so that time stands still rather than runs backwards or skips;
    such frames are those with the frame number of the one before. shortest = (frames - 1) stride + 1 keeps short cines out.

    Raises:
      UserError: fewer cines than `clips`; clips, frames or stride below 1.
    """

    def __init__(self, store, patients, *, clips, frames, stride=1, seed, shortest=1):
        if min(frames, stride) < 1:
            raise UserError(f"{frames=}, {stride=}: each must be at least 1")
        self.ids, self.left_out = drawable(store, patients, count=clips, shortest=shortest, key="clips")
        self.store, self.frames, self.stride, self.seed = store, frames, stride, seed
        self.size = self.clips = clips

    def indices(self, step):
        """Cine int64 [clips] and frame int64 [clips, frames] of the batch, without reading a pixel."""
        cine = deal(self.ids, self.clips, seed=self.seed, step=step)
        return cine, _anywhere(self.store, cine, self.frames, self.stride, rng_of(self.seed, step))

    def batch(self, step, *, rows=slice(None)):
        """The batch of this step, or the rows of it that a slice names; see `read_clips`."""
        cine, frame = self.indices(step)
        return read_clips(self.store, cine[rows], frame[rows])


class LabelledClips:
    """`batch` clips a step from the videos `cine` [n] with their labels [n]: "target" int32 [batch] beside what `read_clips` gives.

    Permutations of the videos follow one another without a gap, so a batch may be larger than their number; a clip starts anywhere it
    fits. A pure function of (seed, step). UserError: no video.
    """

    def __init__(self, store, cine, label, *, batch, frames, stride=1, seed):
        self.store, self.cine, self.label = store, np.asarray(cine), np.asarray(label)
        self.size, self.frames, self.stride, self.seed = batch, frames, stride, seed
        if not len(self.cine):
            raise UserError("labelled videos: there are 0 to learn from; at least 1 is needed")

    def batch(self, step, *, rows=slice(None)):
        """The batch of this step, or the rows of it that a slice names."""
        place = turns(len(self.cine), self.size, seed=self.seed, step=step)
        frame = _anywhere(self.store, self.cine[place], self.frames, self.stride, rng_of(self.seed, step))
        return read_clips(self.store, self.cine[place][rows], frame[rows]) | {"target": self.label[place][rows].astype(np.int32)}
