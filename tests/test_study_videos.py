"""The lung study's files as cells: which runs are told, their folds put together, their own thresholds, boxes, and results.csv."""
import csv
import json

import numpy as np
import pytest

from uscl.study import videos
from uscl.types import UserError

SHARES = (1.0, 0.25)  # not in order: the last one is what the saliency belongs to
MEASURES = ("weighted_iou", "frames")


def plan(folder, runs):
    """study.json of (experiment, table, seed, fold) each with a run of its own."""
    entries = [
        {"experiment": name, "table": of, "row": name.upper(), "fraction": 1.0, "seed": s, "fold": fold, "folder": place(name, s, fold)}
        for name, of, s, fold in runs
    ]
    folder.mkdir(exist_ok=True)
    (folder / "study.json").write_text(json.dumps({"name": "lung", "scores": "videos", "runs": entries}))
    return folder


def place(name, seed, fold):
    return f"runs/{name}/seed{seed}" + (f"/fold{fold}" if fold >= 0 else "")


def put(folder, name, seed, fold=-1, *, modes=("random", "features"), draws=2, shift=0.0, cines=None, labels=8):
    """A run that has ended: two negative and two positive test videos a fold, validation videos cut at `shift`."""
    run = folder / place(name, seed, fold)
    (run / "classify").mkdir(parents=True)
    first = 10 * max(fold, 0)
    lines = []
    for share in SHARES:
        for draw in range(draws):
            for mode in modes:
                head = [mode, share, draw]
                lines += [[*head, "validation", "v", 90 + k, int(k > 0), shift + k - 0.5] for k in range(2)]
                for k, cine in reversed(list(enumerate(cines or range(first, first + 4)))):
                    lines.append([*head, "test", f"p{first + k // 2}", cine, k % 2, score(k, draw, mode, shift)])
    write_csv(run / "classify" / "predictions.csv", ["mode", "fraction", "draw", "part", "patient", "cine", "label", "score"], lines)
    rows = [{"mode": mode, "fraction": share, "labels": round(labels * share)} for mode in modes for share in SHARES]
    (run / "classify" / "table.json").write_text(json.dumps({"rows": rows}))
    (run / "results.json").write_text(json.dumps({"experiment": name}))
    return run


def score(k, draw, mode, shift):
    """Below the cut, on it, above and below, of videos whose labels are 0 1 0 1; `features` knows the last."""
    return shift + (-3, 0, 2, -1)[k] + (0.5 * draw if k == 2 else 0) + (9 if mode == "features" and k == 3 else 0)


def write_csv(path, head, lines):
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(lines)


def test_cells_of_a_store_s_own_split(tmp_path):
    folder = plan(tmp_path, [("simclr", "modes", 3, -1), ("byol", "modes", 3, -1), ("byol", "modes", 4, -1)])
    put(folder, "byol", 3)
    put(folder, "simclr", 3, modes=("features",), draws=1)
    cells = videos.read(folder)
    head = [("simclr", "modes", "SIMCLR", "features"), ("byol", "modes", "BYOL", "random"), ("byol", "modes", "BYOL", "features")]
    assert [cell[:6] for cell in cells] == [(*one, share, labels) for one in head for share, labels in ((1.0, 8), (0.25, 2))]
    assert [cell.repetitions for cell in cells] == [[(3, 0)]] * 2 + [[(3, 0), (3, 1)]] * 4, "seed 4 has not ended"
    random = cells[2]
    assert random.cine.tolist() == [0, 1, 2, 3] and random.patient.tolist() == ["p0", "p0", "p1", "p1"]
    assert random.label.tolist() == [0, 1, 0, 1] and random.fold.tolist() == [-1] * 4
    assert random.score.tolist() == [[-3, 0, 2, -1], [-3, 0, 2.5, -1]] and cells[4].score[0].tolist() == [-3, 0, 2, 8]
    assert random.called.tolist() == [[False, True, True, False]] * 2, "cut at 0, in the middle of the validation videos; 0 is positive"
    assert videos.missing(folder) == [f"byol, seed 4: {folder / 'runs/byol/seed4'} has no scores"]


def test_folds_are_put_together_each_with_its_own_threshold(tmp_path):
    folder = plan(tmp_path, [("byol", "modes", seed, fold) for seed in (0, 1) for fold in (1, 0)])
    put(folder, "byol", 0, 1, shift=100, labels=11)
    assert videos.read(folder) == [] and len(videos.missing(folder)) == 3, "one fold alone is no test set"
    put(folder, "byol", 0, 0, labels=8)
    put(folder, "byol", 1, 1, draws=1)
    cell = videos.read(folder)[0]
    assert cell.repetitions == [(0, 0), (0, 1)] and cell.labels == 10, "the mean of 8 and 11"
    assert cell.cine.tolist() == [0, 1, 2, 3, 10, 11, 12, 13] and cell.fold.tolist() == [0] * 4 + [1] * 4
    assert cell.score[0].tolist() == [-3, 0, 2, -1, 97, 100, 102, 99]
    assert cell.called[0].tolist() == [False, True, True, False] * 2
    assert videos.missing(folder) == [f"byol, seed 1, fold 0: {folder / 'runs/byol/seed1/fold0'} has no scores"]
    put(folder, "byol", 1, 0)
    assert videos.read(folder)[0].repetitions == [(0, 0), (0, 1), (1, 0)], "draw 1 of seed 1 has one fold"


def test_a_run_ends_with_its_results(tmp_path):
    folder = plan(tmp_path, [("byol", "modes", 0, -1)])
    run = put(folder, "byol", 0)
    assert len(videos.read(folder)) == 4 and videos.missing(folder) == []
    (run / "results.json").write_text('{"experiment": "by')
    assert videos.read(folder) == [] and len(videos.missing(folder)) == 1 and videos.saliency(folder) == {}


def test_saliency(tmp_path):
    folder = plan(tmp_path, [("byol", "modes", seed, fold) for seed in (0, 1, 2, 3) for fold in (0, 1)])
    head = ["mode", "patient", "cine", *MEASURES]
    for seed in (0, 1, 2, 3):
        for fold in (0, 1):
            put(folder, "byol", seed, fold)
            both = (10 * fold + 3, 10 * fold)
            lines = [[mode, f"p{cine}", cine, 0.1 * seed + cine, 5] for mode in ("random", "features") for cine in both]
            if seed == 1 and fold == 1:
                lines = [["random", "p10", 10, "", 0], ["features", "p10", 10, 0.5, 7]]
            write_csv(folder / place("byol", seed, fold) / "saliency/videos.csv", head, lines)
    (folder / place("byol", 2, 0) / "saliency/videos.csv").unlink()
    torn = folder / place("byol", 3, 0) / "saliency/videos.csv"
    torn.write_text(torn.read_text()[:-5])
    found = videos.saliency(folder)
    assert list(found) == [("byol", "random"), ("byol", "features")]
    measures, patient, cine = found["byol", "random"]
    assert cine.tolist() == [0, 3, 10] and patient.tolist() == ["p0", "p3", "p10"], "13 is in seed 0 alone; seeds 2 and 3 lack a whole file"
    assert measures["weighted_iou"] == pytest.approx(np.array([[0, 3, 10], [0.1, 3.1, np.nan]]), nan_ok=True)
    assert measures["frames"].tolist() == [[5, 5, 5], [5, 5, 0]]
    assert found["byol", "features"][0]["weighted_iou"][1].tolist() == [0.1, 3.1, 0.5]
    rows = written(folder)
    assert [r["value"] for r in rows if r["figure"] == "weighted_iou" and r["mode"] == "random"] == [str(13 / 3), "1.6"]
    assert {(r["fraction"], r["labels"], r["draw"]) for r in rows if r["figure"] in MEASURES} == {("0.25", "2", "0")}
    torn.write_text("mode,patient,cine,weighted_iou\nrandom,p,1,many\n")
    with pytest.raises(UserError, match="fold0/saliency/videos.csv: .*many"):
        videos.saliency(folder)


def written(folder):
    path = videos.write(folder)
    assert path == folder / "results.csv" and not list(folder.glob(".*partial"))
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_results_by_hand(tmp_path):
    folder = plan(tmp_path, [("byol", "modes", 5, -1)])
    put(folder, "byol", 5, modes=("random",))
    rows = written(folder)
    assert list(rows[0]) == "experiment table row mode fraction labels seed draw figure value".split() and len(rows) == 2 * 2 * 4
    assert list(rows[1].values()) == ["byol", "modes", "BYOL", "random", "1.0", "8", "5", "1", "auc", "0.5"]
    # Scores -3, 2 (negative) and 0, -1 (positive): two pairs of four; called 2 and 0.
    assert {r["figure"]: float(r["value"]) for r in rows[:8:2]} == {"auc": 0.5, "accuracy": 0.5, "sensitivity": 0.5, "specificity": 0.5}


def test_a_study_without_an_ended_run_has_a_table_without_rows(tmp_path):
    assert written(plan(tmp_path, [("byol", "modes", 0, -1)])) == []


def test_mistakes_are_told(tmp_path):
    for ask in (videos.read, videos.missing, videos.saliency, videos.write):
        with pytest.raises(UserError, match="holds no study.json"):
            ask(tmp_path / "nothing")
    folder = plan(tmp_path, [("byol", "modes", 0, -1), ("byol", "modes", 1, -1)])
    path = put(folder, "byol", 0) / "classify/predictions.csv"
    put(folder, "byol", 1, cines=(4, 5, 6, 7))
    with pytest.raises(UserError, match="seed1: seed 1 of 'byol' has other test videos than seed 0"):
        videos.read(folder)
    whole = path.read_text()
    bad = {"'score'": ("score", "points"), "nan": (",-3.0", ",nan"), "one class": (",90,0,", ",90,1,"), "'half'": ("validation", "half")}
    for told, (old, new) in bad.items():
        text = whole.replace(old, new)
        assert text != whole
        path.write_text(text)
        with pytest.raises(UserError, match=f"predictions.csv: .*{told}"):
            videos.read(folder)
