"""The probe and the settings of one examination, and the path of the plane through the kidney."""
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

# radius mm, angle deg, MHz, axial FWHM mm, lateral waist mm, spread mm/mm, slice mm, dynamic range dB, gamma,
# persistence, smoothing, sharpening (shares)
MACHINES = {
    "cart":     (60, 58, 3.5, 1.1, 2.4, 0.040, 3.6, (56, 66), 1.00, 0.10, 0.3, 0.3),
    "premium":  (55, 66, 4.0, 0.9, 2.0, 0.030, 3.2, (62, 75), 0.90, 0.25, 0.7, 0.5),
    "portable": (50, 60, 3.0, 1.5, 3.2, 0.055, 4.4, (48, 58), 1.15, 0.00, 0.2, 0.2),
    "handheld": (45, 56, 2.8, 1.7, 3.4, 0.060, 4.6, (52, 62), 1.00, 0.30, 0.4, 0.0),
    "old":      (65, 54, 3.2, 1.4, 2.8, 0.050, 4.2, (45, 54), 1.30, 0.05, 0.2, 0.4),
    "micro":    (20, 76, 3.4, 1.2, 2.4, 0.055, 3.8, (54, 68), 0.90, 0.15, 0.4, 0.2),
}  # fmt: skip


@dataclass(frozen=True)
class Exam:
    name: str
    radius: float
    angle: float
    depth: float
    frequency: float
    axial: float
    waist: float
    spread: float
    slice: float
    focus: float
    dynamic_range: float
    gain: float  # dB: gray = 1 + (dB + gain) / dynamic_range, before gamma
    gamma: float
    persistence: float
    smoothing: float
    sharpening: float
    tgc: tuple  # slope dB/cm/MHz, and the knots [8] dB of its error
    noise: float  # dB at full depth against an average liver
    haze: tuple  # dB at the face, decay mm
    clutter: float  # share of the neighbouring beams' echo that leaks in
    specular: float
    ribs: list  # [n][3] x mm, half-width mm, loss dB
    contact: tuple  # side, share of the fan, loss dB, first and last part of the cine
    mirror: bool
    frame_ms: float


def draw(rng, patient):
    """An examination of `patient`: a machine and its settings."""
    name = list(MACHINES)[rng.integers(len(MACHINES))]
    radius, angle, frequency, axial, waist, spread, slab, dynamic, *display = MACHINES[name]
    gamma, persistence, smoothing, sharpening = display
    vary = rng.uniform(0.9, 1.1, 5)
    dynamic_range = rng.uniform(*dynamic)
    bottom = patient.centre[1] + patient.axes[1]
    ribs = []
    if rng.random() < 0.6:
        first, count = rng.uniform(-70, -35), rng.integers(1, 4)
        ribs = [[first + k * rng.uniform(28, 42), rng.uniform(3, 7), rng.uniform(8, 28)] for k in range(count)]
    contact = (0, 0.0, 0.0, 0.0, 0.0)
    if rng.random() < 0.45:
        start = rng.uniform(-0.3, 0.7)
        stop = start + rng.uniform(0.3, 1.2)
        contact = (rng.choice([-1, 1]), rng.uniform(0.06, 0.28), rng.uniform(8, 30), start, stop)
    return Exam(
        name=name, radius=radius * vary[0], angle=np.deg2rad(angle * vary[1]),
        depth=max(bottom + rng.uniform(8, 45), 95.0),
        frequency=frequency * vary[2], axial=axial * vary[3], waist=waist * vary[4], spread=spread, slice=slab,
        focus=rng.uniform(35, 90), dynamic_range=dynamic_range, gain=-dynamic_range * rng.uniform(0.40, 0.70),
        gamma=gamma, persistence=persistence, smoothing=smoothing, sharpening=sharpening,
        tgc=(rng.normal(0.53, 0.05), rng.normal(0, 2.5, 8)), noise=rng.uniform(-38, -14),
        haze=(rng.uniform(-10, 12), rng.uniform(5, 14)), clutter=rng.uniform(0.01, 0.06),
        specular=rng.uniform(0.5, 3.0),
        ribs=ribs, contact=contact, mirror=bool(rng.random() < 0.5), frame_ms=float(np.round(rng.uniform(40, 110), 1)),
    )  # fmt: skip


def path(rng, patient, frames, frame_ms):
    """Planes: origin [T, 3] of the probe's face; lateral, depth and slice directions [T, 3, 3]; breath [T, 3].

    The sweep goes from one side of the kidney to the other, always in the same direction, partly by sliding and partly
    by rocking the probe; the breath is how far [mm] the deep tissue has slid.
    """
    pace = np.cumsum(np.exp(1.5 * ndimage.gaussian_filter1d(rng.standard_normal(frames), 4.0, mode="nearest")))
    start, stop = -rng.uniform(0.72, 0.95), rng.uniform(0.72, 0.95)
    if rng.random() < 0.25:
        start = rng.uniform(-0.6, -0.2)
    place = (start + (stop - start) * (pace - pace[0]) / max(pace[-1] - pace[0], 1e-9)) * patient.axes[2]
    rocking = rng.uniform(0, 1)
    drift = ndimage.gaussian_filter1d(rng.standard_normal((5, frames)), 3.0, axis=1, mode="nearest") * 2.5
    tilt = np.arctan2(rocking * place, patient.centre[1]) + np.deg2rad(0.8) * drift[0]
    roll, yaw = np.deg2rad(1.2) * drift[1], np.deg2rad(rng.normal(0, 5) + 1.0 * drift[2])
    lateral = np.stack([np.cos(roll) * np.cos(yaw), np.sin(roll), np.cos(roll) * np.sin(yaw)], -1)
    deep = np.stack([-np.sin(roll), np.cos(roll) * np.cos(tilt), np.sin(tilt)], -1)
    deep -= np.sum(deep * lateral, -1, keepdims=True) * lateral
    deep /= np.linalg.norm(deep, axis=-1, keepdims=True)
    axes = np.stack([lateral, deep, np.cross(lateral, deep)], 1)
    origin = np.stack([1.2 * drift[3], np.zeros(frames), (1 - rocking) * place], -1)
    phase = 2 * np.pi * (np.arange(frames) * frame_ms / rng.uniform(2800, 5000) + rng.random())
    wave = rng.uniform(1.0, 4.0) * (np.sin(phase) + 0.15 * drift[4])
    breath = wave[:, None] * np.array([1.0, rng.uniform(-0.3, 0.3), rng.uniform(-0.1, 0.1)])
    return origin, axes, breath
