"""Stills with a plane, the batches drawn from them and from sweeps, and phantom fetuses as a store."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from uscl import config as uscl_config
from uscl.data.planes import CineTriples, PlaneBatches, labelled_planes
from uscl.stages import source
from uscl.train.logs import Log
from uscl.types import UserError

LENGTH = [9, 1, 1, 2, 1, 5, 1, 7, 1, 3]  # cine 3 is a still of two frames, 6 an ignored one
PLANE = ["", "b", "a", "c", "b", "", "none", "", "a", ""]
PATIENT = [f"p{i // 2}" for i in range(10)]
EVERYONE = sorted(set(PATIENT))


def store_of(**attributes):
    """Ten cines, of which every pixel names the cine but the last, which names the frame."""
    cines = SimpleNamespace(frames=np.array(LENGTH), first=np.cumsum([0, *LENGTH])[:-1], patient=np.array(PATIENT))
    frames = np.repeat(np.arange(10), LENGTH)[:, None, None] * np.ones((1, 4, 4))
    frames[:, 3, 3] = np.concatenate([np.arange(n) for n in LENGTH])
    return SimpleNamespace(path=Path("somewhere"), cines=cines, frames=frames.astype(np.uint8), attributes={"plane": PLANE} | attributes,
                           cines_of=lambda names: np.flatnonzero(np.isin(cines.patient, list(names))))  # fmt: skip


WAYS = {"column": "plane", "ignore": ("none",)}


def planes(batch=7, share=0.4, frames=2, seed=0, **how):
    return PlaneBatches(how.pop("store", store_of()), how.pop("patients", EVERYONE), batch=batch, share=share, frames=frames, seed=seed,
                        **WAYS | how)  # fmt: skip


def triples(batch=6, share=0.5, seed=0, **how):
    return CineTriples(store_of(), EVERYONE, batch=batch, share=share, seed=seed, **WAYS | how)


def test_the_planes_of_a_column():
    found = labelled_planes(store_of(), ["p4", "p1", "p2"], **WAYS)
    assert (found.cine.tolist(), found.label.tolist(), found.patient.tolist()) == ([2, 3, 4, 8], [0, 2, 1, 0], ["p1", "p1", "p2", "p4"])
    assert found.names == ("a", "b", "c") and found.label.dtype == np.int64
    everything = labelled_planes(store_of(), EVERYONE, column="plane")
    assert everything.names == ("a", "b", "c", "none") and everything.cine.tolist() == [1, 2, 3, 4, 6, 8]
    assert len(labelled_planes(store_of(), ["p9"], **WAYS).cine) == 0


def test_two_columns_make_one_label():
    store = store_of(side=["", "left", "", "right", "right", "", "", "left", "left", ""])
    found = labelled_planes(store, EVERYONE, column="plane+side", ignore=("none", "b+right"))
    assert found.names == ("a", "a+left", "b+left", "c+right", "left")
    assert (found.cine.tolist(), found.label.tolist()) == ([1, 2, 3, 7, 8], [2, 0, 3, 4, 1])
    assert labelled_planes(store_of(**{"plane+side": ["x"] * 10}), EVERYONE, column="plane+side").names == ("x",)


def test_a_column_that_is_not_there_or_says_nothing():
    with pytest.raises(UserError, match=r"somewhere/attributes.csv: it has no column 'sex'; its columns are 'plane'$"):
        labelled_planes(store_of(), EVERYONE, column="plane+sex")
    with pytest.raises(UserError, match=r"column 'plane' holds no plane that is not ignored \(a, b, c, none\)"):
        labelled_planes(store_of(), EVERYONE, column="plane", ignore=("a", "b", "c", "none"))


def test_a_batch_holds_the_pixels_and_labels_it_names():
    batches = planes()  # (1 - 0.4) 7 / 2 = 2.1: two sweeps of two frames, and three stills
    assert (batches.size, batches.names, batches.left_out) == (7, ("a", "b", "c"), 1)  # the ignored still
    seen = Counter()
    for step in range(30):
        found = batches.batch(step)
        assert {name: (values.shape, values.dtype) for name, values in found.items()} == {
            "image": ((7, 4, 4, 1), np.uint8), **dict.fromkeys(("cine", "frame", "length", "label"), ((7,), np.int32)),
        }  # fmt: skip
        np.testing.assert_array_equal(found["image"][:, 0, 0, 0], found["cine"])
        np.testing.assert_array_equal(found["image"][:, 3, 3, 0], found["frame"])
        assert found["label"].tolist() == [{1: 1, 2: 0, 3: 2, 4: 1, 8: 0}.get(cine, -1) for cine in found["cine"].tolist()]
        np.testing.assert_array_equal(found["length"], np.array(LENGTH)[found["cine"]])
        assert (found["label"][:3] >= 0).all() and (found["label"][3:] < 0).all() and len(set(found["cine"][:3])) == 3
        (a, b, c, d), frame = found["cine"][3:], found["frame"][3:]
        assert a == b != c == d and {a, c} <= {0, 5, 7, 9} and frame[0] != frame[1] and frame[2] != frame[3]
        seen.update((int(c), int(t)) for c, t in zip(found["cine"], found["frame"], strict=True))
    assert {t for c, t in seen if c == 3} == {0, 1} and {t for c, t in seen if c == 0} == set(range(9))


@pytest.mark.parametrize("share, batch, frames, stills", [(1, 5, 2, 5), (0, 8, 2, 0), (0.01, 9, 2, 1), (0.5, 8, 4, 4), (0.5, 5, 1, 3)])
def test_shares(share, batch, frames, stills):
    found = planes(batch, share, frames).batch(0)
    assert len(found["cine"]) == batch and (found["label"] >= 0).sum() == stills


def test_each_comes_once_before_any_comes_again():
    """Five stills and four sweeps, dealt one of each a step, in orders of their own that change."""
    drawn = np.stack([planes(2, 0.5, 1, patients=EVERYONE).indices(step)[0] for step in range(20)])
    assert all(sorted(drawn[i : i + 5, 0]) == [1, 2, 3, 4, 8] for i in range(0, 20, 5))
    assert all(sorted(drawn[i : i + 5, 1]) == [0, 5, 6, 7, 9] for i in range(0, 20, 5))  # of one frame, also the ignored still
    places = [[[1, 2, 3, 4, 8], [0, 5, 6, 7, 9]][kind].index(cine) for row in drawn for kind, cine in enumerate(row)]
    assert places[::2] != places[1::2] and len({tuple(places[i : i + 10 : 2]) for i in range(0, 40, 10)}) > 1


def test_frames_within_reach():
    spans = [np.ptp(planes(3, 0, 3, reach=4).indices(step)[1]) for step in range(60)]
    assert set(spans) == {2, 3}  # sweeps of 3 frames to 9: some are shorter than the reach
    assert max(np.ptp(planes(3, 0, 3).indices(step)[1]) for step in range(60)) > 5
    first = Counter(int(planes(3, 0, 3, reach=3, patients=["p2"]).indices(step)[1].min()) for step in range(300))
    assert set(first) == {0, 1, 2} and min(first.values()) > 70  # a cine of 5 frames


@pytest.mark.parametrize("make", [planes, triples])
def test_a_function_of_seed_and_step(make):
    once, again = [[make().batch(step) for step in range(9)] for _ in range(2)]
    for step in (8, 0, 5):
        for name, values in once[step].items():
            np.testing.assert_array_equal(again[step][name], values)
            np.testing.assert_array_equal(make().batch(step, rows=slice(1, 4))[name], values[1:4])
    assert any((make(seed=1).batch(step)["cine"] != once[step]["cine"]).any() for step in range(9))


def test_three_frames_of_a_cine():
    for step in range(30):
        found = triples().batch(step)
        assert found["image"].shape == (6, 3, 4, 4, 1) and found["frame"].dtype == found["label"].dtype == np.int32
        assert (found["label"] >= 0).tolist() == [True] * 3 + [False] * 3 and len(set(found["cine"])) == 6
        np.testing.assert_array_equal(found["image"][..., 0, 0, 0], np.repeat(found["cine"][:, None], 3, 1))
        np.testing.assert_array_equal(found["image"][..., 3, 3, 0], found["frame"])
        for length, frame in zip(found["length"], found["frame"].tolist(), strict=True):
            want = {1: [0, 0, 0], 2: [frame[0], 1 - frame[0], frame[0]]}.get(int(length), frame)
            assert frame == want and len(set(frame)) == min(length, 3) and max(frame) < length


@pytest.mark.parametrize("make, told", [
    (lambda: planes(20, 0.5), r"it asks for 10 stills with a plane, there are 5; lower batch, or change share"),
    (lambda: planes(12, 0), r"it asks for 6 sweeps of 2 frames or more, there are 5"),
    (lambda: planes(12, 0.1), r"it asks for 5 sweeps of 2 frames or more, there are 4"),
    (lambda: planes(7, 0, 2), r"batch: found 7; without stills \(share=0\) it must be a multiple of frames=2"),
    (lambda: planes(8, 0.5, 4, reach=3), r"reach: found 3; 4 frames of a sweep do not lie within it"),
    (lambda: planes(column="sex"), r"no column 'sex'"),
    (lambda: triples(12, 1), r"it asks for 12 stills"),
])  # fmt: skip
def test_too_few(make, told):
    with pytest.raises(UserError, match=told):
        make()


def test_without_stills_no_column_is_asked_for():
    found = planes(4, 0, column="sex")
    assert found.batch(0)["label"].tolist() == [-1] * 4 and found.names == ()


def test_phantom_fetuses_as_a_store(tmp_path, monkeypatch):
    """Three patients, a sweep each with three planes: no plane, abdomen, and a head at either end of it."""
    met = np.int32([1, 1, -1, 2, 2, 2, -1, 8])

    def make(seed, *, patients, cines, frames, size):
        assert (seed, patients, cines, frames, size) == (7, 6, 2, 8, 32)
        for number in range(12):
            lengths = [100.0 + t if t < 2 else None for t in range(8)]
            frames = np.full((8, 32, 32), number) + np.arange(8)[:, None, None]
            yield {"patient": f"p{number // 2}", "frames": frames.astype(np.uint8),
                   "labels": np.eye(32, dtype=np.uint8)[None].repeat(8, 0), "planes": met, "mm_per_pixel": 0.5, "frame_ms": 30.0,
                   "truth": {"head_circumference_mm": lengths, "ellipse": [None] * 8}}  # fmt: skip

    monkeypatch.setattr(source.fetal, "make", make)
    made = uscl_config.default()
    data = {"patients": 6, "frames": 8, "size": 32, "cines": 2, "seed": 7, "phantom": "fetal"}
    made.update_from_flattened_dict({f"data.{name}": value for name, value in data.items()})
    with Log(tmp_path) as log:
        store = source.open_store(made, tmp_path, log)
    assert store.origin == "fetal phantom, seed 7" and store.cines.frames.tolist() == [8, 1, 1, 1] * 12 and store.classes == {"head": [1]}
    assert store.attributes["plane"][:4] == ["", "head_cerebellum", "abdomen", "background"]
    assert store.attributes["anatomy"][:4] == ["", "head", "abdomen", "background"]
    assert store.attributes["head_circumference_mm"][:4] == ["", "101.00", "", ""]
    assert store.labelled.cine.tolist() == list(range(1, 48, 4)) and (store.labels[0] == np.eye(32)).all()
    assert [int(store.frame(4 + cine, 0)[0, 0]) - 1 for cine in (1, 2, 3)] == [1, 4, 7]  # of two middles the later one
    assert store.truth[0]["head_circumference_mm"][1] == 101.0 and 1 not in store.truth
    assert len(store.patients("train")) + len(store.patients("validation")) + len(store.patients("test")) == 6
