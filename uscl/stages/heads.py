"""Heads in the evaluation: how far a prediction's circumference is from the true mask's, and from the figure the store has of that head."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from uscl import metrics
from uscl.types import UserError

COLUMNS = ("patient", "cine", "frame", "predicted_mm", "true_mm", "table_mm")  # of heads.csv


class Heads(NamedTuple):
    """Circumferences [n] of the test images in mm, nan where there is none: of the prediction, of the true mask, and of attributes.csv.

    Where the size of a pixel is unknown all three are nan: what the table tells could be held against nothing.
    """

    predicted: np.ndarray
    true: np.ndarray
    table: np.ndarray


def check(config, store) -> None:
    """Raises UserError where the class to measure is none of the store's."""
    name = config.evaluate.circumference
    if name and name not in store.classes:
        there = ", ".join(map(repr, store.classes)) or "none"
        raise UserError(f"config.evaluate.circumference: found {name!r}; the classes of {store.path} are {there}, and '' measures none")


def look(maps: dict[str, np.ndarray], store, *, name: str, column: str) -> Heads:
    """What `predict.label_maps` returned, measured by `metrics.circumference`: the prediction and the true mask of class `name` alike.

    column: of attributes.csv, which has one text a cine; that counts for each of its labelled frames. No number above 0 in it, or no such
    column, is no figure.
    """
    values, sizes = store.classes[name], maps["mm"].astype(np.float64)
    predicted, true = (
        np.array([metrics.circumference(metrics.class_mask(one, values), mm=mm) for one, mm in zip(maps[side], sizes, strict=True)])
        for side in ("prediction", "label")
    )
    texts = store.attributes.get(column, [""] * len(store.cines))
    told = np.array([_number(texts[cine]) for cine in maps["cine"].tolist()])
    return Heads(predicted, true, np.where(np.isnan(sizes), np.nan, told))


def measures(heads: Heads) -> dict[str, np.ndarray]:
    """{measure: [n]}, nan where there is nothing to measure.

        hc_error_mm         |predicted - true|                      nan for a head that was missed
        hc_missed           1 where no ellipse was predicted, 0 where one was, of the heads that have a true or a told circumference
        hc_table_error_mm   |predicted - table|                     only where the store tells a circumference of any of these heads

    The errors' means would improve by missing the difficult heads, so `hc_missed` belongs beside them.

    Known values: predicted (101, 97, nan), true (100, 100, 100), table nan: errors (1, 3, nan), missed (0, 0, 1).
    """
    predicted, true, table = heads
    there = ~np.isnan(true) | ~np.isnan(table)
    found = {"hc_error_mm": np.abs(predicted - true), "hc_missed": np.where(there, np.isnan(predicted), np.nan)}
    return found if np.isnan(table).all() else found | {"hc_table_error_mm": np.abs(predicted - table)}


def save(heads: Heads, maps: dict[str, np.ndarray], path: Path, *, patients: list[str]) -> None:
    """Writes one line an image with COLUMNS, in the order of the images; an empty cell is no circumference."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for i, patient in enumerate(patients):
            cells = ("" if np.isnan(column[i]) else float(column[i]) for column in heads)
            writer.writerow([patient, int(maps["cine"][i]), int(maps["frame"][i]), *cells])


def told(heads: Heads, column: str) -> str:
    """The circumferences in a line of the log."""
    mask, table = (metrics.circumference_error(heads.predicted, other) for other in (heads.true, heads.table))
    if not mask.measured + mask.missed + table.measured + table.missed:
        return "test: no circumference, for the truth has none: there is no head, or the mm of a pixel are unknown"
    against = f"{table.absolute:.2f} mm from column {column!r}" if table.measured else f"column {column!r} tells none"
    return f"test: circumference off by {mask.absolute:.2f} mm (signed {mask.signed:+.2f}), {against}; {_missed(heads)} heads missed"


def _missed(heads: Heads) -> str:
    missed = measures(heads)["hc_missed"]
    return f"{int(np.nansum(missed))} of {int((~np.isnan(missed)).sum())}"


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return float("nan")
    return value if 0 < value < np.inf else float("nan")
