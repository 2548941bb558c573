"""Pictures on the study's page: Nakagami maps and final activations; and what every panel says when its file is missing or torn."""

import shutil

import numpy as np
import pytest
import studies
from matplotlib.figure import Figure

from uscl.report import study, study_activations, study_cases, study_embeddings, study_maps, study_measures
from uscl.report.figures import Easel
from uscl.report.folder import Missing
from uscl.report.study_folder import Study

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


@pytest.mark.parametrize("kind", ["gray levels", "envelope"])
def test_maps_are_moments_of_a_window(kind):
    image = np.random.default_rng(0).integers(0, 255, (14, 15)).astype(np.uint8)
    image[:, :3] = 0
    found = study_maps._local(image, 5, 60.0)
    x = image.astype(np.float64) / 255
    if kind == "envelope":
        x = np.where(image > 0, 10 ** (3 * (x - 1)), 0)
    for row, column in ((6, 8), (3, 4), (10, 12)):
        inside = (slice(row - 2, row + 3), slice(column - 2, column + 3))
        p = x[inside][image[inside] > 0] ** 2
        assert found[kind, "m"][1][row, column] == pytest.approx(min(p.mean() ** 2 / p.var(), 10), rel=1e-3)
        assert found[kind, "omega"][1][row, column] == pytest.approx(p.mean(), rel=1e-4)
    assert not found[kind, "m"][1][:, 0].any()  # most of the window is black
    assert np.array_equal(found["gray levels", "m"][0].round(), image)


def test_colours_are_logarithmic_and_black_where_unknown():
    values = np.array([[0.0, 1.0, 10.0, 100.0]])
    norm = study_maps.LogNorm(1, 100)
    rgb = study_maps._coloured(values, norm)[0]
    ends = [study_maps.colormaps[study_maps.MAP](x)[:3] for x in (0.0, 0.5, 1.0)]
    assert not rgb[0].any() and np.allclose(rgb[1:], ends, atol=0.01)
    narrow = study_maps._norm([np.full((2, 2), 3.0)])
    assert narrow.vmin == 2.0 and narrow.vmax == 4.5 and study_maps._norm([np.zeros((2, 2))]).vmax == 2.0


def test_maps_show_the_same_images_as_the_cases(mine, models):
    section = study_maps.section(mine, Easel(None), models)
    assert cells(section) == [4, 6, 6, 6] and "9 x 9 pixels" in section["text"] and "60 dB" in section["text"]
    headings = [block["note"] for block in section["blocks"] if block["kind"] == "heading"]
    cases = [block["note"] for block in study_cases.cases(mine, Easel(None), models)["blocks"] if block["kind"] == "heading"]
    assert [note.split(" · ")[0] for note in cases] == headings and all(name.startswith("patient0") for name in headings)


def drawn(section, monkeypatch, study_, models):
    """The axes of the matrix, as a figure of Matplotlib."""
    kept = []
    monkeypatch.setattr(Easel, "block", lambda self, name, panels, **_: kept.extend(panels) or {"kind": "panels", "cells": []})
    found = section(study_, Easel(None), models)
    kept[0].draw(axes := Figure().subplots())
    return found, axes


def test_activations_of_the_speckle_rows_and_their_references(mine, models, monkeypatch):
    section, axes = drawn(study_activations.section, monkeypatch, mine, models)
    texts = [text.get_text() for text in axes.texts]
    rows = ["Chaitanya", "Chaitanya + speckle", "nnU-Net", "nnU-Net + speckle"]
    assert [text for text in texts if text in rows] == rows
    assert texts[:5] == ["most probable", "background", "cortex", "medulla", "central echo\ncomplex"]
    pictures = [image.get_array() for image in axes.images]
    assert len(pictures) == 4 * 5 + 1  # a colour bar
    truth = studies.truth(0, 0)  # of the patients 0, 4 and 8, whose rings are as large, the first
    assert np.array_equal(pictures[2], np.where(truth == 1, 210, 15)) and np.array_equal(pictures[4], np.where(truth == 3, 210, 15))
    assert "patient0000, of 3" in section["text"] and section["notes"] == []


def test_activations_of_another_image_are_left_out(torn, monkeypatch):
    path = torn / "runs/speckle@10/seed0/evaluate/activations.npz"
    with np.load(path) as kept:
        arrays = dict(kept)
    np.savez(path, **{**arrays, "image": 255 - arrays["image"]})
    path = torn / "runs/baseline@10/seed0/evaluate/activations.npz"
    with np.load(path) as kept:
        np.savez(path, **{**kept, "truth": kept["truth"] % np.array([3, 4, 3])[:, None, None]})  # the second shows a class more
    np.savez(torn / "runs/nnunet@10/seed0/evaluate/activations.npz", **{**arrays, "probability": arrays["probability"][:, :, :5]})
    (torn / "runs/nnunet_speckle@10/seed0/evaluate/activations.npz").write_text("torn")
    again = Study(torn)
    section, axes = drawn(study_activations.section, monkeypatch, again, study.shown(again))
    assert section["notes"] == ["Left out, being of other images or classes: Chaitanya + speckle."] and len(axes.images) == 5 + 1
    assert "patient0004" in section["text"]


def test_names_of_the_outputs():
    assert study_activations._channels(studies.CLASSES, 4) == ["background", "cortex", "medulla", "central echo complex"]
    assert study_activations._channels({"a_b": [1], "c": [2]}, 2) == ["a b", "c"]
    assert study_activations._channels({"a": [1]}, 3) == ["background", "a", "label 2"]


SECTIONS = {
    "calibration.json": study_measures.calibration, "sensitivity.json": study_measures.borders,
    "activations.npz": study_activations.section, "cases.npz": study_maps.section,
}  # fmt: skip


@pytest.mark.parametrize("name", SECTIONS)
@pytest.mark.parametrize("content", [None, "{torn", "{}"])
def test_a_missing_or_torn_file_is_told(folder, mine, models, name, content, tmp_path):
    run = next(iter(models.values()))
    place = tmp_path / run.folder.path.relative_to(folder)
    shutil.copytree(run.folder.path, place)
    (place / "evaluate" / name).unlink() if content is None else (place / "evaluate" / name).write_text(content)
    (tmp_path / "study.json").write_text((folder / "study.json").read_text())
    alone = Study(tmp_path)
    if (name, content) == ("calibration.json", "{}"):  # nothing to draw, a row without numbers
        assert tables(SECTIONS[name](alone, Easel(None), study.shown(alone)))[0]["rows"] == [["Chaitanya", *["–"] * 5]]
        return
    with pytest.raises(Missing, match=f"evaluate/{name}"):
        SECTIONS[name](alone, Easel(None), study.shown(alone))


def test_nothing_run_is_told():
    empty = Study.__new__(Study)
    empty.experiments, empty.plan = {}, {"runs": []}
    for section in (*SECTIONS.values(), study_embeddings.section):
        with pytest.raises(Missing):
            section(empty, Easel(None), {})
