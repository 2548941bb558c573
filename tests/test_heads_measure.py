"""Head circumferences in the evaluation: ellipses of known length, heads that were missed, and what the store tells."""

import json
import math

import numpy as np
import pytest
from heads_drawn import COLUMN, TRUE, evaluated, length, made_store, maps_of, rows_of

from uscl.data.store import Store
from uscl.stages import heads
from uscl.types import UserError


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store.open(made_store(tmp_path_factory.mktemp("made") / "store"))


@pytest.fixture(scope="module")
def runs(store, tmp_path_factory):
    """Folders of two evaluations, without and with circumferences."""
    plain, asked = (tmp_path_factory.mktemp(name) for name in ("plain", "asked"))
    return evaluated(store, plain), evaluated(store, asked, **{"evaluate.circumference": "head"})


def test_known_values():
    nan = np.full(3, math.nan)
    found = heads.measures(heads.Heads(np.array([101, 97, math.nan]), np.full(3, 100.0), nan))
    assert list(found) == ["hc_error_mm", "hc_missed"]
    np.testing.assert_array_equal(found["hc_error_mm"], [1, 3, math.nan])
    np.testing.assert_array_equal(found["hc_missed"], [0, 0, 1])


def test_what_is_no_head_is_not_missed_and_a_told_one_is():
    """Nothing known of the first; of the second the mask has no ellipse, but the table tells it."""
    found = heads.measures(heads.Heads(np.full(2, math.nan), np.full(2, math.nan), np.array([math.nan, 90.0])))
    np.testing.assert_array_equal(found["hc_missed"], [math.nan, 1])
    assert np.isnan(found["hc_table_error_mm"]).all() and np.isnan(found["hc_error_mm"]).all()


def test_ellipses_of_known_length(store):
    found = heads.look(maps_of(store), store, name="head", column=COLUMN)
    assert found.true == pytest.approx([length(*axes) for axes in TRUE], rel=0.01)
    assert found.predicted == pytest.approx([length(20, 15)] * 2 + [math.nan, length(20, 15)], rel=0.01, nan_ok=True)
    assert found.table == pytest.approx([61.5, math.nan, 70, math.nan], nan_ok=True), "what is no number is no figure"
    error = heads.measures(found)["hc_table_error_mm"]
    assert error == pytest.approx([61.5 - length(20, 15), *[math.nan] * 3], abs=0.5, nan_ok=True)
    assert heads.told(found, COLUMN).endswith(f"mm from column {COLUMN!r}; 1 of 4 heads missed")


def test_nothing_is_measured_without_mm_nor_told_without_a_column(tmp_path):
    store = Store.open(made_store(tmp_path / "unknown", mm=None))
    found = heads.look(maps_of(store), store, name="head", column=COLUMN)
    assert all(np.isnan(column).all() for column in found)
    assert all(np.isnan(values).all() for values in heads.measures(found).values()), "unknown is not missed"
    assert "mm of a pixel" in heads.told(found, COLUMN)
    store = Store.open(made_store(tmp_path / "untold", told=()))
    found = heads.look(maps_of(store), store, name="head", column=COLUMN)
    assert "hc_table_error_mm" not in heads.measures(found) and np.isfinite(found.true).all()
    assert f"column {COLUMN!r} tells none" in heads.told(found, COLUMN)


@pytest.mark.parametrize("text", ["-3", "0", "inf", "nan", "6,5", ""])
def test_texts_that_are_no_length(text):
    assert math.isnan(heads._number(text)) and heads._number(" 65.05 ") == 65.05


def test_a_class_that_is_not_there(store, tmp_path):
    with pytest.raises(UserError, match=r"config.evaluate.circumference: found 'hed'; the classes of .* are 'left', 'head', 'floor'"):
        evaluated(store, tmp_path, **{"evaluate.circumference": "hed"})


def test_columns_and_figures_come_beside_what_was_there(runs):
    plain, asked = runs
    before, after = (rows_of(run / "evaluate/cases.csv") for run in runs)
    assert not [key for key in before[0] if key.startswith("hc_")] and not (plain / "evaluate/heads.csv").exists()
    added = [key for key in after[0] if key not in before[0]]
    assert added == ["hc_error_mm", "hc_missed", "hc_table_error_mm"] == list(after[0])[-3:]
    assert [{key: row[key] for key in before[0]} for row in after] == before
    assert all(not any(row[key] for key in added) for row in after if row["class"] != "head")
    for name in ("cases.npz", "nakagami.json", "sensitivity.json", "classes.json"):
        assert (plain / "evaluate" / name).read_bytes() == (asked / "evaluate" / name).read_bytes()
    before, after = (json.loads((run / "results.json").read_text()) for run in runs)
    found = {key: after["metrics"].pop(key) for key in added}
    assert before == after
    off = [abs(length(20, 15) - length(*TRUE[k])) for k in (0, 1, 3)]
    assert found["hc_error_mm"]["mean"] == pytest.approx(np.mean(off), abs=0.2) and found["hc_missed"]["mean"] == 0.25
    assert list(found["hc_error_mm"]["per_class"]) == ["head"]
    assert found["hc_missed"]["ci95"][0] == 0 and found["hc_missed"]["ci95"][1] > 0.25


def test_one_line_an_image(runs):
    found = rows_of(runs[1] / "evaluate/heads.csv")
    assert list(found[0]) == list(heads.COLUMNS) and [row["patient"] for row in found] == ["p0", "p1", "p2", "p3"]
    assert [row["predicted_mm"] == "" for row in found] == [False, False, True, False]
    assert [row["table_mm"] for row in found] == ["61.5", "", "70.0", ""]
    assert [float(row["true_mm"]) for row in found] == pytest.approx([length(*axes) for axes in TRUE], rel=0.01)
