"""Augmentation: pure functions of a key, drawn per image, on float images [N, H, W, C] in [0, 1]."""
from uscl.augment.clips import clip_view
from uscl.augment.finetune import finetune_pair
from uscl.augment.frames import View, box_to_view, common_regions, crop_resize, lattice, normalise, random_boxes, view
from uscl.augment.mixing import mix_frames
from uscl.augment.nnunet import nnunet_pair
from uscl.augment.ultrasound import ultrasound

__all__ = [
    "View",
    "box_to_view",
    "clip_view",
    "common_regions",
    "crop_resize",
    "finetune_pair",
    "lattice",
    "mix_frames",
    "nnunet_pair",
    "normalise",
    "random_boxes",
    "ultrasound",
    "view",
]
