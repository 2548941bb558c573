"""What stands behind a clip encoder while it is pretrained: sizes and values by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from uscl import models
from uscl.models import ClipEncoder
from uscl.models.clip_heads import Perceptron
from uscl.models.transfer import parameter_count

RNG = np.random.default_rng(0)


def test_sizes_of_the_heads():
    """18 -> 4096 -> 256 without the biases that BatchNorm takes away, two numbers a normalised unit; then 256 -> 4096 -> 256."""
    model = models.ClipModel(encoder=ClipEncoder())
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 1, 32, 32, 1)), train=False))["params"]
    assert parameter_count(shapes["projector"]) == 18 * 4096 + 2 * 4096 + 4096 * 256 + 256 == 1_130_752
    assert parameter_count(shapes["predictor"]) == 256 * 4096 + 2 * 4096 + 4096 * 256 + 256 == 2_105_600
    assert parameter_count(shapes["encoder"]) == 133_842
    plain = models.ClipModel(encoder=ClipEncoder(), hidden=10, features=3, layers=3, normalised=False, predicts=False)
    shapes = jax.eval_shape(lambda: plain.init(jax.random.key(0), jnp.zeros((1, 1, 32, 32, 1)), train=False))["params"]
    assert parameter_count(shapes["projector"]) == 19 * 10 + 11 * 10 + 11 * 3 and set(shapes) == {"encoder", "projector"}


def test_a_perceptron_by_hand():
    model, x = Perceptron(hidden=5, features=2, layers=3, momentum=0.75), RNG.normal(size=(6, 4)).astype(np.float32)
    variables = jax.tree.map(lambda leaf: np.float32(leaf + RNG.uniform(0.1, 0.5, leaf.shape)),
                             model.init(jax.random.key(0), x, train=False))  # fmt: skip
    got, updated = model.apply(variables, x, train=True, mutable=["batch_stats"])
    h, params = x.astype(float), variables["params"]
    for name in ("hidden1", "hidden2"):
        p, old, y = params[name], variables["batch_stats"][name], h @ params[name]["dense"]["kernel"]
        h = np.maximum((y - y.mean(0)) / np.sqrt(y.var(0) + 1e-5) * p["scale"] + p["shift"], 0)
        for kind, value in (("mean", y.mean(0)), ("var", y.var(0))):
            np.testing.assert_allclose(updated["batch_stats"][name][kind], 0.75 * old[kind] + 0.25 * value, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got, h @ params["out"]["kernel"] + params["out"]["bias"], rtol=1e-4, atol=1e-5)
    h = x.astype(float)
    for name in ("hidden1", "hidden2"):
        p, old = params[name], variables["batch_stats"][name]
        h = np.maximum((h @ p["dense"]["kernel"] - old["mean"]) / np.sqrt(old["var"] + 1e-5) * p["scale"] + p["shift"], 0)
    np.testing.assert_allclose(model.apply(variables, x, train=False), h @ params["out"]["kernel"] + params["out"]["bias"], rtol=1e-4)
