"""Chaitanya's global and local contrastive model, the kidney papers' baseline, with the cine's time axis in place of a volume's slices.

    python launch/main.py --config=configs/baseline.py[:paper]

The encoder attracts frames from the same quarter of any cine (partition rule); the decoder attracts the same region in two views.
"""

from uscl import config as uscl_config


def get_config(scale="quick"):
    config = uscl_config.default(scale)
    config.experiment = "baseline"
    return config
