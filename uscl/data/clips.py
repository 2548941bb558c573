"""Batches of clips: a few frames that follow one another, from each of several cines."""

import numpy as np

from uscl.data.loader import deal, drawable, rng_of
from uscl.types import UserError


def read_clips(store, cine, frame):
    """The batch of these clips, cine [B] and frame [B, T]: image uint8 [B, T, S, S, 1]; cine and length (frames in that
    cine) [B], frame [B, T] int32. A host of many reads its slice of the two."""
    image = store.frames[store.cines.first[cine][:, None] + frame][..., None]
    numbers = {"cine": cine, "frame": frame, "length": store.cines.frames[cine]}
    return {"image": image, **{name: values.astype(np.int32) for name, values in numbers.items()}}


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
        self.store, self.clips, self.frames, self.stride, self.seed = store, clips, frames, stride, seed

    def indices(self, step):
        """Cine int64 [clips] and frame int64 [clips, frames] of the batch, without reading a pixel."""
        cine = deal(self.ids, self.clips, seed=self.seed, step=step)
        length = self.store.cines.frames[cine][:, None]
        moved = np.minimum(np.arange(self.frames), (length - 1) // self.stride) * self.stride  # since the clip's start
        start = rng_of(self.seed, step).integers(0, length - moved[:, -1:])
        return cine, start + moved

    def batch(self, step):
        return read_clips(self.store, *self.indices(step))
