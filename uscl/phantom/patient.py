"""Who is scanned: the numbers of one patient's anatomy and speckle, all from one generator."""
from dataclasses import dataclass

import numpy as np

TISSUES = (
    "soft", "cortex", "medulla", "central_echo_complex", "liver", "rim", "muscle", "skin", "fluid", "gas", "wall"
)  # fmt: skip
SOFT, CORTEX, MEDULLA, CENTRE, LIVER, RIM, MUSCLE, SKIN, FLUID, GAS, WALL = range(len(TISSUES))

# Per tissue, mean and standard deviation over patients of the level [dB against an average liver] and of Nakagami's m.
# The levels of the kidney's own tissues are drawn in `draw`.
SPECKLE = np.array(
    [
        [2, 2.5, 0.7, 0.1], [0, 0, 1, 0.15], [0, 0, 1.1, 0.2], [0, 0, 0.6, 0.1], [0, 1.5, 1, 0.1], [7, 2.5, 0.65, 0.1],
        [-4, 2.5, 0.8, 0.1], [2, 3, 0.9, 0.1], [-32, 4, 0.9, 0.1], [14, 3, 0.4, 0.05], [10, 3, 0.6, 0.1],
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Patient:
    level: np.ndarray  # [K] dB
    m: np.ndarray  # [K]
    centre: np.ndarray  # [3] of the kidney
    axes: np.ndarray  # [3] semi-axes
    turn: np.ndarray  # [3, 3] rotation, rows are the kidney's axes
    bend: float
    waves: tuple  # (vectors [W, 3], phases [W], amplitudes [W]) of the capsule
    lobes: tuple  # the same, of the central echo complex
    sinus: np.ndarray  # [4] semi-axes of the central echo complex relative to the kidney's, and its offset along z
    pelvis: float  # the part of the complex that is dilated: 0 none
    pyramids: np.ndarray  # [P, 4] direction and half-width (a chord on the unit sphere)
    cortex: float  # relative thickness
    rim: tuple  # thickness of the fat around it (relative), direction of the thick side [3]
    liver: tuple  # (normal [3], offset) of the liver's border
    psoas: tuple  # (depth, slope) of the muscle behind
    layers: np.ndarray  # [2] depth of the skin's and of the muscles' lower border
    others: tuple  # ellipsoids (centre [3], axes [3], inside, shell or -1)


def _waves(rng, count, low, high, amplitude):
    vectors = rng.standard_normal((count, 3))
    vectors *= rng.uniform(low, high, (count, 1)) / np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, rng.uniform(0, 2 * np.pi, count), amplitude * rng.uniform(0.4, 1.0, count)


def _rotation(about_z, about_y, about_x):
    (cz, cy, cx), (sz, sy, sx) = np.cos([about_z, about_y, about_x]), np.sin([about_z, about_y, about_x])
    z = np.array([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]])
    y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    return np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]]) @ y @ z


def _pyramids(rng):
    """Directions in the kidney's unit sphere, three staggered rings round the z axis, and half-widths."""
    count, rows = rng.integers(6, 11), []
    for tilt, offset in ((-0.8, 0.5), (0.0, 0.0), (0.8, 0.5)):
        n = count if tilt == 0 else count - 2
        turn = 2 * np.pi * (np.arange(n) + offset + rng.uniform(-0.18, 0.18, n)) / n + rng.uniform(0, 6)
        up = tilt + rng.uniform(-0.15, 0.15, n)
        width = rng.uniform(0.75, 0.98) * np.pi / count * rng.uniform(0.75, 1.2, n)
        rows.append(np.stack([np.cos(turn) * np.cos(up), np.sin(turn) * np.cos(up), np.sin(up), width], -1))
    return np.concatenate(rows)


def _others(rng, centre, axes, flip):
    """Round distractors: cysts, vessels, a loop of bowel that mimics a small kidney, gas below and beside."""
    found = []
    for _ in range(rng.integers(0, 5)):  # vessels and cysts in the tissue above and beside
        size = rng.uniform(2.5, 9) * np.array([rng.uniform(1, 2.5), 1, rng.uniform(1, 2)])
        spot = np.array([rng.uniform(-65, 65), rng.uniform(18, 110), rng.uniform(-25, 25)])
        found.append((spot, size, FLUID, WALL if rng.random() < 0.5 else -1))
    if rng.random() < 0.5:
        spot = centre + np.array([-flip * (axes[0] + rng.uniform(5, 20)), rng.uniform(-5, 25), rng.uniform(-15, 15)])
        found.append((spot, rng.uniform(9, 16) * np.array([1.3, 1, 1.6]), SOFT, MUSCLE))
    for _ in range(rng.integers(0, 3)):
        spot = centre + np.array([-flip * rng.uniform(25, 75), axes[1] + rng.uniform(6, 22), rng.uniform(-20, 20)])
        found.append((spot, np.array([rng.uniform(5, 14), rng.uniform(1.5, 4), rng.uniform(8, 25)]), GAS, -1))
    return tuple(found)


def draw(rng):
    """A patient: every number that `uscl.phantom.anatomy` needs, from one generator."""
    level = rng.normal(SPECKLE[:, 0], SPECKLE[:, 1])
    level[CORTEX] = level[LIVER] + np.clip(rng.normal(-2.5, 3.5), -10, 4)
    level[MEDULLA] = level[CORTEX] - rng.uniform(4.5, 10.5)
    level[CENTRE] = level[CORTEX] + rng.uniform(8.0, 16.0)
    level[RIM] = np.maximum(level[RIM], level[CORTEX] + 3.5)
    m = np.maximum(rng.normal(SPECKLE[:, 2], SPECKLE[:, 3]), 0.3)
    axes = np.array([rng.uniform(44, 57), 0, 0])
    axes[1:] = axes[0] * rng.uniform(0.43, 0.54), axes[0] * rng.uniform(0.42, 0.54)
    layers = np.cumsum([rng.uniform(4, 14), rng.uniform(6, 13)])
    flip = rng.choice([-1.0, 1.0])
    top = layers[1] + rng.uniform(5, 26)
    tilt = flip * rng.uniform(-0.1, 0.45)
    reach = np.hypot(axes[1] * np.cos(tilt), axes[0] * np.sin(tilt) * 0.8)
    centre = np.array([rng.uniform(-18, 18), top + reach, 0.0])
    thick = rng.standard_normal(3) + np.array([0, 0.6, 0])
    return Patient(
        level=level, m=m, centre=centre, axes=axes,
        turn=_rotation(tilt, rng.normal(0, 0.12), rng.normal(0, 0.12)),
        bend=rng.uniform(-0.05, 0.22), waves=_waves(rng, 5, 1.5, 4.5, 0.035), lobes=_waves(rng, 6, 3.0, 8.0, 0.16),
        sinus=np.array([rng.uniform(0.5, 0.64), rng.uniform(0.36, 0.5), rng.uniform(0.6, 0.8), rng.uniform(0.1, 0.35)]),
        pelvis=rng.uniform(0.25, 0.6) if rng.random() < 0.25 else 0.0,
        pyramids=_pyramids(rng), cortex=rng.uniform(0.17, 0.29),
        rim=(rng.uniform(0.03, 0.16), thick / np.linalg.norm(thick)),
        liver=(np.array([flip * rng.uniform(0.2, 1.2), -1.0, rng.uniform(-0.2, 0.2)]), centre[1] + rng.uniform(-8, 30)),
        psoas=(centre[1] + axes[1] + rng.uniform(4, 18), -flip * rng.uniform(-0.1, 0.4)),
        layers=layers, others=_others(rng, centre, axes, flip),
    )
