"""Whole videos with a label: a column of the store's attributes.csv, told apart into negative and positive."""

from typing import NamedTuple

import numpy as np

from uscl.types import UserError


class Videos(NamedTuple):
    """cine int64 [n], ascending; label int64 [n], 1 positive; patient [n], a name each."""

    cine: np.ndarray
    label: np.ndarray
    patient: np.ndarray


def labelled_videos(store, patients, *, column, negative, ignore=(), shortest=1):
    """The videos of `patients` that have a label: 0 where the column holds one of `negative`, 1 where it holds anything else.

    Left out are cines whose value is empty or in `ignore`, and those of fewer than `shortest` frames: a still shows no motion.

    Returns `Videos`. Raises UserError where attributes.csv has no such column, or no cine of the whole store holds one of `negative`.
    """
    file = store.path / "attributes.csv"
    if column not in store.attributes:
        there = ", ".join(map(repr, store.attributes)) or "none"
        raise UserError(f"{file}: it has no column {column!r}; its columns are {there}")
    value = np.array(store.attributes[column], dtype=str)
    if not np.isin(value, list(negative)).any():
        found = ", ".join(repr(str(name)) for name in np.unique(value))
        raise UserError(f"{file}: column {column!r} holds none of {', '.join(map(repr, negative))}, the negative class; it holds {found}")
    cine = store.cines_of(patients)
    cine = cine[~np.isin(value[cine], ["", *ignore]) & (store.cines.frames[cine] >= shortest)]
    return Videos(cine, (~np.isin(value[cine], list(negative))).astype(np.int64), store.cines.patient[cine])
