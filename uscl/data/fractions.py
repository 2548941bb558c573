"""Which labels a few-label run may see: a share of the labelled frames, over as many patients and as like the whole as it can be."""

from collections.abc import Iterable

import numpy as np

from uscl.types import UserError


def label_subset(rows: np.ndarray, patients: Iterable[str], fraction: float, *, seed: int, classes: np.ndarray | None = None) -> np.ndarray:
    """The share `fraction` of the labelled rows, over as many patients as it reaches: max(1, round(fraction n)) rows.

    A seed puts all rows in one order, of which a fraction takes the head: patients in random order each give one random
    row, then each a second one, and so on. So the rows of a smaller fraction are among those of any larger one.

    With `classes` the next row is, of all that the patients whose turn it is still have, the one that brings the counts of
    the classes nearest to their share of the whole (squared differences, a class's over its own count, so that a rare one
    is not drowned); the first in the order above where several do. If all rows show the same classes it is that order.

    Args:
      rows: [n] ids of labelled rows, no id twice.
      patients: [n] the patient of each row.
      fraction: in (0, 1].
      seed: of the order.
      classes: bool [n, K], which classes each row shows; None: all the same.

    Returns: int64, ascending.

    Raises:
      UserError: fraction outside (0, 1], or no row to choose from.

    Known values: 4 rows of each of 10 patients, fraction 0.25: 10 rows, one a patient; fraction 1: all 40. 100 patients with a
    row each, of which 20 show a class: 2 of the 10 rows at fraction 0.1 do.
    """
    if not 0 < fraction <= 1:
        raise UserError(f"label_fraction: found {fraction!r}; allowed is a number above 0 and at most 1")
    rows = np.asarray(rows, np.int64)
    places: dict[str, list[int]] = {}
    for _, patient, place in sorted(zip(rows.tolist(), patients, range(len(rows)), strict=True)):
        places.setdefault(patient, []).append(place)
    if not places:
        raise UserError("label_fraction: the training patients have 0 labelled frames; at least 1 is needed")
    rng = np.random.default_rng(seed)
    piles = [rng.permutation(places[patient]) for patient in sorted(places)]
    piles = [piles[i] for i in rng.permutation(len(piles))]
    turns = range(max(map(len, piles)))
    order = np.array([(pile[turn], number) for turn in turns for number, pile in enumerate(piles) if turn < len(pile)])
    count = max(1, int(fraction * len(rows) + 0.5))
    head = order[:, 0] if classes is None else order[_balanced(np.asarray(classes, bool)[order[:, 0]], order[:, 1], count), 0]
    return np.sort(rows[head[:count]])


def _balanced(classes: np.ndarray, owner: np.ndarray, count: int) -> np.ndarray:
    """The first `count` places, patients in turn, each the one that keeps the classes nearest to their share; ties by place.

    classes: bool [n, K], owner: int [n] the patient of each place.
    """
    # Rows of one pattern share one sum, so that a tie is a tie to the last bit.
    patterns, pattern = np.unique(classes, axis=0, return_inverse=True)
    total = np.maximum(classes.sum(0), 1)
    share, seen = classes.mean(0), np.zeros(classes.shape[1])
    given, left = np.zeros(owner.max() + 1, int), np.bincount(owner)
    free, order = np.ones(len(owner), bool), []
    for n in range(1, count + 1):
        # (seen + x - n share)^2 grows by x (2 (seen - n share) + 1), x being 0 or 1
        cost = (patterns * ((2 * (seen - n * share) + 1) / total)).sum(1)
        turn = given == given[left > 0].min()
        best = int(np.where(free & turn[owner], cost[pattern], np.inf).argmin())
        order.append(best)
        free[best] = False
        seen += classes[best]
        given[owner[best]] += 1
        left[owner[best]] -= 1
    return np.array(order)
