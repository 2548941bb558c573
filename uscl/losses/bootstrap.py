"""Losses that predict one view from the other, without negatives: the target is held still, and a predictor follows it."""
import jax
import jax.numpy as jnp

from uscl.losses.contrastive import _unit


def byol(prediction, target) -> jax.Array:
    """BYOL: what the online network predicts against what the target network sees in the other view (Grill et al. 2020, eq. 2).

    With p_v and t_v the two networks' outputs for view v, and u(x) = x / |x|:

        loss_i = |u(p_1i) - u(t_2i)|^2 + |u(p_2i) - u(t_1i)|^2 = [2 - 2 cos(p_1i, t_2i)] + [2 - 2 cos(p_2i, t_1i)]

    Args:
      prediction: [2, N, D], the online network's predictions, by view; any float type, any length.
      target: [2, N, D], the target network's projections of the same views in the same order; they change places here. No gradient
        reaches them, not even through weights the two networks share.

    Returns: [N] float32 in [0, 8]. A zero vector has cosine 0 with everything, and gradient 0.

    Raises: ValueError for shapes that do not fit.

    Known values: each prediction along the other view's target: 0, gradient 0; orthogonal: 4; opposite: 8, gradient 0, since no way is
    shorter than another. p = (2, 0) against t = (0, 1): 2 from this direction, gradient (0, -1).
    """
    return _apart(prediction, target).sum(axis=0)


def simsiam(prediction, projection) -> jax.Array:
    """SimSiam: as BYOL, with the network itself as its target (Chen and He 2021, eq. 4).

        loss_i = -cos(p_1i, z_2i) / 2 - cos(p_2i, z_1i) / 2 = byol_i / 4 - 1

    Args:
      prediction: [2, N, D], the predictor's outputs p, by view; any float type, any length.
      projection: [2, N, D], its inputs z in the same order; they change places here. No gradient reaches them as targets: z learns
        through p alone.

    Returns: [N] float32 in [-1, 1]. A zero vector has cosine 0 with everything, and gradient 0.

    Raises: ValueError for shapes that do not fit.

    Known values: -1 where each prediction points along the other view's projection, 0 where orthogonal, 1 where opposite.
    """
    return _apart(prediction, projection).sum(axis=0) / 4 - 1


def _apart(prediction, target) -> jax.Array:
    """[2, N]: 2 - 2 cos between each view's predictions and the other view's targets.

    From the difference of unit vectors: at the end of training 1 - cos itself would keep no digit of a small angle.
    """
    prediction, target = _views(prediction, target)
    a, b = _unit(prediction), _unit(jax.lax.stop_gradient(target[::-1]))
    missing = sum(jnp.where(jnp.any(x != 0, axis=-1), 0.0, 1.0) for x in (a, b))  # a zero vector is not of length 1
    return jnp.square(a - b).sum(axis=-1) + missing


def _views(*arrays, least=1) -> list[jax.Array]:
    """Embeddings of two views in float32, shapes checked."""
    arrays = [jnp.asarray(x).astype(jnp.float32) for x in arrays]
    shapes = [x.shape for x in arrays]
    if len(shapes[0]) != 3 or shapes[0][0] != 2 or shapes[0][1] < least or len(set(shapes)) > 1:
        raise ValueError(f"embeddings [2, N, D] of two views expected, N at least {least}: found {' and '.join(map(str, shapes))}")
    return arrays
