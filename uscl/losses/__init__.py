"""Losses: one float32 value per anchor or image, never reduced; the step takes the mean."""
from uscl.losses.contrastive import info_nce, pairwise_contrastive
from uscl.losses.local import local_pairs, region_corners, region_neighbours, sample_regions
from uscl.losses.segmentation import cross_entropy, soft_dice
from uscl.losses.speckle import speckle_loss
from uscl.losses.streamed import streamed_info_nce, streamed_pairwise

__all__ = [
    "cross_entropy",
    "info_nce",
    "local_pairs",
    "pairwise_contrastive",
    "region_corners",
    "region_neighbours",
    "sample_regions",
    "soft_dice",
    "speckle_loss",
    "streamed_info_nce",
    "streamed_pairwise",
]
