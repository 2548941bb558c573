"""nnU-Net's preprocessing, fingerprint and folds, against numbers of the original (2.8.1) and float64 arithmetic of its own."""

import numpy as np
import pytest

from uscl.data.cases import crop_to_nonzero, fingerprint, prepare_case
from uscl.data.folds import five_folds
from uscl.data.store import Store
from uscl.data.writer import StoreWriter
from uscl.types import UserError

IMAGE, LABEL = np.zeros((6, 8), np.uint8), np.zeros((6, 8), np.uint8)
IMAGE[1:5, 2:7] = [[3, 3, 3, 3, 3], [3, 0, 9, 0, 3], [3, 9, 9, 9, 0], [3, 3, 0, 3, 3]]
for _place, _value in {(2, 3): 1, (3, 4): 2, (0, 0): 1, (4, 4): 2}.items():
    LABEL[_place] = _value
# What nnunetv2 2.8.1 made of the two: crop_to_nonzero on (1, 1, 6, 8), then ZScoreNormalization.
OF_LABEL = [[0, 0, 0, 0, 0], [0, 1, 0, -1, 0], [0, 0, 2, 0, -1], [0, 0, 2, 0, 0]]
LOW, ZERO, HIGH = -0.2041241079568863, -1.2247447967529297, 1.837117314338684
OF_IMAGE = {
    False: [[LOW] * 5, [LOW, ZERO, HIGH, ZERO, LOW], [LOW, HIGH, HIGH, HIGH, ZERO], [LOW, LOW, ZERO, LOW, LOW]],
    True: np.array([[-0.3535533845424652, -1.4142135381698608, 1.7677669525146484, 0]])[
        0, [[0] * 5, [0, 1, 2, 3, 0], [0, 2, 2, 2, 3], [0, 0, 1, 0, 0]]
    ],
}


def dataset(path, frames, labels, values=3):
    with StoreWriter(path, size=frames[0].shape[0], classes={f"c{v}": [v] for v in range(1, values)}) as writer:
        for n in range(max(3, len(frames))):  # a store has three patients at least
            writer.add(patient=f"p{n}", frames=frames[n % len(frames)][None], labels={0: labels[n % len(frames)]}, mm_per_pixel=None)
    return Store.open(path)


# ---- crop -----------------------------------------------------------------------------------------------------------
def test_crop():
    dots = np.zeros((7, 9), np.uint8)
    dots[2, 3] = 1
    box, mask = crop_to_nonzero(dots)
    assert (box, mask.tolist()) == ((2, 3, 3, 4), [[True]])
    dots[4, 5] = 255
    box, mask = crop_to_nonzero(dots)
    assert box == (2, 5, 3, 6) and all(type(edge) is int for edge in box)
    np.testing.assert_array_equal(mask, np.diag([True, False, True]))


def test_holes_of_a_still_stay_open_as_in_the_original():
    ring = np.zeros((7, 8), np.uint8)
    ring[1:6, 2:7] = 5
    ring[3, 4] = 0
    expected = np.ones((5, 5), bool)
    assert crop_to_nonzero(ring, filled=True)[1].all()
    expected[2, 2] = False  # create_nonzero_mask of a (1, 1, 7, 8) array leaves it 0
    box, mask = crop_to_nonzero(ring)
    np.testing.assert_array_equal(mask, expected)
    assert box == crop_to_nonzero(ring, filled=True)[0] == (1, 6, 2, 7)


# ---- a case ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("masked", [False, True])
def test_a_case_of_the_original(masked):
    image, label = IMAGE.copy(), LABEL.copy()
    case = prepare_case(image, label, masked=masked)
    assert case.box == (1, 5, 2, 7) and (case.image.dtype, case.label.dtype) == (np.float32, np.int16)
    np.testing.assert_array_equal(case.label, OF_LABEL)
    np.testing.assert_allclose(case.image, OF_IMAGE[masked], atol=1e-6)
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(label, LABEL)


def test_without_a_label_the_mask_is_what_is_not_zero():
    case = prepare_case(IMAGE, masked=True)  # twelve 3 and four 9: mean 4.5, variance (12 * 1.5^2 + 4 * 4.5^2) / 16 = 6.75
    assert case.label is None and case.box == (1, 5, 2, 7)
    expected = {0: 0.0, 3: -1.5 / 6.75**0.5, 9: 4.5 / 6.75**0.5}
    np.testing.assert_allclose(case.image, np.vectorize(expected.get)(IMAGE[1:5, 2:7]), atol=1e-6)
    np.testing.assert_allclose(prepare_case(IMAGE, masked=False).image, OF_IMAGE[False], atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_z_score_against_float64(masked):
    rng = np.random.default_rng(3)
    for _ in range(5):
        image = np.zeros((40, 37), np.uint8)
        image[3:31, 5:36] = rng.integers(0, 256, (28, 31)) * (rng.random((28, 31)) < 0.8)
        image[3, 5] = image[30, 35] = 200
        inner = image[3:31, 5:36].astype(np.float64)
        used = [x for x in inner.ravel() if x != 0 or not masked]
        mean = sum(used) / len(used)
        std = (sum((x - mean) ** 2 for x in used) / len(used)) ** 0.5
        expected = (inner - mean) / std * (inner != 0 if masked else 1)
        found = prepare_case(image, np.zeros_like(image), masked=masked)
        assert found.box == (3, 31, 5, 36)
        np.testing.assert_allclose(found.image, expected, atol=2e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_black_and_even_images_become_zero(masked):
    label = np.array([[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], np.uint8)
    black = prepare_case(np.zeros((3, 4), np.uint8), label, masked=masked)
    assert black.box == (0, 3, 0, 4) and not black.image.any()
    assert black.label.tolist() == [[-1, 1, -1, -1], [-1] * 4, [-1] * 4]  # as the original has it
    assert not prepare_case(np.zeros((3, 4), np.uint8), masked=masked).image.any()
    nearly = np.full((10, 10), 7, np.uint8)
    nearly[3, 4] = 8  # mean 7.01, variance 0.0099
    assert prepare_case(nearly, masked=masked).image[3, 4] == pytest.approx(0.99 / 0.0099**0.5, rel=1e-6)
    even = prepare_case(np.full((3, 4), 7, np.uint8), label, masked=masked)
    assert not even.image.any() and even.label.tolist() == label.tolist()


# ---- fingerprint ----------------------------------------------------------------------------------------------------
def test_fingerprint(tmp_path):
    """Row 0: foreground 10 ... 39, row 1: none, row 2: 110, 111 and 112, row 3: 200 alone; and 7 outside a crop counts nowhere."""
    frames, labels = np.zeros((2, 4, 8, 8), np.uint8)
    frames[0, :5, 1:7], labels[0, :5, 1:7] = np.arange(10, 40).reshape(5, 6), 1
    frames[1] = 7
    frames[2, 2:4, 2:5], labels[2, 2, 2:5] = np.arange(110, 116).reshape(2, 3), 2
    frames[3, 6, 6], labels[3, 6, 6], labels[3, 0, 0] = 200, 1, 2
    store = dataset(tmp_path / "store", frames, labels)
    found = fingerprint(store, np.arange(4))
    np.testing.assert_array_equal(found.shapes, [[5, 6], [8, 8], [2, 3], [1, 1]])
    np.testing.assert_allclose(found.kept, [30 / 64, 1, 6 / 64, 1 / 64])
    mean = (24.5 + 111 + 200) / 3
    square = ((24.5**2 + (30**2 - 1) / 12) + (111**2 + 2 / 3) + 200**2) / 3
    expected = {"mean": mean, "median": 111, "std": (square - mean**2) ** 0.5, "min": 10, "max": 200, "p0.5": 10, "p99.5": 200}
    assert found.intensities == pytest.approx(expected, rel=1e-12) and all(type(v) is float for v in found.intensities.values())
    np.testing.assert_array_equal(fingerprint(store, [2, 0]).shapes, [[2, 3], [5, 6]])
    assert np.isnan(list(fingerprint(store, [1]).intensities.values())).all()


def test_quantiles_of_the_foreground(tmp_path):
    """256 pixels 0 ... 255, all foreground: 0.5 % of them are 1.28, so 1 is the first grey level with as many below or at it."""
    store = dataset(tmp_path / "store", np.arange(256, dtype=np.uint8).reshape(1, 16, 16), np.ones((1, 16, 16), np.uint8))
    found = fingerprint(store, [0]).intensities
    assert (found["p0.5"], found["median"], found["p99.5"]) == (1, 127, 254)
    assert found["mean"] == 127.5 and found["std"] == pytest.approx(((256**2 - 1) / 12) ** 0.5)


# ---- folds ----------------------------------------------------------------------------------------------------------
ORIGINAL = {  # what generate_crossval_split of nnunetv2 2.8.1 validates with
    5: [[0], [4], [3], [1], [2]],
    7: [[3, 6], [0, 4], [1], [5], [2]],
    12: [[0, 3, 8], [7, 10, 11], [6, 9], [1, 4], [2, 5]],
}


@pytest.mark.parametrize("count", ORIGINAL)
def test_folds_of_the_original(count):
    names = [f"p{i:02d}" for i in range(count)]
    expected = [([n for i, n in enumerate(names) if i not in fold], [names[i] for i in fold]) for fold in ORIGINAL[count]]
    assert five_folds(names) == expected
    assert five_folds([*names[::-1], names[0]]) == expected


def test_too_many_folds():
    assert len(five_folds("abc", folds=3)) == 3
    for folds in (1, 4):
        with pytest.raises(UserError, match=f"folds: found {folds}; 3 patients with labels allow a number from 2 to 3"):
            five_folds("abc", folds=folds)
