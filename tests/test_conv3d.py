"""Both forms of the clips' convolution, and their layer, against float64 NumPy."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from reference_clips import drawn, normal, plain_convolution, plain_gradients, plain_layer

from uscl.models.conv3d import FORMS, ConvNorm3D, convolve_clip
from uscl.train.mesh import make_mesh


@pytest.mark.parametrize("form", FORMS)
def test_a_kernel_of_ones_counts_its_neighbours(form):
    ones = np.ones((1, 4, 5, 6, 1), np.float32)
    count = jax.jit(lambda x: convolve_clip(x, jnp.ones((3, 3, 3, 1, 1)), form=form)[0, ..., 0])
    out = count(ones)
    assert out[1, 1, 1] == 27 and out[0, 2, 2] == out[2, 4, 2] == 18 and out[0, 0, 3] == out[3, 2, 5] == 12 and out[-1, -1, 0] == 8
    assert count(ones[:, :1])[0, 2, 2] == 9


CASES = {
    "one channel": ((2, 3, 5, 4, 1), 3, 3, 1),
    "stride 1": ((2, 3, 4, 6, 5), 4, 3, 1),
    "stride 2, even": ((2, 4, 4, 6, 3), 2, 3, 2),
    "stride 2, odd": ((1, 5, 7, 3, 2), 4, 3, 2),
    "one frame": ((2, 1, 4, 3, 3), 2, 3, 2),
}
RARE = {
    "side 1": ((2, 2, 3, 4, 3), 5, 1, 1),
    "side 1, stride 2": ((1, 5, 4, 3, 2), 3, 1, 2),
    "side 5, short": ((1, 2, 5, 6, 2), 3, 5, 1),
    "side 5, one channel, stride 2": ((1, 6, 5, 4, 1), 2, 5, 2),
    "stride 3": ((1, 7, 5, 9, 2), 2, 3, 3),
    "one channel, stride 2": ((2, 5, 6, 6, 1), 2, 3, 2),
    "wide": ((1, 3, 4, 4, 20), 18, 3, 1),
}


@pytest.mark.parametrize(
    "shape, features, size, stride", [*CASES.values(), *(pytest.param(*c, marks=pytest.mark.slow) for c in RARE.values())],
    ids=[*CASES, *RARE])
def test_both_forms_against_numpy(shape, features, size, stride):
    x, kernel = normal(0, *shape), normal(1, size, size, size, shape[-1], features) * 0.2
    want = plain_convolution(x, kernel, stride)
    assert want.shape == (shape[0], *(-(-n // stride) for n in shape[1:4]), features)
    g = normal(2, *want.shape) * 0.3

    @jax.jit
    def both(x, kernel):
        def f(x, kernel, form):
            out = convolve_clip(x, kernel, stride, form=form)
            return (out * g).sum(), out

        return {form: jax.value_and_grad(f, (0, 1), has_aux=True)(x, kernel, form) for form in FORMS}

    for form, ((_, out), gradients) in both(x, kernel).items():
        np.testing.assert_allclose(out, want, atol=1e-5, err_msg=form)
        for ours, theirs in zip(gradients, plain_gradients(x, kernel, stride, g), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5, err_msg=form)


def test_what_is_no_convolution():
    with pytest.raises(ValueError, match="a side of 2"):
        convolve_clip(jnp.ones((1, 2, 2, 2, 1)), jnp.ones((2, 2, 2, 1, 1)))
    with pytest.raises(ValueError, match="'slices'.*'planes'"):
        convolve_clip(jnp.ones((1, 2, 2, 2, 1)), jnp.ones((3, 3, 3, 1, 1)), form="slices")


def test_statistics_of_the_whole_batch_on_four_devices():
    layer, mesh = ConvNorm3D(2), make_mesh(4)
    x = normal(0, 4, 2, 3, 3, 2) + np.arange(4, dtype=np.float32)[:, None, None, None, None]  # each clip's own would differ
    variables = drawn(layer, x.shape)
    apply = jax.jit(partial(layer.apply, train=True, mutable=["batch_stats"]))
    spread = apply(*(jax.device_put(a, NamedSharding(mesh, PartitionSpec(*how))) for a, how in ((variables, ()), (x, ("data",)))))
    assert len(spread[0].sharding.device_set) == 4
    seen = []
    want = plain_layer(x, variables["params"], None, 1, True, seen)
    np.testing.assert_allclose(spread[0], want, atol=1e-5)
    np.testing.assert_allclose(spread[1]["batch_stats"]["mean"], 0.9 * variables["batch_stats"]["mean"] + 0.1 * seen[0][0], atol=1e-6)
