"""The lung study: the paper's table of modes, its curve over label fractions, and its row without temporal augmentation.

modes     BYOL and SimCLR, each as a frozen feature extractor and fine-tuned, beside random features and training from random weights
temporal  BYOL on views that keep the order of their frames

A run goes through all label fractions itself, so that its features are computed once; a seed is a pretraining, first weights and a choice
of labelled videos. With --config.data.cross=5 every fold is pretrained and tested by itself: no test patient is seen before, not even
without a label.
"""

from typing import Any

from uscl.study.plan import Experiment, Study

LEARNT = {"classify.modes": ("features", "finetuned")}
FRESH = {"classify.modes": ("random", "supervised"), "stages": ("classify", "saliency")}

EXPERIMENTS = (
    Experiment("byol", "modes", "BYOL", "lung", {"video.method": "byol", **LEARNT}),
    Experiment("simclr", "modes", "SimCLR", "lung", {"video.method": "simclr", **LEARNT}),
    Experiment("supervised", "modes", "random weights", "lung", FRESH),
    Experiment("byol_still", "temporal", "BYOL, order kept", "lung", {"video.method": "byol", "video.temporal": False, **LEARNT}),
)
TABLES = {"modes": (1.0,), "temporal": (1.0,)}  # the shares are the runs' own: classify.fractions

PAPER = {"seeds": (0, 1, 2, 3, 4), "base": {"classify.draws": 1}}
QUICK: dict[str, Any] = {"seeds": (0, 1, 2), "base": {"classify.draws": 1, "classify.fractions": (0.1, 0.3, 1.0)}}


def load(scale: str) -> Study:
    return Study("lung", scale, EXPERIMENTS, fractions=TABLES, scores="videos", **(QUICK if scale == "quick" else PAPER))
