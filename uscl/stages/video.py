"""Pretraining on clips: the lung paper's BYOL and SimCLR, and what else users choose from, each a line of one table."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uscl import losses, models
from uscl.data.clips import ClipBatches
from uscl.metrics.embedding import spread
from uscl.stages import clips, views
from uscl.stages import run as stage_run
from uscl.temporal import pair_weights
from uscl.train import guards
from uscl.train import mesh as meshes
from uscl.train.ema import ema


@dataclass(frozen=True)
class Method:
    """A way to learn from two views. loss: (projection, prediction, target, temperature) -> [N] or [], each [2, N, D] by view.

    layers, normalised: of the projector. predicts: a predictor follows it. target: a slowly moving copy of encoder and projector sees the
    views as well; without one `target` is the projection.
    """

    loss: Callable[..., jax.Array]
    layers: int = 2
    normalised: bool = True
    predicts: bool = False
    target: bool = False
    chance: Callable[[int, float], float] | None = None  # the loss of embeddings that say nothing, of N and the temperature


ADVICE = guards.Advice(
    chance="another video.temperature, video.learning_rate a third or three times as high, more video.steps, or weaker video.views "
    "(views.erase.probability and views.noise.deviation at 0)",
    collapse="another video.method ('vicreg' and 'barlow_twins' hold every dimension up), more video.clips a step, a lower "
    "video.learning_rate, or for byol a video.decay nearer 1",
)


def simclr(z, temperature) -> jax.Array:
    """NT-Xent as weighted InfoNCE: each frame's other view attracts, all else repels."""
    number = jnp.arange(z.shape[1])
    positive, negative = pair_weights(jnp.eye(z.shape[1]), number, negatives="all", views=2)
    return losses.info_nce(z.reshape(-1, z.shape[-1]), positive, negative, temperature=temperature, denominator="all")


METHODS = {
    "byol": Method(lambda z, p, t, _: losses.byol(p, t), predicts=True, target=True),
    "simclr": Method(lambda z, p, t, how: simclr(z, how), normalised=False, chance=lambda n, how: np.log(2 * n - 1)),
    "moco_v3": Method(
        lambda z, p, t, how: losses.moco_v3(p, t, temperature=how), layers=3, predicts=True, target=True,
        chance=lambda n, how: 4 * how * np.log(n),
    ),
    "simsiam": Method(lambda z, p, t, _: losses.simsiam(p, z), layers=3, predicts=True),
    "barlow_twins": Method(lambda z, p, t, _: losses.barlow_twins(z), layers=3),
    "vicreg": Method(lambda z, p, t, _: losses.vicreg(z), layers=3),
}  # fmt: skip


def make_loss(model, method: Method, view, kind: str, *, temperature: float, decay: float):
    """The stage's loss: a pure function of parameters, statistics, batch and key.

    The target network lies among the statistics, {"target": its variables}: it is no parameter, since nothing differentiates it, and is
    moved at the beginning of the next update instead of the end of this one, which is the same.
    """
    still = model.clone(predicts=False)

    def loss_fn(params, batch_stats, batch, key):
        clip = views.to_float(batch["image"])
        seen = clips.at_the_door(jnp.concatenate([view(k, clip) for k in jax.random.split(key)]), kind)
        own = {name: tree for name, tree in batch_stats.items() if name != "target"}
        (z, p), updated = model.apply({"params": params, "batch_stats": own}, seen, train=True, mutable=["batch_stats"])
        statistics, t = dict(updated["batch_stats"]), z
        if method.target:
            old = batch_stats["target"]
            online = jax.lax.stop_gradient({name: params[name] for name in old["params"]})
            moved = ema(old["params"], online, decay)
            (t, _), seen_by = still.apply({"params": moved, "batch_stats": old["batch_stats"]}, seen, train=True, mutable=["batch_stats"])
            statistics["target"] = {"params": moved, "batch_stats": dict(seen_by["batch_stats"])}
        each = method.loss(*(x.reshape(2, len(clip), -1) for x in (z, p, t)), temperature)
        told = spread(z)
        if method.chance is not None:
            told["chance"] = method.chance(len(clip), temperature)
        return {"similarity": each.mean()}, (statistics, told)

    return loss_fn


def with_target(variables: dict[str, Any], method: Method) -> dict[str, Any]:
    """The variables a training begins with: the target is a copy of encoder and projector."""
    if not method.target:
        return variables
    params = {name: variables["params"][name] for name in ("encoder", "projector")}
    stats = {name: tree for name, tree in variables["batch_stats"].items() if name in params}
    return {**variables, "batch_stats": {**variables["batch_stats"], "target": {"params": params, "batch_stats": stats}}}


def run(run: stage_run.Run, carried: dict[str, Any] | None, train=stage_run.train) -> dict[str, Any]:
    config, block = run.config, run.config.video
    meshes.check_batch(run.mesh, block.clips, key="config.video.clips")
    batches = ClipBatches(
        run.store, run.store.patients("train"), clips=block.clips, frames=block.frames, stride=block.stride, seed=config.seed,
        shortest=(block.frames - 1) * block.stride + 1,
    )  # fmt: skip
    left = f"; {batches.left_out} too short" if batches.left_out else ""
    run.log.info(f"video: {len(batches.ids)} cines of the training patients{left}")
    method = METHODS[block.method]
    encoder = clips.make_encoder(run)
    model = models.ClipModel(
        encoder=encoder, hidden=block.hidden, features=block.features, layers=method.layers,
        normalised=method.normalised, predicts=method.predicts, momentum=config.model.bn_momentum,
    )  # fmt: skip
    variables = with_target(stage_run.initialise(run, model, clips.shape(run), carried), method)
    view = clips.make_view(block.views, temporal=block.temporal)
    loss_fn = make_loss(model, method, view, config.model.normalise, temperature=block.temperature, decay=block.decay)
    course = clips.looked_at(stage_run.course_of(run, "video"), block.look_every)
    trained = train(
        run, "video", loss_fn, variables, batches, weights={"similarity": 1.0}, validate=clips.make_look(run, encoder), course=course,
        advice=ADVICE,
    )  # fmt: skip
    if trained is None:  # a replay ends with its update
        return None
    return {kind: {name: tree for name, tree in trained[kind].items() if name != "target"} for kind in trained}
