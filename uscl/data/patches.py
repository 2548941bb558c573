"""Training patches as nnU-Net draws them: cases with replacement, a fixed share of every batch around a pixel of some class.

Source: Isensee et al. 2021, version 2.8.1 of the code.
"""

from collections.abc import Sequence

import numpy as np

from uscl.data.cases import OUTSIDE, frame_and_label, prepare_case
from uscl.types import UserError

Size = tuple[int, int]


class PatchBatches:
    """Labelled batches of `batch` patches a step, of size `read`: the `patch` a network sees, enlarged so that turns have content.

    Patch i of a batch shows one of `rows`, each as likely as any other. For i >= round(batch (1 - foreground)), rounding halves to even,
    it has foreground: one of the classes present in that row is drawn, each as likely, then one of its pixels, each as likely, as the
    patch's centre; see `corner_of`. A row without any class, and every other i, gives a patch at random. Outside the row's crop the
    image is 0 and the label -1.

    A patch is a pure function of (seed, step, i). Its row is drawn without reading a pixel, so a slice of a batch reads its own rows
    alone; rows are prepared as they are drawn and nothing is kept, so memory does not grow with the store and threads do not meet.

    Args:
      store, rows: a `uscl.data.store.Store` and the rows of its labels to learn from.
      patch, read: (height, width) [px], the plan's and what `initial_patch` makes of it.
      batch: patches a step. foreground: share of them that is forced. masked: as in `prepare_case`.
      classes: lists of label values, a class each, as regions may overlap; None: each value from 1 on.

    Raises:
      UserError: no rows, or a batch below 1.
      ValueError: `read` smaller than `patch`.
    """

    def __init__(
        self,
        store,
        rows: np.ndarray,
        *,
        patch: Size,
        read: Size,
        batch: int,
        foreground: float = 0.33,
        masked: bool,
        classes: Sequence[Sequence[int]] | None = None,
        seed: int,
    ):
        self.store, self.rows, self.size, self.masked, self.seed = store, np.asarray(rows), batch, masked, seed
        self.patch, self.read = tuple(patch), tuple(read)
        if not len(self.rows):
            raise UserError("labelled frames: there are 0 to learn from; at least 1 is needed")
        if batch < 1:
            raise UserError(f"batch: found {batch}; a batch holds at least 1 patch")
        if any(whole < part for whole, part in zip(read, patch, strict=True)):
            raise ValueError(f"a patch of {self.read} is read, which does not hold the final one of {self.patch}")
        self.first_forced = round(batch * (1 - foreground))
        groups = [[value] for value in range(1, store.values)] if classes is None else classes
        self.owns = np.zeros((len(groups), store.values + 1), bool)  # the last column is that of -1 and stays False
        for owned, group in zip(self.owns, groups, strict=True):
            owned[list(group)] = True

    def batch(self, step: int, *, rows: slice = slice(None)) -> dict[str, np.ndarray]:
        """image float32 [B, *read, 1], label int16 [B, *read], cine and frame int32 [B] of this step, or of the patches a slice names."""
        asked = range(self.size)[rows]
        image = np.zeros((len(asked), *self.read, 1), np.float32)
        label = np.full((len(asked), *self.read), OUTSIDE, np.int16)
        shown = np.zeros(len(asked), int)
        for place, i in enumerate(asked):
            rng = np.random.default_rng(np.random.SeedSequence([self.seed, step, i], spawn_key=(2,)))
            shown[place] = self.rows[rng.integers(len(self.rows))]
            case = prepare_case(*frame_and_label(self.store, shown[place]), masked=self.masked)
            centre = self._foreground_pixel(rng, case.label) if i >= self.first_forced else None
            corner = corner_of(rng, case.image.shape, centre, patch=self.patch, read=self.read)
            place_at(image[place, ..., 0], case.image, corner)
            place_at(label[place], case.label, corner)
        labelled = self.store.labelled
        return {"image": image, "label": label} | {
            "cine": labelled.cine[shown].astype(np.int32),
            "frame": labelled.frame[shown].astype(np.int32),
        }

    def _foreground_pixel(self, rng: np.random.Generator, label: np.ndarray) -> Size | None:
        """A pixel of a class of this label, or None. The original draws from 10,000 pixels of a class (from 1 % of them, where that is
        more), chosen once; here all of them are at hand. Every pixel is as likely either way, taken over that choice."""
        present = np.zeros(self.owns.shape[1], bool)
        present[np.unique(label)] = True
        eligible = np.flatnonzero((self.owns & present).any(axis=1))
        if not len(eligible):
            return None
        pixels = np.flatnonzero(self.owns[eligible[rng.integers(len(eligible))]][label])
        return divmod(int(pixels[rng.integers(len(pixels))]), label.shape[1])


def corner_of(rng: np.random.Generator, shape: Size, centre: Size | None, *, patch: Size, read: Size) -> Size:
    """Where in an image of `shape` the first pixel of a patch of `read` lies; it may lie outside, and below 0.

    Along each axis let spare = max(read - patch, read - shape): what a patch at the border may hang over, both sides together. Corners go
    from -ceil(spare / 2) to shape + ceil(spare / 2) - read, each as likely where there is no centre. With one, the corner is centre -
    read // 2, or the lowest corner where that is more; nothing holds it at the high side.

    Known values (shape 256, patch 256, read 301): no centre -> -23 or -22; centre 0 -> -23, 128 -> -22, 255 -> 105.
    """
    corner = []
    for axis in range(2):
        over = -(-max(read[axis] - patch[axis], read[axis] - shape[axis]) // 2)
        if centre is None:
            corner.append(int(rng.integers(-over, shape[axis] + over - read[axis] + 1)))
        else:
            corner.append(max(-over, centre[axis] - read[axis] // 2))
    return tuple(corner)


def place_at(patch: np.ndarray, image: np.ndarray, corner: Size) -> None:
    """Writes into `patch` [h, w] what it shows of `image` [H, W] with its first pixel at `corner`; the rest of it stays as it is."""
    into, of = [], []
    for start, size, length in zip(corner, patch.shape, image.shape, strict=True):
        low, high = max(start, 0), min(start + size, length)
        into.append(slice(low - start, high - start))
        of.append(slice(low, high))
    patch[tuple(into)] = image[tuple(of)]
