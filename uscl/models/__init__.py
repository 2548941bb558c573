"""Networks (Flax Linen, NHWC) and the transfer of their parts between stages."""
from uscl.models.heads import GlobalModel, LocalModel, RegionHead
from uscl.models.initial import initialise
from uscl.models.transfer import parameter_count, transfer
from uscl.models.unet import Decoder, Encoder, Tail, UNet

__all__ = ["Decoder", "Encoder", "GlobalModel", "LocalModel", "RegionHead", "Tail", "UNet", "initialise", "parameter_count", "transfer"]
