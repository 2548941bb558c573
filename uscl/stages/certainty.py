"""How sure the network is of the test images: whether its probabilities come true, and the maps of a few images to look at."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uscl import metrics
from uscl.train.logs import write_json

IMAGES = 4  # whose maps are kept


class Certainty:
    """Looks at the probabilities of one batch of images after the other, and keeps counts and the maps of a few.

    Counted are the pixels where truth or choice is not background (value 0): the rest is most of an image and easy, and would hide them.
    The choice is the likeliest label, so without a post-processing. Of a network that gives no probabilities over the labels, such as
    nnU-Net with regions, nothing is seen and nothing saved.

    patients: of all the images, in the order in which they will come. bins: of the reliability diagram, equally wide over [0, 1].
    """

    def __init__(self, patients: Sequence[str], *, bins: int = 15):
        self.patients, self.bins = list(patients), bins
        self.kept = np.unique(np.linspace(0, len(self.patients) - 1, IMAGES).astype(int))
        self.seen, self.counts, self.shown = 0, None, []

    def see(self, part: dict[str, np.ndarray]) -> None:
        """One batch: image uint8 [n, H, W, C], label [n, H, W], cine and frame [n], and "probability" [n, H, W, K] if there is one."""
        if "probability" not in part:
            return
        probability, label = part["probability"], part["label"]
        counted = (label > 0) | (probability.argmax(-1) > 0)
        counts = metrics.reliability(probability[counted], label[counted], bins=self.bins)
        self.counts = counts if self.counts is None else self.counts + counts
        for place in self.kept[(self.kept >= self.seen) & (self.kept < self.seen + len(label))]:
            i = place - self.seen
            levels = np.rint(np.moveaxis(probability[i], -1, 0) * 255).astype(np.uint8)
            numbers = int(part["cine"][i]), int(part["frame"][i])
            self.shown.append((part["image"][i, ..., 0], label[i].astype(np.uint8), levels, self.patients[place], *numbers))
        self.seen += len(label)

    def save(self, folder: Path) -> None:
        """Writes calibration.json and activations.npz into `folder`.

        calibration.json   {"ece", "brier", "pixels", "bins": {"count", "confidence", "correct"}}: ECE of the chosen label, the Brier score
                           summed over the labels, in [0, 2]; of a bin the mean confidence, and how often it was right, null if empty
        activations.npz    image, truth uint8 [n, H, W]; probability uint8 [n, K, H, W], 255 for 1; patient, cine, frame [n]; evenly spaced
        """
        if self.counts is None:
            return
        counts, ((number,), (confidence,), (correct,)) = self.counts, (self.counts.count, self.counts.confidence, self.counts.correct)
        with np.errstate(invalid="ignore"):  # an empty bin: 0 / 0
            means = {"confidence": confidence / number, "correct": correct / number}
        write_json(
            folder / "calibration.json",
            {
                "ece": metrics.calibration_error(counts)[0], "brier": metrics.brier_score(counts).sum(), "pixels": counts.n,
                "bins": {"count": number.astype(int), **means},
            },
        )  # fmt: skip
        names = ("image", "truth", "probability", "patient", "cine", "frame")
        columns = zip(*self.shown, strict=True)
        np.savez_compressed(folder / "activations.npz", **{name: np.array(column) for name, column in zip(names, columns, strict=True)})
