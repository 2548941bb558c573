"""Losses: one float32 value per anchor or image, never reduced; the step takes the mean."""
from uscl.losses.bootstrap import byol, simsiam
from uscl.losses.contrastive import info_nce, pairwise_contrastive
from uscl.losses.labels import label_entropy
from uscl.losses.local import local_pairs, region_corners, region_neighbours, sample_regions
from uscl.losses.momentum import moco_v3
from uscl.losses.nnunet import batch_dice, deep_supervision, dice_ce, pixel_entropy, region_target, shrink, supervision_weights
from uscl.losses.redundancy import barlow_twins, vicreg
from uscl.losses.segmentation import cross_entropy, soft_dice
from uscl.losses.speckle import speckle_loss
from uscl.losses.streamed import streamed_info_nce, streamed_pairwise

__all__ = [
    "barlow_twins",
    "batch_dice",
    "byol",
    "cross_entropy",
    "deep_supervision",
    "dice_ce",
    "info_nce",
    "label_entropy",
    "local_pairs",
    "moco_v3",
    "pairwise_contrastive",
    "pixel_entropy",
    "region_corners",
    "region_neighbours",
    "region_target",
    "sample_regions",
    "shrink",
    "simsiam",
    "soft_dice",
    "speckle_loss",
    "streamed_info_nce",
    "streamed_pairwise",
    "supervision_weights",
    "vicreg",
]
