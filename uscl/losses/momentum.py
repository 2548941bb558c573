"""Contrast against a slowly moving copy of the network: queries learn, keys are given."""
import jax
import jax.numpy as jnp

from uscl.losses.bootstrap import _views
from uscl.losses.contrastive import _fixed, _unit


def moco_v3(query, key, *, temperature=0.2) -> jax.Array:
    """MoCo v3: a query finds the key of its own image's other view among the keys of all N images (Chen, Xie and He 2021, algorithm 1).

    With s_ij = cos(q_1i, k_2j) / temperature, and s'_ij = cos(q_2i, k_1j) / temperature:

        loss_i = 2 temperature [ -s_ii + log sum_j e^{s_ij} ] + 2 temperature [ -s'_ii + log sum_j e^{s'_ij} ]

    The negatives of a query are the keys of the other view alone. The factor lets the size of the gradient depend little on the
    temperature: attraction alone is -2 cos, BYOL's but for a constant.

    Args:
      query: [2, N, D], outputs of the online network's predictor, by view; any float type, any length.
      key: [2, N, D], outputs of the momentum network, of the same views in the same order; they change places here. No gradient
        reaches them.
      temperature: > 0; the authors' code has 0.2 for vision transformers and 1 for ResNet-50. May be traced, and differentiated.

    Returns: [N] float32, nats times 2 temperature. A zero vector has cosine 0 with everything, and gradient 0.

    Raises: ValueError for a temperature that is not positive, or shapes that do not fit.

    Known values: all embeddings equal: 4 temperature log(N). Each query along its own key, keys orthogonal:
    4 temperature log(1 + (N - 1) e^{-1/temperature}). N = 1: 0.
    """
    _fixed(temperature)
    query, key = _views(query, key)
    q, k = _unit(query), _unit(jax.lax.stop_gradient(key[::-1]))
    k = k - k.mean(axis=1, keepdims=True)  # moves a row's s_ij alike, which changes no loss; of nearly equal keys the digits are kept
    s = jnp.einsum("vid,vjd->vij", q, k, precision=jax.lax.Precision.HIGHEST) / temperature
    own = jnp.where(jnp.eye(s.shape[1], dtype=bool), s, 0.0).sum(axis=-1)
    return 2 * temperature * (jax.nn.logsumexp(s, axis=-1) - own).sum(axis=0)
