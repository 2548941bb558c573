"""What nnU-Net's networks are planned from and learn from: parts of the labelled rows, and the plan in nnunet/plans.json."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from uscl.data.cases import fingerprint
from uscl.data.folds import five_folds
from uscl.models.plan import Plan, make_plan, read_plan, write_plan
from uscl.stages import finetune
from uscl.stages import run as stage_run
from uscl.stages.nnunet_predict import Heads
from uscl.train import hosts
from uscl.train import mesh as meshes
from uscl.types import UserError

PLACE = "nnunet"  # below the run's folder


@dataclass(frozen=True)
class Part:
    """One network: its name in metrics.jsonl, its folder below the run's, rows it learns from, rows it never sees, its seed."""

    name: str
    folder: str
    learn: np.ndarray
    held: np.ndarray
    seed: int


def labelled_rows(run: stage_run.Run) -> np.ndarray:
    """Rows the networks learn from: those of the contrastive models; with folds='five' or 'all' also that share of the validation's."""
    parts = ("train",) if run.config.nnunet.folds == "split" else ("train", "validation")
    return np.sort(np.concatenate([finetune.labelled_rows(run, part) for part in parts]))


def parts_of(run: stage_run.Run) -> list[Part]:
    """The networks of the stage, as `config.nnunet.folds` says; the store's own folds go before the five that nnU-Net deals."""
    store, seed, rows = run.store, run.config.seed, labelled_rows(run)
    if run.config.nnunet.folds != "five":
        held = store.rows_of(store.patients("validation")) if run.config.nnunet.folds == "split" else rows[:0]
        return [Part(PLACE, PLACE, rows, held, seed)]
    patients = np.array(store.patients_of_rows(rows))
    folds = store.splits.get("folds") or [held for _, held in five_folds(patients)]
    parts = []
    for k, names in enumerate(folds):
        held = np.isin(patients, names)
        own = int(np.random.SeedSequence([seed, k]).generate_state(1)[0]) % 2**31
        parts.append(Part(f"{PLACE}_fold_{k}", f"{PLACE}/fold_{k}", rows[~held], rows[held], own))
    return parts


def plan_of(run: stage_run.Run, parts: Sequence[Part]) -> Plan:
    """The plan in nnunet/plans.json, made from the rows of `labelled_rows` where there is none yet; edited there, it counts.

    Raises: UserError where it was edited after the training had begun, or does not fit the store or the devices.
    """
    path = run.folder / PLACE / "plans.json"
    noted = path.with_name("plans_begun_with.json")
    if hosts.agree(int(not path.exists())):
        plan = _make_plan(run)  # by each of several processes, so that none waits for one that could not
        if hosts.primary():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_plan(plan, path)
    hosts.wait_for(path)
    plan = read_plan(path)
    if plan.channels != 1:
        raise UserError(f"{path}: normalization_schemes: found {plan.channels} channels; the frames of a store have 1")
    meshes.check_batch(run.mesh, plan.batch, key=f"config.nnunet.batch (0: {path}, batch_size)")
    begun = any(any((run.folder / part.folder).glob("checkpoints/[0-9]*")) for part in parts)
    if hosts.primary() and not (begun and noted.exists()):
        write_plan(plan, noted)
    hosts.wait_for(noted)
    if read_plan(noted) != plan:
        raise UserError(f"{path}: the plan has changed since the training began with {noted.name}; copy that one back, or give the changed "
                        "plan a --workdir of its own")  # fmt: skip
    return plan


def _make_plan(run: stage_run.Run) -> Plan:
    block, store = run.config.nnunet, run.store
    if block.plans:
        plan = read_plan(Path(block.plans))
    else:
        seen = fingerprint(store, labelled_rows(run))
        plan = make_plan(seen.shapes, kept=seen.kept, values=Heads.of(store, block.regions).entries, preset=block.preset, base=block.base)
    return replace(plan, batch=block.batch) if block.batch else plan
