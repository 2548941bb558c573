"""How good a segmentation is: overlap, distance, speckle statistics, calibration; how good a classifier; what a saliency map finds; how
embeddings lie and what can be read off them; and how sure we may be of any of it. NumPy and SciPy, float64.
"""

from uscl.metrics import components
from uscl.metrics.borders import Moved, border_sensitivity, moved
from uscl.metrics.calibration import Reliability, brier_score, calibration_error, reliability
from uscl.metrics.circumference import (
    CircumferenceError,
    Ellipse,
    circumference,
    circumference_error,
    ellipse_perimeter,
    fit_ellipse,
    outline,
    ramanujan_perimeter,
)  # fmt: skip
from uscl.metrics.classification import (
    Macro,
    accuracy,
    auc,
    classification_scores,
    confusion,
    macro,
    sensitivity,
    specificity,
    youden_threshold,
)  # fmt: skip
from uscl.metrics.geometry import alignment, balanced, compactness, embedding_geometry, rankme, separability, silhouette, uniformity
from uscl.metrics.intervals import Interval, bootstrap_patients, bootstrap_statistic, paired_difference
from uscl.metrics.overlap import class_mask, dice
from uscl.metrics.probe import Linear, fit_linear, knn_probe, linear_probe
from uscl.metrics.saliency import Localisation, box_iou, highest, localisation, weighted_iou
from uscl.metrics.snr import delta_snr, snr
from uscl.metrics.surface import Surface, hausdorff95, surface_dice, surface_distances

__all__ = [
    "CircumferenceError", "Ellipse", "Interval", "Linear", "Localisation", "Macro", "Moved", "Reliability", "Surface", "accuracy",
    "alignment", "auc", "balanced", "bootstrap_patients", "bootstrap_statistic", "border_sensitivity", "box_iou", "brier_score",
    "calibration_error", "circumference", "circumference_error", "class_mask", "classification_scores", "compactness", "components",
    "confusion", "delta_snr", "dice", "ellipse_perimeter", "embedding_geometry", "fit_ellipse", "fit_linear", "hausdorff95", "highest",
    "knn_probe", "linear_probe", "localisation", "macro", "moved", "outline", "paired_difference", "ramanujan_perimeter", "rankme",
    "reliability", "sensitivity", "separability", "silhouette", "snr", "specificity", "surface_dice", "surface_distances", "uniformity",
    "weighted_iou", "youden_threshold",
]  # fmt: skip
