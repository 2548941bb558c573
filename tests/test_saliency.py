"""Saliency against boxes: by hand, and against a flood fill over Python sets that shares nothing with the code."""

import math

import numpy as np
import pytest

from uscl.metrics.saliency import Localisation, box_iou, highest, localisation, weighted_iou


def drawn(*blocks, shape=(10, 10)):
    """A map of zeros with blocks (top, left, bottom, right, value), inclusive."""
    saliency = np.zeros(shape)
    for top, left, bottom, right, value in blocks:
        saliency[top : bottom + 1, left : right + 1] = value
    return saliency


def by_sets(saliency, truths, share, min_area):
    """All measures of one frame: pixels in sets, regions by flood fill, boxes as sets of pixels."""
    height, width = saliency.shape
    value = {(y, x): max(saliency[y, x], 0.0) for y in range(height) for x in range(width)}
    ordered = sorted(value.values(), reverse=True)
    threshold = ordered[int(share * len(ordered) + 0.5) - 1]
    left = {p for p, v in value.items() if v >= threshold and v > ordered[-1]}
    top = max((value[p] for p in left), default=0)
    peaks = [p for p in left if value[p] == top]
    regions = []
    while left:
        region, front = set(), [min(left)]
        while front:
            y, x = front.pop()
            if (y, x) in left:
                left.remove((y, x))
                region.add((y, x))
                front += [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        if len(region) >= min_area:
            regions.append(region)

    def filled(top, left, bottom, right):
        return {(y, x) for y in range(top, bottom + 1) for x in range(left, right + 1)}

    def iou(a, b):
        return len(a & b) / len(a | b)

    masses = [sum(value[p] for p in region) for region in regions]
    boxes = [filled(min(y for y, _ in r), min(x for _, x in r), max(y for y, _ in r), max(x for _, x in r)) for r in regions]
    truths = [filled(*truth) for truth in truths]
    best = [max(iou(box, truth) for truth in truths) for box in boxes]
    reached = [max([iou(box, truth) for box in boxes] or [0]) for truth in truths]
    size = sum(len(truth) for truth in truths)
    return (
        sum(m * b for m, b in zip(masses, best, strict=True)) / sum(masses),
        sum(len(t) * r for t, r in zip(truths, reached, strict=True)) / size,
        sum(best) / len(best),
        *(sum(r >= least for r in reached) / len(truths) for least in (0.1, 0.3, 0.5)),
        sum(any(p in truth for truth in truths) for p in peaks) / len(peaks),
    )


@pytest.mark.parametrize("seed,share,min_area", [(0, 0.1, 1), (1, 0.1, 3), (2, 0.25, 1), (3, 0.05, 2)])
def test_agrees_with_sets(seed, share, min_area):
    rng = np.random.default_rng(seed)
    maps = np.round(rng.normal(size=(4, 12, 15)).cumsum(1).cumsum(2) / 2) / 4  # smooth, with ties and negatives
    boxes = []
    for n in (1, 3, 0, 2):
        corner = rng.integers(0, (8, 10), (n, 2))
        boxes.append(np.concatenate([corner, corner + rng.integers(0, 4, (n, 2))], 1))
    found = localisation(maps, boxes, share=share, min_area=min_area)
    expected = np.mean([by_sets(m, b, share, min_area) for m, b in zip(maps, boxes, strict=True) if len(b)], 0)
    assert found[:-1] == pytest.approx(tuple(expected), abs=1e-12) and found.frames == 3
    assert weighted_iou(maps, boxes, share=share, min_area=min_area) == found.weighted_iou


FAR = (0, 0, 0, 4, 1.0)


@pytest.mark.parametrize("blocks,boxes,expected", [
    ([(4, 3, 5, 7, 1.0)], [(4, 3, 5, 7)], (1, 1, 1, 1, 1, 1, 1)),
    ([(4, 3, 5, 7, 1.0)], [(5, 3, 6, 7)], (1 / 3, 1 / 3, 1 / 3, 1, 1, 0, 1 / 2)),
    ([FAR, (5, 3, 5, 7, 1.0)], [(5, 3, 5, 7)], (1 / 2, 1, 1 / 2, 1, 1, 1, 1 / 2)),
    ([FAR, (5, 3, 5, 7, 3.0)], [(5, 3, 5, 7)], (3 / 4, 1, 1 / 2, 1, 1, 1, 1)),
    ([FAR, (5, 3, 5, 7, 0.5)], [(5, 3, 5, 7)], (1 / 3, 1, 1 / 2, 1, 1, 1, 0)),
    ([(5, 3, 5, 7, 1.0)], [(5, 3, 5, 7), (8, 0, 9, 9)], (1, 5 / 25, 1, 1 / 2, 1 / 2, 1 / 2, 1)),
    ([(2, 2, 2, 2, 1.0), (3, 3, 3, 3, 1.0)], [(2, 2, 3, 3)], (1, 1, 1, 1, 1, 1, 1)),  # touch at a corner: one region
    ([], [(2, 2, 3, 3)], (0, 0, 0, 0, 0, 0, 0)),
    ([(0, 0, 9, 9, 5.0)], [(2, 2, 3, 3)], (0, 0, 0, 0, 0, 0, 0)),
    ([(0, 0, 9, 9, -5.0), (4, 3, 5, 7, -1.0)], [(4, 3, 5, 7)], (0, 0, 0, 0, 0, 0, 0)),  # nothing speaks for the score
    ([(4, 3, 5, 7, 1.0)], [(0, 0, 1, 1)], (0, 0, 0, 0, 0, 0, 0)),
])  # fmt: skip
def test_by_hand(blocks, boxes, expected):
    found = localisation(drawn(*blocks), [boxes])
    assert found == pytest.approx(Localisation(*expected, 1))


def test_hit_rates_are_reached_at_their_very_bound():
    for size, expected in ((10, (1, 0, 0)), (5, (1, 0, 0)), (2, (1, 1, 1))):
        found = localisation(drawn((0, 0, 0, 0, 1.0)), [[(0, 0, 0, size - 1)]])
        assert found[3:6] == expected, "one pixel out of 10 is 0.1, out of 2 is 0.5"


def test_frames():
    maps = np.stack([drawn((4, 3, 5, 7, 1.0)), drawn((0, 0, 1, 4, 1.0)), drawn()])
    box = [(4, 3, 5, 7)]
    assert localisation(maps, [box, box, []])[0::7] == (0.5, 2), "a frame without boxes does not count, one that misses does"
    assert localisation(maps[0], [box, [], np.array([(5, 3, 6, 7)])])[0::7] == (pytest.approx(2 / 3), 2), "one map for all frames"
    nothing = localisation(maps, [[], [], []])
    assert nothing.frames == 0 and all(math.isnan(x) for x in nothing[:-1])


def test_the_highest():
    mixed = np.random.default_rng(0).permutation(100.0 + np.arange(100)).reshape(10, 10)
    assert (highest(mixed) == (mixed >= 190)).all()
    assert highest(drawn((1, 1, 2, 3, 2.0))).sum() == 6, "zeros do not fill the tenth up"
    assert highest(drawn((0, 0, 3, 9, 1.0), (0, 0, 0, 4, 2.0))).sum() == 40, "all that equal the last"
    assert highest(drawn((0, 0, 0, 9, 1.0)), share=0.001).sum() == 10 and highest(mixed, share=0.001).sum() == 1
    sector = np.tri(10, dtype=bool)  # 55 pixels
    ten = np.sort(mixed[sector])[-round(5.5)]
    assert (highest(mixed, valid=sector) == (sector & (mixed >= ten))).all()
    bright = np.where(sector, 1.0, 9.0)
    assert not highest(bright, valid=sector).any(), "constant within the sector"


def test_small_regions_leave_their_weight_to_the_rest():
    saliency = drawn((4, 3, 5, 6, 1.0), (0, 0, 0, 0, 2.0))
    assert weighted_iou(saliency, [[(4, 3, 5, 6)]]) == pytest.approx(0.8)
    assert weighted_iou(saliency, [[(4, 3, 5, 6)]], min_area=2) == 1
    assert localisation(saliency, [[(4, 3, 5, 6)]], min_area=9)[:-1] == (0,) * 7


def test_boxes_with_boxes():
    a = [(0, 0, 1, 9), (5, 5, 5, 5)]
    b = [(1, 0, 2, 9), (0, 0, 1, 9), (5, 6, 5, 6), (4, 4, 6, 6)]
    assert np.allclose(box_iou(a, b), [[1 / 3, 1, 0, 0], [0, 0, 0, 1 / 9]])


@pytest.mark.parametrize("saliency,boxes,given,words", [
    (np.zeros((2, 4, 4)), [[]], {}, "2 frames, boxes 1"),
    (np.zeros(4), [[]], {}, "found shape"),
    (np.full((4, 4), np.nan), [[]], {}, "finite"),
    (np.zeros((4, 4)), [[(0, 0, 4, 3)]], {}, "inside"),
    (np.zeros((4, 4)), [[(-1, 0, 2, 3)]], {}, "inside"),
    (np.zeros((4, 4)), [[(2, 0, 1, 3)]], {}, "inside"),
    (np.zeros((4, 4)), [[(0.0, 0, 1, 3)]], {}, "integers"),
    (np.zeros((4, 4)), [(0, 0, 1, 3)], {}, "integers"),
    (np.zeros((4, 4)), [[(0, 0, 1, 3)]], {"share": 0}, "share"),
    (np.zeros((4, 4)), [[(0, 0, 1, 3)]], {"valid": np.zeros((4, 4))}, "pixel"),
    (np.zeros((4, 4)), [[(0, 0, 1, 3)]], {"valid": np.ones((4, 3))}, "valid"),
])  # fmt: skip
def test_refusals(saliency, boxes, given, words):
    with pytest.raises(ValueError, match=words):
        localisation(saliency, boxes, **given)
