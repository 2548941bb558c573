"""Cines of fetuses that nobody scanned: sweeps that meet standard planes, with the plane where one is met and the head's outline.

    for cine in make(seed=0, patients=40, cines=3):
        cine["frames"], cine["planes"], cine["labels"]     # uint8 [24, 64, 64], int32 [24], uint8 [24, 64, 64]

Planes come in look-alikes: heads with and without a cerebellum, a round abdomen and round chests, two views of heart and of spine.
Size, pose, machine and walls are drawn apart from the plane, so that neither the machine nor the mean gray tells it.
"""

from dataclasses import replace

import numpy as np
from scipy import ndimage, special

from uscl.phantom import echo, machine, physics
from uscl.phantom.fetal_scene import BONE, FLUID, LEAST, STANDARD, Section, Stroke, draw
from uscl.phantom.render import display
from uscl.phantom.scan import Fan
from uscl.phantom.workers import in_order

PLANES = tuple(STANDARD)  # fine labels
ANATOMIES = ("head", "abdomen", "femur", "heart", "spine", "background")  # coarse labels
COARSE = np.array([0, 0, 1, 2, 3, 3, 4, 4, 5], np.int32)  # anatomy of a plane
CLASSES = {"head": [1]}  # of the label maps
STOP = 8  # frames that a sweep has for one plane and the way to the next


def _draw(seed, index, cines):
    """Fetus, examination, number of the scan and generator of a cine: streams keyed by patient and cine, never by how many there are."""
    key, number = divmod(index, cines)
    streams = [np.random.SeedSequence(seed, spawn_key=(key, k)) for k in (0, 1 + number)]
    first, rng = (np.random.Generator(np.random.Philox(s)) for s in streams)
    fetus = draw(first)
    exam = machine.draw(rng, fetus)
    depth = (fetus.centre[1] + fetus.axes[1]) * rng.uniform(1.06, 1.25)
    return fetus, replace(exam, depth=depth, focus=rng.uniform(35, 80), gain=0.8 * exam.gain, ribs=[]), number, rng


def sections(rng, fetus, planes):
    """What a sweep over `planes` (indices into PLANES) meets, in the order of painting, and the heads among it."""
    (x0, y0, wide, high), found, heads = fetus.cavity, [], []
    for _ in range(rng.integers(3, 7)):  # limbs and loops of cord
        r, bone = rng.uniform(4, 10), rng.random() < 0.5
        parts = [Stroke(0, 0, r * rng.uniform(1, 1.6), r, fetus.body), Stroke(0, 0, r, r, fetus.body + 9, edge=1.2)]
        parts.append(Stroke(0, 0, 2.2, 1.6, fetus.bone, shade=2.0) if bone else Stroke(0, 0, 0.55 * r, 0.5 * r, fetus.fluid))
        place = x0 + wide * rng.uniform(-0.9, 0.9), y0 + high * rng.uniform(-0.8, 0.8)
        found.append(Section(tuple(parts), *place, rng.uniform(-2, 2), fetus.size, rng.uniform(0, 1), rng.uniform(0.06, 0.3), 0.3))
    for k, plane in enumerate(planes):
        name, at, half = PLANES[plane], (k + 0.5) / len(planes), 0.25 / len(planes)
        any_way = ANATOMIES[COARSE[plane]] in ("abdomen", "heart")
        turn = rng.uniform(-np.pi, np.pi) if any_way else rng.uniform(-0.4, 0.4) + np.pi * rng.integers(2)
        slack = max(high - fetus.size * (fetus.head[0] if COARSE[plane] == 0 else fetus.trunk), 0.0)
        x, y, drift = fetus.centre[0] + rng.uniform(-5, 5), y0 + rng.uniform(-0.8, 0.8) * slack, rng.uniform(-0.08, 0.08)
        for strokes, u, v, twist, share in STANDARD[name](fetus):
            middle = x + fetus.size * (u * np.cos(turn) - v * np.sin(turn)), y + fetus.size * (u * np.sin(turn) + v * np.cos(turn))
            found.append(Section(tuple(strokes), *middle, turn + twist, share * fetus.size, at, half, drift))
        heads += found[-1:] if COARSE[plane] == 0 else []
    return found, heads


def _cover(stroke, u, v, ray, pulse, thin):
    """How much of the samples at u, v [T, R, L] a stroke fills, and dB it loses where the beams at angle `ray` graze it."""
    side = np.where(v < 0, -1.0, 1.0) if stroke.pair else 1.0
    u, v, (c, s) = u - stroke.x, side * v - stroke.y, (np.cos(stroke.turn), np.sin(stroke.turn))
    u, v = c * u + s * v, c * v - s * u
    v = v - stroke.bend * u**2 if stroke.bend else v
    if stroke.row[0]:
        u = u - stroke.row[1] * np.clip(np.round(u / stroke.row[1]), -stroke.row[0], stroke.row[0])
    a, b = (np.maximum(r * (1.0 + stroke.beat * pulse), thin) for r in (stroke.a, stroke.b))
    p, q = u / a, v / b
    rho = np.sqrt(p * p + q * q) + 1e-6
    p, q = p / a, q / b
    slope = np.sqrt(p * p + q * q) + 1e-9
    away = (rho - 1.0) * rho / slope  # mm from the outline, to first order
    if not stroke.edge:
        return 1.0 / (1.0 + np.exp(np.clip(away / (0.5 * thin), -30, 30))), 0.0
    facing = (p * (c * np.sin(ray) + side * s * np.cos(ray)) + q * (side * c * np.cos(ray) - s * np.sin(ray))) / slope
    half = np.maximum(stroke.edge / 2, thin)
    return np.exp(-(((away + stroke.edge / 2) / half) ** 2)), 18.0 * (1.0 - facing**2)


def paint(level, shade, section, grid, *, sweep, pulse, step):
    """Paints a section, in place, on level [dB] and shade [dB/mm] [T, R, L]. grid: x, y [T, R, L] mm and the beams' angle [T, 1, L]."""
    turn, size = section.pose(sweep)
    here = np.flatnonzero(size > LEAST)
    x, y, ray = (a[here] for a in grid)
    turn, size, pulse = (a[here, None, None] for a in (turn, size, pulse))
    fine = np.exp(-((np.maximum(np.abs(section.off(sweep)[here, None, None]) - 0.8, 0.0) / 0.4) ** 2))
    c, s, dx, dy = np.cos(turn), np.sin(turn), x - section.x, y - section.y
    u, v = (c * dx + s * dy) / size, (c * dy - s * dx) / size
    loud, lost = level[here], shade[here]
    for stroke in section.strokes:
        cover, graze = _cover(stroke, u, v, ray + turn, pulse, 0.55 * step)
        cover = cover * fine if stroke.fine else cover
        loud += cover * (stroke.level - graze - loud)
        lost += cover * (stroke.shade - lost)
    level[here], shade[here] = loud, lost


def womb(fetus, x, y):
    """Level [dB] and shade [dB/mm] at x, y [...] mm with nothing in the womb but fluid."""
    (x0, y0, wide, high), (first, second, third) = fetus.cavity, fetus.waves
    level = np.interp(y / (y0 - high), np.linspace(0, 4, 8), fetus.wall)
    for deep, strength in fetus.fascia:
        level += strength * np.exp(-(((y - deep - 1.2 * np.sin(x / 15.0 + deep)) / 1.1) ** 2))
    turn = np.arctan2((y - y0) / high, (x - x0) / wide)
    swell = 1.0 + 0.05 * np.sin(2 * turn + first) + 0.04 * np.sin(3 * turn + second) + 0.02 * np.sin(7 * turn + third)
    away = (np.sqrt(((x - x0) / wide) ** 2 + ((y - y0) / high) ** 2) / swell - 1.0) * high
    inside = 1.0 / (1.0 + np.exp(np.clip(away / 0.8, -30, 30)))
    level += 7.0 * np.exp(-(((away - 1.0) / 1.3) ** 2))
    return level + inside * (fetus.fluid - level), -0.1 * inside


def outlines(fetus, heads, sweep, origin, roll, fan):
    """The head's ellipse in every frame [T, 5], as `make` has it, of a picture that is not mirrored; NaN where there is none."""
    found, unit, c, s = np.full((len(sweep), 5), np.nan), fan.mm_per_pixel, np.cos(roll), np.sin(roll)
    for head in heads:
        (turn, size), x, y = head.pose(sweep), head.x - origin[:, 0], head.y
        middle = (c * x + s * y) / unit + (fan.size - 1) / 2, (c * y - s * x + fan.sagitta) / unit + 1.0
        here = size > LEAST  # what is painted
        found[here] = np.stack([*middle, *(size * r / unit for r in fetus.head), turn - roll], -1)[here]
    return found


def fill(ellipses, size):
    """uint8 [T, size, size]: 1 where a pixel's middle lies in the ellipse [T, 5]; 0 everywhere for NaN."""
    rows, columns = np.mgrid[:size, :size]
    x, y, a, b, turn = ellipses.T[..., None, None]
    u, v = np.cos(turn) * (columns - x) + np.sin(turn) * (rows - y), np.cos(turn) * (rows - y) - np.sin(turn) * (columns - x)
    return ((u / a) ** 2 + (v / b) ** 2 <= 1.0).astype(np.uint8)


def render(rng, fetus, exam, planes, *, frames, size):
    """uint8 frames [T, size, size], plane int32 [T], the head's ellipse [T, 5] (NaN: none), and the fan."""
    fan = Fan(size, exam.radius, exam.angle, exam.depth, rows=size, beams=7 * size // 6)
    fine = replace(fan, rows=2 * size)  # speckle is finer along the beam than anatomy is
    origin, axes, _ = machine.path(rng, fetus, frames, exam.frame_ms)
    way = origin[:, 2] + fetus.centre[1] * axes[:, 1, 2] / axes[:, 1, 1]
    way = np.clip((way - way[0]) / (way[-1] - way[0]), 0.0, 1.0) if frames > 1 else np.full(1, 0.5)
    sweep = 0.5 + (way - 0.5) * (frames - 1) / frames
    roll = np.arctan2(axes[:, 0, 1], axes[:, 0, 0])[:, None, None]
    pulse = np.sin(2 * np.pi * (np.arange(frames) * exam.frame_ms / rng.uniform(380, 460) + rng.random()))
    parts, heads = sections(rng, fetus, planes)
    x, y = fan.polar_xy()
    x, y = origin[:, :1, None] + x * np.cos(roll) - y * np.sin(roll), x * np.sin(roll) + y * np.cos(roll)
    level, shade = womb(fetus, x, y)
    for part in parts:
        paint(level, shade, part, (x, y, fan.angles() - roll), sweep=sweep, pulse=pulse, step=fan.step)
    kind = np.where(level < FLUID, 1, np.where(level > BONE, 2, 0))
    level += (1.6 * (level > FLUID)) * ndimage.map_coordinates(fetus.grain, np.stack([x / 2.6, y / 1.7]), order=1, mode="grid-wrap")
    power = physics.smooth(10.0 ** (level / 10.0), *(w / np.sqrt(2) for w in echo.spread(exam, fan)))  # the squared spread mixes powers
    loss, tgc = echo.loss_db(exam, fan, np.zeros(x.shape, np.uint8), x, 0.0)
    behind = np.cumsum(shade, axis=1) * fan.step - shade * fan.step
    amplitude = np.sqrt(np.maximum(power, 1e-6)) * 10.0 ** (-(loss + np.clip(behind, -10.0, 28.0)) / 20.0)
    speckle = echo.speckle(rng, fine, exam, (origin, axes, np.zeros((frames, 3))))
    z = physics.unit_envelope(speckle, np.repeat(kind, 2, axis=1), fetus.m, np.ones(3)) * echo.double_rows(amplitude)
    echo.interfere(rng, z, exam, fine, amplitude, tgc)
    images = display(physics.log_compress(np.abs(z), dynamic_range=exam.dynamic_range, gain=exam.gain), fine, exam)
    stop, rest = np.divmod(sweep * len(planes), 1.0)  # a sweep of 0 to 1 without its ends
    met = np.where(np.abs(rest - 0.5) <= 0.25, np.asarray(planes)[stop.astype(int)], -1)
    ellipses = outlines(fetus, heads, sweep, origin, roll.ravel(), fan)
    if exam.mirror:
        images, ellipses = images[..., ::-1].copy(), ellipses * [-1, 1, 1, 1, -1] + [size - 1, 0, 0, 0, 0]
    return images, met.astype(np.int32), ellipses, fan


def cine(seed, index, *, cines=1, frames=24, size=64):
    """Cine `index` of `make`, a function of its arguments alone: the dict described there."""
    fetus, exam, number, rng = _draw(seed, index, cines)
    stops = max(frames // STOP, 1)
    order = fetus.order[(number * stops + np.arange(stops)) % len(PLANES)]
    images, planes, ellipses, fan = render(rng, fetus, exam, order, frames=frames, size=size)
    a, b = ellipses[:, 2:4].T
    length = 4.0 * a * special.ellipe(1.0 - (b / a) ** 2) * fan.mm_per_pixel
    truth = {"head_circumference_mm": length, "ellipse": ellipses}
    return {
        "patient": f"patient{index // cines:04d}", "frames": images, "labels": fill(ellipses, size), "planes": planes,
        "mm_per_pixel": float(fan.mm_per_pixel), "frame_ms": exam.frame_ms,
        "truth": {name: [x.tolist() if np.isfinite(x).all() else None for x in found] for name, found in truth.items()},
        "machine": {k: getattr(exam, k) for k in ("name", "dynamic_range", "gain", "gamma", "frequency", "mirror")},
    }  # fmt: skip


def make(seed, *, patients=40, cines=1, frames=24, size=64, workers=2):
    """Yields `patients * cines` cines in order, `cines` of each patient; the same for any `workers` and `patients`.

    Each is a dict: "patient" str; "frames" uint8 [frames, size, size]; "planes" int32 [frames], an index into PLANES where a standard
    plane is met and -1 elsewhere (`COARSE[plane]` indexes ANATOMIES); "labels" uint8 like the frames, 1 in the head's outline, in a
    standard plane or beside it; "truth": for every frame "ellipse", the skull's outer border as [x, y, half-axes a >= b, turn] in pixels
    from the middle of the first and radians from right to down, and "head_circumference_mm", its length 4 a E(1 - b^2 / a^2), or None
    where no head is; "mm_per_pixel", "frame_ms" and "machine" as `uscl.phantom.kidney.make` has them.

    A cine meets frames // 8 planes, at least one, and a patient's next cine goes on in the same round of all nine: three cines of 24
    frames show each plane once. The workers are threads (`in_order`).
    """

    def one(index):
        return cine(seed, index, cines=cines, frames=frames, size=size)

    yield from in_order(one, patients * cines, workers=workers)
