"""launch/main.py as a user types it: every mistake is one line on stderr that names it, with exit status 2 and no traceback."""
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from uscl import config as uscl_config
from uscl.data.writer import StoreWriter
from uscl.stages import experiment
from uscl.types import UserError

ROOT = Path(__file__).parent.parent
MISTAKES = {
    "wrong key": (["--config=configs/speckle.py", "--config.finetune.lr=1"], ["config.finetune.lr", "no such key"]),
    "wrong value": (["--config=configs/speckle.py", "--config.finetune.label_fraction=2.0"], ["label_fraction", "2.0", "at most 1"]),
    "wrong type": (["--config=configs/speckle.py", "--config.encoder.steps=many"], ["encoder.steps", "many"]),
    "no such config": (["--config=configs/specle.py"], ["configs/specle.py"]),
    "unknown scale": (["--config=configs/speckle.py:huge"], ["'huge'", "quick, paper"]),
    "no config": ([], ["--config"]),
    "missing store": (["--config=configs/scratch.py", "--config.data.store=/nowhere/store"], ["/nowhere/store"]),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """All commands at once, since each spends its time on imports: {mistake: (exit status, stdout, stderr)}."""
    folder = tmp_path_factory.mktemp("runs")
    started = {
        name: subprocess.Popen(
            [sys.executable, "launch/main.py", *flags, f"--workdir={folder / name.replace(' ', '-')}"],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for name, (flags, _) in MISTAKES.items()
    }  # fmt: skip
    return {name: (*process.communicate(timeout=120), process.returncode) for name, process in started.items()}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_in_one_line(name, told):
    out, err, status = told[name]
    assert status == 2, err
    assert len(err.strip().splitlines()) == 1 and "Traceback" not in out + err, err
    assert all(word in err for word in MISTAKES[name][1]), err


def make_store(path, *, patients=6, classes=None):
    with StoreWriter(path, size=32, classes=classes or {"a": [1], "b": [2]}, seed=0) as writer:
        for number in range(patients):
            label = np.zeros((32, 32), np.uint8)
            label[4:9], label[12:20] = 1, 2
            writer.add(patient=f"p{number}", frames=np.full((5, 32, 32), number, np.uint8), labels={2: label})
    return path


def refusal(store, tmp_path):
    config = uscl_config.default()
    config.data.store = str(store)
    with pytest.raises(UserError) as caught:
        experiment.run(config, tmp_path / "run")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_store_of_another_version(tmp_path):
    store = make_store(tmp_path / "store")
    edit(store / "store.json", version=7)
    told = refusal(store, tmp_path)
    assert str(store / "store.json") in told and "7" in told and "supported is 2" in told


def test_a_label_that_no_class_owns(tmp_path):
    store = make_store(tmp_path / "store")
    labels = np.lib.format.open_memmap(store / "labels.npy", "r+")
    labels[3, 0, 0] = 5
    labels.flush()
    told = refusal(store, tmp_path)
    assert "labels.npy" in told and "row 3" in told and "5" in told and "'a': [1]" in told


def test_one_patient_only(tmp_path):
    store = make_store(tmp_path / "store")
    lines = (store / "cines.csv").read_text().splitlines()
    cells = [line.split(",") for line in lines[1:]]
    (store / "cines.csv").write_text("\n".join([lines[0], *(",".join([c[0], "p0", *c[2:]]) for c in cells)]) + "\n")
    edit(store / "splits.json", train=["p0"], validation=[], test=[])
    told = refusal(store, tmp_path)
    assert "splits.json" in told and "only one patient" in told


def test_too_few_cines_for_a_batch(tmp_path):
    told = refusal(make_store(tmp_path / "store"), tmp_path)
    assert "cines" in told and "12" in told
