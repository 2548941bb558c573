"""Head circumference: rasterised ellipses of known axes, Fitzgibbon's six-by-six problem, lengths summed by hand, HC18's own table."""

import csv
import math

import numpy as np
import pytest
from PIL import Image
from scipy import linalg

from uscl.metrics import circumference, circumference_error, ellipse_perimeter, fit_ellipse, outline, ramanujan_perimeter

pytestmark = pytest.mark.filterwarnings("error")


def drawn(row, column, major, minor, degrees, shape=(160, 170)):
    """Pixels whose centre is inside the ellipse; degrees turn its long axis from along the columns to down the rows."""
    y, x = np.mgrid[: shape[0], : shape[1]] - np.array([row, column])[:, None, None]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return ((x * cos + y * sin) / major) ** 2 + ((y * cos - x * sin) / minor) ** 2 <= 1


def along(row, column, major, minor, degrees, *, start=0, stop=360, n=40):
    """Points [n, 2] on the same ellipse."""
    t, angle = np.radians(np.linspace(start, stop, n, endpoint=False)), math.radians(degrees)
    x, y = major * np.cos(t), minor * np.sin(t)
    return np.stack([row + x * math.sin(angle) + y * math.cos(angle), column + x * math.cos(angle) - y * math.sin(angle)], 1)


def summed(major, minor, n=20_000):
    """Perimeter by the midpoint rule, which is exact to rounding for a speed this smooth and periodic."""
    t = (np.arange(n) + 0.5) * 2 * np.pi / n
    return np.hypot(major * np.sin(t), minor * np.cos(t)).sum() * 2 * np.pi / n


@pytest.mark.parametrize("degrees", range(0, 180, 15))
def test_a_rasterised_ellipse_is_measured_to_a_thousandth(degrees):
    for mm in (0.05, 0.31):  # of one head, which is the larger in pixels the smaller they are
        shape, major, minor = (round(26 / mm), round(27 / mm)), 9.3 / mm, 7.2 / mm
        found = circumference(drawn(12.9 / mm, 13.6 / mm, major, minor, degrees, shape), mm=mm)
        assert found == pytest.approx(summed(9.3, 7.2), rel=1e-3 if mm < 0.1 else 5e-3)


@pytest.mark.parametrize("degrees", range(0, 180, 20))
def test_coarse_pixels_do_not_bias(degrees):  # as a small store's
    rng = np.random.default_rng(degrees)
    found = [circumference(drawn(*(20 + rng.random(2)), 10.3, 8.1, degrees, (41, 43)), mm=1) for _ in range(8)]
    assert np.abs(np.array(found) / summed(10.3, 8.1) - 1).max() < 0.02
    assert np.mean(found) == pytest.approx(summed(10.3, 8.1), rel=5e-3)


def test_known_values():
    disc = drawn(30, 31, 20, 20, 0, (60, 64))
    assert circumference(disc, mm=0.5) == pytest.approx(2 * math.pi * 10, rel=2e-3)
    assert circumference(disc * 255, mm=1) == pytest.approx(2 * circumference(disc, mm=0.5), rel=1e-12)
    assert circumference(disc, mm=0.5, border=2) == pytest.approx(circumference(disc, mm=0.5) - 2 * math.pi, rel=1e-12)
    ellipse = fit_ellipse(outline(thin := drawn(30, 60, 55, 3, 10, (60, 120))))
    assert circumference(thin, mm=1) == pytest.approx(summed(ellipse.major, ellipse.minor), rel=1e-9)


def test_what_is_not_there_is_nan():
    empty = np.zeros((9, 9), bool)
    dot, cross, band = (empty.copy() for _ in range(3))
    dot[3, 5] = cross[3, 3:6] = cross[2:5, 4] = band[3:6] = True
    bowed = drawn(80, 100, 500, 30, 0, (160, 200))
    assert np.isfinite(fit_ellipse(outline(bowed))).all()
    for mask in (empty, dot, band, ~empty, np.zeros((0, 0), bool), bowed):
        assert math.isnan(circumference(mask, mm=1))
    assert math.isnan(circumference(cross, mm=math.nan)) and math.isnan(circumference(cross, mm=1, border=9))
    assert 2 * math.pi < circumference(cross, mm=1) < 3 * math.pi
    for mask, mm, said in ((empty, 0, "pixel"), (empty, -1, "pixel"), (empty[0], 1, "mask")):
        with pytest.raises(ValueError, match=said):
            circumference(mask, mm=mm)


def test_only_the_largest_part_counts_and_holes_do_not():
    head = drawn(80, 85, 50, 40, 30)
    ragged = (head | drawn(10, 12, 9, 9, 0) | drawn(150, 160, 5, 5, 0)) & ~drawn(75, 85, 9, 7, 0)
    assert circumference(ragged, mm=0.1) == circumference(head, mm=0.1)


def test_a_head_that_the_image_cuts_off_is_completed():
    whole, length = drawn(80, 85, 60, 46, 25), pytest.approx(summed(60, 46), rel=5e-3)
    assert circumference(whole[:, 45:], mm=1) == length and circumference(whole[45:125], mm=1) == length


def grown(start, steps, allowed):
    """All places that steps lead to from one."""
    places = [start]
    for r, c in places:
        places += [near for near in dict.fromkeys((r + i, c + j) for i, j in steps) if near not in places and allowed(near)]
    return set(places)


def test_outline_by_hand_and_by_looking_at_every_side():
    single = np.zeros((6, 8))
    single[3, 5] = 7
    assert sorted(map(tuple, outline(single))) == [(2.5, 5), (3, 4.5), (3, 5.5), (3.5, 5)]
    assert outline(np.zeros((4, 4))).shape == (0, 2) == outline(np.ones((4, 4))).shape
    rng = np.random.default_rng(0)
    mask = np.zeros((12, 12), bool)
    mask[2:9, 0:7] = rng.random((7, 7)) < 0.8
    mask[3:6, 2:5] = mask[8, 6] = mask[9, 7] = mask[0, 11] = True
    mask[4, 3] = False  # a hole; (9, 7) touches at a corner, (0, 11) is another part
    straight = [(1, 0), (-1, 0), (0, 1), (0, -1)]
    seen = grown((3, 3), [*straight, (1, 1), (1, -1), (-1, 1), (-1, -1)], lambda p: min(p) >= 0 and max(p) < 12 and mask[p])
    reached = grown((-1, -1), straight, lambda p: p not in seen and min(p) >= -1 and max(p) <= 12)
    places = {(r, c) for r in range(12) for c in range(12)}
    sides = [(r + i / 2, c + j / 2) for r, c in places - reached for i, j in straight if (r + i, c + j) in reached & places]
    assert sorted(map(tuple, outline(mask))) == sorted(sides)


@pytest.mark.parametrize("truth", [(3, -7, 5, 2, 20), (270, 400, 300, 180, 170), (0, 0, 1e-3, 9e-4, 90), (2e4, 9, 4, 1, 60)])
def test_points_on_an_ellipse_give_it_back(truth):
    for stop, close in ((360, 1e-8), (120, 1e-4)):
        found = fit_ellipse(along(*truth, stop=stop))
        assert found[:4] == pytest.approx(truth[:4], rel=close, abs=1e-9)
        assert math.degrees(found.angle) == pytest.approx(truth[4], abs=0.01)


def fitzgibbon(points):
    """Semi-axes by the generalised eigenproblem D'D a = s C a in six unknowns, as printed in 1999."""
    y, x = (points - points.mean(0)).T / 10
    design, constraint = np.stack([x * x, x * y, y * y, x, y, np.ones_like(x)], 1), np.zeros((6, 6))
    constraint[[0, 1, 2], [2, 1, 0]] = 2, -1, 2
    values, vectors = linalg.eig(design.T @ design, constraint)
    a, b, c, d, e, f = vectors[:, np.isfinite(values) & (values.real > 0)].real[:, 0]
    whole = np.array([[a, b / 2, d / 2], [b / 2, c, e / 2], [d / 2, e / 2, f]])
    level = -np.linalg.det(whole) / np.linalg.det(whole[:2, :2])
    return sorted(10 * np.sqrt(level / np.linalg.eigvalsh(whole[:2, :2])), reverse=True)


@pytest.mark.parametrize("seed", range(8))
def test_noisy_points_and_arcs_as_fitzgibbon(seed):
    rng = np.random.default_rng(seed)
    points = along(40, 60, 30, 21, 35 * seed, stop=360 - 20 * seed, n=60) + rng.normal(0, 1, (60, 2))
    assert fit_ellipse(points)[2:4] == pytest.approx(fitzgibbon(points), rel=1e-7)


def test_points_known_by_hand():
    square = np.array([(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if r or c])
    assert fit_ellipse(square)[:4] == pytest.approx([0, 0, 1.5**0.5, 1.5**0.5], abs=1e-9)
    line = np.stack([np.arange(20), 3 * np.arange(20) + 1], 1)
    for points in (square[:4], line, np.concatenate([line, line + (0, 4)]), np.ones((9, 2)), np.empty((0, 2))):
        assert np.isnan(fit_ellipse(points)).all()
    with pytest.raises(ValueError, match="points"):
        fit_ellipse(np.ones((8, 3)))


def test_perimeters():
    major, minor = np.array([1, 2, 1, 0, math.nan, 3, 0]), np.array([1, 1, 0, 0, 1, 7, 2])
    lengths = [2 * math.pi, 9.688448220547675, 4, 0, math.nan, summed(7, 3), 8]
    assert ellipse_perimeter(major, minor) == pytest.approx(lengths, rel=1e-12, nan_ok=True)
    by_hand = [2 * math.pi, 3 * math.pi * (1 + 1 / (30 + 3 * math.sqrt(11 / 3))), 14 * math.pi / 11, 0, math.nan]
    assert ramanujan_perimeter(major, minor)[:5] == pytest.approx(by_hand, rel=1e-12, nan_ok=True)
    assert ramanujan_perimeter(100, 78) == pytest.approx(summed(100, 78), rel=1e-9)
    assert 1 - ramanujan_perimeter(1, 0) / 4 == pytest.approx(1 / 2485, rel=1e-3)
    with pytest.raises(ValueError, match="negative"):
        ellipse_perimeter(1, -1)


def test_misses_are_counted_and_unknown_truths_left_out():
    assert circumference_error([101, 97, math.nan], [100, 100, 100]) == (-1, 2, 1, 2)
    assert circumference_error([101, math.nan, 50], [100, math.nan, math.nan]) == (1, 1, 0, 1)
    assert circumference_error([math.nan], [90]) == pytest.approx((math.nan, math.nan, 1, 0), nan_ok=True)
    assert circumference_error([], []).missed == 0
    with pytest.raises(ValueError, match="predicted"):
        circumference_error(np.ones(2), np.ones(3))


def heads(root):
    with open(root / "training_set_pixel_size_and_HC.csv") as table:
        rows = {row["filename"]: row for row in csv.DictReader(table)}
    for path in sorted((root / "masks_filled").iterdir()):
        row = rows[path.name.replace("_mask", "")]
        yield path, float(row["pixel size(mm)"]), float(row["head circumference (mm)"])


def inside(path):
    return np.asarray(Image.open(path).convert("L")) > 127


@pytest.mark.parametrize("step", [12, pytest.param(1, marks=pytest.mark.slow)])
def test_hc18_masks_reproduce_its_table(data_root, step):
    paths, mm, truth = (np.array(column) for column in zip(*list(heads(data_root / "hc18"))[::step], strict=True))
    found = [circumference(inside(path), mm=size) for path, size in zip(paths, mm, strict=True)]
    plain, less = circumference_error(found, truth), circumference_error(found - 2 * np.pi * 1.4 * mm, truth)
    assert plain.missed == 0 and plain.measured == len(truth)
    assert plain.signed == plain.absolute and 1 < plain.signed < 1.6  # every mask is wider than the curve its figure belongs to
    assert less.absolute < 0.05 and abs(less.signed) < 0.03
    print(f"HC18, {len(truth)} masks: mean error {plain.signed:.3f} mm, with border=1.4 {less.signed:.3f}, magnitude {less.absolute:.3f}")


def test_the_middle_of_hc18s_outlines_is_what_its_table_measures(data_root):
    lines, found, truth = data_root / "hc18" / "annotations_outline", [], []
    for path, mm, value in heads(data_root / "hc18"):
        if len(found) < 8 and (line := lines / path.name.replace("_mask", "_Annotation")).is_file():
            found.append(mm * ellipse_perimeter(*fit_ellipse(np.argwhere(inside(line)))[2:4]))
            truth.append(value)
    assert len(found) == 8 and circumference_error(found, truth).absolute < 0.02
