"""The lung paper: a clip encoder pretrained by BYOL, videos classified with few labels in its four modes, and what the networks look at.

    python launch/main.py --config=configs/lung.py[:paper]

Quick scale runs on phantom lungs. A store of videos with a label column in attributes.csv takes their place by one override:
    --config.data.store=STORE                        made by launch/prepare.py; classify.column, .negative say which label counts
    --config.video.method=simclr                     also moco_v3, simsiam, barlow_twins, vicreg
    --config.video.temporal=False                    the paper's ablation: views keep the order of their frames
"""

from uscl import config as uscl_config


def get_config(scale="quick"):
    config = uscl_config.default(scale)
    config.experiment = "lung"
    config.stages = ("video", "classify", "saliency")
    config.data.phantom = "lung"
    if scale == "quick":
        config.data.size, config.data.frames, config.data.patients = 64, 16, 300
        config.data.test = 0.4
    return config
