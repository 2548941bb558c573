"""The temporal-similarity paper's model: frames near in time attract, in the stages that `temporal.stages` names.

    python launch/main.py --config=configs/temporal.py[:paper]

One override a row of the paper's table:
    --config.temporal.kind=binary|linear         1 within `temporal.margin` frames, or falling to 0 over the cine
    --config.temporal.negatives=other_cines|all  positive pairs only, or also the cine's own far frames (hard negatives)
    --config.temporal.loss=info_nce|pairwise
    --config.temporal.stages="('encoder','decoder')"
Past the paper: .kind=gaussian|sigmoid, .unit=seconds, .curriculum=near_to_far with .negatives=all.
"""

from uscl import config as uscl_config


def get_config(scale="quick"):
    config = uscl_config.default(scale)
    config.experiment = "temporal"
    config.temporal.stages = ("encoder",)
    return config
