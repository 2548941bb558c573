"""Labelled videos, the clips that are drawn from them, and the phantom lungs as a store."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from test_clips import LENGTHS, STORE, store_of

from uscl import config as uscl_config
from uscl.data.clips import LabelledClips, spaced_clips
from uscl.data.videos import labelled_videos
from uscl.stages import source
from uscl.train.logs import Log
from uscl.types import UserError

CLASSES = ("normal", "", "consolidation", "uncertain", "regular", "B-lines", "normal", "normal")
WAYS = {"column": "class", "negative": ("normal", "regular")}


def labelled(tmp_path, patients, **ways):
    """The store of test_clips, a cine a patient, with a column of classes."""
    cines = SimpleNamespace(frames=LENGTHS, patient=np.array([f"p{c}" for c in range(8)]))
    store = SimpleNamespace(path=tmp_path, attributes={"class": list(CLASSES), "probe": ["x"] * 8}, cines=cines,
                            cines_of=lambda names: np.flatnonzero(np.isin(cines.patient, list(names))))  # fmt: skip
    return labelled_videos(store, [f"p{c}" for c in patients], **WAYS | ways)


def test_labels_of_a_column(tmp_path):
    found = labelled(tmp_path, [6, 0, 1, 2, 3, 4, 5])
    assert (found.cine.tolist(), found.label.tolist()) == ([0, 2, 3, 4, 5, 6], [0, 1, 1, 0, 1, 0])
    assert found.patient.tolist() == ["p0", "p2", "p3", "p4", "p5", "p6"] and found.label.dtype == np.int64
    found = labelled(tmp_path, range(8), ignore=("uncertain", "B-lines"), shortest=6)  # 22 9 6 5 3 17 1 40 frames
    assert (found.cine.tolist(), found.label.tolist()) == ([0, 2, 7], [0, 1, 0])
    assert len(labelled(tmp_path, [1, 3], ignore=("uncertain",)).cine) == 0


def test_a_column_that_is_not_there_or_says_nothing(tmp_path):
    with pytest.raises(UserError, match=r"attributes.csv: it has no column 'sex'; its columns are 'class', 'probe'"):
        labelled(tmp_path, [0], column="sex")
    with pytest.raises(UserError, match=r"column 'class' holds none of 'healthy', the negative class; it holds '', 'B-lines'"):
        labelled(tmp_path, [0], negative=("healthy",))
    assert labelled(tmp_path, [2], negative=("B-lines",)).label.tolist() == [1]  # asked of the store, not of these patients


@pytest.mark.parametrize("frames, stride, count, starts", [
    (4, 1, 1, [3]), (4, 1, 3, [0, 3, 6]), (4, 1, 2, [0, 6]), (4, 2, 1, [1]), (4, 2, 2, [0, 3]), (10, 1, 3, [0, 0, 0]),
    (1, 1, 4, [0, 3, 6, 9]),
])  # fmt: skip
def test_clips_spread_over_ten_frames(frames, stride, count, starts):
    found = spaced_clips(store_of(np.array([3, 10])), np.array([1]), frames=frames, stride=stride, count=count)
    assert found.tolist() == [[[start + stride * t for t in range(frames)] for start in starts]] and found.dtype == np.int64


def test_a_short_video_is_held_at_its_end():
    found = spaced_clips(STORE, np.array([4, 6, 3]), frames=4, count=2)  # 3, 1 and 5 frames
    assert found.tolist() == [[[0, 1, 2, 2]] * 2, [[0, 0, 0, 0]] * 2, [[0, 1, 2, 3], [1, 2, 3, 4]]]


def batches(*, cine=(0, 2, 3, 5, 7), batch=3, frames=2, seed=0, **options):
    return LabelledClips(STORE, cine, np.arange(10, 10 + len(cine)), batch=batch, frames=frames, seed=seed, **options)


def test_a_labelled_batch_holds_the_pixels_and_labels_it_names():
    for step in range(10):
        found = batches(frames=4, stride=2).batch(step)
        assert {name: (values.shape, values.dtype) for name, values in found.items()} == {
            "image": ((3, 4, 4, 4, 1), np.uint8), "cine": ((3,), np.int32), "frame": ((3, 4), np.int32), "length": ((3,), np.int32),
            "target": ((3,), np.int32),
        }  # fmt: skip
        np.testing.assert_array_equal(found["image"][..., 0, 0, 0], np.repeat(found["cine"][:, None], 4, 1))
        np.testing.assert_array_equal(found["image"][..., 3, 3, 0], found["frame"])
        assert found["target"].tolist() == [{0: 10, 2: 11, 3: 12, 5: 13, 7: 14}[cine] for cine in found["cine"].tolist()]
        moved = found["frame"] - found["frame"][:, :1]
        np.testing.assert_array_equal(moved, [[0, 2, 4, 4] if cine in (2, 3) else [0, 2, 4, 6] for cine in found["cine"]])


@pytest.mark.parametrize("batch", [1, 3, 5, 12])
def test_permutations_follow_one_another(batch):
    """Cut into fives, the videos as they come are permutations, most of them different; a batch may hold several."""
    dealt = np.concatenate([batches(batch=batch).batch(step)["cine"] for step in range(60 // batch)])
    orders = dealt.reshape(-1, 5)
    assert all(sorted(order) == [0, 2, 3, 5, 7] for order in orders.tolist())
    assert len({tuple(order) for order in orders.tolist()}) >= 9
    np.testing.assert_array_equal(dealt, np.concatenate([batches(batch=5).batch(step)["cine"] for step in range(12)]))


def test_a_labelled_clip_starts_anywhere():
    """Cine 3 has 5 frames, so 3 places for clips of 3."""
    found = Counter(int(batches(cine=[3], batch=1, frames=3).batch(step)["frame"][0, 0]) for step in range(600))
    assert set(found) == {0, 1, 2} and all(abs(count - 200) <= 5 * np.sqrt(600 * 2 / 9) for count in found.values())


def test_labelled_batches_are_a_function_of_seed_and_step():
    once, again = [[batches(seed=seed).batch(step) for step in range(9)] for seed in (0, 0)]
    for step in (8, 0, 5):
        for name, values in once[step].items():
            np.testing.assert_array_equal(again[step][name], values)
            np.testing.assert_array_equal(batches().batch(step, rows=slice(1, 3))[name], values[1:3])
    assert any((batches(seed=1).batch(step)["cine"] != once[step]["cine"]).any() for step in range(9))
    with pytest.raises(UserError, match="labelled videos: there are 0 to learn from"):
        batches(cine=())


def test_phantom_lungs_as_a_store(tmp_path):
    made = uscl_config.default()
    made.update_from_flattened_dict({"data.phantom": "lung", "data.patients": 5, "data.frames": 4, "data.size": 32, "data.test": 0.4})
    with Log(tmp_path) as log:
        store = source.open_store(made, tmp_path, log)
    assert store.origin == "lung phantom, seed 0" and len(store.cines) == 5 and not len(store.labelled) and store.classes == {}
    assert {part: len(store.patients(part)) for part in ("train", "validation", "test")} == {"train": 2, "validation": 1, "test": 2}
    assert sorted(set(store.attributes["class"])) == ["consolidation", "normal"] and store.frames.shape == (20, 32, 32)
    for cine, kind in enumerate(store.attributes["class"]):
        boxes = np.array(store.truth[cine]["boxes"]).reshape(4, -1, 4)
        assert bool(boxes.size) == (kind == "consolidation") and -1 <= boxes.min(initial=0) and boxes.max(initial=0) < 32
    videos = labelled_videos(store, store.patients("train") + store.patients("test"), **WAYS)
    assert videos.label.tolist() == [int(store.attributes["class"][cine] == "consolidation") for cine in videos.cine]
    source.check_labels(store, [])
    with pytest.raises(UserError, match="the store has no labelled frame, which config.stages 'finetune' need"):
        source.check_labels(store, ["finetune"])
