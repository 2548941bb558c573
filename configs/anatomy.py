"""Anatomy-aware contrastive learning: a ResNet pretrained on stills of known planes among sweeps, then planes told apart with few labels.

    python launch/main.py --config=configs/anatomy.py[:paper]

Quick scale runs on phantom fetuses. A store of stills with a plane in attributes.csv takes their place by one override:
    --config.data.store=STORE                     made by launch/prepare.py; anatomy.column, planes.column say where the plane is told
        FETAL_PLANES_DB has no sweeps, and its planes in two columns: .anatomy.frames=1 .anatomy.column=plane+brain_plane
        .anatomy.coarse=plane .planes.column=plane+brain_plane
    --config.anatomy.level=coarse                 coarse labels, of column anatomy.coarse: all views of one anatomy attract
    --config.anatomy.ratio=0.3                    keep a label with this probability; 0 is SimCLR
    --config.anatomy.near.kind=binary             frames near in time attract as well
    --config.anatomy.method=uscl                  USCL: mixed frames, each cine an item
"""

from uscl import config as uscl_config


def get_config(scale="quick"):
    config = uscl_config.default(scale)
    config.experiment = "anatomy"
    config.stages = ("anatomy", "planes")
    config.data.phantom = "fetal"
    if scale == "quick":
        config.data.size, config.data.frames, config.data.patients = 64, 24, 40
    return config
