"""Dice, the 95 % Hausdorff distance and, with it, the surface Dice of 8 images of 4 classes, 256 x 256, beside MONAI's."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from uscl.study.bench_peers import compare
from uscl.study.bench_worker import Contender

IMAGES, CLASSES, SIDE = 8, 4, 256
TOLERANCE = 2.0  # of the surface Dice, in pixels


def masks() -> tuple[np.ndarray, np.ndarray]:
    """Prediction and truth, bool [8, 4, 256, 256]: discs that do not quite agree. None is empty: peers differ in what a miss is."""
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:SIDE, :SIDE]
    centre, radius = rng.uniform(80, 176, (2, IMAGES, CLASSES, 1, 1)), rng.uniform(20, 60, (IMAGES, CLASSES, 1, 1))

    def discs(moved, grown):
        wave = grown * np.sin(5 * np.arctan2(y - centre[0], x - centre[1]))
        return np.hypot(y - centre[0] - moved, x - centre[1]) < radius + wave

    return discs(3, 4), discs(0, 0)


def ours(folder: str, metric: str) -> Contender:
    from uscl import metrics

    prediction, truth = masks()
    one = {
        "dice": metrics.dice,
        "hausdorff95": lambda a, b: metrics.hausdorff95(a, b, mm=1.0),
        "surfaces": lambda a, b: metrics.surface_distances(a, b, mm=1.0, tolerance=TOLERANCE),
    }[metric]

    def every():
        return [[one(a, b) for a, b in zip(p, t, strict=True)] for p, t in zip(prediction, truth, strict=True)]

    return Contender({"score": np.array(every())}, every)


def monai(folder: str, metric: str) -> Contender:
    """Bool tensors, which MONAI is faster with than with float ones."""
    import torch
    from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice

    prediction, truth = (torch.from_numpy(mask) for mask in masks())
    score = {
        "dice": lambda: compute_dice(prediction, truth, include_background=True),
        "hausdorff95": lambda: compute_hausdorff_distance(prediction, truth, include_background=True, percentile=95),
        "nsd": lambda: compute_surface_dice(prediction, truth, class_thresholds=[TOLERANCE] * CLASSES, include_background=True),
    }
    score["surfaces"] = lambda: torch.stack([score["hausdorff95"](), score["nsd"]()], -1)
    return Contender({"score": score[metric]().numpy()}, score[metric], note={"threads": torch.get_num_threads()})


def metrics_rows() -> Iterator[dict[str, Any]]:
    """MONAI has no call for the Hausdorff distance and the surface Dice together: the last row is two of its calls to one of ours."""
    for metric, goal in (("dice", 5.0), ("hausdorff95", 6.0), ("surfaces", 5.0)):
        here, size = "uscl.study.bench_metrics", f"{IMAGES} x {CLASSES} x {SIDE} x {SIDE}"
        yield compare(metric, f"{here}:ours", f"{here}:monai", {"metric": metric}, library="monai", size=size, goal=goal, tolerance=1e-5)
