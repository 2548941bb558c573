"""Cines of kidneys that nobody scanned: a sweep through a wobbly organ, with its labels and the speckle it was given.

    for cine in make(seed=0, patients=40):
        cine["frames"], cine["labels"]     # uint8 [40, 96, 96]

Every patient has an anatomy and speckle parameters of their own, every cine a machine (one of six), settings, shadows
and a path of its own.
"""

import numpy as np
from scipy import ndimage

from uscl.phantom import machine, patient, physics
from uscl.phantom.patient import TISSUES
from uscl.phantom.render import render
from uscl.phantom.workers import in_order

CLASSES = {"capsule": [1, 2, 3], "cortex": [1], "medulla": [2], "central_echo_complex": [3]}


def _draw(seed, index, cines):
    """Patient, examination and generator of a cine: streams keyed by patient and cine, never by how many there are."""
    key, number = divmod(index, cines)
    streams = [np.random.SeedSequence(seed, spawn_key=(key, k)) for k in (0, 1 + number)]
    first, rng = (np.random.Generator(np.random.Philox(s)) for s in streams)
    person = patient.draw(first)
    return person, machine.draw(rng, person), rng


def cine(seed, index, *, cines=1, frames=40, size=96):
    """Cine `index` of `make`, a function of its arguments alone: the dict described there."""
    person, exam, rng = _draw(seed, index, cines)
    images, labels, fan = render(rng, person, exam, frames=frames, size=size)
    omega = 10.0 ** (person.level / 10.0)
    return {
        "patient": f"patient{index // cines:04d}",
        "frames": images,
        "labels": labels,
        "mm_per_pixel": float(fan.mm_per_pixel),
        "frame_ms": exam.frame_ms,
        "truth": {name: {"m": float(person.m[k]), "omega": float(omega[k])} for k, name in enumerate(TISSUES)},
        "machine": {k: getattr(exam, k) for k in ("name", "dynamic_range", "gain", "gamma", "frequency", "mirror")},
    }


def make(seed, *, patients=40, cines=1, frames=40, size=96, workers=2):
    """Yields `patients * cines` cines in order, `cines` of each patient; the same for any `workers` and `patients`.

    Each is a dict: "patient" str; "frames" uint8 [frames, size, size]; "labels" uint8 of the same shape, 0 outside,
    1 cortex, 2 medulla, 3 central echo complex (the capsule is their union: `CLASSES`); "mm_per_pixel" and "frame_ms"
    float; "truth": per tissue the m and omega of its envelope before texture and propagation (omega is the power
    against an average liver's); "machine": name, dynamic_range and gain [dB] (gray = 1 + (dB + gain) / dynamic_range,
    then to the power of gamma), frequency [MHz], and mirror: left and right are swapped.

    The workers are threads (`in_order`).
    """

    def one(index):
        return cine(seed, index, cines=cines, frames=frames, size=size)

    yield from in_order(one, patients * cines, workers=workers)


def speckle_stages(seed, index, *, frames=8, size=96):
    """Moment estimate of m per tissue after every stage of cine `index`: {tissue: {stage: m}}.

    Stages: "intended"; "unit", the Nakagami envelope; "propagated", with power, texture, losses and noise; "interior",
    the same at least 3 rows and 2 beams inside the tissue; "decompressed", from the gray with the true dynamic range
    and gain; "gray", the log-compressed picture itself. Medians over 20 patients of seed 0, 8 frames each:

    | tissue               | intended | unit | propagated | interior | decompressed | gray |
    |----------------------|----------|------|------------|----------|--------------|------|
    | cortex               | 0.99     | 0.95 | 0.20       | 0.62     | 0.20         | 2.5  |
    | medulla              | 1.13     | 1.09 | 0.07       | 0.71     | 0.07         | 1.3  |
    | central echo complex | 0.60     | 0.62 | 0.24       | 0.24     | 0.24         | 3.9  |
    | liver                | 1.01     | 1.01 | 0.21       | 0.61     | 0.21         | 3.3  |

    So test an estimator on the unit envelope. After propagation a tissue is a mixture, brightened at its borders and
    dimmed by depth and shadow; and on gray m follows the mean gray.
    """
    person, exam, rng = _draw(seed, index, 1)
    stages = {}
    render(rng, person, exam, frames=frames, size=size, stages=stages)
    stages["decompressed"] = physics.decompress(stages["gray"], dynamic_range=exam.dynamic_range, gain=exam.gain)
    found = {}
    for name in ("cortex", "medulla", "central_echo_complex", "liver"):
        kind = TISSUES.index(name)
        here = stages["tissue"] == kind
        inner = ndimage.binary_erosion(here, np.ones((1, 7, 5)))
        if inner.sum() > 1000:
            row = {s: physics.moments(stages[s][here])[0] for s in ("unit", "propagated", "decompressed", "gray")}
            row |= {"intended": person.m[kind], "interior": physics.moments(stages["propagated"][inner])[0]}
            found[name] = {stage: float(m) for stage, m in row.items()}
    return found
