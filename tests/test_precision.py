"""bfloat16 where the arithmetic is, float32 where it is kept, summed up and judged; and less memory for the same numbers by `remat`."""
from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from uscl import augment, models
from uscl import config as uscl_config
from uscl.stages import decoder, encoder, finetune, views
from uscl.stages.pairs import rule_of
from uscl.train import mesh, state
from uscl.train.step import make_step

pytestmark = pytest.mark.usefixtures("quick_programs")
WIDTH = (4, 4, 8, 8)
RNG = np.random.default_rng(0)
FRAMES = {"image": RNG.integers(0, 255, (4, 32, 32, 1)).astype(np.uint8), "cine": np.arange(4, dtype=np.int32),
          "frame": np.arange(4, dtype=np.int32), "length": np.full(4, 9, np.int32)}  # fmt: skip
LABELLED = {"image": FRAMES["image"], "label": (FRAMES["image"][..., 0] // 86).astype(np.uint8)}
SPECKLE = {"form": "parameters", "envelope": False, "dynamic_range": 60.0}


def bright(key, image):
    """A view that compiles at once: another brightness."""
    return augment.View(image * jax.random.uniform(key, (len(image), 1, 1, 1), minval=0.5), jnp.zeros((len(image), 4)))


def stage(name, view=None, **options):
    """The stage's loss, as its `run` makes it, with fresh weights; and a batch."""
    config = uscl_config.default()
    options = {"width": WIDTH, **options}
    if name == "finetune":
        model, block, batch = models.UNet(classes=3, **options), config.finetune, LABELLED
        loss_fn = finetune.make_loss(model, values=3, weights={"dice": 1.0, "cross_entropy": 1.0, "speckle": 1.0}, dice=block.dice,
                                     speckle=SPECKLE, augment=block.augment, kind=config.model.normalise)  # fmt: skip
    elif name == "encoder":
        model, batch, pairs = models.GlobalModel(**options), FRAMES, replace(rule_of(config, "encoder"), temperature=1.0)
        loss_fn = encoder.make_loss(model, view or views.make_view(**config.encoder.views), pairs, config.model.normalise)
    else:
        model, batch = models.LocalModel(blocks=2, **options), FRAMES
        loss_fn = decoder.make_loss(
            model, views.make_view(**config.decoder.views), rule_of(config, "decoder"), config.model.normalise,
            regions=13, neighbours=5, negatives="batch", blind=False, whole=False,
        )  # fmt: skip
    return loss_fn, models.initialise(model, 0, (32, 32, 1)), batch


def equations(jaxpr):
    """All equations of a program, those of the programs inside it too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


@pytest.mark.parametrize("name", ["encoder", "decoder", "finetune"])
def test_products_run_in_bfloat16_and_sums_in_float32(name):
    loss_fn, variables, batch = stage(name, dtype="bfloat16")
    program = jax.make_jaxpr(loss_fn)(variables["params"], variables["batch_stats"], batch, jax.random.key(0))
    seen = list(equations(program.jaxpr))
    kernels = {(3, 3), (3, 4), (3, 6)}  # narrow ones are widened on CPU to yield several columns
    convolutions = [e for e in seen if e.primitive.name == "conv_general_dilated" and e.invars[0].aval.shape[1] > 1]
    ours = [e for e in convolutions if e.invars[1].aval.shape[2] > 1 and e.invars[1].aval.shape[:2] in kernels]
    assert len(ours) >= 7 and {str(v.aval.dtype) for e in ours for v in e.invars} == {"bfloat16"}
    heads = [e for e in seen if e.primitive.name == "dot_general" and 128 in e.invars[1].aval.shape]
    assert name == "finetune" or "bfloat16" in {str(e.invars[0].aval.dtype) for e in heads}
    sums = [e for e in seen if e.primitive.name in ("reduce_sum", "rsqrt", "exp", "log", "cumsum")]
    statistics = [e for e in sums if e.params.get("axes") == (0, 1, 2)]
    assert len(statistics) >= 2 * 8 and not [e for e in sums if e.invars[0].aval.dtype == jnp.bfloat16]


@cache
def updated(dtype):
    """The encoder stage's state, metrics and their types, after two updates of Adam on one device."""
    loss_fn, variables, batch = stage("encoder", bright, width=(2, 4, 8), dtype=dtype)
    weights, optimizer, here = {"contrastive": 1.0}, optax.adam(1e-3), mesh.make_mesh(1)
    now = mesh.put_replicated(here, state.create(variables["params"], variables["batch_stats"], optimizer, weights, 0))
    step, told = make_step(loss_fn, optimizer, here, weights=weights), []
    for _ in range(2):
        now, metrics = step(now, mesh.put_batch(here, batch))
        told.append({k: float(v) for k, v in metrics.items()})
    return jax.device_get(now), told, {k: v.dtype for k, v in metrics.items()}


def test_what_is_kept_is_float32():
    now, told, types = updated("bfloat16")
    kept = jax.tree.leaves((now.params, now.batch_stats, now.opt_state, now.scales))
    assert {str(leaf.dtype) for leaf in kept} == {"float32", "int32"} and set(map(str, types.values())) == {"float32"}
    assert [leaf.shape for leaf in kept if leaf.dtype == np.int32] == [()]  # Adam's count
    assert all(np.isfinite(leaf).all() for leaf in kept) and all(np.isfinite(list(line.values())).all() for line in told)


def test_bfloat16_stays_near_float32():
    """Eight bits of mantissa round each product's factors by 2^-9; after six layers the loss, a mean over anchors, keeps 2 %."""
    (low, (one, two), _), (full, (first, second), _) = updated("bfloat16"), updated("float32")
    for mine, theirs in ((one, first), (two, second)):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=0.02) and mine["loss"] != theirs["loss"]
        assert mine["gradient_norm"] == pytest.approx(theirs["gradient_norm"], rel=0.15)
    for mine, theirs in zip(jax.tree.leaves(low.batch_stats), jax.tree.leaves(full.batch_stats), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0.05, atol=0.05)


# --- remat ---


@cache
def network(remat):
    """Function (params, statistics, x) -> squared mean and new statistics, of a U-Net; with its variables."""
    model = models.UNet(classes=3, width=(2, 4), remat=remat)

    def f(params, batch_stats, x):
        out, new = model.apply({"params": params, "batch_stats": batch_stats}, x, train=True, mutable=["batch_stats"])
        return jnp.square(out).mean(), new["batch_stats"]

    return f, models.initialise(model, 0, (32, 32, 1))


X = RNG.normal(size=(4, 32, 32, 1)).astype(np.float32)


@cache
def compiled(remat):
    """XLA's CPU compiler drops the barriers that keep what is computed twice from being merged again, so here it is told not to."""
    f, variables = network(remat)
    lowered = jax.jit(jax.value_and_grad(f, has_aux=True)).lower(variables["params"], variables["batch_stats"], X)
    program = lowered.compile(compiler_options={"xla_disable_hlo_passes": "cse_barrier_expander"})
    return program(variables["params"], variables["batch_stats"], X), program


def test_remat_changes_no_number_and_no_name():
    (plain, _), (again, _) = compiled(False), compiled(True)
    for kind in ("params", "batch_stats"):
        assert jax.tree.structure(network(True)[1][kind]) == jax.tree.structure(network(False)[1][kind])
    assert jax.tree.structure(again) == jax.tree.structure(plain)
    for mine, theirs in zip(jax.tree.leaves(again), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-6 * np.abs(theirs).max())


def test_remat_takes_less_memory_and_more_convolutions():
    plain, again = compiled(False)[1], compiled(True)[1]
    assert again.memory_analysis().temp_size_in_bytes < 0.75 * plain.memory_analysis().temp_size_in_bytes
    assert again.as_text().count(" convolution(") > 1.2 * plain.as_text().count(" convolution(")


@pytest.mark.parametrize("name", ["encoder", "decoder", "finetune"])
def test_remat_keeps_less_for_the_backward_pass_in_every_stage(name):
    def kept(**options):
        loss_fn, variables, batch = stage(name, **options)

        def backward(params):
            return jax.vjp(lambda p: loss_fn(p, variables["batch_stats"], batch, jax.random.key(0))[0], params)[1]

        leaves = jax.tree.leaves(jax.eval_shape(backward, variables["params"]))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves if leaf.ndim == 4 and leaf.shape[1] > 3)

    plain, again, half = kept(), kept(remat=True), kept(remat=True, dtype="bfloat16")
    assert again < 0.6 * plain and half < 0.8 * again


def test_remat_reaches_the_parts():
    shapes = partial(jax.tree.map, jnp.shape)
    for model in (models.GlobalModel, models.LocalModel, partial(models.UNet, classes=2)):
        assert shapes(models.initialise(model(remat=True), 0, (32, 32, 1))) == shapes(models.initialise(model(), 0, (32, 32, 1)))
