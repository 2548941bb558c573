"""Whether two frames show the same picture: how far their detail correlates once one is laid on the other.

Measured on the real sets named in tests/test_audit.py: 0.84 and more for the pictures that stand twice in one of them (zoomed by 4 %,
cropped, from another export), 0.52 and less for the most alike of different pictures, such as fetal heads in the same plane.
"""

import numpy as np
from PIL import Image
from scipy import fft
from scipy.ndimage import gaussian_filter1d

SIDE, REACH, ZOOMS = 96, 6, 0.015 * np.arange(-4, 5)  # pictures are laid on each other at shifts and zooms of up to 6 %
ALIKE, LEAST = 0.6, 0.1  # the correlation from which two frames are one picture; the share of the picture that it needs
ROUGH = 0.3  # at half the size; one picture had 0.47 and more, of different ones 2 % have more than 0.3
GROUND, EVEN = 3, 2.0  # gray levels: how far the ground outside the beam may vary; below which contrast is noise

_fine, _broad = (gaussian_filter1d(np.eye(SIDE, dtype=np.float32), sigma, axis=0) for sigma in (2.0, 3.0))


def _stretch(zoom: float, side: int) -> np.ndarray:
    """[side, side]: samples a row enlarged by 1 + zoom about its middle, linearly; 0 outside."""
    at = (np.arange(side) - (side - 1) / 2) / (1 + zoom) + (side - 1) / 2
    return np.maximum(1 - np.abs(at[:, None] - np.arange(side)), 0).astype(np.float32)


_stretches = {side: [_stretch(zoom, side) for zoom in ZOOMS] for side in (SIDE, SIDE // 2)}


def detail(frame: np.ndarray) -> np.ndarray:
    """uint8 [S, S] -> float32 [96, 96]: what a blur takes away, its contrast evened out, so that gain and text weigh little.

    0 outside the beam and along its edge: the outline of the beam is the machine's, the same for all its patients.
    """
    small = np.asarray(Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32)
    fine = small - _fine @ small @ _fine.T
    ground = np.bincount(small.astype(np.uint8).ravel()).argmax()  # the level of most pixels: 0 wherever there is an outside
    void = (np.abs(small - ground) <= GROUND).astype(np.float32)
    solid = (_fine @ void @ _fine.T > 0.95).astype(np.float32)
    inside = _broad @ solid @ _broad.T < 0.02
    return inside * np.clip(fine / (np.sqrt(_broad @ (fine * fine) @ _broad.T) + EVEN), -1.5, 1.5)


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """The correlation of two details [96, 96] at the best shift and zoom, over where both have any.

    The zoom is first sought at half the size; where that finds nothing alike, its figure is the answer.

    Known values: 1 for a detail and itself; 0 where they share less than a tenth of the picture.
    """
    small = [x.reshape(SIDE // 2, 2, SIDE // 2, 2).mean((1, 3)) for x in (a, b)]
    rough = {n: _laid(*small, n)[0] for n in range(0, len(ZOOMS), 2)}
    best = max(rough, key=rough.get)
    if rough[best] < ROUGH:
        return rough[best]
    return max(_correlation(*_laid(a, b, n)[1:]) for n in (best - 1, best, best + 1) if 0 <= n < len(ZOOMS))


def _laid(a: np.ndarray, b: np.ndarray, n: int) -> tuple[float, np.ndarray, np.ndarray]:
    """b zoomed by ZOOMS[n] and shifted to where it fits best on a: how well it does, and the two where they overlap."""
    side = len(a)
    reach = REACH * side // SIDE
    around, padded = np.arange(-reach, reach + 1), (side + 2 * reach,) * 2
    b = _stretches[side][n] @ b @ _stretches[side][n].T
    match = fft.irfft2(fft.rfft2(a, padded) * fft.rfft2(b, padded).conj(), padded)[np.ix_(around, around)]
    down, right = (int(around[k]) for k in np.unravel_index(match.argmax(), match.shape))
    fits = float(match.max()) / np.sqrt(float((a * a).sum()) * float((b * b).sum()) + 1e-9)
    return fits, _overlap(a, down, right), _overlap(b, -down, -right)


def _overlap(x: np.ndarray, down: int, right: int) -> np.ndarray:
    return x[max(down, 0) : len(x) + min(down, 0), max(right, 0) : len(x) + min(right, 0)]


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    both = (a != 0) & (b != 0)
    if both.sum() < LEAST * SIDE**2:
        return 0.0
    a, b = a[both], b[both]
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))
