"""How good a segmentation is: overlap, distance, speckle statistics, calibration, and how sure we may be; and how embeddings lie.

NumPy and SciPy, float64.
"""

from uscl.metrics import components
from uscl.metrics.calibration import Reliability, brier_score, calibration_error, reliability
from uscl.metrics.geometry import alignment, balanced, compactness, embedding_geometry, rankme, separability, silhouette, uniformity
from uscl.metrics.intervals import Interval, bootstrap_patients, paired_difference
from uscl.metrics.overlap import class_mask, dice
from uscl.metrics.sensitivity import Moved, border_sensitivity, moved
from uscl.metrics.snr import delta_snr, snr
from uscl.metrics.surface import Surface, hausdorff95, surface_dice, surface_distances

__all__ = [
    "Interval", "Moved", "Reliability", "Surface", "alignment", "balanced", "bootstrap_patients", "border_sensitivity", "brier_score",
    "calibration_error", "class_mask", "compactness", "components", "delta_snr", "dice", "embedding_geometry", "hausdorff95", "moved",
    "paired_difference", "rankme", "reliability", "separability", "silhouette", "snr", "surface_dice", "surface_distances",
    "uniformity",
]  # fmt: skip
