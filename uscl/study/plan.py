"""A study as data: experiments as differences from a file in `configs/`, and what follows: jobs, and the pretrainings they share."""

import importlib
import runpy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from uscl import config as uscl_config
from uscl.study.keys import PRETRAINING, chain, pretraining_key
from uscl.types import UserError

ROOT = Path(__file__).parents[2]  # where configs/ and launch/ stand
STUDIES = ("kidney", "lung", "anatomy", "heads")  # modules beside this one, each with load(scale) -> Study
AXES = ("experiment", "scale", "seed", "stages", "start", "finetune.label_fraction", "data.fold")  # the study sets these itself


@dataclass(frozen=True)
class Experiment:
    """One row of one table: a file of `configs/` and what differs from it. `row` is what the papers' table calls it.

    A model that stands in several tables is one experiment in each; equal settings are trained once.
    """

    name: str
    table: str
    row: str
    config: str
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """Experiments x label fractions x seeds, and where base["data.cross"] asks for a cross-validation x its folds.

    fractions: {table: shares of the labels}. base: {key: value} that all experiments share. scores: what the runs write, "cases" of
    segmentations, or "videos" or "planes" told apart; runs of these kinds go through their label fractions themselves, so one share stands
    for all. public: experiments that `with_weights` adds, which begin from a file of public weights.
    """

    name: str
    scale: str
    experiments: tuple[Experiment, ...]
    seeds: tuple[int, ...]
    fractions: Mapping[str, tuple[float, ...]]
    base: Mapping[str, Any]
    scores: str = "cases"
    public: tuple[Experiment, ...] = ()

    @property
    def folds(self) -> tuple[int, ...]:
        """Of the cross-validation; -1 is the store's own split."""
        return tuple(range(self.base.get("data.cross", 0))) or (-1,)


@dataclass(frozen=True)
class Job:
    """One cell of a table: an experiment at a label fraction, a seed and a fold, with the pretraining it begins from, by its key, or None.

    stages: those that are the job's own. key: equal for jobs of which one run serves both.
    """

    experiment: Experiment
    fraction: float
    seed: int
    fold: int
    pretraining: str | None
    stages: tuple[str, ...]
    config: Any
    key: str


def load(name: str, scale: str = "quick") -> Study:
    """The study of that name in `uscl/study/`; UserError for another name or scale."""
    if name not in STUDIES:
        raise UserError(f"--study: found {name!r}; allowed are {', '.join(STUDIES)}")
    if scale not in uscl_config.SCALES:
        raise UserError(f"--scale: found {scale!r}; allowed are {', '.join(uscl_config.SCALES)}")
    return importlib.import_module(f"uscl.study.{name}").load(scale)


def with_weights(study: Study, file: str) -> Study:
    """The study with the rows that begin from this file of public weights; UserError where it has none, or there is no such file."""
    if not study.public:
        raise UserError(f"--weights: the study {study.name!r} has no row that begins from public weights; leave it out")
    if not Path(file).is_file():
        raise UserError(f"--weights: found {file!r}; there is no such file; allowed is a .safetensors file of a public ResNet")
    start = {"start": str(Path(file).resolve())}
    rows = tuple(replace(experiment, changes={**experiment.changes, **start}) for experiment in study.public)
    return replace(study, experiments=(*study.experiments, *rows))


def override(study: Study, changes: Mapping[str, Any]) -> Study:
    """The study with these values in all its experiments; UserError for a key that the study or one of its rows sets."""
    for key in changes:
        rows = [experiment.name for experiment in study.experiments if key in experiment.changes]
        if key in AXES or rows:
            setter = f"in its experiment {rows[0]!r}" if rows else "itself, for each run"
            raise UserError(f"config.{key}: the study {study.name!r} sets it {setter}; it can't be set for all")
    return replace(study, base={**study.base, **changes})


def only(study: Study, names: Sequence[str], seeds: Sequence[int] = ()) -> Study:
    """The study with these of its experiments and these seeds, its own for none; UserError for an experiment it does not have."""
    known = {experiment.name: experiment for experiment in study.experiments}
    for name in names:
        if name not in known:
            raise UserError(f"--only: found {name!r}; the experiments of {study.name} are {', '.join(known)}")
    kept = tuple(experiment for name, experiment in known.items() if name in names) or study.experiments
    tables = {experiment.table for experiment in kept}
    fractions = {table: shares for table, shares in study.fractions.items() if table in tables}
    return replace(study, experiments=kept, fractions=fractions, seeds=tuple(dict.fromkeys(seeds)) or study.seeds)


def jobs(study: Study) -> list[Job]:
    """All cells asked for: experiments in their order, then fractions, seeds and folds. Each configuration is valid."""
    names = [experiment.name for experiment in study.experiments]
    if len(set(names)) < len(names):
        raise ValueError(f"{study.name}: names of experiments must differ: {sorted(n for n in set(names) if names.count(n) > 1)}")
    return [
        _job(study, experiment, fraction, seed, fold)
        for experiment in study.experiments
        for fraction in study.fractions[experiment.table]
        for seed in study.seeds
        for fold in study.folds
    ]


def axes(study: Study, seed: int, fold: int) -> dict[str, Any]:
    """What a cell's place in the study sets, and its pretraining's."""
    return {"seed": seed} | ({"data.fold": fold} if fold >= 0 else {})


def _job(study: Study, experiment: Experiment, fraction: float, seed: int, fold: int) -> Job:
    share = {"finetune.label_fraction": fraction} if study.scores == "cases" else {}
    place = {"experiment": experiment.name, **axes(study, seed, fold), **share}
    config = make_config(experiment.config, study.scale, study.base, experiment.changes, place)
    pretraining = pretraining_key(config)
    own = tuple(stage for stage in config.stages if stage not in PRETRAINING)
    key = chain(config, config.stages)
    config.stages = own
    uscl_config.validate(config)
    return Job(experiment, fraction, seed, fold, pretraining, own, config, key)


def make_config(name: str, scale: str, *changes: Mapping[str, Any]) -> Any:
    """configs/NAME.py at that scale with each of `changes` laid over it. UserError for a key that is not there."""
    config = uscl_config.default(scale)
    flat = {**file_values(name, scale), **{key: value for change in changes for key, value in change.items()}}
    for key in flat:
        if key not in uscl_config.KNOBS:
            raise UserError(f"config.{key}: there is no such key")
    config.update_from_flattened_dict(flat)
    return config


@cache
def file_values(name: str, scale: str) -> dict[str, Any]:
    """{"block.name": value} of configs/NAME.py, which is run once."""
    path = ROOT / "configs" / f"{name}.py"
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; a study runs from a clone of the repository, where configs/ stands beside uscl/")
    return uscl_config.flatten(runpy.run_path(str(path))["get_config"](scale))
