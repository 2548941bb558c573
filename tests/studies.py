"""A made-up kidney study: a folder as launch/study.py leaves it, with runs' files whose scores are known because they are made here."""

import csv
import json

import numpy as np

from uscl.config import default

CLASSES = {"capsule": [1, 2, 3], "cortex": [1], "medulla": [2], "central_echo_complex": [3]}
MEASURES = ("dsc", "dsc_skip_empty", "hd95_mm", "surface_dice", "delta_snr", "signed_snr")
SIZE, PATIENTS, FRAMES = 40, 12, 1
# name: (table, row, config, changes, gain in DSC over the baseline at 10, 50 and 100 % of labels)
RULE = {"temporal.loss": "info_nce", "temporal.kind": "binary", "temporal.negatives": "other_cines"}
EXPERIMENTS = {
    "nnunet": ("labels", "nnU-Net", "nnunet", {}, (-0.10, -0.02, 0.02)),
    "baseline": ("labels", "Chaitanya", "baseline", {}, (0.0, 0.0, 0.0)),
    "scratch": ("labels", "scratch", "scratch", {}, (-0.12, -0.05, -0.01)),
    "temporal_none": ("temporal", "InfoNCE, none", "baseline", {}, (0.0, 0.0, 0.0)),
    "near": ("temporal", "InfoNCE, binary, positives, encoder", "temporal", {**RULE, "temporal.stages": ["encoder"]}, (0.001, 0, 0)),
    "bad": ("temporal", "InfoNCE, binary, positives, decoder", "temporal", {**RULE, "temporal.stages": ["decoder"]}, (-0.05, 0, 0)),
    "good": ("temporal", "pairwise, linear, + negatives, both", "temporal", {
        "temporal.loss": "pairwise", "temporal.kind": "linear", "temporal.negatives": "all", "temporal.stages": ["encoder", "decoder"],
    }, (0.06, 0.0, 0.0)),
    "speckle_reference": ("speckle", "Chaitanya", "baseline", {}, (0.0, 0.0, 0.0)),
    "speckle": ("speckle", "Chaitanya + speckle", "speckle", {}, (-0.08, -0.07, -0.09)),
    "nnunet_reference": ("speckle", "nnU-Net", "nnunet", {}, (-0.10, -0.02, 0.02)),
    "nnunet_speckle": ("speckle", "nnU-Net + speckle", "nnunet", {"nnunet.loss.speckle": 1.0}, (-0.18, -0.10, -0.10)),
    "speckle_envelope": ("beyond", "speckle on the envelope", "speckle", {"finetune.speckle.envelope": True}, (0.001, -0.001, 0.0)),
    "speckle_map": ("beyond", "speckle as a map", "speckle", {"finetune.speckle.form": "map"}, (0.05, 0.04, 0.05)),
}  # fmt: skip
SERVED = {"temporal_none": "baseline", "speckle_reference": "baseline", "nnunet_reference": "nnunet"}  # one run for several rows
TABLES = {"labels": (0.1, 0.5, 1.0), "temporal": (0.1,), "speckle": (0.1, 1.0), "beyond": (0.1, 0.5)}
FRACTIONS, SEEDS = (0.1, 0.5, 1.0), (0, 1)
BASE = {0.1: 0.45, 0.5: 0.55, 1.0: 0.57}
LEVEL = {"capsule": 0.2, "cortex": -0.15, "medulla": -0.1, "central_echo_complex": 0.05}  # added to the mean, their sum is 0
# What a run says of its certainty, its embeddings and the truth's borders; a bin, a silhouette and an SNR have no number.
CALIBRATION = {
    "ece": 0.123, "brier": 0.456, "pixels": 1000,
    "bins": {"count": [100, 0, 900], "confidence": [0.5, None, 0.9], "correct": [0.4, None, 0.7]},
}  # fmt: skip
LIE = {"n": 24, "labels": 4, "compactness": 0.25, "separability_least": 0.5, "separability_mean": 0.75, "silhouette": 0.31,
       "alignment": 0.6, "uniformity": -1.5, "rankme": 3.25}  # fmt: skip
GEOMETRY = {"frames": {"cine": LIE | {"n": 60, "labels": 6, "silhouette": None}},
            "regions": {"class": LIE, "cine": LIE | {"labels": 6, "silhouette": 0.11}}}  # fmt: skip
MOVED = {"erode 1": (0.9, 0.02), "dilate 1": (0.86, 0.03), "erode 10": (0.0, None), "dilate 10": (0.4, 0.3)}
SENSITIVITY = {
    name: {move: {"dsc": dsc - 0.1 * k, "delta_snr": snr, "signed_snr": snr, "area": 1.0, "n": 12} for move, (dsc, snr) in MOVED.items()}
    for k, name in enumerate(CLASSES)
}


def truth(patient, frame):
    """A label map: three nested rings about a middle that moves with patient and frame."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    distance = np.hypot(rows - 19 - frame, columns - 17 - patient % 5)
    return np.select([distance < 4, distance < 8, distance < 13], [3, 2, 1], 0).astype(np.uint8)


def score(name, fraction, seed, patient, frame, label):
    """DSC of one class of one image. Noise and patients' difficulty sum to about nothing over all of them."""
    gain = dict(zip(FRACTIONS, EXPERIMENTS[name][4], strict=True))[fraction]
    hard = 0.08 * np.cos(np.pi * (patient + 0.5) / PATIENTS * 2)
    jitter = 0.04 * np.cos(2.4 * patient + 1.7 * seed + 5.1 * list(EXPERIMENTS).index(name) + 3.1 * frame + 11 * fraction)
    return BASE[fraction] + gain + LEVEL[label] + hard + jitter


def write_run(folder, name, fraction, seed):
    """One evaluated run: config, environment, timing, results, and evaluate/."""
    kind, changes = EXPERIMENTS[name][2:4]
    config = json.loads(default("quick").to_json(sort_keys=False))
    config["experiment"], config["seed"], config["finetune"]["label_fraction"] = name, seed, fraction
    config["stages"] = ["nnunet", "evaluate"] if kind == "nnunet" else ["finetune", "evaluate"]
    config["start"] = "" if kind in ("nnunet", "scratch") else "/elsewhere/pretrain/d4e5f6"
    for key, value in changes.items():
        *blocks, last = key.split(".")
        place = config
        for block in blocks:
            place = place[block]
        place[last] = value
    stage = config["stages"][0]
    rng = np.random.default_rng([seed, len(name), int(100 * fraction)])
    cases, images, truths, predictions, patients, means = [], [], [], [], [], []
    for p in range(PATIENTS):
        for f in range(FRAMES):
            label = truth(p, f)
            images.append((40 + 45 * label + np.random.default_rng([p, f]).integers(0, 60, label.shape)).astype(np.uint8))
            truths.append(label)
            predictions.append(np.roll(label, int(rng.integers(0, 6)), axis=1))
            patients.append(f"patient{p:04d}")
            dsc = {c: score(name, fraction, seed, p, f, c) for c in CLASSES}
            means.append(np.mean(list(dsc.values())))
            for c, value in dsc.items():
                wide = {"dsc": value, "dsc_skip_empty": value, "hd95_mm": 40 * (1 - value), "surface_dice": value - 0.05}
                wide |= {"delta_snr": 0.5 - value / 2, "signed_snr": 0.1}
                cases.append({"patient": patients[-1], "cine": p, "frame": f, "class": c, **wide})
    (folder / "evaluate").mkdir(parents=True)
    with open(folder / "evaluate/cases.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["patient", "cine", "frame", "class", *MEASURES])
        writer.writeheader()
        writer.writerows(cases)
    np.savez_compressed(folder / "evaluate/cases.npz", image=np.stack(images), truth=np.stack(truths), prediction=np.stack(predictions),
                        patient=np.array(patients), mean_dsc=np.array(means))  # fmt: skip
    if kind != "nnunet":
        z = rng.normal(size=(60, 8)) + 3 * np.eye(8)[np.repeat(np.arange(6), 10)]
        tissues = rng.normal(size=(24, 5)) + 4 * np.eye(5)[np.tile(np.arange(4), 6)]
        np.savez(folder / "evaluate/embedding.npz", z=z, cine=np.repeat(np.arange(6), 10), frame=np.tile(np.arange(10), 6),
                 patient=np.repeat(np.arange(6), 10), region_z=tissues, region_class=np.tile(list(CLASSES), 6),
                 region_cine=np.repeat(np.arange(6), 4), region_patient=np.repeat(np.arange(6), 4))  # fmt: skip
    levels = np.stack([np.where(np.stack(truths[::4]) == k, 210, 15) for k in range(4)], axis=1).astype(np.uint8)
    np.savez_compressed(folder / "evaluate/activations.npz", image=np.stack(images[::4]), truth=np.stack(truths[::4]), probability=levels,
                        patient=np.array(patients[::4]), cine=np.arange(3), frame=np.zeros(3, int))  # fmt: skip
    entry = lambda k: {"m": 1 + 0.2 * k, "omega": 0.1 / (k + 1)}  # noqa: E731
    speckle = {c: {"truth": entry(k), "prediction": entry(k + 0.3), "envelope_truth": {"m": 0.07 * (k + 1), "omega": 2e-4 * (k + 1)},
                   "envelope_prediction": {"m": 0.08 * (k + 1), "omega": 3e-4 * (k + 1)}} for k, c in enumerate(CLASSES)}  # fmt: skip
    split = lambda n: {"patients": n, "cines": n, "frames": 40 * n, "labelled": 2 * n}  # noqa: E731
    texts = {
        "config.json": config,
        "environment.json": {
            "python": "3.11.7", "cpus": 2, "devices": {"count": 1, "platform": "cpu", "kind": "cpu"},
            "packages": {"uscl": "0.1.0", "jax": "0.77.0" if name == "nnunet" else "0.76.0"}, "store": {"checksum": "c0ffee"},
        },
        "data.json": {"origin": "kidney phantom, seed 0", "size": SIZE, "classes": CLASSES,
                      "splits": {"train": split(33), "validation": split(9), "test": split(PATIENTS)}},
        "timing.json": {stage: 100.0, "evaluate": 5.0},
        "evaluate/classes.json": CLASSES,
        "evaluate/nakagami.json": speckle,
        "evaluate/calibration.json": CALIBRATION,
        "evaluate/sensitivity.json": SENSITIVITY,
        **({"evaluate/geometry.json": GEOMETRY} if kind != "nnunet" else {}),
        "results.json": {"experiment": name, "scale": "quick", "classes": list(CLASSES), "n_test": len(images), "metrics": {}},
    }  # fmt: skip
    for path, content in texts.items():
        (folder / path).write_text(json.dumps(content))


def place(name, fraction, seed):
    return f"runs/{SERVED.get(name, name)}@{100 * fraction:g}/seed{seed}"


def plan():
    """study.json of all EXPERIMENTS, each at the shares of its table."""
    keys = "name", "table", "row", "config", "changes"
    experiments = [dict(zip(keys, (name, *entry), strict=False)) for name, entry in EXPERIMENTS.items()]
    runs = [
        {
            "experiment": e["name"], "table": e["table"], "row": e["row"], "fraction": fraction, "seed": seed,
            "folder": place(e["name"], fraction, seed), "pretraining": "d4e5f6",
        }
        for e in experiments for fraction in TABLES[e["table"]] for seed in SEEDS
    ]  # fmt: skip
    whole = {"name": "kidney", "scale": "quick", "seeds": SEEDS, "base": {}, "fractions": FRACTIONS, "tables": TABLES}
    return {**whole, "experiments": experiments, "runs": runs}


def write_study(folder, *, names=tuple(EXPERIMENTS), seeds=SEEDS):
    """A study's folder whose plan has all of EXPERIMENTS, and of whose runs those of `names` and `seeds` are done."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(plan()))
    for name in names:
        for fraction in TABLES[EXPERIMENTS[name][0]]:
            for seed in seeds:
                run = folder / place(name, fraction, seed)
                if not run.exists():
                    write_run(run, SERVED.get(name, name), fraction, seed)
    before = ""
    for code, stage in (("a1b2c3", "encoder"), ("d4e5f6", "decoder")):
        (folder / "pretrain" / code).mkdir(parents=True)
        config = json.loads(default("quick").to_json(sort_keys=False)) | {"stages": [stage], "start": before}
        (folder / "pretrain" / code / "config.json").write_text(json.dumps(config))
        (folder / "pretrain" / code / "timing.json").write_text(json.dumps({stage: 80.0}))
        before = str(folder / "pretrain" / code)
    return folder
