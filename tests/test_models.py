"""The networks: their size by hand, each cheap form against the plain one, statistics of the whole batch, and what stages hand on."""
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jax.test_util import check_grads

from uscl.models import Decoder, Encoder, GlobalModel, LocalModel, UNet, blocks, parameter_count, transfer
from uscl.models.heads import GlobalHead
from uscl.train.mesh import make_mesh

pytestmark = pytest.mark.usefixtures("quick_programs")
SMALL = (4, 6, 8, 8, 8, 8)
SHALLOW = (4, 6, 8)  # two poolings, two blocks: what does not depend on depth compiles sooner
SHALLOWEST = (4, 6)


def random(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def shapes_of(model, size, channels, n=1):
    return jax.eval_shape(partial(model.init, train=False), jax.random.key(0), jnp.zeros((n, size, size, channels)))


def drawn(model, size, channels):
    """Variables with NumPy's random weights of the right spread: compiling JAX's own draws takes longer than these tests."""
    rng = np.random.default_rng(5)

    def leaf(path, shape):
        if path[-1].key == "kernel":
            return jnp.asarray(rng.normal(size=shape.shape) * np.sqrt(2 / np.prod(shape.shape[:-1])), jnp.float32)
        return jnp.full(shape.shape, float(path[-1].key in ("scale", "var")))

    return jax.tree_util.tree_map_with_path(leaf, shapes_of(model, size, channels))


def conv(size, inputs, outputs, bias=True):
    """size^2 in out weights, out biases, and BatchNorm's scale and shift."""
    return size * size * inputs * outputs + outputs * bias + 2 * outputs


def encoder_by_hand(channels):
    return (
        conv(3, channels, 16) + conv(3, 16, 16)  # C=1: 144+16+32 = 192 (C=3: 480), and 2304+16+32 = 2 352
        + conv(3, 16, 32) + conv(3, 32, 32)  # 4608+96 = 4 704, 9216+96 = 9 312
        + conv(3, 32, 64) + conv(3, 64, 64)  # 18432+192 = 18 624, 36864+192 = 37 056
        + conv(3, 64, 128) + conv(3, 128, 128)  # 73728+384 = 74 112, 147456+384 = 147 840
        + 4 * conv(3, 128, 128)  # levels 5 and 6
    )  # fmt: skip


BLOCKS = [
    conv(2, 128, 128) + conv(3, 256, 128) + conv(3, 128, 128),  # 65 920 + 295 296 + 147 840 = 509 056
    conv(2, 128, 128) + conv(3, 256, 128) + conv(3, 128, 128),  # the same
    conv(2, 128, 64) + conv(3, 128, 64) + conv(3, 64, 64),  # 32 960 + 73 920 + 37 056 = 143 936
    conv(2, 64, 32) + conv(3, 64, 32) + conv(3, 32, 32),  # 8 288 + 18 528 + 9 312 = 36 128
    conv(2, 32, 16) + conv(3, 32, 16),  # 2 096 + 4 656 = 6 752: one convolution only
]
TAIL = 2 * conv(3, 16, 16) + 9 * 16 * 4  # 4 704 + 576


def test_hand_counts_add_up():
    assert encoder_by_hand(1) == 885_552 and encoder_by_hand(3) == 885_840
    assert sum(BLOCKS) == 1_204_928 and TAIL == 5_280


@pytest.mark.parametrize("size", [96, 192])
@pytest.mark.parametrize("channels", [1, 3])
def test_parameter_counts(size, channels):
    encoder = encoder_by_hand(channels)
    unet = shapes_of(UNet(classes=4), size, channels)
    assert parameter_count(unet["params"]) == encoder + 1_204_928 + 5_280
    # g1: (size / 32)^2 * 128 -> 1024 -> 128, no bias: 4608 * 1024 at 192, 1152 * 1024 at 96
    flat = {192: 4608, 96: 1152}[size]
    assert parameter_count(shapes_of(GlobalModel(), size, channels)["params"]) == encoder + flat * 1024 + 1024 * 128
    # three blocks; g2: 64 * 64 and BatchNorm, 64 * 64; regions: 576 -> 128
    local = shapes_of(LocalModel(blocks=3), size, channels)
    assert parameter_count(local["params"]) == encoder + sum(BLOCKS[:3]) + (64 * 64 + 128) + 64 * 64 + 576 * 128
    # a mean and a variance for each BatchNorm channel: encoder 2 (16+32+64+128+128+128), decoder 3 (128+128+64+32) + 2*16, tail 2*16
    assert parameter_count(unet["batch_stats"]) == 2 * (2 * 496 + 3 * 352 + 32 + 32)


def test_sizes_and_names():
    x = random(0, 2, 64, 64, 1)
    maps = jax.eval_shape(lambda x: Encoder().init_with_output(jax.random.key(0), x, train=False)[0], x)
    assert [m.shape for m in maps] == [(2, 64 >> l, 64 >> l, c) for l, c in enumerate((16, 32, 64, 128, 128, 128))]
    unet = shapes_of(UNet(classes=4), 64, 1)["params"]
    assert set(unet) == {"encoder", "decoder", "tail"}
    assert set(unet["decoder"]) == {f"block{l}" for l in range(1, 6)}
    assert set(unet["decoder"]["block5"]) == {"up", "conv1"} and set(unet["decoder"]["block4"]) == {"up", "conv1", "conv2"}
    assert set(shapes_of(GlobalModel(), 64, 1)["params"]) == {"encoder", "g1"}
    assert set(shapes_of(LocalModel(), 64, 1)["params"]) == {"encoder", "decoder", "g2", "region"}


@pytest.mark.parametrize("blocks_, side, channels", [(1, 4, 128), (3, 16, 64), (5, 64, 16)])
def test_local_map(blocks_, side, channels):
    out = jax.eval_shape(
        lambda x: LocalModel(blocks=blocks_).init_with_output(jax.random.key(0), x, train=False)[0], jnp.zeros((2, 64, 64, 1))
    )
    assert out.shape == (2, side, side, channels)


@pytest.mark.parametrize("size", [(32, 32), (50, 38), (33, 47), (2, 6)])
def test_output_has_the_input_size(size):
    model, x = UNet(classes=3, width=SMALL), jnp.zeros((2, *size, 2))
    out = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x, train=False)[0], x)
    assert out.shape == (2, *size, 3) and out.dtype == jnp.float32


def test_decoder_refuses_blocks_it_does_not_have():
    with pytest.raises(ValueError, match="1 to 5"):
        Decoder(blocks=6).init(jax.random.key(0), [jnp.zeros((1, 2, 2, 4))] * 6, train=False)


# --- each form against the plain one ---


def plain_conv(x, kernel):
    """Convolution by its definition, float64: SAME, zeros outside, the extra row and column of an even kernel below and right."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    size, (n, h, w, _) = kernel.shape[0], x.shape
    low = (size - 1) // 2
    padded = np.pad(x, ((0, 0), (low, size // 2), (low, size // 2), (0, 0)))
    out = np.zeros((n, h, w, kernel.shape[-1]))
    for i in range(size):
        for j in range(size):
            out += np.einsum("nhwc,cf->nhwf", padded[:, i : i + h, j : j + w], kernel[i, j])
    return out


def lax_conv(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def same_values_and_gradients(form, plain, x, kernel):
    np.testing.assert_allclose(form(x, kernel), plain(x, kernel), atol=1e-5)
    weight = random(9, *form(x, kernel).shape)
    ours = jax.grad(lambda x, k: (form(x, k) * weight).sum(), (0, 1))(x, kernel)
    theirs = jax.grad(lambda x, k: (plain(x, k) * weight).sum(), (0, 1))(x, kernel)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)  # sums over all pixels: of order 10 to 100


@pytest.mark.parametrize("channels, size", [(1, 3), (1, 2), (3, 3), (5, 1), (1, 1)])
def test_convolve(channels, size):
    x, kernel = random(0, 2, 9, 7, channels), random(1, size, size, channels, 4) * 0.3
    np.testing.assert_allclose(blocks.convolve(x, kernel), plain_conv(x, kernel), atol=1e-5)
    same_values_and_gradients(blocks.convolve, lax_conv, x, kernel)


def test_convolve_pair():
    pair, kernel = (random(0, 2, 8, 6, 3), random(1, 2, 8, 6, 5)), random(2, 3, 3, 8, 4) * 0.3
    np.testing.assert_allclose(blocks.convolve_pair(pair, kernel), plain_conv(np.concatenate(pair, -1), kernel), atol=1e-5)
    same_values_and_gradients(blocks.convolve_pair, lambda p, k: lax_conv(jnp.concatenate(p, -1), k), pair, kernel)


def test_upsample_convolve():
    x, kernel = random(0, 2, 5, 4, 6), random(1, 2, 2, 6, 3) * 0.3
    up = lambda x: jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)  # noqa: E731
    np.testing.assert_allclose(blocks.upsample_convolve(x, kernel), plain_conv(up(x), kernel), atol=1e-5)
    same_values_and_gradients(blocks.upsample_convolve, lambda x, k: lax_conv(up(x), k), x, kernel)


def test_max_pool():
    x = random(0, 2, 8, 6, 3)
    np.testing.assert_array_equal(blocks.max_pool(x), nn.max_pool(x, (2, 2), (2, 2)))
    weight = random(1, 2, 4, 3, 3)
    ours = jax.grad(lambda x: (blocks.max_pool(x) * weight).sum())(x)
    np.testing.assert_array_equal(ours, jax.grad(lambda x: (nn.max_pool(x, (2, 2), (2, 2)) * weight).sum())(x))
    odd = -jnp.abs(random(2, 1, 5, 3, 2))  # negative: a padding of zeros would win
    np.testing.assert_array_equal(blocks.max_pool(odd), nn.max_pool(odd, (2, 2), (2, 2), padding=((0, 1), (0, 1))))
    np.testing.assert_array_equal(jax.grad(lambda x: blocks.max_pool(x).sum())(jnp.ones((1, 2, 2, 1))), np.full((1, 2, 2, 1), 0.25))


def plain_norm(x, p, mean, var):
    return np.maximum((x + p.get("bias", 0) - mean) / np.sqrt(var + 1e-3) * p["scale"] + p["shift"], 0)


@pytest.mark.parametrize("use_bias", [True, False])
def test_conv_norm_is_convolution_bias_norm_relu(use_bias):
    x, module = random(0, 3, 6, 5, 2) + 1, blocks.ConvNorm(4, momentum=0.8, use_bias=use_bias)
    variables = module.init(jax.random.key(0), x, train=True)
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], 0)  # making the parameters is no training call
    params = {name: leaf if name == "kernel" else random(i + 1, 4) for i, (name, leaf) in enumerate(variables["params"].items())}
    start = {"mean": random(7, 4), "var": jnp.abs(random(8, 4))}
    y = plain_conv(x, params["kernel"])
    biased = y + np.asarray(params.get("bias", 0))
    mean, var = biased.mean((0, 1, 2)), biased.var((0, 1, 2))
    out, updated = module.apply({"params": params, "batch_stats": start}, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(out, plain_norm(y, params, mean, var), atol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], 0.8 * start["mean"] + 0.2 * mean, atol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["var"], 0.8 * start["var"] + 0.2 * var, atol=1e-5)
    out = module.apply({"params": params, "batch_stats": start}, x, train=False)
    np.testing.assert_allclose(out, plain_norm(y, params, start["mean"], start["var"]), atol=1e-5)


def test_conv_norm_gradients():
    x, module = random(0, 2, 4, 4, 2), blocks.ConvNorm(3)
    variables = module.init(jax.random.key(0), x, train=False)
    params = {**variables["params"], "shift": jnp.full(3, 4.0)}  # away from ReLU's corner
    apply = lambda p, x: module.apply({**variables, "params": p}, x, train=True, mutable=["batch_stats"])[0]  # noqa: E731
    both = jax.jit(lambda k, x: apply({**params, "kernel": k}, x))
    check_grads(both, (params["kernel"], x), order=1, modes=("rev",), atol=2e-2, rtol=2e-2)
    weight = random(3, 2, 4, 4, 3)
    np.testing.assert_array_equal(jax.jit(jax.grad(lambda p: (apply(p, x) * weight).sum()))(params)["bias"], 0)
    # in evaluation the bias counts
    evaluate = lambda p: (module.apply({**variables, "params": p}, x, train=False) * weight).sum()  # noqa: E731
    assert np.abs(jax.jit(jax.grad(evaluate))(params)["bias"]).min() > 0


def test_statistics_survive_a_large_mean():
    x = 3000 + random(0, 2, 16, 16, 1)
    module = blocks.ConvNorm(1, 1, momentum=0.0)
    params = {"kernel": jnp.ones((1, 1, 1, 1)), "bias": jnp.zeros(1), "scale": jnp.ones(1), "shift": jnp.zeros(1)}
    start = {"mean": jnp.zeros(1), "var": jnp.ones(1)}
    _, updated = module.apply({"params": params, "batch_stats": start}, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(updated["batch_stats"]["var"], np.asarray(x, np.float64).var(), rtol=1e-3)


def test_initial_weights():
    def init(module, x, **options):
        return jax.jit(partial(module.init, **options))(jax.random.key(0), x)["params"]

    level = init(Encoder(width=(128,)), jnp.zeros((1, 2, 2, 1)), train=False)["level1"]
    kernel = level["conv2"]["kernel"]
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / (9 * 128)), rtol=0.02)
    assert np.abs(kernel).max() > 3.5 * kernel.std()  # normal, not truncated at two deviations
    np.testing.assert_allclose(level["conv1"]["kernel"].std(), np.sqrt(2 / 9), rtol=0.1)
    assert not level["conv1"]["bias"].any() and not level["conv1"]["shift"].any() and (level["conv1"]["scale"] == 1).all()
    head = init(GlobalHead(), jnp.zeros((1, 2, 2, 16)))["dense1"]["kernel"]
    limit = np.sqrt(6 / (64 + 1024))  # Glorot uniform
    assert limit * 0.99 < np.abs(head).max() < limit * 1.0001


# --- whole networks ---


def small_unet(size=16, n=8, width=SHALLOW):
    model, x = UNet(classes=3, width=width, momentum=0.5), random(0, n, size, size, 1)
    return model, drawn(model, size, 1), x


def test_whole_batch_statistics_on_four_devices():
    model, variables, x = small_unet(width=SHALLOWEST)
    x = x + jnp.arange(8.0)[:, None, None, None]  # each device's own statistics would differ from the batch's
    weight = random(3, 8, 16, 16, 3)

    def loss(params, x):
        out, updated = model.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
        return (out * weight).mean(), (out, updated["batch_stats"])

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    one = step(variables["params"], x)
    mesh = make_mesh(4)
    spread = step(
        jax.device_put(variables["params"], NamedSharding(mesh, PartitionSpec())),
        jax.device_put(x, NamedSharding(mesh, PartitionSpec("data"))),
    )
    assert len(spread[0][1][0].sharding.device_set) == 4
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), one, spread)


def test_images_do_not_influence_each_other_in_evaluation():
    model, variables, x = small_unet(n=2)
    gradient = jax.jit(jax.grad(lambda x: model.apply(variables, x, train=False)[0].sum()))(x)
    assert not gradient[1].any() and gradient[0].any()


def test_nothing_is_computed_twice():
    model, variables, x = small_unet(width=SHALLOWEST)

    def loss(params):
        out, updated = model.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
        return jnp.square(out).mean(), updated

    forward = jax.jit(lambda p: loss(p)[0]).lower(variables["params"]).compile().as_text().count(" convolution(")
    both = jax.jit(jax.grad(loss, has_aux=True)).lower(variables["params"]).compile().as_text().count(" convolution(")
    # 3 in the encoder (its first is a matrix product), 2 for the last block's pair, and it has no second one, 3 in the tail
    assert forward == 3 + 2 + 3
    assert both <= 3 * forward  # forward, gradient of the map, gradient of the kernel


def test_bfloat16_keeps_parameters_and_outputs_in_float32():
    model, variables, x = small_unet()
    low = model.clone(dtype="bfloat16")
    out, updated = jax.jit(partial(low.apply, train=True, mutable=["batch_stats"]))(variables, x)
    want, _ = jax.jit(partial(model.apply, train=True, mutable=["batch_stats"]))(variables, x)
    assert out.dtype == jnp.float32 and {leaf.dtype for leaf in jax.tree.leaves(updated)} == {jnp.dtype("float32")}
    assert 0 < np.abs(out - want).mean() < 0.05 * np.abs(want).mean()


def test_global_head_and_its_order():
    x = random(0, 2, 16, 16, 1)
    model = GlobalModel(width=SHALLOW)
    variables = drawn(model, 16, 1)
    deep = Encoder(width=SHALLOW).apply({k: v["encoder"] for k, v in variables.items()}, x, train=False)[-1]
    g1 = variables["params"]["g1"]
    want = np.maximum(np.asarray(deep).reshape(2, -1) @ g1["dense1"]["kernel"], 0) @ g1["dense2"]["kernel"]
    np.testing.assert_allclose(model.apply(variables, x, train=False), want, atol=1e-5)


def test_local_model_reads_regions():
    x, model = random(0, 2, 32, 32, 1), LocalModel(blocks=1, width=SHALLOW)  # map of side 16
    variables = drawn(model, 32, 1)
    maps = jax.jit(partial(model.apply, train=False))(variables, x)
    patches = np.stack([np.asarray(maps)[:, r : r + 3, c : c + 3].reshape(2, -1) for r, c in ((0, 0), (5, 2))], axis=1)
    want = patches @ variables["params"]["region"]["dense"]["kernel"]
    assert want.shape == (2, 2, 128)
    for corners in (jnp.array([[0, 0], [5, 2]]), lambda h, w: jnp.array([[0, 0], [h - 11, w - 14]])):
        z = jax.jit(lambda variables, x, corners=corners: model.apply(variables, x, corners, train=False))(variables, x)
        np.testing.assert_allclose(z, want, atol=1e-5)
    np.testing.assert_allclose(model.apply(variables, patches, method="regions"), want, atol=1e-5)


def marked(model, value, n=1):
    variables = shapes_of(model, 64, 1, n)
    return jax.tree.map(lambda leaf: np.full(leaf.shape, value, np.float32), variables)


@pytest.mark.parametrize("batch_stats", [True, False])
def test_transfer(batch_stats):
    source, target = marked(LocalModel(blocks=3, width=SMALL), 1.0), marked(UNet(classes=3, width=SMALL), 2.0)
    got = transfer(source, target, batch_stats=batch_stats)
    assert jax.tree.structure(got) == jax.tree.structure(target)
    for path, leaf in jax.tree_util.tree_leaves_with_path(got):
        kind, part, *rest = (entry.key for entry in path)
        moved = part == "encoder" or (part == "decoder" and rest[0] in ("block1", "block2", "block3"))
        moved = moved and (kind == "params" or batch_stats)
        assert (leaf == (1.0 if moved else 2.0)).all(), path
    assert all((leaf == 2).all() for leaf in jax.tree.leaves(target))
    heads = transfer(marked(GlobalModel(width=SMALL), 1.0), marked(GlobalModel(width=SMALL), 2.0))["params"]["g1"]
    assert all((leaf == 2).all() for leaf in jax.tree.leaves(heads))
    whole = transfer(marked(UNet(classes=3, width=SMALL), 1.0), target)
    assert all((leaf == 1).all() for leaf in jax.tree.leaves(whole["params"]))


def test_transfer_names_a_leaf_of_another_shape():
    wide = marked(GlobalModel(width=(5, *SMALL[1:])), 1.0)
    with pytest.raises(ValueError, match=r"encoder/level1/conv1/\w+: .*\(5,\).*\(4,\)"):
        transfer(wide, marked(UNet(classes=3, width=SMALL), 2.0))
