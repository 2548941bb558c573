"""Loss, gradients and BatchNorm statistics of every stage: those of one device on any number of them, and those of a program written
device by device.

The first holds the stages' own losses, augmentation included, for every loss and every kind of temporal weights: one compilation has them
all and is told by one-hot vectors which to return. The second is `shard_map` with the communication by hand.
"""
import contextlib
import dataclasses
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import reference
from uscl import config as uscl_config
from uscl import losses, models
from uscl.augment import View, lattice, normalise
from uscl.models import blocks
from uscl.models.blocks import EPSILON, ConvNorm
from uscl.models.norms import norm
from uscl.stages import decoder, encoder, finetune, views
from uscl.stages.pairs import Pairs
from uscl.train import mesh as meshes

N, SIDE, CLASSES, REGIONS, NEAR = 8, 64, 3, 9, 3
# Enough pixels and channels at the bottom: the gradient of a distance between two embeddings that are nearly equal, like that of a
# statistic over few places, is a quotient of rounding errors on any number of devices.
WIDTH = (4, 4, 8, 16)  # two levels less than the stages' networks: what devices share is the same at every level
LOSSES = {
    "info_nce pair": {"loss": "info_nce", "denominator": "pair"}, "info_nce all": {"loss": "info_nce", "denominator": "all"},
    "euclidean": {"loss": "pairwise", "distance": "euclidean"}, "cosine": {"loss": "pairwise", "distance": "cosine"},
}  # fmt: skip
KINDS = ("none", "binary", "linear", "partition")
TERMS = ("dice", "cross_entropy", "speckle")
CONTRASTIVE = [(loss, kind) for loss in range(len(LOSSES)) for kind in range(len(KINDS))]
SEGMENTATION = [(term, 0) for term in range(len(TERMS))]
PRODUCT = [(name, case) for name in ("encoder", "decoder") for case in CONTRASTIVE] + [("finetune", case) for case in SEGMENTATION]
CLOSE = 1e-5
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # to compile: nothing here runs for long


def rule(kind="none", **changes):
    settings = {"margin": 2, "horizon": 0, "parts": 4, "negatives": "all", "loss": "info_nce", "temperature": 0.5, "denominator": "pair",
                "push": 1.0, "distance": "euclidean", "sampling": "uniform", "reach": 5}  # fmt: skip
    return Pairs(kind, **settings | changes)


@dataclasses.dataclass(frozen=True)
class AnyRule:
    """In the place of `Pairs`: the rule and the loss that two one-hot vectors choose among all of them."""

    which: tuple[jax.Array, jax.Array]
    kind: str = "any"

    def matrices(self, batch, views):
        both = [rule(kind).matrices(batch, views) for kind in KINDS]
        return tuple(jnp.tensordot(self.which[1], jnp.stack(m), 1) for m in zip(*both, strict=True))

    def loss_and_chance(self, z, positive, negative):
        every = [rule(**how).loss_per_anchor(z, positive, negative).mean() for how in LOSSES.values()]
        return jnp.dot(self.which[0], jnp.stack(every)), 1.0


def batch_of():
    rng = np.random.default_rng(5)
    label = np.kron(rng.integers(0, CLASSES, (N, 4, 4)), np.ones((SIDE // 4, SIDE // 4))).astype(np.uint8)
    # regions of distinct brightness: see test_devices_losses
    image = (rng.uniform(0.3, 1, (N, SIDE, SIDE)) * (1 - 0.25 * label) * 255).astype(np.uint8)
    return {"image": image[..., None], "label": label, "cine": np.repeat(np.int32([3, 7]), N // 2),
            "frame": np.int32([0, 1, 9, 4, 17, 2, 3, 12]), "length": np.full(N, 20, np.int32)}  # fmt: skip


def plain_view(key, image):
    """Another grey scale for each view, the same for every image: it compiles fast, and looks the same on a part of the batch."""
    low, high = jax.random.uniform(key, (2,), minval=0.2, maxval=0.8)
    return View(low * image + (1 - low) * image ** (1 + high), jnp.broadcast_to(jnp.float32([0, 0, SIDE, SIDE]), (len(image), 4)))


def unmoved(key, image, target, **_):
    return image, target


def network(name):
    """Without momentum the running statistics are those of the batch."""
    options = {"decoder": {"blocks": 1}, "finetune": {"classes": CLASSES}}.get(name, {})
    kind = {"encoder": models.GlobalModel, "decoder": models.LocalModel, "finetune": models.UNet}[name]
    return kind(width=WIDTH, momentum=0.0, **options)


@cache
def variables_of(name):
    return models.initialise(network(name), 0, (SIDE, SIDE, 1))


def stage_loss(name, which, *, plain):
    """The stage's own loss at the quick scale's settings, of a network as thin as can be; plain: nothing drawn for single images."""
    config, model = uscl_config.default(), network(name)
    kind = config.model.normalise
    if name == "finetune":
        block = config.finetune
        loss_fn = finetune.make_loss(model, values=CLASSES, weights=dict.fromkeys(TERMS, 1.0), dice=block.dice, speckle=block.speckle,
                                     augment=block.augment, kind=kind)  # fmt: skip

        def unaugmented(*args):
            with mock.patch.object(finetune, "finetune_pair", unmoved):
                return loss_fn(*args)

        return unaugmented if plain else loss_fn
    view = plain_view if plain else views.make_view(**config[name].views)
    if name == "encoder":
        return encoder.make_loss(model, view, AnyRule(which), kind)
    how = {"regions": REGIONS, "neighbours": NEAR, "negatives": "batch", "blind": False, "whole": plain}
    return decoder.make_loss(model, view, AnyRule(which), kind, **how)


@contextlib.contextmanager
def smooth():
    """softplus for ReLU: another order of summation carries some activation across zero, and its whole gradient comes or goes.

    With ReLU the gradients of one and of four devices lie 1e-6 to 1e-3 of their norm apart, with softplus 1e-7.
    """

    def soft_norm(x, scale, shift, axes, epsilon, slope):
        assert slope == 0
        z, *statistics = norm(x, scale, shift, axes, epsilon)
        return nn.softplus(z), *statistics

    with mock.patch.object(nn, "relu", nn.softplus), mock.patch.object(blocks, "norm", soft_norm):
        yield


@cache
def compiled(name, devices, plain):
    here, variables = meshes.make_mesh(devices), jax.device_get(variables_of(name))

    def objective(params, which, batch_stats, batch, key):
        with smooth():
            terms, (stats, _) = stage_loss(name, which, plain=plain)(params, batch_stats, batch, jax.random.wrap_key_data(key))
        return jnp.dot(which[0], jnp.stack([terms[term] for term in TERMS])) if name == "finetune" else sum(terms.values()), stats

    everywhere = meshes.replicated(here)
    step = jax.jit(jax.value_and_grad(objective, has_aux=True), in_shardings=(everywhere,) * 3 + (meshes.batch_sharding(here), everywhere),
                   out_shardings=everywhere, compiler_options=FAST)  # fmt: skip
    rows = meshes.share(here, N)  # all of them, unless test_hosts calls this in two processes
    batch = meshes.put_batch(here, {key: x[rows] for key, x in batch_of().items()})
    assert {len(s.data) for s in batch["image"].addressable_shards} == {N // devices}
    return lambda which: step(variables["params"], which, variables["batch_stats"], batch, np.uint32([0, 2]))


def chosen(name, case):
    sizes = (len(TERMS), 1) if name == "finetune" else (len(LOSSES), len(KINDS))
    return tuple(np.eye(size, dtype=np.float32)[place] for size, place in zip(sizes, case, strict=True))


@cache
def result(name, case, devices, plain=True):
    (loss, stats), gradient = jax.tree.map(np.asarray, compiled(name, devices, plain)(chosen(name, case)))
    return {"loss": loss, "stats": stats, "gradient": gradient}


def layers(stats):
    """The {"mean", "var"} of every BatchNorm."""
    return [stats] if "mean" in stats else [layer for name in sorted(stats) for layer in layers(stats[name])]


def assert_agree(one, other):
    """Within 1e-5: losses of their own size, statistics of their layer's spread (means lie near 0), gradients of their common norm."""
    assert abs(one["loss"]) > 1e-3
    np.testing.assert_allclose(other["loss"], one["loss"], rtol=CLOSE)
    for a, b in zip(layers(one["stats"]), layers(other["stats"]), strict=True):
        np.testing.assert_allclose(b["var"], a["var"], rtol=CLOSE, atol=CLOSE * a["var"].max())
        np.testing.assert_array_less(np.abs(b["mean"] - a["mean"]), CLOSE * np.sqrt(a["var"].max() + a["mean"] ** 2))
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(one["gradient"])))
    assert np.isfinite(norm) and norm > 1e-4
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(one["gradient"]), jax.tree.leaves(other["gradient"]), strict=True):
        np.testing.assert_array_less(np.linalg.norm(b - a), CLOSE * norm, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize("name", ["encoder", "decoder", "finetune"])
def test_stage_on_several_devices(name):
    """Two losses and kinds of each stage; those left out here are in the slow product, augmentation and all."""
    for case in [(0, 2), (2, 1)] if name != "finetune" else [(0, 0), (2, 0)]:
        assert_agree(result(name, case, 1), result(name, case, 4))


@pytest.mark.slow
@pytest.mark.parametrize("name, case", PRODUCT)
def test_every_loss_and_kind_of_weights(name, case):
    for devices in (n for n in (2, 4, 8) if n <= jax.device_count()):
        assert_agree(result(name, case, 1, plain=False), result(name, case, devices, plain=False))


@pytest.mark.slow
def test_all_of_it_with_eight_devices():
    """In a process of its own; the others have 4."""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    command = [sys.executable, "-m", "pytest", "-n0", "-m", "slow", "-k", "every_loss or every_case", __file__]
    done = subprocess.run(command, env=environment, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0 and f"{2 * len(PRODUCT)} passed" in done.stdout, done.stdout[-3000:]


# --- the same, device by device ---


def synchronised(next_fn, args, kwargs, context):
    """ConvNorm in training with the statistics of all devices, by hand."""
    module = context.module
    if not isinstance(module, ConvNorm) or context.method_name != "__call__":
        return next_fn(*args, **kwargs)
    get = {name: module.get_variable("params", name) for name in ("kernel", "bias", "scale", "shift")}
    y = module.form(args[0], get["kernel"])
    mean = jax.lax.pmean(y.mean((0, 1, 2)), "data")
    var = jax.lax.pmean(((y - mean) ** 2).mean((0, 1, 2)), "data")
    bias = 0 if get["bias"] is None else get["bias"]
    for name, value in (("mean", mean + bias), ("var", var)):
        kept = module.momentum * module.get_variable("batch_stats", name) + (1 - module.momentum) * value
        module.put_variable("batch_stats", name, kept)
    return nn.relu((y - mean) / jnp.sqrt(var + EPSILON) * get["scale"] + get["shift"])


def rows_of_losses(z, everyone, positive, negative):
    """[4, m]: the four losses of the rows at hand, z [m, D], against everyone [M, D]; from their formulas, temperature 1/2, margin 1."""
    z, everyone = (x * jax.lax.rsqrt(jnp.maximum((x**2).sum(-1, keepdims=True), 1e-24)) for x in (z, everyone))
    cosine = z @ everyone.T
    e = jnp.exp(cosine / 0.5)
    attracted = jnp.maximum(positive.sum(1), 1e-9)
    pair = (positive * (jnp.log(e + (negative * e).sum(1, keepdims=True)) - cosine / 0.5)).sum(1) / attracted
    candidates = jnp.where(positive > 0, 1.0, negative)
    every = (positive * (jnp.log((candidates * e).sum(1, keepdims=True)) - cosine / 0.5)).sum(1) / attracted
    out = [pair, every]
    for distance in (jnp.sqrt(jnp.maximum(2 - 2 * cosine, 1e-12)), 1 - cosine):
        terms = positive * distance**2 / 2 + negative * jnp.maximum(1 - distance, 0) ** 2 / 2
        out.append(terms.sum(1) / jnp.maximum((positive + negative).sum(1), 1e-9))
    return jnp.stack(out)


def matrices_by_hand(name, kind):
    """Positive and negative, each [2, N, R, 2 N R]: rows by view, image and region, from the NumPy reference."""
    batch = batch_of()
    weights = reference.temporal_weights(batch["cine"], batch["frame"], kind, 2, length=batch["length"])
    pairs, regions = reference.pair_weights(weights, batch["cine"], "all", views=2), 1
    if name == "decoder":
        near = reference.region_neighbours(4 * lattice(REGIONS), NEAR)
        pairs, regions = reference.local_pairs(pairs[0], near, "batch", pairs[1]), REGIONS
    return tuple(m.astype(np.float32).reshape(2, N, regions, -1) for m in pairs)


@cache
def by_hand(name, devices):
    """step(which, pairs): what `compiled` computes, by a program that sees one device's images and asks the others for theirs."""
    model, variables = network(name), variables_of(name)

    def contrastive(params, stats, batch, key, which, positive, negative):
        image = batch["image"].astype(jnp.float32) / 255
        keys = jax.random.split(key) if name == "encoder" else jax.random.split(key, 3)[:2]
        seen = normalise(jnp.concatenate([plain_view(k, image).image for k in keys]), "standardise")
        corners = () if name == "encoder" else (lambda h, w: jnp.float32(losses.region_corners(h, w, count=REGIONS)),)
        z, updated = model.apply({"params": params, "batch_stats": stats}, seen, *corners, train=True, mutable=["batch_stats"])
        z = z.reshape(2, len(image), -1, z.shape[-1])
        everyone = jax.lax.all_gather(z, "data", axis=1, tiled=True).reshape(-1, z.shape[-1])
        rows = [x.reshape(-1, x.shape[-1]) for x in (z, positive, negative)]
        return jnp.dot(which[0], rows_of_losses(rows[0], everyone, *rows[1:]).mean(1)), updated["batch_stats"]

    def segmentation(params, stats, batch, key, which, positive, negative):
        terms, (updated, _) = stage_loss(name, which, plain=True)(params, stats, batch, key)
        return jnp.dot(which[0], jnp.stack([terms[term] for term in TERMS])), updated

    def device(params, *rest):
        own = segmentation if name == "finetune" else contrastive
        (loss, updated), gradient = jax.value_and_grad(own, has_aux=True)(params, *rest)
        return (jax.lax.pmean(loss, "data"), updated), jax.lax.pmean(gradient, "data")

    everywhere, split, rows = PartitionSpec(), PartitionSpec("data"), PartitionSpec(None, "data")
    specs = (everywhere, everywhere, split, everywhere, everywhere, rows, rows)
    mapped = jax.shard_map(device, mesh=meshes.make_mesh(devices), in_specs=specs, out_specs=everywhere, check_vma=False)
    step = jax.jit(mapped, compiler_options=FAST)

    def run(which, pairs):
        with nn.intercept_methods(synchronised), smooth():
            return step(variables["params"], variables["batch_stats"], batch_of(), jax.random.key(2), which, *pairs)

    return run


def assert_as_by_hand(name, case, devices):
    pairs = (np.zeros((1, N), np.float32),) * 2 if name == "finetune" else matrices_by_hand(name, KINDS[case[1]])
    (loss, stats), gradient = jax.tree.map(np.asarray, by_hand(name, devices)(chosen(name, case), pairs))
    assert_agree({"loss": loss, "stats": stats, "gradient": gradient}, result(name, case, devices))


def test_the_encoder_device_by_device():
    for case in [(0, 2), (2, 1)]:
        assert_as_by_hand("encoder", case, 4)


@pytest.mark.slow
@pytest.mark.parametrize("name, case", PRODUCT)
def test_every_case_device_by_device(name, case):
    for devices in (n for n in (2, 4, 8) if n <= jax.device_count()):
        assert_as_by_hand(name, case, devices)
