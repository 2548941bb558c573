"""Networks (Flax Linen, NHWC; clips NTHWC) and the transfer of their parts between stages."""
from uscl.models.clip_heads import ClipModel
from uscl.models.conv3d import convolve_clip
from uscl.models.darknet3d import Classifier, ClipEncoder, Darknet3D
from uscl.models.heads import GlobalModel, LocalModel, RegionHead
from uscl.models.initial import initialise
from uscl.models.pyramid import ResNetFPN, ResNetUNet
from uscl.models.resnet import ResNet
from uscl.models.still_heads import StillModel
from uscl.models.transfer import parameter_count, transfer
from uscl.models.unet import Decoder, Encoder, Tail, UNet

__all__ = [
    "Classifier", "ClipEncoder", "ClipModel", "Darknet3D", "Decoder", "Encoder", "GlobalModel", "LocalModel", "RegionHead", "ResNet",
    "ResNetFPN", "ResNetUNet", "StillModel", "Tail", "UNet", "convolve_clip", "initialise", "parameter_count", "transfer",
]  # fmt: skip
