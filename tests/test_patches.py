"""nnU-Net's patch loader: corners as the original (2.8.1) draws them, the shares of what it draws, batches as pure functions."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from uscl.data.patches import PatchBatches, corner_of
from uscl.data.store import Store
from uscl.data.writer import StoreWriter
from uscl.types import UserError

# get_bbox of nnunetv2 2.8.1: shape, final patch, patch read; lowest and highest random corner of 20,000; corner around a pixel.
CORNERS = [
    ((10, 12), (8, 8), (11, 10), (-2, -1), (1, 3), {(0, 0): (-2, -1), (9, 11): (4, 6), (5, 6): (0, 1)}),
    ((5, 20), (8, 8), (9, 12), (-2, -2), (-2, 10), {(0, 0): (-2, -2), (4, 19): (0, 13), (2, 10): (-2, 4)}),
    ((40, 30), (8, 16), (13, 16), (-3, 0), (30, 14), {(0, 0): (-3, 0), (39, 29): (33, 21), (20, 15): (14, 7)}),
    ((256, 256), (256, 256), (301, 301), (-23, -23), (-22, -22), {(0, 0): (-23, -23), (255, 255): (105, 105), (128, 128): (-22, -22)}),
    ((3, 3), (4, 4), (9, 8), (-3, -3), (-3, -2), {(0, 0): (-3, -3), (2, 2): (-2, -2), (1, 1): (-3, -3)}),
]
# (batch, share): how many at the end of a batch are forced; of 0.33 as the original has it, of the others by hand
FORCED = {(1, 0.33): 0, (2, 0.33): 1, (3, 0.33): 1, (4, 0.33): 1, (12, 0.33): 4, (16, 0.33): 5, (21, 0.33): 7, (49, 0.33): 16}
FORCED |= {(4, 0.0): 0, (4, 0.5): 2, (3, 1.0): 3}


def make_store(path, frames, labels, classes=None):
    frames, labels = np.asarray(frames, np.uint8), np.asarray(labels, np.uint8)
    with StoreWriter(path, size=frames.shape[1], classes=classes or {f"c{v}": [v] for v in range(1, 4)}) as writer:
        for n in range(max(3, len(frames))):  # a store has three patients at least
            frame, label = frames[n % len(frames)], labels[n % len(frames)]
            writer.add(patient=f"p{n}", frames=np.stack([frame, frame]), labels={1: label}, mm_per_pixel=None)
    return Store.open(path)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Three rows, fully lit. Row 0: every pixel's label is its place, 16 y + x. Rows 1 and 2: background."""
    frames = np.random.default_rng(0).integers(1, 256, (3, 16, 16))
    labels = np.zeros((3, 16, 16))
    labels[0] = np.arange(256).reshape(16, 16)
    return make_store(tmp_path_factory.mktemp("places") / "store", frames, labels, {"all": list(range(1, 256))})


@pytest.fixture(scope="module")
def shares(tmp_path_factory):
    """Row 0: class 1 on 100 pixels, class 2 on two, class 3 on none. Row 1: class 3 alone on one; some of it is black, so -1."""
    frames, labels = np.full((2, 32, 32), 9), np.zeros((2, 32, 32))
    frames[1, 8:24, 8:12] = 0
    labels[0, 5:15, 5:15], labels[0, 20, 20], labels[0, 25, 11], labels[1, 16, 17] = 1, 2, 2, 3
    return make_store(tmp_path_factory.mktemp("shares") / "store", frames, labels)


def patches(store, rows=(0,), *, patch=(5, 5), read=None, batch=12, masked=False, seed=0, **options):
    return PatchBatches(store, rows, patch=patch, read=read or patch, batch=batch, masked=masked, seed=seed, **options)


def drawn(source, steps, rows=slice(None)):
    """The batches of so many steps, joined."""
    batches = [source.batch(step, rows=rows) for step in range(steps)]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def expect(found, probability):
    """Every count lies within 5 binomial standard deviations, and nothing else came."""
    draws = sum(found.values())
    for key, p in probability.items():
        assert abs(found[key] - draws * p) <= 5 * np.sqrt(draws * p * (1 - p)), (key, found[key], draws * p)
    assert set(found) <= set(probability)


# ---- where a patch lies ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape,patch,read,low,high,around", CORNERS)
def test_corners_of_the_original(shape, patch, read, low, high, around):
    rng = np.random.default_rng(0)
    for centre, expected in around.items():
        assert corner_of(rng, shape, centre, patch=patch, read=read) == expected
    found = np.array([corner_of(rng, shape, None, patch=patch, read=read) for _ in range(4000)])
    for axis in range(2):
        count = high[axis] - low[axis] + 1
        expect(Counter(found[:, axis].tolist()), dict.fromkeys(range(low[axis], high[axis] + 1), 1 / count))


# ---- what a batch is ------------------------------------------------------------------------------------------------
def test_a_batch_shows_what_it_names(places):
    """Image and label of every patch against the frame, padded on all sides; where it lies is read off the label."""
    batch = drawn(patches(places, range(3), patch=(16, 10), read=(21, 12), batch=6), 30)
    assert {k: (v.shape[1:], v.dtype) for k, v in batch.items()} == {
        "image": ((21, 12, 1), np.float32), "label": ((21, 12), np.int16), "cine": ((), np.int32), "frame": ((), np.int32)
    }  # fmt: skip
    assert set(batch["cine"].tolist()) == {0, 1, 2} and set(batch["frame"].tolist()) == {1}
    for image, label, cine in zip(batch["image"][..., 0], batch["label"], batch["cine"], strict=True):
        frame = places.frame(cine, 1).astype(np.float64)
        scored = np.pad((frame - frame.mean()) / frame.std(), 20)
        truth = np.pad(places.labels[cine].astype(int), 20, constant_values=-1)
        if cine == 0:
            y, x = np.argwhere(label > 0)[0]
            corner = [tuple(np.array(divmod(label[y, x], 16)) - (y, x))]
        else:  # nothing tells the place but the padding: rows -3 ... -2 and columns -1 ... 5
            corner = [(a, b) for a in range(-3, -1) for b in range(-1, 6)]
        cut = [np.s_[a + 20 : a + 41, b + 20 : b + 32] for a, b in corner]
        assert any((label == truth[c]).all() and np.allclose(image, scored[c], atol=1e-5) for c in cut)


def test_a_batch_is_a_function_of_seed_and_step(places):
    source = patches(places, range(3), read=(7, 7), batch=7)
    first = [source.batch(step) for step in range(4)]
    again = patches(places, range(3), read=(7, 7), batch=7)
    for step in (3, 0, 2, 1):
        for rows in (slice(None), slice(0, 3), slice(3, 7), slice(1, None, 2)):
            part = again.batch(step, rows=rows)
            for name, values in first[step].items():
                np.testing.assert_array_equal(part[name], values[rows], strict=True)
    other = patches(places, range(3), read=(7, 7), batch=7, seed=1).batch(0)
    images = [batch["image"].tobytes() for batch in (*first, other)]
    assert len(set(images)) == 5 and source.size == 7
    assert len({patch.tobytes() for batch in first for patch in batch["image"]}) > 20  # of 28, from 3 rows and 144 corners


def test_a_slice_reads_its_own_rows_alone(places):
    source = patches(places, range(3), batch=8)
    whole = source.batch(5)["cine"].tolist()
    for i, n in enumerate(whole):  # row n is of cine n, and its frame is frame 2n + 1 of the store
        frames, labels = {2 * n + 1: places.frames[2 * n + 1]}, {n: places.labels[n]}
        source.store = SimpleNamespace(cines=places.cines, labelled=places.labelled, frames=frames, labels=labels)
        assert source.batch(5, rows=slice(i, i + 1))["cine"].tolist() == [n]
    assert set(whole) == {0, 1, 2} and source.batch(5, rows=slice(2, 2))["image"].shape == (0, 5, 5, 1)


# ---- what is drawn --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("batch,foreground", FORCED)
def test_the_last_share_has_foreground(shares, batch, foreground):
    """Row 1 has one pixel of class 3, so a forced patch has it in the middle; at random a 5 x 5 patch has it in 25 of 28^2 cases."""
    label = drawn(patches(shares, [1], batch=batch, foreground=foreground), 30)["label"].reshape(30, batch, 5, 5)
    free = batch - FORCED[batch, foreground]
    assert (label[:, free:, 2, 2] == 3).all()
    seen = (label[:, :free] == 3).any(axis=(2, 3)).sum()
    expect({True: int(seen), False: 30 * free - int(seen)}, {True: 25 / 28**2, False: 1 - 25 / 28**2})


def test_classes_and_their_pixels_are_drawn_evenly(shares):
    """Class 1 has fifty times the pixels of class 2 and comes as often; class 3 is not there and never comes."""
    label = drawn(patches(shares, [0], batch=30, foreground=1.0), 40)["label"]
    expect(Counter(label[:, 2, 2].tolist()), {1: 1 / 2, 2: 1 / 2})
    ones = label[label[:, 2, 2] == 1] == 1
    corners = Counter((int(p[2].sum()), int(p[:, 2].sum()), bool(p[2, 0]), bool(p[0, 2])) for p in ones)
    side = {(3, False): 0.1, (4, False): 0.1, (5, True): 0.6, (4, True): 0.1, (3, True): 0.1}  # of ten columns, and so of ten rows
    expect(corners, {(a, b, c, d): p * q for (a, c), p in side.items() for (b, d), q in side.items()})


def test_classes_may_be_regions_that_overlap(shares):
    """{1, 2} and {2}: half of 2/102 and half of all comes from class 2."""
    label = drawn(patches(shares, [0], batch=30, foreground=1.0, classes=[[1, 2], [2], [3]]), 40)["label"]
    expect(Counter(label[:, 2, 2].tolist()), {1: 50 / 102, 2: 52 / 102})


def test_cases_are_drawn_with_replacement(places):
    cine = drawn(patches(places, range(3), batch=4), 300)["cine"].reshape(300, 4)
    expect(Counter(cine.ravel().tolist()), dict.fromkeys(range(3), 1 / 3))
    same = int((cine[:, 0] == cine[:, 3]).sum())
    expect({True: same, False: 300 - same}, {True: 1 / 3, False: 2 / 3})


# ---- corners of the matter ------------------------------------------------------------------------------------------
def test_no_foreground_gives_a_patch_at_random(tmp_path):
    """Row 0: background alone. Row 1: its label lies outside the crop. Row 2: black. Row 3: a crop smaller than the patch."""
    frames, labels = np.zeros((2, 4, 12, 12))
    frames[0] = np.arange(1, 145).reshape(12, 12)
    frames[1, :8, :8], labels[1, 10, 10] = 9, 1
    frames[3, 4:7, 5:8], labels[3, 5, 6] = [[1, 2, 3], [4, 5, 6], [7, 8, 10]], 2
    store = make_store(tmp_path / "store", frames, labels)
    batch = drawn(patches(store, [0], foreground=1.0), 30)
    scored = (frames[0] - frames[0].mean()) / frames[0].std()
    found = np.abs(batch["image"][:, 0, 0, :] - scored[:8, :8].ravel())  # the first pixel is one of those that corners can be at
    assert not batch["label"].any() and found.min(axis=1).max() < 1e-5 and len(set(found.argmin(axis=1))) > 50
    outside = drawn(patches(store, [1], foreground=1.0), 5)
    assert not outside["label"].any() and not outside["image"].any()
    black = patches(store, [2], foreground=1.0).batch(0)
    assert (black["label"] == -1).all() and not black["image"].any()
    small = patches(store, [3], patch=(5, 5), read=(7, 5), foreground=1.0).batch(0)
    inside = small["label"][:, 2:5, 1:4]  # spare 4 and 2: the corner of pixel (1, 1) is -2, -1, and the lowest there are the same
    assert (inside == [[0, 0, 0], [0, 2, 0], [0, 0, 0]]).all() and (small["label"] == -1).sum() == 12 * (35 - 9)
    assert not small["image"][:, :2].any() and small["image"][:, 2:5, 1:4].all(axis=(1, 2, 3)).all()


def test_masked_reaches_the_cases(tmp_path):
    frames = np.full((1, 8, 8), 4)
    frames[0, 2:6, 2:6], frames[0, 3, 3] = 8, 0
    store = make_store(tmp_path / "store", frames, np.zeros((1, 8, 8)))
    for masked, expected in ((True, 0.0), (False, -4.875 / 3.234375**0.5)):  # 48 of 4, 15 of 8, one 0: mean 4.875, square 27
        image = patches(store, [0], patch=(8, 8), batch=1, masked=masked).batch(0)["image"]
        assert image[0, 3, 3, 0] == pytest.approx(expected, abs=1e-5)


def test_errors(shares):
    for wrong, message in (({"rows": []}, "labelled frames: there are 0"), ({"batch": 0}, "batch: found 0")):
        with pytest.raises(UserError, match=message):
            patches(shares, **wrong)
    with pytest.raises(ValueError, match=r"a patch of \(5, 4\) is read, which does not hold the final one of \(5, 5\)"):
        patches(shares, patch=(5, 5), read=(5, 4))
