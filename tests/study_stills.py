"""A made-up anatomy study: a folder as launch/study.py leaves it, of runs whose calls are known because they are made here."""

import csv
import functools
import json

import numpy as np
from video_studies import write_plan

from uscl.config import default

CLASSES = ("femur", "head", "head_low", "spine")
CLOSE, FAR = (3, 2, 1, 0), (1, 3, 0, 1)  # what a class is taken for, mostly, and else
PRETRAINED = ["features", "finetuned"]
EXPERIMENTS = {  # name: (table, row, changes)
    "simclr": ("pairs", "SimCLR", {"anatomy.ratio": 0.0}),
    "coarse": ("pairs", "coarse labels", {"anatomy.column": "anatomy"}),
    "fine": ("pairs", "fine labels", {}),
    "ratio30": ("ratio", "30 % of the labels", {"anatomy.ratio": 0.3}),
    "ratio80": ("ratio", "80 % of the labels", {"anatomy.ratio": 0.8}),
    "temporal": ("pairs", "near in time", {"anatomy.ratio": 0.0, "anatomy.near.kind": "binary"}),
    "supervised": ("pairs", "random weights", {"planes.modes": ["random", "supervised"]}),
}
SHARES, LABELS = (0.1, 1.0), (8, 80)
SEEDS, PATIENTS = (0, 1), 24
RIGHT = {  # share of the stills that is told right, at each share of the labels, of whatever mode
    "simclr": (0.45, 0.7), "coarse": (0.5, 0.72), "fine": (0.85, 0.93), "ratio30": (0.6, 0.8), "ratio80": (0.78, 0.9),
    "temporal": (0.46, 0.7), "supervised": (0.2, 0.68),
}  # fmt: skip
KNN = {"random": "random_knn", "features": "features_knn"}


def modes(name):
    chosen = EXPERIMENTS[name][2].get("planes.modes", PRETRAINED)
    return [mode for one in chosen for mode in (one, KNN.get(one)) if mode]


def stills(patients=PATIENTS):
    """[(patient, cine, class)]: two stills of every class a patient."""
    return [(f"patient{p:03d}", 8 * p + 2 * k + copy, k) for p in range(patients) for k in range(4) for copy in (0, 1)]


@functools.cache
def called(name, mode, share, seed, cine, label):
    """What a still is taken for: a draw of its own says whether it is told right, another whether the mistake is a distant one."""
    number = [list(EXPERIMENTS).index(name), sorted({*KNN, *KNN.values(), *PRETRAINED, "supervised"}).index(mode), seed, cine]
    luck, far = np.random.default_rng([SHARES.index(share), *number]).random(2)
    if luck < RIGHT[name][SHARES.index(share)]:
        return label
    return (CLOSE if far < 0.8 else FAR)[label]


@functools.cache
def macro_f1(name, mode, share, patients=PATIENTS):
    """The mean over seeds, class by class and still by still."""
    found = []
    for seed in SEEDS:
        pairs = [(label, called(name, mode, share, seed, cine, label)) for _, cine, label in stills(patients)]
        for k in range(4):
            true = sum(a == b == k for a, b in pairs)
            found.append(2 * true / (sum(a == k for a, _ in pairs) + sum(b == k for _, b in pairs)))
    return float(np.mean(found))


def write_run(folder, name, seed, fold, folds, patients):
    config = json.loads(default("quick").to_json(sort_keys=False))
    stages = ["planes"] if name == "supervised" else ["anatomy", "planes"]
    config |= {"experiment": name, "seed": seed, "stages": stages, "start": ""}
    config["planes"] |= {"fractions": list(SHARES), "draws": 1, "modes": PRETRAINED}
    for key, value in EXPERIMENTS[name][2].items():
        *blocks, knob = key.split(".")
        block = config
        for one in blocks:
            block = block[one]
        block[knob] = value
    test = [one for one in stills(patients) if folds == 1 or int(one[0][-3:]) % folds == fold]
    (folder / "planes").mkdir(parents=True)
    with open(folder / "planes/predictions.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["mode", "fraction", "draw", "part", "patient", "cine", "label", "called", *(f"p {name}" for name in CLASSES)])
        for share in SHARES:
            for mode in modes(name):
                for patient, cine, label in test:
                    found = called(name, mode, share, seed, cine, label)
                    sure = [f"{0.7 if k == found else 0.1:.6g}" for k in range(4)]
                    writer.writerow([mode, share, 0, "test", patient, cine, CLASSES[label], CLASSES[found], *sure])
                    writer.writerow([mode, share, 0, "validation", f"other{patient}", 9000 + cine, CLASSES[label], CLASSES[label], *sure])
    split = lambda n: {"patients": n, "cines": 8 * n, "frames": 8 * n, "labelled": 0}  # noqa: E731
    texts = {
        "config.json": config,
        "planes/table.json": {
            "classes": CLASSES, "differences": [],
            "rows": [{"mode": mode, "fraction": share, "draws": 1, "labels": labels}
                     for mode in modes(name) for share, labels in zip(SHARES, LABELS, strict=True)]},
        "environment.json": {"python": "3.11.7", "cpus": 2, "devices": {"count": 1, "kind": "cpu"}, "packages": {"jax": "0.76.0"}},
        "data.json": {"origin": "fetal phantom, seed 0", "size": 64, "classes": {},
                      "splits": {"train": split(40), "validation": split(8), "test": split(patients)}},
        "timing.json": {"anatomy": 120.0, "planes": 60.0},
        "cpu.json": {"anatomy": 200.0, "planes": 100.0},
        "results.json": {"experiment": name, "scale": "quick", "metrics": {}},
    }  # fmt: skip
    for path, content in texts.items():
        (folder / path).write_text(json.dumps(content))


def write_study(folder, *, names=tuple(EXPERIMENTS), folds=1, patients=PATIENTS, planned=tuple(EXPERIMENTS)):
    """A study's folder whose plan has the experiments `planned`, and of whose runs those of `names` have ended."""

    def run(place, name, seed, fold):
        write_run(place, name, seed, fold, folds, patients)

    base = {"planes.fractions": SHARES, "planes.draws": 1, "planes.modes": PRETRAINED}
    chosen = {name: EXPERIMENTS[name] for name in planned}
    plan = {"name": "anatomy", "scores": "planes", "base": base, "tables": {"pairs": [1.0], "ratio": [1.0]}}
    return write_plan(folder, chosen, run, names, seeds=SEEDS, folds=folds, config="anatomy", plan=plan)
