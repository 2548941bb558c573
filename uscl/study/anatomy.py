"""The anatomy study: do labels that choose the pairs help, finer ones more than coarse ones, and more of them more than few?

pairs  what attracts: nothing but a frame's own views (SimCLR), frames of one anatomy or of one plane, frames near in time, both, USCL's
       mixed frames; beside random features and training from random weights, and public weights where a file is given (`--weights`)
ratio  the share of the labels that are kept each time; SimCLR is its 0, fine labels are its 1

Every row is judged alike: planes told apart by frozen features (a linear layer, and nearest neighbours) and by the network trained whole,
at each share of the labels. A seed is a pretraining, first weights and a choice of labelled stills.
"""

from typing import Any

from uscl.study.plan import Experiment, Study

LEARNT = {"planes.modes": ("features", "finetuned")}
FRESH = {"planes.modes": ("random", "supervised"), "stages": ("planes",)}
RATIOS = (0.1, 0.3, 0.5, 0.8)


def row(name: str, called: str, table: str = "pairs", **changes: Any) -> Experiment:
    """A row with a pretraining of its own; changes are of the block `anatomy`, __ standing for a point."""
    named = {f"anatomy.{key.replace('__', '.')}": value for key, value in changes.items()}
    return Experiment(name, table, called, "anatomy", {**named, **LEARNT})


EXPERIMENTS = (
    row("simclr", "no labels (SimCLR)", ratio=0.0),
    row("coarse", "coarse labels", level="coarse"),
    row("fine", "fine labels", level="fine"),
    row("temporal", "near in time, no labels", ratio=0.0, near__kind="binary"),
    row("temporal_anatomy", "near in time, fine labels", near__kind="binary"),
    row("uscl", "USCL, mixed frames", method="uscl"),
    Experiment("supervised", "pairs", "random weights", "anatomy", FRESH),
    *(row(f"ratio{100 * ratio:g}", f"fine labels, {100 * ratio:g} % kept", "ratio", ratio=ratio) for ratio in RATIOS),
)
# Public networks are 64 channels wide at their stem; their depth is the study's.
PUBLIC = (Experiment("imagenet", "pairs", "public weights", "anatomy", {"anatomy.width": 64, "stages": ("planes",), **LEARNT}),)
TABLES = {"pairs": (1.0,), "ratio": (1.0,)}  # the shares are the runs' own: planes.fractions

PAPER = {"seeds": (0, 1, 2, 3, 4), "base": {"planes.draws": 1}}
QUICK: dict[str, Any] = {
    "seeds": (0, 1, 2),
    "base": {"planes.draws": 1, "planes.fractions": (0.1, 0.3, 1.0), "data.patients": 80, "data.test": 0.4},
}


def load(scale: str) -> Study:
    return Study("anatomy", scale, EXPERIMENTS, fractions=TABLES, scores="planes", public=PUBLIC, **(QUICK if scale == "quick" else PAPER))
