"""The phantom's chest: hand-made chests whose pleura, A-lines, B-lines, consolidations and boxes are known by hand."""

from dataclasses import fields, replace

import numpy as np
import pytest

from uscl.phantom import lung, lung_scene, machine
from uscl.phantom.scan import Fan, scan_convert

FAN = Fan(96, radius=55.0, angle=1.0, depth=95.0, rows=190, beams=181)  # half a mm a row
MIDDLE = 90  # the beam that goes straight down


def generator(seed=0):
    return np.random.Generator(np.random.Philox(seed))


def drawn(seed=0):
    chest = lung_scene.draw(generator(seed), True)
    return chest, machine.draw(generator(seed + 1), chest)


def bare(**parts):
    """A chest with a flat pleura 20 mm deep, no noise, and of the rest only what is asked for."""
    plain = {
        "centre": np.array([0.0, 20.0, 0.0]), "wall": np.full(7, -6.0), "fascia": np.zeros((0, 3)), "bend": (0.0, 0.0), "heave": 0.0,
        "line": 20.0, "fade": 8.0, "repeat": 30.0, "haze": (-20.0, 0.0, 0.0), "b_lines": np.zeros((0, 5)), "ribs": [], "spots": (),
        "grain": np.zeros((2, 64, 64)), "ripple": np.zeros(256),
    }  # fmt: skip
    return replace(drawn()[0], **plain | parts)


def spot(**parts):
    plain = {"middle": 0.0, "half": 12.0, "height": 15.0, "form": 2.0, "level": -30.0, "gap": 15.0, "shred": -40.0, "lift": 0.0}
    return lung_scene.Spot(**plain | {"bronchi": np.zeros((0, 5))} | parts)


def power(chest, slide=(0.0,)):
    plane = np.zeros((len(slide), 3)), None
    exam = replace(drawn()[1], axial=0.5, waist=0.8, spread=0.0)
    out, lungs, parts = lung_scene.power(chest, exam, FAN, plane, np.array(slide))
    return 10.0 * np.log10(out), lungs, parts


# ---- what the beams meet ----


def test_pleura_is_met_where_the_beam_crosses_the_curve():
    chest, slide = bare(bend=(0.1, -0.002), heave=0.2), np.array([0.0, 5.0])
    depth, x, loss = lung_scene.pleura(chest, FAN, (np.array([[0.0, 0, 0], [3.0, 0, 0]]), None), slide)
    for t, shift in enumerate((0.0, 3.0)):
        y = (FAN.radius + depth[t]) * np.cos(FAN.angles()) - FAN.radius
        np.testing.assert_allclose(x[t], (FAN.radius + depth[t]) * np.sin(FAN.angles()) + shift, atol=0.01)
        np.testing.assert_allclose(y, 20.0 + 0.1 * x[t] - 0.002 * x[t] ** 2 - 0.2 * slide[t], atol=0.05)
    _, _, flat = lung_scene.pleura(bare(), FAN, (np.zeros((1, 3)), None), slide[:1])
    np.testing.assert_allclose(flat[0], (np.rad2deg(FAN.angles()) / 7.0) ** 2, atol=1e-9)
    assert np.argmin(loss[0]) < MIDDLE  # it falls to the right, so a beam to the left meets it squarely


def test_a_lines_stand_at_multiples_of_the_pleura_and_fade():
    beam = power(bare())[0][0, :, MIDDLE]
    found = [beam[int(2 * d) - 4 : int(2 * d) + 4] for d in (20, 40, 60, 80)]
    assert [int(np.argmax(f)) in (3, 4) for f in found] == [True] * 4
    np.testing.assert_allclose(np.diff([f.max() for f in found]), -8.0, atol=0.3)
    assert found[0].max() > beam[60] + 20.0  # between two lines there is only haze


def test_b_line_runs_from_the_pleura_to_the_bottom_and_slides_with_the_lung():
    gray, _, _ = power(bare(b_lines=np.array([[4.0, 1.0, 0.0, 0.0, np.pi / 2]])), slide=(0.0, 6.0, -9.0))
    for t, place in enumerate((4.0, 10.0, -5.0)):
        beam = (np.arcsin(place / 75.0) / FAN.angle + 0.5) * FAN.beams - 0.5
        for row in (50, 100, 180):
            assert abs(40 + np.argmax(gray[t, row, 40:141]) - beam) < 1.0
        assert gray[t, 180].max() > gray[t, 180, MIDDLE + 60] + 10.0
    faint = np.array([[0.0, 4.0, -60.0, 0.0, np.pi / 2]])
    lost = (power(bare(b_lines=faint))[0] - power(bare())[0])[0, :, MIDDLE]
    assert lost[80] == pytest.approx(10.0 * np.log10(0.15), abs=0.7) and abs(lost[40]) < 0.1  # A-lines end where it begins


def test_interstitial_lung_has_rays_and_no_a_lines_where_it_is_sick_and_both_as_before_elsewhere():
    chest = bare(haze=(-10.0, 0.0, 0.0), fade=4.0)
    for seed in range(4):
        sick = lung_scene.interstitial(generator(seed), chest)
        assert {f.name for f in fields(chest) if not np.array_equal(getattr(sick, f.name), getattr(chest, f.name))} == {"b_lines"}
        places, broad = sick.b_lines[:, 0], sick.b_lines[:, 1] > 3.0
        assert 3 <= (~broad).sum() <= 7 and 4 <= broad.sum() <= 14 and np.ptp(places) < 70.0
        np.testing.assert_allclose(np.diff(places[broad]), 5.0)
        flat = replace(sick, b_lines=np.where(broad[:, None], sick.b_lines, [0.0, 1.0, -90.0, 0.0, -np.pi / 2.0]))  # the rays put out
        beam = np.round(np.arcsin(np.clip(places / 75.0, -1, 1)) / FAN.angle * FAN.beams + MIDDLE).astype(int)  # rays begin at the pleura
        near = np.abs(beam - MIDDLE) < 25  # on oblique beams A-lines are faint
        lost = (power(flat)[0] - power(chest)[0])[0, 80, beam[near & broad]]
        assert lost.max() < -8.0  # of an A-line 16 dB above an average liver, in haze of -10
        assert ((power(sick)[0] - power(flat)[0])[0, 150, beam[near & ~broad]] > 1.0).all()
    narrow = next(c for c in (lung_scene.interstitial(generator(s), chest) for s in range(50)) if np.ptp(c.b_lines[:, 0]) < 25.0)
    change = np.abs(power(narrow)[0] - power(chest)[0])[0, :, [4, 176]].max(1)
    assert change.min() < 0.1  # beside it A-lines go on


def test_wall_stands_still_while_the_lung_slides():
    chest = replace(drawn(4)[0], heave=0.0, bend=(0.0, 0.0), centre=np.array([0.0, 20.0, 0.0]))
    gray, lungs, _ = power(chest, slide=(0.0, 6.0))
    np.testing.assert_array_equal(lungs[0], lungs[1])
    np.testing.assert_allclose(gray[0, 4:30], gray[1, 4:30], atol=0.05)
    assert np.abs(gray[0, 36:60] - gray[1, 36:60]).mean() > 0.5


def test_consolidation_is_dark_under_a_broken_pleura_and_ends_in_a_ragged_border():
    with_spot = power(bare(haze=(-10.0, 0.0, 0.0), spots=(spot(shred=5.0, lift=4.0),)))[0][0]
    without = power(bare(haze=(-10.0, 0.0, 0.0)))[0][0]
    change = (with_spot - without)[:, MIDDLE]
    assert change[39:41].min() < -12.0 and change[50:60].max() < -6.0  # the line's gap; tissue darker than haze
    assert change[68:72].max() > 10.0  # 35 mm deep: the border
    assert change[110:115].mean() == pytest.approx(4.0, abs=0.5)  # the haze behind
    assert change[118:122].max() < -4.0  # no second repeat of the line
    assert np.abs((with_spot - without)[:, MIDDLE - 60]).max() < 0.1  # far beside: nothing
    assert np.abs(change[4:30]).max() < 0.1  # above: nothing
    air = spot(bronchi=np.array([[0.0, 8.0, 3.0, 0.0, 12.0]]))
    assert power(bare(spots=(air,)))[0][0, 56, MIDDLE] > power(bare(spots=(spot(),)))[0][0, 56, MIDDLE] + 6.0


# ---- boxes ----


def test_box_is_the_parabola_and_moves_with_the_breath():
    parts = power(bare(spots=(spot(),)), slide=(0.0, 8.0))[2]
    boxes = lung._boxes(parts, np.ones_like(parts[0]), FAN, False)
    assert boxes.shape == (2, 1, 4) and boxes.dtype == np.int32
    x, y = FAN.pixel_xy()
    top, left, bottom, right = boxes[0, 0]
    edges = [y[top, 0], x[0, left], y[bottom, 0], x[0, right]]  # the middle of the picture's outermost pixels
    np.testing.assert_allclose(edges, [20.0, -12.0, 35.0, 12.0], atol=1.2 * FAN.mm_per_pixel)
    moved = (boxes[1, 0, 1::2] - boxes[0, 0, 1::2]) * FAN.mm_per_pixel
    np.testing.assert_allclose(moved, 8.0, atol=1.6)


@pytest.mark.parametrize("mirror", [False, True])
def test_box_holds_every_seen_pixel_and_touches_it_on_four_sides(mirror):
    parts, seen = power(bare(spots=(spot(middle=9.0), spot(middle=-20.0, half=8.0))))[2], np.ones((1, 190, 181))
    seen[:, :, :80] = 0.0  # hides the second
    boxes = lung._boxes(parts, seen, FAN, mirror)
    assert boxes[0, 1].tolist() == [-1, -1, -1, -1]
    image = scan_convert(parts[0, 0] * seen[0], FAN) > 0.5
    rows, columns = np.nonzero(image[:, ::-1] if mirror else image)
    assert boxes[0, 0].tolist() == [rows.min(), columns.min(), rows.max(), columns.max()]
    assert (columns.mean() > 47.5) != mirror
    crumb = np.zeros((1, 1, 190, 181))
    crumb[0, 0, 80:84, 90:94] = 1.0  # 2 mm x 2 mm
    assert (lung._boxes(crumb, seen, FAN, mirror) == -1).all()


def test_rib_casts_a_shadow_that_hides_a_consolidation():
    chest, exam = bare(spots=(spot(half=6.0), spot(middle=24.0, half=9.0))), drawn()[1]
    plain = {"radius": 55.0, "angle": 1.0, "depth": 90.0, "contact": (0, 0, 0, 0, 0), "mirror": False, "ribs": []}
    exam = replace(exam, **plain, gain=-20.0, noise=-38.0, gamma=1.0)
    free = lung.render(generator(), chest, exam, frames=3, size=48)
    hidden = lung.render(generator(), chest, replace(exam, ribs=[[0.0, 14.0, 30.0]]), frames=3, size=48)
    assert (free[1] >= 0).all() and (hidden[1][:, 0] == -1).all() and (hidden[1][:, 1] >= 0).all()
    shade = (free[0].astype(int) - hidden[0])[:, 22:40]
    assert shade[:, :, 22:26].mean() > 15.0 and abs(shade[:, :, 2:6].mean()) < 6.0
