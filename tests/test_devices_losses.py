"""Every loss and every kind of temporal weights: the batch over 4 devices gives the value and gradient of one device."""
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from uscl import nakagami
from uscl.losses import (
    cross_entropy,
    info_nce,
    local_pairs,
    pairwise_contrastive,
    region_corners,
    region_neighbours,
    sample_regions,
    soft_dice,
    speckle_loss,
)
from uscl.temporal import pair_weights, temporal_weights

KINDS = {"none": {"kind": "none"}, "binary": {"kind": "binary"}, "linear": {"kind": "linear", "horizon": 9.0},
         "linear by length": {"kind": "linear"}, "partition": {"kind": "partition"}}
RNG = np.random.default_rng(0)
FRAMES = {"cine": np.repeat(np.arange(4), 4), "frame": RNG.integers(0, 20, 16), "length": np.full(16, 20)}
LABEL = RNG.integers(0, 4, (8, 16, 16))
# classes of distinct brightness: at a distance near 0 the speckle gradient is a quotient of rounding errors on any device
IMAGES = {"image": RNG.uniform(0.3, 1, LABEL.shape) * (1 - 0.18 * LABEL), "target": np.eye(4)[LABEL]}


@cache
def program(f):
    return jax.jit(jax.value_and_grad(lambda x, batch: jnp.mean(f(x, **batch))))


def both(f, x, **batch):
    """Value and gradient of mean(f(x)) over one device, and over four with each array split along its first axis."""
    g = program(f)
    arrays = jax.tree.map(lambda a: np.asarray(a, np.float32 if a.dtype.kind == "f" else np.int32), (x, batch))
    assert jax.device_count() >= 4, "tests need 4 simulated devices: XLA_FLAGS=--xla_force_host_platform_device_count=4"
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:4])
    spread = jax.device_put(arrays, NamedSharding(mesh, PartitionSpec("data")))
    assert len(spread[0].sharding.device_set) == 4 and spread[0].addressable_shards[0].data.shape[0] == len(x) // 4
    return g(*jax.device_put(arrays, jax.devices()[0])), g(*spread)


def agree(one, four):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(four), strict=True):
        assert np.abs(a).max() > 0
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5 * np.abs(a).max())


CONTRASTIVE = {"pair": (info_nce, {}), "all": (info_nce, {"denominator": "all"}), "cool": (info_nce, {"temperature": 0.5}),
               "euclidean": (pairwise_contrastive, {}), "cosine": (pairwise_contrastive, {"distance": "cosine"})}


def any_contrastive(z, cine, frame, length, of_loss, of_kind):
    """The mean of the loss, with the kind of weights, that one-hot rows [16, 5] choose among all: compiled once and not for each pair."""
    every = [pair_weights(temporal_weights(cine, frame, length=length, **kind), cine, negatives="all", views=2) for kind in KINDS.values()]
    positive, negative = (jnp.tensordot(of_kind.mean(0), jnp.stack(matrices), 1) for matrices in zip(*every, strict=True))
    z = jnp.concatenate([z[:, 0], z[:, 1]])
    return of_loss.mean(0) @ jnp.stack([loss(z, positive, negative, **options).mean() for loss, options in CONTRASTIVE.values()])


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=KINDS)
@pytest.mark.parametrize("loss", range(len(CONTRASTIVE)), ids=CONTRASTIVE)
def test_contrastive(loss, kind):
    of_loss, of_kind = (np.tile(np.eye(5)[place], (16, 1)) for place in (loss, kind))
    agree(*both(any_contrastive, RNG.normal(size=(16, 2, 5)), **FRAMES, of_loss=of_loss, of_kind=of_kind))


@pytest.mark.parametrize("loss, options", CONTRASTIVE.values(), ids=CONTRASTIVE)
def test_memory_holds_matrices_of_pairs_and_no_cube(loss, options):
    m, d = 256, 128
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((m, d), (m, m), (m, m))]
    compiled = jax.jit(jax.value_and_grad(lambda *a: loss(*a, **options).sum())).lower(*shapes).compile()
    assert compiled.memory_analysis().temp_size_in_bytes <= 12 * m * m * 4  # [M, M, D] would be 128 of them


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_temporal_weights_themselves(kind):
    def f(x, cine, frame, length):
        return temporal_weights(cine, frame, length=length, **kind) * x

    agree(*both(f, RNG.normal(size=(16, 16)), **FRAMES))


@pytest.mark.parametrize("negatives", ["image", "batch"])
def test_local(negatives):
    corners = region_corners(12, 12)

    def f(maps, cine, frame):
        weights = temporal_weights(cine, frame, kind="linear", horizon=9.0)
        positive, _ = pair_weights(weights, cine, negatives="all")
        pairs = local_pairs(positive, region_neighbours(corners), negatives=negatives)
        return info_nce(sample_regions(maps, corners).reshape(8 * 13, -1), *pairs)

    agree(*both(f, RNG.normal(size=(8, 12, 12, 2)), cine=FRAMES["cine"][:8], frame=FRAMES["frame"][:8]))


SEGMENTATION = {
    "dice": soft_dice, "dice, batch": partial(soft_dice, over="batch", background=False),
    "dice, smooth": partial(soft_dice, over="batch", absent="smooth", smooth=1.0), "dice, zero": partial(soft_dice, absent="zero"),
    "cross entropy": cross_entropy, "cross entropy, weighted": partial(cross_entropy, class_weight=[.1, .3, .3, .3]),
}


@pytest.mark.parametrize("name", SEGMENTATION)
def test_segmentation(name):
    def f(x, target):
        return SEGMENTATION[name](x if name.startswith("cross") else jax.nn.softmax(x), target)

    agree(*both(f, RNG.normal(size=(8, 16, 16, 4)), target=IMAGES["target"]))


@pytest.mark.parametrize("form", ["parameters", "log_parameters"])
@pytest.mark.parametrize("envelope", [False, True])
def test_speckle(form, envelope):
    def f(x, image, target):
        return speckle_loss(image, jax.nn.softmax(x)[..., 1:], target[..., 1:], form=form, envelope=envelope)

    agree(*both(f, RNG.normal(size=(8, 16, 16, 4)), **IMAGES))


@pytest.mark.parametrize("method", ["moments", "mle", "closed_form"])
def test_nakagami_fit_of_a_split_region(method):
    agree(*both(lambda x: sum(nakagami.fit(x, method=method)), RNG.uniform(0.2, 2, (64,))))
