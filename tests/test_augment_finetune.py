"""Image and label moved as one, against SciPy's interpolation and the ranges that are drawn from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import KEY, random, scipy_read

from uscl import augment
from uscl.augment import finetune

# Compiled as they are used; dispatching their operations one by one would take most of the time of these tests.
finetune_pair = jax.jit(
    augment.finetune_pair, static_argnames=("right_angles", "elastic", "elastic_probability", "affine_probability", "intensity")
)
warp = jax.jit(finetune.warp)
random_affine = jax.jit(finetune.random_affine, static_argnames=("n", "right_angles"))
elastic_field = jax.jit(finetune.elastic_field, static_argnames=("n", "height", "width", "sigma"))


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
    pair = jax.jit(lambda image, label: augment.finetune_pair(KEY, image, label, elastic_probability=1.0, intensity=False))
    got_image, got_label = pair(image, label)
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
    out, image = np.asarray(out), np.asarray(image)
    shift = out.mean((1, 2, 3)) - image.mean((1, 2, 3))
    factor = out.std((1, 2, 3)) / image.std((1, 2, 3))
    assert -0.1001 < shift.min() < -0.095 and 0.095 < shift.max() < 0.1001
    assert 0.7999 < factor.min() < 0.81 and 1.19 < factor.max() < 1.2001
    bright, _ = finetune_pair(KEY, jnp.ones((20, 4, 4, 1)), jnp.ones((20, 4, 4, 1)))
    assert bright.max() <= 1 and bright.min() >= 0
