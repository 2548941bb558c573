"""A made-up lung study: a folder as launch/study.py leaves it, of runs whose scores are known because they are made here."""

import csv
import json

import numpy as np

from uscl.config import default

PRETRAINED = ["features", "finetuned"]
EXPERIMENTS = {  # name: (table, row, changes)
    "byol": ("modes", "BYOL", {"classify.modes": PRETRAINED}),
    "simclr": ("modes", "SimCLR", {"video.method": "simclr", "classify.modes": PRETRAINED}),
    "supervised": ("modes", "random weights", {"classify.modes": ["random", "supervised"]}),
    "byol_still": ("temporal", "BYOL, order kept", {"video.temporal": False, "classify.modes": PRETRAINED}),
}
SHARES, LABELS = (0.05, 0.1, 0.2, 0.5, 1.0), (4, 8, 16, 40, 80)
SEEDS, DRAWS, PATIENTS = (0, 1), 2, 24
# How far positive videos score above negative ones, in standard deviations, at each share.
GAINS = {
    ("byol", "features"): (2.2, 2.2, 2.3, 2.4, 2.4), ("byol", "finetuned"): (2.0, 2.2, 2.5, 2.6, 2.8),
    ("simclr", "features"): (0.3, 0.5, 1.0, 1.2, 1.4), ("simclr", "finetuned"): (0.4, 0.7, 1.2, 1.8, 2.4),
    ("supervised", "random"): (0.1, 0.3, 0.5, 0.7, 0.8), ("supervised", "supervised"): (0.2, 0.4, 1.2, 2.0, 2.6),
    ("byol_still", "features"): (0.2, 0.4, 0.6, 1.0, 1.2), ("byol_still", "finetuned"): (2.0, 2.1, 2.5, 2.5, 2.8),
}  # fmt: skip
MEETS = {"random": 0.05, "supervised": 0.12, "features": 0.4, "finetuned": 0.38}  # weighted IoU of the maps
MEASURES = ("weighted_iou", "recall", "best_iou", "hit10", "hit30", "hit50", "pointing")


def videos(patients=PATIENTS):
    """[(patient, cine, label)]: two videos a patient, every second patient's positive."""
    return [(f"patient{p:03d}", 2 * p + k, p % 2) for p in range(patients) for k in (0, 1)]


def score(place, share, seed, draw, cine, label, fold=-1):
    """A video's log odds; other networks' scores lie elsewhere, so that only pairs inside a fold can be compared."""
    gain = GAINS[place][SHARES.index(share)]
    number = [list(GAINS).index(place), SHARES.index(share), seed, draw, cine]
    return float(gain * label + np.random.default_rng(number).normal() + 100 * max(fold, 0))


def auc(place, share, fold=-1, patients=PATIENTS):
    """Mean over repetitions, every pair asked: without folds."""
    test, found = videos(patients), []
    for seed in SEEDS:
        for draw in range(DRAWS):
            at = {cine: score(place, share, seed, draw, cine, label) for _, cine, label in test}
            pairs = [(at[a], at[b]) for _, a, up in test if up for _, b, down in test if not down]
            found.append(np.mean([(a > b) + 0.5 * (a == b) for a, b in pairs]))
    return float(np.mean(found))


def write_run(folder, name, seed, fold, folds, patients, boxes=True):
    config = json.loads(default("quick").to_json(sort_keys=False))
    config |= {"experiment": name, "seed": seed, "stages": ["video", "classify", "saliency"], "start": ""}
    config["classify"] |= {"fractions": list(SHARES), "draws": DRAWS}
    for key, value in EXPERIMENTS[name][2].items():
        block, knob = key.split(".")
        config[block][knob] = value
    test = [one for one in videos(patients) if folds == 1 or int(one[0][-3:]) // 2 % folds == fold]
    known = [(f"other{k}", 1000 + k, k % 2) for k in range(8)]
    for part in ("classify", "saliency"):
        (folder / part).mkdir(parents=True)
    with open(folder / "classify/predictions.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["mode", "fraction", "draw", "part", "patient", "cine", "label", "score"])
        for mode in config["classify"]["modes"]:
            for share in SHARES:
                for draw in range(DRAWS):
                    for part, rows in (("validation", known), ("test", test)):
                        for patient, cine, label in rows:
                            value = score((name, mode), share, seed, draw, cine, label, fold)
                            writer.writerow([mode, share, draw, part, patient, cine, label, value])
    with open(folder / "saliency/videos.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["mode", "patient", "cine", *MEASURES])
        for mode in config["classify"]["modes"]:
            for patient, cine, label in test:
                if label:
                    wave = 0.04 * np.cos(3 * cine + seed)
                    writer.writerow([mode, patient, cine, *([MEETS[mode] + wave] * len(MEASURES) if boxes else [""] * len(MEASURES))])
    split = lambda n: {"patients": n, "cines": 2 * n, "frames": 40 * n, "labelled": 0}  # noqa: E731
    texts = {
        "config.json": config,
        "classify/table.json": {
            "rows": [{"mode": mode, "fraction": share, "draws": DRAWS, "labels": labels}
                     for mode in config["classify"]["modes"] for share, labels in zip(SHARES, LABELS, strict=True)]},
        "environment.json": {"python": "3.11.7", "cpus": 2, "devices": {"count": 1, "kind": "cpu"}, "packages": {"jax": "0.76.0"}},
        "data.json": {"origin": "lung phantom, seed 0", "size": 64, "classes": {},
                      "splits": {"train": split(40), "validation": split(8), "test": split(patients)}},
        "timing.json": {"video": 120.0, "classify": 60.0, "saliency": 20.0},
        "cpu.json": {"video": 200.0, "classify": 100.0, "saliency": 30.0},
        "results.json": {"experiment": name, "scale": "quick", "metrics": {}},
    }  # fmt: skip
    for path, content in texts.items():
        (folder / path).write_text(json.dumps(content))


def write_study(folder, *, names=tuple(EXPERIMENTS), folds=1, patients=PATIENTS, boxes=True, planned=tuple(EXPERIMENTS)):
    """A study's folder whose plan has the experiments `planned`, and of whose runs those of `names` have ended."""

    def run(place, name, seed, fold):
        write_run(place, name, seed, fold, folds, patients, boxes)

    base = {"classify.fractions": SHARES, "classify.draws": DRAWS}
    chosen = {name: EXPERIMENTS[name] for name in planned}
    plan = {"name": "lung", "scores": "videos", "base": base, "tables": {"modes": [1.0], "temporal": [1.0]}}
    return write_plan(folder, chosen, run, names, seeds=SEEDS, folds=folds, config="lung", plan=plan)


def write_plan(folder, experiments, run, names, *, seeds, folds, config, plan):
    """study.json of {name: (table, row, changes)}; run(folder, name, seed, fold) writes each run of those in `names`."""
    folder.mkdir(parents=True, exist_ok=True)
    runs = []
    for name, (table, row, _) in experiments.items():
        for seed in seeds:
            for fold in range(folds) if folds > 1 else (-1,):
                place = f"runs/{name}/seed{seed}" + (f"/fold{fold}" if folds > 1 else "")
                runs.append({"experiment": name, "table": table, "row": row, "fraction": 1.0, "seed": seed, "fold": fold,
                             "folder": place, "pretraining": None})  # fmt: skip
                if name in names:
                    run(folder / place, name, seed, fold)
    keys = "name", "table", "row", "config", "changes"
    rows = [dict(zip(keys, (name, table, row, config, changes), strict=True)) for name, (table, row, changes) in experiments.items()]
    whole = {"scale": "quick", "seeds": seeds, "fractions": [1.0], **plan, "experiments": rows, "runs": runs}
    (folder / "study.json").write_text(json.dumps(whole))
    return folder
