"""Shapes as pixels, against exact fractions, the shoelace formula and masks put together by hand."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest

from uscl.data import shapes
from uscl.data.items import Drawing, Shape
from uscl.types import UserError

RNG = np.random.default_rng(0)


def ring(*points):
    return np.array(points, float)


def drawn(name, *rings):
    return Shape(name, tuple(np.asarray(r, float) for r in rings))


def painted(*found, height=20, width=30, size=None):
    return shapes.raster(Drawing(tuple(found), size=size), height, width)


def inside_exactly(points, height, width):
    """Even-odd by a ray straight down from each centre, moved right by next to nothing and down by far less, in fractions."""
    corners = [(Fraction(float(x)), Fraction(float(y))) for x, y in points]
    found = np.zeros((height, width), bool)
    for r, c in np.ndindex(height, width):
        x, y = c + Fraction(1, 2) + Fraction(1, 10**40), r + Fraction(1, 2) + Fraction(1, 10**80)
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
            if (x0 < x) != (x1 < x) and y0 + (x - x0) * (y1 - y0) / (x1 - x0) > y:
                found[r, c] ^= True
    return found


def test_a_square_covers_the_pixels_whose_centres_it_holds():
    found = painted(drawn("a", [(1, 1), (3, 1), (3, 3), (1, 3)]), height=4, width=5)
    assert found.index.dtype == np.uint8 and found.keys == ("a",) and found.area == {"a": 4} and found.overlap == {}
    np.testing.assert_array_equal(found.index, [[0, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
    # Centres on an edge: those on the left and upper edge are in, on the right and lower ones out.
    half = painted(drawn("a", [(0.5, 0.5), (2.5, 0.5), (2.5, 1.5), (0.5, 1.5)]), height=4, width=5)
    np.testing.assert_array_equal(np.argwhere(half.index), [[0, 0], [0, 1]])
    whole = painted(drawn("a", [(-2, -2), (32, -2), (32, 22), (-2, 22)]))
    assert whole.index.all() and whole.area == {"a": 600}


@pytest.mark.parametrize("step", [1, 0.5, 1e-9])
@pytest.mark.parametrize("corners", [3, 4, 7, 12])
def test_any_ring_covers_what_exact_arithmetic_says(step, corners):
    """Also rings that cross themselves, with centres on edges and corners, and points outside the image."""
    for _ in range(2):
        points = np.round(RNG.uniform(-2, [17, 13], (corners, 2)) / step) * step
        expected = inside_exactly(points, 11, 15)
        assert (painted(drawn("a", points), height=11, width=15).index == expected).all(), points
        assert (painted(drawn("a", points[::-1]), height=11, width=15).index == expected).all(), "drawn the other way round"


def test_shapes_that_share_edges_share_no_pixel_and_leave_none_out():
    """A fan of triangles round a point inside tiles the image, whatever the point."""
    rim = [(0, 0), (13.7, 0), (30, 0), (30, 9.1), (30, 20), (11.3, 20), (0, 20), (0, 3.3)]
    for centre in RNG.uniform(1, 19, (20, 2)):
        found = [painted(drawn("a", [a, b, centre])).index for a, b in zip(rim, rim[1:] + rim[:1], strict=True)]
        np.testing.assert_array_equal(np.sum(found, axis=0), np.ones((20, 30)))


def test_the_number_of_pixels_is_the_area_of_the_ring():
    t = np.arange(40) * 2 * np.pi / 40
    for _ in range(20):
        radius = RNG.uniform(30, 60, 40)
        points = np.stack([70.3 + radius * np.cos(t), 65.1 + radius * np.sin(t)], axis=1)
        x, y = points.T
        expected = 0.5 * sum(x[i - 1] * y[i] - x[i] * y[i - 1] for i in range(40))
        shape = drawn("a", points)
        assert shapes.area(shape) == pytest.approx(expected)
        assert painted(shape, height=131, width=139).area["a"] == pytest.approx(expected, rel=0.005)
    assert shapes.area(Shape("a", runs=(3, 4, 5, 6))) == 10


def test_later_shapes_win_and_what_they_hide_is_counted():
    first = drawn("big", [(0, 0), (17, 0), (17, 10), (0, 10)])
    parts = drawn("small", [(2, 2), (6, 2), (6, 6), (2, 6)], [(4, 4), (9, 4), (9, 8), (4, 8)])
    beside = drawn("big", [(18, 5), (29, 5), (29, 20), (18, 20)])
    found = painted(first, parts, beside)
    big, small = np.zeros((2, 20, 30), bool)
    big[:10, :17] = big[5:, 18:29] = small[2:6, 2:6] = small[4:8, 4:9] = True
    assert found.keys == ("big", "small")
    np.testing.assert_array_equal(found.index, np.where(small, 2, big))
    assert found.area == {"big": 170 + 165, "small": 16 + 20 - 4} and found.overlap == {("big", "small"): 32}
    over = painted(parts, first)
    assert over.keys == ("small", "big") and (over.index == np.where(big & (np.arange(30) < 17), 2, 0)).all()
    assert over.overlap == {("big", "small"): 32}, "names in sorted order, hidden or not"


def test_runs_go_down_the_columns_and_overlaps_are_those_of_the_masks():
    masks = RNG.random((5, 9, 13)) < 0.4
    found = []
    for i, mask in enumerate(masks):
        flat, runs, value = mask.T.reshape(-1), [0], False
        for pixel in flat:
            if pixel != value:
                runs.append(0)
                value = pixel
            runs[-1] += 1
        found.append(Shape("edcba"[i], runs=tuple(runs)))
    raster = painted(*found, height=9, width=13)
    assert raster.keys == tuple("edcba")
    np.testing.assert_array_equal(raster.index, (masks * np.arange(1, 6)[:, None, None]).max(0))
    of = dict(zip("edcba", masks, strict=True))
    assert raster.area == {name: mask.sum() for name, mask in of.items()}
    assert raster.overlap == {(a, b): (of[a] & of[b]).sum() for a, b in combinations("abcde", 2)}


def test_points_up_to_two_pixels_outside_are_cut_off():
    assert painted(drawn("a", [(-2, 5), (4, 5), (4, 8), (-2, 8)])).area == {"a": 12}
    for edge in ([(-2, 3), (-1, 3), (-1, 9)], [(31, 3), (32, 3), (32, 9)], [(3, 21), (9, 21), (9, 22)]):
        assert painted(drawn("a", edge)).area == {"a": 0}


SQUARE = drawn("Cortex", [(1, 1), (3, 1), (3, 3)])


@pytest.mark.parametrize(
    "shape, words",
    [
        (drawn("Cortex", [(1, 1), (32.5, 1), (3, 3)]), ["at x 32.5, y 1", "30 pixels wide and 20 high"]),
        (drawn("Cortex", [(1, 1), (3, 1), (3, -2.1)]), ["at x 3, y -2.1"]),
        (drawn("Cortex", [(1, 1), (3, 1), (3, 22.5)]), ["at x 3, y 22.5"]),
        (drawn("Cortex", [(1, 1), (np.nan, 1), (3, 3)]), ["not a number"]),
        (drawn("Cortex", [(1, 1), (3, np.inf), (3, 3)]), ["not a number"]),
        (drawn("Cortex", [(1, 1), (3, 3)]), ["encloses nothing with its 2 points"]),
        (drawn("Cortex", [(0.1, 0.1), (0.2, 0.2), (0.3, 0.3), (0.7, 0.7)]), ["encloses nothing"]),
        (drawn("Cortex", [(5, 5)] * 4), ["encloses nothing"]),
        (drawn("Cortex", np.zeros((0, 2))), ["encloses nothing"]),
        (drawn("Cortex"), ["encloses nothing"]),
        (Shape("Cortex", runs=(600,)), ["empty mask"]),
        (Shape("Cortex", runs=(5, 5)), ["10 pixels", "20 x 30"]),
        (drawn("Cortex", [(i % 30, i % 2 * 20) for i in range(60_000)]), ["up and down"]),
    ],
)
def test_a_shape_that_does_not_belong_is_named_with_its_fault(shape, words):
    with pytest.raises(UserError, match="^shape 2 of 'Cortex' ") as error:
        painted(drawn("Medulla", [(1, 1), (9, 1), (9, 9)]), SQUARE, shape)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_a_ring_without_area_beside_one_with_is_passed_over():
    found = painted(drawn("a", [(1, 1), (3, 1), (3, 3), (1, 3)], [(7, 7), (8, 8)]))
    assert found.area == {"a": 4}


def test_the_size_the_annotator_saw_is_the_image_s():
    assert painted(SQUARE, size=(20, 30)).area == {"Cortex": painted(SQUARE).area["Cortex"]}
    with pytest.raises(UserError, match="30 x 20 pixels .height x width.; this one has 20 x 30"):
        painted(SQUARE, size=(30, 20))


def test_names_fit_the_index():
    squares = [drawn(f"{i}", [(1, 1), (3, 1), (3, 3)]) for i in range(256)]
    assert painted(*squares[:255]).index.max() == 255
    with pytest.raises(UserError, match="256 classes"):
        painted(*squares)
    nothing = painted()
    assert nothing.keys == () and not nothing.index.any() and nothing.area == {}
