"""Cines of lungs that nobody scanned: a still probe over a breathing chest, half of the patients with a consolidation.

    for cine in make(seed=0, patients=40):
        cine["frames"], cine["attributes"]["class"], cine["boxes"]     # uint8 [32, 64, 64], a word, int32 [32, n, 4]

The pleura slides under ribs and muscle, A-lines repeat it, B-lines move with it; normal and consolidated lungs have the
same walls, machines, A-lines and B-lines, so that neither a machine nor the mean gray tells them apart.

All cines are of one clinic: a convex probe and its lung preset, as an outpatient room has them. With scanners="many" every patient has
another machine and setting, as in the kidney phantom. What tells clips apart is then first of all the shape of the fan, and a network that
learns to tell them apart without labels learns that.

With lungs="three" a third of the patients has interstitial syndrome instead, class "b_lines": many and confluent B-lines along a part of
the pleura, and there no A-lines. Under a consolidation there are none either, which with two classes is as good a sign of it as the wedge
in its box, and with three is not.
"""

from dataclasses import replace

import numpy as np

from uscl.phantom import echo, lung_scene, machine, physics
from uscl.phantom.render import display
from uscl.phantom.scan import Fan, scan_convert
from uscl.phantom.workers import in_order

CLASSES = ("normal", "consolidation")
LUNGS = {"two": CLASSES, "three": (*CLASSES, "b_lines")}
LEAST = 20.0  # mm^2 of a consolidation that must be seen for a box
SCANNERS = ("one", "many")
HIDDEN = 10.0  # dB that a rib's shadow or lost contact may take before a sample counts as not seen


def _preset(rng, exam):
    """The examination on the clinic's scanner: its probe and display, two depths, a gain that is set once and turned a little."""
    radius, angle, frequency, axial, waist, spread, slab, _, gamma, persistence, smoothing, sharpening = machine.MACHINES["cart"]
    dynamic_range = rng.uniform(57, 63)
    return replace(
        exam, name="cart", radius=radius * rng.uniform(0.99, 1.01), angle=np.deg2rad(angle), depth=rng.choice([80.0, 95.0]),
        frequency=frequency, axial=axial, waist=waist, spread=spread, slice=slab, dynamic_range=dynamic_range,
        gain=-dynamic_range * rng.uniform(0.5, 0.6), gamma=gamma, persistence=persistence, smoothing=smoothing, sharpening=sharpening,
        tgc=(0.53, rng.normal(0, 1.0, 8)), noise=rng.uniform(-36, -26), haze=(rng.uniform(-10, 0), rng.uniform(5, 14)), mirror=False,
    )  # fmt: skip


def _kind(seed, key, lungs):
    """The class of patient `key`: one of each among every two or three patients, in an order that the seed picks."""
    kinds = LUNGS[lungs]
    coin = np.random.SeedSequence(seed, spawn_key=(key // len(kinds),)).generate_state(1)[0]
    return kinds[(key + int(coin)) % len(kinds)]


def _draw(seed, index, cines, scanners="one", lungs="two"):
    """Chest, examination and generator of a cine: streams keyed by patient and cine, never by how many there are."""
    key, number = divmod(index, cines)
    streams = [np.random.SeedSequence(seed, spawn_key=(key, k)) for k in (0, 1 + number)]
    first, rng = (np.random.Generator(np.random.Philox(s)) for s in streams)
    kind = _kind(seed, key, lungs)
    chest = lung_scene.draw(first, sick=kind == "consolidation")
    if kind == "b_lines":
        chest = lung_scene.interstitial(first, chest)
    exam = machine.draw(rng, chest)
    depth = np.clip(chest.centre[1] * rng.uniform(3.0, 4.6), 70.0, 125.0)
    exam = replace(exam, depth=depth, focus=rng.uniform(20, 60), ribs=chest.ribs)
    return chest, exam if scanners == "many" else _preset(rng, exam), rng


def _boxes(parts, seen, fan, mirror):
    """Inclusive pixel boxes (top, left, bottom, right) int32 [T, n, 4] of parts [n, T, R, L]; -1 where too little is seen."""
    boxes = np.full((seen.shape[0], len(parts), 4), -1, np.int32)
    for n, part in enumerate(parts):
        image = scan_convert(part * seen, fan) > 0.5
        image = image[..., ::-1] if mirror else image
        for t in np.flatnonzero(image.sum(axis=(1, 2)) * fan.mm_per_pixel**2 >= LEAST):
            rows, columns = (np.flatnonzero(image[t].any(axis=a)) for a in (1, 0))
            boxes[t, n] = rows[0], columns[0], rows[-1], columns[-1]
    return boxes


def render(rng, chest, exam, *, frames, size):
    """uint8 frames [T, size, size], boxes int32 [T, n, 4] of the chest's spots, and the fan."""
    geometry = size, exam.radius, exam.angle, exam.depth
    fan = Fan(*geometry, rows=size, beams=7 * size // 6)
    fine = Fan(*geometry, rows=2 * size, beams=fan.beams)  # speckle is finer along the beam than anatomy is
    origin, axes, breath = machine.path(rng, chest, frames, exam.frame_ms)
    slide = 1.5 * breath[:, 0]
    power, lung, parts = lung_scene.power(chest, exam, fan, (origin, axes), slide)
    x = np.stack([echo.points(*fan.polar_xy(), o, a, np.zeros(3))[0] for o, a in zip(origin, axes, strict=True)])
    soft, bone = np.zeros(x.shape, np.uint8), 0.7 * chest.centre[1]
    loss, tgc = echo.loss_db(exam, fan, soft, x, bone)
    free, _ = echo.loss_db(replace(exam, ribs=[], contact=(0, 0, 0, 0, 0)), fan, soft, x, bone)
    amplitude = np.sqrt(power) * 10.0 ** (-loss / 20.0)
    moved = origin - slide[:, None] * [1.0, 0.0, 0.4]  # some of it across the plane
    both = np.concatenate([origin, moved]), np.concatenate([axes, axes]), np.zeros((2 * frames, 3))
    wall, below = np.split(echo.speckle(rng, fine, exam, both), 2)
    kind = np.where(lung, lung_scene.AIR, lung_scene.WALL)
    kind[(parts > 0.5).any(axis=0)] = lung_scene.SOLID
    kind = np.repeat(kind, 2, axis=1)
    z = physics.unit_envelope(np.where(kind == lung_scene.WALL, wall, below), kind, chest.m, np.ones(3))
    z *= echo.double_rows(amplitude)
    echo.interfere(rng, z, exam, fine, amplitude, tgc)
    gray = physics.log_compress(np.abs(z), dynamic_range=exam.dynamic_range, gain=exam.gain)
    images = display(gray, fine, exam)
    if exam.mirror:
        images = images[..., ::-1].copy()
    return images, _boxes(parts, loss - free < HIDDEN, fan, exam.mirror), fan


def cine(seed, index, *, cines=1, frames=32, size=64, scanners="one", lungs="two"):
    """Cine `index` of `make`, a function of its arguments alone: the dict described there. ValueError for unknown `scanners` or `lungs`."""
    for name, value, known in (("scanners", scanners, SCANNERS), ("lungs", lungs, LUNGS)):
        if value not in known:
            raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(known)}")
    chest, exam, rng = _draw(seed, index, cines, scanners, lungs)
    images, boxes, fan = render(rng, chest, exam, frames=frames, size=size)
    return {
        "patient": f"patient{index // cines:04d}",
        "frames": images,
        "boxes": boxes,
        "attributes": {"class": _kind(seed, index // cines, lungs)},
        "mm_per_pixel": float(fan.mm_per_pixel),
        "frame_ms": exam.frame_ms,
        "truth": {
            "b_lines": len(chest.b_lines), "ribs": len(chest.ribs), "pleura_mm": float(chest.centre[1]),
            "bronchograms": sum(len(spot.bronchi) for spot in chest.spots),
        },
        "machine": {k: getattr(exam, k) for k in ("name", "dynamic_range", "gain", "gamma", "frequency", "mirror")},
    }  # fmt: skip


def make(seed, *, patients=40, cines=1, frames=32, size=64, scanners="one", lungs="two", workers=2):
    """Yields `patients * cines` cines in order, `cines` of each patient; the same for any `workers` and `patients`.

    Each is a dict: "patient" str; "frames" uint8 [frames, size, size]; "attributes" {"class": "normal" or "consolidation"}, one of each in
    every pair of patients, or with lungs="three" one of these and of "b_lines" in every three; "boxes" int32 [frames, n, 4], for each of a
    patient's n consolidations (0 in the other classes, else 1 or 2) the box of what is seen of it in this frame as top, left, bottom, right
    in pixels, all four inclusive, or -1 four times where a rib's shadow, lost contact or the picture's edge leaves less than 20 mm^2 of it;
    "mm_per_pixel" and "frame_ms" float; "truth": how many B-lines, ribs and air bronchograms there are, and the pleura's depth in mm;
    "machine" as `uscl.phantom.kidney.make` has it. The workers are threads (`in_order`).
    """

    def one(index):
        return cine(seed, index, cines=cines, frames=frames, size=size, scanners=scanners, lungs=lungs)

    yield from in_order(one, patients * cines, workers=workers)
