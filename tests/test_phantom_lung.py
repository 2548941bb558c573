"""Phantom lungs: the same cines everywhere, boxes that fit, and classes that nothing but the lung tells apart."""

import hashlib
import threading
import time
from dataclasses import fields, replace

import numpy as np
import pytest

from uscl import config as uscl_config
from uscl.phantom import lung, lung_scene
from uscl.stages import source
from uscl.train.logs import Log


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


def test_two_kinds_of_lungs_stay_as_they_were():
    """A digest of chests as they were before there was a third kind, rounded to what no machine's arithmetic changes."""
    found = hashlib.sha256()
    for index in range(12):
        chest, _, rng = lung._draw(11, index, 1)
        numbers = [*chest.b_lines.ravel(), *np.ravel(chest.ribs), *(spot.height for spot in chest.spots)]
        found.update(repr((len(chest.spots), [f"{x:.6f}" for x in numbers], int(rng.integers(1 << 30)))).encode())
        assert lung._kind(11, index, "two") == lung.CLASSES[len(chest.spots) > 0]
    assert found.hexdigest()[:16] == "acbe31756fa14761"


def test_third_kind_comes_once_in_three_patients_and_has_no_boxes():
    cines = list(lung.make(3, patients=18, frames=1, size=32, lungs="three", workers=2))
    kinds = [c["attributes"]["class"] for c in cines]
    assert all(set(kinds[i : i + 3]) == {"normal", "consolidation", "b_lines"} for i in range(0, 18, 3))
    assert len({tuple(kinds[i : i + 3]) for i in range(0, 18, 3)}) > 1  # not in one order throughout
    for c in cines:
        assert (c["boxes"].shape[1] > 0) == (c["attributes"]["class"] == "consolidation")
        assert (c["truth"]["b_lines"] >= 8) == (c["attributes"]["class"] == "b_lines")
    again = [lung.cine(3, index, cines=2, frames=1, size=32, lungs="three") for index in (8, 9)]
    assert {c["patient"] for c in again} == {"patient0004"} and {c["attributes"]["class"] for c in again} == {kinds[4]}
    with pytest.raises(ValueError, match="lungs is 'four'; it must be one of two, three"):
        lung.cine(3, 0, lungs="four")


def test_knob_makes_a_store_of_three_kinds(tmp_path):
    config = uscl_config.default()
    config.data.update(phantom="lung", lungs="three", patients=6, frames=4, size=32)
    with Log(tmp_path) as log:
        store = source.open_store(config, tmp_path, log)
        config.data.lungs = "two"
        (tmp_path / "again").mkdir()
        other = source.open_store(config, tmp_path / "again", log)
    assert sorted(store.attributes["class"]) == ["b_lines"] * 2 + ["consolidation"] * 2 + ["normal"] * 2
    assert sorted(other.attributes["class"]) == ["consolidation"] * 3 + ["normal"] * 3


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
