"""What each part of the report computes before it draws, and the command that draws it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from uscl.report import curves, figures, overlays, pairs, scores, tables, tissue
from uscl.report.folder import Folder, Missing

ROOT = Path(__file__).parent.parent


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    return Folder(tmp_path)


def drawn(panel):
    axes = Figure().subplots()
    panel.draw(axes)
    return axes


def test_records_of_a_resumed_and_torn_run(folder):
    lines = [{"stage": "a", "step": 10, "loss": 1.0}, {"stage": "a", "step": 20, "loss": 9.0}, {"stage": "b", "step": 5, "loss": 7.0}]
    lines += [{"stage": "a", "step": 20, "loss": 2.0}, {"stage": "a", "step": 15, "loss": 1.5}, {"no": "stage"}, [1]]
    (folder.path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"stage": "a", "st')
    found = folder.records()
    assert [(r["step"], r["loss"]) for r in found["a"]] == [(10, 1.0), (15, 1.5), (20, 2.0)]
    assert list(found) == ["a", "b"]
    (folder.path / "metrics.jsonl").write_text("")
    with pytest.raises(Missing, match="no record"):
        folder.records()


def test_arrays_are_never_unpickled(folder):
    np.savez(folder.path / "bad.npz", z=np.array([{"a": 1}], dtype=object))
    np.savez(folder.path / "short.npz", other=1)
    with pytest.raises(Missing, match="bad.npz is not readable"):
        folder.arrays("bad.npz", "z")
    with pytest.raises(Missing, match="short.npz lacks z; it holds other"):
        folder.arrays("short.npz", "z")


def test_curves_leave_gaps_out_and_thin_long_ones():
    records = [{"step": k, "loss": float(k), "validation": {"dsc": 0.5} if k % 100 == 0 else None} for k in range(1000)]
    records[3]["loss"] = float("nan")
    steps, values = curves.series(records, "loss")
    assert len(steps) == 999 and 3 not in steps and np.array_equal(steps, values)
    assert curves.series(records, "validation")[1].tolist() == [0.5] * 10
    assert curves.series(records, "absent").shape == (2, 0)
    loss, validation = [panel for panel in curves._panels("finetune", records) if panel]
    x, y = drawn(loss).lines[0].get_data()
    assert 200 < len(x) <= curves.POINTS and np.array_equal(x, y) and "means of 4 records" in loss.caption
    assert "validation DSC" in validation.caption and drawn(validation).get_ylim() == (0, 1)


def test_chance_is_drawn_where_it_lies():
    records = [{"step": k, "loss": 3.0 - k / 10, "chance": 3.85, "best": 0.1} for k in range(4)]
    (panel,) = [panel for panel in curves._panels("encoder", records) if panel]
    axes = drawn(panel)
    assert set(axes.lines[1].get_ydata()) == {3.85} and axes.texts[0].get_text() == "chance 3.85"
    assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > 3.85


def test_best_median_and_worst_by_rank():
    assert overlays.ranked([0.2, 0.9, 0.5, 0.7, 0.1]) == {"best": 1, "median": 2, "worst": 4}
    assert overlays.ranked([0.2, np.nan, 0.5]) == {"best": 2, "median": 0}, "each image once, nan never"
    assert overlays.ranked([0.4]) == {"best": 0}
    assert overlays.ranked([np.nan]) == {}


def test_error_colours_say_what_is_wrong():
    truth, prediction = np.array([[0, 1, 1, 2, 0]]), np.array([[1, 0, 2, 2, 0]])
    rgb = overlays.errors(np.full((1, 5), 100, np.uint8), truth, prediction)[0]
    for pixel, colour in zip(rgb, (overlays.FALSE, overlays.MISSED, overlays.SWAPPED), strict=False):
        assert np.abs(pixel - to_rgb(colour)).max() < 0.3 and np.ptp(pixel) > 0.3
    assert np.ptp(rgb[3]) == np.ptp(rgb[4]) == 0, "what is right stays gray"


def test_outlines_run_between_pixels():
    label = np.zeros((8, 9), np.uint8)
    label[2:5, 0:3] = 1  # touches the left edge
    classes = {"whole": [1, 2], "part": [1], "absent": [2]}
    lines = overlays.outlines(label, classes)
    assert [union for *_, union in lines] == [False, False, True] and lines[2][1] == overlays.UNION
    axes = drawn(overlays.tile(np.zeros((8, 9), np.uint8), "", lines[:1]))
    box = axes.collections[0].get_paths()[0].get_extents()
    assert np.allclose([box.x0, box.x1, box.y0, box.y1], [-0.5, 2.5, 1.5, 4.5])


def test_large_frames_are_thinned():
    mask = np.zeros((600, 1000), bool)
    mask[200:400, 400:600] = True
    axes = drawn(overlays.tile(np.zeros((600, 1000), np.uint8), "", [(mask, "#ffffff", True)]))
    box = axes.collections[0].get_paths()[0].get_extents()
    assert axes.images[0].get_array().shape == (150, 250) and np.allclose([box.x0, box.x1, box.y0, box.y1], [99.5, 149.5, 49.5, 99.5])


def test_matrices_are_sorted_by_cine_and_time():
    cine, frame = np.array([5, 2, 5, 2]), np.array([1, 9, 0, 4])
    weights = np.arange(16.0).reshape(4, 4) / 16
    order = np.lexsort((frame, cine))
    shown = drawn(pairs._matrix(weights, cine, order, "w"))
    assert order.tolist() == [3, 1, 2, 0]
    assert np.array_equal(shown.images[0].get_array(), weights[[3, 1, 2, 0]][:, [3, 1, 2, 0]])
    assert [label.get_text() for label in shown.get_yticklabels()] == ["2", "5"]
    twice = drawn(pairs._matrix(np.tile(weights, (2, 2)), cine, order, "w")).images[0].get_array()
    assert np.array_equal(twice[4:, :4], weights[order][:, order])
    odd = drawn(pairs._matrix(np.eye(5), cine, order, "w")).images[0].get_array()
    assert np.array_equal(odd, np.eye(5)), "a matrix of another size is shown as it is"


def test_principal_components_against_eigenvectors():
    z = np.random.default_rng(0).normal(size=(40, 6)) * [5, 3, 1, 1, 0.5, 0.1] + 2
    score, share = pairs.principal(z)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(np.cov(unit.T))
    assert np.allclose(share, values[::-1][:2] / values.sum())
    assert np.allclose(np.abs(score), np.abs((unit - unit.mean(0)) @ vectors[:, ::-1][:, :2]))
    assert np.isfinite(pairs.principal(np.zeros((4, 3)))[0]).all()
    assert pairs.principal(np.arange(1.0, 5)[:, None])[0].shape == (4, 2), "one dimension is padded"


def test_numbers_in_words():
    assert [tables.figure(x) for x in (0.71234, -0.5, 1200, None, float("nan"), True)] == ["0.712", "\u22120.500", "1,200", "–", "–", "–"]
    plain = [tables.duration(s).replace("\N{NO-BREAK SPACE}", " ") for s in (0.4, 59.6, 280, 7300)]
    assert plain == ["0 s", "1 min 0 s", "4 min 40 s", "2 h 1 min"]
    assert tables.plural(1, "image") == "1 image" and tables.plural(2000, "class", "es") == "2,000 classes"
    assert tables.flat({"a": {"b": [1, "x"], "c": {}}, "d": None}) == {"a.b": "1, x", "a.c": "–", "d": "–"}
    table, rest = tables.crossed({"origin": "o", "splits": {"train": {"n": 1}, "test": {"n": 2, "m": 3}}})
    assert table == {"head": ["splits", "n", "m"], "rows": [["train", "1", "–"], ["test", "2", "3"]]} and rest == {"origin": "o"}


def test_the_table_and_the_dots_hold_each_number_in_its_place():
    metrics = {
        "dsc": {"mean": 0.5, "ci95": [0.4, 0.6], "per_class": {"a": {"mean": 0.7, "ci95": [0.65, 0.8]}, "b": {"mean": None}}},
        "hd95_mm": {"mean": 4.26, "per_class": {"b": {"mean": 9, "ci95": [8.04, 10.06]}}},
        "later": {"mean": 0.25},
    }
    made = scores.table(metrics, list(metrics), ["a", "b"])
    assert [row[0] for row in made["rows"]] == ["all classes", "a", "b"] and made["head"][3] == "later"
    assert [[(cell["value"], cell["note"]) for cell in row[1:]] for row in made["rows"]] == [
        [("0.500", "0.400 to 0.600"), ("4.3", ""), ("0.250", "")],
        [("0.700", "0.650 to 0.800"), ("–", ""), ("–", "")],
        [("–", ""), ("9", "8.0 to 10.1"), ("–", "")],
    ]
    axes = drawn(scores._dots("DSC", metrics["dsc"], ["a", "b"], {"a": [0.6, 0.9]}))
    points = {(x, round(y, 2)) for line in axes.lines for x, y in zip(*line.get_data(), strict=True)}
    assert points == {(0.4, 0), (0.6, 0), (0.5, 0), (0.65, 1), (0.8, 1), (0.7, 1), (0.6, 0.76), (0.9, 0.76)}


def test_tissues_stand_in_their_rows():
    tissues = {
        "a": {"truth": {"m": 2.0}, "prediction": {"m": 3.0}, "intended": {"m": 1.0}},
        "b": {"truth": {"m": None}, "prediction": {"m": 0}},
    }
    axes = drawn(tissue._panel("gray levels", ("truth", "prediction", "intended"), "m", "m", tissues))
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines] == [(2, 0), (3, 0), (1, -0.22)]


def test_headline_says_only_what_is_known():
    assert scores.headline({"metrics": {"dsc": {"mean": 0.5}}}, {}) == "Mean DSC 0.500."
    assert scores.headline({"metrics": {"dsc": 0.5}, "n_test": 1}, {}) == "Mean DSC 0.500, on 1 image."
    assert scores.headline({"n_test": 3}, {}) == "No DSC was measured, on 3 images."


def test_inline_svg_keeps_nothing_of_the_outside():
    svg = (
        '<?xml version="1.0"?><svg xmlns="http://a.b" viewBox="0 0 1 1"><metadata>http://c</metadata><g id="axes_1"><path id="m1" '
        'style="stroke: #0072b2; font: 8px \'Arial\'"/><use xlink:href="#m1" clip-path="url(#p1)"/><clipPath id="p1"/></g></svg>'
    )
    found = figures.inline(svg, "g7-", 'a "<b>"')
    assert "http" not in found and 'id="axes_1"' not in found and 'aria-label="a &quot;&lt;b>&quot;"' in found
    assert 'id="g7-m1"' in found and 'href="#g7-m1"' in found and "url(#g7-p1)" in found and 'id="g7-p1"' in found
    assert "stroke: var(--blue)" in found and "Arial" not in found and "font-size: 8px" in found


def command(*flags):
    return subprocess.run([sys.executable, ROOT / "launch/report.py", *flags], capture_output=True, text=True, timeout=120, cwd="/")


def test_the_command_draws_or_says_in_one_line_why_not(folder):
    done = command(f"--run={folder.path}")
    assert done.returncode == 0 and done.stdout.strip() == str(folder.path / "report.html") and (folder.path / "report.html").exists()
    wrong = command(f"--run={folder.path / 'plots'}")
    assert wrong.returncode == 2 and not wrong.stdout and len(wrong.stderr.splitlines()) == 1
    assert "config.json was not written" in wrong.stderr and "plots" in wrong.stderr
    assert command().returncode == 2
