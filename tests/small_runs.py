"""Runs of stages with a network made small: what the stores of `lungs` and of `fetuses` share."""

from contextlib import contextmanager

from uscl.data.store import Store
from uscl.stages import experiment
from uscl.stages.run import Run
from uscl.train import mesh
from uscl.train.logs import Log


def make_run(small):
    """run(made, folder), a whole run inside the context `small()`."""

    def run(made, folder):
        with small():
            return experiment.run(made, folder)

    return run


def make_opened(small):
    """opened(made, folder), a context with a `Run` to hand to a stage."""

    @contextmanager
    def opened(made, folder):
        folder.mkdir(parents=True, exist_ok=True)
        with small(), Log(folder) as log:
            yield Run(config=made, folder=folder, store=Store.open(made.data.store), mesh=mesh.make_mesh(1), log=log)

    return opened
