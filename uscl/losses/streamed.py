"""The contrastive losses without [M, M] matrices: weights and similarities exist one block at a time, so memory grows with M.

Values and gradients are those of `uscl.losses.contrastive`; `uscl.losses.stream` walks the blocks. Work still grows with M^2.
"""
import jax
import jax.numpy as jnp

from uscl.losses.contrastive import _MASKED, _TINY, _TOUCHING, _fixed, _ratio, _unit
from uscl.losses.stream import Rule, stream

_HIGHEST = jax.lax.Precision.HIGHEST


def streamed_info_nce(z, pairs, *, temperature=0.1, denominator="pair", block=1024) -> jax.Array:
    """`info_nce` for batches whose [M, M] matrices do not fit: same formula, same corner cases, memory O(M D + block^2).

    Args:
      z: [M, D] embeddings, as for `info_nce`.
      pairs: pairs(i, j) -> (positive, negative), the [len(i), len(j)] weights of rows i and columns j, both int32 in 0 .. M - 1, such as
        `uscl.temporal.pair_blocks` makes. It must be pure. It may use arrays from outside, traced ones too, but no gradient flows into
        them: weights are constants here. The diagonal is ignored.
      temperature: > 0, as for `info_nce`; may be traced, and differentiated.
      denominator: "pair" or "all". "pair" goes over the blocks twice, because the sum of the negatives must be known first.
      block: largest side of a block. It sets memory and speed, not the result; M need not be a multiple of it.

    Returns: [M] float32 in nats; 0, with gradient exactly 0, for an anchor without positives.

    Inside `jit` with z split over devices, each device takes its share of the rows of every block, against all columns: work is divided,
    while the [M, D] columns and their gradient are held by each device.

    Raises: ValueError for an unknown denominator, a temperature or block that is not positive, or shapes that do not fit.

    Known values: those of `info_nce`; all embeddings equal, N frames in two views, the rest repelled: log(2N - 1) in both forms.
    """
    if denominator not in ("pair", "all"):
        raise ValueError(f"denominator: found {denominator!r}; allowed are 'pair' and 'all'")
    fixed, unit = _fixed(temperature), _unit(_embeddings(z))
    form, slope = (_pair_form, _pair_slope) if denominator == "pair" else (_all_form, _all_slope)
    if fixed:
        unit = unit / jnp.sqrt(temperature)
        return stream(Rule(_product, form, slope, _pull_along), unit, unit, pairs, block)
    return stream(Rule(_product, form, slope, _pull_product), unit / temperature, unit, pairs, block)  # the rows' length has a gradient


def streamed_pairwise(z, pairs, *, margin=1.0, distance="euclidean", block=1024) -> jax.Array:
    """`pairwise_contrastive` for batches whose [M, M] matrices do not fit: same formula, same corner cases, memory O(M D + block^2).

    Args: z, pairs and block as for `streamed_info_nce`; margin, a plain number, and distance as for `pairwise_contrastive`.

    Returns: [M] float32; 0, with gradient exactly 0, for an anchor without a pair; the gradient is finite at distance 0.

    Raises: ValueError for an unknown distance, a block that is not positive, or shapes that do not fit.

    Known values: those of `pairwise_contrastive`; all embeddings equal and every pair negative: margin^2 / 2.
    """
    if distance not in ("euclidean", "cosine"):
        raise ValueError(f"distance: found {distance!r}; allowed are 'euclidean' and 'cosine'")
    euclidean = distance == "euclidean"

    def distances(x):  # and their squares
        return (jnp.sqrt(jnp.where(x > _TOUCHING, x, 0.0)), x) if euclidean else (1.0 - x, jnp.square(1.0 - x))

    def per_anchor(fold):
        def step(carry, x, p, n):
            d, squared = distances(x)
            each = p * squared + n * jnp.square(jnp.maximum(0.0, margin - d))
            return carry[0] + each.sum(axis=1, keepdims=True) / 2, carry[1] + (p + n).sum(axis=1, keepdims=True)

        total, weight = fold(step, (0.0, 0.0))
        return _ratio(total, weight), (_ratio(1.0, weight),)

    def slope(x, p, n, kept):
        d, _ = distances(x)
        push = n * jnp.maximum(0.0, margin - d)
        if euclidean:  # by the squared distance, whose own slope at 0 is finite
            return kept[0] * (p - jnp.where(d > 0, push / jnp.where(d > 0, d, 1.0), 0.0)) / 2
        return kept[0] * (push - p * d)

    unit = _unit(_embeddings(z))
    measure, pull = (_squared_distance, _pull_squared) if euclidean else (_product, _pull_along)
    return stream(Rule(measure, per_anchor, slope, pull), unit, unit, pairs, block)


def _pair_form(fold):
    top, total = fold(lambda carry, x, p, n: _grow(*carry, x, n), (_MASKED, 0.0))
    others = top + jnp.log(jnp.where(total > 0, total, 1.0))  # about -1e9 where nothing repels

    def step(carry, x, p, n):
        over = others - x
        terms = p * jax.nn.softplus(over), p * jax.nn.sigmoid(over), p
        return tuple(old + new.sum(axis=1, keepdims=True) for old, new in zip(carry, terms, strict=True))

    loss, share, weight = fold(step, (0.0, 0.0, 0.0))
    return _ratio(loss, weight), (others, _ratio(share, weight), _ratio(1.0, weight))


def _pair_slope(x, p, n, kept):
    others, share, inverse = kept
    ratio = jnp.exp(x - others)  # infinite only where nothing repels
    return share * jnp.where(n > _TINY, n * ratio, 0.0) - inverse * (p / (1 + ratio))


def _all_form(fold):
    def step(carry, x, p, n):
        top, total, below, weight = carry
        new, total = _grow(top, total, x, jnp.where(p > 0, 1.0, n))
        # Positives are summed as distances below the largest similarity: sums of the similarities themselves would cancel.
        below = below - weight * (new - top) + (p * (x - new)).sum(axis=1, keepdims=True)
        return new, total, below, weight + p.sum(axis=1, keepdims=True)

    top, total, below, weight = fold(step, (_MASKED, 0.0, 0.0, 0.0))
    log_total = jnp.log(jnp.where(total > 0, total, 1.0))
    return _ratio(weight * log_total - below, weight), (top + log_total, _ratio(weight, weight), _ratio(1.0, weight))


def _all_slope(x, p, n, kept):
    every, share, inverse = kept
    weight = jnp.where(p > 0, 1.0, n)
    return share * jnp.where(weight > _TINY, weight * jnp.exp(x - every), 0.0) - inverse * p


def _grow(top, total, x, weight):
    """One more block for sum_k weight_k e^{x_k}, held as e^top * total with top the largest x so far; entries of weight 0 do not count."""
    counts = weight > _TINY
    new = jnp.maximum(top, jnp.where(counts, x, _MASKED).max(axis=1, keepdims=True))
    return new, total * jnp.exp(top - new) + jnp.where(counts, weight * jnp.exp(x - new), 0.0).sum(axis=1, keepdims=True)


def _product(a, b):
    return jnp.matmul(a, b.T, precision=_HIGHEST)


def _pull_product(g, a, b):
    return jnp.matmul(g, b, precision=_HIGHEST), jnp.matmul(g.T, a, precision=_HIGHEST)


def _pull_along(g, a, b):
    """The pull along the sphere where the rows' length is fixed, from their differences: see `_cosine` in `uscl.losses.contrastive`."""
    middle = b.mean(axis=0)
    a, b = a - middle, b - middle
    left, right = _pull_product(g, a, b)
    return left - g.sum(axis=1)[:, None] * a, right - g.sum(axis=0)[:, None] * b


def _squared_distance(a, b):
    return jnp.square(a[:, None, :] - b[None, :, :]).sum(axis=-1)  # never stored; 2 - 2 cos would lose small distances to rounding


def _pull_squared(g, a, b):
    left, right = _pull_along(g, a, b)
    return -2 * left, -2 * right


def _embeddings(z):
    z = jnp.asarray(z).astype(jnp.float32)
    if z.ndim != 2:
        raise ValueError(f"z [M, D] expected: found {z.shape}")
    return z
