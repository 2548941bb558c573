"""nnU-Net, the fully supervised baseline: plans itself from the training frames, learns from random weights, as version 2 does in 2-D.

    python launch/main.py --config=configs/nnunet.py[:paper]

Faithful by default. Switches lead further:
    --config.nnunet.preset=resenc_l              the residual encoder; also resenc_m, resenc_xl
    --config.nnunet.folds=five                   five networks over the training and validation patients, their logits averaged
    --config.nnunet.upright=True                 no vertical flips and half turns, which no ultrasound image survives
    --config.nnunet.regions=True                 overlapping classes by a sigmoid each
    --config.nnunet.loss.speckle=1               the speckle loss beside Dice and cross-entropy
    --config.finetune.label_fraction=0.1         the labelled frames that the contrastive models get at this fraction
"""

from uscl import config as uscl_config


def get_config(scale="quick"):
    config = uscl_config.default(scale)
    config.experiment = "nnunet"
    config.stages = ("nnunet", "evaluate")
    return config
