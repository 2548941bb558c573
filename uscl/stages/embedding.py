"""Where the network puts the test patients' frames: bottleneck features, averaged over the picture, for the report's map."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from uscl import models
from uscl.augment import normalise
from uscl.stages import run as stage_run
from uscl.stages import views
from uscl.train import hosts

CINES, FRAMES = 12, 20  # enough points to see cines as lines, few enough to read the figure


def save(run: stage_run.Run, carried: dict[str, Any], path: Path) -> None:
    """Writes z [n, D], cine, frame and patient [n] of evenly spaced frames of the test patients' longest cines."""
    store = run.store
    encoder = models.Encoder(**run.model_options())
    variables = {kind: carried[kind]["encoder"] for kind in ("params", "batch_stats")}
    pool = jax.jit(
        lambda image: encoder.apply(variables, normalise(views.to_float(image), run.config.model.normalise), train=False)[-1].mean((1, 2))
    )
    cines = store.cines_of(store.patients("test"))
    cines = sorted(cines, key=lambda c: -store.length(c))[:CINES]
    z, cine, frame = [], [], []
    for c in cines:
        times = np.unique(np.linspace(0, store.length(c) - 1, FRAMES).astype(int))
        images = np.stack([store.frame(c, t) for t in np.resize(times, FRAMES)])[..., None]  # one shape, one compilation
        z.append(np.asarray(pool(images), np.float32)[: len(times)])
        cine += [c] * len(times)
        frame += times.tolist()
    patients = sorted({store.patient(c) for c in cines})
    if not hosts.primary():
        return
    np.savez_compressed(
        path, z=np.concatenate(z), cine=np.array(cine), frame=np.array(frame), patient=[patients.index(store.patient(c)) for c in cine]
    )
