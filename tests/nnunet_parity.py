"""The original nnU-Net and ours on the same real images, plan, split and number of steps, as two tables of Dice:

python tests/nnunet_parity.py --nnunet=VENV/bin/python --data=USGRA_SEG --work=DIR --steps=600 --seeds=0,1,2

VENV has nnunetv2 2.8.1 and torch (pip install nnunetv2==2.8.1); it needs nothing of ours. DIR keeps every finished part, and the same
command again does only what is missing. The stills are made a store of `--size` px; the store is exported; the original checks, plans and
preprocesses the export, trains fold 0 and predicts imagesTs, mirroring included; ours reads the original's plans file. An epoch is 10
steps on both sides, the learning rate falls over all of them, checkpoint_final predicts, and nothing is post-processed. Both sides leave
PNGs of label values, and uscl.metrics.dice measures those.
"""

import argparse
import csv
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
EPOCH = 10  # steps
VALIDATION = 16  # of the training images
# Pairs that show nearly the same, of which one could train and the other validate: they are of one patient, and train.
ALIKE = {"0073": "0012", "0120": "0028", "0125": "0029", "0146": "0036", "0147": "0037"}
NAME = "Dataset001_uscl"


def once(folder: Path, make) -> Path:
    """`make(partial)` fills a folder beside `folder`, which is renamed when it is whole; nothing where `folder` stands."""
    if not folder.exists():
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.parent.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        make(partial)
        print(f"{folder}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        partial.rename(folder)
    return folder


def call(*command, log: Path, **env) -> None:
    """A command with its output in a file; ends this program where it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a") as file:
        done = subprocess.run([str(c) for c in command], cwd=ROOT, env=os.environ | env, stdout=file, stderr=subprocess.STDOUT)
    if done.returncode:
        raise SystemExit(f"{command[0]} {command[1]} ended with status {done.returncode}; see {log}\n{log.read_text()[-2000:]}")


def table(data: Path, file: Path) -> None:
    """file,patient,part of every still: the data's own test, and 16 of its training images, drawn with seed 0, validate."""
    train, test = (sorted(path.stem for path in (data / part / "images").iterdir()) for part in ("train", "test"))
    alone = [name for name in train if name not in {*ALIKE, *ALIKE.values()}]
    validation = set(random.Random(0).sample(alone, VALIDATION))
    part = dict.fromkeys(train, "train") | dict.fromkeys(validation, "validation") | dict.fromkeys(test, "test")
    with open(file, "w", newline="") as out:
        csv.writer(out).writerows([("file", "patient", "part"), *((f"{n}.png", ALIKE.get(n, n), part[n]) for n in part)])


def prepare(given) -> Path:
    """Store, export, and the original's plans and preprocessed cases; the folder that holds them."""
    base = given.work / f"size{given.size}"
    base.mkdir(parents=True, exist_ok=True)
    table(given.data, base / "patients.csv")
    tool = (sys.executable, "launch/prepare.py")
    sources = [f"--source={given.data / part}" for part in ("train", "test")]
    options = [f"--patients={base / 'patients.csv'}", f"--size={given.size}"]
    log = base / "prepare.txt"
    once(base / "store", lambda out: call(*tool, *sources, *options, f"--out={out}", log=log))
    once(base / "raw", lambda out: call(*tool, f"--source={base / 'store'}", "--export=nnunet", f"--out={out}", log=log))
    plan = (given.nnunet, given.nnunet.with_name("nnUNetv2_plan_and_preprocess"), "-d", 1, "-c", "2d", "-npfp", 1, "-np", 1)
    once(base / "preprocessed", lambda out: call(*plan, "--verify_dataset_integrity", log=log, **places(base, preprocessed=out)))
    return base


def places(base: Path, **others: Path) -> dict[str, str]:
    """The original's environment: its three folders; loading in its own process, nothing compiled, one thread."""
    folders = {"raw": base / "raw", "preprocessed": base / "preprocessed", "results": base / "none"} | others
    told = {f"nnUNet_{name}": str(folder) for name, folder in folders.items()}
    loading = "1" if "preprocessed" in others else "0"  # its planner takes the same number as threads, and has no use for 0
    return told | {"nnUNet_n_proc_DA": loading, "nnUNet_compile": "f", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def ours(out: Path, base: Path, seed: int, steps: int) -> None:
    """launch/main.py with the original's plans; leaves the same files as tests/nnunet_original_run.py."""
    import numpy as np
    from PIL import Image

    run = out / "run"
    setting = {
        "data.store": base / "store", "seed": seed, "nnunet.plans": base / "preprocessed" / NAME / "nnUNetPlans.json",
        "nnunet.epochs": steps // EPOCH, "nnunet.iterations": EPOCH, "nnunet.folds": "split", "nnunet.postprocess": False,
        "nnunet.validate_every": steps // EPOCH, "log.every": 1,
    }  # fmt: skip
    changes = [f"--config.{key}={value}" for key, value in setting.items()]
    command = (sys.executable, "launch/main.py", "--config=configs/nnunet.py", f"--workdir={run}", *changes)
    call(*command, log=out / "log.txt", JAX_PLATFORMS="cpu")
    losses = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    epochs = [statistics.fmean(losses[i : i + EPOCH]) for i in range(0, steps, EPOCH)]
    (out / "losses.json").write_text(json.dumps(epochs))
    (out / "predictions").mkdir()
    with open(run / "evaluate" / "cases.csv", newline="") as file:
        cases = list(dict.fromkeys((int(row["cine"]), int(row["frame"])) for row in csv.DictReader(file)))
    with np.load(run / "evaluate" / "cases.npz") as found:
        for (cine, frame), prediction in zip(cases, found["prediction"], strict=True):
            Image.fromarray(prediction.astype(np.uint8)).save(out / "predictions" / f"cine{cine:05d}_{frame:05d}.png")


def scores(folder: Path, base: Path) -> dict[str, float]:
    """Mean Dice over the test images of each class, 1 where prediction and truth are both empty; the mean over classes; the mean training
    loss of the last tenth of the epochs."""
    import numpy as np
    from PIL import Image

    from uscl import metrics

    labels = json.loads((base / "raw" / NAME / "dataset.json").read_text())["labels"]
    found = {name: [] for name in labels if name != "background"}
    predictions, losses = folder / "predictions", json.loads((folder / "losses.json").read_text())
    truths = sorted((base / "raw" / NAME / "labelsTs").iterdir())
    if {path.name for path in truths} != {path.name for path in predictions.glob("*.png")}:
        raise SystemExit(f"{predictions}: not one PNG for each of the {len(truths)} test images")
    for path in truths:
        prediction, truth = np.asarray(Image.open(predictions / path.name)), np.asarray(Image.open(path))
        for name, each in found.items():
            each.append(metrics.dice(metrics.class_mask(prediction, labels[name]), metrics.class_mask(truth, labels[name])))
    means = {name: statistics.fmean(each) for name, each in found.items()}
    return means | {"mean": statistics.fmean(means.values()), "loss": statistics.fmean(losses[-max(1, len(losses) // 10) :])}


def markdown(sides: dict[str, dict[int, dict[str, float]]]) -> str:
    """A table a side, one row a seed, then mean and standard deviation over seeds; and the difference of the means."""

    def table(title, rows, form=".3f"):
        columns = list(next(iter(rows.values())))
        lines = [
            [title, *columns],
            ["---"] * (1 + len(columns)),
            *([name, *(f"{row[c]:{form}}" for c in columns)] for name, row in rows.items()),
        ]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    text, means = [], {}
    for side, seeds in sides.items():
        over = {c: [row[c] for row in seeds.values()] for c in next(iter(seeds.values()))}
        means[side] = {c: statistics.fmean(values) for c, values in over.items()}
        spread = {"sd": {c: statistics.stdev(values) for c, values in over.items()}} if len(seeds) > 1 else {}
        text.append(table(side, {f"seed {seed}": row for seed, row in seeds.items()} | {"mean": means[side]} | spread))
    if len(means) == 2:
        (first, a), (second, b) = means.items()
        text.append(table("difference", {f"{second} - {first}": {c: b[c] - a[c] for c in a}}, "+.3f"))
    return "\n\n".join(text)


def main(given) -> None:
    base, sides = prepare(given), {}
    for side in given.sides.split(","):
        for seed in (int(s) for s in given.seeds.split(",")):
            run = (given.nnunet, "tests/nnunet_original_run.py", given.steps, seed, base / "raw" / NAME)
            work = {
                "original": lambda out, run=run: call(*run, out, log=out / "log.txt", **places(base, results=out / "results")),
                "ours": lambda out, seed=seed: ours(out, base, seed, given.steps),
            }[side]
            folder = once(base / f"steps{given.steps}" / side / f"seed{seed}", work)
            sides.setdefault(side, {})[seed] = scores(folder, base)
    print(markdown(sides))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the stills: train/images, train/masks, test/images, test/masks")
    parser.add_argument("--nnunet", type=Path, required=True, help="a python that has nnunetv2")
    parser.add_argument("--work", type=Path, required=True, help="where everything is kept")
    parser.add_argument("--size", type=int, default=64, help="side of the images [px]")
    parser.add_argument("--steps", type=int, default=600, help=f"of training, a multiple of {EPOCH}")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--sides", default="original,ours")
    arguments = parser.parse_args()
    if arguments.steps % EPOCH:
        parser.error(f"--steps is {arguments.steps}; it must be a multiple of {EPOCH}")
    for path in ("data", "nnunet", "work"):  # not resolved: the python of a virtual environment is a link
        setattr(arguments, path, getattr(arguments, path).absolute())
    main(arguments)
