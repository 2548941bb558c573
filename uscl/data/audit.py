"""Leaks: pictures that lie on both sides of a split, found from a fingerprint of 40 bytes a frame and proven on the pixels.

A fingerprint is 8 bytes that only the same pixels have and 256 bits that similar pictures share: signs of the lowest frequencies.
Frames that agree in some of those bits are candidates; what decides is how far the detail of the two pictures correlates once one is
laid on the other. Frames without a picture (black, constant, faint) match nothing, not even themselves.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import fft

from uscl.data.likeness import ALIKE, detail, likeness

KINDS = {"cine": "the same cine", "frame": "the same frame", "near": "nearly the same frame"}  # the surer first

GRID, EMPTY = 32, 2.0  # side on which frequencies are taken; standard deviation in gray levels below which there is no picture
COARSE, NEAR = 96, 76  # the lowest bits, which survive most and make the keys; most of the 256 bits that may differ
TABLES, LONGEST, BUDGET = 24, 32, 20_000_000  # keys, their bits at most, and pairs a table may compare
EXHAUSTIVE = 10_000  # up to so many frames every pair is compared
PROVEN = 200_000  # pairs of cines that are looked at on their pixels, the closest first


@dataclass(frozen=True, order=True)
class Leak:
    """Two cines of different parts that show the same: `kind` is a key of KINDS, frames count from 0 in their cine."""

    kind: str
    cine_a: int
    frame_a: int
    cine_b: int
    frame_b: int


_hann = np.cos((np.arange(GRID) + 0.5) / GRID * np.pi - np.pi / 2)
_hann = np.outer(_hann, _hann)  # corners, where device text stands, and the image's border weigh little
_cosines = fft.dct(np.eye(GRID), norm="ortho", axis=0)
_u, _v = np.indices((GRID, GRID))
_order = np.lexsort((_u.ravel(), (_u**2 + _v**2).ravel()))[1:257]  # from low to high frequency, the mean left out


def fingerprint(frame: np.ndarray) -> np.ndarray:
    """uint8 [S, S] -> uint8 [40]: 8 bytes of BLAKE2 of the pixels, then 256 bits, all 0 where the frame has no picture.

    Known values: a constant frame ends in 32 zeros. A frame 20 gray levels brighter has other first 8 bytes and the same bits.
    """
    small = np.asarray(Image.fromarray(frame).resize((GRID, GRID), Image.Resampling.BOX), np.float64)
    level = small - (small * _hann).sum() / _hann.sum()
    bits = np.zeros(256, bool)
    if (level**2 * _hann).sum() > EMPTY**2 * _hann.sum():
        bits = (_cosines @ (level * _hann) @ _cosines.T).ravel()[_order] > 0
    digest = hashlib.blake2b(np.ascontiguousarray(frame), digest_size=8).digest()
    return np.concatenate([np.frombuffer(digest, np.uint8), np.packbits(bits, bitorder="little")])


def leaks(
    prints: np.ndarray, cine: np.ndarray, patient: Sequence[str], part: Mapping[str, str], read: Callable[[np.ndarray], np.ndarray]
) -> list[Leak]:
    """What two parts of a split share: one Leak for a pair of cines, the surest kind of it first, then by cine.

    Where many cines share one picture, each is named with one partner, not with all. The first two kinds are exact. Near frames are
    sought by keys and proven on the pixels: of 330 real frames of side 96 (192), re-encoded as JPEG or H.264, brightened, moved by two
    pixels, resized by 5 %, written over, or several of these, 84 to 100 % (99 to 100 %) are found.

    Args:
      prints: uint8 [F, 40], a `fingerprint` of each frame, cine after cine.      cine: int [F], ascending: the cine of each frame.
      patient: of each cine.      part: {patient: any name of a part}; the folds of a cross-validation are parts too.
      read: int [n] places in `prints` -> uint8 [n, S, S], the frames.
    """
    cine = np.asarray(cine, np.int64)
    first = np.searchsorted(cine, np.arange(len(patient) + 1))
    side = np.unique([part[name] for name in patient], return_inverse=True)[1][cine]
    exact = np.ascontiguousarray(prints[:, :8]).view("<u8")[:, 0]
    words = np.ascontiguousarray(prints[:, 8:]).view("<u8")
    shown = np.flatnonzero(words.any(1))
    found: dict[tuple[int, int], Leak] = {}

    def keep(kind: str, i: np.ndarray, j: np.ndarray) -> None:
        for a, b in zip(np.minimum(i, j).tolist(), np.maximum(i, j).tolist(), strict=True):
            c, d = int(cine[a]), int(cine[b])
            found.setdefault((c, d), Leak(kind, c, a - int(first[c]), d, b - int(first[d])))

    loops = [c for c in np.unique(cine[shown]).tolist() if first[c + 1] - first[c] > 1]
    whole = [hashlib.blake2b(exact[first[c] : first[c + 1]], digest_size=8).digest() for c in loops]
    starts = first[loops] if loops else np.zeros(0, np.int64)
    keep("cine", *_across(np.frombuffer(b"".join(whole), "<u8"), starts, side))
    keep("frame", *_across(exact[shown], shown, side))
    candidates = _candidates(words, shown, cine, side)
    settled = np.array([a * len(patient) + b for a, b in found], np.int64)
    i, j = candidates[:, ~np.isin(_code(cine, *candidates, len(patient)), settled)]
    i, j = _closest(words, first, cine, i, j)
    i, j = (place[exact[i] != exact[j]] for place in (i, j))  # what is exactly the same has named both already
    alike = np.zeros(len(i), bool)
    for n in range(0, len(i), 128):
        few = slice(n, n + 128)
        pictures = [np.stack([detail(f) for f in read(place[few])]) for place in (i, j)]
        alike[few] = [likeness(a, b) >= ALIKE for a, b in zip(*pictures, strict=True)]
    keep("near", i[alike], j[alike])
    return sorted(found.values(), key=lambda leak: (list(KINDS).index(leak.kind), leak))


def message(found: Sequence[Leak], names: Sequence[str]) -> str:
    """One sentence for `found` (not empty): the first three pairs by name, how many there are, and what to do. names: of each cine."""
    told = [
        f"{names[x.cine_a]} and {names[x.cine_b]} ({KINDS[x.kind]}" + (")" if x.kind == "cine" else f": {x.frame_a} and {x.frame_b})")
        for x in found[:3]
    ]
    more = f", and {len(found) - 3} more" if len(found) > 3 else ""
    pairs = "1 pair of recordings shows" if len(found) == 1 else f"{len(found)} pairs of recordings show"
    todo = "give both files one patient in the --patients table, or drop one of them"
    return f"{pairs} the same on two sides of the split: {'; '.join(told)}{more}; {todo}"


def _across(key: np.ndarray, place: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places with equal keys on different sides: each is paired with the first one of its key that lies on another side."""
    if not len(key):
        return place, place
    order = np.lexsort((place, key))
    key, place = key[order], place[order]
    starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
    group = np.cumsum(np.r_[False, key[1:] != key[:-1]])
    mine, lead = side[place], starts[group]
    other = np.minimum.reduceat(np.where(mine != mine[lead], np.arange(len(key)), len(key)), starts)[group]
    mixed = other < len(key)
    return place[mixed], place[np.where(mine != mine[lead], lead, other)[mixed]]


def _code(cine: np.ndarray, i: np.ndarray, j: np.ndarray, cines: int) -> np.ndarray:
    return np.minimum(cine[i], cine[j]) * cines + np.maximum(cine[i], cine[j])


def _candidates(words: np.ndarray, shown: np.ndarray, cine: np.ndarray, side: np.ndarray) -> np.ndarray:
    """int64 [2, n]: the closest frames met of each pair of cines on two sides, at most NEAR bits apart."""
    cines, length, best = int(cine[-1]) + 1 if len(cine) else 0, 0, np.zeros((3, 0), np.int64)
    if len(np.unique(side[shown])) < 2:
        return best[:2]
    rng = np.random.default_rng(0)
    for _ in range(1 if len(shown) <= EXHAUSTIVE else TABLES):
        key, order = np.zeros(len(shown), np.uint64), np.argsort(cine[shown], kind="stable")
        if len(shown) > EXHAUSTIVE:
            for bit in rng.permutation(COARSE)[:LONGEST]:
                key = key << np.uint64(1) | words[shown, bit // 64] >> np.uint64(bit % 64) & np.uint64(1)
            key, order, length = _entries(key, cine[shown], length)
        fresh = [best]
        for low, high in _same_key(key, shown[order], side):
            apart = np.bitwise_count(words[low] ^ words[high]).sum(1, dtype=np.int64)
            near = apart <= NEAR
            fresh.append(np.stack([low[near], high[near], apart[near]]))
            if sum(f.shape[1] for f in fresh) > 2 * best.shape[1] + 1_000_000:
                fresh = [best := _nearest(np.concatenate(fresh, 1), cine, cines)]
        best = _nearest(np.concatenate(fresh, 1), cine, cines)
    return best[:2, np.argsort(best[2], kind="stable")[:PROVEN]]


def _entries(key: np.ndarray, cine: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Keys cut to so many bits that few enough pairs share one, sorted; a cine enters each key once. Also the places and the bits."""
    for bits in range(length or 12, LONGEST + 1):
        cut = key >> np.uint64(LONGEST - bits) << np.uint64(24) | cine.astype(np.uint64)
        cut, order = np.unique(cut, return_index=True)
        sizes = np.unique(cut >> np.uint64(24), return_counts=True)[1]
        if (sizes * (sizes - 1) // 2).sum() <= BUDGET:
            break
    return cut >> np.uint64(24), order, bits


def _same_key(key: np.ndarray, place: np.ndarray, side: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of places whose (sorted) keys are the same and whose sides are not, in pieces no longer than `key`."""
    left, step = np.arange(len(key)), 0
    while len(left):
        step += 1
        left = left[left + step < len(key)]
        left = left[key[left] == key[left + step]]
        low, high = place[left], place[left + step]
        apart = side[low] != side[high]
        yield low[apart], high[apart]


def _nearest(pairs: np.ndarray, cine: np.ndarray, cines: int) -> np.ndarray:
    """[3, n] of (place, place, distance): of each pair of cines the one with the least distance."""
    code = _code(cine, pairs[0], pairs[1], cines)
    pairs = pairs[:, order := np.lexsort((pairs[2], code))]
    return pairs[:, np.r_[True, np.diff(code[order]) > 0][: pairs.shape[1]]]


def _closest(words: np.ndarray, first: np.ndarray, cine: np.ndarray, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Moves j to the frame of its cine that is most like i, then i to the one most like that."""
    i, j = i.copy(), j.copy()
    for n in range(len(i)):
        for fixed, moved in ((i, j), (j, i)):
            start, stop = first[cine[moved[n]]], first[cine[moved[n]] + 1]
            moved[n] = start + np.bitwise_count(words[start:stop] ^ words[fixed[n]]).sum(1).argmin()
    return i, j
