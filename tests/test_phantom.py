"""The phantom: same cines everywhere, pictures that hang together, labels that fit."""
import hashlib
import threading
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from uscl.phantom import anatomy, echo, kidney, machine, patient
from uscl.phantom.render import render
from uscl.phantom.scan import Fan


def generator(seed=0):
    return np.random.Generator(np.random.Philox(seed))


@pytest.fixture(scope="module")
def cines():
    return list(kidney.make(3, patients=4, frames=20, size=64, workers=2))


# ---- the cines ----


def test_same_cine_for_any_workers_patients_and_order(cines):
    alone = list(kidney.make(3, patients=2, frames=20, size=64, workers=1))
    for a, b in zip(alone, cines, strict=False):
        assert a["patient"] == b["patient"] and a["truth"] == b["truth"] and a["machine"] == b["machine"]
        np.testing.assert_array_equal(a["frames"], b["frames"])
        np.testing.assert_array_equal(a["labels"], b["labels"])
    late = kidney.cine(3, 3, frames=20, size=64)
    np.testing.assert_array_equal(late["frames"], cines[3]["frames"])


def test_seeds_patients_and_cines_differ(cines):
    marks = {hashlib.sha256(c["frames"].tobytes()).hexdigest() for c in cines}
    other = kidney.cine(4, 0, frames=20, size=64)
    assert len(marks | {hashlib.sha256(other["frames"].tobytes()).hexdigest()}) == 5
    first, second, third = (kidney.cine(3, i, cines=2, frames=2, size=32) for i in range(3))
    assert first["patient"] == second["patient"] != third["patient"]
    assert first["truth"] == second["truth"] != third["truth"]  # tissue belongs to the patient,
    assert not np.array_equal(first["frames"], second["frames"])  # the path to the examination


def test_shapes_types_and_facts(cines):
    for index, c in enumerate(cines):
        assert c["frames"].shape == c["labels"].shape == (20, 64, 64)
        assert c["frames"].dtype == c["labels"].dtype == np.uint8
        assert c["patient"] == f"patient{index:04d}"
        assert 1.0 < c["mm_per_pixel"] < 4.0 and 40.0 <= c["frame_ms"] <= 110.0
        assert set(np.unique(c["labels"])) == {0, 1, 2, 3}
        assert 45.0 <= c["machine"]["dynamic_range"] <= 75.0
        assert set(c["truth"]) == set(patient.TISSUES)
        omega = {k: v["omega"] for k, v in c["truth"].items()}
        assert omega["medulla"] < omega["cortex"] < omega["central_echo_complex"]
    assert kidney.CLASSES == {"capsule": [1, 2, 3], "cortex": [1], "medulla": [2], "central_echo_complex": [3]}


@pytest.mark.parametrize("frames,size", [(1, 33), (2, 50)])
def test_any_size_and_length(frames, size):
    c = kidney.cine(0, 1, frames=frames, size=size)
    assert c["frames"].shape == c["labels"].shape == (frames, size, size)


def test_closing_the_generator_early_ends_the_workers():
    before = threading.active_count()
    cines = kidney.make(3, patients=50, frames=1, size=32, workers=2)
    next(cines)
    assert threading.active_count() == before + 2
    cines.close()
    assert threading.active_count() == before


def test_kidney_is_large_and_stays_in_view(cines):
    for c in cines:
        area = np.mean(c["labels"] > 0, axis=(1, 2))
        assert 0.08 < area.max() < 0.42
        assert np.all(area[2:-2] > 0.01)
        whole = ndimage.label(c["labels"][10] > 0)[1]
        assert whole == 1  # one organ, no crumbs
        assert np.all([np.mean(c["labels"][5:15] == k) > 0.005 for k in (1, 2, 3)])


def test_tissues_look_different_and_patients_overlap():
    contrast, level = [], []
    for index in range(8):
        c = kidney.cine(11, index, frames=4, size=64)
        gray = [c["frames"][c["labels"] == k].mean() for k in (1, 2, 3)]
        contrast.append((gray[0] > gray[1]) and (gray[2] > gray[1]))
        level.append(gray)
    assert np.mean(contrast) >= 0.75  # a border to see in most patients,
    level = np.array(level)
    assert level[:, 1].max() > level[:, 0].min()  # though no threshold serves them all
    assert level[:, 0].max() > level[:, 2].min()


def test_fan_is_black_outside_and_has_no_label_there(cines):
    for index, c in enumerate(cines):
        person, exam, _ = kidney._draw(3, index, 1)
        fan = Fan(64, exam.radius, exam.angle, exam.depth, 64, 64)
        inside = fan.pixel_polar()[2]
        inside = inside[:, ::-1] if exam.mirror else inside
        assert 0.4 < inside.mean() < 0.95
        assert not c["frames"][:, ~inside].any() and not c["labels"][:, ~inside].any()
        assert c["frames"][:, inside].mean() > 20.0
        assert c["mm_per_pixel"] == fan.mm_per_pixel


def test_swapping_left_and_right_swaps_picture_and_labels():
    person, exam, _ = kidney._draw(0, 0, 1)
    pairs = []
    for mirror in (False, True):
        pairs.append(render(generator(), person, replace(exam, mirror=mirror), frames=2, size=32)[:2])
    np.testing.assert_array_equal(pairs[0][0], pairs[1][0][..., ::-1])
    np.testing.assert_array_equal(pairs[0][1], pairs[1][1][..., ::-1])


def test_coherence_falls_with_the_lag():
    found = {lag: [] for lag in (1, 2, 5, 10)}
    for index in range(3):
        c = kidney.cine(5, index, frames=40, size=64)
        fine = c["frames"] - ndimage.gaussian_filter(c["frames"].astype(float), (0, 3, 3))
        for lag, values in found.items():
            for t in range(8, 28, 4):
                here = (c["labels"][t] > 0) & (c["labels"][t + lag] > 0)
                values.append(np.corrcoef(fine[t][here], fine[t + lag][here])[0, 1])
    means = [np.mean(v) for v in found.values()]
    assert np.all(np.diff(means) < -0.05), means
    assert 0.6 < means[0] < 0.93 and means[-1] < 0.35, means


# ---- the tissue ----


def test_sweep_crosses_the_kidney_in_one_direction():
    for seed in range(6):
        person = patient.draw(generator(seed))
        origin, axes, breath = machine.path(generator(seed + 100), person, 40, 60.0)
        np.testing.assert_allclose(axes @ axes.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (40, 3, 3)), atol=1e-9)
        tilt = axes[:, 1, 2] / axes[:, 1, 1]
        reach = (origin[:, 2] + person.centre[1] * tilt) / person.axes[2]  # where it cuts the kidney
        assert -1.2 < reach[0] < -0.1 and 0.6 < reach[-1] < 1.2
        assert np.mean(np.diff(reach) > 0) > 0.85
        assert np.abs(breath).max() < 8.0


def test_kidney_is_nested():
    person = patient.draw(generator(2))
    points = generator(3).uniform(-1.2, 1.2, (3, 20000)) * person.axes[:, None] + person.centre[:, None]
    radius, tissue = anatomy.kidney_part(person, *points)
    label = anatomy.label(person, *points)
    np.testing.assert_array_equal(label > 0, radius < 1.0)
    assert np.median(radius[label == 3]) < np.median(radius[label == 2]) < np.median(radius[label == 1])
    assert radius[label == 2].max() < 1.0 - person.cortex + 0.07  # cortex all the way round
    at_centre = anatomy.label(person, *person.centre[:, None])
    assert at_centre == [3]


def test_breathing_moves_the_kidney_and_not_the_skin():
    x, y = np.zeros(2), np.array([5.0, 60.0])
    still = echo.points(x, y, np.zeros(3), np.eye(3), np.zeros(3))
    moved = echo.points(x, y, np.zeros(3), np.eye(3), np.array([3.0, 0.0, 0.0]))
    np.testing.assert_allclose(moved - still, [[0.0, -3.0], [0.0, 0.0], [0.0, 0.0]])


def test_a_cine_has_its_patients_speckle_before_propagation():
    error = []
    for index in range(3):
        for name, row in kidney.speckle_stages(8, index, frames=16, size=64).items():
            error.append(row["unit"] / row["intended"] - 1.0)
            assert name in patient.TISSUES and row["propagated"] < row["unit"]  # mixtures only lower it
            assert row["propagated"] < 1.05 * row["interior"]  # most of all at the borders
            assert row["gray"] > 2.0 * row["decompressed"]  # and the logarithm hides it
    assert np.abs(np.mean(error)) < 0.05 and np.abs(error).max() < 0.25, error
