"""A small store of sweeps and stills of four planes, a network of a few channels in the place of ResNet-18, and runs on both."""

from contextlib import contextmanager
from unittest import mock

import numpy as np
from small_runs import make_opened, make_run

from uscl import config as uscl_config
from uscl.data.writer import StoreWriter
from uscl.stages import experiment, stills

SIDE, FRAMES, STEPS = 32, 6, 4
PATIENTS = {"train": 6, "validation": 3, "test": 3}
PLANES = {"crown": "head", "brow": "head", "foot": "limb", "nothing": "nothing"}  # a still of each of every patient, and its anatomy
SMALL = {"blocks": (1, 1), "bottleneck": False}


def make_store(path, *, column="plane", sweeps=1):
    """Gray noise; a still has a bright block in the corner of its plane. Cines of a patient: its sweeps, then its stills."""
    rng, count = np.random.default_rng(3), sum(PATIENTS.values())
    names = [f"p{number:02d}" for number in range(count)]
    ends = np.cumsum([0, *PATIENTS.values()])
    parts = {part: names[a:b] for part, a, b in zip(PATIENTS, ends[:-1], ends[1:], strict=True)}
    with StoreWriter(path, size=SIDE, classes={}, origin="made for the test", splits=parts) as writer:
        for number, name in enumerate(names):
            for _ in range(sweeps):
                writer.add(patient=name, frames=rng.integers(0, 120, (FRAMES + number % 3, SIDE, SIDE), np.uint8), source=name)
            for place, (plane, anatomy) in enumerate(PLANES.items()):
                frame = rng.integers(0, 120, (1, SIDE, SIDE), np.uint8)
                x, y = divmod(place, 2)
                frame[0, 16 * x + 2 : 16 * x + 14, 16 * y + 2 : 16 * y + 14] += np.uint8(100)
                writer.add(patient=name, frames=frame, source=name, attributes={column: plane, "anatomy": anatomy})
    return path


def config(store="", **changes):
    made = uscl_config.default()
    made.experiment = "anatomy"
    made.update_from_flattened_dict(
        {
            "stages": ("anatomy",), "data.store": str(store), "data.phantom": "fetal", "anatomy.steps": STEPS, "anatomy.batch": 8,
            "anatomy.frames": 2, "anatomy.width": 2, "anatomy.hidden": 8, "anatomy.features": 4, "anatomy.look_every": 2,
            "anatomy.learning_rate": 0.01, "anatomy.ignore": ("nothing",), "planes.batch": 8, "planes.steps": STEPS, "planes.stills": 4,
            "planes.look_every": 2, "planes.draws": 2, "planes.fractions": (0.5,), "evaluate.bootstrap": 100, "log.every": 1,
            "log.save_every": 2,
        }
        | changes
    )  # fmt: skip
    return made


@contextmanager
def small():
    """ResNet-18 is a network of two blocks, and nothing is drawn at the end of a run."""
    with mock.patch.dict(stills.PLANS, {18: SMALL}), mock.patch.object(experiment.report, "draw", lambda folder: folder):
        yield


run, opened = make_run(small), make_opened(small)
