"""Where the network puts what the test patients show: their frames at its bottleneck, and each tissue just before its last layers."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from uscl import metrics
from uscl.augment import normalise
from uscl.stages import finetune, views
from uscl.stages import run as stage_run
from uscl.train import hosts
from uscl.train.logs import write_json

CINES, FRAMES = 12, 20  # enough points to see cines as lines, few enough to read the figure


class Regions:
    """Collects one embedding for each class that an image shows.

        z = mean of the decoder's features over the true pixels of the class

    By the truth and not the prediction, so that every network is asked about the same pixels. A class that is others' union is left out:
    it shares its pixels with them, and no geometry could part them.
    """

    def __init__(self, classes: dict[str, list[int]]):
        self.classes = {name: values for name, values in classes.items() if not any(set(other) < set(values) for other in classes.values())}
        self.z: list[np.ndarray] = []
        self.names: list[str] = []
        self.cines: list[int] = []

    def see(self, part: dict[str, np.ndarray]) -> None:
        """One batch: label [n, H, W], cine [n], and the "features" [n, H, W, D] of a network that gives any."""
        if "features" not in part:
            return
        for features, label, cine in zip(part["features"], part["label"], part["cine"], strict=True):
            for name, values in self.classes.items():
                inside = metrics.class_mask(label, values)
                if inside.any():
                    self.z.append(features[inside].mean(0, dtype=np.float64))
                    self.names.append(name)
                    self.cines.append(int(cine))


def save(run: stage_run.Run, carried: dict[str, Any], regions: Regions, folder: Path) -> None:
    """Writes embedding.npz, and geometry.json with what `metrics.embedding_geometry` says of it.

    z [n, D], cine, frame [n]: bottleneck features, averaged over the picture, of evenly spaced frames of the test patients' longest cines.
    region_z [R, D'], region_class, region_cine [R]: those of `Regions`, of all labelled test images. patient [n], region_patient [R]: the
    place among the test patients' sorted names.
    """
    if not hosts.primary():
        return
    store = run.store
    z, cine, frame = _frames(run, carried)
    names = sorted(store.patients("test"))
    patients = {c: names.index(store.patient(c)) for c in {*cine, *regions.cines}}
    region_z = np.array(regions.z, np.float32).reshape(len(regions.z), -1 if regions.z else 0)
    region_class, region_cine = np.array(regions.names, str), np.array(regions.cines, int)
    np.savez_compressed(
        folder / "embedding.npz",
        z=z, cine=cine, frame=frame, patient=[patients[c] for c in cine],
        region_z=region_z, region_class=region_class, region_cine=region_cine,
        region_patient=np.array([patients[c] for c in regions.cines], int),
    )  # fmt: skip
    by = {"class": region_class, "cine": region_cine}
    geometry = {
        "frames": {"cine": metrics.embedding_geometry(z, cine)},
        "regions": {name: metrics.embedding_geometry(region_z, labels) for name, labels in by.items()},
    }
    write_json(folder / "geometry.json", geometry)


def _frames(run: stage_run.Run, carried: dict[str, Any]) -> tuple[np.ndarray, list[int], list[int]]:
    """z float32 [n, D], cine and frame of each."""
    store = run.store
    bottleneck = finetune.make_bottleneck(run)
    variables = {kind: carried[kind]["encoder"] for kind in ("params", "batch_stats")}
    pool = jax.jit(lambda image: bottleneck(variables, normalise(views.to_float(image), run.config.model.normalise)))
    cines = store.cines_of(store.patients("test"))
    cines = sorted(cines.tolist(), key=lambda c: -store.length(c))[:CINES]
    z, cine, frame = [], [], []
    for c in cines:
        times = np.unique(np.linspace(0, store.length(c) - 1, FRAMES).astype(int))
        images = np.stack([store.frame(c, t) for t in np.resize(times, FRAMES)])[..., None]  # one shape, one compilation
        z.append(np.asarray(pool(images), np.float32)[: len(times)])
        cine += [c] * len(times)
        frame += times.tolist()
    return np.concatenate(z), cine, frame
