"""What the two kidney papers print, as literals, with their slips: figures to put beside ours. Nothing here is measured by this code.

TEMPORAL_PAPER and SPECKLE_PAPER share authors, data (514 labelled images, 4 classes) and most models. No table has an error bar or says
how many runs stand behind a figure. Their contrastive baseline, trained alike as far as the text tells, has a mean DSC of 0.504, 0.442 and
0.42 at 10 % of the labels in three tables, 0.582, 0.547 and 0.55 at 50 %, 0.571, 0.544 and 0.54 at 100 %. The largest gain that a table
shows over its own baseline is 0.025.
"""

from typing import NamedTuple

TEMPORAL_PAPER = (
    "Singla, Ringstrom, Lessoway, Reid, Ngan, Rohling: Using Temporal Similarity in Contrastive Learning for Multi-class Kidney Ultrasound "
    "Segmentation"
)
SPECKLE_PAPER = (
    "Singla, Ringstrom, Lessoway, Reid, Rohling, Ngan: Ultrasound-inspired Adaptations for Multi-class Contrastive Segmentation "
    "(under review for MIDL 2022)"
)


class Printed(NamedTuple):
    """A printed table. columns: what a row's figures are, in order. rows: {key: figures}. notes: what a reader should know."""

    title: str
    source: str
    columns: tuple
    rows: dict
    notes: tuple[str, ...]


class Speckle(NamedTuple):
    """A cell of the speckle table: mean DSC, higher is better, and |delta-SNR| (log10), lower is better."""

    dsc: float
    delta_snr: float


# Mean DSC over the four classes; columns are shares of the labels.
LABEL_CURVE = Printed(
    "Experiment 1: label efficiency",
    f"{TEMPORAL_PAPER}, Table 1",
    (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    {
        "nnunet": (0.333, 0.375, 0.439, 0.516, 0.521, 0.549, 0.544, 0.565, 0.554, 0.569, 0.557, 0.570),
        "contrastive": (0.276, 0.443, 0.504, 0.563, 0.572, 0.561, 0.582, 0.575, 0.582, 0.565, 0.558, 0.571),
    },
    (
        "The speckle paper's Table 1 is the same to two digits, without the column of 5 %.",
        "The text names other shares than the table has: 1, 10, 25, 50, 75 and 100 %.",
        "Of the same figures the temporal paper says that nnU-Net's mean is matched at 30 % of the labels, the speckle paper at 20 %, "
        "where 0.563 is still below 0.570. Straight over the logarithm the curve crosses at 27 %.",
        "More labels often do worse: nnU-Net by 0.012 from 80 to 90 %, the contrastive model by 0.024 from 70 to 90 %.",
    ),
)
SHARE_CLAIMED = {TEMPORAL_PAPER: 0.3, SPECKLE_PAPER: 0.2}  # share of labels at which each says the contrastive model matches nnU-Net

# Mean DSC over the four classes. Key: loss, kind of weights, own far frames among the negatives, stage; columns are shares of the labels.
TEMPORAL = Printed(
    "Experiment 2: temporal similarity",
    f"{TEMPORAL_PAPER}, Table 2",
    (0.1, 0.5, 1.0),
    {
        ("info_nce", "none", False, "none"): (0.442, 0.547, 0.544),
        ("info_nce", "binary", False, "encoder"): (0.453, 0.512, 0.530),
        ("info_nce", "binary", False, "decoder"): (0.467, 0.525, 0.541),
        ("info_nce", "binary", False, "both"): (0.450, 0.503, 0.534),
        ("pairwise", "binary", False, "encoder"): (0.426, 0.532, 0.553),
        ("pairwise", "binary", False, "decoder"): (0.435, 0.526, 0.542),
        ("pairwise", "binary", False, "both"): (0.431, 0.535, 0.534),
        ("pairwise", "linear", False, "encoder"): (0.413, 0.515, 0.538),
        ("pairwise", "linear", False, "decoder"): (0.437, 0.510, 0.541),
        ("pairwise", "linear", False, "both"): (0.399, 0.505, 0.542),
        ("pairwise", "binary", True, "encoder"): (0.445, 0.515, 0.535),
        ("pairwise", "binary", True, "decoder"): (0.433, 0.522, 0.541),
        ("pairwise", "binary", True, "both"): (0.460, 0.530, 0.536),
        ("pairwise", "linear", True, "encoder"): (0.424, 0.512, 0.555),
        ("pairwise", "linear", True, "decoder"): (0.420, 0.522, 0.547),
        ("pairwise", "linear", True, "both"): (0.428, 0.524, 0.527),
    },
    (
        "The caption says positive pairs only; the last six rows have negative pairs.",
        "The speckle paper's Table 2 has the binary rows, the same to two digits (but 0.53 for this table's 0.535 at 50 %).",
        "The first row is the baseline. Five rows of fifteen are above it at 10 %, none at 50 %, three at 100 %.",
        "InfoNCE was not run with linear weights or with negatives of the same cine.",
    ),
)

# Key: model, with the speckle loss, share of the labels.
SPECKLE = Printed(
    "Experiment 3: speckle loss",
    f"{SPECKLE_PAPER}, Table 3",
    ("cortex", "medulla", "cec", "all"),
    {
        key: tuple(Speckle(*cell) for cell in cells)
        for key, cells in {
            ("contrastive", False, 0.1): ((0.21, 0.34), (0.29, 0.28), (0.54, 0.13), (0.42, 0.25)),
            ("contrastive", True, 0.1): ((0.04, 0.29), (0.13, 0.22), (0.44, 0.15), (0.34, 0.22)),
            ("contrastive", False, 0.5): ((0.31, 0.30), (0.38, 0.22), (0.68, 0.10), (0.55, 0.20)),
            ("contrastive", True, 0.5): ((0.20, 0.38), (0.33, 0.24), (0.57, 0.12), (0.48, 0.25)),
            ("contrastive", False, 1.0): ((0.30, 0.31), (0.38, 0.22), (0.67, 0.31), (0.54, 0.20)),
            ("contrastive", True, 1.0): ((0.19, 0.36), (0.23, 0.23), (0.55, 0.36), (0.45, 0.24)),
            ("nnunet", False, 1.0): ((0.43, 0.24), (0.46, 0.19), (0.75, 0.08), (0.57, 0.17)),
            ("nnunet", True, 1.0): ((0.37, 0.32), (0.28, 0.23), (0.29, 0.24), (0.39, 0.26)),
        }.items()
    },
    (
        "Delta-SNR is a disagreement with the truth, so smaller is better; the table prints larger figures in bold.",
        "'all' of delta-SNR is the mean of the three tissues, 'all' of DSC that of four classes: the capsule is not printed.",
        "The two delta-SNR of the central echogenic complex at 100 %, contrastive (0.31 and 0.36), are probably misprints that repeat the "
        "cortex: with them the means are 0.28 and 0.32 and not the printed 0.20 and 0.24, which 0.07 and 0.13 would give.",
        "At 50 % with the speckle loss DSC 0.33, 0.57 and 0.48 are bold though the baseline's are higher.",
    ),
)
MISPRINTS = {  # (row, column) of SPECKLE whose delta-SNR does not fit its row's mean -> the figure that would
    (("contrastive", False, 1.0), "cec"): 0.07,
    (("contrastive", True, 1.0), "cec"): 0.13,
}
