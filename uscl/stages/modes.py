"""Four ways to learn from few labels, whatever is told apart: a random encoder or a pretrained one, held still or trained whole.

Frozen encoders are in inference mode and only a linear layer over them is fitted, to its minimum (`metrics.fit_linear`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from uscl import metrics, models
from uscl.data.fractions import label_subset
from uscl.stages import run as stage_run
from uscl.stages.start import HANDING_ON
from uscl.train import checkpoint, hosts
from uscl.types import UserError

PRETRAINED, FROZEN = ("features", "finetuned"), ("random", "features")
PARTS = ("train", "validation", "test")


class Cell(NamedTuple):
    """One classifier: its mode, label fraction and draw, how many labels it learnt from, and its scores [n, ...] of validation and test."""

    mode: str
    fraction: float
    draw: int
    labels: int
    validation: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Task:
    """What is told apart, and how. Labelled sets are named tuples with cine, label and patient, each [n].

    stage: its name, also that of its block of the configuration and of its folder. parts: {part: labelled set}. shape: of an input.
    features(variables of the encoder, cines) -> [n, count, D], logits(variables, cines) -> [n, count, K]: of `count` inputs a cine.
    scores: logits [n, count, K] -> [n, ...], what a cell keeps. judge: (label [n], scores) -> the figure of a look, the larger the better.
    batches: (labelled set, seed) -> labelled batches. neighbours: with more than 0 as many vote, in a cell "MODE_knn" beside each frozen
    mode's linear layer; they score by probabilities [n, K].
    """

    stage: str
    parts: dict[str, Any]
    model: models.Classifier
    shape: tuple[int, ...]
    features: Callable[[Any, np.ndarray], np.ndarray]
    logits: Callable[[Any, np.ndarray], np.ndarray]
    scores: Callable[[np.ndarray], np.ndarray]
    judge: Callable[[np.ndarray, np.ndarray], float]
    loss: Callable
    batches: Callable[[Any, int], Any]
    neighbours: int = 0


def make_loss(model, seen: Callable[[jax.Array, jax.Array], jax.Array]):
    """Cross-entropy of a labelled batch; seen(key, image) is what the network is shown of the stored image."""

    def loss_fn(params, batch_stats, batch, key):
        shown = seen(key, batch["image"])
        logits, updated = model.apply({"params": params, "batch_stats": batch_stats}, shown, train=True, mutable=["batch_stats"])
        each = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), batch["target"])
        return {"cross_entropy": each.mean()}, (updated["batch_stats"], {})

    return loss_fn


def few(labelled, fraction: float, *, seed: int):
    """A share of a labelled set, over as many patients as it reaches and with the classes in their proportion; nested for one seed.

    At least one of each class that it holds: fewer would be no classification. A smaller share gives the same then.
    """
    rows, n = np.arange(len(labelled.cine)), len(labelled.cine)
    classes = labelled.label[:, None] == np.unique(labelled.label)
    for count in range(max(1, round(fraction * n)), n + 1):
        kept = label_subset(rows, labelled.patient.tolist(), count / n, seed=seed, classes=classes)
        if classes[kept].any(0).all():
            break
    return labelled._replace(cine=labelled.cine[kept], label=labelled.label[kept], patient=labelled.patient[kept])


def check_source(config, stage: str, source: str) -> None:
    """UserError where a mode of `stage` wants a pretrained encoder and neither the stage `source` nor config.start is there to give it."""
    lacking = [mode for mode in config[stage].modes if mode in PRETRAINED]
    before = [name for name in config.stages[: config.stages.index(stage)] if name in HANDING_ON]
    if lacking and before[-1:] != [source] and (before or not config.start):
        how = f"put {source!r} before {stage!r} in config.stages, or name a run in config.start"
        raise UserError(f"config.{stage}.modes: {lacking[0]!r} needs a pretrained encoder; {how}")


def learn(run: stage_run.Run, carried: dict[str, Any] | None, task: Task, train) -> list[Cell] | None:
    """The cells of all modes at each label fraction and draw of the stage's block; None where a replay has ended in the middle.

    Leaves in the run's folder, by mode, the classifier of the first draw at the last fraction.
    """
    config, block, parts = run.config, run.config[task.stage], task.parts
    known: dict[Any, dict[str, np.ndarray]] = {}
    networks: dict[str, Any] = {}

    def begin(mode: str, draw: int) -> dict[str, Any]:
        fresh = models.initialise(task.model, config.seed * 1000 + draw, task.shape)
        return models.transfer(carried, fresh) if mode in PRETRAINED else fresh

    def frozen(mode: str, draw: int, labelled) -> dict[str, dict[str, np.ndarray]]:
        name = (mode, 0 if mode in PRETRAINED else draw)
        if name not in known:
            variables = {kind: tree["encoder"] for kind, tree in begin(mode, draw).items()}
            known[name] = {part: task.features(variables, found.cine) for part, found in parts.items()}
        seen = known[name]["train"][np.isin(parts["train"].cine, labelled.cine)]
        classes = task.model.classes
        fitted = metrics.fit_linear(seen.reshape(-1, seen.shape[-1]), np.repeat(labelled.label, seen.shape[1]), classes=classes)
        if draw == 0:
            networks[mode] = with_head(begin(mode, draw), fitted)
        asked = {part: known[name][part] for part in ("validation", "test")}
        found = {mode: {part: task.scores(z @ fitted.weight + fitted.bias) for part, z in asked.items()}}
        if task.neighbours:
            near = {"k": min(task.neighbours, len(seen)), "classes": classes}
            votes = {part: metrics.knn_probe(seen.mean(1), labelled.label, test=z.mean(1), **near) for part, z in asked.items()}
            found[f"{mode}_knn"] = votes
        return found

    def whole(mode: str, fraction: float, draw: int, labelled) -> dict[str, dict[str, np.ndarray]] | None:
        name = f"{task.stage}/{mode}_{100 * fraction:g}_{draw}"
        optimizer = stage_run.make_optimizer(learning_rate=block.learning_rate, schedule=block.schedule, steps=block.steps)

        def score(variables, part):
            return task.scores(task.logits(variables, parts[part].cine))

        def look(state):
            variables = {"params": state.params, "batch_stats": state.batch_stats}
            return task.judge(parts["validation"].label, score(variables, "validation"))

        trained = train(
            run, name, task.loss, begin(mode, draw), task.batches(labelled, config.seed * 1000 + draw), weights={"cross_entropy": 1.0},
            course=stage_run.Course(block.steps, optimizer, block.look_every, name), validate=look,
        )  # fmt: skip
        if trained is None:  # a replay ends with its update
            return None
        if draw == 0:
            networks[mode] = trained
        return {mode: {part: score(trained, part) for part in ("validation", "test")}}

    cells = []
    for fraction in block.fractions:
        for draw in range(block.draws):
            labelled = few(parts["train"], fraction, seed=config.seed * 1000 + draw)
            for mode in block.modes:
                found = frozen(mode, draw, labelled) if mode in FROZEN else whole(mode, fraction, draw, labelled)
                if found is None:
                    return None
                cells += [Cell(name, fraction, draw, len(labelled.cine), of["validation"], of["test"]) for name, of in found.items()]
    if hosts.primary():
        for mode, variables in networks.items():
            checkpoint.save_weights(network_folder(run, task.stage, mode), jax.device_get(variables))
    hosts.wait_for(network_folder(run, task.stage, list(networks)[-1]))  # the others read them next
    return cells


def with_head(variables: dict[str, Any], fitted: metrics.Linear) -> dict[str, Any]:
    """The network whose head is the fitted layer."""
    head = {"kernel": fitted.weight.astype(np.float32), "bias": fitted.bias.astype(np.float32)}
    return {**variables, "params": {**variables["params"], "head": head}}


def network_folder(run: stage_run.Run, stage: str, mode: str):
    return run.folder / stage / "networks" / mode
