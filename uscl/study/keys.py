"""What determines the weights that a stage ends with: of its configuration and of those before it, as a hash that equal runs share."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uscl import config as uscl_config
from uscl.data import index
from uscl.stages.kinds import kind_of

# stage: the file of configs/ that trains it alone
PRETRAINING = {"encoder": "baseline", "decoder": "baseline", "video": "lung", "anatomy": "anatomy"}
LABELS = tuple(f"classify.{name}" for name in ("column", "negative", "ignore", "shortest"))  # which videos have which
CLIP = ("video.plan", "video.frames", "video.stride")
SEEN = {  # beginnings of the keys that a stage looks at, where they are not its own block alone
    "nnunet": ("nnunet.", "finetune.speckle.", "finetune.label_fraction"),
    "evaluate": ("evaluate.", "finetune.speckle.dynamic", "finetune.network"),
    "video": ("video.", *LABELS),
    "classify": ("classify.", "evaluate.bootstrap", "video.views.", *CLIP),
    "saliency": ("saliency.", "evaluate.bootstrap"),
    "anatomy": ("anatomy.", "planes.column", "planes.ignore"),
    "planes": ("planes.", "evaluate.bootstrap", "anatomy.views."),
}
RESNET = ("anatomy.depth", "anatomy.width")  # seen by every stage with a network of stills


def pretraining_key(config: Any) -> str | None:
    """Hash of exactly what determines the weights the pretraining stages end with; None without any.

    Seed, data, model, and of each stage its own block with the pair rule that holds in it: the stage's own or the temporal one. A store
    counts by its checksum, wherever it lies. Nothing of fine-tuning, evaluation or logging counts.
    """
    return chain(config, [stage for stage in config.stages if stage in PRETRAINING])


def chain(config: Any, stages) -> str | None:
    """Each stage's hash holds that of the stages before it, so equal beginnings have equal hashes."""
    mark, flat = None, uscl_config.flatten(config)
    for stage in stages:
        facts = [mark, stage, world(flat) if mark is None else None, relevant(flat, stage)]
        mark = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    return mark


def world(flat: Mapping[str, Any]) -> dict[str, Any]:
    """What every stage depends on: seed, model, the weights to start from, and the data by what is in them."""
    facts = {key: value for key, value in flat.items() if key == "seed" or key.startswith("model.") or (key == "start" and value)}
    if flat["data.cross"]:
        facts |= {key: flat[key] for key in ("data.cross", "data.split_seed", *LABELS, "planes.column", "planes.ignore")}
    if flat["data.store"]:
        return facts | {"store": index.read_info(Path(flat["data.store"]))["checksum"], "data.fold": flat["data.fold"]}
    return facts | {key: value for key, value in flat.items() if key.startswith("data.") and key != "data.store"}


def relevant(flat: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """What of the configuration the stage looks at, by key; the keys of the temporal rule stand where it takes the place of the stage's."""
    seen = (*SEEN.get(stage, (f"{stage}.",)), *(RESNET if kind_of(stage, flat) == "stills" else ()))
    facts = {key: value for key, value in flat.items() if key.startswith(seen)}
    if stage in PRETRAINING and stage in flat["temporal.stages"]:
        own = f"{stage}.pairs."
        facts = {key: value for key, value in facts.items() if not key.startswith(own)}
        facts |= {f"{own}{key.removeprefix('temporal.')}": value for key, value in flat.items() if key.startswith("temporal.")}
        facts.pop(f"{own}stages")
    return facts
