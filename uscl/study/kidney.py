"""The kidney study: the tables of both papers, the reference from random weights, and what goes beyond the papers.

labels    the first paper's curve: nnU-Net and the contrastive baseline over label fractions, and the same network without pretraining
temporal  its second table: which loss, which weights, positives alone or the cine's far frames as negatives, in which stage
speckle   the second paper's table: the speckle loss on the contrastive model and on nnU-Net
beyond    one switch a row: what the papers name as what might help

At paper scale everything is as published. Quick scale is for two cores and an hour: smaller frames, fewer steps, seeds and fractions, but
every row of every table.
"""

from typing import Any

from uscl.study.plan import Experiment, Study

STAGES = {"encoder": ("encoder",), "decoder": ("decoder",), "both": ("encoder", "decoder")}
SCHEMES = {
    "InfoNCE, binary, positives": ("info_nce", "binary", "other_cines"),
    "pairwise, binary, positives": ("pairwise", "binary", "other_cines"),
    "pairwise, linear, positives": ("pairwise", "linear", "other_cines"),
    "pairwise, binary, + negatives": ("pairwise", "binary", "all"),
    "pairwise, linear, + negatives": ("pairwise", "linear", "all"),
}


def temporal_rows() -> list[Experiment]:
    """InfoNCE without temporal weights, which is the baseline, then five schemes in encoder, decoder and both."""
    rows = [Experiment("temporal_none", "temporal", "InfoNCE, none", "baseline")]
    for scheme, (loss, kind, negatives) in SCHEMES.items():
        for place, stages in STAGES.items():
            name = f"{loss}_{kind}{'_negatives' if negatives == 'all' else ''}_{place}"
            rule = {"temporal.loss": loss, "temporal.kind": kind, "temporal.negatives": negatives, "temporal.stages": stages}
            rows.append(Experiment(name, "temporal", f"{scheme}, {place}", "temporal", rule))
    return rows


EXPERIMENTS = (
    Experiment("nnunet", "labels", "nnU-Net", "nnunet"),
    Experiment("baseline", "labels", "Chaitanya", "baseline"),
    Experiment("scratch", "labels", "scratch", "scratch"),
    *temporal_rows(),
    Experiment("speckle_reference", "speckle", "Chaitanya", "baseline"),
    Experiment("speckle", "speckle", "Chaitanya + speckle", "speckle"),
    Experiment("nnunet_reference", "speckle", "nnU-Net", "nnunet"),
    Experiment("nnunet_speckle", "speckle", "nnU-Net + speckle", "nnunet", {"nnunet.loss.speckle": 1.0}),
    Experiment("speckle_envelope", "beyond", "speckle on the envelope", "speckle", {"finetune.speckle.envelope": True}),
    Experiment("speckle_map", "beyond", "speckle as a parameter map", "speckle", {"finetune.speckle.form": "map"}),
    Experiment("gaussian", "beyond", "InfoNCE, gaussian weights, encoder", "temporal", {"temporal.kind": "gaussian"}),
    Experiment("sigmoid", "beyond", "InfoNCE, sigmoid weights, encoder", "temporal", {"temporal.kind": "sigmoid"}),
    Experiment(
        "seconds", "beyond", "pairwise, linear weights over 1 s, encoder", "temporal",
        {"temporal.loss": "pairwise", "temporal.kind": "linear", "temporal.unit": "seconds", "temporal.horizon": 1.0},
    ),  # fmt: skip
    Experiment(
        "curriculum", "beyond", "InfoNCE, binary, + negatives from near to far, encoder", "temporal",
        {"temporal.negatives": "all", "temporal.curriculum": "near_to_far"},
    ),  # fmt: skip
)

PAPER = {
    "seeds": (0, 1, 2),
    "fractions": {
        "labels": (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
        "temporal": (0.1, 0.5, 1.0),
        "speckle": (0.1, 0.5, 1.0),
        "beyond": (0.1, 0.5, 1.0),
    },
    "base": {},
}
QUICK: dict[str, Any] = {
    "seeds": (0, 1),
    "fractions": {"labels": (0.05, 0.2, 1.0), "temporal": (0.05,), "speckle": (0.05, 1.0), "beyond": (0.05,)},
    "base": {
        "data.size": 64, "data.frames": 24, "data.labelled": 3, "encoder.steps": 60, "decoder.steps": 40, "finetune.steps": 80,
        "finetune.batch": 8, "finetune.validate_every": 20, "nnunet.epochs": 20, "nnunet.validate_every": 20,
        "log.save_every": 40,
    },
}  # fmt: skip


def load(scale: str) -> Study:
    return Study("kidney", scale, EXPERIMENTS, **(QUICK if scale == "quick" else PAPER))
