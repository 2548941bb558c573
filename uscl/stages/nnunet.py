"""nnU-Net (Isensee et al. 2021, version 2.8.1 of the code) as a stage: planned from the data, trained from random weights."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from uscl import models
from uscl.data.patches import PatchBatches
from uscl.metrics import components
from uscl.models.nnunet import NNUNet
from uscl.models.plan import Plan, initial_patch, read_plan, rotation_range
from uscl.stages import predict
from uscl.stages import run as stage_run
from uscl.stages.nnunet_loss import WithGray, make_loss
from uscl.stages.nnunet_plan import PLACE, Part, labelled_rows, parts_of, plan_of
from uscl.stages.nnunet_predict import AXES, Heads, make_tiles, make_values
from uscl.train import hosts
from uscl.train.logs import write_json
from uscl.train.schedules import nesterov_sgd, poly_by_epoch
from uscl.types import UserError

UPRIGHT = 15.0  # largest turn of a patch that keeps the probe on top [degrees]

__all__ = ["label_maps", "labelled_rows", "run"]


def make_network(run: stage_run.Run, plan: Plan, heads: Heads) -> NNUNet:
    return NNUNet.of(plan, heads.count, dtype=run.config.model.dtype, remat=run.config.model.remat)


def run(run: stage_run.Run, carried: dict[str, Any] | None, train=stage_run.train) -> dict[str, Any] | None:
    """Trains the networks one after the other, each resuming by itself, and decides on the post-processing. Their last weights count."""
    config, block = run.config, run.config.nnunet
    if carried is not None:
        raise UserError(f"config.stages: found {tuple(config.stages)!r}; nnunet learns from random weights, so no stage may come before it")
    parts = parts_of(run)
    plan, heads = plan_of(run, parts), Heads.of(run.store, block.regions)
    network = make_network(run, plan, heads)
    turn = min(rotation_range(plan.patch), UPRIGHT) if block.upright else rotation_range(plan.patch)
    weights = {name: block.loss[name] for name in ("dice", "cross_entropy", "speckle") if block.loss[name] > 0}
    loss_fn = make_loss(network, plan, heads, weights=weights, speckle=config.finetune.speckle, turn=turn, upright=block.upright)
    steps = block.epochs * block.iterations
    optimizer = nesterov_sgd(poly_by_epoch(steps, rate=block.learning_rate, epoch=block.iterations))
    plain = make_tiles(network, plan, run.mesh, mirror=())
    networks = {}
    for part in parts:
        batches = PatchBatches(
            run.store, part.learn, patch=plan.patch, read=initial_patch(plan, turn=turn), batch=plan.batch, masked=plan.masked,
            classes=heads.regions or None, seed=part.seed,
        )  # fmt: skip
        variables = {"batch_stats": {}} | models.initialise(network, part.seed, (*plan.patch, 1))
        note_network(run, parameters=models.parameter_count(variables["params"]), networks=len(parts), heads=heads, turn=turn)

        def look(state, held=part.held):
            values_of = make_values(plain, [state.params], heads, masked=plan.masked)
            return predict.mean_dsc(predict.label_maps(values_of, run.store, held, batch=config.evaluate.batch), run.store.classes)

        trained = train(
            run, part.name, loss_fn, variables, WithGray(batches) if "speckle" in weights else batches,
            weights=weights, equalise=block.loss.equalise and "speckle" in weights, validate=look if len(part.held) else None,
            course=stage_run.Course(steps, optimizer, block.validate_every * block.iterations, part.folder, keep="last"),
        )  # fmt: skip
        if trained is None:  # a replay ends with its update
            return None
        networks[part.name] = trained["params"]
    return {"params": networks, "batch_stats": {}, "rules": rules_of(run, parts, networks) if block.postprocess else None}


def note_network(run: stage_run.Run, *, parameters: int, networks: int, heads: Heads, turn: float) -> None:
    """What the report says beside the plan, in nnunet/network.json."""
    path = run.folder / PLACE / "network.json"
    facts = {"parameters": parameters, "networks": networks, "heads": heads.count, "regions": bool(heads.regions)}
    write_json(path, facts | {"augmentation": "upright" if run.config.nnunet.upright else "faithful", "turn": turn})


def mirrored_axes(run: stage_run.Run) -> tuple[str, ...]:
    """Axes that are mirrored at inference: those that the augmentation mirrors."""
    return ("columns",) if run.config.nnunet.upright else AXES


def label_maps(run: stage_run.Run, carried: dict[str, Any], rows: np.ndarray, watch=None) -> dict[str, np.ndarray]:
    """What the networks that the stage returned see together in the labelled frames `rows`; see `predict.label_maps`.

    watch is shown "probability" [n, H, W, K] as well where the heads are a softmax.
    """
    return _maps(run, list(carried["params"].values()), rows, carried["rules"], watch)


def _maps(
    run: stage_run.Run, networks: Sequence[Any], rows: np.ndarray, rules: dict[str, Any] | None = None, watch=None
) -> dict[str, np.ndarray]:
    """Label maps as they count in the end: mirrored, from the mean of the networks, post-processed."""
    plan, heads = read_plan(run.folder / PLACE / "plans.json"), Heads.of(run.store, run.config.nnunet.regions)
    tiles = make_tiles(make_network(run, plan, heads), plan, run.mesh, mirror=mirrored_axes(run))
    values_of = make_values(tiles, networks, heads, masked=plan.masked, rules=rules, watched=watch is not None)
    return predict.label_maps(values_of, run.store, rows, batch=run.config.evaluate.batch, watch=watch)


def rules_of(run: stage_run.Run, parts: Sequence[Part], networks: dict[str, Any]) -> dict[str, Any] | None:
    """Which largest components are kept, decided once on the rows each network never saw, and kept in nnunet/postprocessing.json.

    None where no row was held out: then nothing can be decided.
    """
    path, classes = run.folder / PLACE / "postprocessing.json", run.store.classes
    if not any(len(part.held) for part in parts):
        run.log.info("nnunet: no patient was held out, so there is no post-processing")
        return None
    if hosts.agree(int(not path.exists())):
        seen = [_maps(run, [networks[part.name]], part.held) for part in parts if len(part.held)]
        maps = {name: np.concatenate([one[name] for one in seen]) for name in ("prediction", "label")}
        rules = components.decide(maps["prediction"], maps["label"], classes=classes)
        after = maps | {"prediction": np.stack([components.apply(one, rules) for one in maps["prediction"]])}
        run.log.info(f"nnunet: {len(maps['label'])} held-out images, mean DSC {predict.mean_dsc(maps, classes):.3f}, "
                     f"{predict.mean_dsc(after, classes):.3f} after post-processing")  # fmt: skip
        write_json(path, rules)
    hosts.wait_for(path)
    return json.loads(path.read_text())
