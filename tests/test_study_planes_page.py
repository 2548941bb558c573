"""The report of a made-up anatomy study: its figures are those of the made-up calls, each cell meets its counterpart, gaps are told."""

import csv
import json

import numpy as np
import pytest
import study_stills as made
from test_report import Reader

from uscl.report import study, study_cells, study_files, study_tables
from uscl.types import UserError

FEATURES = "pretrained features"


@pytest.fixture(scope="module", autouse=True)
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_cells, "REPEATS", 999)
        yield


def drawn(folder):
    page = study.draw(folder).read_text(encoding="utf-8")
    return page, Reader(page.split("<body>")[1].split("</body>")[0]).text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made.write_study(tmp_path_factory.mktemp("planes"))


@pytest.fixture(scope="module")
def page(folder):
    return drawn(folder)


def rows(folder, key):
    """{labels: {column: the table's row}} of tables/KEY.csv."""
    found = {}
    with open(folder / f"tables/{key}.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(tuple(row.values())[:2], {})[row["column"].replace("\N{NO-BREAK SPACE}", " ")] = row
    return found


def test_the_page_is_one_file_with_every_section(page, folder):
    text, said = page
    read = Reader(text)
    assert "http" not in text and "script" not in read.tags and "link" not in read.tags and 'class="missing"' not in text
    assert "not yet run" not in said.lower() and "nan" not in said.split() and "14 of 14" in said and "of 36 comparisons" in said
    keys = ("linear", "neighbours", "finetuned", "granularity", "ratio", "figures")
    assert {*keys, "curves", "confusions", "paper", "data", "protocol", "spent", "versions"} <= set(read.ids)
    assert text.count("<svg") == 6  # three kinds of mode, the ratio, two confusions
    assert text[text.index('id="curves"') : text.index('id="granularity"')].count(">Macro F1<") == 3
    assert {path.name for path in (folder / "tables").iterdir()} == {f"{k}.{e}" for k in (*keys, "slope") for e in ("csv", "md", "tex")}
    questions = [
        "Do fine labels beat coarse ones? Yes.", "Does a larger ratio of labels help? Yes.", "Do fine labels beat SimCLR",
        "Does SimCLR beat random weights? In part.", "Nearness in time: better in none, worse in none of 6 comparisons.",
    ]  # fmt: skip
    places = [said.index(question) for question in questions]
    assert places == sorted(places) and places[-1] < said.index("runs evaluated")


def test_each_cell_meets_its_counterpart_at_the_same_share(page, folder):
    for key, model, mode, mine, other in (
        ("linear", "fine labels", FEATURES, ("fine", "features"), ("simclr", "features")),
        ("neighbours", "coarse labels", "pretrained, neighbours", ("coarse", "features_knn"), ("simclr", "features_knn")),
        ("finetuned", "SimCLR", "fine-tuned", ("simclr", "finetuned"), ("supervised", "supervised")),
        ("linear", "SimCLR", FEATURES, ("simclr", "features"), ("supervised", "random")),
        ("neighbours", "SimCLR", "pretrained, neighbours", ("simclr", "features_knn"), ("supervised", "random_knn")),
        ("granularity", "fine labels", FEATURES, ("fine", "features"), ("coarse", "features")),
    ):
        for share, column in ((0.1, "10 %"), (1.0, "100 %")):
            cell = rows(folder, key)[model, mode][column]
            assert float(cell["mean"]) == pytest.approx(made.macro_f1(*mine, share), abs=1e-12)
            assert float(cell["difference"]) == pytest.approx(made.macro_f1(*mine, share) - made.macro_f1(*other, share), abs=1e-12)
            assert float(cell["difference_low"]) < float(cell["difference"]) < float(cell["difference_high"])
    table = rows(folder, "linear")
    assert table["fine labels", FEATURES]["10 %"]["verdict"] == "better"
    assert not table["random weights", "random features"]["10 %"]["verdict"]
    held = [(model, FEATURES) for model in ("SimCLR", "coarse labels", "fine labels", "near in time")]
    assert list(table) == [*held, ("random weights", "random features")]
    coarse = rows(folder, "granularity")["coarse labels", "fine-tuned"]
    assert not any(row["verdict"] for row in coarse.values())
    whole = rows(folder, "figures")["fine labels", FEATURES]
    assert float(whole["Macro F1"]["mean"]) == pytest.approx(made.macro_f1("fine", "features", 1.0), abs=1e-12)
    right = [np.mean([made.called("fine", "features", 1.0, s, c, k) == k for _, c, k in made.stills()]) for s in made.SEEDS]
    assert float(whole["Accuracy"]["mean"]) == pytest.approx(np.mean(right)) and not whole["Accuracy"]["verdict"]


def test_p_are_corrected_over_each_table_and_told_on_top(page, folder):
    for key in ("linear", "granularity", "slope"):
        every = sorted((row for cells in rows(folder, key).values() for row in cells.values() if row["p"]), key=lambda row: float(row["p"]))
        assert len(every) == (8 if key == "linear" else 6)
        largest = 0.0
        for k, row in enumerate(every):  # Holm by hand
            largest = max(largest, min(1.0, (len(every) - k) * float(row["p"])))
            assert float(row["p_corrected"]) == pytest.approx(largest, abs=1e-12)
    first = rows(folder, "granularity")["fine labels", FEATURES]["10 %"]
    mean, low, high, p = (float(first[key]) for key in ("difference", "difference_low", "difference_high", "p_corrected"))
    told = f"{FEATURES} {mean:+.3f} ({low:+.3f} to {high:+.3f}, p = {p:.2g}), better; pretrained, neighbours"
    assert told in page[1].replace("\N{NO-BREAK SPACE}", " ")
    assert "8 in “Frozen features, linear layer”" in page[1] and "192 stills of 24 test patients" in page[1]


def test_the_slope_is_the_line_of_least_squares(page, folder):
    ratios, names = (0.0, 0.3, 0.8, 1.0), ("simclr", "ratio30", "ratio80", "fine")
    slopes, values = rows(folder, "slope"), rows(folder, "ratio")
    for mode, name in (("features", FEATURES), ("features_knn", "pretrained, neighbours"), ("finetuned", "fine-tuned")):
        for share, column in ((0.1, "10 %"), (1.0, "100 %")):
            found = [made.macro_f1(one, mode, share) for one in names]
            assert float(slopes[name, "r = 0, 0.3, 0.8, 1"][column]["mean"]) == pytest.approx(np.polyfit(ratios, found, 1)[0], abs=1e-12)
        at = [float(values[f"r = {r:g}", label][name]["mean"]) for r, label in zip(
            ratios, ("SimCLR", "30 % of the labels", "80 % of the labels", "fine labels"), strict=True)]  # fmt: skip
        assert at == pytest.approx([made.macro_f1(one, mode, 0.1) for one in names], abs=1e-12)
    assert page[0].count("rises</span>") == 6 and not any(row["verdict"] for cells in values.values() for row in cells.values())


def test_look_alikes_are_counted_in_both_rows(page):
    def taken(name, pairs):
        stills = [(label, made.called(name, "features", 0.1, s, c, label)) for s in made.SEEDS for _, c, label in made.stills()]
        asked = [(a, b) for a, b in stills if any(a in pair for pair in pairs)]
        return sum(a != b and any({a, b} == set(pair) for pair in pairs) for a, b in asked) / len(asked)

    said = page[1][page[1].index("Look-alikes 4 pairs") :]
    coarse, fine = (taken(name, [(1, 2)]) for name in ("coarse", "fine"))
    row = said[said.index("head and head low") : said.index("femur and spine")].split()
    assert row[4] == f"{coarse:.3f}" and row[8] == f"{fine:.3f}" and row[12] == f"{fine - coarse:+.3f}".replace("-", "\N{MINUS SIGN}")
    every = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    known = sorted(every, key=lambda pair: -sum(taken(name, [pair]) for name in ("coarse", "fine")))[:4]
    assert f"all of these {taken('coarse', known):.3f}" in said and f" {taken('fine', known):.3f} " in said


def test_what_is_missing_is_told(tmp_path):
    folder = made.write_study(tmp_path / "study", names=())
    text, said = drawn(folder)
    assert said.count("Not yet run.") == 4 and "0 of 14" in said and text.count('class="missing"') == 7
    for seed in made.SEEDS:
        made.write_run(folder / f"runs/simclr/seed{seed}", "simclr", seed, -1, 1, 6)
        made.write_run(folder / f"runs/fine/seed{seed}", "fine", seed, -1, 1, 5)  # other patients, so nothing to hold against it
    text, said = drawn(folder)
    assert "4 of 14" in said and "coarse, seed 0: runs/coarse/seed0 has no scores" in said
    table = rows(folder, "linear")
    assert table["fine labels", FEATURES]["10 %"]["mean"] and not table["fine labels", FEATURES]["10 %"]["verdict"]
    slope = rows(folder, "slope")[FEATURES, "r = 0, 0.3, 0.8, 1"]
    assert table["coarse labels", FEATURES]["10 %"]["verdict"] == slope["10 %"]["verdict"] == "not yet run"
    with pytest.raises(UserError, match="is no study"):
        study.draw(tmp_path)


def test_parts_of_a_study_ask_what_they_can(tmp_path):
    folder = made.write_study(tmp_path / "study", folds=3, patients=9, planned=("coarse", "fine"))
    plan = json.loads((folder / "study.json").read_text())
    plan["base"]["planes.neighbours"] = 0
    (folder / "study.json").write_text(json.dumps(plan))
    _, said = drawn(folder)
    assert "Do fine labels beat coarse ones? Yes." in said and "ratio of labels" not in said
    assert "SimCLR" not in said[: said.index("How sure")]
    assert "9 patients, each tested in one of 3 parts" in said and "9 patients can't show a p below" in said
    assert "all 72 9 part 1 24 3 part 2 24 3 part 3 24 3 femur 18 9" in said and "the plan has fewer than three ratios" in said
    assert "Held against" not in said and not any(row["verdict"] for cells in rows(folder, "linear").values() for row in cells.values())
    found = float(rows(folder, "granularity")["fine labels", FEATURES]["10 %"]["mean"])
    assert found == pytest.approx(made.macro_f1("fine", "features", 0.1, 9), abs=1e-12)


def test_a_figure_that_does_not_exist_is_not_a_run_to_come():
    there, coming = study_tables.Cell(seeds=2), study_tables.Cell()
    table = study_tables.Table("key", "title", ("model",), ("a", "b"), [(("row",), [there, coming])])
    assert [line.split(",")[-2] for line in study_files.as_csv(table).splitlines()[1:]] == ["unknown", "not yet run"]
    assert "| row | unknown | not yet run |" in study_files.as_markdown(table)
    shown = study_tables.page(table)["rows"][0]
    assert "unknown" in shown[1]["value"] and "not yet run" in shown[2]["value"]
