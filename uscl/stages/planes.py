"""Stills of several classes, such as standard planes, told apart with few labels: the four modes of `modes`, at each label fraction.

A still is seen as it is; in training a view of it, drawn as pretraining draws its own. One still is one frame: of a labelled cine of
several, the middle one is scored and any one is learnt from.
"""

from typing import Any

import numpy as np

from uscl import models
from uscl.data.clips import LabelledClips
from uscl.data.planes import Planes, labelled_planes
from uscl.stages import modes, planes_scores, stills, views
from uscl.stages import run as stage_run
from uscl.stages.modes import PARTS
from uscl.train import mesh as meshes
from uscl.types import UserError

SOURCE = "anatomy"  # the stage that pretrains this one's encoder


def make_loss(model, view, kind: str):
    """Cross-entropy of a batch of labelled clips of one frame; view(key, image) changes frames [N, H, W, C] in [0, 1]."""
    return modes.make_loss(model, lambda key, image: stills.at_the_door(view(key, views.to_float(image[:, 0])), kind))


def check(config, store, mesh) -> dict[str, Planes]:
    """{part: its labelled stills}. UserError where they can't be told apart, a mode has no pretraining, or a batch does not split.

    Each part needs two classes, and the training patients all classes that the others have.
    """
    block = config.planes
    modes.check_source(config, "planes", SOURCE)
    for key in ("batch", "stills"):
        meshes.check_batch(mesh, block[key], key=f"config.planes.{key}")
    found = {part: labelled_planes(store, store.patients(part), column=block.column, ignore=block.ignore) for part in PARTS}
    held = {part: np.unique(planes.label).tolist() for part, planes in found.items()}
    for part, labels in held.items():
        names = [found[part].names[label] for label in labels]
        if len(labels) < 2:
            here = f"stills of {names[0]!r} alone" if names else "no labelled stills"
            raise UserError(f"config.planes.column: the {part} patients have {here}; each part needs two classes, so split otherwise")
        unseen = [name for name, label in zip(names, labels, strict=True) if label not in held["train"]]
        if unseen:
            raise UserError(
                f"config.planes.column: {unseen[0]!r} is among the {part} patients' stills and not among the training patients', so nobody "
                "could learn it; split otherwise, or name it in config.planes.ignore"
            )
    return found


def run(run: stage_run.Run, carried: dict[str, Any] | None, train=stage_run.train) -> dict[str, Any] | None:
    config, block = run.config, run.config.planes
    found = check(config, run.store, run.mesh)
    names = found["train"].names
    model = models.Classifier(encoder=stills.make_encoder(run), classes=len(names))
    how = {"batch": block.batch, "key": "config.planes.batch"}
    features = stills.make_features(run, lambda variables, image: model.encoder.apply(variables, image, train=False), **how)
    logits = stills.make_features(run, lambda variables, image: model.apply(variables, image, train=False), **how)
    task = modes.Task(
        stage="planes", parts=found, model=model, shape=stills.shape(run),
        features=lambda variables, cine: features(variables, cine)[:, None],
        logits=lambda variables, cine: logits(variables, cine)[:, None],
        scores=planes_scores.probabilities, judge=planes_scores.macro_f1, neighbours=block.neighbours,
        loss=make_loss(model, stills.make_view(config.anatomy.views), config.model.normalise),
        batches=lambda labelled, seed: LabelledClips(run.store, labelled.cine, labelled.label, batch=block.stills, frames=1, seed=seed),
    )  # fmt: skip
    cells = modes.learn(run, carried, task, train)
    if cells is None:
        return None
    planes_scores.write(run, cells, found["validation"], found["test"], names)
    return carried
