"""Float64 references for figures of resampled videos, as plain loops over rows that stand there as often as they were drawn."""
import itertools

import numpy as np


def auc(label, score, fold):
    """Share of pairs inside folds that are in order; nan without a pair."""
    won = pairs = 0.0
    for i, j in itertools.product(range(len(label)), repeat=2):
        if label[i] and not label[j] and fold[i] == fold[j]:
            pairs += 1
            won += 1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0
    return won / pairs if pairs else np.nan


def share_right(label, called, of):
    right = [bool(c) == bool(t) for t, c in zip(label, called, strict=True) if of(t)]
    return sum(right) / len(right) if right else np.nan


def figure(name, cell, s, rows):
    """The figure of repetition s on these rows of the cell, some of them several times."""
    label, score, called, fold = ([values[i] for i in rows] for values in (cell.label, cell.score[s], cell.called[s], cell.fold))
    if name == "auc":
        return auc(label, score, fold)
    of = {"accuracy": lambda t: True, "sensitivity": lambda t: t == 1, "specificity": lambda t: t == 0}[name]
    return share_right(label, called, of)


def every_draw(name, cell, seeds):
    """{patients drawn: [the mean over each possible choice of repetitions]}: P of P patients, and S - 1 of S or all repetitions."""
    patients, count = sorted(set(cell.patient)), len(cell.score)
    choices = list(itertools.product(range(count), repeat=count - 1)) if seeds == "drawn" else [range(count)]
    found = {}
    for drawn in itertools.product(patients, repeat=len(patients)):
        rows = [i for one in drawn for i in range(len(cell.patient)) if cell.patient[i] == one]
        each = [figure(name, cell, s, rows) for s in range(count)]
        found[drawn] = [sum(each[s] for s in choice) / len(choice) for choice in choices]
    return found
