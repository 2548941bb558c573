"""Does a predicted region hold the same speckle as the true one: the signal-to-noise ratio inside a mask."""

import numpy as np


def snr(image, mask, *, form="log10"):
    """Signal-to-noise ratio of a region, as the authors of the Open Kidney set measure it (rsingla92/kidneyUS).

        log10 : log10(mean / std)                 linear : mean / std                       std over N, not N - 1

    No factor 10 or 20: these are not decibels. The scale of the image cancels; its log compression does not, so pass the
    envelope to compare with theory. An empty region has SNR 0, by the authors. So has, here, a region without spread or
    without brightness, where theirs is infinite or undefined and a single such case would swallow the mean over images.

    image: gray levels >= 0, any shape, any scale. mask: the same shape, anything but 0 is inside.
    Returns a float. Raises ValueError for two shapes, an unknown form, or a negative pixel inside the mask (a standardised
    image has no SNR).

    Known values: pixels 1 and 3, mean 2 and std 1: log10 2 = 0.30103 and 2; a Rayleigh envelope: linear 1.9131, log10 0.2817.
    """
    if form not in ("log10", "linear"):
        raise ValueError(f"form is {form!r}; it must be 'log10' or 'linear'")
    image, mask = np.asarray(image, dtype=np.float64), np.asarray(mask).astype(bool)
    if image.shape != mask.shape:
        raise ValueError(f"image has shape {image.shape}, mask {mask.shape}; they must be the same")
    region = image[mask]
    # Equal floats may have a std of 1e-17 by rounding, hence the range; a mean of 0 means all black, so it is caught as well.
    if region.size == 0 or region.max() == region.min():
        return 0.0
    if region.min() < 0:
        raise ValueError(f"the image goes down to {region.min():g} inside the mask; gray levels must be 0 or more")
    ratio = region.mean() / region.std()
    return float(np.log10(ratio) if form == "log10" else ratio)


def delta_snr(image, prediction, truth, *, form="log10"):
    """How far the predicted region's SNR is from the true region's, on the same image.

        absolute = |SNR(truth) - SNR(prediction)|                    signed = SNR(prediction) - SNR(truth)

    `absolute` is the authors' figure. It is a disagreement: smaller is better, though printed tables have read it the other
    way. `signed` tells the direction: above 0 where the prediction took in calmer tissue than the truth. Their "all classes"
    is the mean over the inner tissues; average the classes you want. An empty side has SNR 0 and is compared as such.

    image, prediction, truth, form: as for `snr`. Returns (absolute, signed), two floats. Raises as `snr` does.

    Known values: the same mask twice, (0, 0); truth on pixels 1 and 3, nothing predicted, (0.30103, -0.30103).
    """
    signed = snr(image, prediction, form=form) - snr(image, truth, form=form)
    return abs(signed), signed
