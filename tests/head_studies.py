"""A made-up heads study: a folder as launch/study.py leaves it, with runs' files whose scores are known because they are made here."""

import csv
import json

import numpy as np

from uscl.study import heads, plan, run, tasks

PATIENTS, SEEDS, SIZE = 16, (0, 1), 40
MEASURES = ("dsc", "dsc_skip_empty", "hd95_mm", "surface_dice", "delta_snr", "signed_snr", "hc_error_mm", "hc_missed")
GAIN = {"scratch": 0.0, "simclr": 0.05, "awcl": 0.0, "scratch_fpn": 0.0, "simclr_fpn": -0.05}  # in DSC, against the table's first row
MISSED = 3  # the first so many patients' heads, by the row "scratch" at few labels alone


def score(name, fraction, seed, patient):
    """DSC of one image. What the rows share differs by patient and seed, and AWCL's own noise has no side."""
    base = 0.6 + 0.2 * (fraction == 1.0) + 0.05 * np.cos(patient) + 0.01 * seed
    return base + GAIN[name] + (0.04 * (-1) ** patient if name == "awcl" else 0.0)


def error(name, fraction, seed, patient):
    """HC error in mm, nan where the head was missed."""
    lost = name == "scratch" and fraction == 0.1 and patient < MISSED
    return np.nan if lost else 20 * (1 - score(name, fraction, seed, patient))


def write_run(folder, config, name, fraction, seed, *, pictures):
    """One evaluated run; with `pictures` also what the figures of single images and of certainty need."""
    (folder / "evaluate").mkdir(parents=True)
    with open(folder / "evaluate/cases.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["patient", "cine", "frame", "class", *MEASURES])
        writer.writeheader()
        for patient in range(PATIENTS):
            dsc, off = score(name, fraction, seed, patient), error(name, fraction, seed, patient)
            values = (dsc, dsc, 40 * (1 - dsc), dsc - 0.05, 0.1, 0.1, off, float(off != off))
            case = {"patient": f"p{patient:02d}", "cine": patient, "frame": 0, "class": "head"}
            writer.writerow(case | dict(zip(MEASURES, values, strict=True)))
    if pictures:
        rows, columns = np.mgrid[:SIZE, :SIZE]
        truth = np.stack([np.hypot(rows - 20, columns - 18 - k) < 12 for k in range(4)]).astype(np.uint8)
        image = np.random.default_rng(0).integers(0, 200, truth.shape).astype(np.uint8)
        found = {"image": image, "truth": truth, "prediction": np.roll(truth, 2, 2), "patient": np.array(["p00"] * 4)}
        np.savez_compressed(folder / "evaluate/cases.npz", **found, mean_dsc=np.array([0.5, 0.6, 0.7, 0.8]))
    split = {"patients": 5, "cines": 9, "frames": 40, "labelled": 7}
    texts = {
        "config.json": json.loads(config.to_json(sort_keys=False)),
        "environment.json": {"python": "3.11.7", "cpus": 2, "devices": {"count": 1, "kind": "cpu"}, "packages": {"jax": "0.77"}},
        "data.json": {"origin": "fetal phantom, seed 0", "size": SIZE, "classes": {"head": [1]}, "splits": {"train": split}},
        "timing.json": {"finetune": 100.0, "evaluate": 5.0},
        "evaluate/classes.json": {"head": [1]},
        "results.json": {"experiment": name, "metrics": {}},
    }
    for path, content in texts.items():
        (folder / path).write_text(json.dumps(content))


def write_study(folder, *, names=tuple(GAIN)):
    """The folder of the heads study as planned; of its runs those of `names` are done, and the smallest share's first seed has pictures."""
    study = plan.only(heads.load("quick"), (), SEEDS)
    cells = plan.jobs(study)
    _, serves = tasks.tasks(study, cells)
    folder.mkdir(parents=True, exist_ok=True)
    run.keep_plan(study, folder, cells, serves)
    for cell, place in zip(cells, serves, strict=True):
        name = cell.experiment.name
        if name in names:
            write_run(folder / place, cell.config, name, cell.fraction, cell.seed, pictures=(cell.fraction, cell.seed) == (0.1, 0))
    return folder
