"""Phantom lungs: the same cines everywhere, boxes that fit, and classes that nothing but the lung tells apart."""
import threading
import time
from dataclasses import fields, replace

import numpy as np
import pytest

from uscl.phantom import lung, lung_scene


def generator(seed=0):
    return np.random.Generator(np.random.Philox(seed))


@pytest.fixture(scope="module")
def crowd():
    return list(lung.make(0, patients=60, frames=1, size=32, scanners="many", workers=1))


def test_left_and_right_swap_with_their_boxes():
    chest, exam, _ = lung._draw(0, 0, 1)
    if not chest.spots:
        chest, exam, _ = lung._draw(0, 1, 1)
    plain, swapped = (lung.render(generator(), chest, replace(exam, mirror=m), frames=2, size=40) for m in (False, True))
    np.testing.assert_array_equal(plain[0], swapped[0][..., ::-1])
    seen = plain[1][..., 0] >= 0
    assert seen[:, 0].all()
    top, left, bottom, right = plain[1][seen].T
    np.testing.assert_array_equal(swapped[1][seen].T, [top, 39 - right, bottom, 39 - left])


def test_sick_patients_have_a_healthy_twin():
    for seed in range(5):
        a, b = generator(seed), generator(seed)
        sick, healthy = lung_scene.draw(a, True), lung_scene.draw(b, False)
        assert a.random() == b.random() and 1 <= len(sick.spots) <= 2 and healthy.spots == ()
        for field in fields(sick):
            if field.name != "spots":
                np.testing.assert_array_equal(getattr(sick, field.name), getattr(healthy, field.name))


def test_same_cine_for_any_workers_and_patients_and_none_twice():
    many, few = lung.make(3, patients=4, frames=2, size=32, workers=2), lung.make(3, patients=2, frames=2, size=32, workers=1)
    many = list(many)
    for a, b in zip(few, many, strict=False):
        np.testing.assert_array_equal(a["frames"], b["frames"])
        np.testing.assert_array_equal(a["boxes"], b["boxes"])
        assert {k: a[k] for k in a if k not in ("frames", "boxes")} == {k: b[k] for k in b if k not in ("frames", "boxes")}
    other = lung.cine(4, 0, frames=2, size=32)
    assert len({c["frames"].tobytes() for c in [*many, other]}) == 5
    first, second, third = (lung.cine(3, i, cines=2, frames=1, size=32) for i in range(3))
    assert first["patient"] == second["patient"] != third["patient"]
    assert first["truth"] == second["truth"] != third["truth"] and first["attributes"] == second["attributes"] != third["attributes"]
    assert not np.array_equal(first["frames"], second["frames"])


def test_closing_the_generator_early_ends_the_workers():
    before = threading.active_count()
    cines = lung.make(3, patients=50, frames=1, size=32, workers=2)
    next(cines)
    cines.close()
    assert threading.active_count() == before


def test_facts_of_a_crowd(crowd):
    sick = np.array([c["attributes"]["class"] == "consolidation" for c in crowd])
    assert (sick[::2] ^ sick[1::2]).all() and 8 < sick[::2].sum() < 22  # half, but not every second
    assert {c["attributes"]["class"] for c in crowd} == set(lung.CLASSES)
    for index, c in enumerate(crowd):
        boxes, count = c["boxes"], c["boxes"].shape[1]
        assert c["frames"].shape == (1, 32, 32) and c["frames"].dtype == np.uint8 and c["frames"].any()
        assert c["patient"] == f"patient{index:04d}" and 1.0 < c["mm_per_pixel"] < 6.0 and 40.0 <= c["frame_ms"] <= 110.0
        assert boxes.shape == (1, count, 4) and (1 <= count <= 2 if sick[index] else count == 0)
        seen = boxes[boxes[..., 0] >= 0]
        assert (seen[:, :2] <= seen[:, 2:]).all() and seen.max(initial=0) < 32 and (boxes[boxes[..., 0] < 0] == -1).all()
    assert np.mean([(c["boxes"][:, 0, 0] >= 0).all() for c in crowd if c["boxes"].shape[1]]) > 0.9
    lines, ribs = (np.array([c["truth"][k] for c in crowd]) for k in ("b_lines", "ribs"))
    for group in (sick, ~sick):
        assert 0.4 < np.mean(lines[group] > 0) < 0.95 and 0.4 < np.mean(ribs[group] > 0) < 0.95
        assert len({c["machine"]["name"] for c, inside in zip(crowd, group, strict=True) if inside}) >= 5


def auc(sick, score):
    positive, negative = np.asarray(score)[sick], np.asarray(score)[~sick]
    return np.mean((positive[:, None] > negative) + 0.5 * (positive[:, None] == negative))


@pytest.mark.parametrize("scanners", lung.SCANNERS)
def test_neither_brightness_nor_machine_tells_the_classes_apart(scanners, crowd):
    if scanners == "one":
        crowd = list(lung.make(0, patients=60, frames=1, size=32, workers=1))
    sick = np.array([c["attributes"]["class"] == "consolidation" for c in crowd])
    for score in (np.mean, np.std, lambda x: np.mean(x[:, 16:]), lambda x: np.percentile(x, 95)):
        assert 0.25 < auc(sick, [score(c["frames"]) for c in crowd]) < 0.75
    for knob in ("dynamic_range", "gain", "frequency", "mirror"):
        assert 0.25 < auc(sick, [c["machine"][knob] for c in crowd]) < 0.75


def test_a_clinic_has_one_scanner_and_its_preset():
    cines = [lung.cine(2, index, frames=1, size=32) for index in range(12)]
    assert {(c["machine"]["name"], c["machine"]["mirror"], c["machine"]["gamma"]) for c in cines} == {("cart", False, 1.0)}
    set_to = [(c["machine"]["dynamic_range"], c["machine"]["gain"]) for c in cines]
    assert all(57 <= dynamic_range <= 63 and 0.5 <= -gain / dynamic_range <= 0.6 for dynamic_range, gain in set_to)
    assert len({round(c["mm_per_pixel"], 1) for c in cines}) <= 3  # two depths, the probe's radius within 1 %
    other = lung.cine(2, 0, frames=1, size=32, scanners="many")
    assert other["attributes"] == cines[0]["attributes"] and other["truth"] == cines[0]["truth"]  # the same chest
    with pytest.raises(ValueError, match="scanners is 'two'"):
        lung.cine(2, 0, scanners="two")


@pytest.mark.slow
def test_a_cine_costs_less_than_a_second_and_its_boxes_are_darker_than_beside_them():
    start = time.process_time()
    cines = list(lung.make(5, patients=16, frames=32, size=64, workers=1))
    assert time.process_time() - start < 16.0
    below, seen = [], []
    for c in (c for c in cines if c["boxes"].shape[1]):
        seen.append(np.mean(c["boxes"][:, 0, 0] >= 0))
        for frame, (top, left, bottom, right) in zip(c["frames"], c["boxes"][:, 0], strict=True):
            if top >= 0:
                middle = slice((3 * left + right) // 4, (left + 3 * right) // 4 + 1)
                inside = frame[top + 1 : (top + bottom) // 2 + 1, middle].mean()
                below.append(inside < frame[bottom + 1 : bottom + 6, middle].mean())
    assert np.mean(seen) > 0.9 and np.mean(below) > 0.7
