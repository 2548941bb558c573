"""Batches too large for the network's memory: encoded in chunks, compared as a whole, each chunk encoded again for the gradient.

What is usually called gradient caching (Gao et al. 2021, "Scaling deep contrastive learning batch size under memory limited setup").
Plain accumulation of gradients would compare each chunk's images with those of the same chunk only.
"""
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# encode(params, batch_stats, images) -> outputs, new batch_stats; every leaf of images and of outputs has one row for each image
EncodeFn = Callable[[Any, Any, Any], tuple[Any, Any]]


def in_chunks(encode: EncodeFn, chunks: int) -> EncodeFn:
    """Makes an `encode` that holds the activations of one chunk of the batch at a time, forward and backward.

    It goes where `encode` stood, inside any loss; `jax.value_and_grad` of that loss then is gradient caching, without a step of its own:

        1. z = encode(chunk) for chunk after chunk, keeping z and no activation
        2. the loss and its gradient with respect to all of z, on the whole batch
        3. encode(chunk) once more for each chunk, pulling its part of that gradient back; the parameters' gradients are summed

    Value and gradient are those of the whole batch, up to the order of sums, if `encode` treats every image by itself. BatchNorm in
    training does not: its mean and variance here are the chunk's ("ghost" batch normalisation), both in the value and in the gradient.
    So with BatchNorm the gradient is the exact one of a network that normalises chunk by chunk, which is another network than that of
    the whole batch: the larger the chunk, the closer. Exact statistics of the whole batch would need every layer to wait for all
    chunks, and taking them as constants would give a gradient that is exact for nothing.

    The running statistics that return are the mean of what each chunk makes of the old ones: the running mean is that of the whole
    batch, the running variance leaves out how far the chunks' means lie apart.

    Chunk c holds the images c, c + chunks, c + 2 chunks, ...: every chunk sees all of the batch's cines where its frames lie in a row,
    both views of a frame where the views lie one after the other, and a share of every device where the batch is split over devices.

    Args:
        encode: pure. Random numbers are drawn for the whole batch outside and passed in with the images, as an array with a row for each
            image, so that an image gets the same ones whatever the number of chunks.
        chunks: how many; 1 returns `encode` itself. The batch must be a multiple; with D devices each chunk should be a multiple of D.

    Returns:
        The new `encode`: outputs in the batch's order, batch_stats of the old ones' structure.

    Raises:
        ValueError: chunks below 1; at the call, a batch that is no multiple of it.

    Known values: encode = x * w with loss sum(z)^2 / 2, images 1, 2, 3, 4 and w = 1: gradient 100 whatever the chunks.
    """
    if chunks < 1:
        raise ValueError(f"chunks: found {chunks}; at least 1 is needed")
    if chunks == 1:
        return encode

    def split(leaf):
        if len(leaf) % chunks:
            raise ValueError(f"chunks: {len(leaf)} images do not split into {chunks} chunks of one size")
        return jnp.moveaxis(leaf.reshape(len(leaf) // chunks, chunks, *leaf.shape[1:]), 1, 0)

    def join(leaf):
        return jnp.moveaxis(leaf, 0, 1).reshape(-1, *leaf.shape[2:])

    def chunked(params, batch_stats, images):
        # Inside a loop nothing could be shared between the two passes, so the barriers against that are left out.
        again = jax.checkpoint(encode, prevent_cse=False)

        def one(total, chunk):
            outputs, new = again(params, batch_stats, chunk)
            return jax.tree.map(jnp.add, total, new), outputs

        start = jax.tree.map(jnp.zeros_like, batch_stats)
        total, outputs = jax.lax.scan(one, start, jax.tree.map(split, images))
        return jax.tree.map(join, outputs), jax.tree.map(lambda sum_: (sum_ / chunks).astype(sum_.dtype), total)

    return chunked
