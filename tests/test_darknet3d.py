"""The clip networks: parameters by hand, a whole network against float64 NumPy, and where it may be cut."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_clips import drawn, normal, plain_network

from uscl.models import initialise, parameter_count
from uscl.models.darknet3d import PLANS, Classifier, ClipEncoder, Darknet3D, reach

SMALL = {"widths": (2, 4, 6), "blocks": (1, 2), "bottleneck": True}


# --- counts and shapes ---

# 27 a b + 2 b from a to b channels; a block of hidden width h: c h + 2 h and 27 h c + 2 c
PARTS = {
    "stage_0": 27 * 6 + 2 * 6,  # 174
    "stage_1": (27 * 6 * 12 + 24) + 1 * (28 * 144 + 48),  # 1 968 + 4 080 = 6 048
    "stage_2": (27 * 144 + 24) + 2 * 4080,  # 3 912 + 8 160 = 12 072
    "stage_3": 3912 + 8 * 4080,  # 36 552
    "stage_4": 3912 + 8 * 4080,
    "stage_5": (27 * 12 * 18 + 36) + 4 * (28 * 324 + 72),  # 5 868 + 36 576 = 42 444
}


def shapes_of(model, *shape):
    return jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x, train=False), jax.ShapeDtypeStruct(shape, jnp.float32))


def test_tiny_has_the_papers_count():
    out, variables = shapes_of(Classifier(ClipEncoder()), 2, 16, 64, 48, 1)
    encoder, head = variables["params"]["encoder"], variables["params"]["head"]
    assert {name: parameter_count(part) for name, part in encoder.items()} == PARTS
    assert sum(PARTS.values()) == 133_842 and parameter_count(head) == 38 and parameter_count(variables["params"]) == 133_880
    assert (out.shape, out.dtype) == ((2, 2), jnp.float32)
    # a mean and a variance for each channel normalised: 6, then 12 x (3 + 5 + 17 + 17) and 18 x 9
    assert parameter_count(variables["batch_stats"]) == 2 * (6 + 504 + 162)


def test_other_plans_counts():
    near = ClipEncoder((6, 12, 16, 18, 18, 18), bottleneck=True)  # with Darknet's own bottleneck the nearest plan is 12 off
    assert parameter_count(shapes_of(near, 1, 2, 2, 2, 1)[1]["params"]) == 133_854
    # 928, 55 424 + 57 536, 221 440 + 2 x 229 760, 885 248 + 8 x 918 272, 3 539 968 + 8 x 3 671 552, 14 157 824 + 4 x 14 683 136
    out, variables = shapes_of(Darknet3D(**PLANS["darknet53"]), 1, 33, 32, 65, 1)
    assert parameter_count(variables["params"]) == 928 + 112_960 + 680_960 + 8_231_424 + 32_912_384 + 72_890_368
    assert out.shape == (1, 2, 1, 3, 1024)


def test_first_weights():
    """He's deviation, sqrt(2 / (k^3 C)); the dense layer's limit is Glorot's, sqrt(6 / (12 + 2))."""
    params = initialise(Classifier(Darknet3D((6, 12), (1,)), 2), 0, (2, 2, 2, 1))["params"]
    stage = params["encoder"]["stage_1"]
    for kernel, fan_in in ((stage["down"]["conv"]["kernel"], 162), (stage["block1"]["conv2"]["conv"]["kernel"], 324)):
        np.testing.assert_allclose(np.std(kernel), np.sqrt(2 / fan_in), rtol=0.06)
    assert (stage["down"]["scale"] == 1).all() and not np.any(stage["down"]["shift"]) and not np.any(params["head"]["bias"])
    assert not np.any(stage["block1"]["conv2"]["zero_scale"]) and (stage["block1"]["conv1"]["scale"] == 1).all()  # begins as nothing
    assert 0.5 < np.abs(params["head"]["kernel"]).max() < np.sqrt(6 / 14)


# --- whole networks ---


def test_network_against_numpy():
    """Map, running statistics, and the gradient along one direction against the reference's central difference."""
    model, x = Darknet3D((2, 6), (2,), bottleneck=True, momentum=0.8), normal(0, 2, 4, 6, 5, 2)
    variables = drawn(model, x.shape)
    params, running = variables["params"], variables["batch_stats"]
    want, seen = plain_network(x, params, running, True)
    g = normal(1, *want.shape)

    @jax.jit
    def run(params, x):
        def f(params):
            out, updated = model.apply({"params": params, "batch_stats": running}, x, train=True, mutable=["batch_stats"])
            return (out * g).sum(), (out, updated["batch_stats"])

        return jax.grad(f, has_aux=True)(params), model.apply({"params": params, "batch_stats": running}, x, train=False)

    (gradient, (out, updated)), evaluated = run(params, x)
    np.testing.assert_allclose(out, want, atol=2e-5)
    np.testing.assert_allclose(evaluated, plain_network(x, params, running, False)[0], atol=2e-5)
    names = ["stage_0", "stage_1/down"] + [f"stage_1/block{i}/conv{j}" for i in (1, 2) for j in (1, 2)]
    assert len(names) == len(seen)
    for name, (mean, var) in zip(names, seen, strict=True):
        old, new = running, updated
        for part in name.split("/"):
            old, new = old[part], new[part]
        np.testing.assert_allclose(new["mean"], 0.8 * old["mean"] + 0.2 * mean, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(new["var"], 0.8 * old["var"] + 0.2 * var, atol=1e-5, err_msg=name)
    rng = np.random.default_rng(3)
    direction = jax.tree.map(lambda a: rng.normal(size=a.shape), params)

    def moved(step):
        return (plain_network(x, jax.tree.map(lambda a, d: a + step * d, params, direction), running, True)[0] * g).sum()

    along = sum(np.vdot(a, d) for a, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))
    np.testing.assert_allclose(along, (moved(1e-6) - moved(-1e-6)) / 2e-6, rtol=1e-3)


def test_cut_anywhere():
    model, x = Classifier(ClipEncoder(**SMALL), 3), normal(0, 2, 3, 4, 5, 1)
    variables = drawn(model, x.shape)

    @jax.jit
    def pieces(variables, x):
        head = [model.apply(variables, x, k, method="stem_to") for k in range(4)]
        return head, [model.apply(variables, a, k, method="rest_from") for k, a in enumerate(head)], model.apply(variables, x, train=False)

    head, rest, whole = pieces(variables, x)
    np.testing.assert_array_equal(head[0], x)
    assert [a.shape[1:] for a in head[1:]] == [(3, 4, 5, 2), (2, 2, 3, 4), (1, 1, 2, 6)]
    last, _ = plain_network(x, *(variables[kind]["encoder"] for kind in ("params", "batch_stats")), False)
    dense = variables["params"]["head"]
    want = last.mean((1, 2, 3)) @ dense["kernel"] + dense["bias"]
    for scores in (whole, *rest):
        np.testing.assert_allclose(scores, want, atol=1e-5)
    for k in (-1, 4):
        with pytest.raises(ValueError, match=f"found {k}; 3 stages .* at 0 to 3"):
            jax.eval_shape(lambda k=k: model.apply(variables, x, k, method="stem_to"))
    with pytest.raises(ValueError, match="found 2 for 2 stages"):
        shapes_of(Darknet3D((2, 4), (1, 1)), 1, 2, 2, 2, 1)


def test_reach():
    """One value of the map after k stages depends on exactly the inputs that `reach` says, in time as in columns."""
    assert [reach(k) for k in (0, 1, 2, 3, 6)] == [(1, 0), (1, 1), (2, 4), (4, 14), (32, 362)]
    model = Darknet3D(**SMALL)
    for k, at, shape in ((2, 9, (1, 41, 1, 1, 1)), (3, 5, (1, 1, 1, 41, 1))):
        stride, radius = reach(k, SMALL["blocks"])
        variables = drawn(model, shape)
        one = lambda x, v=variables, k=k, at=at: model.apply(v, x, k, method="stem_to").reshape(-1, 2 * k)[at].sum()  # noqa: E731
        met = np.flatnonzero(np.ravel(jax.jit(jax.grad(one))(normal(0, *shape))))
        assert (met[0], met[-1]) == (stride * at - radius, stride * at + radius)


def trained(model, variables, x, params):
    z, updated = model.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
    return (z**2).sum(), (z, updated["batch_stats"])


def test_remat_keeps_less():
    model, x = ClipEncoder((2, 4), (2,)), jnp.ones((2, 4, 16, 16, 1))
    variables = drawn(model, x.shape)

    def kept_values(m):  # what the backward pass is handed
        f = partial(trained, m, variables, x)
        return sum(a.size for a in jax.tree.leaves(jax.eval_shape(lambda p: jax.vjp(f, p, has_aux=True)[1], variables["params"])))

    assert kept_values(model.clone(remat=True)) < kept_values(model) / 2
    half = jax.eval_shape(partial(trained, model.clone(dtype="bfloat16"), variables, x), variables["params"])
    assert {a.dtype for a in jax.tree.leaves(half)} == {jnp.dtype("float32")}


@pytest.mark.slow
def test_remat_and_half_precision_have_the_same_values():
    model, x = ClipEncoder((2, 4), (1,)), normal(0, 2, 2, 4, 4, 1)
    variables = drawn(model, x.shape)
    models = (model, model.clone(remat=True), model.clone(dtype="bfloat16"))
    whole, kept, half = (jax.jit(jax.grad(partial(trained, m, variables, x), has_aux=True))(variables["params"]) for m in models)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), whole, kept)
    assert 0 < np.abs(half[1][0] - whole[1][0]).mean() < 0.05 * np.abs(whole[1][0]).mean()
