"""A small store of stills of three planes, a network of one layer in the place of a ResNet, and runs of the stage `planes` on both."""

from contextlib import contextmanager
from unittest import mock

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from uscl import config as uscl_config
from uscl.data.store import Store
from uscl.data.writer import StoreWriter
from uscl.stages import experiment, stills
from uscl.stages.run import Run
from uscl.train import mesh
from uscl.train.logs import Log

SIDE, NAMES = 32, ("abdomen", "femur", "head")
PATIENTS = {"train": 12, "validation": 4, "test": 6}


class Patches(nn.Module):
    """In the place of a ResNet, since it compiles at once: a layer over patches of 8 x 8, less a running mean; mean and maximum of it."""

    @nn.compact
    def __call__(self, x, train):
        n, h, w, _ = x.shape
        patches = x.reshape(n, h // 8, 8, w // 8, 8).swapaxes(2, 3).reshape(n, -1, 64)
        y = nn.relu(nn.Dense(8, name="dense")(patches))
        mean = self.variable("batch_stats", "mean", jnp.zeros, (8,))
        if train and not self.is_initializing():
            mean.value = 0.9 * mean.value + 0.1 * y.mean((0, 1))
        y = y - mean.value
        return jnp.concatenate([y.mean(1), y.max(1)], axis=1)


def tiny(run=None):
    return Patches()


def picture(name, rng):
    """Noise, with a bright bar or frame in it; an abdomen has neither."""
    image, (y, x) = rng.integers(20, 90, (SIDE, SIDE), np.uint8), rng.integers(6, 10, 2)
    if name == "femur":
        image[y : y + 4, x : x + 16] += np.uint8(120)
    if name == "head":
        image[y : y + 16, x : x + 16] += np.uint8(120)
        image[y + 3 : y + 13, x + 3 : x + 13] -= np.uint8(120)
    return image


def make_store(path, names=NAMES, without=()):
    """Of each patient a still of every plane, and a sweep of three frames without one; `without`: {(part, plane)} that are left out."""
    rng, ends = np.random.default_rng(4), np.cumsum([0, *PATIENTS.values()])
    parts = {part: [f"p{k:02d}" for k in range(a, b)] for part, a, b in zip(PATIENTS, ends[:-1], ends[1:], strict=True)}
    with StoreWriter(path, size=SIDE, classes={}, origin="made for the test", splits=parts) as writer:
        for part, patients in parts.items():
            for patient in patients:
                for name in names:
                    if (part, name) not in without:
                        frames = np.stack([picture(name, rng)] * (3 if patient == "p01" else 1))
                        writer.add(patient=patient, frames=frames, attributes={"plane": name})
                writer.add(patient=patient, frames=rng.integers(0, 99, (3, SIDE, SIDE), np.uint8))
    return path


def config(store, **changes):
    made = uscl_config.default()
    made.experiment = "anatomy"
    views = ("gamma", "attenuation", "gain", "shadow", "speckle", "flip", "brightness", "contrast")
    made.update_from_flattened_dict(
        {
            "stages": ("planes",), "data.store": str(store), "planes.modes": ("random", "supervised"), "planes.fractions": (0.5,),
            "planes.draws": 2, "planes.steps": 4, "planes.stills": 8, "planes.batch": 8, "planes.look_every": 2, "planes.neighbours": 3,
            "evaluate.bootstrap": 100, "log.every": 1, "log.save_every": 2, "anatomy.views.crop": "none",
        }
        | {f"anatomy.views.{name}": 0.0 for name in views}
        | changes
    )  # fmt: skip
    return made


@contextmanager
def opened(made, folder):
    """A `Run` on one device."""
    folder.mkdir(parents=True, exist_ok=True)
    with mock.patch.object(stills, "make_encoder", tiny), Log(folder) as log:
        yield Run(config=made, folder=folder, store=Store.open(made.data.store), mesh=mesh.make_mesh(1), log=log)


def go(made, folder):
    with mock.patch.object(stills, "make_encoder", tiny), mock.patch.object(experiment.report, "draw", lambda folder: folder):
        experiment.run(made, folder)
