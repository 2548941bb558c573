"""The speckle loss by local parameters: chequerboards by hand, float64 loops over windows, gradients, millimetres, devices, a stage."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.test_util import check_grads

from uscl import config as uscl_config
from uscl import nakagami
from uscl.losses import speckle_loss
from uscl.losses.speckle_map import local_logs, window_sides
from uscl.stages import finetune
from uscl.types import UserError

logs_of = jax.jit(local_logs)


def board(side=20):
    """[1, side, 2 side] of two chequerboards: p of 1/4 and 3/4 on the left, of 0 and 1/2 on the right: (m, omega) (4, 1/2) and (1, 1/4)."""
    odd = np.add.outer(np.arange(side), np.arange(2 * side)) % 2
    p = np.where(np.arange(2 * side) < side, 0.25 + 0.5 * odd, 0.5 * odd)
    return np.sqrt(p)[None].astype(np.float32)


def region(rows, columns, side=20):
    mask = np.zeros((1, side, 2 * side, 1), np.float32)
    mask[:, rows, columns] = 1
    return mask


def by_loop(image, valid, side):
    """ln m, ln omega and whether they are known, of one image [H, W], in float64; a pixel on the window's edge counts in part."""
    height, width = image.shape
    logs, known = np.zeros((height, width, 2)), np.zeros((height, width), bool)
    p = np.asarray(image, np.float64) ** 2
    for y in range(height):
        for x in range(width):
            down, across = (np.clip(side / 2 + 0.5 - abs(np.arange(n) - at), 0, 1) for n, at in ((height, y), (width, x)))
            window = down[:, None] * across
            weight = window * valid
            if weight.sum() >= window.sum() / 2 and (weight * p).sum() > 0:
                omega = (weight * p).sum() / weight.sum()
                variation = (weight * (p - omega) ** 2).sum() / weight.sum() / omega**2
                logs[y, x], known[y, x] = (-np.log(np.clip(variation, 0.01, 20)), np.log(omega)), True
    return logs, known


def batch(seed, images=3, side=14, classes=2):
    rng = np.random.default_rng(seed)
    image = np.clip(np.sqrt(rng.gamma(1.2, 1, (images, side, side))) / 3, 0.01, 1).astype(np.float32)
    label = (np.arange(side) * (classes + 1) // side)[None, :, None] * np.ones((images, 1, side), int)
    image *= (0.3 + 0.3 * label).astype(np.float32)
    prediction = np.exp(rng.normal(size=(*label.shape, classes + 1)) + 2 * np.eye(classes + 1)[label])
    prediction = (prediction / prediction.sum(-1, keepdims=True))[..., 1:].astype(np.float32)
    return image, prediction, np.eye(classes + 1, dtype=np.float32)[label][..., 1:]


def loss_by_loop(image, prediction, target, valid, side):
    total = np.zeros(len(image))
    for b in range(len(image)):
        logs, known = by_loop(image[b], valid[b], side)
        for k in range(target.shape[-1]):
            means = [np.average(logs[known], axis=0, weights=w[b, ..., k][known]) for w in (prediction, target)]
            total[b] += np.hypot(*(means[0] - means[1]))
    return total


def test_by_hand():
    image, f = board(), jax.jit(partial(speckle_loss, form="map", window=4))
    deep, left, right = slice(2, 18), slice(2, 18), slice(22, 38)
    logs, known = logs_of(image, np.ones_like(image, bool), 4)
    np.testing.assert_allclose(logs[0, deep, left], np.broadcast_to(np.log([4, 0.5]), (16, 16, 2)), atol=1e-5)
    np.testing.assert_allclose(logs[0, deep, right], np.broadcast_to(np.log([1, 0.25]), (16, 16, 2)), atol=1e-5)
    assert known.all()
    np.testing.assert_allclose(f(image, region(deep, right), region(deep, left)), np.sqrt(5) * np.log(2), rtol=1e-5)
    both = region(deep, left) + region(deep, right)  # the mean of the logarithms lies half-way; m of the whole would not
    np.testing.assert_allclose(f(image, both, region(deep, left)), np.sqrt(5) / 2 * np.log(2), rtol=1e-5)
    np.testing.assert_allclose(f(image * 0.3, region(deep, right), region(deep, left)), np.sqrt(5) * np.log(2), rtol=1e-5)  # gain is out
    flat, known = logs_of(np.full((1, 9, 9), 0.5, np.float32), np.ones((1, 9, 9), bool), 5)
    np.testing.assert_allclose(flat, np.broadcast_to(np.log([100, 0.25]), flat.shape), rtol=1e-5)


@pytest.mark.parametrize("side", [3, 4, 5.3])
def test_maps_agree_with_loops_with_pixels_left_out(side):
    image, *_ = batch(0, images=2, side=11)
    valid = np.random.default_rng(1).uniform(size=image.shape) < 0.6
    valid[0, :5, :5] = False
    image[1, 6:, :] = 0
    logs, known = logs_of(image, valid, np.float32(side))
    for b in range(2):
        want, where = by_loop(image[b], valid[b], side)
        np.testing.assert_array_equal(known[b], where)
        np.testing.assert_allclose(logs[b], want, atol=2e-4)
    assert 0 < np.mean(known) < 1


def test_whole_windows_are_those_of_the_nakagami_image():
    image, *_ = batch(2, images=1, side=30)
    valid = np.random.default_rng(3).uniform(size=image.shape) < 0.7
    m, omega = jax.jit(partial(nakagami.parameter_map, window=7))(image[0], valid[0])
    logs, known = logs_of(image, valid, 7)
    np.testing.assert_array_equal(known[0], omega > 0)
    np.testing.assert_allclose(jnp.where(known[0], jnp.clip(jnp.exp(logs[0, ..., 0]), 0.05, 10), 0), m, rtol=1e-4)
    np.testing.assert_allclose(jnp.where(known[0], jnp.exp(logs[0, ..., 1]), 0), omega, rtol=1e-5)


@pytest.mark.parametrize("envelope", [False, True])
def test_loss_agrees_with_loops(envelope):
    image, prediction, target = batch(4)
    f = jax.jit(partial(speckle_loss, form="map", window=5, envelope=envelope, dynamic_range=50.0, min_pixels=1))
    valid, seen = np.ones(image.shape, bool), image
    if envelope:  # black pixels are censored, and out of the window
        valid = np.random.default_rng(5).uniform(size=image.shape) < 0.8
        image, seen = np.where(valid, nakagami.log_compress(np.clip(image, 0.01, 1), dynamic_range=50.0), 0), np.clip(image, 0.01, 1)
        prediction, target = prediction * valid[..., None], target * valid[..., None]
    got = f(image, prediction, target)
    assert got.shape == (3,) and got.dtype == jnp.float32
    np.testing.assert_allclose(got, loss_by_loop(seen, prediction, target, valid, 5), rtol=2e-3)


def test_gradients_are_those_of_differences_and_zero_where_there_is_nothing_to_learn():
    image, prediction, target = batch(6, images=1)
    f = jax.jit(lambda p, t: speckle_loss(image, p, t, form="map", window=5).sum())
    check_grads(lambda p: f(p, target), (prediction,), order=1, modes=["rev"], atol=2e-2, rtol=2e-2, eps=1e-2)
    slope = jax.jit(jax.value_and_grad(f))
    value, gradient = slope(target, target)
    assert value == 0 and not gradient.any()
    value, gradient = slope(prediction, np.zeros_like(target))
    assert value == 0 and not gradient.any()
    faint = prediction * np.float32([1, 0.1])  # below min_pixels: counted without a gradient
    value, gradient = slope(faint, target)
    assert not gradient[..., 1].any() and gradient[..., 0].any()
    np.testing.assert_allclose(value, f(prediction, target), rtol=1e-4)
    by_image = jax.jit(jax.grad(lambda x: speckle_loss(x, prediction, target, form="map", window=5).sum()))(image)
    assert not by_image.any()  # the map is data


def test_finite_where_an_image_is_flat_or_black():
    image, prediction, target = batch(7)
    f = jax.jit(jax.value_and_grad(lambda x, p: speckle_loss(x, p, target, form="map", window=5, envelope=True).sum(), argnums=1))
    speck = np.zeros_like(image)
    speck[:, 3, 3] = 1
    for x in (image * 0, image * 0 + 1, image * 0 + 0.4, speck):
        for p in (prediction, target, target * 0, target[..., ::-1]):
            loss, gradient = f(x, p)
            assert np.isfinite(loss) and np.isfinite(gradient).all()
        assert x[0, 0, 0] or loss == 0


def test_millimetres_are_pixels_of_each_image_and_unknown_ones_those_of_the_window():
    mm = np.float32([0.2, 2.0, 0.52, np.nan])
    np.testing.assert_allclose(window_sides(9, 2.6, mm), [13, 3, 5, 9], rtol=1e-6)
    assert window_sides(9) == 9 and window_sides(9, 0.0, mm) == 9 and window_sides(1) == 3
    image, prediction, target = batch(8)
    f = jax.jit(partial(speckle_loss, form="map", window=4, window_mm=2.5))
    got = f(image, prediction, target, mm=np.float32([0.5, 0.25, np.nan]))
    for b, side in enumerate((5, 10, 4)):
        alone = (x[b : b + 1] for x in (image, prediction, target))
        np.testing.assert_allclose(got[b], loss_by_loop(*alone, np.ones((1, 14, 14)), side)[0], rtol=2e-3)
    with pytest.raises(ValueError, match="mm"):
        f(image, prediction, target)


@pytest.mark.slow
def test_four_devices_agree_with_one():
    arrays = batch(9, images=4)
    g = jax.jit(jax.value_and_grad(lambda p, x, t, mm: speckle_loss(x, p, t, form="map", window_mm=2.0, mm=mm).mean()))
    arrays = arrays[1], arrays[0], arrays[2], np.float32([0.2, 0.4, np.nan, 0.5])
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    for one, four in zip(g(*arrays), g(*jax.device_put(arrays, NamedSharding(mesh, PartitionSpec("data")))), strict=True):
        np.testing.assert_allclose(four, one, rtol=1e-5, atol=1e-5 * np.abs(one).max())


def test_the_stage_hands_over_the_knobs_and_the_batchs_mm(monkeypatch):
    config = uscl_config.default()
    config.finetune.speckle.update({"form": "map", "window": 5, "window_mm": 2.0})
    uscl_config.validate(config)
    image, prediction, target = batch(10)
    told = {}
    monkeypatch.setattr(finetune, "finetune_pair", lambda key, image, target, **_: (image, target))
    monkeypatch.setattr(finetune.losses, "speckle_loss", lambda x, p, t, **how: told.update(how) or speckle_loss(x, p, t, **how))
    logits = np.log(np.concatenate([1 - prediction.sum(-1, keepdims=True), prediction], -1))
    model = type("Model", (), {"apply": lambda self, *_, **__: (logits, {"batch_stats": {}})})()
    knobs = {"weights": {"speckle": 1.0}, "dice": {}, "speckle": config.finetune.speckle, "augment": {}}
    loss_fn = finetune.make_loss(model, values=3, **knobs, kind="none")
    label = np.where(target.any(-1), target.argmax(-1) + 1, 0).astype(np.uint8)
    grey, mm = np.uint8(image * 255)[..., None], np.float32([0.5, 0.3, np.nan])
    terms, _ = loss_fn({}, {}, {"image": grey, "label": label, "mm": mm}, jax.random.key(0))
    np.testing.assert_array_equal(told.pop("mm"), mm)
    assert told == {"form": "map", "window": 5, "window_mm": 2.0, "envelope": False, "dynamic_range": 60.0}
    want = [loss_by_loop(grey[b : b + 1, ..., 0] / 255, prediction[b : b + 1], target[b : b + 1], np.ones((1, 14, 14)), side)[0]
            for b, side in enumerate((4, 2 / 0.3, 5))]  # fmt: skip
    assert terms["speckle"] == pytest.approx(np.mean(want), rel=1e-3)
    config.nnunet.loss.speckle = 1.0
    with pytest.raises(UserError, match="window_mm must be 0"):
        uscl_config.validate(config)
