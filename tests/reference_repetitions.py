"""Float64 loops over resampled stills: macro F1 of rows that stand there as often as they were drawn; nothing of uscl is imported."""

import math

import numpy as np


def macro_f1(label, called):
    """Mean F1 over the classes that `label` holds; nan without a row."""
    each = []
    for one in sorted(set(label)):
        both = sum(t == one and c == one for t, c in zip(label, called, strict=True))
        each.append(2 * both / (sum(t == one for t in label) + sum(c == one for c in called)))
    return math.fsum(each) / len(each) if each else math.nan


def of_rows(cell, s, times):
    """Macro F1 of repetition s where the stills of the k-th patient, by name, stand there times[k] times."""
    names = sorted(set(cell.patient))
    rows = [i for i in range(len(cell.label)) for _ in range(int(times[names.index(cell.patient[i])]))]
    return macro_f1([int(cell.label[i]) for i in rows], [int(cell.called[s][i]) for i in rows])


def resampled(cell, place, *, seeds, repeats, seed):
    """(as measured, [value in each resample]) of the mean over seeds of the mean over a seed's draws; `place`: of the cell among all."""
    patients, numbers = len(set(cell.patient)), [number for number, _ in cell.repetitions]
    known = sorted(set(numbers))
    drawn = np.random.default_rng(seed).multinomial(patients, np.full(patients, 1 / patients), size=repeats)
    count = len(known)
    chosen = np.random.default_rng((seed, 1 + place)).multinomial(count - 1, np.full(count, 1 / count), size=repeats)

    def figure(times, share):
        total = 0.0
        for k, one in enumerate(known):
            mine = [of_rows(cell, s, times) for s in range(len(numbers)) if numbers[s] == one]
            total += share[k] * math.fsum(mine) / len(mine)
        return total

    evenly = [1 / count] * count
    values = [figure(drawn[b], chosen[b] / (count - 1) if seeds == "drawn" else evenly) for b in range(repeats)]
    return figure([1] * patients, evenly), values


def contrast(cells, coefficients, *, seeds, repeats, seed, level):
    """(mean, low, high, p) of the weighted sum of the cells' figures."""
    found = [resampled(cell, place, seeds=seeds, repeats=repeats, seed=seed) for place, cell in enumerate(cells)]
    mean = math.fsum(c * value for c, (value, _) in zip(coefficients, found, strict=True))
    sums = [math.fsum(c * values[b] for c, (_, values) in zip(coefficients, found, strict=True)) for b in range(repeats)]
    below, above = sum(d <= 1e-12 for d in sums), sum(d >= -1e-12 for d in sums)
    p = min(1.0, max(2 * (1 + min(below, above)) / (repeats + 1), 2.0 ** (1 - len(set(cells[0].patient)))))
    return mean, *percentiles(sums, level), p


def percentiles(values, level):
    """Both ends, linearly between the sorted values."""
    ordered, found = sorted(values), []
    for share in ((1 - level) / 2, (1 + level) / 2):
        place = share * (len(ordered) - 1)
        low = math.floor(place)
        high = min(low + 1, len(ordered) - 1)
        found.append(ordered[low] + (place - low) * (ordered[high] - ordered[low]))
    return found
