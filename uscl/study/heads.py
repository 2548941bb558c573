"""The heads study: does pretraining help to segment fetal heads from few masks, and to measure their circumference?

heads     a U-Net on a ResNet from random weights, pretrained by SimCLR, and by AWCL, which lets planes choose the pairs
decoder   the same under a feature pyramid, with few masks

Both decoders begin from the same pretrainings; --weights=FILE adds a row with a public ResNet's weights under each. Quick scale runs on
phantom fetuses. A store of heads takes their place by --config.data.store=STORE; where it tells no planes, as HC18 does not, AWCL's rows
have nothing to go by and are left out: --only=scratch,simclr,scratch_fpn,simclr_fpn
"""

from collections.abc import Mapping
from typing import Any

from uscl.study.plan import Experiment, Study

FRESH = {"stages": ("finetune", "evaluate")}
ROWS = {"scratch": ("random weights", FRESH), "simclr": ("SimCLR", {"anatomy.ratio": 0.0}), "awcl": ("AWCL", {"anatomy.ratio": 1.0})}
DECODERS = {"heads": ("", "", "resnet_unet"), "decoder": ("_fpn", ", FPN", "resnet_fpn")}  # by table: ending of name and of row, network


def under_both(rows: Mapping[str, tuple[str, Mapping[str, Any]]]) -> tuple[Experiment, ...]:
    """The rows {name: (what the page calls it, changes)} in each table, under its decoder."""
    return tuple(
        Experiment(name + ending, table, row + said, "heads", {"finetune.network": network, **changes})
        for table, (ending, said, network) in DECODERS.items()
        for name, (row, changes) in rows.items()
    )


EXPERIMENTS = under_both(ROWS)
# Public networks are 64 channels wide at their stem; their depth is the study's.
PUBLIC = under_both({"imagenet": ("public weights", {**FRESH, "anatomy.width": 64})})

PAPER = {"seeds": (0, 1, 2), "fractions": {"heads": (0.1, 0.25, 0.5, 1.0), "decoder": (0.1,)}, "base": {}}
QUICK: dict[str, Any] = {
    "seeds": (0, 1, 2),
    "fractions": {"heads": (0.1, 1.0), "decoder": (0.1,)},
    "base": {"data.patients": 80, "data.test": 0.4, "finetune.validate_every": 20},
}


def load(scale: str) -> Study:
    return Study("heads", scale, EXPERIMENTS, public=PUBLIC, **(QUICK if scale == "quick" else PAPER))
