"""The folds of nnU-Net's cross-validation."""

from collections.abc import Iterable

import numpy as np

from uscl.types import UserError

SEED = 12345  # nnU-Net's own


def five_folds(names: Iterable[str], folds: int = 5) -> list[tuple[list[str], list[str]]]:
    """Deals names out as nnU-Net does (Isensee et al. 2021, version 2.8.1 of the code): [(train, validation)], both sorted.

    The names in order are numbered, the numbers shuffled by NumPy's legacy generator with seed 12345, and the shuffled row cut into folds
    whose sizes differ by one at most, the larger ones first. With patients as names, no patient is on both sides of a fold.

    Args: names: repeats count once and the order does not matter. folds: 5, as in the original.
    Raises: UserError: fewer than 2 folds, or more folds than names.
    Known values: p0 ... p4 -> validation [p0], [p4], [p3], [p1], [p2]; p0 ... p6 -> [p3, p6], [p0, p4], [p1], [p5], [p2].
    """
    names = sorted(set(names))
    if not 2 <= folds <= len(names):
        raise UserError(f"folds: found {folds}; {len(names)} patients with labels allow a number from 2 to {len(names)}")
    order = np.arange(len(names))
    np.random.RandomState(SEED).shuffle(order)
    dealt = [set(part.tolist()) for part in np.array_split(order, folds)]
    return [([n for i, n in enumerate(names) if i not in fold], [n for i, n in enumerate(names) if i in fold]) for fold in dealt]
