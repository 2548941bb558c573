"""Pretraining on clips: the slow target by hand, and every method's loss on a network of a few numbers."""


import flax.linen as nn
import jax
import jax.numpy as jnp
import lungs
import numpy as np
import pytest

from uscl import losses, models
from uscl.config.video import METHODS as ALLOWED
from uscl.models import ClipEncoder
from uscl.stages import clips, video

RNG = np.random.default_rng(0)


class Line(nn.Module):
    """x W, from the identity; among the statistics the sum of all it has given."""

    @nn.compact
    def __call__(self, x):
        y = x @ self.param("kernel", nn.initializers.constant(jnp.eye(2)), (2, 2))
        given = self.variable("batch_stats", "given", jnp.zeros, (2,))
        given.value = given.value + y.sum(0)
        return y


class Toy(nn.Module):
    """The first two pixels of a clip through one line after another."""

    predicts: bool = True

    def setup(self):
        self.encoder, self.projector = Line(), Line()
        if self.predicts:
            self.predictor = Line()

    def __call__(self, x, train):
        z = self.projector(self.encoder(x[:, 0, 0, :2, 0]))
        return z, self.predictor(z) if self.predicts else z


ONE = {"image": np.array([255, 0], np.uint8).reshape(1, 1, 1, 2, 1)}  # a clip that is (1, 0)


def same(key, clip):
    return clip


def toy(name, *, decay=0.5, temperature=0.1, view=same):
    """(loss of parameters, statistics and batch; variables) of a method."""
    method, model = video.METHODS[name], Toy(predicts=video.METHODS[name].predicts)
    variables = video.with_target(model.init(jax.random.key(0), jnp.zeros((1, 1, 1, 2, 1)), train=True), method)
    loss = video.make_loss(model, method, view, "none", temperature=temperature, decay=decay)
    return lambda params, stats, batch: loss(params, stats, batch, jax.random.key(1)), variables


def line(tree, part):
    return np.asarray(tree[part]["kernel"])


def test_the_target_by_hand():
    """Encoder online swaps the axes, that of the target does not yet: half way it is all 1/2, so it sees (1/2, 1/2) where the prediction is
    (0, 1). Their cosine is 1/sqrt 2, and the loss 2 (2 - sqrt 2) from both directions."""
    loss_fn, variables = toy("byol")
    variables = jax.tree.map(np.zeros_like, variables["batch_stats"]) | {"params": jax.tree.map(np.array, variables["params"])}
    params, stats = variables.pop("params"), variables
    stats["target"] = {"params": jax.tree.map(lambda x: np.eye(2, dtype=np.float32), stats["target"]["params"]),
                       "batch_stats": jax.tree.map(lambda x: x + 10, stats["target"]["batch_stats"])}  # fmt: skip
    params["encoder"]["kernel"] = np.float32([[0, 1], [1, 0]])
    terms, (updated, told) = loss_fn(params, stats, ONE)
    assert float(terms["similarity"]) == pytest.approx(2 * (2 - 2**0.5), abs=1e-6) and set(terms) == {"similarity"}
    assert set(told) == {"embedding_std", "effective_rank"}
    np.testing.assert_array_equal(line(updated["target"]["params"], "encoder"), np.full((2, 2), 0.5))
    np.testing.assert_array_equal(line(updated["target"]["params"], "projector"), np.eye(2))
    assert set(updated["target"]["params"]) == {"encoder", "projector"}
    # statistics of its own passes: two views of (1, 0), which it takes for (1/2, 1/2) and the online encoder for (0, 1)
    np.testing.assert_array_equal(updated["target"]["batch_stats"]["encoder"]["given"], [11, 11])
    np.testing.assert_array_equal(updated["encoder"]["given"], [0, 2])
    np.testing.assert_array_equal(updated["predictor"]["given"], [0, 2])

    def of(params, target):
        return loss_fn(params, stats | {"target": {**stats["target"], "params": target}}, ONE)[0]["similarity"]

    into = jax.grad(of, argnums=1)(params, stats["target"]["params"])
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(into))
    # Nor through the online weights it moves to: with p = (0, 1) P, t fixed, dl/dp = 2 (-2) (t - p cos) / |p| = (-2 sqrt 2, 0), and
    # the predictor's gradient is (0, 1)^T times that.
    got = jax.grad(of)(params, stats["target"]["params"])
    np.testing.assert_allclose(line(got, "predictor"), [[0, 0], [-2 * 2**0.5, 0]], atol=1e-6)
    np.testing.assert_allclose(line(got, "encoder"), [[-2 * 2**0.5, 0], [0, 0]], atol=1e-6)


def test_the_target_begins_as_a_copy_and_follows_by_its_decay():
    loss_fn, variables = toy("byol", decay=0.9)
    params, stats = variables["params"], variables["batch_stats"]
    jax.tree.map(np.testing.assert_array_equal, stats["target"]["params"], {k: params[k] for k in ("encoder", "projector")})
    moved = jax.tree.map(lambda x: x + 1, params)
    for update in (1, 2, 3):
        _, (stats, _) = loss_fn(moved, stats, ONE)
        want = np.eye(2) + 1 - 0.9**update
        np.testing.assert_allclose(line(stats["target"]["params"], "encoder"), want, rtol=1e-6)


def clip_batch(n=4):
    return {"image": RNG.integers(0, 256, (n, 2, 3, 4, 1)).astype(np.uint8)}


def embedded(batch, view):
    """[2, N, 2]: what the toy makes of two views, its lines being identities."""
    return np.stack([np.asarray(view(k, batch["image"] / np.float32(255)))[:, 0, 0, :2, 0] for k in jax.random.split(jax.random.key(1))])


def darker(key, clip):
    return clip * jax.random.uniform(key, (len(clip), 1, 1, clip.shape[3], 1), minval=0.2)


def nt_xent(z, temperature):
    """Mean over the 2N views of -log(e^s(other view) / sum over all but itself e^s)."""
    z = z.reshape(-1, z.shape[-1]).astype(float)
    total, n = 0.0, len(z) // 2
    for i in range(2 * n):
        s = [z[i] @ z[j] / np.linalg.norm(z[i]) / np.linalg.norm(z[j]) / temperature for j in range(2 * n)]
        total += np.log(sum(np.exp(s[j]) for j in range(2 * n) if j != i)) - s[(i + n) % (2 * n)]
    return total / 2 / n


def test_simclr_is_nt_xent():
    batch = clip_batch()
    loss_fn, variables = toy("simclr", temperature=0.3, view=darker)
    terms, (updated, told) = loss_fn(variables["params"], variables["batch_stats"], batch)
    z = embedded(batch, darker)
    assert not np.allclose(z[0], z[1]) and "target" not in updated
    assert float(terms["similarity"]) == pytest.approx(nt_xent(z, 0.3), rel=1e-5)
    assert told["chance"] == pytest.approx(np.log(7)) and nt_xent(np.ones((2, 4, 3)), 0.3) == pytest.approx(np.log(7))
    positive = np.roll(np.eye(8), 4, 1).astype(np.float32)
    every = losses.info_nce(z.reshape(8, 2), positive, 1 - np.eye(8, dtype=np.float32) - positive, temperature=0.3, denominator="all")
    np.testing.assert_allclose(video.simclr(jnp.asarray(z), 0.3), every, rtol=1e-5)


def test_every_methods_loss_on_a_toy():
    """Prediction, projection and target are one and the same here: identities."""
    batch = clip_batch()
    z = jnp.asarray(embedded(batch, darker))
    want = {
        "byol": losses.byol(z, z), "simclr": nt_xent(np.asarray(z), 0.2), "moco_v3": losses.moco_v3(z, z, temperature=0.2),
        "simsiam": losses.simsiam(z, z), "barlow_twins": losses.barlow_twins(z), "vicreg": losses.vicreg(z),
    }  # fmt: skip
    assert set(want) == set(video.METHODS) == set(ALLOWED)
    for name, each in want.items():
        loss_fn, variables = toy(name, temperature=0.2, view=darker)
        terms, (_, told) = loss_fn(variables["params"], variables["batch_stats"], batch)
        assert float(terms["similarity"]) == pytest.approx(float(jnp.mean(each)), rel=1e-5), name
        assert told.get("chance") == {"simclr": pytest.approx(np.log(7)), "moco_v3": pytest.approx(0.8 * np.log(4))}.get(name), name


def test_what_a_method_is_made_of():
    """As the six papers have it."""
    has = {name: (m.layers, m.normalised, m.predicts, m.target) for name, m in video.METHODS.items()}
    assert has == {
        "byol": (2, True, True, True), "simclr": (2, False, False, False), "moco_v3": (3, True, True, True),
        "simsiam": (3, True, True, False), "barlow_twins": (3, True, False, False), "vicreg": (3, True, False, False),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", video.METHODS)
def test_a_real_network_has_finite_terms_and_gradients(name):
    """Darknet itself on clips of 8 frames of 32 x 32, views and all."""
    method, made = video.METHODS[name], lungs.config()
    model = models.ClipModel(encoder=ClipEncoder(), hidden=16, features=8, layers=method.layers, normalised=method.normalised,
                             predicts=method.predicts)  # fmt: skip
    variables = video.with_target(models.initialise(model, 0, (8, 32, 32, 1)), method)
    view = clips.make_view(made.video.views, temporal=True)
    loss_fn = video.make_loss(model, method, view, "standardise", temperature=0.1, decay=0.99)
    batch = {"image": RNG.integers(0, 256, (4, 8, 32, 32, 1)).astype(np.uint8)}

    def objective(params):
        terms, rest = loss_fn(params, variables["batch_stats"], batch, jax.random.key(0))
        return terms["similarity"], rest

    (loss, (stats, told)), gradient = jax.jit(jax.value_and_grad(objective, has_aux=True))(variables["params"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((loss, stats, told, gradient)))
    assert jax.tree.structure(stats) == jax.tree.structure(dict(variables["batch_stats"]))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(gradient["encoder"]))
