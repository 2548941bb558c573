"""A small store of labelled videos, a network of few layers in the place of Darknet, and runs of the lung paper's stages on both."""

from contextlib import contextmanager
from unittest import mock

import numpy as np
from small_runs import make_opened, make_run

from uscl import config as uscl_config
from uscl.data.writer import StoreWriter
from uscl.stages import clips, experiment

SIDE, FRAMES, STEPS = 32, 6, 4
PATIENTS = {"train": 10, "validation": 4, "test": 6}  # a video each, negative and positive in turn
SMALL = {"widths": (2, 4, 4), "blocks": (1, 1), "bottleneck": False}
BOX = (4, 6, 19, 25)


def make_store(path, *, labels=("normal", "consolidation"), column="class"):
    """Gray noise over time; positive videos have a bright block, and BOX in every frame but the first, where it is out of sight."""
    rng, count = np.random.default_rng(3), sum(PATIENTS.values())
    names = [f"p{number:02d}" for number in range(count)]
    ends = np.cumsum([0, *PATIENTS.values()])
    parts = {part: names[a:b] for part, a, b in zip(PATIENTS, ends[:-1], ends[1:], strict=True)}
    with StoreWriter(path, size=SIDE, classes={}, origin="made for the test", splits=parts) as writer:
        for number, name in enumerate(names):
            frames, label = rng.integers(40, 120, (FRAMES + number % 3, SIDE, SIDE), np.uint8), labels[number % len(labels)]
            boxes = np.full((len(frames), 2, 4), -1)
            if label == "consolidation":
                frames[:, BOX[0] : BOX[2] + 1, BOX[1] : BOX[3] + 1] += np.uint8(60)
                boxes[1:, 0] = BOX
            writer.add(patient=name, frames=frames, source=name, attributes={column: label}, truth={"boxes": boxes.tolist()})
    return path


def config(store="", **changes):
    made = uscl_config.default()
    made.experiment = "lung"
    made.update_from_flattened_dict(
        {
            "stages": ("video", "classify", "saliency"), "data.store": str(store), "data.phantom": "lung",
            "video.method": "byol", "video.steps": STEPS, "video.clips": 4, "video.frames": 4, "video.stride": 1, "video.hidden": 8,
            "video.features": 4, "video.look_every": 2, "video.learning_rate": 0.01, "video.schedule": "cosine",
            "classify.steps": STEPS, "classify.clips": 4, "classify.batch": 8, "classify.look_every": 2, "classify.draws": 2,
            "classify.fractions": (0.6,), "classify.views_each": 2, "saliency.videos": 2, "saliency.window": (0, 8, 8),
            "saliency.stride": (0, 8, 8), "evaluate.bootstrap": 100, "log.every": 1, "log.save_every": 2,
        }
        | changes
    )  # fmt: skip
    return made


@contextmanager
def small():
    """The plan "tiny" is a network of two stages, and nothing is drawn at the end of a run."""
    with mock.patch.dict(clips.PLANS, tiny=SMALL), mock.patch.object(experiment.report, "draw", lambda folder: folder):
        yield


run, opened = make_run(small), make_opened(small)
