"""Views and where they meet, against SciPy's interpolation, values known by hand, and their own ranges over many draws."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import KEY, random, scipy_read

from uscl import augment
from uscl.augment import frames, lattice
from uscl.losses import region_corners, sample_regions

QUIET = {"brightness": 0.0, "contrast": 0.0}

# Compiled as they are used; dispatching their operations one by one would take most of the time of these tests.
view = jax.jit(augment.view, static_argnames=("crop", "smallest", "brightness", "contrast", "gamma", "flip"))
common_regions = jax.jit(augment.common_regions, static_argnames=("size", "count", "region", "shared"))
crop_resize = jax.jit(augment.crop_resize, static_argnames="size")
box_to_view = jax.jit(augment.box_to_view, static_argnames="size")
random_boxes = jax.jit(augment.random_boxes, static_argnames=("n", "height", "width", "scale", "offset"))
normalise = jax.jit(augment.normalise, static_argnames="kind")
jitter = jax.jit(frames.jitter, static_argnames=("brightness", "contrast", "gamma", "limit"))


def test_crop_resize_known_boxes():
    image = random(0, 2, 8, 6, 2)
    box = lambda *b: jnp.tile(jnp.array(b, jnp.float32), (2, 1))  # noqa: E731
    np.testing.assert_array_equal(crop_resize(image, box(0, 0, 8, 6), (8, 6)), image)
    np.testing.assert_array_equal(crop_resize(image, box(0, 6, 8, -6), (8, 6)), image[:, :, ::-1])
    np.testing.assert_array_equal(crop_resize(image, box(2, 1, 8, 6), (8, 6))[:, :6, :5], image[:, 2:, 1:])
    np.testing.assert_array_equal(crop_resize(image, box(2, 1, 3, 4), (3, 4)), image[:, 2:5, 1:5])
    want = np.asarray(image).reshape(2, 4, 2, 3, 2, 2).mean((2, 4))  # half the size: means of 2 x 2
    np.testing.assert_allclose(crop_resize(image, box(0, 0, 8, 6), (4, 3)), want, atol=1e-6)


def test_crop_resize_against_scipy():
    image = random(1, 3, 11, 14, 2)
    boxes = np.array([[1.3, 2.7, 6.1, 9.4], [-2, 0.5, 15, 4], [0.2, 13.1, 9, -8.5]], np.float32)
    got = crop_resize(image, jnp.asarray(boxes), (9, 16))
    for one, (top, left, height, width), out in zip(image, boxes.astype(float), got, strict=True):
        rows, columns = top + (np.arange(9) + 0.5) / 9 * height - 0.5, left + (np.arange(16) + 0.5) / 16 * width - 0.5
        np.testing.assert_allclose(out, scipy_read(one, *np.meshgrid(rows, columns, indexing="ij"), "nearest"), atol=1e-5)


def test_chaitanyas_boxes():
    boxes = np.asarray(random_boxes(KEY, 4000, 192, 384))
    np.testing.assert_allclose(boxes[:, 2:], np.tile([100, 200], (4000, 1)), rtol=1e-5)
    for axis, unit in ((0, 1), (1, 2)):
        corner = boxes[:, axis] / unit
        assert 9.999 <= corner.min() < 10.2 and 69.8 < corner.max() <= 70.001
        np.testing.assert_allclose([corner.mean(), corner.std()], [40, 60 / 12**0.5], rtol=0.03)
    assert abs(np.corrcoef(boxes[:, 0], boxes[:, 1])[0, 1]) < 0.05


def test_boxes_anywhere():
    boxes = np.asarray(random_boxes(KEY, 4000, 50, 80, scale=(0.3, 1.0), offset=None))
    area = boxes[:, 2] * boxes[:, 3] / 4000
    assert 0.2999 < area.min() < 0.31 and 0.99 < area.max() <= 1.0001
    np.testing.assert_allclose([area.mean(), area.std()], [0.65, 0.7 / 12**0.5], rtol=0.03)
    np.testing.assert_allclose(boxes[:, 2] / 50, boxes[:, 3] / 80, rtol=1e-5)
    assert boxes[:, :2].min() >= 0 and (boxes[:, 0] + boxes[:, 2]).max() <= 50.001 and (boxes[:, 1] + boxes[:, 3]).max() <= 80.001


def test_view_that_changes_nothing():
    image = random(0, 2, 8, 6, 1)
    seen = view(KEY, image, crop="none", **QUIET)
    np.testing.assert_array_equal(seen.image, image)
    np.testing.assert_array_equal(seen.box, [[0, 0, 8, 6]] * 2)


@pytest.mark.parametrize("crop", ["none", "box", "random"])
def test_view_shows_its_box(crop):
    image = random(0, 40, 12, 16, 2)
    shown, box = view(KEY, image, crop=crop, flip=0.5, **QUIET)
    flipped = np.asarray(box[:, 3] < 0)
    assert 8 < flipped.sum() < 32
    np.testing.assert_allclose(shown, crop_resize(image, box, (12, 16)), atol=1e-5)
    edges = np.sort(np.stack([box[:, 1], box[:, 1] + box[:, 3]]), axis=0)
    assert edges.min() >= -1e-4 and edges.max() <= 16 + 1e-4
    unflipped = view(KEY, image, crop=crop, **QUIET)
    np.testing.assert_allclose(edges[0], unflipped.box[:, 1], atol=1e-4)
    np.testing.assert_allclose(shown[flipped], unflipped.image[flipped][:, :, ::-1], atol=1e-4)
    np.testing.assert_allclose(shown[~flipped], unflipped.image[~flipped], atol=1e-5)


def test_flip_probability():
    box = view(KEY, jnp.zeros((4000, 2, 2, 1)), crop="none", flip=0.3, **QUIET).box
    np.testing.assert_allclose((box[:, 3] < 0).mean(), 0.3, atol=0.03)


def test_view_is_a_function_of_its_key_and_draws_per_image():
    image = jnp.tile(random(0, 1, 16, 16, 1), (3, 1, 1, 1))
    draw = partial(view, image=image, gamma=0.3, flip=0.5)
    first, again, other = draw(KEY), draw(KEY), draw(jax.random.key(8))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_allclose(first.image, augment.view(KEY, image, gamma=0.3, flip=0.5).image, atol=1e-5)
    assert np.abs(first.image - other.image).max() > 0.05
    for i in range(3):
        assert np.abs(first.image[i] - first.image[i - 1]).max() > 0.05 and np.abs(first.box[i] - first.box[i - 1]).max() > 0.05


def test_view_of_a_constant_image_stays_constant():
    shown = np.asarray(view(KEY, jnp.full((2000, 4, 4, 1), 0.5)).image)
    np.testing.assert_allclose(np.ptp(shown, axis=(1, 2, 3)), 0, atol=1e-5)
    # contrast leaves a constant alone, so brightness is all that is left: uniform within +-0.3
    shift = shown[:, 0, 0, 0] - 0.5
    assert -0.3001 < shift.min() < -0.29 and 0.29 < shift.max() < 0.3001
    np.testing.assert_allclose([shift.mean(), shift.std()], [0, 0.6 / 12**0.5], atol=0.012)


def test_contrast_keeps_the_mean_and_stretches_about_it():
    image = 0.5 + 0.2 * (random(0, 1, 6, 6, 2) - 0.5)
    out = np.asarray(jitter(KEY, jnp.tile(image, (2000, 1, 1, 1)), contrast=0.3))
    np.testing.assert_allclose(out.mean((1, 2, 3)), np.asarray(image).mean(), atol=1e-5)
    factor = out.std((1, 2, 3)) / np.asarray(image).std()
    assert 0.6999 < factor.min() < 0.71 and 1.29 < factor.max() < 1.3001
    np.testing.assert_allclose([factor.mean(), factor.std()], [1, 0.6 / 12**0.5], atol=0.015)


def test_gamma_exponents():
    out = np.asarray(jitter(KEY, jnp.full((4000, 1, 1, 1), 0.5), gamma=0.4))[:, 0, 0, 0]
    exponent = np.log(out) / np.log(0.5)
    assert 0.5999 < exponent.min() < 0.61 and 1.65 < exponent.max() < 1 / 0.5999
    np.testing.assert_allclose(np.log(exponent).mean(), 0, atol=0.02)


def test_grey_values_are_clipped():
    out = view(KEY, random(0, 300, 4, 4, 1), brightness=1.0, contrast=0.9).image
    assert out.min() == 0 and out.max() == 1.5
    black = jitter(KEY, jnp.zeros((50, 2, 2, 1)), gamma=0.5, contrast=0.3)
    assert not black.any()


@pytest.mark.parametrize("call", [lambda x: view(KEY, x, crop="square"), lambda x: normalise(x, "minmax"), lambda x: lattice(5)])
def test_unknown_words(call):
    with pytest.raises(ValueError, match="found"):
        call(jnp.zeros((1, 4, 4, 1)))


def test_normalise():
    image = 0.2 + 0.5 * random(0, 3, 20, 10, 2) ** 2
    x = np.asarray(image, np.float64)
    np.testing.assert_array_equal(normalise(image, "none"), image)
    want = (x - x.mean((1, 2, 3), keepdims=True)) / x.std((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(normalise(image, "standardise"), want, atol=1e-4)
    low, high = np.percentile(x, [1, 99], axis=(1, 2, 3), keepdims=True)
    got = normalise(image, "percentile")
    np.testing.assert_allclose(got, (x - low) / (high - low), atol=1e-4)
    assert got.min() < 0 and got.max() > 1  # not clipped
    for kind in ("standardise", "percentile"):
        np.testing.assert_allclose(normalise(jnp.full((1, 4, 4, 1), 0.7), kind), 0, atol=2e-3)
        assert np.isfinite(jax.grad(lambda x, kind=kind: normalise(x, kind).sum())(jnp.full((1, 4, 4, 1), 0.7))).all()


# --- where views meet ---


def ramps(height, width):
    """An image whose two channels are its own row and column."""
    return jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), axis=-1).astype(jnp.float32)


def test_box_to_view():
    full = jnp.array([0, 0, 40, 60], jnp.float32)
    points = jnp.array([[0.5, 0.5], [10, 20], [39, 59]])
    np.testing.assert_allclose(box_to_view(points, full, (40, 60)), points, atol=1e-4)
    np.testing.assert_allclose(box_to_view(points, full, (20, 30))[0], [0, 0], atol=1e-5)
    # a view shows a source point where box_to_view says: read the ramps there
    boxes = jnp.array([[5, 8, 20, 30], [5, 50, 25, -40]], jnp.float32)
    shown = crop_resize(jnp.tile(ramps(40, 60), (2, 1, 1, 1)), boxes, (16, 16))
    points = jnp.array([[12, 20], [18.5, 31.25]])
    for box, picture in zip(boxes, shown, strict=True):
        at = box_to_view(points, box, (16, 16))
        np.testing.assert_allclose(scipy_read(picture, at[:, 0], at[:, 1], "nearest"), points, atol=1e-3)


def test_lattice_is_chaitanyas():
    for count in (9, 13):  # a map of side 48: 44 pixels between the first and the last corner
        np.testing.assert_array_equal(lattice(count) * 44, region_corners(48, 48, count=count))


def test_common_regions_known_values():
    full = jnp.tile(jnp.array([0, 0, 96, 64], jnp.float32), (2, 3, 1))
    got = common_regions(full, (24, 16))
    assert got.shape == (2, 3, 13, 2)
    np.testing.assert_allclose(got, np.broadcast_to(lattice(13) * [21, 13], (2, 3, 13, 2)), atol=1e-4)
    shifted = jnp.array([[[10, 10, 48, 48]], [[12, 14, 48, 48]]], jnp.float32)  # 2 source pixels to a pixel of the map
    a, b = common_regions(shifted, (24, 24), count=9)[:, 0]
    assert a.shape == (9, 2)
    np.testing.assert_allclose(a - b, np.tile([1, 2], (9, 1)), atol=1e-4)
    np.testing.assert_allclose([a[0], a[-1], b[0], b[-1]], [[1, 2], [21, 21], [0, 0], [20, 19]], atol=1e-4)


@pytest.mark.parametrize("shared", [False, True])
def test_common_regions_show_the_same_tissue(shared):
    image = jnp.tile(ramps(96, 96) / 96, (6, 1, 1, 1))
    views = [view(k, image, crop="box", flip=0.5, **QUIET) for k in jax.random.split(KEY, 3)]
    maps = jnp.concatenate([crop_resize(v.image, jnp.tile(jnp.array([0, 0, 96.0, 96]), (6, 1)), (24, 24)) for v in views])
    corners = common_regions(jnp.stack([v.box for v in views]), (24, 24), shared=shared)
    assert corners.min() >= 0 and corners.max() <= 21
    assert jnp.abs(corners[0] - corners[1]).max() > 2  # it is not the place on the map that matches
    centre = sample_regions(maps, corners.reshape(18, 13, 2)).reshape(3, 6, 13, 9, 2)[:, :, :, 4] * 96
    np.testing.assert_allclose(centre - centre[:1], 0, atol=0.02)
    spans = np.ptp(np.asarray(centre[0]), axis=1)
    assert spans.min() > 4 and (np.ptp(np.asarray(centre), axis=1).max() < 0.02) == shared
    # an area as large as the views allow: on each axis some view's region ends at the map's border
    ends = np.minimum(corners, 21 - corners).min(axis=(0, 1, 2) if shared else (0, 2))
    np.testing.assert_allclose(ends, 0, atol=1e-3)


def test_views_of_different_scale_share_centres():
    boxes = jnp.array([[[0, 0, 96, 96]], [[30, 20, 48, 48]]], jnp.float32)
    a, b = common_regions(boxes, (24, 24))[:, 0]
    # the centres in the source: (corner + 1.5) * length / 24 + start
    np.testing.assert_allclose((a + 1.5) * 4, (b + 1.5) * 2 + np.array([30, 20]), atol=1e-3)


def test_views_without_a_common_area():
    boxes = jnp.array([[[0, 0, 20, 20]], [[70, 70, 20, 20]]], jnp.float32)
    corners = common_regions(boxes, (24, 24))
    np.testing.assert_allclose(corners[0], 21, atol=1e-4)
    np.testing.assert_allclose(corners[1], 0, atol=1e-4)
