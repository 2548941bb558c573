"""A fetus as strokes: every section of it is a list of ellipses, filled or only their borders, painted on the beams' own grid.

A stroke is laid out in the frame of its section (u along the section's long axis, v across it, mm, a fetus of about 22 weeks); a
section has a place, a turn and a size in the womb, and grows and shrinks while the sweep passes it. Levels are dB against an average
liver. What is painted later hides what was there. Nothing here knows the picture: that is `uscl.phantom.fetal`.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

FLUID, BONE = -18.0, 9.0  # dB below which a sample scatters as fluid does, and from which on as bone does
LEAST = 0.1  # size of a section from which on it is painted
VANISH = 1.85  # half-widths of a standard plane at which its section is gone


@dataclass(frozen=True)
class Stroke:
    """An ellipse: middle, half-axes and turn in its section, and how loud it is."""

    x: float
    y: float
    a: float
    b: float
    level: float
    turn: float = 0.0
    edge: float = 0.0  # mm of border inside the outline; 0: filled
    shade: float = 0.0  # dB that a mm of it takes from all that lies behind, above soft tissue's; below 0: fluid
    fine: bool = False  # only in the standard plane itself
    pair: bool = False  # once on each side of v = 0
    row: tuple = (0, 1.0)  # so many more on each side along its own u, and their distance
    bend: float = 0.0  # 1/mm: it lies along v = bend u^2
    beat: float = 0.0  # share by which it swells with the heart


@dataclass(frozen=True)
class Section:
    """Strokes with one place in the womb [mm] and one in the sweep (0 to 1)."""

    strokes: tuple
    x: float
    y: float
    turn: float
    size: float
    at: float
    half: float  # of the sweep, on each side: there it is the standard plane
    drift: float = 0.0  # turn per half

    def off(self, sweep):
        """How far [T] the sweep [T] is from the standard plane, in half-widths: within 1 it is the plane."""
        return (sweep - self.at) / self.half

    def pose(self, sweep):
        """Turn and size [T]: nearly constant in the plane, nothing from VANISH half-widths on."""
        off = self.off(sweep)
        return self.turn + self.drift * off, self.size * np.sqrt(1.0 - np.minimum(np.abs(off) / VANISH, 1.0) ** 4)


@dataclass(frozen=True)
class Fetus:
    centre: np.ndarray  # [3] and axes [3]: what has to be in view, as `uscl.phantom.machine` asks
    axes: np.ndarray
    m: np.ndarray  # [3] Nakagami's m of tissue, fluid and bone
    size: float
    head: tuple  # half-axes at size 1
    trunk: float  # radius of the abdomen at size 1
    brain: float  # dB, as are body and fluid
    body: float
    fluid: float
    bone: float
    vary: np.ndarray  # [8] about 1
    order: np.ndarray  # of the planes, in which its scans meet them
    wall: np.ndarray  # [8] level from the skin to the womb, and behind
    fascia: np.ndarray  # [n, 2] depth [mm] and dB
    cavity: tuple  # middle x, y and half-axes of the fluid
    waves: np.ndarray  # [3] phases of its border
    grain: np.ndarray  # [64, 64] texture


def draw(rng):
    """A pregnancy from one generator: all that its scans share."""
    size, top, proportion = rng.uniform(0.82, 1.12), rng.uniform(12, 26), rng.uniform(0.73, 0.84)
    head, trunk = (36.0, 36.0 * proportion), rng.uniform(24.0, 27.5)
    high = size * head[0] * rng.uniform(0.92, 1.05)
    grain = ndimage.gaussian_filter(rng.standard_normal((64, 64)), 0.7, mode="wrap")
    fascia = [[rng.uniform(0.15, 0.95) * top, rng.uniform(3, 10)] for _ in range(rng.integers(2, 5))]
    return Fetus(
        centre=np.array([rng.uniform(-5, 5), top + high, 0.0]), axes=np.array([0.0, high, rng.uniform(14, 26)]),
        m=rng.uniform([0.75, 0.8, 1.5], [1.05, 1.1, 3.0]), size=size, head=head, trunk=trunk, brain=rng.uniform(-11, -5),
        body=rng.uniform(-7, 0), fluid=rng.uniform(-34, -24), bone=rng.uniform(16, 22), vary=rng.uniform(0.9, 1.1, 8),
        order=rng.permutation(len(STANDARD)), wall=rng.normal([2, -3, -4, -2, -1, 0, 0, 1], 2.5), fascia=np.array(fascia),
        cavity=(rng.uniform(-12, 12), top + high, rng.uniform(40, 66), high + rng.uniform(1, 8)), waves=rng.uniform(0, 7, 3),
        grain=grain / grain.std(),
    )  # fmt: skip


def _skull(f):
    (a, b), bone = f.head, f.bone
    return [
        Stroke(0, 0, a, b, f.brain), Stroke(0, 0, a, b, bone, edge=3.0, shade=0.5),
        Stroke(0, 0, 0.86 * a, 0.6, f.brain + 17), Stroke(0.08 * a, 0.66 * b, 9, 0.7, f.brain + 14, fine=True, pair=True, bend=-0.01),
        Stroke(0.5 * a, 0, 5.0 * f.vary[0], 2.8, f.fluid, fine=True),
        Stroke(0.5 * a, 3.0, 5.0 * f.vary[0], 0.7, f.brain + 18, fine=True, pair=True),
    ]  # fmt: skip


def _thalami(f):
    (a, b), dark = f.head, f.brain - 11
    return [(_skull(f) + [
        Stroke(0, 0.2 * b, 7.5 * f.vary[1], 4.2, dark, turn=-0.35, fine=True, pair=True),
        Stroke(-0.5 * a, 0.42 * b, 9.5, 3.8 * f.vary[2], f.fluid + 4, turn=0.3, fine=True, pair=True),
        Stroke(-0.5 * a, 0.44 * b, 7.5, 1.7, f.brain + 18, turn=0.3, fine=True, pair=True),
    ], 0.0, 0.0, 0.0, 1.0)]  # fmt: skip


def _cerebellum(f):
    (a, b), dark = f.head, f.brain - 10
    lobe = 7.4 * f.vary[3]
    return [(_skull(f) + [
        Stroke(0.08 * a, 0.17 * b, 6.0, 3.4, dark, turn=-0.35, fine=True, pair=True),
        Stroke(-0.76 * a, 0, 4.6, 0.5 * b, f.fluid + 2, fine=True),
        Stroke(-0.52 * a, 0.29 * b, 5.6, lobe, f.brain + 4, fine=True, pair=True),
        Stroke(-0.52 * a, 0.29 * b, 6.2, lobe, f.brain + 20, edge=1.8, fine=True, pair=True),
        Stroke(-0.52 * a, 0, 3.0, 2.0, f.brain + 18, fine=True),
    ], 0.0, 0.0, 0.0, 1.0)]  # fmt: skip


def _trunk(f, radius):
    r, bone = radius, f.bone
    return [
        Stroke(0, 0, r, r * 0.93, f.body), Stroke(0, 0, r, r * 0.93, f.body + 11, edge=1.8),
        Stroke(-0.6 * r, 0, 2.6, 2.1, bone, shade=2.2), Stroke(-0.78 * r, 3.6, 1.9, 1.4, bone, turn=0.6, shade=2.2, pair=True),
        Stroke(-0.22 * r, 0.8 * r, 9 * f.vary[4], 0.9, bone - 3, shade=1.2, pair=True, bend=-0.02),
    ]  # fmt: skip


def _abdomen(f):
    r = f.trunk
    return [(_trunk(f, r) + [
        Stroke(0.0, 0.42 * r, 7.5 * f.vary[5], 5 * f.vary[6], f.fluid, turn=0.3, shade=-0.15, fine=True),
        Stroke(0.38 * r, -0.08 * r, 8.5, 1.8, f.fluid + 3, turn=-0.2, fine=True, bend=-0.035),
        Stroke(-0.36 * r, 0.1 * r, 2.0, 2.0, f.fluid + 2, fine=True),
    ], 0.0, 0.0, 0.0, 1.0)]  # fmt: skip


def _heart(f, strokes):
    wall = [Stroke(0, 0, 14.5, 11, f.body - 1), Stroke(0, 0, 14.5, 11, f.body + 8, edge=1.2)]
    return [(_trunk(f, 0.95 * f.trunk), 0.0, 0.0, 0.0, 1.0), (wall + strokes, 4.5, 2.5, 0.75, f.vary[7])]


def _four_chamber(f):
    dark = f.fluid
    return _heart(f, [
        Stroke(4.2, 4.4, 6.8, 3.4, dark, fine=True, pair=True, beat=0.14, turn=-0.2),
        Stroke(-7.2, 4.2, 4.2, 3.6, dark, fine=True, pair=True, beat=-0.12),
        Stroke(0, 0, 13, 0.6, f.body + 7, fine=True), Stroke(-2.8, 0, 0.6, 9, f.body + 7, fine=True),
    ])  # fmt: skip


def _outflow(f):
    dark = f.fluid
    return _heart(f, [
        Stroke(3, 3.2, 8.5, 3.4, dark, turn=0.1, fine=True, beat=0.14), Stroke(4.5, -5.2, 6, 2.4, dark, turn=0.25, fine=True, beat=0.14),
        Stroke(-9.0, -2.2, 9.5, 3.4, f.body + 9, turn=0.42, fine=True), Stroke(-8.5, -2.0, 10, 2.1, dark, turn=0.42, fine=True),
        Stroke(-7.5, 5.8, 3.6, 2.4, dark, turn=-0.2, fine=True, beat=-0.12),
    ])  # fmt: skip


def _femur(f):
    bend = 0.012 * (f.vary[0] - 1.0) / 0.1
    return [([
        Stroke(2, 0, 27, 10.5, f.body), Stroke(2, 0, 27, 10.5, f.body + 9, edge=1.5),
        Stroke(0, 0, 16 * f.vary[5], 2.0, f.bone + 4, shade=5.0, bend=bend, fine=True), Stroke(0, 0, 3, 1.6, f.bone, shade=4.5),
    ], 0.0, 0.0, 0.0, 1.0)]  # fmt: skip


def _spine(f, row, bend):
    skin = [Stroke(0, 0, 64, 19, f.body, bend=bend), Stroke(0, 0, 64, 19, f.body + 10, edge=1.6, bend=bend)]
    return [(skin + [replace(stroke, row=(7, 7.2 * f.vary[2]), bend=bend) for stroke in row], 0.0, 0.0, 0.0, 1.0)]


def _sagittal(f):
    return _spine(f, [Stroke(0, -8, 2.2, 1.9, f.bone + 1, shade=2.0), Stroke(0, -13, 1.6, 0.9, f.bone - 6, fine=True)], 0.0025 * f.vary[1])


def _coronal(f):
    return _spine(f, [Stroke(0, 4.4, 2.0, 1.6, f.bone + 1, shade=1.6, pair=True)], 0.0)


def _background(f):  # no part of the fetus that has a plane, and a lobe of placenta on the wall
    lobe = Stroke(0, 0, 34 * f.vary[0], 15 * f.vary[1], f.body + 2)
    return [([lobe, replace(lobe, level=f.body + 7, edge=1.2)], 0.0, 0.9 * f.axes[1] / f.size, 0.0, 1.0)]


STANDARD = {  # a standard plane's parts: strokes, and their place, turn and size within the whole
    "head_thalami": _thalami, "head_cerebellum": _cerebellum, "abdomen": _abdomen, "femur": _femur, "heart_four_chamber": _four_chamber,
    "heart_outflow": _outflow, "spine_sagittal": _sagittal, "spine_coronal": _coronal, "background": _background,
}  # fmt: skip
