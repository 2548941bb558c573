"""The anatomy study's files as cells: which runs are told, their folds put together, classes they share, and results.csv."""

import csv
import json

import pytest

from uscl.study import still_statistics, stills
from uscl.types import UserError

NAMES = ["abdomen", "femur", "head"]
SHARES = (0.1, 1.0)


def plan(folder, runs):
    entries = [
        {
            "experiment": name,
            "table": "pairs",
            "row": name.upper(),
            "fraction": 1.0,
            "seed": seed,
            "fold": fold,
            "folder": at(name, seed, fold),
        }
        for name, seed, fold in runs
    ]
    folder.mkdir(exist_ok=True)
    (folder / "study.json").write_text(json.dumps({"name": "anatomy", "scores": "planes", "runs": entries}))
    return folder


def at(name, seed, fold):
    return f"runs/{name}/seed{seed}" + (f"/fold{fold}" if fold >= 0 else "")


def put(folder, name, seed, fold=-1, *, names=NAMES, called=(0, 2, 1), labels=20, first=None):
    """A run that has ended: a patient a fold with an abdomen, a head and a femur, of which `called` is said; lines not in order."""
    place, first = folder / at(name, seed, fold), 10 * max(fold, 0) if first is None else first
    (place / "planes").mkdir(parents=True)
    with open(place / "planes/predictions.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["mode", "fraction", "draw", "part", "patient", "cine", "label", "called", *(f"p {one}" for one in names)])
        for share in SHARES:
            for mode in ("features", "features_knn", "finetuned"):
                said = called if mode == "features" else (0, 2, 1)
                writer.writerow([mode, share, 0, "validation", "v", 99, names[0], names[1], 0.1, 0.9, 0])
                for k in (2, 0, 1):
                    writer.writerow([mode, share, 0, "test", f"p{first}", first + k, names[(0, 2, 1)[k]], names[said[k]], 0.2, 0.5, 0.3])
    rows = [
        {"mode": mode, "fraction": s, "labels": round(labels * s)} for mode in ("features", "features_knn", "finetuned") for s in SHARES
    ]
    (place / "planes/table.json").write_text(json.dumps({"classes": names, "rows": rows}))
    (place / "results.json").write_text('{"metrics": {}}')
    return place


def test_cells(tmp_path):
    folder = plan(tmp_path, [("fine", 0, -1), ("fine", 1, -1), ("fine", 2, -1), ("simclr", 0, -1)])
    put(folder, "fine", 0)
    put(folder, "fine", 1, called=(0, 0, 1), labels=40)
    cells = stills.read(folder)
    modes = ("features", "features_knn", "finetuned")
    assert [cell[:6] for cell in cells] == [("fine", "pairs", "FINE", mode, share, round(30 * share)) for mode in modes for share in SHARES]
    first = cells[0]
    assert first.repetitions == [(0, 0), (1, 0)] and first.classes == tuple(NAMES) and first.fold.tolist() == [-1] * 3
    assert first.cine.tolist() == [0, 1, 2] and first.label.tolist() == [0, 2, 1] and first.patient.tolist() == ["p0"] * 3
    assert first.called.tolist() == [[0, 2, 1], [0, 0, 1]] and cells[2].called.tolist() == [[0, 2, 1]] * 2
    assert still_statistics.values(first, "macro_f1") == pytest.approx([1, (2 / 3 + 1) / 3])
    told = [f"{name}, seed {seed}: {folder / at(name, seed, -1)} has no scores" for name, seed in (("fine", 2), ("simclr", 0))]
    assert stills.missing(folder) == told


def test_folds_are_put_together(tmp_path):
    folder = plan(tmp_path, [("fine", 0, 1), ("fine", 0, 0)])
    put(folder, "fine", 0, 1, called=(1, 1, 1), labels=30)
    assert stills.read(folder) == []
    put(folder, "fine", 0, 0)
    cell = stills.read(folder)[1]
    assert cell.fold.tolist() == [0] * 3 + [1] * 3 and cell.cine.tolist() == [0, 1, 2, 10, 11, 12] and cell.labels == 25
    assert cell.called.tolist() == [[0, 2, 1, 1, 1, 1]] and cell.label.tolist() == [0, 2, 1] * 2


def test_results(tmp_path):
    folder = plan(tmp_path, [("fine", 0, -1)])
    put(folder, "fine", 0, called=(0, 0, 1))
    path = stills.write(folder)
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert path == folder / "results.csv" and len(rows) == 3 * 2 * 4
    mine = {row["figure"]: row["value"] for row in rows if (row["mode"], row["fraction"]) == ("features", "0.1")}
    # Called abdomen, abdomen, femur of abdomen, head, femur: nothing is called a head, so its precision does not exist.
    assert float(mine["macro_f1"]) == pytest.approx(5 / 9) and float(mine["accuracy"]) == pytest.approx(2 / 3)
    assert mine["macro_precision"] == "" and list(rows[0].values())[:8] == ["fine", "pairs", "FINE", "features", "0.1", "2", "0", "0"]


def test_mistakes_are_told(tmp_path):
    for ask in (stills.read, stills.missing, stills.write):
        with pytest.raises(UserError, match="holds no study.json"):
            ask(tmp_path / "nothing")
    folder = plan(tmp_path, [("fine", 0, -1), ("fine", 1, -1)])
    path = put(folder, "fine", 0) / "planes/predictions.csv"
    place = put(folder, "fine", 1, first=5)
    with pytest.raises(UserError, match="seed1: seed 1 of 'fine' has other test stills than seed 0"):
        stills.read(folder)
    (place / "planes/table.json").write_text(json.dumps({"classes": NAMES[::-1], "rows": []}))
    with pytest.raises(UserError, match=r"table.json: found the classes \['head', .*; all runs of the study need the same"):
        stills.read(folder)
    whole = path.read_text()
    for told, (old, new) in {"'liver'": (",femur,", ",liver,"), "'called'": ("called", "said"), "'x0'": (",p0,0", ",p0,x0")}.items():
        assert old in whole
        path.write_text(whole.replace(old, new))
        with pytest.raises(UserError, match=f"predictions.csv: .*{told}"):
            stills.read(folder)
