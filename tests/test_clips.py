"""Clips: frames that follow one another, every place as likely, short cines held at their end, one cine a clip."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from uscl.data.clips import ClipBatches, read_clips
from uscl.types import UserError

LENGTHS = np.array([22, 9, 6, 5, 3, 17, 1, 40])


def store_of(lengths):
    """A cine a patient, in memory. Image [t] of cine c holds c and t."""
    cine, frame = (np.concatenate(x) for x in ([np.full(n, c) for c, n in enumerate(lengths)], [np.arange(n) for n in lengths]))
    frames = np.zeros((len(cine), 4, 4), np.uint8)
    frames[:, 0, 0], frames[:, 3, 3] = cine, frame
    cines = SimpleNamespace(first=np.cumsum(lengths) - lengths, frames=np.asarray(lengths))
    return SimpleNamespace(frames=frames, cines=cines, cines_of=lambda patients: np.flatnonzero(np.isin(np.arange(len(lengths)), patients)))


STORE = store_of(LENGTHS)


def source(patients=range(8), *, clips=3, frames=4, stride=1, seed=0, **options):
    return ClipBatches(STORE, list(patients), clips=clips, frames=frames, stride=stride, seed=seed, **options)


def test_a_batch_holds_the_pixels_it_names():
    for step in range(20):
        batch = source(frames=5, stride=2).batch(step)
        assert {name: (values.shape, values.dtype) for name, values in batch.items()} == {
            "image": ((3, 5, 4, 4, 1), np.uint8), "cine": ((3,), np.int32), "frame": ((3, 5), np.int32), "length": ((3,), np.int32),
        }  # fmt: skip
        np.testing.assert_array_equal(batch["image"][..., 0, 0, 0], np.repeat(batch["cine"][:, None], 5, 1))
        np.testing.assert_array_equal(batch["image"][..., 3, 3, 0], batch["frame"])
        np.testing.assert_array_equal(batch["length"], LENGTHS[batch["cine"]])
        assert len(set(batch["cine"])) == 3


@pytest.mark.parametrize("frames,stride", [(1, 1), (4, 1), (3, 5), (8, 2)])
def test_every_place_is_as_likely(frames, stride):
    """By enumeration of the places where a clip fits into the 22 frames of cine 0."""
    places = [tuple(range(start, 22, stride)[:frames]) for start in range(22) if start + (frames - 1) * stride < 22]
    clips, steps = source([0], clips=1, frames=frames, stride=stride), 1500
    found = Counter(tuple(clips.indices(step)[1][0].tolist()) for step in range(steps))
    assert set(found) == set(places)
    p = 1 / len(places)
    assert all(abs(count - steps * p) <= 5 * np.sqrt(steps * p * (1 - p)) for count in found.values()), found


@pytest.mark.parametrize("cine,frames,stride,allowed", [
    (6, 3, 1, {(0, 0, 0)}),  # one frame
    (4, 5, 1, {(0, 1, 2, 2, 2)}),  # 3 frames
    (3, 4, 2, {(0, 2, 4, 4)}),  # 5 frames
    (2, 4, 2, {(0, 2, 4, 4), (1, 3, 5, 5)}),  # 6 frames: two places, and no step of 1
    (2, 3, 2, {(0, 2, 4), (1, 3, 5)}),  # just fits
    (4, 3, 7, {(0, 0, 0), (1, 1, 1), (2, 2, 2)}),  # stride beyond the cine
])  # fmt: skip
def test_a_short_cine_stands_still_at_its_end(cine, frames, stride, allowed):
    clips = source([cine], clips=1, frames=frames, stride=stride)
    assert {tuple(clips.indices(step)[1][0].tolist()) for step in range(60)} == allowed


def test_an_epoch_deals_every_cine_once():
    """8 cines by 3: 2 batches an epoch, 6 different cines; each is left over in a quarter of the epochs."""
    clips, left = source(frames=1), Counter()
    for epoch in range(300):
        seen = np.concatenate([clips.indices(2 * epoch + turn)[0] for turn in range(2)])
        assert len(set(seen)) == 6
        left.update(set(range(8)) - set(seen))
    assert all(abs(left[cine] - 75) <= 5 * np.sqrt(300 * 3 / 16) for cine in range(8)), left


def test_pure_function_of_seed_and_step():
    forward = [source(frames=2).batch(step) for step in range(40)]
    again = source(reversed(range(8)), frames=2)  # a resumed run
    for step in (39, 17, 0, 38, 17):
        for name, values in again.batch(step).items():
            np.testing.assert_array_equal(values, forward[step][name])
    assert len({batch["frame"].tobytes() + batch["cine"].tobytes() for batch in forward}) > 35
    lone = [[source([7], clips=1, seed=seed).indices(step)[1][0, 0] for step in range(20)] for seed in (0, 1)]
    assert lone[0] != lone[1]


def test_a_host_reads_its_slice():
    clips = source(frames=3)
    whole = clips.batch(4)
    part = read_clips(STORE, *(numbers[1:3] for numbers in clips.indices(4)))
    for name, values in part.items():
        np.testing.assert_array_equal(values, whole[name][1:3])


def test_shorter_cines_sit_out():
    clips = source(frames=3, stride=4, shortest=9)
    assert clips.left_out == 4 and {int(c) for step in range(30) for c in clips.indices(step)[0]} == {0, 1, 5, 7}


@pytest.mark.parametrize("options,says", [
    ({"clips": 9}, "clips: a batch asks for 9 cines, the patients have 8; lower clips"),
    ({"clips": 5, "shortest": 9}, "asks for 5 cines, the patients have 4 of 9 frames or more"),
    ({"clips": 0}, "clips: found 0"),
    ({"frames": 0}, "frames=0.*at least 1"),
    ({"stride": 0}, "stride=0.*at least 1"),
])  # fmt: skip
def test_what_cannot_be_drawn(options, says):
    with pytest.raises(UserError, match=says):
        source(**options)
