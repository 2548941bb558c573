"""NT-Xent (SimCLR's loss), forward and backward, beside lightly's."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from uscl.study.bench_peers import compare
from uscl.study.bench_worker import Contender

TEMPERATURE = 0.1


def embeddings(batch: int, features: int) -> np.ndarray:
    """float32 [2, batch, features]: two views of each image, whose embeddings resemble each other."""
    rng = np.random.default_rng(0)
    image = rng.standard_normal((batch, features))
    return (image + 0.5 * rng.standard_normal((2, batch, features))).astype(np.float32)


def ours(folder: str, batch: int, features: int) -> Contender:
    """`info_nce` with every other image negative; the pair matrices are made inside the program, as in a training step."""
    import jax
    import jax.numpy as jnp

    from uscl import losses, temporal
    from uscl.train import pages

    pages.keep()  # as a run does

    def loss(z, image):
        weights = temporal.temporal_weights(image, image, kind="none")
        positive, negative = temporal.pair_weights(weights, image, negatives="all", views=2)
        return losses.info_nce(z, positive, negative, temperature=TEMPERATURE, denominator="all").mean()

    both = jax.jit(jax.value_and_grad(loss))
    z, image = jnp.asarray(embeddings(batch, features).reshape(2 * batch, features)), jnp.arange(batch)
    value, gradient = both(z, image)
    return Contender({"loss": value, "gradient": gradient}, lambda: jax.block_until_ready(both(z, image)))


def lightly(folder: str, batch: int, features: int) -> Contender:
    import torch

    operators = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from lightly.loss import NTXentLoss

    criterion = NTXentLoss(temperature=TEMPERATURE)
    z0, z1 = (torch.from_numpy(view).requires_grad_() for view in embeddings(batch, features))

    def both():
        z0.grad = z1.grad = None
        loss = criterion(z0, z1)
        loss.backward()
        return loss

    value = both()
    gradient = torch.cat([z0.grad, z1.grad]).numpy().copy()
    return Contender({"loss": value.detach().numpy(), "gradient": gradient}, both, note={"threads": torch.get_num_threads()})


def nt_xent() -> Iterator[dict[str, Any]]:
    """D = 128, B = 512 and 1024 images in two views each."""
    for batch in (512, 1024):
        here = "uscl.study.bench_ntxent"
        options = {"batch": batch, "features": 128}
        yield compare("nt_xent", f"{here}:ours", f"{here}:lightly", options, library="lightly", size=f"B={batch} D=128", goal=3.0)
