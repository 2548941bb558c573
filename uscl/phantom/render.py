"""From a patient and an examination to 8-bit frames and labels, in the order in which a machine does it."""
import numpy as np
from scipy import ndimage

from uscl.phantom import anatomy, echo, machine, physics
from uscl.phantom.scan import Fan, scan_convert


def scene(patient, fan, plane):
    """Anatomy of every frame: tissue uint8, relative radius [T, R, L], place [T, 3, R, L] mm; labels [T, S, S]."""
    frames, polar = len(plane[0]), (fan.rows, fan.beams)
    x, y = (a.ravel() for a in fan.polar_xy())
    depth = np.repeat(fan.depths(), fan.beams)
    inside = fan.pixel_polar()[2]
    pixels = [a[inside] for a in fan.pixel_xy()]
    where, radius = np.empty((frames, 3, len(x))), np.empty((frames, len(x)))
    tissue = np.empty((frames, len(x)), np.uint8)
    labels = np.zeros((frames, fan.size, fan.size), np.uint8)
    for t, here in enumerate(zip(*plane, strict=True)):
        where[t] = echo.points(x, y, *here)
        tissue[t], radius[t] = anatomy.classify(patient, *where[t], depth)
        labels[t, inside] = anatomy.label(patient, *echo.points(*pixels, *here))
    return tissue.reshape(-1, *polar), radius.reshape(-1, *polar), where.reshape(-1, 3, *polar), labels


def display(gray, fan, exam):
    """Polar gray [T, R, L] in [0, 1] to uint8 [T, S, S]: persistence, gray curve, scan conversion, filters."""
    for t in range(1, len(gray)):
        gray[t] += exam.persistence * (gray[t - 1] - gray[t])
    gray = ndimage.gaussian_filter1d(gray**exam.gamma, 1.0, axis=1)  # there are more samples than pixels: no aliasing
    image = scan_convert(gray, fan)
    if exam.smoothing:
        image += exam.smoothing * (ndimage.uniform_filter(image, (1, 3, 3)) - image)
    if exam.sharpening:
        image += exam.sharpening * (image - ndimage.gaussian_filter(image, (0, 1, 1)))
    return np.round(255.0 * np.clip(image, 0.0, 1.0) * fan.pixel_polar()[2]).astype(np.uint8)


def render(rng, patient, exam, *, frames, size, stages=None):
    """uint8 frames and labels [T, size, size], and the fan.

    stages: a dict to fill with arrays [T, R, L]: "tissue", "unit" and "propagated" envelope, "gray" in [0, 1].
    """
    geometry = size, exam.radius, exam.angle, exam.depth
    fan = Fan(*geometry, rows=size, beams=7 * size // 6)
    fine = Fan(*geometry, rows=2 * size, beams=fan.beams)  # speckle is finer along the beam than anatomy is
    plane = machine.path(rng, patient, frames, exam.frame_ms)
    tissue, radius, where, labels = scene(patient, fan, plane)
    power = echo.reflect(rng, patient, exam, fan, tissue, radius, where)
    loss, tgc = echo.loss_db(exam, fan, tissue, where[:, 0], patient.layers[1])
    amplitude = np.sqrt(power) * 10.0 ** (-loss / 20.0)
    tissue = np.repeat(tissue, 2, axis=1)
    z = physics.unit_envelope(echo.speckle(rng, fine, exam, plane), tissue, patient.m, np.ones(len(patient.m)))
    if stages is not None:
        stages.update(tissue=tissue, unit=np.abs(z))
    z *= echo.double_rows(amplitude)
    echo.interfere(rng, z, exam, fine, amplitude, tgc)
    envelope = np.abs(z)
    gray = physics.log_compress(envelope, dynamic_range=exam.dynamic_range, gain=exam.gain)
    if stages is not None:
        stages.update(propagated=envelope, gray=gray.copy())
    images = display(gray, fine, exam)
    if exam.mirror:
        images, labels = images[..., ::-1].copy(), labels[..., ::-1].copy()
    return images, labels, fan
