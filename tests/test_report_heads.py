"""What a run's page tells of head circumferences, and what a study reads of them."""

import json
import math

import numpy as np
import pytest
from heads_drawn import evaluated, made_store, rows_of
from matplotlib.figure import Figure

from uscl import metrics
from uscl.data.store import Store
from uscl.report import heads, page, scores
from uscl.report.figures import Easel
from uscl.report.folder import Folder, Missing
from uscl.study import results


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of an evaluation with circumferences; of four heads the third is missed."""
    made = tmp_path_factory.mktemp("made")
    (made / "run").mkdir()
    return evaluated(Store.open(made_store(made / "store")), made / "run", **{"evaluate.circumference": "head"})


def test_a_study_reads_the_columns(run, tmp_path):
    """An empty cell is nan, and a class that has none of a measure has no mean."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/one").symlink_to(run)
    cell = {"experiment": "a", "table": "t", "row": "r", "fraction": 0.1, "seed": 0, "folder": "runs/one"}
    (tmp_path / "study.json").write_text(json.dumps({"runs": [cell]}))
    found = {(row.cls, row.image): row.value for row in results.read(tmp_path) if row.measure == "hc_missed"}
    assert sorted(value for (cls, _), value in found.items() if cls == "head") == [0, 0, 0, 1]
    assert all(math.isnan(value) for (cls, _), value in found.items() if cls != "head")
    means = {(row["class"], row["measure"]): row["mean"] for row in rows_of(results.write(tmp_path))}
    assert means["head", "hc_missed"] == means["all", "hc_missed"] == "0.25" and means["floor", "hc_missed"] == ""


def test_the_page_tells_what_was_missed(run, monkeypatch):
    folder = Folder(run)
    made = heads.section(folder, Easel(None))
    lines = {row[0]: row[1:] for row in made["blocks"][0]["table"]["rows"]}
    assert list(lines) == list(heads.PAIRS) and lines["prediction − true mask"][:2] == ["4", "1"]
    assert lines["prediction − table"][:2] == ["2", "1"] and lines["true mask − table"][:2] == ["2", "0"]
    headings = {block["text"]: block["note"] for block in made["blocks"] if block["kind"] == "heading"}
    assert list(headings) == ["best", "median", "worst", "missed"]
    assert headings["best"].startswith("patient p0 · ") and headings["missed"] == "patient p2 · no ellipse goes through the prediction"
    table = scores.table(scores.entries(folder.results), ["hc_error_mm", "hc_missed"], ["head", "left"])
    assert table["rows"][0][2]["value"] == table["rows"][1][2]["value"] == "0.250" and table["rows"][2][1]["value"] == "–"


def test_a_section_only_where_it_was_asked_for(run, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(page, "SECTIONS", {"heads": ("Circumference", lambda *_: shown.append(1) or {})})
    page.draw(run)
    config = json.loads((run / "config.json").read_text())
    for other in (
        {"stages": ["evaluate"]},
        config | {"evaluate": config["evaluate"] | {"circumference": ""}},
        config | {"stages": ["planes"]},
    ):
        (tmp_path / "config.json").write_text(json.dumps(other))
        page.draw(tmp_path)
    assert shown == [1]


def test_a_page_without_heads(run, tmp_path):
    for name in ("config.json", "results.json"):
        (tmp_path / name).write_text((run / name).read_text())
    (tmp_path / "evaluate").mkdir()
    for text, why in (("predicted_mm,true_mm,table_mm\n,,\n", "no true mask"), ("predicted_mm,true_mm,table_mm\nx,1,1\n", "heads.csv"),
                      ("predicted_mm\n1\n", "lacks true_mm, table_mm")):  # fmt: skip
        (tmp_path / "evaluate/heads.csv").write_text(text)
        with pytest.raises(Missing, match=why):
            heads.section(Folder(tmp_path), Easel(None))


def test_ellipses_lie_where_the_masks_are():
    """Also on a frame that is thinned: there the mask's edge is at a third of its place."""
    y, x = np.mgrid[:600, :600]
    mask = ((x - 330) / 120) ** 2 + ((y - 240) / 60) ** 2 <= 1
    axes = Figure().subplots()
    heads.with_ellipses(np.zeros((600, 600), np.uint8), "", [(metrics.fit_ellipse(metrics.outline(mask)), "red")]).draw(axes)
    columns, rows = axes.lines[0].get_data()
    assert (columns.min(), columns.max()) == pytest.approx((210 / 3, 450 / 3), abs=0.5)
    assert (rows.min(), rows.max()) == pytest.approx((180 / 3, 300 / 3), abs=0.5)
