"""nnU-Net's networks: parameters counted by hand, shapes, first weights; values and gradients against float64."""


import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nnunet_reference import FAST, ONE, PLAIN, RNG, TWO, UNEVEN, dot, halved, network, plan, random_like, slope, wide
from uscl import models
from uscl.models import nnunet_blocks as blocks
from uscl.models.nnunet import NNUNet
from uscl.train.mesh import make_mesh

FULL = (32, 64, 128, 256, 512, 512, 512)
COUNTS = {
    # 256 x 256. Encoder, sums of C F: 32 + 32^2 = 1056, then F/2 F + F^2 = 6144, 24576, 98304, 393216, then 2 x 512^2 twice: 1571872, times
    # 9 = 14146848; 3 x 2 F over F = 2016: 12096. Decoder: (2 F + F) F over 512 512 256 128 64 32 is 3 x 611328 = 1833984, times 9 =
    # 16505856; 3 x 2 x 1504 = 9024. Transposed: 4 x (2 x 512^2 + 131072 + 32768 + 8192 + 2048) + 1504 = 2794976. Heads: 4 x 1504 + 6 x 4.
    "plain, 7 stages": (halved(FULL, (2,) * 7, (2,) * 6), 14146848 + 12096 + 16505856 + 9024 + 2794976 + 6040),
    # 768 x 1024, an eighth stage: another 2 x 512^2 x 9 + 6 x 512 below, 3 x 512^2 x 9 + 6 x 512 above, 4 x 512^2 + 512 and 512 x 4 + 4.
    "plain, 8 stages": (halved((*FULL, 512), (2,) * 8, (2,) * 7), 33474840 + 4721664 + 7080960 + 1049088 + 2052),
    # 192 x 192, residual. Stem: 9 x 32 + 96 = 384. A block without change of width: 18 F^2 + 6 F. Stage 0: 18624. A stage's first block:
    # 9 F/2 F + 9 F^2 + 6 F, and its skip F/2 F + 2 F: 14 F^2 + 8 F. Stage 1: 57856 + 2 x 74112 = 206080; 2: 230400 + 3 x 295680 = 1117440;
    # 3: 919552 + 5 x 1181184 = 6825472; 4: 3674112 + 5 x 4721664 = 27282432; 5: 6 x 4721664 = 28329984, its skip only averages.
    # Decoder, one convolution 18 F^2 + 3 F: 4720128 + 1180416 + 295296 + 73920 + 18528 = 6288288. Transposed: 4 x (512^2 + 131072 + 32768 +
    # 8192 + 2048) + 992 = 1745888. Heads: 4 x 992 + 5 x 4 = 3988.
    "residual, 6 stages": (
        halved(FULL[:6], (1, 3, 4, 6, 6, 6), (1,) * 5, True),
        384 + 18624 + 206080 + 1117440 + 6825472 + 27282432 + 28329984 + 6288288 + 1745888 + 3988,
    ),
    # Kernels 1 x 3 in the finest stage: 3 x 1056 + 192 = 3360 below and 3 x 3 x 32^2 + 192 = 9408 above. Stages 1 to 3: 9 x (6144 + 24576 +
    # 98304) + 6 x 448 = 1163904; levels 2 and 1: 27 x (128^2 + 64^2) + 6 x 192 = 554112. Transposed, whose strides halve (rows, columns) by
    # (1, 2), (2, 2), (2, 1): 2 x 256 x 128 + 4 x 128 x 64 + 2 x 64 x 32 + 224 = 102624. Heads: 4 x 224 + 3 x 4 = 908.
    "one axis at a time": (
        plan(FULL[:4], (ONE, (1, 2), TWO, (2, 1)), (2,) * 4, (2,) * 3, first=(1, 3)),
        3360 + 9408 + 1163904 + 554112 + 102624 + 908,
    ),
}


# --- counts, shapes, first weights ---


@pytest.mark.parametrize("plan, count", COUNTS.values(), ids=COUNTS)
def test_parameters_counted_by_hand(plan, count):
    model, image = NNUNet.of(plan, 4), jax.ShapeDtypeStruct((2, 256, 256, 1), jnp.float32)
    scores, variables = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x, train=False), image)
    assert set(variables) == {"params"} and models.parameter_count(variables["params"]) == count
    assert [(s.shape, s.dtype) for s in scores] == [((2, 256, 256, 4), np.float32)]


@pytest.mark.parametrize("plan", [PLAIN, UNEVEN], ids=["plain", "residual, uneven"])
def test_half_precision_and_remat(plan):
    """The same names and types of parameters, and float32 scores of every level's size."""
    whole, half = NNUNet.of(plan, 4), NNUNet.of(plan, 4, dtype="bfloat16", remat=True)
    image = jax.ShapeDtypeStruct((2, 16, 16, 1), jnp.float32)
    (_, one), (scores, two) = (
        jax.eval_shape(lambda x, m=m: m.init_with_output(jax.random.key(0), x, train=True), image) for m in (whole, half)
    )
    assert jax.tree.map(lambda a: (a.shape, a.dtype), one) == jax.tree.map(lambda a: (a.shape, a.dtype), two)
    assert [s.shape for s in scores] == [(2, 16 // a, 16 // b, 4) for a, b in np.cumprod(plan.strides[:-1], axis=0)]
    assert all(s.dtype == np.float32 for s in scores)

    def kept(m):
        back = jax.eval_shape(lambda v, x: jax.vjp(lambda v: m.apply(v, x, train=True), v)[1], one, image)
        return [a.size for a in jax.tree.leaves(back)]

    assert max(kept(half)) == 2 * 16 * 16 * 3 < max(kept(whole)) and sum(kept(half)) < sum(kept(whole)) / 2


def test_first_weights():
    """Kaiming's deviation, sqrt(2 / (1 + 0.01^2) / fan_in). The original's first transposed kernel, 64 to 32 channels, draws 0.1266."""
    p = models.initialise(NNUNet.of(halved((32, 64), (1, 2), (1,), True), 3), 0, (8, 8, 2))["params"]
    block, up = p["stage1"]["block1"], p["level0"]["up"]
    kernels = {"conv1": (block["conv1"]["leaky_kernel"], 9 * 32), "skip": (block["skip"]["leaky_kernel"], 32)}
    kernels["up"] = up["spread_kernel"], 4 * 32
    kernels["Flax's"] = blocks.KAIMING(jax.random.key(0), (3, 3, 32, 64)), 9 * 32
    kernels["Flax's up"] = blocks.KAIMING_UP(jax.random.key(0), (64, 2, 2, 32)), 4 * 32
    for name, (kernel, fan_in) in kernels.items():
        np.testing.assert_allclose(np.std(kernel), np.sqrt(2 / 1.0001 / fan_in), rtol=0.04, err_msg=name)
    ones = [block["conv1"]["scale"], block["skip"]["scale"], p["stem"]["scale"], p["level0"]["convs"]["conv1"]["scale"]]
    zeros = [block["conv2"]["zero_scale"], block["conv2"]["shift"], block["conv1"]["bias"], up["bias"], p["head0"]["bias"]]
    assert all((np.asarray(a) == 1).all() for a in ones) and all((np.asarray(a) == 0).all() for a in zeros)
    old = models.initialise(models.UNet(2, width=(4, 4)), 3, (8, 8, 1))["params"]["encoder"]["level2"]["conv1"]["kernel"]
    seeds = np.random.SeedSequence([3, 0xE63F1D48])  # crc32 of params/encoder/level2/conv1/kernel
    want = np.random.Generator(np.random.Philox(seeds)).standard_normal((3, 3, 4, 4)) * np.sqrt(2 / 36)
    np.testing.assert_array_equal(old, want.astype(np.float32))


@pytest.mark.parametrize(
    "plan, shape, message",
    [
        (PLAIN, (1, 8, 10, 1), "image of 8 x 10 pixels: columns must be a multiple of 4"),
        (UNEVEN, (1, 7, 8, 1), "image of 7 x 8 pixels: rows must be a multiple of 2"),
        (halved((3, 4), (1, 1), ()), (1, 8, 8, 1), r"2 features, .* have \[2, 2, 2, 0\] entries, \[2, 2, 2, 1\] expected"),
    ],
)
def test_what_cannot_be_built(plan, shape, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: NNUNet.of(plan, 2).init(jax.random.key(0), jnp.zeros(shape), train=True))


# --- whole networks ---


def drawn(plan, heads, shape):
    """A network with every parameter drawn, scales and biases too, and an image."""
    model = NNUNet.of(plan, heads)
    variables = models.initialise(model, 1, shape)
    params = jax.tree.map(lambda a: a if a.ndim > 1 else jnp.asarray(RNG.normal(0.7, 0.4, a.shape), jnp.float32), variables["params"])
    return model, params, jnp.asarray(RNG.normal(size=(4, *shape)), jnp.float32)


def value_and_gradient(model, params, x, weights, **options):
    def f(params, x, weights):
        scores, alone = (model.apply({"params": params}, x, train=train) for train in (True, False))
        return sum((s * w).sum() for s, w in zip(scores, weights, strict=True)), (scores, alone)

    return jax.jit(jax.value_and_grad(f, has_aux=True), **options)(params, x, weights)


@pytest.mark.parametrize("plan, shape", [(PLAIN, (12, 16, 1)), (UNEVEN, (8, 12, 2))], ids=["plain", "residual, uneven"])
def test_network_in_float64(plan, shape):
    model, params, x = drawn(plan, 2, shape)
    at, image = wide(params), wide(x)
    want = network(at, plan, image)
    weights = [RNG.normal(size=s.shape) for s in want]
    (_, (scores, alone)), gradient = value_and_gradient(model, params, x, jax.tree.map(jnp.float32, weights), compiler_options=FAST)
    for ours, theirs in zip(scores, want, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    for _ in range(3):
        along = random_like(at)
        expected = slope(lambda p: dot(network(p, plan, image), weights), at, along)
        np.testing.assert_allclose(dot(gradient, along), expected, rtol=1e-3, atol=1e-2)
    flat = jax.tree_util.tree_flatten_with_path(gradient)[0]
    dead = [a for path, a in flat if path[-1].key == "bias" and path[-2].key != "up" and not path[-2].key.startswith("head")]
    assert dead and not any(np.any(a) for a in dead)
    assert len(alone) == 1
    np.testing.assert_allclose(alone[0], want[0], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("plan, shape", [(PLAIN, (16, 24, 1)), (UNEVEN, (8, 12, 2))], ids=["plain", "residual, uneven"])
def test_four_devices_and_remat_give_what_one_device_gives(plan, shape):
    model, params, x = drawn(plan, 2, shape)
    sizes = [s.shape for s in jax.eval_shape(lambda p: model.apply({"params": p}, x, train=True), params)]
    weights = [jnp.asarray(RNG.normal(size=size), jnp.float32) for size in sizes]
    one = value_and_gradient(model, params, x, weights)
    mesh = make_mesh(4)
    split, whole = (jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axis)) for axis in (("data",), ()))
    four = value_and_gradient(model, jax.device_put(params, whole), jax.device_put(x, split), jax.device_put(weights, split))
    assert len(four[0][1][0][0].sharding.device_set) == 4 and four[0][1][0][0].addressable_shards[0].data.shape[0] == 1
    again = value_and_gradient(NNUNet.of(plan, 2, remat=True), params, x, weights)
    for other in (four, again):
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5 * max(1, np.abs(a).max()))
