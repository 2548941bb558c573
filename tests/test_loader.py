"""The loader: batches hold the pixels they name, depend on (seed, step) alone, draw frames as often as they should."""

import copy
from collections import Counter

import numpy as np
import pytest

from uscl.data.clips import ClipBatches
from uscl.data.loader import SAMPLINGS, CineBatches, LabelledBatches, all_rows
from uscl.data.pixels import Pixels
from uscl.data.prefetch import prefetch
from uscl.data.store import Store
from uscl.data.writer import StoreWriter
from uscl.types import UserError

LENGTHS = (22, 9, 30, 8, 3, 17, 1, 40, 12, 25)
PATIENTS = [f"p{n}" for n in range(10)]
LONG = ["p0", "p1", "p2", "p3", "p5", "p7", "p8", "p9"]  # at least 8 frames


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Ten patients with a cine each. The first pixels of a frame are cine and time, those of a label time and cine."""
    path = tmp_path_factory.mktemp("loader") / "store"
    with StoreWriter(path, size=6, classes={"a": list(range(1, 41))}) as writer:
        for cine, length in enumerate(LENGTHS):
            frames = np.zeros((length, 6, 6), np.uint8)
            frames[:, 0, 0], frames[:, 5, 5] = cine, np.arange(length)
            labels = {t: np.full((6, 6), t, np.uint8) for t in range(0, length, 4)}
            mm = None if cine == 3 else 0.1 * (cine + 1)
            writer.add(patient=f"p{cine}", frames=frames, labels=labels, mm_per_pixel=mm, source=f"file{cine}.dcm")
    return Store.open(path)


def batches(store, patients=PATIENTS, *, cines=3, frames=4, sampling="uniform", seed=0, **options):
    return CineBatches(store, patients, cines=cines, frames=frames, sampling=sampling, seed=seed, **options)


def drawn(source, steps):
    """Counts of (cine, frame) over the steps, without reading a pixel."""
    return Counter(map(tuple, np.concatenate([source.indices(step) for step in range(steps)], axis=1).T.tolist()))


def expect(counts, probability, draws):
    """Every count lies within 5 binomial standard deviations, and impossible outcomes never came."""
    for key, p in probability.items():
        assert abs(counts[key] - draws * p) <= 5 * np.sqrt(draws * p * (1 - p)), (key, counts[key], draws * p)
    assert set(counts) <= {key for key, p in probability.items() if p > 0}


# ---- what a batch is ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("sampling", ["uniform", "neighbours", "parts"])
def test_a_batch_holds_the_pixels_it_names(store, sampling):
    for step in range(5):
        batch = batches(store, LONG, sampling=sampling).batch(step)
        assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
            "image": ((12, 6, 6, 1), np.uint8),
            **dict.fromkeys(("cine", "frame", "length"), ((12,), np.int32)),
        }
        assert type(batch["image"]) is np.ndarray  # pixels in memory, no view of the file
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["cine"])
        np.testing.assert_array_equal(batch["image"][:, 5, 5, 0], batch["frame"])
        np.testing.assert_array_equal(batch["length"], np.take(LENGTHS, batch["cine"]))
        assert (batch["frame"] < batch["length"]).all()
        by_cine = batch["cine"].reshape(3, 4)
        assert (by_cine == by_cine[:, :1]).all() and len(set(by_cine[:, 0])) == 3


@pytest.mark.parametrize("sampling", ["uniform", "neighbours", "parts"])
def test_pure_function_of_seed_and_step(store, sampling):
    one = batches(store, LONG, sampling=sampling)
    forward = [one.indices(step) for step in range(40)]
    again = batches(store, LONG[::-1], sampling=sampling)  # a resumed run: new object, starts in the middle, any order
    for step in (39, 17, 0, 38, 17):
        np.testing.assert_array_equal(again.indices(step), forward[step])
        np.testing.assert_array_equal(again.batch(step)["frame"], forward[step][1])
    assert len({f.tobytes() for f in forward}) == 40
    assert batches(store, LONG, sampling=sampling, seed=1).indices(0).tolist() != forward[0].tolist()


def test_only_the_patients_asked_for(store):
    assert {cine for cine, _ in drawn(batches(store, ["p2", "p7", "p9"], cines=2), 200)} == {2, 7, 9}


def test_an_epoch_uses_no_cine_twice_and_all_have_their_turn(store):
    """10 cines by 3: epochs of 3 batches with 9 different cines; each sits out in a tenth of the epochs."""
    source = batches(store, cines=3, frames=1)
    missing = Counter()
    for epoch in range(400):
        seen = np.concatenate([source.indices(3 * epoch + turn)[0] for turn in range(3)])
        assert len(set(seen)) == 9
        missing[(set(range(10)) - set(seen)).pop()] += 1
    expect(missing, dict.fromkeys(range(10), 0.1), 400)
    assert len({source.indices(3 * epoch)[0].tobytes() for epoch in range(20)}) > 15


# ---- which frames ---------------------------------------------------------------------------------------------------
def test_uniform(store):
    counts = drawn(batches(store, ["p1"], cines=1, frames=4), 2000)
    expect(counts, {(1, t): 4 / 9 for t in range(9)}, 2000)
    for step in range(200):
        assert len(set(batches(store, ["p1"], cines=1, frames=9).indices(step)[1])) == 9


def test_frames_follow_the_seed_and_the_step(store):
    """One cine, so that its turn is no chance; then two cines of an epoch, whose relative times are unrelated."""
    one, other = ([batches(store, ["p7"], cines=1, seed=s).indices(n)[1].tolist() for n in range(20)] for s in (0, 1))
    assert not any(a == b for a, b in zip(one, other, strict=True))
    source = batches(store, ["p0", "p9"], cines=1, frames=1)
    place = [frame[0] / LENGTHS[cine[0]] for cine, frame in map(source.indices, range(400))]
    assert abs(np.corrcoef(place[::2], place[1::2])[0, 1]) < 0.3


def test_short_cines_repeat_frames(store):
    """3 frames for 4 draws: with replacement, so a frame is there 4/3 times on average; one frame: four times."""
    counts = drawn(batches(store, ["p4", "p6"], cines=2, frames=4), 1000)
    assert counts[6, 0] == 4000
    expect(Counter({t: counts[4, t] for t in range(3)}), dict.fromkeys(range(3), 1 / 3), 4000)


def test_parts(store):
    """22 frames in 4 parts, 4 t // 22: 0-5, 6-10, 11-16, 17-21, so of 6, 5, 6 and 5 frames 2 each. Index mod 4 is the part."""
    source = batches(store, ["p0"], cines=1, frames=8, sampling="parts")
    sizes = [6, 5, 6, 5]
    expect(drawn(source, 1000), {(0, t): 2 / sizes[4 * t // 22] for t in range(22)}, 1000)
    for step in range(100):
        frame = source.indices(step)[1]
        np.testing.assert_array_equal(4 * frame // 22, np.arange(8) % 4)
        assert len(set(frame)) == 8
    batch = batches(store, LONG, cines=5, frames=4, sampling="parts").batch(3)  # over the whole batch too
    np.testing.assert_array_equal(4 * batch["frame"] // batch["length"], np.arange(20) % 4)


def test_cines_shorter_than_asked_sit_out(store):
    source = batches(store, ["p0", "p4", "p6"], cines=1, frames=2, shortest=4)
    assert {int(source.indices(step)[0, 0]) for step in range(20)} == {0} and source.left_out == 2
    with pytest.raises(UserError, match="asks for 2 cines, the patients have 1 of 4 frames or more"):
        batches(store, ["p0", "p4"], cines=2, frames=2, shortest=4)


def test_parts_as_short_as_a_frame(store):
    frame = batches(store, ["p4"], cines=1, frames=6, sampling="parts", parts=3).indices(0)[1]
    assert frame.tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("reach", [1, 2, 5, 50])
def test_neighbours(store, reach):
    """Anchors are even; a partner is drawn evenly among the others in reach, by an enumeration of all pairs."""
    length, steps = 17, 1500
    source = batches(store, ["p5"], cines=1, frames=2, sampling="neighbours", reach=reach)
    pairs = Counter(tuple(source.indices(step)[1].tolist()) for step in range(steps))
    probability = {}
    for anchor in range(length):
        others = [t for t in range(length) if t != anchor and abs(t - anchor) <= reach]
        probability |= {(anchor, t): 1 / length / len(others) for t in others}
    expect(pairs, probability, steps)
    anchors = Counter(anchor for anchor, _ in pairs.elements())
    expect(anchors, dict.fromkeys(range(length), 1 / length), steps)


def test_neighbours_have_different_anchors(store):
    for step in range(100):
        _, frame = batches(store, ["p1"], cines=1, frames=12, sampling="neighbours", reach=2).indices(step)
        anchor, partner = frame.reshape(6, 2).T
        assert len(set(anchor)) == 6 and (abs(anchor - partner) <= 2).all() and (anchor != partner).all()
    assert not batches(store, ["p6"], cines=1, frames=4, sampling="neighbours").indices(0)[1].any()  # one frame only


@pytest.mark.parametrize("options,says", [
    ({"cines": 11}, "cines: a batch asks for 11 cines, the patients have 10"),
    ({"sampling": "random"}, "sampling: found 'random'; allowed is one of 'uniform', 'neighbours', 'parts'"),
    ({"sampling": "neighbours", "frames": 3}, "frames: found 3; sampling 'neighbours' .* must be even"),
    ({"sampling": "parts", "frames": 6}, "frames: found 6; sampling 'parts' needs a multiple of parts=4"),
    ({"sampling": "parts"}, r"parts: cine 4 \(file4.dcm\) has 3 frames; sampling 'parts' needs at least parts=4"),
    ({"frames": 0}, "frames=0.* at least 1"),
    ({"cines": 0}, "cines: found 0; a batch holds at least 1"),
    ({"reach": 0}, "reach=0.* at least 1"),
])  # fmt: skip
def test_what_cannot_be_drawn(store, options, says):
    with pytest.raises(UserError, match=says):
        batches(store, **options)


# ---- labelled -------------------------------------------------------------------------------------------------------
def rows_seen(store, batch):
    """Finds each row by the cine and time written in its pixels."""
    index = {(c, t): r for r, (_, c, t) in enumerate(store.labelled.tolist())}
    return [index[int(i[0, 0, 0]), int(i[5, 5, 0])] for i in batch["image"]]


def test_labelled_batches(store):
    rows = store.rows_of(["p2", "p3", "p9"])  # 8 + 2 + 7
    source = LabelledBatches(store, rows, batch=5, seed=0)
    batch = source.batch(2)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
        "image": ((5, 6, 6, 1), np.uint8), "label": ((5, 6, 6), np.uint8), "mm": ((5,), np.float32),
        "cine": ((5,), np.int32), "frame": ((5,), np.int32),
    }  # fmt: skip
    seen = []
    for step in range(17):  # 85 rows: five epochs
        batch = source.batch(step)
        np.testing.assert_array_equal(batch["label"][:, 2, 2], batch["frame"])
        np.testing.assert_array_equal(batch["image"][:, 5, 5, 0], batch["frame"])
        mm = np.where(batch["cine"] == 3, np.nan, 0.1 * (batch["cine"] + 1))
        np.testing.assert_allclose(batch["mm"], mm, rtol=1e-6)
        seen += rows_seen(store, batch)
    epochs = np.reshape(seen, (5, 17))
    assert all(sorted(epoch) == rows.tolist() for epoch in epochs) and len({e.tobytes() for e in epochs}) == 5
    again = LabelledBatches(store, rows, batch=5, seed=0)
    for step in (9, 0, 16):
        assert rows_seen(store, again.batch(step)) == seen[5 * step : 5 * step + 5]
    assert rows_seen(store, LabelledBatches(store, rows, batch=5, seed=1).batch(0)) != seen[:5]


@pytest.mark.parametrize("count", [1, 3])
def test_batches_larger_than_the_labels(store, count):
    source = LabelledBatches(store, np.arange(count) + 4, batch=8, seed=0)
    seen = np.concatenate([rows_seen(store, source.batch(step)) for step in range(3)])
    assert len(seen) == 24 and all(sorted(e) == list(range(4, 4 + count)) for e in seen.reshape(-1, count))
    with pytest.raises(UserError, match="there are 0 to learn from"):
        LabelledBatches(store, [], batch=8, seed=0)


@pytest.mark.parametrize("batch", [1, 4, 5, 17, 30])
def test_all_rows(store, batch):
    rows = store.rows_of(["p2", "p3", "p9"])[::-1]
    parts = list(all_rows(store, rows, batch))
    assert all(len(part[name]) == batch for part in parts for name in part) and len(parts) == -(-17 // batch)
    valid = np.concatenate([part["valid"] for part in parts])
    seen = np.concatenate([rows_seen(store, part) for part in parts])
    assert seen[valid].tolist() == rows.tolist() and (seen[~valid] == rows[-1]).all() and valid.dtype == bool
    assert list(all_rows(store, [], batch)) == []


# ---- workers and resuming -------------------------------------------------------------------------------------------
SOURCES = {
    **{sampling: lambda store, sampling=sampling: batches(store, LONG, sampling=sampling) for sampling in SAMPLINGS},
    "labelled": lambda store: LabelledBatches(store, store.rows_of(["p2", "p3", "p9"]), batch=5, seed=0),
    "clips": lambda store: ClipBatches(store, PATIENTS, clips=3, frames=6, stride=2, seed=0),
}


def same(one, other):
    assert one.keys() == other.keys() and all(one[name].dtype == other[name].dtype for name in one)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("name", SOURCES)
def test_the_same_batch_for_any_number_of_workers_and_any_resume(store, name):
    """30 steps in line, then by 1 and 4 threads from objects of their own; resumed at every one of the steps."""
    first = SOURCES[name](store)
    forward = [first.batch(step) for step in range(30)]
    assert len({batch["image"].tobytes() for batch in forward}) > 20
    for workers in (0, 1, 4):
        with prefetch(SOURCES[name](store).batch, 0, 30, depth=6, workers=workers) as ahead:
            for one, other in zip(ahead, forward, strict=True):
                same(one, other)
    for start in range(30):
        with prefetch(SOURCES[name](store).batch, start, 30, depth=2, workers=(0, 1, 4)[start % 3]) as ahead:
            same(next(ahead), forward[start])


@pytest.mark.parametrize("name", SOURCES)
def test_pixels_read_or_mapped_give_the_same_batch(store, name):
    mapped = copy.copy(store)
    mapped.frames, mapped.labels = (np.load(store.path / f"{stack}.npy", mmap_mode="r") for stack in ("frames", "labels"))
    read = copy.copy(store)
    read.frames, read.labels = (Pixels(stack.filename, *stack.shape[:2], stack.offset) for stack in (mapped.frames, mapped.labels))
    for step in range(5):
        same(SOURCES[name](mapped).batch(step), SOURCES[name](read).batch(step))
