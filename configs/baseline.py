"""Chaitanya's global and local contrastive model, the kidney papers' baseline, with a cine's time axis in place of a volume's slices.

    python launch/main.py --config=configs/baseline.py[:paper]

At paper scale the encoder attracts frames from the same quarter of any cine (G^D), at quick scale the two views of a frame (G^R), because
the partition rule does not leave chance in a few hundred steps. The decoder attracts the same region in two views (L^R) at both.
"""

from uscl import config as uscl_config


def get_config(scale="quick"):
    config = uscl_config.default(scale)
    config.experiment = "baseline"
    return config
