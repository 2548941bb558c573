"""The parts behind a video study's page: counterparts, settings, shares of the labels; and whether the lung paper's figures add up."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest
import video_studies

from uscl.report import video_cells, video_findings, video_protocol, video_shares, video_tables
from uscl.report.study_folder import Study
from uscl.study import papers_lung
from uscl.study import videos as scores

ROOT = Path(__file__).parent.parent


def test_only_equal_changes_make_a_counterpart(tmp_path):
    folder = video_studies.write_study(tmp_path / "study", names=())
    plan = json.loads((folder / "study.json").read_text())
    plan["experiments"][-1]["changes"]["video.method"] = "simclr"
    videos = of_plan(folder, plan)
    assert videos.against(("byol_still", "features")) == ("simclr", "features")
    plan["experiments"][-1]["changes"]["video.clips"] = 8
    videos = of_plan(folder, plan)
    assert videos.against(("byol_still", "features")) is None and videos.against(("byol", "features")) == ("supervised", "random")
    assert videos.against(("supervised", "random")) is None and videos.shares() == list(video_studies.SHARES)


def of_plan(folder, plan):
    (folder / "study.json").write_text(json.dumps(plan))
    return video_cells.Videos(Study(folder), [])


@pytest.mark.parametrize(
    "shares,few", [((0.05, 0.1, 0.2, 1.0), [0.05, 0.1]), ((0.2, 0.5), [0.2]), ((0.5, 1.0), [0.5]), ((0.3, 0.4), [0.3]), ((), [])])
def test_smallest_shares(shares, few):
    assert video_findings.smallest(list(shares)) == few


def test_settings_and_parameters_come_from_the_runs(tmp_path):
    folder = video_studies.write_study(tmp_path / "study", names=("byol",), planned=("byol", "supervised"))
    for path in folder.glob("runs/*/*/config.json"):
        config = json.loads(path.read_text())
        config["video"]["plan"], config["video"]["clips"] = "darknet53", 24
        path.write_text(json.dumps(config))
    videos = video_cells.Videos(Study(folder), scores.read(folder))
    assert video_tables.trainable(videos, ("byol", "features")) == "–" and video_tables.trainable(videos, ("supervised", "random")) == "38"
    found = {key: (theirs, mine, why) for key, theirs, mine, why in video_protocol.deviations(videos.study)}
    assert found["video.clips"] == (32, 24, "fewer clips a step, for memory and time") and found["video.steps"][:2] == (20000, 200)
    assert not {"video.method", "video.temporal", "classify.modes", "classify.column", "model.width"} & set(found)


def test_the_papers_figures_hold_together():
    count = papers_lung.VIDEOS
    assert count["unlabelled"] + count["labelled"] == count["all"]
    assert count["train"] + count["validation"] + count["test"] == count["labelled"]
    shown = [row for row in papers_lung.CLASSIFIED.rows.values() if None not in row]
    fits = [p for p in np.arange(254) / 253 if all(abs(p * sens + (1 - p) * spec - acc) <= 0.01 for acc, sens, spec, _ in shown)]
    assert len(shown) == 4 and min(fits) <= 0.46 <= max(fits) and max(fits) - min(fits) < 0.05
    a, up, down = 0.9, 117, 136  # Hanley and McNeil 1982
    variance = (a * (1 - a) + (up - 1) * (a / (2 - a) - a**2) + (down - 1) * (2 * a**2 / (1 + a) - a**2)) / (up * down)
    assert 1.96 * variance**0.5 == pytest.approx(0.04, abs=0.005)
    assert 0.3 * (count["unlabelled"] + count["train"]) / count["train"] == pytest.approx(6, abs=0.5)


@pytest.mark.parametrize("name", ["study_page", "study_videos", "video_cells", "video_findings", "video_protocol", "video_tables"])
def test_the_page_knows_no_model(name):
    path = ROOT / f"uscl/report/{name}.py"
    names = [node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    assert not [name for name in names if name.startswith(("uscl.models", "uscl.stages", "uscl.train", "jax"))]


def test_ticks_are_measured_shares():
    assert video_shares.ticks([0.05, 0.1, 0.3, 0.6, 1.0], True) == [0.05, 0.1, 1.0]
    assert video_shares.ticks([0.3, 0.6, 1.0], False) == [0.3, 0.6, 1.0]
