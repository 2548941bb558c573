"""Fetal heads from few masks: a ResNet pretrained on the training patients' frames becomes a U-Net's encoder; DSC, and circumference in mm.

    python launch/main.py --config=configs/heads.py[:paper]

The pretraining asks for no label (SimCLR), so any store with masks of heads takes the phantom's place:
    python launch/prepare.py --source=hc18:FOLDER --size=96 --out=STORE
    --config.data.store=STORE --config.finetune.label_fraction=0.1
    --config.anatomy.ratio=1                          stills of one plane attract (AWCL), where the store tells planes
    --config.finetune.network=resnet_fpn              a feature pyramid in the U-Net's place
    --config.stages="('finetune', 'evaluate')"        from random weights, or with --config.start=RUN from another run's encoder
"""

from uscl import config as uscl_config


def get_config(scale="quick"):
    config = uscl_config.default(scale)
    config.experiment = "heads"
    config.stages = ("anatomy", "finetune", "evaluate")
    config.data.phantom = "fetal"
    config.anatomy.ratio, config.anatomy.frames = 0.0, 1  # one frame of each cine, so that stills without a plane are drawn as sweeps are
    config.finetune.network = "resnet_unet"
    config.evaluate.circumference = "head"
    if scale == "quick":
        config.data.size, config.data.frames, config.data.patients = 64, 24, 40
    return config
