"""What a network makes of many images or clips: batch by batch in one compiled shape, over all devices and processes."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from uscl.stages import run as stage_run
from uscl.stages import views
from uscl.train import mesh as meshes


def make_batched(
    run: stage_run.Run, apply: Callable[[Any, jax.Array], jax.Array], door: Callable[[jax.Array, str], jax.Array], *, batch: int, key: str
) -> Callable[[Any, Callable[[np.ndarray], np.ndarray], int], np.ndarray]:
    """batched(variables, read, n) -> float32 [n, D]: `apply(variables, images)` on what `read(rows)` has of rows 0 to n - 1.

    read returns uint8 images or clips, which go through `door`. One shape, one compilation: the last batch is filled up. Of several
    processes each asks for all, computes its share and gets the whole. UserError, naming the knob `key`, for a batch that does not split
    over the devices.
    """
    mesh, kind = run.mesh, run.config.model.normalise
    meshes.check_batch(mesh, batch, key=key)
    everywhere = meshes.replicated(mesh)

    def seen(variables, image):
        return apply(variables, door(views.to_float(image), kind))

    compiled = jax.jit(seen, in_shardings=(everywhere, meshes.batch_sharding(mesh)), out_shardings=everywhere)

    def batched(variables, read, n: int) -> np.ndarray:
        variables, found = meshes.put_replicated(mesh, variables), []
        for start in range(0, n, batch):
            rows = np.minimum(np.arange(start, start + batch), n - 1)[meshes.share(mesh, batch)]
            image = meshes.put_batch(mesh, {"image": read(rows)})["image"]
            found.append(np.asarray(compiled(variables, image))[: n - start])
        return np.concatenate(found)

    return batched
