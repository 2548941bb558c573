"""The table of stills told apart, and what is written, on cases made by hand."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest

from uscl import config as uscl_config
from uscl.data.planes import Planes
from uscl.stages import planes_scores
from uscl.stages.modes import Cell
from uscl.stages.planes_scores import macro_f1, probabilities, table
from uscl.train.logs import Log

NAMES = ("abdomen", "femur", "head")
LABEL = np.array([0, 0, 1, 1, 2, 2])
RIGHT, TURNED = np.eye(3)[LABEL], np.eye(3)[(LABEL + 1) % 3]  # all right; each class taken for the next
HALF = np.eye(3)[[0, 0, 1, 1, 0, 0]]  # heads taken for abdomens: F1 2/3, 1, 0


def stills(label=LABEL, patient=None):
    patient = np.arange(len(label)) if patient is None else np.asarray(patient)
    return Planes(10 + np.arange(len(label)), np.asarray(label), np.array([f"p{name}" for name in patient]), NAMES)


def cell(mode, test, draw=0, fraction=0.5, labels=7):
    return Cell(mode, fraction, draw, labels, RIGHT, test)


def rows(cells, test=None, **how):
    found = table(cells, stills() if test is None else test, NAMES, **{"bootstrap": 200, "seed": 0} | how)
    return {row["mode"]: row for row in found["rows"]}, found


def test_probabilities_are_those_of_the_mean_logits():
    logits = np.log(np.array([[[1, 2, 1], [1, 2, 1]], [[4, 1, 1], [1, 4, 1]]], float))
    np.testing.assert_allclose(probabilities(logits), [[1 / 4, 1 / 2, 1 / 4], [2 / 5, 2 / 5, 1 / 5]])
    assert probabilities(np.array([[[1e4, 0, -np.inf]]])).tolist() == [[1, 0, 0]]


def test_a_look_is_the_macro_f1_of_the_most_probable():
    assert macro_f1(LABEL, RIGHT * 0.4) == 1 and macro_f1(LABEL, TURNED) == 0
    assert macro_f1(LABEL, HALF) == pytest.approx((2 / 3 + 1) / 3)


def test_figures_confusions_and_draws():
    mine, found = rows([cell("random", RIGHT), cell("random", HALF, draw=1), cell("supervised", TURNED)])
    row = mine["random"]
    assert found["classes"] == list(NAMES) and (row["fraction"], row["draws"], row["labels"]) == (0.5, 2, 7)
    assert row["macro_f1"]["mean"] == pytest.approx((1 + 5 / 9) / 2) and row["each"] == pytest.approx([1, 5 / 9])
    assert row["macro_recall"]["mean"] == row["accuracy"]["mean"] == pytest.approx((1 + 2 / 3) / 2)
    assert row["macro_precision"] == {"mean": None, "ci95": [None, None]}, "nobody called a head in the second draw"
    assert row["confusion"] == [[4, 0, 0], [0, 4, 0], [2, 0, 2]], "a row a true class"
    assert mine["supervised"]["macro_f1"]["mean"] == 0 and mine["supervised"]["confusion"] == [[0, 2, 0], [0, 0, 2], [2, 0, 0]]
    assert mine["supervised"]["macro_precision"]["mean"] == 0


def test_differences_are_paired_and_pretrained_less_its_counterpart():
    scores = {"random": HALF, "random_knn": HALF, "supervised": RIGHT, "features": RIGHT, "finetuned": TURNED}
    _, found = rows([cell(mode, scores[mode], fraction=fraction) for fraction in (0.1, 1.0) for mode in scores])
    want = {("features", "random"): 4 / 9, ("finetuned", "supervised"): -1, ("finetuned", "features"): -1}
    assert [(d["mode"], d["against"], d["fraction"]) for d in found["differences"]] == [(*two, f) for two in want for f in (0.1, 1.0)]
    for told in found["differences"]:
        assert told["macro_f1"]["mean"] == pytest.approx(want[told["mode"], told["against"]])
    assert found["differences"][2]["macro_f1"]["ci95"] == [-1, -1], "right there and wrong here in every draw of patients"
    _, fewer = rows([cell("features", RIGHT), cell("supervised", RIGHT)])
    assert fewer["differences"] == []


def test_intervals_resample_patients():
    alone, _ = rows([cell("random", HALF)], stills(patient=np.zeros(6, int)))
    assert alone["random"]["macro_f1"]["ci95"] == [None, None]
    label, score = np.tile(LABEL, 8), np.tile(HALF, (8, 1))
    by_sixes, _ = rows([cell("random", score)], stills(label, np.repeat(np.arange(8), 6)))  # each patient is the whole case
    assert by_sixes["random"]["accuracy"]["ci95"] == pytest.approx([2 / 3, 2 / 3])
    many, _ = rows([cell("random", score)], stills(label), bootstrap=400)
    drawn = np.random.default_rng(1).integers(0, 48, (400, 48))
    want = np.quantile((score.argmax(1) == label)[drawn].mean(1), [0.025, 0.975])
    np.testing.assert_allclose(many["random"]["accuracy"]["ci95"], want, atol=0.04)


def test_what_is_written(tmp_path):
    config = uscl_config.default()
    config.update_from_flattened_dict({"experiment": "anatomy", "planes.modes": ("random", "features"), "evaluate.bootstrap": 100})
    soft = 0.5 * TURNED + 0.25 * RIGHT + 0.25 / 3
    cells = [cell(mode, test, fraction=fraction, labels=labels) for fraction, labels in ((0.1, 3), (1.0, 9))
             for mode, test in (("random", soft), ("random_knn", soft), ("features", RIGHT), ("features_knn", TURNED))]  # fmt: skip
    with Log(tmp_path) as log:
        run = SimpleNamespace(config=config, folder=tmp_path, log=log)
        planes_scores.write(run, cells, stills(), stills(patient=[5, 5, 6, 6, 7, 7]), NAMES)
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["experiment"], results["classes"], results["n_test"], results["n_test_patients"]) == ("anatomy", list(NAMES), 6, 3)
    assert (results["mode"], results["n_train_labels"], results["metrics"]["macro_f1"]["mean"]) == ("features", 9, 1.0)
    assert set(results["metrics"]) == {"macro_f1", "macro_precision", "macro_recall", "accuracy"}
    lines = list(csv.DictReader((tmp_path / "planes" / "predictions.csv").open()))
    assert len(lines) == 8 * 12 and lines[6] == {
        "mode": "random", "fraction": "0.1", "draw": "0", "part": "test", "patient": "p5", "cine": "10", "label": "abdomen",
        "called": "femur", "p abdomen": "0.333333", "p femur": "0.583333", "p head": "0.0833333"}  # fmt: skip
    told = json.loads((tmp_path / "planes" / "table.json").read_text())
    assert [(row["mode"], row["fraction"]) for row in told["rows"]] == [(c.mode, c.fraction) for c in cells]
    assert "test: features at 100 % of labels: macro F1 1.000 (1.000 to 1.000), macro precision 1.000" in (tmp_path / "run.log").read_text()
