"""The page of a study that follows no paper's tables, from a made-up heads study: its figures, its verdicts, and what is left out."""

import csv

import head_studies as made
import numpy as np
import pytest
from test_report import Reader

from uscl.report import row_tables, study, study_tables
from uscl.report.study_folder import Study
from uscl.study import results


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made.write_study(tmp_path_factory.mktemp("heads"))


@pytest.fixture(scope="module")
def tables(folder):
    return row_tables.tables(Study(folder), study_tables.Scores(results.read(folder)))


@pytest.fixture(scope="module")
def page(folder):
    return study.draw(folder).read_text(encoding="utf-8")


def cell(table, row, column):
    rows = {label: cells for (label,), cells in table.rows}
    return rows[row][table.columns.index(column)]


def column(share, measure):
    return f"{share}\N{NO-BREAK SPACE}%, {measure}"


def mean(score, name, share, patients=range(made.PATIENTS)):
    """By hand: over seeds, then over the images in which any seed has a number."""
    return np.mean([score(name, share, seed, patient) for seed in made.SEEDS for patient in patients])


def test_tables_are_the_plans_by_share_and_measure(tables):
    assert list(tables) == ["heads", "heads_more", "decoder", "decoder_more"]
    assert [labels for labels, _ in tables["heads"].rows] == [("random weights",), ("SimCLR",), ("AWCL",)]
    assert tables["heads"].columns == tuple(column(share, m) for share in (10, 100) for m in ("DSC", "HC error, mm"))
    assert tables["decoder_more"].columns == tuple(column(10, m) for m in ("Heads missed", "HD95, mm", "Surface Dice"))


def test_means_are_those_of_the_cases(tables):
    for share, name, row in ((0.1, "scratch", "random weights"), (1.0, "simclr", "SimCLR"), (0.1, "awcl", "AWCL")):
        assert cell(tables["heads"], row, column(f"{100 * share:g}", "DSC")).mean == pytest.approx(mean(made.score, name, share))
    off = mean(made.error, "scratch", 0.1, range(made.MISSED, made.PATIENTS))  # of the heads that were found
    assert cell(tables["heads"], "random weights", column(10, "HC error, mm")).mean == pytest.approx(off)
    assert cell(tables["heads_more"], "random weights", column(10, "Heads missed")).mean == pytest.approx(3 / 16)


def test_rows_are_held_against_the_first_of_their_table(tables):
    assert all(one.verdict is None for table in tables.values() for one in table.rows[0][1])
    for measure, gain in (("DSC", 0.05), ("HC error, mm", -1.0)):
        assert cell(tables["heads"], "SimCLR", column(10, measure)).difference.mean == pytest.approx(gain)
        assert cell(tables["heads"], "SimCLR", column(10, measure)).verdict.word == "better"
        assert cell(tables["heads"], "AWCL", column(100, measure)).verdict.word == "inside the noise"
        assert cell(tables["decoder"], "SimCLR, FPN", column(10, measure)).verdict.word == "worse"
    assert not cell(tables["decoder"], "AWCL, FPN", column(10, "DSC")).known
    assert cell(tables["heads_more"], "SimCLR", column(10, "Heads missed")).difference.mean == pytest.approx(-3 / 16)


def test_a_table_is_one_family(tables):
    assert [table.family for table in tables.values()] == [8, 12, 2, 3]
    p = [one.difference.p for _, cells in tables["heads"].rows[1:] for one in cells]
    corrected = [one.corrected for _, cells in tables["heads"].rows[1:] for one in cells]
    assert min(corrected) == pytest.approx(8 * min(p)) and max(corrected) >= max(p)


def test_findings_answer_each_row(folder, tables):
    found = dict(row_tables.findings(Study(folder), tables))
    assert list(found) == ["Is SimCLR better than random weights?", "Is AWCL better than random weights?",
                           "Is SimCLR, FPN better than random weights, FPN?", "Is AWCL, FPN better than random weights, FPN?"]  # fmt: skip
    yes, no, worse, later = found.values()
    assert yes.replace("\N{NO-BREAK SPACE}", " ").startswith("Yes. With 95 % intervals: at 10 % of labels DSC +0.050 (")
    assert yes.count("DSC +0.050") == 2 and "HC error, mm \N{MINUS SIGN}1.000" in yes
    assert no.startswith("Not beyond the noise.") and worse.startswith("No, it harms.") and later == "Not yet run."


def test_the_page_has_its_own_sections_alone(page):
    read = Reader(page)
    assert "http" not in page and len(read.ids) == len(set(read.ids))
    for anchor in ("table-heads", "table-heads_more", "table-decoder", "curves", "classes", "cases", "embedding", "protocol", "spent"):
        assert anchor in read.ids
    assert not {"nakagami", "maps", "activations", "table-labels"} & set(read.ids)
    text = read.text.replace("\N{NO-BREAK SPACE}", " ")
    assert text.index("Is SimCLR better than random weights?") < text.index("runs evaluated")
    assert "16 of 18" in text and "fetal phantom, seed 0" in text and "anatomy.steps" in text and "kidney" not in text.lower()
    assert "awcl_fpn at 10 %, seed 0: runs/awcl_fpn@10/seed0 has no evaluation" in text
    assert page.count("<svg") == 1 + 4 + 3 * 4  # curves, four bars, three images of truth and three models


def test_tables_lie_beside_the_page(folder, page):
    with open(folder / "tables/heads.csv", newline="") as file:
        rows = {(row["model"], row["column"]): row for row in csv.DictReader(file)}
    assert float(rows["SimCLR", column(100, "DSC")]["mean"]) == pytest.approx(mean(made.score, "simclr", 1.0))
    assert rows["SimCLR", column(10, "DSC")]["verdict"] == "better" and (folder / "tables/decoder_more.tex").exists()


def test_a_study_of_which_nothing_has_run(tmp_path):
    page = study.draw(made.write_study(tmp_path, names=())).read_text(encoding="utf-8")
    assert "Is AWCL better than random weights?" in page and page.count("Not yet run.") == 4 and "no run has begun" in page
