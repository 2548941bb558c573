"""The report of a run on videos: classifications, occlusion maps and their trainings, from a folder written by hand."""
import csv
import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from test_report import Reader

from uscl import report
from uscl.report import curves, saliency, scores, video_curves, videos
from uscl.report.figures import Easel
from uscl.report.folder import Folder, Missing

ROWS = {"random": 0.611, "supervised": 0.722, "features": 0.733, "finetuned": 0.844}
LABEL = [0, 0, 1, 1]
DRAWS = {0: [0.1, 0.4, 0.35, 0.8], 1: [0.1, 0.2, 0.3, 0.4]}  # AUC 3/4 and 1
SHAPE = (12, 16)


def entry(mean):
    return {"mean": mean, "ci95": [round(mean - 0.1, 4), round(mean + 0.1, 4)]}


def difference(mode, against, share, mean, low, high):
    return {"mode": mode, "against": against, "fraction": share, "auc": {"mean": mean, "ci95": [low, high]}}


def write_run(path, shares=(0.1,)):
    for place in ("classify", "saliency"):
        (path / place).mkdir(parents=True)
    rows = [{"mode": mode, "fraction": share, "draws": 2, "labels": round(130 * share), "auc": entry(auc + share / 100),
             "accuracy": entry(auc - 0.031), "sensitivity": entry(auc - 0.042), "specificity": entry(auc + 0.053)}
            for share in shares for mode, auc in ROWS.items()]  # fmt: skip
    differences = [difference("features", "random", share, 0.122, 0.061 if share < 0.3 else -0.02, 0.183) for share in shares]
    differences += [difference("finetuned", "supervised", share, -0.0225, -0.0415, -0.0125) for share in shares]
    fields = {"boxes": np.full((2, 3, 2, 4), -1, np.int32), "cine": [7, 9], "patient": ["Anna", "Berta"]}
    fields["boxes"][0, 0, 0] = fields["boxes"][0, 2, 1] = 2, 3, 5, 8  # rows 2 to 5, columns 3 to 8: 24 pixels; frame 1 shows nothing
    hit, missed = np.zeros((2, 2, *SHAPE), np.float32)
    hit[:, 2:6, 3:9], missed[:, 9:, 9:] = 2.5, 1.5
    moving = np.repeat(hit[:, None], 3, 1)
    np.savez(path / "saliency/maps.npz", image=np.full((2, 3, *SHAPE), 90, np.uint8), map_finetuned=moving, map_random=missed, **fields)
    where = {mode: {key: entry(0.2 + k / 100 + place / 1000) for k, key in enumerate(saliency.MEASURES)}
             for place, mode in enumerate(("finetuned", "random"))}  # fmt: skip
    texts = {
        "config.json": {"experiment": "lung", "stages": ["video", "classify", "saliency"]},
        "timing.json": {"video": 61.0, "classify": 30.2},
        "classify/table.json": {"rows": rows, "differences": differences},
        "saliency/localisation.json": where,
        "results.json": {
            "experiment": "lung", "scale": "quick", "classes": ["class"], "n_test": 253, "n_test_patients": 81, "n_train_labels": 65,
            "mode": "finetuned", "metrics": {key: rows[-1][key] for key in videos.FIGURES},
        },
    }  # fmt: skip
    for name, content in texts.items():
        (path / name).write_text(json.dumps(content))
    with open(path / "classify/predictions.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["mode", "fraction", "draw", "part", "patient", "cine", "label", "score"])
        for share in shares:
            for mode in ROWS:
                for draw, values in DRAWS.items():
                    for part in ("validation", "test"):
                        writer.writerows([mode, share, draw, part, k, k, LABEL[k], values[k]] for k in range(4))
    lines = [{"stage": "video", "step": s, "loss": 4 - s / 20, "similarity": 4 - s / 20, "embedding_std": 0.7} for s in (10, 20, 30)]
    lines += [{"stage": "video", "step": s, "loss": 1.5, "validation": 0.5 + s / 200, "linear_auc": 0.625, "best": 1} for s in (40, 60)]
    lines += [{"stage": f"classify/{mode}_{100 * share:g}_{draw}", "step": s, "loss": 1 / s, "validation": 0.5 + s / 100 + draw / 10}
              for share in shares for mode in ("supervised", "finetuned") for draw in DRAWS for s in (10, 20)]  # fmt: skip
    (path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(run):
    return report.draw(run).read_text(encoding="utf-8")


def drawn(panel):
    axes = Figure().subplots()
    panel.draw(axes)
    return axes


def tables(blocks):
    return [block["table"] for block in blocks if block["kind"] == "table"]


def broken(path, name, make):
    """Torn, empty and absent, the file is told by its name."""
    run = write_run(path / "run")
    for content, said in ((b"PK torn", "not readable"), (b"{}", "holds|readable"), (None, "was not written")):
        (run / name).unlink() if content is None else (run / name).write_bytes(content)
        with pytest.raises(Missing, match=f"{name}.*({said})"):
            make(Folder(run), Easel(None))


def test_the_page_tells_of_videos_and_of_nothing_else(page):
    read = Reader(page)
    text = read.text.replace("\N{NO-BREAK SPACE}", " ")
    assert all(link.startswith(("#", "data:image/png;base64,", "data:image/webp;base64,")) for link in read.links)
    assert {"training", "classify", "saliency", "protocol"} <= set(read.ids)
    assert not {"classes", "cases", "nakagami", "pairs", "plan", "embedding"} & set(read.ids) and "DSC" not in text
    said = "AUC 0.845 (95 % interval 0.745 to 0.945), on 253 videos of 81 test patients, learnt from 65 labelled videos, in 1 min 31 s."
    assert f"Fine-tuned: {said}" in text
    tiles = "AUC 0.845 0.745 to 0.945 Accuracy 0.813 0.713 to 0.913 Sensitivity 0.802 0.702 to 0.902 Specificity 0.897 0.797 to 0.997"
    assert tiles in text
    for told in ("supervised 10 % 13 videos 0.723 0.623 to 0.823 0.691 0.591 to 0.791 0.680 0.580 to 0.780 0.775 0.675 to 0.875",
                 "pretrained features against random features better +0.122, 0.061 to 0.183",
                 "fine-tuned against supervised worse −0.022, −0.042 to −0.013", "the mean of 2 draws of labelled videos",
                 "60 steps · loss 3.5 to 1.5 · AUC of nearest neighbours 0.700 to 0.800 · 1 min 1 s", "classify 4 trainings · 30 s",
                 "AUC of a linear probe", "random features 0.201 0.101 to 0.301 0.211", "cine 7, patient Anna frame 1 of the clip's 3",
                 "cine 9, patient Berta frame 2 of the clip's 3", "boxes cover 12.5 % of the frames",
                 "2 positive test videos"):  # fmt: skip
        assert told in text, told


def test_a_run_on_images_has_no_section_of_videos(tmp_path):
    (tmp_path / "config.json").write_text('{"stages": ["encoder", "evaluate"]}')
    ids = set(Reader(report.draw(tmp_path).read_text()).ids)
    assert {"classes", "cases", "nakagami"} <= ids and not {"classify", "saliency"} & ids


def test_many_shares_of_labels(tmp_path):
    run = write_run(tmp_path / "run", shares=(0.05, 0.1, 0.5, 1.0))
    content = videos.section(Folder(run), Easel(None))
    words, numbers, everything = tables(content["blocks"])
    assert [row[1].replace("\N{NO-BREAK SPACE}", "") for row in words["rows"]] == [
        "better at 5%, 10%; inside the noise at 50%, 100%", "worse at every share",
    ]  # fmt: skip
    assert [row[1]["value"] for row in numbers["rows"]] == ["+0.122"] * 4 and len(everything["rows"]) == 16
    cells = [len(block["cells"]) for block in content["blocks"] if block["kind"] == "panels"]
    assert cells == [2, 3], "AUC and accuracy; ROC at three shares"
    panel = video_curves.against_share(json.loads((run / "classify/table.json").read_text())["rows"], "auc")
    x, y = drawn(panel).lines[3].get_data()
    assert np.allclose(x, np.array([5, 10, 50, 100]) + 1.25) and np.allclose(y, [0.8445, 0.845, 0.849, 0.854])
    ends = drawn(panel).collections[0].get_segments()[1]
    assert np.allclose(ends, [[10 - 1.25, 0.512], [10 - 1.25, 0.712]])
    (block,) = [block for block in curves.section(Folder(run), Easel(None))["blocks"] if block.get("text") == "classify"]
    assert block["note"].startswith("16 trainings")


@pytest.mark.parametrize("low, high, word", [(0.01, 0.1, "better"), (-0.2, -0.01, "worse"), (0.0, 0.1, "inside the noise"),
                                             (-0.1, 0.0, "inside the noise"), (None, None, "without an interval")])  # fmt: skip
def test_the_interval_alone_decides(low, high, word):
    assert videos.verdict({"mean": 0.05, "ci95": [low, high]}) == word
    assert videos.verdict({}) == "without an interval"


def test_roc_curves_by_hand(run):
    label = np.array(LABEL, bool)
    assert np.array_equal(video_curves.roc(label, np.array(DRAWS[0])), [[0, 0, 0.5, 0.5, 1], [0, 0.5, 0.5, 1, 1]])
    assert np.array_equal(video_curves.roc(label, np.full(4, 2.0)), [[0, 1], [0, 1]]), "ties cross together"
    found = video_curves.by_draw(Folder(run))
    assert len(found) == 8 and np.array_equal(found["random", 0.1, 1]["test"][1], DRAWS[1])
    panel = video_curves.curves(found, 0.1, several=False)
    lines = drawn(panel).lines
    assert np.array_equal(lines[1].get_data(), [[0, 0, 0.5, 0.5, 1], [0, 0.5, 0.5, 1, 1]]), "of the first draw"
    assert (lines[-1].get_xdata()[0], lines[-1].get_ydata()[0]) == (0.5, 1), "cut at 0.225"
    rows = json.loads((run / "classify/table.json").read_text())["rows"]
    points = {(round(x, 4), y) for line in drawn(video_curves.by_mode(rows, found)).lines for x, y in zip(*line.get_data(), strict=True)}
    assert {(0.723, 1), (0.623, 1), (0.823, 1), (0.75, 1.25), (1.0, 1.25)} <= points


def test_the_trainings_of_a_stage_stand_together():
    one = [{"step": s, "loss": s / 10, "validation": 0.5 + s / 100} for s in (10, 20)]
    panels = curves._together("classify", {"supervised_10_0": one, "supervised_100_0": one, "finetuned_10_0": one})
    captions = ["supervised: loss", "supervised: validation AUC", "fine-tuned: loss", "fine-tuned: validation AUC"]
    assert [panel.caption.split(",")[0] for panel in panels] == captions
    lines = drawn(panels[1]).lines
    assert np.allclose(lines[0].get_ydata(), [0.6, 0.7]) and lines[0].get_alpha() < lines[1].get_alpha() == 1
    assert lines[2].get_ydata()[0] == 0.5 and len(drawn(panels[3]).lines) == 2


def test_chance_of_a_look_is_a_half_and_segmentations_have_none():
    records = [{"step": s, "loss": 1.0, "validation": 0.75} for s in (10, 20)]
    looks = {stage: [panel for panel in curves._panels(stage, records) if panel][1] for stage in ("video", "finetune")}
    assert [line.get_ydata()[-1] for line in drawn(looks["video"]).lines] == [0.75, 0.5]
    assert len(drawn(looks["finetune"]).lines) == 1 and looks["finetune"].caption == "validation DSC"


def test_a_broken_table_is_told_by_name(tmp_path):
    broken(tmp_path, "classify/table.json", videos.section)


def test_predictions_that_lack_are_told_and_the_rest_drawn(tmp_path):
    run = write_run(tmp_path / "run")
    (run / "classify/predictions.csv").write_text("mode,fraction,draw,part,label,score\nrandom,0.1,0,test,1,nan\n")
    content = videos.section(Folder(run), Easel(None))
    assert [b["text"] for b in content["blocks"] if b["kind"] == "missing"] == ["classify/predictions.csv: a score is not finite"]
    assert len(tables(content["blocks"])) == 2


def test_an_unknown_mode_and_a_score_without_interval():
    assert scores.headline({"mode": "zeal", "metrics": {"auc": 0.5}, "n_test": 1}, {}) == "Zeal: AUC 0.500, on 1 video."
    assert scores.headline({"metrics": {"auc": {"mean": None}}}, {}) == "AUC –."
