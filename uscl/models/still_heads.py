"""What pretraining on stills puts behind a ResNet: AWCL's and USCL's projector, and a layer that tells planes apart."""

import flax.linen as nn
import jax

from uscl.models.clip_heads import GLOROT, Perceptron
from uscl.models.resnet import ResNet


class StillModel(nn.Module):
    """Images [N, H, W, C] -> (projection [N, features], scores of the classes before the softmax [N, classes]), float32 both.

    Parts: `encoder`, `projector` (a hidden layer with ReLU, no norm), and with classes `head`, one layer on the projection.

    Known values: 328 320 parameters in the projector 512 -> 512 -> 128, 393 984 in USCL's 512 -> 512 -> 256.
    """

    encoder: ResNet
    hidden: int = 512
    features: int = 128
    classes: int = 0

    def setup(self):
        self.projector = Perceptron(self.hidden, self.features, normalised=False)
        if self.classes:
            self.head = nn.Dense(self.classes, kernel_init=GLOROT)

    def __call__(self, x, train: bool) -> tuple[jax.Array, jax.Array]:
        z = self.projector(self.encoder(x, train), train)
        return z, self.head(z) if self.classes else z[:, :0]
