"""ResNet: parameters by hand, small networks against NumPy under the public names, whole ones against torch, and refusals."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from safetensors.numpy import save_file

from uscl.models import initialise, parameter_count
from uscl.models.resnet import PLANS, ResNet, max_pool_overlapping
from uscl.models.resnet_names import from_torch, read_safetensors
from uscl.types import UserError

IMAGES = np.random.default_rng(1).normal(size=(3, 75, 80, 3)).astype(np.float32)
BASIC = {"blocks": (1, 1), "bottleneck": False, "width": 3}
SMALL = {  # a plan, and what torchvision's classes give for it in training and in evaluation: image 0, the embedding's first values
    "basic": (BASIC, [1.008063, 0.607036, 0.271843], [0.0, 3.350522, 0.0]),
    "bottleneck": ({"blocks": (1, 1), "bottleneck": True, "width": 2}, [1.354712, 0.592149, 0.544384], [2.295747, 0.0, 1.921527]),
}


def public(plan, channels):
    """Random tensors by public name; names and shapes are those of torchvision's state_dict, written down here anew."""
    rng, tensors = np.random.default_rng(7), {}

    def layer(conv, bn, out, into, size):
        tensors[f"{conv}.weight"] = (rng.normal(size=(out, into, size, size)) * np.sqrt(2 / (into * size * size))).astype(np.float32)
        lows = {"weight": 0.5, "bias": -0.5, "running_mean": -0.5, "running_var": 0.5}
        tensors.update({f"{bn}.{leaf}": rng.uniform(low, low + 1, out).astype(np.float32) for leaf, low in lows.items()})

    into = plan.get("width", 64)
    layer("conv1", "bn1", into, channels, 7)
    for i, blocks in enumerate(plan["blocks"]):
        h = plan.get("width", 64) * 2**i
        widths, sizes = ((h, h, 4 * h), (1, 3, 1)) if plan["bottleneck"] else ((h, h), (3, 3))
        for name in (f"layer{i + 1}.{j}." for j in range(blocks)):
            if name.endswith(".0.") and (i > 0 or into != widths[-1]):
                layer(f"{name}downsample.0", f"{name}downsample.1", widths[-1], into, 1)
            for k, (out, size) in enumerate(zip(widths, sizes, strict=True), start=1):
                layer(f"{name}conv{k}", f"{name}bn{k}", out, into, size)
                into = out
    return tensors


def walk(tensors, x, layer, pool):
    """Images -> the maps after the stem and each stage, for any library's layer(x, conv, bn, stride) and pooling."""
    maps = [layer(x, "conv1", "bn1", 2).clip(0)]
    x = pool(maps[0])
    for name in sorted({name[:9] for name in tensors if name.startswith("layer")}):
        stride, y = 2 if name[5] != "1" and name[7] == "0" else 1, x
        for k, s in enumerate((1, stride, 1) if f"{name}conv3.weight" in tensors else (stride, 1), start=1):
            y = layer(y.clip(0), f"{name}conv{k}", f"{name}bn{k}", s)
        skip = layer(x, f"{name}downsample.0", f"{name}downsample.1", stride) if f"{name}downsample.0.weight" in tensors else x
        x = (skip + y).clip(0)
        maps[int(name[5]) :] = [x]
    return maps


def windows(x, size, s, outside):
    padded = np.pad(x, ((0, 0), *[(size // 2,) * 2] * 2, (0, 0)), constant_values=outside)
    return sliding_window_view(padded, (size, size), (1, 2))[:, ::s, ::s]


def plain(tensors, x, train):
    """Maps [N, H, W, C] in float64, and the running statistics after one call that keeps 0.8 of the old."""
    t, seen = {name: np.asarray(value, np.float64) for name, value in tensors.items()}, {}

    def layer(x, conv, bn, stride):
        y = np.einsum("nhwckl,fckl->nhwf", windows(x, t[f"{conv}.weight"].shape[-1], stride, 0), t[f"{conv}.weight"])
        mean, var = (y.mean((0, 1, 2)), y.var((0, 1, 2))) if train else (t[f"{bn}.running_mean"], t[f"{bn}.running_var"])
        seen.update({f"{bn}.running_mean": mean, f"{bn}.running_var": var})
        return (y - mean) / np.sqrt(var + 1e-5) * t[f"{bn}.weight"] + t[f"{bn}.bias"]

    maps = walk(t, np.float64(x), layer, lambda x: windows(x, 3, 2, -np.inf).max((4, 5)))
    return maps, {name: 0.8 * t[name] + 0.2 * value for name, value in seen.items()}


# By hand. 18: 9 c f + 9 f^2 + 4 f from c to f channels, the skip c f + 2 f; 50: c h + 13 h^2 + 12 h from c to 4 h, the skip 4 c h + 8 h
STAGES = {18: (147_968, 525_568, 2_099_712, 8_393_728), 50: (215_808, 1_219_584, 7_098_368, 14_964_736)}


@pytest.mark.parametrize("depth, channels, total, last", [(18, 3, 11_176_512, 512), (50, 1, 23_508_032 - 6272, 2048)])
def test_counts_and_shapes(depth, channels, total, last):
    model, x = ResNet(**PLANS[depth], dtype="bfloat16"), jax.ShapeDtypeStruct((2, 65, 97, channels), jnp.float32)
    maps, variables = jax.eval_shape(partial(model.init_with_output, train=False, method="maps"), jax.random.key(0), x)
    counts = {"stem": 49 * 64 * channels + 128} | {f"stage{i}": count for i, count in enumerate(STAGES[depth], start=1)}
    assert {name: parameter_count(part) for name, part in variables["params"].items()} == counts
    assert parameter_count(variables["params"]) == total and {a.dtype for a in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert [a.shape[1:3] for a in maps] == [(33, 49), (17, 25), (9, 13), (5, 7), (3, 4)] and maps[4].dtype == jnp.bfloat16
    assert [a.shape[3] for a in maps] == [64, last // 8, last // 4, last // 2, last]


@pytest.mark.parametrize("kind", [pytest.param("basic", marks=pytest.mark.slow), "bottleneck"])
def test_small_network_in_evaluation(kind, monkeypatch):
    plan, _, evaluated = SMALL[kind]
    monkeypatch.setitem(PLANS, 2, plan)
    tensors, x = public(plan, 1), IMAGES[:, :13, :18, :1]
    maps = jax.jit(partial(ResNet(**plan).apply, train=False, method="maps"))(from_torch(tensors, depth=2, channels=1), x)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), maps, plain(tensors, x, False)[0])
    np.testing.assert_allclose(maps[-1].mean((1, 2))[0, :3], evaluated, atol=1e-5)


@pytest.mark.parametrize("kind", ["basic", pytest.param("bottleneck", marks=pytest.mark.slow)])
def test_small_network_in_training(kind, monkeypatch):
    plan, trained, _ = SMALL[kind]
    monkeypatch.setitem(PLANS, 2, plan)
    tensors, x, named = public(plan, 1), IMAGES[:, :13, :18, :1], partial(from_torch, depth=2, channels=1)
    model, variables = ResNet(**plan, momentum=0.8, remat=kind == "bottleneck"), named(tensors)

    def f(params):
        z, updated = model.apply(variables | {"params": params}, x, train=True, mutable=["batch_stats"])
        return (z**2).sum(), (z, updated["batch_stats"])

    gradient, (z, updated) = jax.jit(jax.grad(f, has_aux=True))(variables["params"])
    maps, running = plain(tensors, x, True)
    np.testing.assert_allclose(z, maps[-1].mean((1, 2)), atol=1e-5)
    np.testing.assert_allclose(z[0, :3], trained, atol=1e-5)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), updated, named(tensors | running)["batch_stats"])
    way = {name: np.random.default_rng(a.size).normal(size=a.shape) for name, a in tensors.items()}
    along = sum(jax.tree.leaves(jax.tree.map(np.vdot, gradient, named(way)["params"])))
    ends = [plain({n: a + s * way[n] for n, a in tensors.items()}, x, True)[0][-1].mean((1, 2)) ** 2 for s in (1e-6, -1e-6)]
    np.testing.assert_allclose(along, (ends[0] - ends[1]).sum() / 2e-6, rtol=1e-3)


@pytest.mark.parametrize("depth", [18, pytest.param(50, marks=pytest.mark.slow)])
def test_whole_network_against_torch(depth):
    torch = pytest.importorskip("torch", reason="pip install -e .[bench]")
    f, t = torch.nn.functional, {name: torch.tensor(a) for name, a in public(PLANS[depth], 3).items()}

    def layer(x, conv, bn, stride):  # a momentum of 1: evaluation then has the statistics of these images
        y = f.conv2d(x, t[f"{conv}.weight"], None, stride, t[f"{conv}.weight"].shape[-1] // 2)
        return f.batch_norm(y, *(t[f"{bn}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")), train, 1.0)

    for train in (True, False):
        theirs = walk(t, torch.tensor(IMAGES.transpose(0, 3, 1, 2)), layer, lambda x: f.max_pool2d(x, 3, 2, 1))[-1].mean((2, 3))
        variables = from_torch({name: a.numpy() for name, a in t.items()}, depth=depth, channels=3)
        ours, _ = jax.jit(partial(ResNet(**PLANS[depth]).apply, train=train, mutable=["batch_stats"]))(variables, IMAGES)
        np.testing.assert_allclose(ours, theirs, atol=1e-4 if depth == 18 else 1e-3)  # at 50 torch's own float32 is 3e-4 off its float64


def test_pooling():
    x, w = jnp.arange(16.0).reshape(1, 4, 4, 1), jnp.array([[1.0, 2], [4, 8]]).reshape(1, 2, 2, 1)
    out, back, ties = jax.jit(lambda x: (max_pool_overlapping(x), *(jax.vjp(max_pool_overlapping, a)[1](w)[0] for a in (x, 0 * x - 1))))(x)
    np.testing.assert_array_equal([out.ravel(), np.ravel(back)[[5, 7, 13, 15]]], [[5, 7, 13, 15], w.ravel()])
    assert ties.sum() == 15  # where all are equal the gradient is shared and none of it lost


def test_options():
    for bottleneck, last in ((False, "conv2"), (True, "conv3")):
        model = ResNet((2,), bottleneck, 4, zero_last=True, dtype="bfloat16", remat=True)
        variables = initialise(model, 0, (9, 9, 1))
        stage = variables["params"]["stage1"]
        assert {b: [n for n in stage[b] if "zero_scale" in stage[b][n]] for b in stage} == {"block1": [last], "block2": [last]}
        jaxpr, z = jax.make_jaxpr(partial(model.apply, train=False), return_shape=True)(variables, IMAGES[..., :1])
        assert "remat" in str(jaxpr) and z.dtype == jnp.float32


def test_prefix_types_and_colors(monkeypatch, tmp_path):
    monkeypatch.setitem(PLANS, 2, BASIC)
    tensors = {n: a.astype(np.float16) for n, a in public(BASIC, 3).items()}
    tensors |= {"fc.bias": np.ones(9), "bn1.num_batches_tracked": np.array(3)}
    whole = from_torch(tensors, depth=2, channels=3)
    save_file({f"module.encoder.{n}": a for n, a in tensors.items()} | {"module.head.weight": np.ones(3)}, tmp_path / "a.safetensors")
    jax.tree.map(np.testing.assert_array_equal, from_torch(read_safetensors(tmp_path / "a.safetensors"), depth=2, channels=3), whole)
    assert whole["params"]["stem"]["kernel"].dtype == whole["batch_stats"]["stem"]["var"].dtype == np.float32
    gray = from_torch(tensors | {"conv1.weight": np.ones((3, 3, 7, 7))}, depth=2, channels=1, zero_last=True)["params"]
    np.testing.assert_array_equal(gray["stem"]["kernel"], np.full((7, 7, 1, 3), 3))
    np.testing.assert_array_equal(gray["stage1"]["block1"]["conv2"]["zero_scale"], whole["params"]["stage1"]["block1"]["conv2"]["scale"])


WRONG = {  # what the sentence says: a tensor's name and what stands there (None: nothing), or an argument
    r"layer1\.0\.bn1\.bias: not found .* shape \(3,\)": {"layer1.0.bn1.bias": None},
    r"layer2\.0\.conv2\.weight: found shape \(6, 6, 1, 1\), wanted \(6, 6, 3, 3\)": {"layer2.0.conv2.weight": np.ones((6, 6, 1, 1))},
    r"conv1\.weight: found .* wanted \(3, 1, 7, 7\) or \(3, 3, 7, 7\)": {"conv1.weight": np.ones((3, 4, 7, 7))},
    r"layer1\.1\.conv1\.weight: .* no place .* 18, 50": {"layer1.1.conv1.weight": np.ones(3)},
    "bn1.weight: found numbers of type int64": {"bn1.weight": np.ones(3, int)},
    "bn1.running_var: .* NaN": {"bn1.running_var": np.full(3, np.nan)},
    "conv1.weight: found bn1.weight, .* wanted": {"conv1.weight": None},
    "conv1.weight: found conv1.weight, encoder.conv1.weight .* exactly one": {"encoder.conv1.weight": np.ones(3)},
    "depth: found 34, .* 18, 50": {"depth": 34},
    "channels: found 2, .* 1 and 3": {"channels": 2},
}


def test_refusals(monkeypatch, tmp_path):
    monkeypatch.setitem(PLANS, 2, BASIC)
    for said, change in WRONG.items():
        options = {"depth": 2, "channels": 1}
        tensors = {n: a for n, a in (public(BASIC, 1) | change).items() if a is not None and n not in options}
        with pytest.raises(UserError, match=f"^{said}"):
            from_torch(tensors, **options | {n: a for n, a in change.items() if n in options})
    (tmp_path / "a.safetensors").write_bytes(b"PK\3\4" + bytes(50))
    for name, said in (("a.pth", "is a pickle.*save_file"), ("a.safetensors", "is no safetensors"), ("b.safetensors", "can't be read")):
        with pytest.raises(UserError, match=f"{name}: .*{said}"):
            read_safetensors(tmp_path / name)
