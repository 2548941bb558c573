"""What pretraining on clips puts behind the encoder: a projector, and for some methods a predictor. Both are thrown away."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from uscl.models.darknet3d import ClipEncoder
from uscl.models.norms import norm

EPSILON = 1e-5  # BatchNorm's, as in torch
GLOROT = nn.initializers.glorot_uniform()


class DenseNorm(nn.Module):
    """ReLU(BatchNorm(x W)): x [N, C] -> [N, features]; statistics over the whole batch, in float32.

    In training W is given what differs among the x: their mean falls out of BatchNorm and of its gradient, and where clips look nearly
    alike to an encoder it is a hundred times what differs, whose digits it would take.
    """

    features: int
    momentum: float = 0.9

    @nn.compact
    def __call__(self, x, train: bool):
        shape = (self.features,)
        dense = nn.Dense(self.features, use_bias=False, kernel_init=GLOROT, name="dense")
        scale = self.param("scale", nn.initializers.ones, shape)
        shift = self.param("shift", nn.initializers.zeros, shape)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)
        if not train:
            return nn.relu((dense(x) - running_mean.value) * (scale * lax.rsqrt(running_var.value + EPSILON)) + shift)
        middle = lax.stop_gradient(x.mean(0))
        out, mean, var = norm(dense(x - middle)[:, None, None], scale, shift, (0, 1, 2), EPSILON, 0.0)
        if not self.is_initializing():
            mean = mean.ravel() + lax.stop_gradient(dense(middle))
            running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
            running_var.value = self.momentum * running_var.value + (1 - self.momentum) * var.ravel()
        return out[:, 0, 0]


class Perceptron(nn.Module):
    """[N, C] -> [N, features], float32: `layers` - 1 hidden layers, with BatchNorm where `normalised`, then one without a nonlinearity."""

    hidden: int = 4096
    features: int = 256
    layers: int = 2
    normalised: bool = True
    momentum: float = 0.9

    @nn.compact
    def __call__(self, x, train: bool):
        for i in range(1, self.layers):
            if self.normalised:
                x = DenseNorm(self.hidden, self.momentum, name=f"hidden{i}")(x, train)
            else:
                x = nn.relu(nn.Dense(self.hidden, kernel_init=GLOROT, name=f"hidden{i}")(x))
        return nn.Dense(self.features, kernel_init=GLOROT, name="out")(x)


class ClipModel(nn.Module):
    """Clips [N, T, H, W, C] -> (projection, prediction), float32 [N, features] both. Parts: `encoder`, `projector`, `predictor`.

    Without a predictor the prediction is the projection. The predictor is a perceptron of one hidden layer with BatchNorm.

    Known values: 4096 hidden units and 256 features behind an 18-d encoder: 1,130,752 parameters in the projector and 2,105,600 in the
    predictor; the published BYOL has 4,096 more in each, biases that the BatchNorm behind them takes away again.
    """

    encoder: ClipEncoder
    hidden: int = 4096
    features: int = 256
    layers: int = 2
    normalised: bool = True
    predicts: bool = True
    momentum: float = 0.9

    def setup(self):
        self.projector = Perceptron(self.hidden, self.features, self.layers, self.normalised, self.momentum)
        if self.predicts:
            self.predictor = Perceptron(self.hidden, self.features, momentum=self.momentum)

    def __call__(self, x, train: bool) -> tuple[jax.Array, jax.Array]:
        z = self.projector(self.encoder(x, train), train)
        return z, self.predictor(z, train) if self.predicts else z
