"""Videos told apart with few labels, four ways: a random encoder or a pretrained one, held still under a linear layer or trained whole.

The lung paper's table, at each label fraction and for several draws of the labelled videos and of the first weights. Frozen encoders are
in inference mode, and their 38 numbers are fitted to the minimum (`metrics.fit_linear`) where the paper runs Adam.
"""

from typing import Any

import numpy as np

from uscl import metrics, models
from uscl.data.clips import LabelledClips
from uscl.data.videos import Videos
from uscl.stages import classify_scores, clips, modes, views
from uscl.stages import run as stage_run
from uscl.stages.modes import PARTS, few
from uscl.train import checkpoint
from uscl.train import mesh as meshes
from uscl.types import UserError

__all__ = ["check", "few", "load_network", "make_loss", "run"]


def make_loss(model, view, kind: str):
    """Cross-entropy of a batch of labelled clips."""
    return modes.make_loss(model, lambda key, image: clips.at_the_door(view(key, views.to_float(image)), kind))


def check(config, store, mesh) -> dict[str, Videos]:
    """{part: its labelled videos}. UserError where a part lacks a class, a mode has no pretraining, or a batch does not split."""
    block = config.classify
    modes.check_source(config, "classify", "video")
    for key in ("batch", "clips"):
        meshes.check_batch(mesh, block[key], key=f"config.classify.{key}")
    videos = {part: clips.videos_of(config, store, part) for part in PARTS}
    for part, found in videos.items():
        if len(np.unique(found.label)) < 2:
            here = f"{int((found.label == 0).sum())} negative and {int(found.label.sum())} positive"
            raise UserError(f"config.classify.column: the {part} patients have {here} videos; each part needs both, so split otherwise")
    return videos


def run(run: stage_run.Run, carried: dict[str, Any] | None, train=stage_run.train) -> dict[str, Any] | None:
    config, block = run.config, run.config.classify
    videos = check(config, run.store, run.mesh)
    model = models.Classifier(encoder=clips.make_encoder(run))
    features = clips.make_features(run, lambda variables, clip: model.encoder.apply(variables, clip, train=False))
    logits = clips.make_features(run, lambda variables, clip: model.apply(variables, clip, train=False))
    task = modes.Task(
        stage="classify", parts=videos, model=model, shape=clips.shape(run),
        features=lambda variables, cine: features(variables, cine, block.views_each),
        logits=lambda variables, cine: logits(variables, cine, block.views_each),
        scores=classify_scores.margin, judge=metrics.auc,
        loss=make_loss(model, clips.make_view(config.video.views, temporal=False), config.model.normalise),
        batches=lambda labelled, seed: LabelledClips(
            run.store, labelled.cine, labelled.label, batch=block.clips, frames=config.video.frames, stride=config.video.stride, seed=seed
        ),
    )  # fmt: skip
    cells = modes.learn(run, carried, task, train)
    if cells is None:
        return None
    classify_scores.write(run, cells, videos["validation"], videos["test"])
    return carried


def load_network(run: stage_run.Run, mode: str) -> dict[str, Any]:
    """The classifier that the stage kept of a mode."""
    return checkpoint.load_weights(modes.network_folder(run, "classify", mode))
