"""The body as implicit shapes in tissue coordinates.

x is the long axis of the body, y the depth under the skin, z the direction of the sweep; mm, origin under the middle of
the probe. All shapes are functions of a point, so a frame is cut at any plane with no voxels and its labels are exact.
"""
import numpy as np

from uscl.phantom.patient import CENTRE, CORTEX, FLUID, LIVER, MEDULLA, MUSCLE, RIM, SKIN, SOFT, WALL

LABEL = np.array([0, 1, 2, 3, 0, 0, 0, 0, 3, 0, 0], np.uint8)  # of a tissue inside the capsule


def _wave(direction, waves):
    x, y, z = direction
    return sum(a * np.sin(k[0] * x + k[1] * y + k[2] * z + p) for k, p, a in zip(*waves, strict=True))


def kidney_part(patient, x, y, z):
    """Relative radius (1 at the capsule) and tissue (CORTEX, MEDULLA, CENTRE or FLUID) at points x, y, z [n]."""
    x, y, z = x - patient.centre[0], y - patient.centre[1], z - patient.centre[2]
    q = np.stack([(r[0] * x + r[1] * y + r[2] * z) / a for r, a in zip(patient.turn, patient.axes, strict=True)])
    q[1] -= patient.bend * (q[0] ** 2 - 0.3)
    radius = np.sqrt(np.einsum("an,an->n", q, q)) + 1e-9
    tissue = np.full(len(x), CORTEX, np.uint8)
    edge = np.flatnonzero(np.abs(radius - 1.05) < 0.4)  # wobble matters at the capsule only, and rises from 0 inwards
    swell = _wave(q[:, edge] / radius[edge], patient.waves)
    radius[edge] /= 1.0 + swell * np.clip(4.0 * radius[edge] - 2.6, 0.0, 1.0)
    inner = np.flatnonzero(radius < 1.06 - patient.cortex)
    q, rho = q[:, inner], radius[inner]
    s = q / patient.sinus[:3, None]
    s[2] -= patient.sinus[3] / patient.sinus[2]
    core = np.sqrt(np.einsum("an,an->n", s, s)) + 1e-9
    core /= 1.0 + _wave(s / core, patient.lobes)
    q /= np.sqrt(np.einsum("an,an->n", q, q)) + 1e-9
    grow = np.clip((rho - 0.2) / (0.8 - patient.cortex), 1e-6, 1.0) ** 0.8  # a pyramid's width from tip to base
    near = np.zeros(len(rho))
    for *axis, width in patient.pyramids:
        gap = (q[0] - axis[0]) ** 2 + (q[1] - axis[1]) ** 2 + (0.6 * (q[2] - axis[2])) ** 2
        np.maximum(near, 1.0 - gap / (width * grow) ** 2, out=near)
    part = np.where((near > 0) & (rho < 1.0 - patient.cortex + 0.06 * np.sqrt(near)), MEDULLA, CORTEX)  # rounded base
    part[core < 1.0] = CENTRE
    part[core < patient.pelvis] = FLUID
    tissue[inner] = part
    return radius, tissue


def _near(patient, x, y, z, factor):
    reach = factor * patient.axes[0]
    cx, cy, cz = patient.centre
    return np.flatnonzero((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2 < reach**2)


def label(patient, x, y, z):
    """Label uint8 at points x, y, z [n]: 0 outside, 1 cortex, 2 medulla, 3 central echo complex with its fluid."""
    out = np.zeros(len(x), np.uint8)
    close = _near(patient, x, y, z, 1.15)
    radius, tissue = kidney_part(patient, x[close], y[close], z[close])
    out[close] = np.where(radius < 1.0, LABEL[tissue], 0)
    return out


def classify(patient, x, y, z, depth):
    """Tissue (uint8) and relative radius in the kidney (9: far off) at points x, y, z [n], `depth` [n] mm deep."""
    sway = 3.0 * np.sin(x / 17.0 + z / 29.0 + patient.bend * 40) + 2.0 * np.sin(z / 11.0 + x / 23.0)
    (nx, ny, nz), offset = patient.liver
    border = x * nx + y * ny + z * nz + offset + sway
    tissue = np.where(border > 0, LIVER, SOFT).astype(np.uint8)
    tissue[np.abs(border) < 1.0] = WALL
    border = y + patient.psoas[1] * x + sway - patient.psoas[0]
    tissue[border > -1.0] = WALL
    tissue[border > 0.8] = MUSCLE
    for (cx, cy, cz), (ax, ay, az), inside, shell in patient.others:
        r = np.sqrt(((x - cx) / ax) ** 2 + ((y - cy) / ay) ** 2 + ((z - cz) / az) ** 2) + 0.03 * sway
        if shell >= 0:
            tissue[r < (1.25 if inside == FLUID else 1.7)] = shell
        tissue[r < 1.0] = inside
    radius = np.full(len(x), 9.0)
    close = _near(patient, x, y, z, 1.4)
    rho, part = kidney_part(patient, x[close], y[close], z[close])
    radius[close] = rho
    thick, side = patient.rim
    towards = (x[close] - patient.centre[0]) * side[0] + (y[close] - patient.centre[1]) * side[1] + z[close] * side[2]
    fat = 1.0 + thick * (1.0 + 0.8 * np.clip(towards / patient.axes[1], -1, 1)) + 0.01 * sway[close]
    tissue[close[rho < fat]] = RIM
    tissue[close[rho < 1.0]] = part[rho < 1.0]
    for border, kind in ((patient.layers[1], MUSCLE), (patient.layers[0], SKIN)):
        under = depth + 0.35 * sway - border
        tissue[under < 0.8] = WALL
        tissue[under < -0.8] = kind
    return tissue, radius
