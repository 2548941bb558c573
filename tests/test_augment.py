"""Augmentation against SciPy's interpolation, against values known by hand, and against its own ranges over many draws."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from uscl import augment
from uscl.augment import finetune, frames, lattice
from uscl.augment.ultrasound import depth_attenuation, gain, haze, rayleigh_field, shadow, speckle
from uscl.losses import region_corners, sample_regions

KEY = jax.random.key(7)
QUIET = {"brightness": 0.0, "contrast": 0.0}

# Compiled as they are used; dispatching their operations one by one would take most of the time of these tests.
view = jax.jit(augment.view, static_argnames=("crop", "smallest", "brightness", "contrast", "gamma", "flip"))
finetune_pair = jax.jit(
    augment.finetune_pair, static_argnames=("right_angles", "elastic", "elastic_probability", "affine_probability", "intensity")
)
common_regions = jax.jit(augment.common_regions, static_argnames=("size", "count", "region", "shared"))
crop_resize = jax.jit(augment.crop_resize, static_argnames="size")
box_to_view = jax.jit(augment.box_to_view, static_argnames="size")
random_boxes = jax.jit(augment.random_boxes, static_argnames=("n", "height", "width", "scale", "offset"))
normalise = jax.jit(augment.normalise, static_argnames="kind")
jitter = jax.jit(frames.jitter, static_argnames=("brightness", "contrast", "gamma", "limit"))
warp = jax.jit(finetune.warp)
random_affine = jax.jit(finetune.random_affine, static_argnames=("n", "right_angles"))
elastic_field = jax.jit(finetune.elastic_field, static_argnames=("n", "height", "width", "sigma"))
depth_attenuation, gain, shadow, haze = map(jax.jit, (depth_attenuation, gain, shadow, haze))
speckle = jax.jit(speckle, static_argnames=("axial", "lateral"))
rayleigh_field = jax.jit(rayleigh_field, static_argnames=("n", "height", "width", "axial", "lateral"))


def random(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).uniform(size=shape), jnp.float32)


def scipy_read(image, rows, columns, mode, fill=0.0):
    """image [H, W, C] read bilinearly at [h, w] places, float64."""
    image, fill = np.asarray(image, np.float64), np.broadcast_to(fill, image.shape[-1:])
    at = [np.asarray(rows, np.float64), np.asarray(columns, np.float64)]
    return np.stack([ndimage.map_coordinates(image[..., c], at, order=1, mode=mode, cval=fill[c]) for c in range(image.shape[-1])], -1)


# --- boxes and views ---


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


# --- fine-tuning ---


def test_warp_against_scipy():
    image, rng = random(3, 2, 9, 12, 3), np.random.default_rng(4)
    rows, columns = rng.uniform(-3, 12, (2, 7, 8)), rng.uniform(-3, 15, (2, 7, 8))
    fill = np.array([0.0, 1.0, 0.25])
    got = warp(image, jnp.asarray(rows, jnp.float32), jnp.asarray(columns, jnp.float32), jnp.asarray(fill, jnp.float32))
    for i in range(2):
        np.testing.assert_allclose(got[i], scipy_read(image[i], rows[i], columns[i], "grid-constant", fill), atol=1e-5)


def test_affine_choices():
    matrix = np.asarray(random_affine(KEY, 8000))
    nothing = (matrix == np.eye(2)).all((1, 2))
    mirrored = np.linalg.det(matrix) < 0
    np.testing.assert_allclose(matrix[mirrored], np.tile([[1, 0], [0, -1]], (mirrored.sum(), 1, 1)))
    zoomed = ~nothing & ~mirrored & (matrix[:, 0, 1] == 0) & (matrix[:, 0, 0] > 0)
    angle = np.rad2deg(np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0]))
    turned = ~nothing & ~mirrored & ~zoomed
    small, large = turned & (np.abs(angle) <= 15), turned & (np.abs(angle) > 15)
    for share in (nothing, mirrored, zoomed, small, large):
        np.testing.assert_allclose(share.mean(), 0.2, atol=0.02)
    factor = 1 / matrix[zoomed, 0, 0]
    np.testing.assert_allclose(matrix[zoomed, 0, 0], matrix[zoomed, 1, 1])
    assert 0.9499 < factor.min() < 0.952 and 1.048 < factor.max() < 1.0501
    assert -15.01 < angle[small].min() < -14.8 and 14.8 < angle[small].max() < 15.01
    steps, counts = np.unique(np.round(angle[large] % 360 / 45, 3), return_counts=True)
    np.testing.assert_array_equal(steps, np.arange(1, 8))
    np.testing.assert_allclose(counts / counts.sum(), 1 / 7, atol=0.04)
    np.testing.assert_allclose(matrix[turned] @ matrix[turned].transpose(0, 2, 1), np.tile(np.eye(2), (turned.sum(), 1, 1)), atol=1e-5)


def test_affine_without_right_angles():
    matrix = np.asarray(random_affine(KEY, 4000, right_angles=False))
    assert np.abs(matrix[:, 0, 1]).max() < np.sin(np.deg2rad(15.01)) and matrix[:, 0, 0].min() > 0.9
    np.testing.assert_allclose([(np.linalg.det(matrix) < 0).mean(), (matrix == np.eye(2)).all((1, 2)).mean()], 0.25, atol=0.03)


def test_elastic_field():
    field = np.asarray(elastic_field(KEY, 3000, 15, 27, sigma=5.0))
    assert field.shape == (3000, 15, 27, 2)
    # the grid's middle falls on the picture's middle pixel, where bicubic interpolation returns it
    middle = field[:, 7, 13]
    np.testing.assert_allclose(middle.mean(0), 0, atol=0.04)
    np.testing.assert_allclose(middle.std(0), [5 * 15 / 192, 5 * 27 / 192], rtol=0.05)
    assert abs(np.corrcoef(middle.T)[0, 1]) < 0.06
    # the outer grid points lie a third of the side away, and are drawn on their own
    np.testing.assert_allclose(field[:, 2, 4].std(0), [5 * 15 / 192, 5 * 27 / 192], rtol=0.05)
    assert abs(np.corrcoef(field[:, 2, 4, 0], middle[:, 0])[0, 1]) < 0.06


def keys_weights(count):
    """[count, 3] weights of Keys's cubic (a = -1/2) between three grid points, those of points beyond the grid shared out."""
    d = np.abs((np.arange(count)[:, None] + 0.5) * 3 / count - 0.5 - np.arange(3))
    weight = np.where(d < 1, 1.5 * d**3 - 2.5 * d**2 + 1, np.where(d < 2, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2, 0))
    return weight / weight.sum(1, keepdims=True)


def test_elastic_field_is_bicubic():
    field = np.asarray(elastic_field(KEY, 3000, 15, 27, sigma=5.0))[:4]
    grid = field[:, 2::5, 4::9]  # of these sizes the three grid points fall on pixels 2, 7, 12 and 4, 13, 22
    want = np.einsum("ia,jb,nabd->nijd", keys_weights(15), keys_weights(27), grid)
    np.testing.assert_allclose(field, want, atol=1e-4)


def labels(seed, n, h, w, k):
    return jax.nn.one_hot(np.random.default_rng(seed).integers(0, k, (n, h, w)), k)


def test_pair_that_changes_nothing():
    image, label = random(0, 3, 10, 8, 2), labels(1, 3, 10, 8, 4)
    got = finetune_pair(KEY, image, label, elastic=0.0, affine_probability=0.0, intensity=False)
    np.testing.assert_array_equal(got[0], image)
    np.testing.assert_array_equal(got[1], label)
    got = finetune_pair(KEY, image, label, elastic_probability=0.0, affine_probability=0.0, intensity=False)
    np.testing.assert_array_equal(got[1], label)


@pytest.mark.parametrize("right_angles", [True, False])
def test_image_and_label_move_together(right_angles):
    label = labels(1, 12, 24, 20, 3)
    image, moved = finetune_pair(KEY, label[..., 1:], label, right_angles=right_angles, intensity=False)
    np.testing.assert_allclose(image, moved[..., 1:], atol=1e-6)
    np.testing.assert_allclose(moved.sum(-1), 1, atol=1e-5)
    assert moved.min() >= -1e-6 and ((moved > 0.01) & (moved < 0.99)).any()
    assert len(np.unique(np.abs(moved - label).sum((1, 2, 3)))) > 6  # every image on its own


def test_pair_against_scipy(monkeypatch):
    """The composition by hand: first the deformation of the result's places, then the turn about the centre."""
    n, h, w = 2, 14, 11
    image, label = random(0, n, h, w, 1), labels(1, n, h, w, 3)
    field = np.random.default_rng(2).normal(size=(n, h, w, 2)) * 1.5
    angle = np.deg2rad(25)
    matrix = np.array([[[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], [[1, 0], [0, -1]]])
    monkeypatch.setattr(finetune, "elastic_field", lambda *a, **k: jnp.asarray(field, jnp.float32))
    monkeypatch.setattr(finetune, "random_affine", lambda *a, **k: jnp.asarray(matrix, jnp.float32))
    got_image, got_label = augment.finetune_pair(KEY, image, label, elastic_probability=1.0, intensity=False)
    centre = np.array([(h - 1) / 2, (w - 1) / 2])
    for i in range(n):
        places = np.stack(np.meshgrid(np.arange(h), np.arange(w), indexing="ij"), -1) + field[i] - centre
        places = np.einsum("ab,hwb->hwa", matrix[i], places) + centre
        np.testing.assert_allclose(got_image[i], scipy_read(image[i], places[..., 0], places[..., 1], "grid-constant"), atol=1e-4)
        want = scipy_read(label[i], places[..., 0], places[..., 1], "grid-constant", [1, 0, 0])
        np.testing.assert_allclose(got_label[i], want, atol=1e-4)


def test_elastic_probability_and_default():
    image, label = random(0, 2000, 4, 4, 1), jnp.ones((2000, 4, 4, 1))
    out, _ = finetune_pair(KEY, image, label, affine_probability=0.0, intensity=False)
    changed = np.abs(out - image).max((1, 2, 3)) > 0
    np.testing.assert_allclose(changed.mean(), 10.5 / 20, atol=0.04)
    out, _ = finetune_pair(KEY, image, label, elastic=0.0, affine_probability=0.5, intensity=False)
    changed = np.abs(out - image).max((1, 2, 3)) > 0
    np.testing.assert_allclose(changed.mean(), 0.5 * 0.8, atol=0.04)  # one choice in five is nothing


def test_intensity_of_the_pair():
    image = 0.5 + 0.2 * (random(0, 1, 8, 8, 1) - 0.5)
    image, label = jnp.tile(image, (2000, 1, 1, 1)), jnp.ones((2000, 8, 8, 1))
    out, same = finetune_pair(KEY, image, label, elastic=0.0, affine_probability=0.0)
    np.testing.assert_array_equal(same, label)
    shift = np.asarray(out.mean((1, 2, 3)) - image.mean((1, 2, 3)))
    factor = np.asarray(out.std((1, 2, 3)) / image.std((1, 2, 3)))
    assert -0.1001 < shift.min() < -0.095 and 0.095 < shift.max() < 0.1001
    assert 0.7999 < factor.min() < 0.81 and 1.19 < factor.max() < 1.2001
    bright, _ = finetune_pair(KEY, jnp.ones((20, 4, 4, 1)), jnp.ones((20, 4, 4, 1)))
    assert bright.max() <= 1 and bright.min() >= 0


# --- ultrasound ---

CHANGES = {"attenuation": depth_attenuation, "gain": gain, "shadow": shadow, "haze": haze, "speckle": speckle}
ORDER = ("speckle", "attenuation", "shadow", "haze", "gain")  # the echo's way


@pytest.mark.parametrize("name", CHANGES)
def test_every_change(name):
    change, whole = CHANGES[name], jax.jit(partial(augment.ultrasound, **{name: 1.0}))
    image = 0.1 + 0.5 * random(0, 400, 12, 10, 1)
    out = change(KEY, image, probability=0.3)
    assert out.shape == image.shape and out.min() >= 0 and out.max() <= 1
    changed = np.abs(out - image).max((1, 2, 3)) > 0
    np.testing.assert_allclose(changed.mean(), 0.3, atol=0.08)
    np.testing.assert_array_equal(change(KEY, image, probability=0.3), out)
    every = np.asarray(change(KEY, jnp.broadcast_to(image[:1], image.shape), probability=1.0))
    assert min(np.abs(every[i] - every[i - 1]).max() for i in range(4)) > 1e-4  # drawn per image
    np.testing.assert_array_equal(change(KEY, image, probability=0.0), image)
    np.testing.assert_array_equal(augment.ultrasound(KEY, image, **{name: 0.0}), image)
    step = jax.random.split(KEY, 5)[ORDER.index(name)]
    np.testing.assert_allclose(whole(KEY, image), change(step, image, probability=1.0), atol=1e-6)
    assert change(KEY, jnp.zeros_like(image), probability=1.0).any() == (name == "haze")
    white = change(KEY, jnp.ones_like(image), probability=1.0)
    assert white.min() >= 0 and white.max() <= 1


def test_changes_do_not_shift_each_others_draws():
    image = 0.3 + 0.3 * random(0, 400, 12, 10, 1)
    both = jax.jit(partial(augment.ultrasound, attenuation=1.0, gain=1.0))(KEY, image)
    steps = jax.random.split(KEY, 5)
    np.testing.assert_allclose(both, gain(steps[4], depth_attenuation(steps[1], image)), atol=1e-6)


def test_attenuation_and_gain_in_decibels():
    image = jnp.full((2, 21, 4, 1), 0.8)
    out = depth_attenuation(KEY, image, decibels=(12.0, 12.0))
    np.testing.assert_allclose(out[:, 10], 0.8 - 0.1, atol=1e-6)  # the middle row of 21 is at half depth
    np.testing.assert_allclose(out[:, 0, 0, 0], 0.8 - 0.2 * 0.5 / 21, atol=1e-6)
    np.testing.assert_allclose(depth_attenuation(KEY, image, decibels=(12.0, 12.0), dynamic_range=40.0)[:, 10], 0.65, atol=1e-6)
    np.testing.assert_allclose(gain(KEY, image, decibels=(6.0, 6.0)), 0.9, atol=1e-6)
    np.testing.assert_allclose(gain(KEY, image, decibels=(30.0, 30.0)), 1.0)
    shift = np.asarray(gain(KEY, jnp.full((3000, 1, 1, 1), 0.5)))[:, 0, 0, 0] - 0.5
    assert -0.1001 < shift.min() < -0.099 and 0.099 < shift.max() < 0.1001
    np.testing.assert_allclose(shift.mean(), 0, atol=0.005)


def test_shadow():
    image = jnp.full((600, 40, 40, 1), 0.8)
    out = np.asarray(shadow(KEY, image, decibels=(24.0, 24.0), soft=0.002, depth=(0.5, 0.5), width=(0.2, 0.2)))[..., 0]
    loss = 0.8 - out
    assert loss.max() <= 0.4 + 1e-5 and loss.min() >= -1e-6
    np.testing.assert_allclose(loss[:, :18], 0, atol=1e-4)  # nothing above the reflector
    dark = loss[:, 22:] > 0.2
    columnar = (dark == dark[:, :1]).all((1, 2))
    # half of the images, and of the fans those whose shadow leaves the picture or whose edges fall between pixels
    assert 0.45 < columnar.mean() < 0.62
    wide = dark[columnar][:, 0].sum(1)
    assert wide.max() == 8 and np.median(wide) == 8  # 0.2 of 40 pixels, fewer where the border cuts it
    fans = dark[~columnar]
    widths = fans.sum(2)
    whole = ~fans[:, :, [0, -1]].any((1, 2)) & (widths > 0).all(1)
    assert whole.sum() > 50 and (widths[whole][:, -1] >= widths[whole][:, 0]).all()  # wider below
    assert (widths[whole] > 8).all()  # and wider than at the probe
    full = np.asarray(shadow(KEY, image, decibels=(24.0, 24.0), width=(9.0, 9.0), depth=(-9.0, -9.0)))
    np.testing.assert_allclose(full, 0.4, atol=1e-4)


def test_shadow_has_soft_edges():
    image = jnp.full((20, 64, 64, 1), 0.8)
    steep = np.abs(np.diff(shadow(KEY, image, soft=0.002)[..., 0], axis=2)).max()
    soft = np.abs(np.diff(shadow(KEY, image, soft=0.05)[..., 0], axis=2)).max()
    assert soft < 0.3 * steep


def test_haze():
    out = np.asarray(haze(KEY, jnp.zeros((400, 32, 32, 1)), strength=(0.05, 0.25)))[..., 0]
    np.testing.assert_allclose(out.min((1, 2)), 0, atol=1e-6)
    top = out.max((1, 2))
    assert 0.0499 < top.min() < 0.055 and 0.245 < top.max() < 0.2501
    steepest = max(np.abs(np.diff(out / top[:, None, None], axis=axis)).max() for axis in (1, 2))
    assert steepest < 0.3  # smooth: a quarter of the picture lies between two grid points


def test_rayleigh_field():
    r = np.asarray(rayleigh_field(KEY, 30, 64, 64, axial=1.0, lateral=1.5), np.float64)[..., 0]
    np.testing.assert_allclose((r**2).mean(), 1, rtol=0.03)
    np.testing.assert_allclose(r.mean() / r.std(), 1.913, rtol=0.02)
    np.testing.assert_allclose((20 * np.log10(r)).std(), 5.57, rtol=0.02)
    for at in (np.s_[:, 0], np.s_[:, -1], np.s_[:, :, 0], np.s_[:, :, -1]):  # as rough at the border
        np.testing.assert_allclose((r[at] ** 2).mean(), 1, rtol=0.1)
    # intensity's correlation at lag l is the square of the field's, exp(-l^2 / 4 sigma^2)
    power = r**2 - 1
    for axis, sigma in ((1, 1.0), (2, 1.5)):
        near, far = np.split(np.take(power, np.arange(62), axis=axis), 1)[0], np.take(power, np.arange(2, 64), axis=axis)
        np.testing.assert_allclose((near * far).mean() / (power**2).mean(), np.exp(-4 / (2 * sigma**2)), atol=0.04)


def test_speckle_in_decibels():
    image = jnp.full((60, 32, 32, 1), 0.5)
    out = np.asarray(speckle(KEY, image, strength=(0.5, 0.5)), np.float64)
    np.testing.assert_allclose(out.std(), 0.5 * 5.57 / 60, rtol=0.04)
    # the mean level of Rayleigh noise of mean square 1 is -2.51 dB (Euler's constant times 10 / ln 10)
    np.testing.assert_allclose(out.mean() - 0.5, -0.5 * 2.507 / 60, rtol=0.1)
