"""A study's tables: means, differences, verdicts and the papers' numbers, and the same again from the files."""

import csv
import re

import numpy as np
import pytest
import studies

from uscl.report import study_files, study_findings, study_layout, study_tables
from uscl.report.study_folder import Study
from uscl.study import results

INNER = ("cortex", "medulla", "central_echo_complex")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = studies.write_study(tmp_path_factory.mktemp("study"))
    study = Study(folder)
    scores = study_tables.Scores(results.read(folder))
    return study, scores, study_layout.tables(study, scores)


def expected(name, fraction, classes, measure="dsc"):
    """The mean over seeds, images and classes, straight from what the helper made."""
    name = studies.SERVED.get(name, name)
    values = [
        studies.score(name, fraction, seed, patient, frame, label)
        for seed in studies.SEEDS for patient in range(studies.PATIENTS) for frame in range(studies.FRAMES) for label in classes
    ]  # fmt: skip
    return np.mean(values) if measure == "dsc" else np.mean([0.5 - value / 2 for value in values])


def cell(table, row, column):
    labels = [" ".join(labels) for labels, _ in table.rows]
    return table.rows[labels.index(row)][1][table.columns.index(column)]


def test_means_and_differences_are_those_of_the_cases(whole):
    _, _, tables = whole
    for name, row in (("nnunet", "nnU-Net"), ("baseline", "Chaitanya"), ("scratch", "scratch")):
        for fraction, column in ((0.1, "10\xa0%"), (0.5, "50\xa0%"), (1.0, "100\xa0%")):
            assert cell(tables["labels"], row, column).mean == pytest.approx(expected(name, fraction, studies.CLASSES), abs=1e-9)
    found = cell(tables["labels"], "scratch", "10\xa0%")
    gap = expected("scratch", 0.1, studies.CLASSES) - expected("baseline", 0.1, studies.CLASSES)
    assert found.difference.mean == pytest.approx(gap, abs=1e-9) and found.low < found.mean < found.high and found.seeds == 2


def test_delta_snr_of_all_classes_leaves_the_capsule_out(whole):
    _, _, tables = whole
    found = cell(tables["speckle"], "Chaitanya + speckle 100\xa0%", "all classes, ΔSNR")
    assert found.mean == pytest.approx(expected("speckle", 1.0, INNER, "delta_snr"), abs=1e-9)
    assert found.mean != pytest.approx(expected("speckle", 1.0, studies.CLASSES, "delta_snr"), abs=1e-3)
    assert found.verdict.word == "worse" and found.difference.mean > 0  # a larger disagreement


@pytest.mark.parametrize(
    "table, row, column, word",
    [("labels", "nnU-Net", "10\xa0%", None), ("labels", "Chaitanya", "10\xa0%", "better"), ("labels", "scratch", "10\xa0%", "worse"),
     ("temporal", "InfoNCE – –", "10\xa0%", None), ("temporal", "InfoNCE binary, positives encoder", "10\xa0%", "inside the noise"),
     ("temporal", "InfoNCE binary, positives decoder", "10\xa0%", "worse"),
     ("temporal", "pairwise linear, + negatives both", "10\xa0%", "better"), ("speckle", "nnU-Net 10\xa0%", "cortex, DSC", None),
     ("speckle", "nnU-Net + speckle 10\xa0%", "cortex, DSC", "worse"), ("beyond", "speckle as a map", "10\xa0%", "better"),
     ("beyond", "speckle on the envelope", "10\xa0%", "inside the noise")],
)  # fmt: skip
def test_verdicts(whole, table, row, column, word):
    found = cell(whole[2][table], row, column).verdict
    assert (found and found.word) == word


def test_a_table_is_one_family(whole):
    tables = whole[2]
    assert {key: table.family for key, table in tables.items()} == {"labels": 6, "temporal": 3, "speckle": 32, "beyond": 4}
    raw = [c.difference.p for _, cells in tables["temporal"].rows for c in cells if c.difference]
    least = min(c.corrected for _, cells in tables["temporal"].rows for c in cells if c.difference)
    assert least == pytest.approx(min(1, 3 * min(raw)))


def test_each_row_is_held_against_its_own_baseline(whole):
    held = {name: study_layout.reference(whole[0], name) for name in studies.EXPERIMENTS}
    assert held == {
        "nnunet": None, "baseline": "nnunet", "scratch": "baseline", "temporal_none": None, "near": "temporal_none", "bad": "temporal_none",
        "good": "temporal_none", "speckle_reference": None, "speckle": "speckle_reference", "nnunet_reference": None,
        "nnunet_speckle": "nnunet_reference", "speckle_envelope": "baseline", "speckle_map": "baseline",
    }  # fmt: skip


@pytest.mark.parametrize(
    "table, row, column, printed",  # typed from the papers' tables
    [("labels", "nnU-Net", "10\xa0%", 0.439), ("labels", "Chaitanya", "50\xa0%", 0.582), ("labels", "scratch", "10\xa0%", None),
     ("temporal", "InfoNCE – –", "10\xa0%", 0.442), ("temporal", "InfoNCE binary, positives decoder", "10\xa0%", 0.467),
     ("temporal", "pairwise linear, + negatives both", "10\xa0%", 0.428), ("speckle", "Chaitanya + speckle 10\xa0%", "cortex, DSC", 0.04),
     ("speckle", "Chaitanya + speckle 100\xa0%", "CEC, ΔSNR", 0.36), ("speckle", "nnU-Net 100\xa0%", "all classes, DSC", 0.57),
     ("speckle", "nnU-Net 10\xa0%", "all classes, DSC", None), ("beyond", "speckle as a map", "10\xa0%", None)],
)  # fmt: skip
def test_the_papers_numbers_stand_beside_ours(whole, table, row, column, printed):
    assert cell(whole[2][table], row, column).paper == printed


def test_differences_are_paired_by_image_though_one_lacks_images():
    row = lambda name, image, value: results.Row(name, "t", name, 1.0, 0, f"p{image}", f"{image}:0", "c", "dsc", value)  # noqa: E731
    hard = [0.1, 0.9, 0.5, 0.3]
    rows = [row("a", k, value + 0.05) for k, value in reversed(list(enumerate(hard)))]
    rows += [row("b", k, value) for k, value in enumerate(hard) if k != 1] + [row("b", 7, 0.99)]
    found = study_tables.Scores(rows).cell("a", 1.0, "dsc", ["c"], against=("b", 1.0))
    assert found.difference.mean == pytest.approx(0.05) and found.mean == pytest.approx(0.5)
    assert found.difference.low == pytest.approx(0.05) and found.difference.high == pytest.approx(0.05)


def test_a_class_without_a_number_is_left_out_of_its_image():
    row = lambda image, label, value: results.Row("a", "t", "a", 1.0, 0, f"p{image}", f"{image}", label, "dsc", value)  # noqa: E731
    rows = [row(0, "x", 0.2), row(0, "y", float("nan")), row(1, "x", 0.4), row(1, "y", 0.8)]
    assert study_tables.Scores(rows).cell("a", 1.0, "dsc", ["x", "y"]).mean == pytest.approx((0.2 + 0.6) / 2)


def test_the_files_say_what_the_page_says(whole, tmp_path):
    for key, table in whole[2].items():
        study_files.write(table, tmp_path)
        lines = list(csv.DictReader((tmp_path / f"{key}.csv").open(encoding="utf-8")))
        cells = [c for _, cells in table.rows for c in cells]
        assert [float(line["mean"]) for line in lines] == [c.mean for c in cells]
        assert [line["verdict"] for line in lines] == [c.verdict.word if c.verdict else "" for c in cells]
        text = (tmp_path / f"{key}.md").read_text(encoding="utf-8")
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")}
        assert widths == {len(table.labels) + len(table.columns) + 1}
        for mark, word in (("▲ ", "better"), ("▼ ", "worse"), ("≈", "inside the noise")):
            assert text.split("Mean with")[0].count(mark.strip()) == sum(c.verdict is not None and c.verdict.word == word for c in cells)
        tex = (tmp_path / f"{key}.tex").read_text(encoding="utf-8")
        assert tex.count("{") == tex.count("}") and tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == 1
        body = tex.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
        assert len(body) == len(table.rows) and not re.search(r"(?<!\\)%", "".join(body))
        assert {line.count(" & ") for line in body} == {len(table.labels) + len(table.columns) - 1}


def test_what_was_not_run_is_said(tmp_path):
    folder = studies.write_study(tmp_path, names=("baseline",), seeds=(0,))
    study, scores = Study(folder), study_tables.Scores(results.read(folder))
    tables = study_layout.tables(study, scores)
    assert not cell(tables["labels"], "nnU-Net", "10\xa0%").known and cell(tables["labels"], "Chaitanya", "10\xa0%").verdict is None
    assert "not yet run; paper 0.439" in study_files.as_markdown(tables["labels"])
    assert "nnU-Net,10\xa0%,,,,,,,,,,not yet run,0.439" in study_files.as_csv(tables["labels"])
    assert [sentence for _, sentence in study_findings.findings(study, scores)] == ["Not yet run."] * 6


def test_what_is_found_is_what_was_made(whole):
    study, scores, _ = whole
    said = dict(study_findings.findings(study, scores))
    assert said["Is it the pretraining?"].startswith("Yes.") and "+0.06" in said["Is it the pretraining?"]
    few = said["Do temporal weights help with few labels?"]
    assert "Of 3 variants 1 better, 1 worse and 1 inside the noise at 10\xa0% of labels" in few
    assert "the highest, pairwise, linear, + negatives, both: mean DSC +0.0" in few
    assert said["Does the speckle loss help on gray levels?"].startswith("No, it harms.")
    assert said["Does the speckle loss help on the decompressed envelope?"].startswith("Not beyond the noise.")
    assert said["Does the speckle loss help as a local map?"].startswith("Yes.")
    assert said["Does contrastive pretraining save labels?"].startswith("No. Held against nnU-Net at all labels")
    assert all("95 % interval" in sentence for sentence in said.values())


def test_labels_that_are_saved(whole):
    study = whole[0]
    rows = [row._replace(value=row.value - 0.1 * row.experiment.startswith("nnunet")) for row in results.read(study.path)]
    said = study_findings.saving(study, study_tables.Scores(rows))  # goal 0.492; the curve goes from 0.450 at 10 % to 0.552 at 50 %
    assert said.startswith("Yes.") and re.search(r"matches it with (1[5-9]|2[0-9]) % of the labels", said), said
    rows = [row for row in rows if (row.experiment, row.fraction) != ("baseline", 0.1)]
    assert "At 10\xa0% it was not yet run." in study_findings.saving(study, study_tables.Scores(rows))


def test_a_reference_that_falls_with_labels_is_no_measure_of_them(whole):
    """nnU-Net lowered by 0.3 with all labels: the curve passes it everywhere, which says nothing of saving."""
    study = whole[0]
    rows = [row._replace(value=row.value - 0.3 * (row.experiment == "nnunet" and row.fraction == 1)) for row in results.read(study.path)]
    said = study_findings.saving(study, study_tables.Scores(rows))
    assert said.startswith("It can't be said: nnU-Net itself falls from 10\xa0% to all labels, by \N{MINUS SIGN}0."), said
    assert "give it more updates. Held against nnU-Net" in said
