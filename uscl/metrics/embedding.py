"""How much of their space embeddings use. In JAX and not NumPy like the other measures, because it is taken inside the training step."""
import jax
import jax.numpy as jnp

_NOTHING = 1e-12  # variance of unit vectors, summed over dimensions, that is rounding


def spread(z) -> dict[str, jax.Array]:
    """Whether embeddings have collapsed, to a point or to a line.

    With u_i = z_i / |z_i|, and C [D, D] the covariance of u over the M embeddings:

        embedding_std  = sqrt(D) mean_d sqrt(C_dd)        1: every dimension varies as much as on a sphere; 0: all are the same
        effective_rank = tr(C)^2 / tr(C^2)                as many equal directions would share the variance like this; at most min(M - 1, D)

    The second is the participation ratio of C's eigenvalues. It needs sums of squares and no eigenvalues, so it costs one product of
    matrices, [D, M] by [M, D] or [M, D] by [D, M], whichever is the smaller result. embedding_std is at most sqrt(1 - mean cosine of all
    pairs): 0.1 says that two embeddings drawn at random have a cosine of at least about 0.99 if the dimensions vary alike.

    Args:
        z: [M, D] of any float type and any length; a zero vector stays zero. No gradient passes.

    Returns: both, float32 []; effective_rank is 0 where nothing varies.

    Known values: +-e_d, d = 1..D: embedding_std 1, effective_rank D. Points +-v of a line: effective_rank 1. All equal: 0 and 0.
    """
    z = jax.lax.stop_gradient(jnp.asarray(z).astype(jnp.float32))
    if z.ndim != 2:
        raise ValueError(f"z [M, D] expected: found {z.shape}")
    length = jnp.linalg.norm(z, axis=1, keepdims=True)
    u = z / jnp.where(length > 0, length, 1.0)
    u = u - u.mean(0)
    m, d = u.shape
    variance = jnp.square(u).mean(0)
    product = jnp.matmul(u.T, u, precision="highest") if d <= m else jnp.matmul(u, u.T, precision="highest")
    total, squares = variance.sum(), jnp.square(product / m).sum()
    some = total > _NOTHING
    rank = jnp.where(some, jnp.square(total) / jnp.where(some, squares, 1.0), 0.0)
    return {"embedding_std": d**0.5 * jnp.sqrt(variance).mean(), "effective_rank": rank}
