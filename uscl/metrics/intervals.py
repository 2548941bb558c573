"""How sure a mean, or any other figure, is when images of one patient resemble one another: bootstrap over patients."""

from typing import NamedTuple

import numpy as np

UNDEFINED = 0.2  # share of draws a statistic may be undefined in


class Interval(NamedTuple):
    """A mean (or, from `bootstrap_statistic`, the figure it asks about) with the ends of its interval, in the unit of the values."""

    mean: float
    low: float
    high: float


def bootstrap_patients(values, patients, *, level=0.95, repeats=2000, seed=0):
    """Mean over images, with a percentile bootstrap interval that resamples patients.

        mean = sum of all values / their number,        each repeat: draw P of the P patients with replacement, all their images

    The mean weighs every image alike, as the authors do. The resampling takes patients, because ten images of one patient are
    not ten independent answers: resampling images makes the interval too narrow, by up to the root of the images per patient.
    With few patients (below 10 or so) any such interval is still too narrow; it cannot know patients it has not seen.

    values: [n], one number per image; nan is left out, as if the image (and a patient with nothing else) were not there.
    patients: [n], ids of any kind that sorts. level: in (0, 1). repeats: bootstrap samples. seed: the same seed, the same interval.
    Returns `Interval(mean, low, high)`, floats. Without a number, all nan; with numbers from one patient only, low and high are
    nan, because one patient says nothing about patients. Raises ValueError for two lengths or a level outside (0, 1).

    Known values: equal values everywhere, low = mean = high; two patients with values 0 and 1, (0.5, 0, 1).
    """
    values, patients = np.asarray(values, dtype=np.float64), np.asarray(patients)
    if values.ndim != 1 or values.shape != patients.shape:
        raise ValueError(f"values has shape {values.shape}, patients {patients.shape}; both must be [n]")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1")
    known = ~np.isnan(values)
    ids, owner = np.unique(patients[known], return_inverse=True)
    if len(ids) == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    number, total = np.bincount(owner), np.bincount(owner, weights=values[known])
    mean = float(total.sum() / number.sum())
    if len(ids) < 2:
        return Interval(mean, float("nan"), float("nan"))
    # How often each patient is drawn is multinomial, so a repeat is one row of weights and all repeats are two products.
    drawn = np.random.default_rng(seed).multinomial(len(ids), np.full(len(ids), 1 / len(ids)), size=repeats)
    means = (drawn @ total) / (drawn @ number)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))


def paired_difference(a, b, patients, *, level=0.95, repeats=2000, seed=0):
    """Mean of a - b over images, with its interval: is one model better than the other on the same images?

        mean and interval of d = a - b as by `bootstrap_patients`

    What both find hard cancels in d, so this interval is narrower than two separate ones suggest; it excludes 0 where the
    difference would survive another draw of patients. a, b: [n], paired by position; an image that is nan in either is left out.
    The rest as `bootstrap_patients`.

    Known values: a = b + 0.1 everywhere gives (0.1, 0.1, 0.1), however much b varies.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"a has shape {a.shape}, b {b.shape}; they must pair up")
    return bootstrap_patients(a - b, patients, level=level, repeats=repeats, seed=seed)


def bootstrap_statistic(statistic, *arrays, patients, level=0.95, repeats=2000, seed=0):
    """Any figure of a set of cases, with a percentile bootstrap interval that resamples patients: for what is not a mean, as the AUC.

        value = statistic(*arrays),        each repeat: draw P of the P patients with replacement, statistic(all their rows)

    One patient drawn twice has its rows twice. For two models on the same cases, let the statistic take both scores and return the
    difference: `lambda truth, a, b: auc(truth, a) - auc(truth, b)`.

    A draw may lack what the statistic needs (no positive: the AUC is nan). Such draws are left out; where they are more than a fifth,
    low and high are nan. That is so where one patient alone holds a class, missed by a quarter of the draws or more (two hold it: missed by
    less than 0.14), and one patient says nothing about patients.

    statistic: a function of arrays like those given, that does not mind the order of rows and returns a number, nan where undefined.
    arrays: each [n, ...], row by row the same cases. patients: [n], ids of any kind that sorts. level, repeats, seed: as
    `bootstrap_patients`, whose draws these are. Returns `Interval(value, low, high)`; low and high are nan with fewer than two patients.
    Raises ValueError for different lengths, no array, or a level outside (0, 1).

    Known values: np.mean gives what `bootstrap_patients` gives; a constant c gives (c, c, c).
    """
    arrays, patients = [np.asarray(array) for array in arrays], np.asarray(patients)
    if patients.ndim != 1 or not arrays or any(array.shape[:1] != patients.shape for array in arrays):
        raise ValueError(f"arrays have shapes {[array.shape for array in arrays]}, patients {patients.shape}; all must be [n, ...]")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1")
    value = float(statistic(*arrays)) if len(patients) else float("nan")
    ids, owner = np.unique(patients, return_inverse=True)
    if len(ids) < 2:
        return Interval(value, float("nan"), float("nan"))
    found = np.empty(repeats)
    draws = np.random.default_rng(seed).multinomial(len(ids), np.full(len(ids), 1 / len(ids)), size=repeats)
    for repeat, drawn in enumerate(draws):
        rows = np.repeat(np.arange(len(owner)), drawn[owner])
        found[repeat] = statistic(*(array[rows] for array in arrays))
    found = found[~np.isnan(found)]
    if len(found) < (1 - UNDEFINED) * repeats or np.isnan(value):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))
