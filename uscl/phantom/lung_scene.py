"""A chest as a probe hears it: wall and ribs, the pleura, and below it what air makes of them.

Sound does not enter a lung full of air. What a picture shows under the pleura are repeats of the wall and of the pleura
itself (A-lines), reverberation that begins at a spot of the pleura and runs down to the bottom (B-lines), and haze. Only
where the lung holds no air, in a consolidation, is there tissue. All of this runs along the beams, so it is computed in the
beams' own grid [T, R, L]: T frames, R samples along a beam, L beams; lengths in mm, levels in dB against an average liver.
`slide` [T] is how far breathing has moved the lung along the wall.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from uscl.phantom import echo, physics

WALL, AIR, SOLID = range(3)  # the speckle's classes


@dataclass(frozen=True)
class Spot:
    """A subpleural consolidation: a wedge that hangs from the pleura, drawn in the lung's own coordinates."""

    middle: float
    half: float  # half of its width at the pleura
    height: float
    form: float  # 1: a triangle; 2: a parabola
    level: float
    gap: float  # dB that the pleura loses above it
    shred: float  # dB of the ragged border where air begins again
    lift: float  # dB by which the haze behind it is brighter
    bronchi: np.ndarray  # [n, 5] place along the pleura and under it, half-length, slope, dB: air inside


@dataclass(frozen=True)
class Chest:
    centre: np.ndarray  # [3] and axes [3]: what has to be in view, as `uscl.phantom.machine` asks
    axes: np.ndarray
    m: np.ndarray  # [3] Nakagami's m of WALL, AIR and SOLID
    wall: np.ndarray  # [7] level from the skin to the pleura
    fascia: np.ndarray  # [n, 3] place between skin and pleura (0 to 1), dB, how wavy
    bend: tuple  # slope and curvature [1/mm] of the pleura
    heave: float  # mm that the pleura comes nearer while the lung slides by one mm
    line: float  # dB of the pleura met at a right angle
    fade: float  # dB that an A-line loses to the one above it
    repeat: float  # dB that the wall's repeats lose
    haze: tuple  # dB under the pleura, dB/mm, dB of the rays in it
    b_lines: np.ndarray  # [n, 5] place, half-width, dB, flickers a frame, phase
    ribs: list  # [n][3] as in `uscl.phantom.machine.Exam`
    spots: tuple  # of Spot; empty in a normal lung
    grain: np.ndarray  # [2, 64, 64] texture of the wall and of solid lung
    ripple: np.ndarray  # [256] noise along the pleura


def _spot(rng, middle, haze):
    half = rng.uniform(9.0, 18.0)
    height = half * rng.uniform(0.8, 1.7)
    bronchi = [
        [rng.uniform(-0.45, 0.45) * half, rng.uniform(0.2, 0.6) * height, rng.uniform(1.0, 3.5), rng.uniform(-1, 1), rng.uniform(9, 16)]
        for _ in range(rng.integers(2, 6))
    ]
    bronchi = np.reshape(bronchi, (-1, 5))[: 0 if rng.random() < 0.55 else None]
    return Spot(
        middle=middle, half=half, height=height, form=rng.uniform(1.0, 2.6), level=haze - rng.uniform(2, 8), gap=rng.uniform(7, 18),
        shred=haze + rng.uniform(8, 16), lift=rng.uniform(1, 6), bronchi=bronchi,
    )  # fmt: skip


def draw(rng, sick):
    """A chest from one generator; `sick` takes nothing from it, so a patient has a healthy twin who is else the same."""
    depth, middle, space = rng.uniform(14, 34), rng.uniform(-9, 9), rng.uniform(32, 48)
    ribs = [[middle + side * space / 2, rng.uniform(4.0, 7.0), rng.uniform(14, 34)] for side in (-1, 1)]
    ribs = ribs[: 0 if rng.random() < 0.3 else None]  # a probe along the gap between two ribs sees neither
    haze, wide = rng.uniform(-13, -2), rng.choice([1.0, 1.6, 3.5], p=[0.4, 0.4, 0.2])
    lines = [
        [middle + rng.uniform(-22, 22), wide * rng.uniform(0.7, 1.3), haze + rng.uniform(6, 14), rng.uniform(0, 0.06), rng.uniform(0, 7)]
        for _ in range(rng.integers(0, 4))
    ]
    far = middle + rng.choice([-1, 1]) * rng.uniform(24, 36)
    spots = (_spot(rng, middle + rng.uniform(-5, 5), haze), _spot(rng, far, haze))
    spots = spots[: 1 if rng.random() < 0.7 else 2]
    fascia = [[rng.uniform(0.12, 0.92), rng.uniform(3, 11), rng.uniform(0.02, 0.06)] for _ in range(rng.integers(2, 6))]
    grain = ndimage.gaussian_filter(rng.standard_normal((2, 64, 64)), (0, 0.7, 0.7), mode="wrap")
    return Chest(
        centre=np.array([middle, depth, 0.0]), axes=np.array([20.0, 0.0, rng.uniform(0.5, 3.0)]),
        m=rng.uniform([0.7, 0.8, 0.8], [1.0, 1.2, 1.2]), wall=rng.normal([3, -3, -5, -3, -2, -3, -1], 2.5),
        fascia=np.array(fascia), bend=(rng.normal(0, 0.08), rng.uniform(-0.003, 0.001)), heave=rng.uniform(-0.15, 0.15),
        line=rng.uniform(15, 23), fade=rng.uniform(4, 12), repeat=rng.uniform(9, 20),
        haze=(haze, rng.uniform(-0.22, 0.0), rng.uniform(0.8, 2.5)), b_lines=np.reshape(lines, (-1, 5)),
        ribs=ribs, spots=spots if sick else (), grain=grain / grain.std(), ripple=rng.standard_normal(256),
    )  # fmt: skip


def interstitial(rng, chest):
    """The chest with interstitial syndrome: B-lines over 24 to 70 mm of the pleura, in the place of its own, and there no A-lines.

    Thin ones are bright rays that flicker. Confluent ones are broad, steady and hardly brighter than the haze, as the haze behind a
    consolidation is; they stand 5 mm apart, so that no repeat of pleura or wall comes through.
    """
    haze, wide = chest.haze[0], rng.uniform(24.0, 70.0)
    first = chest.centre[0] - wide / 2.0 + rng.uniform(-8.0, 8.0)
    lines = [
        [first + rng.uniform(0.0, wide), rng.uniform(0.7, 2.5), haze + rng.uniform(8, 15), rng.uniform(0, 0.06), rng.uniform(0, 7)]
        for _ in range(rng.integers(3, 8))
    ]
    for place in np.arange(2.5, wide, 5.0):
        lines.append([first + place, rng.uniform(4.0, 7.0), haze + rng.uniform(-9, 2), 0.0, np.pi / 2.0])
    return replace(chest, b_lines=np.array(lines))


def pleura(chest, fan, plane, slide):
    """Where every beam meets the pleura: mm from the face, mm along the wall, and what its echo loses there [dB], all [T, L].

    The pleura is the curve y = depth + slope x + curve x^2 - heave slide under the middle of the probe; it throws the less
    back the more askew it is met, 1 dB at 7 degrees and 4 dB at 14.
    """
    (slope, curve), angle, shift = chest.bend, fan.angles(), plane[0][:, :1]
    depth = np.full((len(shift), fan.beams), chest.centre[1])
    for _ in range(4):  # a fixed point: the pleura is nearly flat, every step gains more than a digit
        x = (fan.radius + depth) * np.sin(angle) + shift
        level = chest.centre[1] + slope * x + curve * x**2 - chest.heave * slide[:, None]
        depth = np.maximum((level + fan.radius) / np.cos(angle) - fan.radius, 6.0)
    askew = np.rad2deg(angle + np.arctan(slope + 2.0 * curve * x))
    return depth, x, (askew / 7.0) ** 2


def _ripple(chest, s, grain, start):
    return np.interp(s / grain + start, np.arange(256), chest.ripple, period=256)


def _power(decibel):
    return 10.0 ** (decibel / 10.0)


def _texture(field, across, down):
    return ndimage.map_coordinates(field, np.broadcast_arrays(across, down), order=1, mode="grid-wrap")


def _solid(chest, spot, s, under):
    """How much of a sample [T, R, L] lies in the consolidation, the power of its tissue, and that of its ragged border."""
    reach = spot.height * np.maximum(1.0 - np.abs((s - spot.middle) / spot.half) ** spot.form, 0.0)
    reach = reach * (1.0 + 0.12 * _ripple(chest, s, 2.0, 17))
    inside = np.where(reach > 0.5, 1.0 / (1.0 + np.exp(np.clip((under - reach) / 0.4, -30, 30))), 0.0) * (under > 0)
    tissue = spot.level + 1.2 * _texture(chest.grain[SOLID - 1], s / 3.0, under / 2.0)
    for place, deep, half, slope, level in spot.bronchi:
        along, off = (s - spot.middle - place) / half, under - deep - slope * (s - spot.middle - place)
        tissue = tissue + level * np.exp(-(along**4) - (off / 0.8) ** 2)
    border = np.exp(-0.5 * ((under - reach) / 0.8) ** 2) * (reach > 1.0)
    return inside, _power(tissue), border * _power(spot.shred + 2.5 * _ripple(chest, s, 1.5, 90))


def power(chest, exam, fan, plane, slide):
    """Power of every echo [T, R, L], in which samples there is lung (bool), and how much of them each spot fills [n, T, R, L].

    plane: origin [T, 3] of the probe's face, and anything; slide [T] mm. The wall stands still, all else moves with slide.
    """
    deep, x, askew = (a[:, None] for a in pleura(chest, fan, plane, slide))
    depth, s, time = fan.depths()[:, None], x - slide[:, None, None], np.arange(len(slide))[:, None, None]
    under, nearest = depth - deep, np.maximum(np.round(depth / deep), 1.0)
    bounces, rest = np.divmod(depth / deep, 1.0)
    wall = np.interp(rest, np.linspace(0, 1, 7), chest.wall) + 3.0 * _texture(chest.grain[WALL], x / 9.0, rest * deep / 1.3)
    for place, level, wavy in chest.fascia:
        off = (rest - place - wavy * np.sin(x / 13.0 + 40.0 * place)) * deep
        wall = wall + level * np.exp(-((off / 0.9) ** 2))
    width = max(np.hypot(0.6, exam.axial / physics.FWHM), 0.6 * fan.step)
    line = chest.line - nearest * askew - chest.fade * (nearest - 1.0) + 1.5 * _ripple(chest, s, 1.2, 0)
    line = _power(line) * np.exp(-0.5 * ((depth - nearest * deep) / width) ** 2)
    start, slope, rays = chest.haze
    haze = _power(start + slope * under + rays * _ripple(chest, s, 1.6, 60))
    mirror = np.ones_like(s)  # where the pleura still is a mirror that gives repeats
    shine = np.zeros_like(haze)
    for place, half, level, rate, phase in chest.b_lines:
        beam = np.exp(-0.5 * ((s - place) / half) ** 2) * (0.7 + 0.3 * np.sin(2.0 * np.pi * rate * time + phase))
        shine += beam * _power(level + 0.6 * slope * under + 0.8 * _ripple(chest, under, 1.5, 30))
        mirror = mirror * (1.0 - 0.85 * np.clip(beam, 0.0, 1.0))
    closed, parts = np.ones_like(s), []
    for spot in chest.spots:
        over = 1.0 / (1.0 + np.exp(np.clip((np.abs(s - spot.middle) - spot.half) / 0.8, -30, 30)))
        closed = closed * _power(-spot.gap * over * (1.0 + 0.3 * np.clip(_ripple(chest, s, 3.0, 200), -2, 2)))
        mirror = mirror * (1.0 - 0.95 * over)
        haze, shine = haze * _power(spot.lift * over), shine * (1.0 - 0.8 * over)
        parts.append(_solid(chest, spot, s, under))
    out = _power(wall - chest.repeat * bounces) * np.where(under < 0, 1.0, mirror)
    out += np.where(under < 0, 0.0, haze + shine) + line * np.where(nearest > 1, mirror, closed)
    for inside, tissue, border in parts:
        out = out + inside * (tissue - out) + border
    axial, lateral = echo.spread(exam, fan)
    out = physics.smooth(out, axial / np.sqrt(2), lateral / np.sqrt(2))  # the squared point spread mixes powers
    return np.maximum(out, 1e-6), under > 0, np.array([inside for inside, _, _ in parts]).reshape(-1, *under.shape)
