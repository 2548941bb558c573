"""The report of a run that tells stills apart: its section, headline and curves, from a folder written by hand."""

import json

import numpy as np
import pytest
from test_report import Reader
from test_report_videos import difference, drawn, entry, tables

from uscl import report
from uscl.report import curves, planes, scores
from uscl.report.folder import Folder, Missing

NAMES = ["abdomen", "four_chamber", "head"]
MODES = {"random": 0.5, "random_knn": 0.4, "supervised": 0.6, "features": 0.7, "features_knn": 0.65, "finetuned": 0.8}
FOUR = ["random features", "supervised", "pretrained features", "fine-tuned"]
COUNTS = [[6, 2, 0], [1, 199, 0], [4, 0, 4]]  # F1 12/19, 398/401, 2/3; shares 75 25 0, 0.5 99.5 0, 50 0 50


def write_run(path, shares=(0.1,)):
    (path / "planes").mkdir(parents=True)
    rows = [{"mode": mode, "fraction": share, "draws": 2, "labels": round(130 * share), "macro_f1": entry(value + share / 100),
             "macro_precision": {"mean": None, "ci95": [None, None]}, "macro_recall": entry(value - 0.03), "accuracy": entry(value + 0.05),
             "confusion": COUNTS if share == shares[-1] else [[1, 0, 0]] * 3,
             "each": [value - 0.01, value + 0.03]} for share in shares for mode, value in MODES.items()]  # fmt: skip
    differences = [
        {**told, "macro_f1": told.pop("auc")} for share in shares
        for told in (difference("features", "random", share, 0.2, 0.06, 0.3), difference("finetuned", "supervised", share, 0.2, -0.1, 0.3))
    ]  # fmt: skip
    texts = {
        "config.json": {"experiment": "anatomy", "stages": ["anatomy", "planes"]},
        "timing.json": {"anatomy": 61.0, "planes": 30.2},
        "planes/table.json": {"classes": NAMES, "rows": rows, "differences": differences},
        "results.json": {
            "experiment": "anatomy", "scale": "quick", "classes": NAMES, "n_test": 216, "n_test_patients": 40, "n_train_labels": 13,
            "mode": "finetuned", "metrics": {key: rows[-1][key] for key in planes.FIGURES},
        },
    }  # fmt: skip
    for name, content in texts.items():
        (path / name).write_text(json.dumps(content))
    lines = [{"stage": "anatomy", "step": s, "loss": 4 - s / 20, "chance": 4.1} for s in (10, 20)]
    lines += [{"stage": "anatomy", "step": s, "loss": 1.5, "validation": 0.25 + s / 200, "linear_f1": 0.625} for s in (40, 60)]
    lines += [{"stage": f"planes/{mode}_{100 * share:g}_{draw}", "step": s, "loss": 1 / s, "validation": 0.5 + s / 100}
              for share in shares for mode in ("supervised", "finetuned") for draw in (0, 1) for s in (10, 20)]  # fmt: skip
    (path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return path


class Captions:
    """An easel that draws nothing, and keeps what would stand below the panels."""

    def block(self, name, panels, *, legend=()):
        return {"kind": "panels", "cells": [panel.caption for panel in panels], "legend": [text for _, _, text in legend]}


def test_the_page(tmp_path):
    run = write_run(tmp_path / "run")
    page = report.draw(run).read_text(encoding="utf-8")
    read = Reader(page)
    text = read.text.replace("\N{NO-BREAK SPACE}", " ")
    assert {"training", "planes", "protocol"} <= set(read.ids)
    assert not {"classify", "saliency", "classes", "cases"} & set(read.ids) and "DSC" not in text
    told = "Macro F1 0.801 (95 % interval 0.701 to 0.901) over 3 classes, on 216 stills of 40 test patients, learnt from 13 labelled stills"
    assert f"Fine-tuned: {told}, in 1 min 31 s." in text
    assert "Macro F1 0.801 0.701 to 0.901" in text and "pretrained, neighbours" in text and "four chamber" in text
    assert {path.name for path in (run / "plots").iterdir()} >= {"planes.png", "planes-confusion.png", "curves-planes.png"}
    assert "macro F1 of nearest neighbours 0.450 to 0.550" in text


def test_tables_of_one_share(tmp_path):
    content = planes.section(Folder(write_run(tmp_path / "run")), Captions())
    words, by_class, everything = tables(content["blocks"])
    assert words["head"][0] == "on the same stills" and [row[1]["value"] for row in words["rows"]] == ["better", "inside the noise"]
    assert [row[0] for row in by_class["rows"]] == ["abdomen", "four chamber", "head"] and len(by_class["head"]) == 7
    assert [row[1]["value"] for row in by_class["rows"]] == ["0.632", "0.993", "0.667"]
    assert [row[0] for row in everything["rows"]][:2] == ["random features", "random, neighbours"]
    assert everything["rows"][0][1] == {"value": "10\N{NO-BREAK SPACE}%", "note": "13 stills"}
    assert [cell["value"] for cell in everything["rows"][5][2:]] == ["0.801", "–", "0.770", "0.850"]
    shown = [block for block in content["blocks"] if block["kind"] == "panels"]
    assert [block["cells"] for block in shown] == [["Macro F1, 10\N{NO-BREAK SPACE}% of the labels"], FOUR]
    assert shown[0]["legend"] == [*FOUR, "one draw"]


def test_many_shares(tmp_path):
    content = planes.section(Folder(write_run(tmp_path / "run", shares=(0.1, 0.5, 1.0))), Captions())
    shown = [block["cells"] for block in content["blocks"] if block["kind"] == "panels"]
    assert shown == [["Macro F1", "Accuracy"], [f"{name}, 100\N{NO-BREAK SPACE}% of the labels" for name in FOUR]]
    words, numbers, by_class, everything = tables(content["blocks"])
    assert [row[1]["value"] for row in by_class["rows"]] == ["0.632", "0.993", "0.667"], "of the largest share"
    assert [row[1] for row in words["rows"]] == ["better at every share", "inside the noise at every share"]
    assert [row[1]["value"] for row in numbers["rows"]] == ["+0.200"] * 3 and len(everything["rows"]) == 18


def test_dots_and_draws(tmp_path):
    rows = json.loads((write_run(tmp_path / "run") / "planes/table.json").read_text())["rows"]
    axes = drawn(planes.video_curves.dots(rows, {row["mode"]: row["each"] for row in rows}, "macro_f1"))
    points = {(round(x, 3), y) for line in axes.lines for x, y in zip(*line.get_data(), strict=True)}
    assert {(0.501, 0), (0.401, 0), (0.601, 0), (0.49, 0.25), (0.53, 0.25), (0.801, 5)} <= points
    assert not any(list(line.get_xdata()) == [0.5, 0.5] for line in axes.lines), "0.5 is no chance of a macro F1"


def test_a_confusion_by_hand():
    panel = planes.confusion(np.array(COUNTS, float), NAMES, "supervised")
    axes = drawn(panel)
    said = {tuple(text.xy): text.get_text() for text in axes.texts}
    assert said == {(0, 0): "75", (1, 0): "25", (0, 1): "0", (1, 1): "100", (0, 2): "50", (2, 2): "50"}
    assert {(box.get_x() + 0.5, box.get_y() + 0.5) for box in axes.patches} == set(said)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["abdomen", "four chamber", "head"]
    assert "abdomen 75 %, four chamber 100 %, head 50 %" in panel.alt
    assert axes.get_ylim() == (2.5, -0.5), "the first class on top"


def test_looks_are_no_areas():
    one = [{"step": s, "loss": s / 10, "validation": 0.5 + s / 100} for s in (10, 20)]
    panels = curves._together("planes", {"supervised_10_0": one})
    assert panels[1].caption == "supervised: validation macro F1" and len(drawn(panels[1]).lines) == 1
    looks = [panel for panel in curves._panels("anatomy", [{"step": 1, "loss": 1.0, "validation": 0.7, "linear_f1": 0.6}]) if panel]
    assert [panel.caption for panel in looks] == ["loss", "macro F1 of nearest neighbours", "macro F1 of a linear probe"]
    assert all(len(drawn(panel).lines) == 1 for panel in looks)


@pytest.mark.parametrize("broken", [None, [[1, 2], [3]], [[1, 2], [3, 4]], [[1, 2, "x"]] * 3, [[1, 2, float("nan")]] * 3])
def test_a_row_without_counts_that_fit_is_drawn_without_them(tmp_path, broken):
    run = write_run(tmp_path / "run")
    told = json.loads((run / "planes/table.json").read_text())
    for row in told["rows"]:
        row["confusion"] = broken
    (run / "planes/table.json").write_text(json.dumps(told))
    assert len(tables(planes.section(Folder(run), Captions())["blocks"])) == 2


@pytest.mark.parametrize("content, said", [(b"PK torn", "not readable"), (b"{}", "holds no mode's macro F1"), (None, "was not written")])
def test_a_broken_table_is_told_by_name(tmp_path, content, said):
    run = write_run(tmp_path / "run")
    (run / "planes/table.json").unlink() if content is None else (run / "planes/table.json").write_bytes(content)
    with pytest.raises(Missing, match=f"planes/table.json.*{said}"):
        planes.section(Folder(run), Captions())


def test_a_headline_without_a_figure():
    assert scores.headline({"metrics": {"macro_f1": {"mean": None}}, "n_test": 1}, {}) == "Macro F1 –, on 1 still."
    assert scores.headline({"metrics": {}, "n_test": 2}, {}) == "No DSC was measured, on 2 images."


@pytest.mark.parametrize("how, words", [
    ({"ratio": 1.0, "column": "plane"}, "was told 'plane' of all training stills"),
    ({"ratio": 0.3, "column": "anatomy"}, "was told 'anatomy' of 30"),
    ({"ratio": 0.0}, "was told no label"),
    ({"ratio": 1.0, "method": "uscl", "label_weight": 0.0}, "was told no label"),
])  # fmt: skip
def test_what_the_pretraining_has_known_of_the_labels(how, words):
    (sentence,) = planes.told({"stages": ["anatomy", "planes"], "anatomy": how})
    assert words in sentence
    assert planes.told({"stages": ["planes"], "anatomy": how}) == []
