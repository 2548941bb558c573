"""Which videos keep their labels, and the table: thresholds, intervals and differences on cases made by hand."""

import csv
import json

import jax
import jax.numpy as jnp
import lungs
import numpy as np
import pytest

from uscl.data.videos import Videos
from uscl.stages import classify, classify_scores
from uscl.stages.classify_scores import Cell, margin, table

LABELS = np.array([0, 0, 1, 1])
SCORES = np.array([0.1, 0.4, 0.35, 0.8])  # cut best at 0.225, the lowest of two cuts with J = 1/2


def videos(label, patient=None):
    label = np.asarray(label)
    patient = np.arange(len(label)) if patient is None else np.asarray(patient)
    return Videos(100 + np.arange(len(label)), label, np.array([f"p{name}" for name in patient]))


# --- which labels ---


def test_few_are_nested_and_in_proportion():
    """40 videos of 40 patients, every fourth positive: at 20 %, 8 videos and 2 of them positive."""
    every, before = videos([0, 0, 0, 1] * 10), set()
    for fraction in (0.1, 0.2, 0.5, 0.75, 1.0):
        found = classify.few(every, fraction, seed=7)
        assert before <= set(found.cine.tolist()) and len(found.cine) == round(40 * fraction)
        assert abs(found.label.sum() - 10 * fraction) <= 0.5 and (np.diff(found.cine) > 0).all()
        np.testing.assert_array_equal(found.label, every.label[found.cine - 100])
        np.testing.assert_array_equal(found.patient, every.patient[found.cine - 100])
        before = set(found.cine.tolist())
    assert classify.few(every, 0.2, seed=7).cine.tolist() != classify.few(every, 0.2, seed=8).cine.tolist()


@pytest.mark.parametrize("label", [[0] * 19 + [1], [1] + [0] * 19, [1] * 15 + [0] * 5])
def test_few_have_both_classes(label):
    for seed in range(5):
        found = classify.few(videos(label), 0.01, seed=seed)
        assert set(found.label.tolist()) == {0, 1}
        again = classify.few(videos(label), 0.1, seed=seed)
        assert set(found.cine.tolist()) <= set(again.cine.tolist()) or len(found.cine) > 2


def test_few_take_turns_among_patients():
    """4 videos each of 5 patients: 5 of them are one a patient."""
    found = classify.few(videos([0, 1] * 10, np.repeat(np.arange(5), 4)), 0.25, seed=0)
    assert len(set(found.patient.tolist())) == 5


# --- scores ---


def test_a_videos_score_is_the_mean_margin_of_its_clips():
    logits = np.array([[[0, 1], [2, 5]], [[3, 1], [0, 0]]], float)  # margins 1, 3 and -2, 0
    np.testing.assert_array_equal(margin(logits), [2, -1])


def rows(cells, validation=LABELS, test=LABELS, patient=None, **how):
    found = table(cells, videos(validation), videos(test, patient), **{"bootstrap": 200, "seed": 0} | how)
    return {row["mode"]: row for row in found["rows"]}, found["differences"]


def test_the_threshold_comes_from_the_validation_videos():
    """Cut at 0.225, test scores .2 .3 .1 .9 of labels 0 0 1 1 are called 0 1 0 1: half is right throughout, and half of the pairs too.
    By the test videos' own best cut, above .3, three of four would be right."""
    mine, _ = rows([Cell("random", 0.5, 0, 3, SCORES, np.array([0.2, 0.3, 0.1, 0.9]))])
    row = mine["random"]
    assert {name: row[name]["mean"] for name in ("auc", "accuracy", "sensitivity", "specificity")} == {
        "auc": 0.5, "accuracy": 0.5, "sensitivity": 0.5, "specificity": 0.5}  # fmt: skip
    assert (row["fraction"], row["draws"], row["labels"]) == (0.5, 1, 3)
    moved, _ = rows([Cell("random", 0.5, 0, 3, SCORES + 1, np.array([0.2, 0.3, 0.1, 0.9]))])
    assert [moved["random"][name]["mean"] for name in ("auc", "accuracy", "sensitivity", "specificity")] == [0.5, 0.5, 0, 1]
    asymmetric, _ = rows([Cell("random", 0.5, 0, 3, SCORES, np.array([0.3, 0.5, 0.1, 0.9]))])
    assert [asymmetric["random"][name]["mean"] for name in ("accuracy", "sensitivity", "specificity")] == [0.25, 0.5, 0]


RIGHT, WRONG = np.array([0.0, 0.1, 0.8, 0.9]), np.array([0.9, 0.8, 0.1, 0.0])


def test_draws_are_averaged_each_with_its_own_threshold():
    """One draw tells all apart, at its own height of scores; the other calls all positive or takes them the wrong way round."""
    mine, _ = rows([Cell("random", 0.5, 0, 3, RIGHT + 5, RIGHT + 5), Cell("random", 0.5, 1, 3, RIGHT - 5, WRONG - 5)])
    row, names = mine["random"], ("auc", "accuracy", "sensitivity", "specificity")
    assert row["draws"] == 2 and {name: row[name]["mean"] for name in names} == dict.fromkeys(names, 0.5)


def test_differences_are_paired_and_pretrained_less_its_counterpart():
    half = np.array([0.2, 0.3, 0.1, 0.9])  # AUC 1/2
    scores = {"random": half, "supervised": RIGHT, "features": RIGHT, "finetuned": WRONG}
    cells = [Cell(mode, fraction, 0, 3, SCORES, scores[mode]) for fraction in (0.1, 1.0) for mode in scores]
    _, found = rows(cells)
    assert [(d["mode"], d["against"], d["fraction"], d["auc"]["mean"]) for d in found] == [
        (mode, against, fraction, value)
        for mode, against, value in (("features", "random", 0.5), ("finetuned", "supervised", -1.0), ("finetuned", "features", -1.0))
        for fraction in (0.1, 1.0)
    ]
    assert found[2]["auc"]["ci95"] == [-1, -1]  # in every draw of patients all pairs are right there and wrong here
    _, fewer = rows([cell for cell in cells if cell.mode in ("finetuned", "features")])
    assert [(d["mode"], d["against"]) for d in fewer] == [("finetuned", "features")] * 2


def test_intervals_resample_patients():
    """Every video of one patient: nobody to resample, so no interval. The same videos of a patient each: one."""
    label, score = np.tile(LABELS, 6), np.tile([0.2, 0.3, 0.1, 0.9], 6)
    cell = [Cell("random", 0.5, 0, 3, SCORES, score)]
    alone, _ = rows(cell, test=label, patient=np.zeros(24, int))
    assert alone["random"]["auc"] == {"mean": 0.5, "ci95": [None, None]}
    many, _ = rows(cell, test=label)
    low, high = many["random"]["auc"]["ci95"]
    rng, drawn = np.random.default_rng(1), []
    for _ in range(400):  # by pairs
        take = rng.integers(0, 24, 24)
        s, t = score[take], label[take].astype(bool)
        drawn.append(np.mean(s[t][:, None] > s[~t]) + np.mean(s[t][:, None] == s[~t]) / 2)
    np.testing.assert_allclose([low, high], np.quantile(drawn, [0.025, 0.975]), atol=0.07)
    by_fours, _ = rows(cell, test=label, patient=np.repeat(np.arange(6), 4))  # each patient is the whole case: nothing varies
    assert by_fours["random"]["auc"]["ci95"] == [0.5, 0.5]


def test_what_is_written(tmp_path):
    store, made = lungs.make_store(tmp_path / "store"), lungs.config(tmp_path / "store")
    held, test = videos(LABELS), videos([0, 1], [5, 6])
    cells = [Cell(mode, fraction, 0, labels, SCORES, np.array([0.25, high])) for fraction, labels in ((0.1, 2), (1.0, 9))
             for mode, high in (("features", 0.1), ("finetuned", 0.5))]  # fmt: skip
    with lungs.opened(made, tmp_path / "run") as run:
        assert str(run.store.path) == str(store)
        classify_scores.write(run, cells, held, test)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert (results["experiment"], results["classes"], results["n_test"], results["n_test_patients"]) == ("lung", ["class"], 2, 2)
    assert (results["mode"], results["n_train_labels"], results["metrics"]["auc"]["mean"]) == ("finetuned", 9, 1.0)
    lines = list(csv.DictReader((tmp_path / "run" / "classify" / "predictions.csv").open()))
    assert len(lines) == 4 * (4 + 2) and lines[4] == {"mode": "features", "fraction": "0.1", "draw": "0", "part": "test", "patient": "p5",
                                                      "cine": "100", "label": "0", "score": "0.25"}  # fmt: skip
    told = json.loads((tmp_path / "run" / "classify" / "table.json").read_text())
    assert [(row["mode"], row["fraction"], row["auc"]["mean"]) for row in told["rows"]] == [
        ("features", 0.1, 0), ("finetuned", 0.1, 1), ("features", 1, 0), ("finetuned", 1, 1)]  # fmt: skip
    assert "test: finetuned at 100 % of labels: AUC 1.000" in (tmp_path / "run" / "run.log").read_text()


# --- training and features ---


def test_the_loss_is_cross_entropy_of_what_the_network_says():
    """Logits are the first two pixels, 1 and 0 or the other way round; labels 0, 0: log(1 + e^-1) and log(1 + e)."""

    class Pixels:
        def apply(self, variables, x, *, train, mutable):
            assert train and mutable == ["batch_stats"]
            return x[:, 0, 0, :2, 0] * variables["params"], {"batch_stats": variables["batch_stats"] + 1}

    loss_fn = classify.make_loss(Pixels(), lambda key, clip: clip, "none")
    batch = {"image": np.uint8([[255, 0], [0, 255]]).reshape(2, 1, 1, 2, 1), "target": np.int32([0, 0])}
    terms, (stats, told) = loss_fn(jnp.float32(1), jnp.float32(4), batch, jax.random.key(0))
    want = (np.log1p(np.exp(-1)) + np.log1p(np.e)) / 2
    assert float(terms["cross_entropy"]) == pytest.approx(want, rel=1e-6) and stats == 5 and told == {}
