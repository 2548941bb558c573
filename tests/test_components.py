"""The largest component: what is connected, and when the rule is adopted; against the original's decisions on the same maps."""
import json

import numpy as np
import pytest

from uscl import metrics
from uscl.metrics import components
from uscl.types import UserError


def drawn(seed, n=6, side=16):
    """Blocks with crumbs, without a random generator: nnunetv2's determine_postprocessing was given the same files."""
    maps = []
    for i in range(n):
        m, t = np.zeros((2, side, side), np.uint8)
        for v in (1, 2, 3):
            y, x = (3 * v + i * seed) % 9, (5 * v + 2 * i + seed) % 9
            t[y : y + 5, x : x + 4] = v
            m[y + i % 2 : y + 5, x : x + 4] = v
            if (i + v + seed) % 3:
                m[(7 * i + v * seed) % 16, (11 * i + 5 * v) % 15] = v
            if (i * v + seed) % 4 == 1:
                m[14, (3 * i + v) % 13 : (3 * i + v) % 13 + 3] = v
            if (i * v * seed) % 5 == 2:
                t[14, (3 * i + v) % 13 : (3 * i + v) % 13 + 3] = v
        maps.append((m, t))
    return [np.stack(z) for z in zip(*maps, strict=True)]


REGIONS = {"w": [1, 2, 3], "b": 2, "bc": [2, 3]}
# seed, classes; values whose largest component the original keeps, mean foreground Dice before and after
ORIGINAL = [
    (1, None, [[1], [2], [3]], 0.912334, 0.936073), (1, REGIONS, [[2], [2, 3]], 0.912823, 0.930908),
    (2, None, [[1], [2], [3]], 0.911946, 0.932936), (2, REGIONS, [[2], [2, 3]], 0.918202, 0.931782),
    (3, None, [[1], [2], [3]], 0.906617, 0.936289), (3, REGIONS, [[2], [2, 3]], 0.905897, 0.932625),
    (4, None, [[1], [2], [3]], 0.912422, 0.937332), (4, REGIONS, [[2]], 0.918261, 0.921984),
]  # fmt: skip


@pytest.mark.parametrize("seed, classes, kept, before, after", ORIGINAL)
def test_decides_as_the_original(seed, classes, kept, before, after):
    predictions, truths = drawn(seed)
    rules = components.decide(predictions, truths, **({"classes": classes} if classes else {"values": 4}))
    assert rules["keep_largest"] == kept
    assert rules["tried"][0]["of"] == "foreground" and len(rules["tried"]) == 4
    np.testing.assert_allclose(rules["tried"][0]["before"], before, atol=1e-6)
    cleaned = [components.apply(p, rules) for p in predictions]
    values = (classes or {"a": 1, "b": 2, "c": 3}).values()
    means = [np.nanmean([metrics.dice(metrics.class_mask(p, v), metrics.class_mask(t, v), empty="skip")
                         for p, t in zip(cleaned, truths, strict=True)]) for v in values]  # fmt: skip
    np.testing.assert_allclose(np.mean(means), after, atol=1e-6)
    assert json.loads(json.dumps(rules, allow_nan=False)) == rules


def test_largest_component_of_the_original():
    mask = np.array([[1, 0, 0, 0, 1], [0, 1, 0, 0, 1], [0, 0, 0, 0, 0], [1, 1, 0, 0, 0]])  # three parts of two pixels, one by a corner
    got = components.largest_component(mask)
    assert got.dtype == bool
    np.testing.assert_array_equal(got, mask)
    mask[1, 2] = 1
    np.testing.assert_array_equal(components.largest_component(mask), [[1, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0] * 5, [0] * 5])
    for constant in (0, 1):
        np.testing.assert_array_equal(components.largest_component(np.full((2, 3), constant)), constant)


def test_apply_of_the_original():
    label = np.array([[1, 1, 0, 2], [0, 0, 0, 2], [3, 0, 1, 0]], np.uint8)
    for values, kept in (([1, 2, 3], [[0, 0, 0, 2], [0, 0, 0, 2], [0, 0, 1, 0]]), ([1, 3], [[1, 1, 0, 2], [0, 0, 0, 2], [0] * 4]),
                         ([1], [[1, 1, 0, 2], [0, 0, 0, 2], [3, 0, 0, 0]])):  # fmt: skip
        got = components.apply(label, {"keep_largest": [values]})
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, kept)
    both = components.apply(label, {"keep_largest": [[1, 3], [1, 2, 3]]})  # in order: 2 and 1 are equal then, and both stay
    np.testing.assert_array_equal(both, [[1, 1, 0, 2], [0, 0, 0, 2], [0] * 4])
    np.testing.assert_array_equal(components.apply(label, {"keep_largest": []}), label)
    np.testing.assert_array_equal(label[2], [3, 0, 1, 0])  # the caller's map stays as it was


def strip(*rows):
    return np.array(rows, np.uint8)[:, None]


def decided(prediction, truth, **classes):
    rules = components.decide(prediction, truth, **(classes or {"values": 3}))
    return {step["of"]: (step["before"], step["after"], step["adopted"]) for step in rules["tried"]}, rules["keep_largest"]


def test_foreground_rule_by_hand():
    truth = strip([1, 1, 2, 0, 0, 0])
    both, kept = decided(strip([1, 1, 2, 0, 1, 0]), truth)  # a crumb of 1: Dice 4/5 -> 1, and 2 stays at 1
    assert both["foreground"] == (pytest.approx(0.9), 1.0, True) and kept == [[1, 2]]
    assert both["1"] == (1.0, 1.0, False) and both["2"] == (1.0, 1.0, False)  # judged on what is left, where nothing rises any more
    # 1 rises from 4/5 to 1, but 2 falls from 4/5 to 1/2: not all together; then 1 alone, and of 2 both parts of one pixel stay
    both, kept = decided(strip([1, 1, 2, 0, 1, 0, 0, 2, 0]), strip([1, 1, 2, 0, 0, 0, 2, 2, 0]))
    assert both["foreground"] == (pytest.approx(0.8), pytest.approx((1 + 1 / 2) / 2), False)
    assert both["1"] == (pytest.approx(0.8), 1.0, True) and both["2"] == (pytest.approx(0.8), pytest.approx(0.8), False) and kept == [[1]]


def test_a_class_that_falls_forbids_the_foreground_rule():
    prediction, truth = strip([1, 1, 1, 0, 1, 0, 2, 0]), strip([1, 1, 1, 0, 0, 0, 2, 0])
    others = strip([1, 1, 0, 2, 2, 2, 2, 2]), strip([0, 0, 0, 2, 2, 2, 2, 2])
    both, kept = decided(*(np.concatenate([mine, other, other, other]) for mine, other in zip((prediction, truth), others, strict=True)))
    # 1: images (6/7, 0, 0, 0) -> (1, none, none, none); 2: (1, 1, 1, 1) -> (0, 1, 1, 1). The mean rises, 2 falls.
    assert both["foreground"] == (pytest.approx((6 / 28 + 1) / 2), pytest.approx((1 + 3 / 4) / 2), False)
    assert kept == [[1]]


def test_no_rule_without_a_rise():
    predictions, truths = drawn(1)
    assert components.decide(truths, truths, values=4)["keep_largest"] == []
    both, kept = decided(strip([1, 0, 1, 1]), strip([1, 0, 1, 1]), classes={"one": 1})
    assert list(both) == ["foreground"] and kept == []  # a single class: the same rule would be tried twice
    both, kept = decided(strip([1, 1, 0, 1, 0, 0]), strip([1, 1, 0, 0, 0, 0]), values=3)  # no image has class 2
    assert both["foreground"] == (None, None, False) and both["2"] == (None, None, False) and kept == [[1]]
    sizes = [np.ones((2, 3), np.uint8), np.ones((4, 1), np.uint8)]
    assert components.decide(sizes, sizes, values=2)["keep_largest"] == []


def test_mistakes_are_refused():
    one = np.ones((1, 2, 2), np.uint8)
    for options in ({}, {"values": 2, "classes": {"a": 1}}, {"values": 1}, {"classes": {}}):
        with pytest.raises(ValueError):
            components.decide(one, one, **options)
    for truths in (one[:0], np.ones((2, 2, 2))):
        with pytest.raises(ValueError, match="truths"):
            components.decide(one, truths, values=2)
    for rules in ({}, {"keep_largest": [["kidney"]]}, {"keep_largest": 3}):
        with pytest.raises(UserError, match="keep_largest"):
            components.apply(one[0], rules)
