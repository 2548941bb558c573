"""What a border drawn slightly elsewhere would do to the scores: the scale on which to read differences of DSC and SNR."""

import operator
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from uscl.metrics.overlap import dice
from uscl.metrics.snr import delta_snr

PIXELS = (-10, -1, 1, 10)  # as in the speckle paper


class Moved(NamedTuple):
    """How a truth whose border has moved scores against the truth itself; `area` is its size as a share of the truth's."""

    dsc: float
    delta_snr: float
    signed_snr: float
    area: float


def border_sensitivity(image, truth, *, pixels=PIXELS, form="log10"):
    """DSC and delta-SNR of the truth, eroded and dilated, against the truth (the sensitivity analysis of the speckle paper).

        of each p in pixels, with M = moved(truth, p):
        dsc = DSC(M, truth)        delta_snr = |SNR(M) - SNR(truth)|        signed_snr = SNR(M) - SNR(truth)

    The paper found DSC to fall by 1 to 2 % at one pixel and by 20 to 30 % at ten, and prints no such figure for SNR. Where two models
    differ by less than one pixel costs, the truth's own line would have to be better than that to tell them apart.

    Args:
      image: [H, W] gray levels >= 0. truth: [H, W], anything but 0 is inside.
      pixels: whole numbers, below 0 to erode. form: "log10" or "linear", as for `snr`.

    Returns: {p: Moved}. Where erosion leaves nothing, dsc and area are 0 and the SNRs nan, unlike `delta_snr`, which gives an empty side
      SNR 0: here that would be a property of the convention and not of the border. An empty truth: all nan.

    Raises: ValueError for two shapes, TypeError for pixels that are not whole numbers; and as `snr` does.

    Known values: a square of side s, eroded by 1: DSC 2 (s - 2)^2 / (s^2 + (s - 2)^2); one pixel dilated by 1: 5 pixels, DSC 1/3;
    0 pixels: DSC 1, both SNRs 0.
    """
    image, truth = np.asarray(image), np.asarray(truth).astype(bool)
    if image.shape != truth.shape:
        raise ValueError(f"image has shape {image.shape}, truth {truth.shape}; they must be the same")
    outside = _outside(truth)
    found = {}
    for p in map(operator.index, pixels):
        mask = _moved(outside, p)
        size = np.count_nonzero(mask)
        nothing = (float("nan"),) * 2
        snrs = delta_snr(image, mask, truth, form=form) if size else nothing
        area = size / np.count_nonzero(truth) if truth.any() else float("nan")
        found[p] = Moved(dice(mask, truth, empty="skip"), *snrs, float(area))
    return found


def moved(mask, pixels):
    """The mask dilated by `pixels`, or eroded by as many where they are below 0.

        dilated = 1[a pixel inside lies within p]        eroded = 1[no pixel outside lies within |p|]

    By Euclidean distance between pixel centres, so a border moves as far along a diagonal as along a row (repeating a 3 x 3 cross ten
    times moves it 7 there). Of what lies beyond the image nothing is known: the image's edge neither erodes nor grows a mask.

    mask: [H, W], anything but 0 is inside. pixels: a whole number. Returns bool [H, W].

    Known values: 0 changes nothing; one pixel dilated by 1 is a cross of 5, which eroded by 1 is the pixel again; a full mask stays full,
    an empty one empty.
    """
    return _moved(_outside(np.asarray(mask).astype(bool)), operator.index(pixels))


def _moved(outside, pixels):
    return outside <= pixels if pixels >= 0 else outside < pixels


def _outside(mask):
    """Distance to the mask where it is not, and minus the distance to what is not the mask where it is; infinite where there is none."""
    if mask.all() or not mask.any():  # SciPy measures to a place of its own then
        return np.where(mask, -np.inf, np.inf)
    return np.where(mask, -ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask))
