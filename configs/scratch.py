"""The same network from random weights: the pipeline without its two pretraining stages.

python launch/main.py --config=configs/scratch.py[:paper]
"""

from uscl import config as uscl_config


def get_config(scale="quick"):
    config = uscl_config.default(scale)
    config.experiment = "scratch"
    config.stages = ("finetune", "evaluate")
    return config
