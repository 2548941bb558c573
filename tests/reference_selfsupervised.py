"""Float64 references for losses between two views, from the papers' formulas as plain loops; they import nothing of uscl."""
import math

import numpy as np


def cosine(a, b):
    a, b = [float(x) for x in a], [float(x) for x in b]
    lengths = math.sqrt(math.fsum(x * x for x in a)) * math.sqrt(math.fsum(x * x for x in b))
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0


def byol(prediction, target):
    """Grill et al. 2020: 2 - 2 cos, once from each view."""
    count = len(prediction[0])
    return np.array([sum(2 - 2 * cosine(prediction[v][i], target[1 - v][i]) for v in (0, 1)) for i in range(count)])


def simsiam(prediction, projection):
    """Chen and He 2021: half the negative cosine from each view."""
    count = len(prediction[0])
    return np.array([-sum(0.5 * cosine(prediction[v][i], projection[1 - v][i]) for v in (0, 1)) for i in range(count)])


def moco_v3(query, key, temperature=0.2):
    """Chen, Xie and He 2021: cross entropy of a row of similarities, times 2 temperature, once from each view."""
    count = len(query[0])
    loss = np.zeros(count)
    for v in (0, 1):
        for i in range(count):
            row = [cosine(query[v][i], key[1 - v][j]) / temperature for j in range(count)]
            share = math.exp(row[i] - max(row)) / math.fsum(math.exp(x - max(row)) for x in row)
            loss[i] -= 2 * temperature * math.log(share)
    return loss


def barlow_twins(z, redundancy=5e-3, epsilon=1e-5):
    """Zbontar et al. 2021: the cross-correlation of two views against the identity."""
    _, count, width = np.shape(z)
    columns = [[[float(z[v][i][d]) for i in range(count)] for d in range(width)] for v in (0, 1)]
    loss = 0.0
    for d in range(width):
        for e in range(width):
            a, b = columns[0][d], columns[1][e]
            a, b = [x - sum(a) / count for x in a], [x - sum(b) / count for x in b]
            length = math.sqrt((sum(x * x for x in a) / count + epsilon) * (sum(x * x for x in b) / count + epsilon))
            c = sum(x * y for x, y in zip(a, b, strict=True)) / count / length
            loss += (1 - c) ** 2 if d == e else redundancy * c**2
    return loss


def vicreg(z, invariance=25.0, variance=25.0, covariance=1.0, spread=1.0, epsilon=1e-4):
    """Bardes, Ponce and LeCun 2022, algorithm 1."""
    z = np.asarray(z, np.float64)
    _, count, width = z.shape
    loss = invariance * sum((z[0, i, d] - z[1, i, d]) ** 2 for i in range(count) for d in range(width)) / (count * width)
    for view in z:
        s = np.cov(view.T, ddof=1).reshape(width, width)
        loss += variance * sum(max(0.0, spread - math.sqrt(s[d, d] + epsilon)) for d in range(width)) / width
        loss += covariance * sum(s[d, e] ** 2 for d in range(width) for e in range(width) if d != e) / width
    return loss


def slope(f, x, step=1e-6):
    """Gradient of the sum of f at x by central differences."""
    x = np.array(x, np.float64)
    gradient = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[place] += sign * step
            ends.append(np.sum(f(moved)))
        gradient[place] = (ends[0] - ends[1]) / (2 * step)
    return gradient
