"""A tiny plan, configuration and phantom for the tests of nnU-Net as a stage, and the fixtures that they share."""


import jax.numpy as jnp
import numpy as np
import pytest

from uscl import config as uscl_config
from uscl.data.store import Store
from uscl.models.plan import Plan, write_plan
from uscl.stages import experiment, nnunet_loss, source
from uscl.stages import run as stage_run
from uscl.train import mesh as meshes
from uscl.train.logs import Log

STEPS = 4
PLAN = Plan(
    preset="plain", patch=(32, 32), batch=4, features=(4, 8), strides=((1, 1), (2, 2)), kernels=((3, 3), (3, 3)), blocks=(1, 1),
    decoder=(1,), residual=False, masked=False, shape=(32.0, 32.0),
)  # fmt: skip
PHANTOM = {"data.patients": 8, "data.frames": 8, "data.size": 32, "data.labelled": 2}
# two encoder convolutions, 2x2 up, a decoder convolution of 4 + 4 channels, a head of 4; norms have 2 numbers a channel
PARAMETERS = (9 * 4 + 4 + 8) + (9 * 4 * 8 + 8 + 16) + (4 * 8 * 4 + 4) + (9 * 8 * 4 + 4 + 8) + (4 * 4 + 4)
CLASSES = {"capsule": [1, 2, 3, 4], "cortex": [1], "medulla": [2], "central_echo_complex": [3]}


def tiny(**changes):
    config = uscl_config.default()
    config.experiment = "tiny"
    config.stages = ("nnunet", "evaluate")
    config.update_from_flattened_dict(
        PHANTOM
        | {
            "nnunet.epochs": 2, "nnunet.iterations": 2, "nnunet.validate_every": 1, "evaluate.batch": 4, "evaluate.bootstrap": 100,
            "log.every": 1, "log.save_every": 2,
        }
        | changes
    )  # fmt: skip
    return config


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    path = tmp_path_factory.mktemp("plans") / "plans.json"
    write_plan(PLAN, path)
    return str(path)


def middle(key, image, label, *, size, **how):
    """In the place of the augmentation, which takes seconds to compile: the middle of each patch."""
    top, left = ((read - n) // 2 for read, n in zip(image.shape[1:3], size, strict=True))
    rows, columns = slice(top, top + size[0]), slice(left, left + size[1])
    return image[:, rows, columns], jnp.maximum(label[:, rows, columns].astype(jnp.int32), 0)


@pytest.fixture(scope="module")
def done(tmp_path_factory, plans):
    """An undisturbed run, without its report."""
    folder = tmp_path_factory.mktemp("done")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nnunet_loss, "nnunet_pair", middle)
        patch.setattr(experiment.report, "draw", lambda folder: folder)
        experiment.run(tiny(**{"nnunet.plans": plans}), folder)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """make(**changes) -> a Run on a phantom that is made once."""
    folder = tmp_path_factory.mktemp("made")
    with Log(folder) as log:
        config = tiny()
        store = source.open_store(config, folder, log)
        count = iter(range(100))

        def make(devices=4, **changes):
            own = folder / str(next(count))
            own.mkdir()
            fresh = Store.open(store.path)
            return stage_run.Run(config=tiny(**changes), folder=own, store=fresh, mesh=meshes.make_mesh(devices), log=log)

        yield make


def rows_of(run, *parts):
    return np.concatenate([run.store.rows_of(run.store.patients(part)) for part in parts])
