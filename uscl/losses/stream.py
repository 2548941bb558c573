"""Walks the [M, M] blocks of a loss over pairs, forward and backward, holding one of them at a time."""
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun


class Rule(NamedTuple):
    """A loss as the stream sees it. x [B, B] is what `measure` finds between rows a and columns b [B, D]; p and n are the block's weights.

    per_anchor(fold) -> loss, kept: fold(step, start) runs carry = step(carry, x, p, n) over a row of blocks. All of these are [B, 1].
    slope(x, p, n, kept) -> d loss_i / d x_ij. pull(g, a, b) -> what a gradient g with respect to x is with respect to a and to b.
    """

    measure: Callable
    per_anchor: Callable
    slope: Callable
    pull: Callable


def stream(rule: Rule, rows, columns, pairs, block) -> jax.Array:
    """The losses of `rule` between rows and columns [M, D], without a matrix larger than a block.

    The gradient is exact: the forward pass keeps what `rule` asks for, three numbers an anchor at most, and the backward pass computes
    each block once more, takes its slope and multiplies it out before the next.

    Args:
      rule: the loss.
      rows, columns: [M, D] float32; the embeddings twice, or scaled copies of them. Gradients reach both.
      pairs: pairs(i, j) -> (positive, negative), as for `uscl.losses.streamed_info_nce`.
      block: largest side of a block. Blocks are of one size, the smallest that takes as few of them; the last is filled with weight 0.

    Returns: [M] float32.

    Raises: ValueError for a block that is not positive, or pairs of another shape.
    """
    if block < 1:
        raise ValueError(f"block: found {block}; it must be positive")
    count, width = rows.shape
    steps = -(-count // block)
    size = -(-count // steps)
    rows, columns = (jnp.pad(x, ((0, steps * size - count), (0, 0))) for x in (rows, columns))
    # Block k of the rows is k, k + steps, k + 2 steps ...: where the batch is split over devices, each has its share of every block.
    rows, columns = rows.reshape(size, steps, width).swapaxes(0, 1), columns.reshape(steps, size, width)
    numbers = np.arange(steps, dtype=np.int32)

    def row_index(k):
        return k + steps * jnp.arange(size, dtype=jnp.int32)

    def column_index(k):
        return k * size + jnp.arange(size, dtype=jnp.int32)

    # What `pairs` uses from outside becomes an argument, because a custom derivative must not close over traced values.
    closed, shapes = jax.make_jaxpr(pairs, return_shape=True)(row_index(0), column_index(0))
    if [x.shape for x in jax.tree.leaves(shapes)] != 2 * [(size, size)]:
        raise ValueError(f"pairs: two blocks {(size, size)} expected for {size} rows and columns, found {shapes}")

    def weights(outside, row, column):
        i, j = row_index(row), column_index(column)
        blocks = jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, outside))(jnp.minimum(i, count - 1), jnp.minimum(j, count - 1))
        counts = (i[:, None] != j[None, :]) & (j < count)[None, :]  # neither the diagonal nor the padding
        return [jnp.where(counts, x.astype(jnp.float32), 0.0) for x in blocks]

    def forward(rows, columns, outside):
        def of_rows(block_of_rows):
            a, row = block_of_rows

            def fold(step, start):
                def body(carry, block_of_columns):
                    b, column = block_of_columns
                    return step(carry, rule.measure(a, b), *weights(outside, row, column)), None

                return jax.lax.scan(body, tuple(jnp.full((size, 1), x) for x in start), (columns, numbers))[0]

            return rule.per_anchor(fold)

        loss, kept = jax.lax.map(of_rows, (rows, numbers))
        return loss, (rows, columns, outside, kept)

    def backward(saved, d_loss):
        rows, columns, outside, kept = saved

        def of_rows(d_columns, block_of_rows):
            a, row, kept, d_loss = block_of_rows

            def body(d_a, block_of_columns):
                b, column, d_b = block_of_columns
                slope = d_loss * rule.slope(rule.measure(a, b), *weights(outside, row, column), kept)
                d_left, d_right = rule.pull(slope, a, b)
                return d_a + d_left, d_b + d_right

            d_a, d_columns = jax.lax.scan(body, jnp.zeros_like(a), (columns, numbers, d_columns))
            return d_columns, d_a

        d_columns, d_rows = jax.lax.scan(of_rows, jnp.zeros_like(columns), (rows, numbers, kept, d_loss))
        return d_rows, d_columns, None

    losses = jax.custom_vjp(lambda *inputs: forward(*inputs)[0])
    losses.defvjp(forward, backward)
    return losses(rows, columns, closed.consts).swapaxes(0, 1).reshape(-1)[:count]
