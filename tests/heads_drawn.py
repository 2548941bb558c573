"""Drawn heads in the place of recordings and of a network: a small store of ellipses, and evaluations of what was seen in it."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest

from uscl import config as uscl_config
from uscl.data.writer import StoreWriter
from uscl.stages import evaluate
from uscl.stages.run import Run
from uscl.train.logs import Log

SIDE, MM = 64, 0.5
TRUE = [(20, 15), (22, 16), (24, 18), (18, 14)]  # semi-axes in pixels of the heads of four patients
SEEN = [(20, 15), (20, 15), (0, 0), (20, 15)]  # as predicted; the third is missed
TOLD = ["61.50", "", "70", "soon"]  # head_circumference_mm in attributes.csv
COLUMN = "head_circumference_mm"


def length(major, minor, n=20_000):
    """Perimeter in mm by the midpoint rule."""
    t = (np.arange(n) + 0.5) * 2 * np.pi / n
    return MM * np.hypot(major * np.sin(t), minor * np.cos(t)).sum() * 2 * np.pi / n


def drawn(major, minor):
    """A label map: the ellipse is 2 left of its middle and 1 right of it, so that the class `head` is a union; 3 is something else."""
    y, x = np.mgrid[:SIDE, :SIDE] - 31.5
    inside = (x / max(major, 1e-9)) ** 2 + (y / max(minor, 1e-9)) ** 2 <= 1
    return np.where(inside, np.where(x < 0, 2, 1), np.where(y > 29, 3, 0)).astype(np.uint8)


def made_store(path, *, mm=MM, told=TOLD):
    names = [f"p{k}" for k in range(6)]
    rng = np.random.default_rng(0)
    with StoreWriter(
        path, size=SIDE, classes={"left": [2], "head": [1, 2], "floor": [3]}, origin="made for the test",
        splits={"train": names[4:5], "validation": names[5:], "test": names[:4]},
    ) as writer:  # fmt: skip
        for k, name in enumerate(names):
            about = {COLUMN: told[k]} if told and k < 4 else {}
            frame = rng.integers(20, 200, (1, SIDE, SIDE), np.uint8)
            writer.add(patient=name, frames=frame, labels=drawn(*TRUE[k % 4])[None], mm_per_pixel=mm, attributes=about, source=name)
    return path


def maps_of(store, rows=slice(4)):
    cine = store.labelled.cine[rows]
    return {
        "image": store.frames[store.cines.first[cine]][..., None], "label": store.labels[rows],
        "prediction": np.stack([drawn(*SEEN[k]) for k in range(4)]), "mm": store.cines.mm_per_pixel[cine].astype(np.float32),
        "cine": cine.astype(np.int32), "frame": np.zeros(len(cine), np.int32),
    }  # fmt: skip


def evaluated(store, folder, **changes):
    """A run's folder after an evaluation in which the network's place is taken by drawings."""
    config = uscl_config.default()
    config.update_from_flattened_dict({"stages": ("finetune", "evaluate"), "evaluate.bootstrap": 100} | changes)
    drawings = SimpleNamespace(label_maps=lambda run, carried, rows, watch: maps_of(store, rows), labelled_rows=lambda run: [0])
    with pytest.MonkeyPatch.context() as patch, Log(folder) as log:
        patch.setitem(evaluate.SEGMENTING, "finetune", drawings)
        evaluate.check(config, store)
        evaluate.run(Run(config=config, folder=folder, store=store, mesh=None, log=log), {"params": {}})
    (folder / "config.json").write_text(config.to_json())
    return folder


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
