"""How large a head is, in mm: the outline of a mask, the ellipse through it, the ellipse's perimeter, and how far two figures differ."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.special import ellipe

_FLAT = 1e-6  # squared ratio of the axes, or of the spread along them, below which points lie on a line, or on two that are parallel


class Ellipse(NamedTuple):
    """An ellipse in pixels: centre (row, column), semi-axes major >= minor, and the angle of the major one in radians, 0 to pi, from the
    direction of rising columns to that of rising rows. A pixel's centre has whole numbers. All nan where points determine none.
    """

    row: float
    column: float
    major: float
    minor: float
    angle: float


class CircumferenceError(NamedTuple):
    """Mean of predicted - true and of its magnitude, both in mm over the `measured` images; `missed`: images whose head was not found."""

    signed: float
    absolute: float
    missed: int
    measured: int


def circumference(mask, *, mm, border=0.0):
    """Head circumference in mm: the perimeter of the ellipse through the outline of the mask's largest part (van den Heuvel et al. 2018).

        HC = mm * (ellipse_perimeter(major, minor) - 2 pi border)        of fit_ellipse(outline(mask))

    The ellipse and not the outline is measured: steps from pixel to pixel are longer than the curve they stand for, and a ragged prediction
    would have a large head. Fitting the centres of the border's pixels is no way out: that ellipse lies half a pixel inside (0.8 % too
    short at semi-axes of 60 and 47 pixels, where this one is off by 0.06 % at most; at 10 and 8, 4.9 % and 1.2 %).

    mask: [H, W], anything but 0 is inside. mm: size of a (square) pixel; nan where unknown, and then so is the answer.
    border: pixels by which the mask reaches past the curve that is meant, all around; every closed convex curve is 2 pi longer per pixel.
    HC18's circumferences belong to the middle of the line its experts drew, 2.6 pixels wide. Its outlines, filled with the line, reach 1.3
    past it, the filled masks tried here 1.4: 0.4 to 2.8 mm more than the table says. A network learns that too, so hold a prediction
    against the mask measured alike, or against the table with border, in pixels of the mask at hand (fewer in pictures made smaller).

    Returns a float > 0 in mm, or nan where nothing was found: an empty mask, or one that no ellipse fits (a single pixel, a mask whose edge
    is the image's, one that bends so little that a semi-axis is longer than the image's diagonal). `circumference_error` counts those.
    Raises ValueError for another shape or mm <= 0.

    Known values: a disc of radius 20 at mm=0.5, 2 pi 10 = 62.83; the same with border=2, 2 pi 9; an empty mask nan; mm doubled, twice
    the answer.
    """
    if mm <= 0:
        raise ValueError(f"mm is {mm}; a pixel's size must be above 0")
    ellipse = fit_ellipse(outline(mask))
    if ellipse.major > np.hypot(*np.shape(mask)):
        return float("nan")
    length = float(mm * (ellipse_perimeter(ellipse.major, ellipse.minor) - 2 * np.pi * border))
    return length if length > 0 else float("nan")


def circumference_error(predicted, truth):
    """How far predicted circumferences are from the true ones, and how many heads have none.

        signed = mean(p_i - t_i)        absolute = mean |p_i - t_i|        over images where both are known

    The means say nothing of a head that was missed, and would improve by missing the difficult ones, so `missed` belongs beside them. An
    image whose truth is nan (no head, or unknown mm) is left out of everything. For an interval over patients, give
    `bootstrap_patients` the differences (nan is left out there as well).

    predicted, truth: [n] in mm, nan where there is none. Returns `CircumferenceError(signed, absolute, missed, measured)`; the means are
    nan where nothing was measured. Raises ValueError for two shapes.

    Known values: (101, 97, nan) against (100, 100, 100): -1, 2, 1 missed, 2 measured.
    """
    predicted, truth = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if predicted.ndim != 1 or predicted.shape != truth.shape:
        raise ValueError(f"predicted has shape {predicted.shape}, truth {truth.shape}; both must be [n]")
    difference = (predicted - truth)[~np.isnan(truth)]
    found = difference[~np.isnan(difference)]
    signed, absolute = (float(d.mean()) if len(found) else float("nan") for d in (found, np.abs(found)))
    return CircumferenceError(signed, absolute, len(difference) - len(found), len(found))


def outline(mask):
    """Points on the outer edge of a mask's largest part, in pixels: half-way between each pixel of it and each neighbour outside.

    Pixels that touch at a corner are one part, but a neighbour shares a side. Of parts of equal size the first is taken, as rows are read.
    Holes are filled. The edge that a part shares with the image is no outline: a head that the image cuts off keeps the arc that is seen.
    If pixels are inside where their centre is, the true curve runs somewhere between the two centres, so the middle is off by half a pixel
    at most, and by 0 on average.

    mask: [H, W], anything but 0 is inside. Returns float64 [n, 2], rows and columns, n = 0 for an empty or a full mask.
    Raises ValueError for another shape.

    Known values: the single pixel (3, 5): (2.5, 5), (3.5, 5), (3, 4.5), (3, 5.5).
    """
    mask = np.asarray(mask).astype(bool)
    if mask.ndim != 2:
        raise ValueError(f"a mask [H, W] expected: found {mask.shape}")
    parts, count = ndimage.label(mask, np.ones((3, 3)))
    if not count:
        return np.empty((0, 2))
    largest = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
    around = ndimage.label(np.pad(~largest, 1, constant_values=True))[0]  # what reaches the frame laid around the image; the rest are holes
    filled = (around != around[0, 0])[1:-1, 1:-1]
    below, beside = (np.argwhere(np.diff(filled, axis=axis)) for axis in (0, 1))
    return np.concatenate([below + (0.5, 0.0), beside + (0.0, 0.5)])


def fit_ellipse(points):
    """The ellipse with the least squared algebraic distance to points (Fitzgibbon et al. 1999, solved as by Halir and Flusser 1998).

        minimise  sum_i (a x_i^2 + b x_i y_i + c y_i^2 + d x_i + e y_i + f)^2        subject to  4 a c - b^2 = 1

    The constraint admits ellipses only, so an arc never becomes a hyperbola; from a short arc with noise the ellipse comes out too small.
    Moving, turning or scaling the points does the same to the ellipse; they are centred first, for rounding's sake.

    points: [n, 2], rows and columns in pixels, or any unit. Returns `Ellipse`, all nan for fewer than five points, points on one line or on
    two parallel ones. Raises ValueError for another shape.

    Known values: points on an ellipse give that ellipse; the four corners and the four sides' middles of a square of side 2, by symmetry
    a circle, whose squared radius is the mean of r^2 = 1 and 2: major = minor = sqrt(1.5).
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points [n, 2] expected: found {points.shape}")
    nothing = Ellipse(*[float("nan")] * 5)
    if len(points) < 5:
        return nothing
    middle = points.mean(0)
    spread = np.linalg.eigvalsh(np.cov(points.T))
    if not spread[0] > _FLAT * spread[1]:
        return nothing
    y, x = (points - middle).T
    square, line = np.stack([x * x, x * y, y * y], 1), np.stack([x, y, np.ones_like(x)], 1)
    rest = -np.linalg.solve(line.T @ line, line.T @ square)  # d, e, f that are best for given a, b, c
    reduced = square.T @ (square + line @ rest)
    # The constraint's matrix [[0, 0, 2], [0, -1, 0], [2, 0, 0]], inverted and applied; one eigenvector of the three is an ellipse.
    vectors = np.linalg.eig(np.stack([reduced[2] / 2, -reduced[1], reduced[0] / 2]))[1].real.T
    quadratic = max(vectors, key=lambda v: 4 * v[0] * v[2] - v[1] ** 2)
    a, b, c = quadratic * np.sign(quadratic[0] + quadratic[2])
    d, e, f = rest @ (a, b, c)
    curvature, axes = np.linalg.eigh([[a, b / 2], [b / 2, c]])
    if not curvature[0] > _FLAT * curvature[1]:
        return nothing
    centre = -np.linalg.solve([[2 * a, b], [b, 2 * c]], [d, e])
    level = -(f + (d * centre[0] + e * centre[1]) / 2)
    if not level > 0:
        return nothing
    major, minor = np.sqrt(level / curvature)
    row, column = middle + centre[::-1]
    return Ellipse(float(row), float(column), float(major), float(minor), float(np.arctan2(axes[1, 0], axes[0, 0]) % np.pi))


def ellipse_perimeter(major, minor):
    """Length of an ellipse, 4 a E(1 - b^2 / a^2), by the complete elliptic integral of the second kind.

    major, minor: the semi-axes a and b, in either order, >= 0 or nan, arrays that broadcast. Returns float64 of their shape, in their unit.
    Raises ValueError for a negative axis.

    Known values: a circle 2 pi a; b = 0, there and back, 4 a; a = 2, b = 1: 9.688448220547675.
    """
    large, small = _axes(major, minor)
    return 4 * large * ellipe(1 - (small / np.where(large > 0, large, 1)) ** 2)


def ramanujan_perimeter(major, minor):
    """Ramanujan's second approximation of `ellipse_perimeter` (1914), which many tables of head circumference were made with.

        pi (a + b) (1 + 3 h / (10 + sqrt(4 - 3 h))),        h = ((a - b) / (a + b))^2

    It is short by about 3 h^5 / 2^17 of the length: for a head (b / a near 0.78) nothing, for b = 0 one part in 2,485.
    Arguments, shapes and errors as `ellipse_perimeter`. Known values: a circle 2 pi a; b = 0, 14 pi a / 11.
    """
    large, small = _axes(major, minor)
    total = large + small
    h = ((large - small) / np.where(total > 0, total, 1)) ** 2
    return np.pi * total * (1 + 3 * h / (10 + np.sqrt(4 - 3 * h)))


def _axes(major, minor):  # the larger, the smaller; nan stays nan in both
    major, minor = np.asarray(major, np.float64), np.asarray(minor, np.float64)
    if (major < 0).any() or (minor < 0).any():
        raise ValueError("a semi-axis is negative")
    return np.maximum(major, minor), np.minimum(major, minor)
