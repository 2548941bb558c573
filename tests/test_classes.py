"""Numbers and names of classes, against cases by hand."""

import json

import numpy as np
import pytest

from uscl.data.classes import code, contained, encode, named_classes
from uscl.data.items import Raster
from uscl.types import UserError


def test_values_of_masks():
    assert code({0, 255}) == ({0: 0, 255: 1}, {"class_1": [1]})
    assert code({9}) == ({0: 0, 9: 1}, {"class_1": [1]})
    assert code({9, 4}) == ({0: 0, 4: 1, 9: 2}, {"class_1": [1], "class_2": [2]})
    assert list(code({700, 3, 40})[0]) == [0, 3, 40, 700]
    assert code({np.int32(0), 1}, [], {"both": [1, 2], "one": [1]}) == ({0: 0, 1: 1, 2: 2}, {"both": [1, 2], "one": [1]})


def test_names_of_shapes():
    assert code({"a", "b"}, ["b", "a"]) == ({0: 0, "b": 1, "a": 2}, {"b": [1], "a": [2]})
    assert code({7, "a", "b"}, ["b", "a"]) == ({0: 0, 7: 1, "b": 2, "a": 3}, {"class_1": [1], "b": [2], "a": [3]})
    assert code({"z", "y", "a"}, ["z"])[0] == {0: 0, "z": 1, "a": 2, "y": 3}
    kidney = {"capsule": ["Capsule", "Cortex"], "cortex": ["Cortex"], "stone": [255]}
    stored, classes = code({"Cortex"}, ["Capsule", "Cortex"], kidney)
    assert stored == {0: 0, 255: 1, "Capsule": 2, "Cortex": 3}
    assert classes == {"capsule": [2, 3], "cortex": [3], "stone": [1]}
    with pytest.raises(UserError, match="'class_1' is drawn"):
        code({5, "class_1"})


def test_what_fits_no_class():
    for found, named, says in (
        ({0, 1, 7}, {"one": [1]}, r"\[7\]"),
        ({"a", "b"}, {"a": ["a"]}, r"\['b'\]"),
        ({0, 1}, {"all": [0, 1]}, "0 is background"),
        (range(1, 257), None, "256 classes"),
    ):
        with pytest.raises(UserError, match=says):
            code(found, [], named)
    assert len(code(range(256))[0]) == 256


def test_contained():
    area = {"capsule": 1030, "cec": 300, "cortex": 140, "medulla": 240, "other": 900}
    overlap = {("capsule", "cec"): 299, ("capsule", "cortex"): 140, ("capsule", "medulla"): 216, ("capsule", "other"): 500,
               ("cortex", "medulla"): 3}  # fmt: skip
    assert contained(area, overlap) == {"capsule": ["cortex", "medulla", "cec"]}
    assert contained(area, overlap, share=0.95) == {"capsule": ["cortex", "cec"]}
    chain = {"a": 10, "b": 5, "c": 4}
    assert contained(chain, {("a", "b"): 5, ("b", "c"): 4}) == {"a": ["c", "b"], "b": ["c"]}
    assert contained(chain, {("a", "b"): 4, ("b", "c"): 4}) == {"b": ["c"]}
    assert contained({"b": 10, "a": 5}, {("a", "b"): 5}) == {"b": ["a"]}  # the pair is in the order of names
    assert contained({"a": 5, "b": 5, "c": 0}, {("a", "b"): 5}) == {}


def test_encode():
    raster = Raster(np.array([[0, 1], [2, 1]], np.uint8), ("a", 255))
    coded = encode(raster, {0: 0, 255: 1, "a": 2})
    assert coded.dtype == np.uint8 and coded.tolist() == [[0, 2], [1, 2]]
    with pytest.raises(ValueError, match="255.*not among"):
        encode(raster, {0: 0, "a": 1})


def test_classes_file(tmp_path):
    (tmp_path / "data" / "masks").mkdir(parents=True)
    assert named_classes(tmp_path / "data" / "masks") is None
    file = tmp_path / "classes.json"
    file.write_text('{"nerve": [1], "vessel": ["#ff0000"], "kidney": ["Capsule", 3]}')
    expected = {"nerve": [1], "vessel": [0xFF0000], "kidney": ["Capsule", 3]}
    assert named_classes(tmp_path / "data" / "masks") == expected == named_classes(tmp_path)
    nearer = tmp_path / "data" / "masks" / "classes.json"
    for wrong in ([1], {"a": 1}, {"a": []}, {"a": [1.5]}, {"a": ["#red"]}, {"a": [True]}, {"a": "Capsule"}):
        nearer.write_text(json.dumps(wrong))
        with pytest.raises(UserError, match="masks/classes.json: must be"):
            named_classes(tmp_path / "data" / "masks")
