"""The speckle paper's model: contrastive pretraining as in `baseline.py`, fine-tuned with Dice plus the Nakagami speckle loss.

    python launch/main.py --config=configs/speckle.py[:paper]

Both terms weigh the same (`finetune.loss.equalise`). On grey values with Omega and m as printed; switches lead further:
    --config.finetune.speckle.form=log_parameters    compare ln m and ln Omega
    --config.finetune.speckle.envelope=True          undo log compression first
    --config.finetune.speckle.form=map               compare parameters of small windows
"""

from uscl import config as uscl_config


def get_config(scale="quick"):
    config = uscl_config.default(scale)
    config.experiment = "speckle"
    config.finetune.loss.speckle = 1.0
    return config
