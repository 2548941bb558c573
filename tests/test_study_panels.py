"""What the study's page shows beside scores: areas, calibration, borders, embeddings, CPU time; gaps are told."""

import csv
import json
import shutil

import numpy as np
import pytest
import studies
from matplotlib.figure import Figure

from uscl.report import (
    study,
    study_areas,
    study_curves,
    study_embeddings,
    study_measures,
    study_protocol,
    study_tables,
)  # fmt: skip
from uscl.report.figures import Easel
from uscl.report.folder import Missing
from uscl.report.study_folder import Study
from uscl.study import results

NAMES = ("nnunet", "baseline", "scratch", "speckle", "nnunet_speckle")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return studies.write_study(tmp_path_factory.mktemp("study"), names=NAMES)


@pytest.fixture(scope="module")
def mine(folder):
    return Study(folder)


@pytest.fixture(scope="module")
def models(mine):
    return study.shown(mine)


@pytest.fixture
def torn(folder, tmp_path):
    """A copy to spoil."""
    shutil.copytree(folder, tmp_path / "study")
    return tmp_path / "study"


def tables(section):
    return [block["table"] for block in section["blocks"] if block["kind"] == "table"]


def cells(section):
    return [len(block["cells"]) for block in section["blocks"] if "cells" in block]


def mean_dsc(folder, name, share):
    """Of the runs' own cases.csv, without the code under test."""
    values = []
    for path in (folder / f"runs/{name}@{100 * share:g}").glob("seed*/evaluate/cases.csv"):
        with open(path, newline="") as file:
            values += [float(row["dsc"]) for row in csv.DictReader(file)]
    return np.mean(values)


def test_areas_are_trapezoids_of_the_means(folder, mine):
    table = study_areas.areas(mine, study_tables.Scores(results.read(folder)))
    assert [row[0] for row in table["rows"]] == ["nnU-Net", "Chaitanya", "scratch"]
    for row, name in zip(table["rows"], ("nnunet", "baseline", "scratch"), strict=True):
        a, b, c = (mean_dsc(folder, name, share) for share in (0.1, 0.5, 1.0))
        log = (np.log(5) * (a + b) / 2 + np.log(2) * (b + c) / 2) / np.log(10)
        linear = (0.4 * (a + b) / 2 + 0.5 * (b + c) / 2) / 0.9
        assert [cell["value"] for cell in row[1:3]] == [f"{log:.3f}", f"{linear:.3f}"]
        low, high = map(float, row[1]["note"].split(" to "))
        assert low < log < high
    # nnU-Net is what is to be matched; the contrastive model stays 0.02 below it
    assert table["rows"][0][3:] == ["–", "–"] and table["rows"][1][3]["value"] == "not reached"


def test_a_model_that_lacks_a_share_has_no_area(torn):
    shutil.rmtree(torn / "runs/scratch@50")
    rows = study_areas.areas(Study(torn), study_tables.Scores(results.read(torn)))["rows"]
    assert rows[2] == ["scratch", *["not yet run"] * 4] and rows[1][1] != "not yet run"
    for share in (10, 50, 100):
        shutil.rmtree(torn / f"runs/nnunet@{share}")
        shutil.rmtree(torn / f"runs/baseline@{share}")
    with pytest.raises(Missing, match="all planned shares"):
        study_areas.areas(Study(torn), study_tables.Scores(results.read(torn)))


def test_surface_dice_stands_beside_the_others(folder, mine, models):
    section = study_curves.classes(mine, study_tables.Scores(results.read(folder)), Easel(None), models)
    captions = [cell["caption"] for cell in section["blocks"][0]["cells"]]
    assert [caption.split(",")[0] for caption in captions] == ["DSC", "surface Dice", "ΔSNR", "HD95"]
    assert "within 2 mm of the other" in section["text"]


def test_calibration_says_who_is_too_sure(mine, models):
    section = study_measures.calibration(mine, Easel(None), models)
    # 100 pixels at 0.5 of which 0.4 are right, 900 at 0.9 of which 0.7 are: 0.86 and 0.67
    assert tables(section)[0]["rows"][0] == ["Chaitanya", "0.123", "0.456", "0.860", "0.670", "1,000"]
    assert "Chaitanya is too sure (0.86 sure, 0.67 right)" in section["notes"][0] and cells(section) == [1]
    assert [row[0] for row in tables(section)[0]["rows"]] == list(models) and len(models) == 4


def test_calibration_without_bins_or_numbers(torn):
    for path in torn.glob("runs/*/*/evaluate/calibration.json"):
        path.write_text(json.dumps({"ece": None, "brier": [0.1, 0.2], "pixels": None, "bins": {"count": [1, 2], "confidence": [0.5]}}))
    again = Study(torn)
    section = study_measures.calibration(again, Easel(None), study.shown(again))
    assert tables(section)[0]["rows"][0] == ["Chaitanya", "–", "0.300", "–", "–", "–"] and cells(section) == []


def test_borders_tell_what_a_pixel_costs(mine, models):
    section = study_measures.borders(mine, Easel(None), models)
    rows = tables(section)[0]["rows"]
    minus = "\N{MINUS SIGN}"
    one = {"value": f"{minus}0.100", "note": "ΔSNR 0.020"}
    assert rows[0] == ["capsule", "12", one, {"value": f"{minus}0.140", "note": "ΔSNR 0.030"},
                       {"value": f"{minus}1.000", "note": "ΔSNR –"}, {"value": f"{minus}0.600", "note": "ΔSNR 0.300"}]  # fmt: skip
    assert rows[3][2]["value"] == f"{minus}0.400"
    assert "costs 0.120 of DSC (capsule) to 0.420 of DSC (central echo complex)" in section["notes"][0]


@pytest.mark.parametrize(
    "by_class,by_cine,word", [(0.3, 0.1, "the tissue"), (0.1, 0.3, "the patient"), (0.2, 0.2, "the patient"), (-0.1, -0.3, "neither")]
)
def test_the_sentence_follows_the_silhouettes(by_class, by_cine, word):
    entry = {"regions": {"class": {"silhouette": by_class}, "cine": {"silhouette": by_cine}}}
    said = study_embeddings.knows({"one": entry, "other": {"regions": {"class": {"silhouette": None}, "cine": {}}}})
    numbers = f"{by_class:.2f} by class, {by_cine:.2f} by cine".replace("-", "\N{MINUS SIGN}")
    assert said == f"By the silhouettes of the regions, the embedding knows {word} in one ({numbers})."


def test_no_silhouettes_no_sentence():
    assert study_embeddings.knows({}) == study_embeddings.knows({"one": {"frames": {}}}) == ""


def test_embeddings_by_class_and_by_cine(mine, models):
    section = study_embeddings.section(mine, Easel(None), models)
    drawn = [[cell["caption"] for cell in block["cells"]] for block in section["blocks"] if "cells" in block]
    assert drawn == [["regions by class", "regions by cine", "frames by cine"]] * 3  # nnU-Net has no encoder
    legend = next(block["legend"] for block in section["blocks"] if block["kind"] == "legend")
    assert [name for _, _, name in legend] == ["capsule", "central echo complex", "cortex", "medulla"]
    rows = tables(section)[0]["rows"]
    assert len(rows) == 9
    first = {"value": "Chaitanya", "note": "regions by class: 24 of 4 classes"}
    assert rows[0] == [first, "0.250", "0.750", "0.310", "0.600", "\N{MINUS SIGN}1.500", "3.250"]
    assert rows[2][0]["note"] == "frames by cine: 60 of 6 cines" and rows[2][3] == "–"
    assert "the tissue in Chaitanya (0.31 by class, 0.11 by cine)" in section["notes"][0]


def test_points_have_the_colour_of_the_legend():
    z, names = np.eye(6), np.array(["b", "b", "b", "c", "c", "c"])
    figure = Figure()
    study_embeddings._cloud(z, names, "regions by class", ["a", "b", "c"]).draw(axes := figure.subplots())
    drawn = {line.get_color(): len(line.get_xdata()) for line in axes.lines}
    assert drawn == dict(zip(study_embeddings.SERIES[:3], (0, 3, 3), strict=True))


def test_embeddings_of_an_older_run(torn):
    for path in torn.glob("runs/*/*/evaluate/embedding.npz"):
        with np.load(path) as kept:
            old = {key: kept[key] for key in ("z", "cine", "frame", "patient")}
        np.savez(path, **old)
        path.with_name("geometry.json").unlink()
    again = Study(torn)
    section = study_embeddings.section(again, Easel(None), study.shown(again))
    assert cells(section) == [1, 1, 1] and section["blocks"][-1]["text"] == "no run has written its evaluate/geometry.json"
    assert "Chaitanya, scratch, Chaitanya + speckle" in section["notes"][0]


def test_cpu_time_is_added_up(torn):
    runs = [path.parent for path in torn.glob("runs/*/*/config.json")]
    (runs[0] / "cpu.json").write_text(json.dumps({"finetune": 40.0, "evaluate": None}))
    (runs[1] / "cpu.json").write_text(json.dumps({"finetune": 30.0, "evaluate": 5.5}))
    section = study_protocol.spent(Study(torn), None)
    plain = lambda value: value.replace("\N{NO-BREAK SPACE}", " ")  # noqa: E731
    rows = {row[0]: [plain(cell) for cell in row] for row in tables(section)[0]["rows"]}
    assert rows["finetune"][4] == "1 min 10 s" and rows["evaluate"][4] == "6 s" and rows["encoder"][4] == "–"
    assert rows["all stages"][4] == "1 min 16 s"
    stages = 2 * len(runs) + 2  # of the runs and the two pretrainings
    assert plain(section["blocks"][0]["facts"]["CPU time"]) == f"1 min 16 s, of 3 of {stages} stages"
