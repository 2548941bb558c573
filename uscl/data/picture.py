"""The part of a recording that is ultrasound: what to crop to, and the mask of the beam inside it, from one look at all frames."""

import math
from dataclasses import dataclass

import numpy as np

from uscl.data import beam
from uscl.types import UserError

SIDE = 400  # samples along the longer side that statistics are kept of: a beam is large, and this keeps them cheaper than the decoding
JUMP = 8  # gray levels a rise counts at most: tissue glimmers all the time, a clock or a trace leaps now and then
SMALL = 8  # samples along the shorter side; there is no telling text from tissue in less
BELIEVABLE = (0.15, 0.90)  # share of the picture a beam covers; Open Kidney's authors found this range
FULL = 0.95  # a beam that covers this much of its own box is all of it


@dataclass(frozen=True)
class Picture:
    """box: rows and columns to crop to. beam: bool [h, w] inside the box. found: 'header', 'motion', 'shape' or 'whole'."""

    box: tuple[slice, slice]
    beam: np.ndarray
    found: str


class Watch:
    """Sees every frame of a recording once and then says where the ultrasound is. Keeps sums and the last frame, thinned out."""

    def __init__(self):
        self._shape: tuple[int, int] | None = None
        self._count = 0

    def see(self, frame: np.ndarray) -> None:
        """Takes in a frame of the whole image, uint8 [H, W]. Raises UserError where its size is not that of the frames before."""
        if self._shape is None:
            self._shape, self._step = frame.shape, math.ceil(max(frame.shape) / SIDE)
        elif frame.shape != self._shape:
            had, has = (" x ".join(map(str, shape)) for shape in (self._shape, frame.shape))
            raise UserError(f"frame {self._count} has {has} pixels, those before it {had}; the frames of a recording must be of one size")
        x = frame[:: self._step, :: self._step].copy()
        if not self._count:
            self._sum, self._rise = np.zeros(x.shape, np.uint32), np.zeros(x.shape, np.uint32)
        else:
            self._rise += np.minimum(np.maximum(x, self._last) - self._last, JUMP)
        self._sum += x
        self._last = x
        self._count += 1

    def picture(self, region: tuple[slice, slice] | None = None) -> Picture:
        """Where the ultrasound is. region: rows and columns of the tissue as the header has them, inside the image; it then is the box.

        The beam is what glimmers in most frames, if that is 15 to 90 % of the picture, and what looks like tissue and overlaps it. Stills
        and frozen cines are judged by looks alone. Where neither is believable, and where a beam fills its box, everything is kept.
        Raises ValueError before the first frame.
        """
        if self._shape is None:
            raise ValueError("there is no picture before a frame was seen")
        box = region or tuple(slice(0, n) for n in self._shape)
        mask, found = self._find(box)
        if region is None and found != "whole":
            box = tuple(slice(int(i[0]), int(i[-1]) + 1) for i in (np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))))
            mask = mask[box]
        if mask.mean() > FULL:
            mask = np.ones_like(mask)
        return Picture(box, mask, "header" if region else found)

    def _find(self, box: tuple[slice, slice]) -> tuple[np.ndarray, str]:
        shape = tuple(side.stop - side.start for side in box)
        part = tuple(slice(side.start // self._step, -(-side.stop // self._step)) for side in box)
        rise = self._rise[part] / max(1, self._count - 1)
        if min(rise.shape) < SMALL:
            return np.ones(shape, bool), "whole"
        moves = beam.areas(beam.behaves_like_tissue(rise))
        living = beam.hull(moves).mean() >= BELIEVABLE[0]
        looks = beam.areas(beam.looks_like_tissue(self._sum[part] / self._count, rise, least=1.5 if living else 0.5))
        mask, found = _judge(moves, looks)
        if found == "whole":
            return np.ones(shape, bool), found
        return beam.hull(mask, self._step, shape, margin=self._step), found


def _judge(moves: np.ndarray, looks: np.ndarray) -> tuple[np.ndarray, str]:
    """From the areas that move and those that look like tissue, bool [h, w], to the areas of the beam, and how it was found."""
    low, high = BELIEVABLE
    living, seen = (beam.hull(x).mean() for x in (moves, looks))
    if low <= living <= high:
        both = beam.joined(moves, looks)
        if beam.hull(both).mean() <= high:
            return both, "motion"
        edges = moves[0], moves[-1], moves[:, 0], moves[:, -1]
        if sum(edge.any() for edge in edges) < 2:  # a busy display all around; a cropped picture's tissue reaches its edges
            return moves, "motion"
    elif living < low <= seen <= high:
        return looks, "shape"
    return looks, "whole"


def apply(frame: np.ndarray, picture: Picture) -> np.ndarray:
    """A frame uint8 [H, W] cropped to the picture, black outside the beam: uint8 [h, w], its own memory."""
    return frame[picture.box] * picture.beam
