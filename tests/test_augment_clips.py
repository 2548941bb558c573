"""A view of a clip: every range and probability of the lung paper's Table 2, the warp against SciPy"""
import functools
import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import KEY, random
from jax.sharding import NamedSharding, PartitionSpec
from scipy import ndimage

from uscl.augment import clip_time, clips
from uscl.train import mesh

N = 6000
OFF = {"affine": False, "flip": 0.0, "jitter": False, "noise": False, "erase": False, "temporal": False}
move, apply_jitter, erase_box = jax.jit(clips.move), jax.jit(clips.apply_jitter), jax.jit(clips.erase_box)


def thrown(name, *size, **how):
    """The dice of N clips; ranges are traced, so that a program serves them all. What is not told is as in the signature."""
    spoken = {k: v.default for k, v in inspect.signature(getattr(clips, f"draw_{name}")).parameters.items() if v.kind is v.KEYWORD_ONLY}
    fixed = {"aspect": spoken.pop("aspect")} if "aspect" in spoken else {}
    return jax.tree.map(np.asarray, program(name, tuple(fixed.items()))(KEY, *size, **{**spoken, **how}))


@functools.cache
def program(name, fixed):
    return jax.jit(lambda key, *size, **how: getattr(clips, f"draw_{name}")(key, N, *size, **dict(fixed), **how))


def counted(hits, probability):
    """Whether a count lies within five standard deviations of a binomial's mean."""
    n = np.size(hits)
    return abs(np.sum(hits) - n * probability) <= 5 * math.sqrt(n * probability * (1 - probability)) + 1e-9


def uniform(value, low, high):
    """Whether values fill the range and no more, an eighth of it as often as another."""
    eighth = np.floor((value - low) / (high - low) * 8)
    inside = low - 1e-6 <= value.min() < low + 0.01 * (high - low) and high - 0.01 * (high - low) < value.max() <= high + 1e-6
    return inside and all(counted(eighth == k, 1 / 8) for k in range(8))


def test_affine_dice():
    angle, scale, shift = thrown("affine", 50, 80)
    assert uniform(np.rad2deg(angle), -10, 10) and uniform(scale, 0.8, 1.2)
    assert uniform(shift[:, 0], -5, 5) and uniform(shift[:, 1], -8, 8)
    related = np.corrcoef(np.stack([angle, scale, *shift.T]))
    assert np.abs(related - np.eye(4)).max() < 0.07
    angle, scale, shift = thrown("affine", 50, 80, probability=0.3, scale=0.5, shift=0.2, turn=90.0)
    drawn = angle != 0
    assert counted(drawn, 0.3) and uniform(angle[drawn], -math.pi / 2, math.pi / 2)
    assert uniform(scale[drawn], 0.5, 1.5) and uniform(shift[drawn, 1], -16, 16)
    assert (scale[~drawn] == 1).all() and (shift[~drawn] == 0).all()


def test_move_against_scipy():
    """Forwards, as it is told: scale and turn about the centre, shift, mirror; SciPy wants the way back."""
    clip = random(0, 4, 3, 11, 14, 2)
    angle, scale, mirror = [0.3, -0.17, 0.0, 0.1], [1.2, 0.8, 1.0, 0.9], [False, True, True, False]
    shift = [[1.5, -0.75], [0.0, 2.25], [1.0, 3.0], [-1.0, 0.4]]
    got = move(clip, clips.Affine(*(jnp.array(x, jnp.float32) for x in (angle, scale, shift))), jnp.array(mirror))
    assert got.dtype == jnp.float32
    for b in range(4):
        cos, sin = math.cos(angle[b]), math.sin(angle[b])
        flip, centre = np.diag([1.0, -1.0 if mirror[b] else 1.0]), np.array([5.0, 6.5])
        back = np.linalg.inv(flip @ (scale[b] * np.array([[cos, sin], [-sin, cos]])))
        offset = centre - back @ (centre + flip @ np.array(shift[b]))
        for t, c in np.ndindex(3, 2):
            frame = np.asarray(clip[b, t, :, :, c], np.float64)
            want = ndimage.affine_transform(frame, back, offset, order=1, mode="grid-constant")
            np.testing.assert_allclose(got[b, t, :, :, c], want, atol=2e-5)


def test_moves_that_are_exact():
    clip = random(1, 4, 3, 11, 14, 2)
    still = clips.Affine(jnp.zeros(4), jnp.ones(4), jnp.zeros((4, 2)).at[2, 0].set(1.0))
    got = move(clip, still, jnp.array([False, True, False, False]))
    np.testing.assert_array_equal(got[0], clip[0])
    np.testing.assert_array_equal(got[1], clip[1, :, :, ::-1])
    np.testing.assert_array_equal(got[2, :, 1:], clip[2, :, :-1])
    assert not got[2, :, 0].any()


def test_jitter():
    brightness, contrast = thrown("jitter")
    assert uniform(brightness, 0.7, 1.3) and uniform(contrast, 0.7, 1.3) and abs(np.corrcoef(brightness, contrast)[0, 1]) < 0.07
    brightness, contrast = thrown("jitter", probability=0.4, brightness=0.1, contrast=0.2)
    assert counted(brightness != 1, 0.4) and ((brightness != 1) == (contrast != 1)).all()
    assert uniform(brightness[brightness != 1], 0.9, 1.1) and uniform(contrast[contrast != 1], 0.8, 1.2)
    clip = random(2, 4, 2, 4, 5, 1) * jnp.array([0.3, 1.0])[:, None, None, None]  # frames of unlike means: the clip's counts
    b, c = jnp.array([1.0, 1.2, 0.8, 1.1]), jnp.array([1.0, 0.7, 1.3, 0.0])
    got, x = apply_jitter(clip, b, c), np.asarray(clip, np.float64)
    np.testing.assert_array_equal(got[0], clip[0])
    for i, (bright, stretch) in enumerate(((1.2, 0.7), (0.8, 1.3)), 1):
        lit = x[i] * bright
        np.testing.assert_allclose(got[i], np.clip(stretch * lit + (1 - stretch) * lit.mean(), 0, 1), atol=1e-6)
    np.testing.assert_allclose(got[3], 1.1 * x[3].mean(), atol=1e-6)
    assert apply_jitter(clip, jnp.full(4, 9.0), jnp.full(4, 9.0)).max() == 1  # the display saturates


def test_boxes():
    height, width = 1200.0, 2000.0
    top, left, h, w = thrown("box", height, width).T
    drawn = h > 0
    assert counted(drawn, 0.5) and not w[~drawn].any() and not top[~drawn].any()
    top, left, h, w = (x[drawn] for x in (top, left, h, w))
    assert uniform(h * w / (height * width), 0.0199, 0.1003)  # sides are rounded
    assert uniform(np.log(h / w), math.log(0.2987), math.log(3.315))
    assert top.min() >= 0 and left.min() >= 0 and (top + h).max() <= height and (left + w).max() <= width
    assert uniform((top + 0.5) / (height - h + 1), 0, 1) and uniform((left + 0.5) / (width - w + 1), 0, 1)
    top, left, h, w = thrown("box", 20.0, 200.0, probability=1.0, area=(1.0, 1.0)).T
    assert (h == 20).all() and not top.any() and 33 < w.min() and w.max() < 117  # cut to what there is
    assert left.min() >= 0 and (left + w).max() <= 200


def test_erase():
    clip = random(3, 2, 3, 6, 8, 2) + 0.1
    got, want = erase_box(clip, jnp.array([[1, 2, 3, 4], [0, 0, 0, 0]])), np.array(clip)
    want[0, :, 1:4, 2:6] = 0
    np.testing.assert_array_equal(got, want)


def test_view_that_changes_nothing():
    clip = random(5, 3, 6, 8, 10, 1)
    same = clips.clip_view(KEY, clip.astype(jnp.float16), **OFF)
    assert same.dtype == jnp.float32
    np.testing.assert_array_equal(same, clip.astype(jnp.float16))
    never = {name: {"probability": 0.0} for name in ("affine", "jitter", "noise", "erase")}
    never["temporal"] = {"reverse": 0.0, "shuffle": 0.0, "replace": 0.0}
    np.testing.assert_array_equal(jax.jit(lambda key, clip: clips.clip_view(key, clip, flip=0.0, **never))(KEY, clip), clip)


@jax.jit
def views(key, clip):
    keys = jax.random.split(key, 7)
    b, t, h, w, _ = clip.shape
    return (
        clips.clip_view(key, clip), clips.clip_view(key, clip, noise=False), clips.draw_box(keys[6], b, h, w),
        clips.clip_view(key, clip, **{**OFF, "temporal": True}), clip_time.reorder(clip, clip_time.frame_order(keys[0], b, t)),
    )


def test_view_whole():
    clip = 0.2 + 0.6 * random(7, 8, 6, 20, 20, 1)
    got, clean, box, timed, ordered = views(KEY, clip)
    assert got.shape == clip.shape and got.dtype == jnp.float32 and got.min() >= 0 and got.max() <= 1
    assert (box[:, 2] > 0).any() and (box[:, 2] == 0).any()
    for b, (top, left, h, w) in enumerate(np.asarray(box)):
        assert not got[b, :, top : top + h, left : left + w].any()  # erased last: no noise in it, wherever the rest has moved
    assert 0.015 < np.std(got - clean) < 0.03  # one switch leaves the other draws; some voxels are 0 beyond the border or erased
    np.testing.assert_array_equal(timed, ordered)
    assert (np.asarray(timed) != np.asarray(clip)).any()
    four = jax.device_put(clip, NamedSharding(mesh.make_mesh(4), PartitionSpec("data")))
    for one, split in zip((got, clean, box, timed), views(KEY, four), strict=False):
        np.testing.assert_allclose(one, split, atol=1e-6)


def test_view_is_one_draw_a_clip():
    """Clips of one and the same frame: after all but noise its frames are still alike, and no two clips are."""
    got = np.asarray(views(KEY, jnp.broadcast_to(random(6, 1, 1, 20, 20, 1), (8, 6, 20, 20, 1)))[1])
    assert (got == got[:, :1]).all() and got.min() >= 0 and got.max() <= 1
    assert all(np.abs(got[i] - got[j]).max() > 0.05 for i in range(8) for j in range(i))


def test_flip_by_chance():
    ramp = jnp.broadcast_to(jnp.arange(4.0)[:, None] / 4, (2000, 1, 2, 4, 1))
    got = np.asarray(jax.jit(lambda key, clip: clips.clip_view(key, clip, **{**OFF, "flip": 0.25}))(KEY, ramp))
    assert counted(got[:, 0, 0, 0, 0] > 0, 0.25) and (got[:, 0, 0] == got[:, 0, 1]).all()


def test_mistakes():
    with pytest.raises(ValueError, match=r"clip: found shape \(2, 8, 8, 1\)"):
        clips.clip_view(KEY, jnp.zeros((2, 8, 8, 1)))
    with pytest.raises(TypeError, match="rotation"):
        clips.clip_view(KEY, jnp.zeros((1, 2, 8, 8, 1)), **{**OFF, "affine": {"rotation": 5.0}})
