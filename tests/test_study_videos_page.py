"""The report of a made-up video study: its figures are those of the made-up scores, each cell meets its counterpart, gaps are told."""

import csv

import numpy as np
import pytest
import video_studies
from test_report import Reader

from uscl.report import study_videos
from uscl.types import UserError

BYOL, ORDER = ("BYOL", "pretrained features"), ("BYOL, order kept", "pretrained features")


def drawn(folder):
    page = study_videos.draw(folder).read_text(encoding="utf-8")
    return page, Reader(page.split("<body>")[1].split("</body>")[0]).text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return video_studies.write_study(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def page(folder):
    return drawn(folder)


@pytest.fixture(scope="module")
def cross(tmp_path_factory):
    folder = video_studies.write_study(tmp_path_factory.mktemp("cross"), folds=3, patients=9)
    return folder, drawn(folder)[1]


def rows(folder, key):
    """{(model, mode): {column: the table's row}} of tables/KEY.csv."""
    found = {}
    with open(folder / f"tables/{key}.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault((row["model"], row["mode"]), {})[row["column"].replace("\N{NO-BREAK SPACE}", " ")] = row
    return found


def test_the_page_is_one_file_with_every_section(page, folder):
    text, said = page
    read = Reader(text)
    assert "http" not in text and "script" not in read.tags and "link" not in read.tags and 'class="missing"' not in text
    assert "not yet run" not in said.lower() and "nan" not in said.split() and "8 of 8" in said
    for anchor in ("modes", "shares", "curves", "temporal", "saliency", "data", "protocol", "spent", "versions"):
        assert anchor in read.ids
    assert text.count("<svg") == 2
    names = {path.name for path in (folder / "tables").iterdir()}
    assert names == {f"{key}.{end}" for key in ("modes", "shares", "temporal", "saliency") for end in ("csv", "md", "tex")}


def test_findings_come_first_in_order(page):
    places = [page[1].index(start) for start in ("Do frozen features", "Does fine-tuning", "What does pretraining without", "Do the maps")]
    assert places == sorted(places) and places[-1] < page[1].index("runs evaluated") and page[1].startswith("lung study · quick Do frozen")


def test_table_3_has_ours_counted_pair_by_pair_and_the_papers(page, folder):
    table = rows(folder, "modes")
    auc = {place: float(row["AUC"]["mean"]) for place, row in table.items()}
    assert auc[BYOL] == pytest.approx(video_studies.auc(("byol", "features"), 1.0), abs=1e-12)
    assert auc["random weights", "random features"] == pytest.approx(video_studies.auc(("supervised", "random"), 1.0), abs=1e-12)
    printed = {place: [row[name]["paper"] for name in ("accuracy", "sensitivity", "specificity", "AUC")] for place, row in table.items()}
    assert printed[BYOL] == ["0.78", "0.69", "0.86", "0.86"] and printed["SimCLR", "fine-tuned"] == ["0.79", "0.68", "0.89", "0.89"]
    assert printed["random weights", "supervised"] == ["0.82", "", "", "0.91"] and set(printed["random weights", "random features"]) == {""}
    trained = {mode: row["AUC"]["trained parameters"] for (_, mode), row in table.items()}
    assert trained == {"pretrained features": "38", "fine-tuned": "133,880", "random features": "38", "supervised": "133,880"}
    assert not any(row["AUC"]["verdict"] for row in table.values())
    assert float(table[BYOL]["AUC"]["low"]) < auc[BYOL] < float(table[BYOL]["AUC"]["high"])


def test_each_cell_meets_its_counterpart_at_the_same_share(page, folder):
    table = rows(folder, "shares")
    for model, mode, mine, other in (
        ("BYOL", "pretrained features", ("byol", "features"), ("supervised", "random")),
        ("SimCLR", "fine-tuned", ("simclr", "finetuned"), ("supervised", "supervised")),
    ):
        for share, column in ((0.05, "5 %"), (0.5, "50 %")):
            expected = video_studies.auc(mine, share) - video_studies.auc(other, share)
            assert float(table[model, mode][column]["difference"]) == pytest.approx(expected, abs=1e-12)
    assert table[BYOL]["5 %"]["verdict"] == "better" and table["SimCLR", "pretrained features"]["5 %"]["verdict"] == "inside the noise"
    assert not any(row["verdict"] for mode in ("random features", "supervised") for row in table["random weights", mode].values())
    assert table[BYOL]["100 %"]["paper"] == "0.86" and table[BYOL]["50 %"]["paper"] == ""
    assert not any(model == "BYOL, order kept" for model, _ in table)


def test_p_are_corrected_over_the_table(page, folder):
    every = [row for cells in rows(folder, "shares").values() for row in cells.values() if row["p"]]
    assert len(every) == 20
    every.sort(key=lambda row: float(row["p"]))
    largest = 0.0
    for k, row in enumerate(every):  # Holm by hand
        largest = max(largest, min(1.0, (20 - k) * float(row["p"])))
        assert float(row["p_corrected"]) == pytest.approx(largest, abs=1e-12)
    first = rows(folder, "shares")[BYOL]["5 %"]
    mean, low, high = (float(first[key]) for key in ("difference", "difference_low", "difference_high"))
    assert f"BYOL at 5 % +{mean:.3f} (+{low:.3f} to +{high:.3f}, p = {float(first['p_corrected']):.2g}), better; at 10 %" in page[1]


def test_order_kept_is_held_against_the_same_with_order_changed(page, folder):
    table = rows(folder, "temporal")
    assert list(table) == [BYOL, ORDER, ("BYOL", "fine-tuned"), ("BYOL, order kept", "fine-tuned")]
    expected = video_studies.auc(("byol_still", "features"), 0.1) - video_studies.auc(("byol", "features"), 0.1)
    assert float(table[ORDER]["10 %"]["difference"]) == pytest.approx(expected, abs=1e-12) and expected < -0.2
    assert table[ORDER]["10 %"]["verdict"] == "worse" and not table[BYOL]["10 %"]["verdict"]
    worse = [label for label, cells in table.items() for cell in cells.values() if cell["verdict"] == "worse"]
    assert ORDER in worse and f"It costs AUC in {len(worse)} of 10 comparisons." in page[1]
    assert "\N{MINUS SIGN}0.02 without an interval" in page[1]


def test_maps_are_held_against_the_random_ones(page, folder):
    table = rows(folder, "saliency")
    for place, gain in ((BYOL, 0.35), (("SimCLR", "fine-tuned"), 0.33), (("random weights", "supervised"), 0.07)):
        assert float(table[place]["weighted IoU"]["difference"]) == pytest.approx(gain, abs=1e-12)
        assert float(table[place]["pointing game"]["difference"]) == pytest.approx(gain, abs=1e-12)
        assert table[place]["weighted IoU"]["verdict"] == "better" and not table[place]["pointing game"]["verdict"]
    random = table["random weights", "random features"]["weighted IoU"]
    wave = np.mean([0.04 * np.cos(3 * cine + seed) for _, cine, label in video_studies.videos() if label for seed in video_studies.SEEDS])
    assert float(random["mean"]) == pytest.approx(0.05 + wave, abs=1e-12) and not random["verdict"]
    assert "the table's 7 comparisons" in page[1] and "Of 24 positive test videos" in page[1]


def test_parts_of_a_cross_validation_are_compared_inside(cross):
    folder, said = cross
    auc = float(rows(folder, "shares")["BYOL", "fine-tuned"]["100 %"]["mean"])
    won = asked = 0  # pairs of one part only: the parts' scores lie 100 apart
    for part in range(3):
        test = [one for one in video_studies.videos(9) if int(one[0][-3:]) // 2 % 3 == part]
        for seed in video_studies.SEEDS:
            for draw in range(video_studies.DRAWS):
                at = {c: video_studies.score(("byol", "finetuned"), 1.0, seed, draw, c, label, part) for _, c, label in test}
                pairs = [at[a] > at[b] for _, a, up in test if up for _, b, down in test if not down]
                won, asked = won + sum(pairs), asked + len(pairs)
    assert auc == pytest.approx(won / asked, abs=1e-12)
    assert "all parts 9 8 of 4 10 of 5 part 1 4 4 of 2 4 of 2 part 2" in said and "24 of 24" in said


def test_few_patients_bound_what_can_be_shown(cross, page):
    assert "9 patients, each tested in one of 3 parts: 4 with positive videos, 5 with negative ones." in cross[1]
    least = "9 patients can't show a p below 2^(1 \N{MINUS SIGN} 9) = 0.0039"
    assert f"{least}; corrected for so many, no difference in “Few labels” can be told from the noise." in cross[1]
    assert "24 test patients: 12 with positive videos, 12 with negative ones." in page[1] and "can't show" not in page[1]


def test_what_is_missing_is_told(tmp_path):
    folder = video_studies.write_study(tmp_path / "study", names=())
    page, said = drawn(folder)
    assert said.count("Not yet run.") == 4 and "0 of 8" in said and page.count('class="missing"') == 6
    for seed in video_studies.SEEDS:
        video_studies.write_run(folder / f"runs/byol/seed{seed}", "byol", seed, -1, 1, video_studies.PATIENTS, boxes=False)
    page, said = drawn(folder)
    assert "2 of 8" in said and "No video has a box." in said and "simclr, seed 0: runs/simclr/seed0 has no scores" in said
    table = rows(folder, "shares")
    assert table[BYOL]["5 %"]["mean"] and not table[BYOL]["5 %"]["verdict"]
    assert table["SimCLR", "fine-tuned"]["5 %"]["verdict"] == "not yet run"
    (folder / "runs/byol/seed1/results.json").unlink()
    assert "1 of 8" in drawn(folder)[1] and rows(folder, "shares")[BYOL]["5 %"]["seeds"] == "1"
    with pytest.raises(UserError, match="is no study"):
        study_videos.draw(tmp_path)


def test_shares_are_ticked_with_their_videos(page):
    svg = page[0][page[0].index('id="curves"') :]
    assert "log scale; below it, labelled videos" in svg and all(f">{labels}<" in svg for labels in video_studies.LABELS)
