"""What a stage's network is of, and so which stages can take what another has learnt."""

import json
from collections.abc import Mapping
from typing import Any

from uscl.config import flatten
from uscl.types import UserError

HANDING_ON = ("encoder", "decoder", "finetune", "video", "anatomy")  # stages whose parts a later stage can take by name
ENDS = ("evaluate", "classify", "saliency", "planes")  # stages that hand on what they were given
KINDS = {"video": "clips", "classify": "clips", "saliency": "clips", "anatomy": "stills", "planes": "stills"}  # all others: "frames"
SEGMENTING = ("finetune", "evaluate")  # of stills as well, where this knob names a network with a ResNet in it:
NETWORK, PLAIN = "finetune.network", "unet"


def flat(config) -> dict[str, Any]:
    """ "block.name" -> value, as config.json has it."""
    return flatten(json.loads(config.to_json()))


def kind_of(stage: str, settings: Mapping[str, Any]) -> str:
    """What the stage's network is of: "frames", "clips" or "stills". settings: the run's flat configuration."""
    if stage in SEGMENTING and settings.get(NETWORK, PLAIN) != PLAIN:
        return "stills"
    return KINDS.get(stage, "frames")


def trained(settings: Mapping[str, Any]) -> str:
    """The last stage of a run that learnt what a next one can take; "" without any."""
    return next((stage for stage in reversed(settings.get("stages", ())) if stage not in ENDS), "")


def check_order(config) -> None:
    """UserError where a stage would pass by what the one before it has learnt, because its network is of another kind."""
    stages, settings = [name for name in config.stages if name in HANDING_ON], flat(config)
    for before, after in zip(stages[:-1], stages[1:], strict=True):
        has, needs = kind_of(before, settings), kind_of(after, settings)
        if has != needs:
            fitting = f", or choose a config.{NETWORK} that fits" if after == "finetune" and before != "video" else ""
            raise UserError(
                f"config.stages: found {before!r} before {after!r}; the first has a network of {has}, the second one of {needs}, "
                f"so nothing would be handed on; make them two runs{fitting}"
            )
