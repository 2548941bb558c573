"""COCO files written here, their run lengths held against pycocotools."""

import json

import numpy as np
import pytest
from mutants_text import scribbled
from pycocotools import mask as peer

from uscl.data import annotations, coco, shapes
from uscl.types import UserError

RNG = np.random.default_rng(0)
SQUARE = [1, 1, 5, 1, 5, 5, 1, 5]


IMAGES = [{"id": 1, "file_name": "a/1.png", "height": 9, "width": 12}, {"id": 2, "file_name": "2.png"}]
CLASSES = [{"id": 1, "name": "kidney"}, {"id": 2, "name": "cyst", "supercategory": "x"}]


def write(path, marks, images=IMAGES, categories=CLASSES):
    marks = [{"id": i, "image_id": 1, "category_id": 1} | mark for i, mark in enumerate(marks)]
    path.write_text(json.dumps({"images": images, "annotations": marks, "categories": categories}))
    return path


def pixels(found, name="a/1.png"):
    height, width = found.sizes[name]
    return shapes.raster(shapes.Drawing(found.of[name], size=found.sizes[name]), height, width)


def masks():
    """Random ones of many grains, and the corners: empty, full, one pixel, one row, one column, long runs."""
    for _ in range(60):
        height, width = RNG.integers(1, 40, 2)
        yield RNG.random((height, width)) < RNG.choice([0.02, 0.5, 0.9])
    for shape in ((1, 1), (1, 50), (50, 1), (700, 900)):
        yield np.ones(shape, bool)
        yield np.zeros(shape, bool)
        yield np.indices(shape).sum(0) == 0
        yield np.indices(shape).sum(0) > 3
    big = np.zeros((1000, 1200), bool)
    big[300:700, 200:900] = big[10, 1190] = True
    yield big


def runs_by_hand(mask):
    flat = np.concatenate([[False], mask.T.reshape(-1)])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()


def test_packed_runs_are_those_of_pycocotools_both_ways():
    for mask in masks():
        packed = peer.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        runs = coco.unpack(packed)
        assert runs.dtype == np.int64 and runs.tolist() == runs_by_hand(mask)
        again = peer.frPyObjects({"size": list(mask.shape), "counts": runs.tolist()}, *mask.shape)["counts"].decode()
        assert again == packed


def test_packed_runs_known_by_hand():
    assert coco.unpack("").tolist() == [] and coco.unpack("5220O").tolist() == [5, 2, 2, 2, 1]
    assert coco.unpack("o1").tolist() == [63], "31 and one more letter for 1 x 32"


def test_a_file_s_masks_are_those_of_pycocotools(tmp_path):
    for mask in [m for m in masks() if m.any()][:30]:
        packed = peer.encode(np.asfortranarray(mask.astype(np.uint8)))
        size = list(mask.shape)
        plain = {"segmentation": {"size": size, "counts": runs_by_hand(mask)}, "category_id": 2, "iscrowd": 1}
        text = {"segmentation": {"size": size, "counts": packed["counts"].decode()}}
        for mark in (plain, text):
            found = annotations.read(write(tmp_path / "a.json", [mark], [{"id": 1, "file_name": "a/1.png"}]))
            assert found.sizes == {"a/1.png": mask.shape} and found.rejected == []
            np.testing.assert_array_equal(pixels(found).index, mask)


def test_polygons_of_one_annotation_are_united_and_images_keep_their_names(tmp_path):
    two = {"segmentation": [SQUARE, [4, 4, 8, 4, 8, 8, 4, 8]]}
    flat = {"segmentation": [2, 2, 4, 2, 4, 4, 2, 4], "category_id": 2}
    found = annotations.read(write(tmp_path / "a.json", [flat, two]))
    assert list(found.of) == ["a/1.png", "2.png"] and found.of["2.png"] == () and found.sizes == {"a/1.png": (9, 12)}
    assert found.order == ["kidney", "cyst"] and found.rejected == [] and found.facts == {}
    raster, expected = pixels(found), np.zeros((9, 12), int)
    expected[1:5, 1:5] = expected[4:8, 4:8] = 1
    expected[2:4, 2:4] = 2
    np.testing.assert_array_equal(raster.index, expected)
    assert raster.keys == ("kidney", "cyst") and raster.area == {"kidney": 31, "cyst": 4} and raster.overlap == {("cyst", "kidney"): 4}


HOSTILE = {"size": [9, 12]}
WHOLE, BROKEN = "whole numbers from 0 to its 108 pixels", "packed run lengths are broken"
CATEGORY, POLYGON = "its category is not one, or more than one", "no list of x, y"


@pytest.mark.parametrize(
    "mark, words",
    [
        ({"segmentation": HOSTILE | {"counts": [5, -1, 104]}}, WHOLE),
        ({"segmentation": HOSTILE | {"counts": [5, 1.5, 101.5]}}, WHOLE),
        ({"segmentation": HOSTILE | {"counts": [True, 107]}}, WHOLE),
        ({"segmentation": HOSTILE | {"counts": None}}, WHOLE),
        ({"segmentation": HOSTILE | {"counts": {"a": 1}}}, WHOLE),
        ({"segmentation": HOSTILE | {"counts": [5, 100]}}, "add up to 105, its 9 x 12 pixels are 108"),
        ({"segmentation": HOSTILE | {"counts": [2**62, 2**62]}}, WHOLE),
        ({"segmentation": HOSTILE | {"counts": [10**400]}}, WHOLE),
        ({"segmentation": HOSTILE | {"counts": ""}}, "add up to 0"),
        ({"segmentation": HOSTILE | {"counts": "52"}}, "add up to 7"),
        ({"segmentation": HOSTILE | {"counts": "O3"}}, WHOLE),
        ({"segmentation": HOSTILE | {"counts": "5220o"}}, BROKEN),
        ({"segmentation": HOSTILE | {"counts": "5 20O"}}, BROKEN),
        ({"segmentation": HOSTILE | {"counts": "5ä\ud800"}}, BROKEN),
        ({"segmentation": HOSTILE | {"counts": "5" + "o" * 40 + "1"}}, "larger than any image"),
        ({"segmentation": {"size": [12, 9], "counts": [8, 100]}}, "is said to be 12 x 9 pixels and 9 x 12 too"),
        ({"segmentation": {"size": [2**20, 2**20], "counts": [2**40]}}, "claims 1099511627776 pixels"),
        ({"segmentation": {"size": [9, 12, 3], "counts": [108]}}, "has no size"),
        ({"segmentation": {"size": [-9, -12], "counts": [108]}}, "has no size"),
        ({"segmentation": {"counts": [108]}}, "has no size"),
        ({"bbox": [1, 2, 3, 4]}, "no mask, only a box"),
        ({"segmentation": [], "bbox": [1, 2, 3, 4]}, "no mask, only a box"),
        ({"segmentation": "x"}, "no mask, only a box"),
        ({"segmentation": [[1, 2, 3]]}, POLYGON),
        ({"segmentation": [[1, 2, "x", 3]]}, POLYGON),
        ({"segmentation": [[[1, 2], [2, 3], [4, 5]]]}, POLYGON),
        ({"segmentation": [SQUARE, 7]}, POLYGON),
        ({"segmentation": [[0, 0] * 60_000] * 2}, "more than 100000 points"),
        ({"segmentation": [SQUARE], "category_id": 9}, CATEGORY),
        ({"segmentation": [SQUARE], "category_id": 3}, CATEGORY),
        ({"segmentation": [SQUARE], "category_id": [1]}, CATEGORY),
    ],
)  # fmt: skip
def test_a_broken_annotation_costs_its_image_alone(tmp_path, mark, words):
    categories = [{"id": key, "name": name} for key, name in [(1, "kidney"), (3, "x"), (3, "y"), (1, "kidney"), (None, "z")]] + [5]
    path = write(tmp_path / "a.json", [{"segmentation": [SQUARE]}, mark, {"segmentation": [SQUARE], "image_id": 2}], categories=categories)
    found = annotations.read(path)
    assert list(found.of) == ["2.png"] and found.order == ["kidney"]
    ((name, reason),) = found.rejected
    assert name == "a/1.png" and reason.startswith("annotation 2: ") and words in reason and len(reason) < 200


def test_what_belongs_to_no_image_is_counted_and_shared_ids_cost_both(tmp_path):
    images = [
        {"id": 1, "file_name": "1.png"}, {"id": 1, "file_name": "1.png"}, {"id": 2, "file_name": "2.png"}, {"id": 2, "file_name": "3.png"},
        {"id": "s", "file_name": "4.png", "height": 5, "width": 5}, {"id": 5, "file_name": "4.png", "height": 5, "width": 6}, {"id": 6},
        {"id": True, "file_name": "5.png"}, {"id": 7, "file_name": "6.png", "height": -5, "width": 6.5}, "x",
    ]  # fmt: skip
    marks = [{"segmentation": [SQUARE], "image_id": key} for key in (1, 2, 99, None, [1], "s")]
    found = annotations.read(write(tmp_path / "a.json", marks, images))
    assert {name: len(shown) for name, shown in found.of.items()} == {"1.png": 1, "6.png": 0} and found.sizes == {}
    assert [name for name, _ in found.rejected[:3]] == ["2.png", "3.png", "4.png"]
    assert "shares its id" in found.rejected[1][1] and "5 x 6 pixels and 5 x 5" in found.rejected[2][1]
    assert found.rejected[3:] == [
        ("a.json", "3 of its images have no id or no file_name"), ("a.json", "3 of its annotations belong to no image of the file")
    ]  # fmt: skip


def test_attribute_is_not_for_coco(tmp_path):
    with pytest.raises(UserError, match="categories are the classes; attribute 'x' is for VIA"):
        annotations.read(write(tmp_path / "a.json", []), attribute="x")


def test_damaged_files_end_in_drawings_or_in_a_sentence(tmp_path):
    """Flipped bytes and cut ends: never an error of ours, and nothing that cannot be written again."""
    packed = peer.encode(np.asfortranarray(np.indices((9, 12)).sum(0) % 5 < 2, np.uint8))["counts"].decode()
    marks = [
        {"segmentation": [SQUARE, SQUARE]},
        {"segmentation": HOSTILE | {"counts": packed}},
        {"segmentation": HOSTILE | {"counts": [8, 90, 10]}},
    ]
    source = write(tmp_path / "a", marks + [mark | {"image_id": 2} for mark in marks]).read_bytes()
    random, kinds = np.random.default_rng(3), []
    for _ in range(300):
        (tmp_path / "a").write_bytes(scribbled(source, random))
        try:
            found = annotations.read(tmp_path / "a")
            kinds.append("read")
            json.dumps([found.rejected, list(found.of), found.order], ensure_ascii=False).encode()
            for name, shown in found.of.items():
                try:
                    shapes.raster(shapes.Drawing(shown, size=found.sizes.get(name)), 9, 12)
                except UserError:
                    kinds.append("outside")
        except UserError as error:
            assert error.__cause__ is None, "caught by the last net only"
            kinds.append("refused")
    assert set(kinds) == {"read", "outside", "refused"}
