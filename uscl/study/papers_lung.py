"""What the lung paper prints, as literals, with its slips: figures to put beside ours. Nothing here is measured by this code.

The counts of videos add up: 25,394 unlabelled and 1,669 labelled are 27,063, and 1,296, 120 and 253 are those 1,669. The four figures of
each row of Table 3 hold together where 46 % of the 253 test videos are positive, a share that the paper does not print.
"""

from uscl.study.papers import Printed

LUNG_PAPER = (
    "Chen, Rubin, Ouyang and others: Contrastive Self-supervised Learning for Spatio-temporal Analysis of Lung Ultrasound Videos"
)
VIDEOS = {"all": 27063, "unlabelled": 25394, "labelled": 1669, "train": 1296, "validation": 120, "test": 253}
PATIENTS, SITES = 528, 8
TRAINABLE = {"random": 38, "supervised": 133880, "features": 38, "finetuned": 133880}  # parameters that learn from labels
TEMPORAL_COST = 0.02  # of AUC, by pretraining without the temporal operations; no model and no share of the labels is named
FEW_LABELS = 0.3  # share of the labels below which the paper sees its supervised network fall

# With all the labels. Key: how the encoder is pretrained (or "none"), mode. None where the paper prints nothing.
CLASSIFIED = Printed(
    "Table 3: classification with all the labels",
    f"{LUNG_PAPER}, Table 3; the supervised row from the text of section 4.2",
    ("accuracy", "sensitivity", "specificity", "auc"),
    {
        ("byol", "features"): (0.78, 0.69, 0.86, 0.86),
        ("byol", "finetuned"): (0.84, 0.74, 0.92, 0.91),
        ("simclr", "features"): (0.76, 0.55, 0.94, 0.87),
        ("simclr", "finetuned"): (0.79, 0.68, 0.89, 0.89),
        ("none", "supervised"): (0.82, None, None, 0.91),
    },
    (
        "No interval and no number of runs is printed. 253 test videos leave about 0.04 on either side of an AUC of 0.9, so that 0.91 and "
        "0.89 can't be told apart.",
        "Section 4.2 gives the pretrained model an AUC of 0.92 with all the labels, Table 3 one of 0.91.",
        "Section 4.1 counts 1,269 labelled videos for training, Table 1 and section 4.2 count 1,296.",
        "The supervised network falls below 30 % of 'the initial training set' in the text, of 'the combined labeled and unlabeled "
        "training size' under Fig. 3; 30 % of the latter would be six times all the labels.",
        "Fig. 3, the random features and the weighted IoU come without a number; the weights of the latter are not defined.",
        "Reference [20] stands both for Darknet-53 and for occlusion; it is Zeiler and Fergus, who wrote of occlusion. The widths of the "
        "network are not printed.",
        "Section 7 follows section 4.",
    ),
)
