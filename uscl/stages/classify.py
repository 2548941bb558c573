"""Videos told apart with few labels, four ways: a random encoder or a pretrained one, held still under a linear layer or trained whole.

The lung paper's table, at each label fraction and for several draws of the labelled videos and of the first weights. Frozen encoders are
in inference mode, and their 38 numbers are fitted to the minimum (`metrics.fit_linear`) where the paper runs Adam.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from uscl import metrics, models
from uscl.data.clips import LabelledClips
from uscl.data.fractions import label_subset
from uscl.data.videos import Videos
from uscl.stages import classify_scores, clips, views
from uscl.stages import run as stage_run
from uscl.stages.start import HANDING_ON
from uscl.train import checkpoint, hosts
from uscl.train import mesh as meshes
from uscl.types import UserError

PRETRAINED, FROZEN = ("features", "finetuned"), ("random", "features")
PARTS = ("train", "validation", "test")


def make_loss(model, view, kind: str):
    """Cross-entropy of a batch of labelled clips."""

    def loss_fn(params, batch_stats, batch, key):
        clip = clips.at_the_door(view(key, views.to_float(batch["image"])), kind)
        logits, updated = model.apply({"params": params, "batch_stats": batch_stats}, clip, train=True, mutable=["batch_stats"])
        each = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), batch["target"])
        return {"cross_entropy": each.mean()}, (updated["batch_stats"], {})

    return loss_fn


def few(videos: Videos, fraction: float, *, seed: int) -> Videos:
    """A share of the videos, over as many patients as it reaches and with the classes in their proportion; nested for one seed.

    At least one video of each class: fewer would be no classification. A smaller share gives the same then.
    """
    classes = np.eye(2, dtype=bool)[videos.label]
    for count in range(max(1, round(fraction * len(videos.cine))), len(videos.cine) + 1):
        rows = label_subset(np.arange(len(videos.cine)), videos.patient.tolist(), count / len(videos.cine), seed=seed, classes=classes)
        if len(np.unique(videos.label[rows])) == 2:
            break
    return Videos(*(values[rows] for values in videos))


def check(config, store, mesh) -> dict[str, Videos]:
    """{part: its labelled videos}. UserError where a part lacks a class, a mode has no pretraining, or a batch does not split."""
    block = config.classify
    lacking = [mode for mode in block.modes if mode in PRETRAINED]
    before = [name for name in config.stages[: config.stages.index("classify")] if name in HANDING_ON]
    if lacking and before[-1:] != ["video"] and (before or not config.start):
        how = "put 'video' before 'classify' in config.stages, or name a run in config.start"
        raise UserError(f"config.classify.modes: {lacking[0]!r} needs a pretrained encoder; {how}")
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
    known: dict[Any, dict[str, np.ndarray]] = {}
    networks: dict[str, Any] = {}  # of each mode, of the first draw at the last fraction: what the saliency looks into

    def begin(mode: str, draw: int) -> dict[str, Any]:
        fresh = models.initialise(model, config.seed * 1000 + draw, clips.shape(run))
        return models.transfer(carried, fresh) if mode in PRETRAINED else fresh

    def frozen(mode: str, draw: int, labelled: Videos) -> dict[str, np.ndarray]:
        name = (mode, 0 if mode in PRETRAINED else draw)
        if name not in known:
            variables = {kind: tree["encoder"] for kind, tree in begin(mode, draw).items()}
            known[name] = {part: features(variables, found.cine, block.views_each) for part, found in videos.items()}
        mine = np.isin(videos["train"].cine, labelled.cine)
        seen = known[name]["train"][mine]
        fitted = metrics.fit_linear(seen.reshape(-1, seen.shape[-1]), np.repeat(labelled.label, seen.shape[1]), classes=2)
        if draw == 0:
            networks[mode] = with_head(begin(mode, draw), fitted)
        return {part: classify_scores.margin(known[name][part] @ fitted.weight + fitted.bias) for part in ("validation", "test")}

    def whole(mode: str, fraction: float, draw: int, labelled: Videos) -> dict[str, np.ndarray] | None:
        batches = LabelledClips(
            run.store, labelled.cine, labelled.label, batch=block.clips, frames=config.video.frames, stride=config.video.stride,
            seed=config.seed * 1000 + draw,
        )  # fmt: skip
        name = f"{mode}_{100 * fraction:g}_{draw}"
        optimizer = stage_run.make_optimizer(learning_rate=block.learning_rate, schedule=block.schedule, steps=block.steps)
        course = stage_run.Course(block.steps, optimizer, block.look_every, f"classify/{name}")

        def score(variables, part):
            return classify_scores.margin(logits(variables, videos[part].cine, block.views_each))

        def look(state):
            return metrics.auc(videos["validation"].label, score({"params": state.params, "batch_stats": state.batch_stats}, "validation"))

        trained = train(
            run, f"classify/{name}", make_loss(model, clips.make_view(config.video.views, temporal=False), config.model.normalise),
            begin(mode, draw), batches, weights={"cross_entropy": 1.0}, course=course, validate=look,
        )  # fmt: skip
        if trained is None:  # a replay ends with its update
            return None
        if draw == 0:
            networks[mode] = trained
        return {part: score(trained, part) for part in ("validation", "test")}

    cells = []
    for fraction in block.fractions:
        for draw in range(block.draws):
            labelled = few(videos["train"], fraction, seed=config.seed * 1000 + draw)
            for mode in block.modes:
                scored = frozen(mode, draw, labelled) if mode in FROZEN else whole(mode, fraction, draw, labelled)
                if scored is None:
                    return None
                cells.append(classify_scores.Cell(mode, fraction, draw, len(labelled.cine), scored["validation"], scored["test"]))
    if hosts.primary():
        for mode, variables in networks.items():
            checkpoint.save_weights(network_folder(run, mode), jax.device_get(variables))
    hosts.wait_for(network_folder(run, list(networks)[-1]))  # the others read them next
    classify_scores.write(run, cells, videos["validation"], videos["test"])
    return carried


def with_head(variables: dict[str, Any], fitted: metrics.Linear) -> dict[str, Any]:
    """The network whose head is the fitted layer."""
    head = {"kernel": fitted.weight.astype(np.float32), "bias": fitted.bias.astype(np.float32)}
    return {**variables, "params": {**variables["params"], "head": head}}


def network_folder(run: stage_run.Run, mode: str):
    return run.folder / "classify" / "networks" / mode


def load_network(run: stage_run.Run, mode: str) -> dict[str, Any]:
    """The classifier that the stage kept of a mode."""
    return checkpoint.load_weights(network_folder(run, mode))
