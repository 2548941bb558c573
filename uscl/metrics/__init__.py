"""How good a segmentation is: overlap, distance, speckle statistics, and how sure we may be. NumPy and SciPy, float64."""

from uscl.metrics import components
from uscl.metrics.intervals import Interval, bootstrap_patients, paired_difference
from uscl.metrics.overlap import class_mask, dice, hausdorff95
from uscl.metrics.snr import delta_snr, snr

__all__ = ["Interval", "bootstrap_patients", "class_mask", "components", "delta_snr", "dice", "hausdorff95", "paired_difference", "snr"]
