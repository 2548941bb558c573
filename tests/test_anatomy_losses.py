"""The losses of pretraining on stills and sweeps, AWCL's and USCL's, by hand on a network of no weights."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_anatomy import awcl, labelled_entropy, nt_xent

from uscl.stages import anatomy

RNG = np.random.default_rng(0)


class Toy(nn.Module):
    """The first two pixels of an image, and the same two as scores of classes."""

    classes: int = 0

    def __call__(self, x, train):
        self.sow("batch_stats", "seen", len(x))
        z = x[:, 0, :2, 0]
        return z, z


def brighter(key, image):
    """Adds a number of its own to each image, more to the second pixel."""
    return image + jax.random.uniform(key, (len(image), 1, 1, 1)) * jnp.arange(image.shape[2])[:, None]


def same(key, image):
    return image


BATCH = {
    "image": RNG.integers(0, 256, (6, 1, 3, 1)).astype(np.uint8),
    "cine": np.int32([4, 2, 9, 7, 7, 7]), "frame": np.int32([0, 0, 0, 3, 9, 4]),
    "length": np.int32([1, 1, 1, 20, 20, 20]), "label": np.int32([2, 0, 2, -1, -1, -1]),
}  # fmt: skip


def told(loss_fn, batch, key=3):
    terms, (stats, metrics) = loss_fn({}, {}, batch, jax.random.key(key))
    return {name: float(value) for name, value in terms.items()}, {name: float(value) for name, value in metrics.items()}


def views_of(key=3):
    """What the toy makes of the two views of BATCH, [2 N, 2]."""
    keys = jax.random.split(jax.random.key(key), 3)[:2]
    return np.concatenate([np.asarray(brighter(k, BATCH["image"] / np.float32(255)))[:, 0, :2, 0] for k in keys])


def make(rule=None, ratio=1.0, view=brighter, temperature=0.3):
    return anatomy.make_loss(Toy(), view, "none", rule or anatomy.Rule(), temperature=temperature, ratio=ratio)


def test_awcl_is_supcon_where_labels_are_known():
    terms, metrics = told(make(), BATCH)
    assert set(terms) == {"contrastive"} and terms["contrastive"] == pytest.approx(np.mean(awcl(views_of(), BATCH["label"], 0.3)), rel=1e-5)
    assert metrics["chance"] == pytest.approx(np.log(11)) and metrics["positives"] == pytest.approx((2 * 3 + 4) / 6)
    assert {"embedding_std", "effective_rank"} <= set(metrics)


def test_without_labels_it_is_simclr():
    want = pytest.approx(np.mean(nt_xent(views_of(), 0.3)), rel=1e-5)
    terms, metrics = told(make(ratio=0.0), BATCH)
    assert terms["contrastive"] == want and metrics["positives"] == 1
    assert told(make(), {**BATCH, "label": np.full(6, -1, np.int32)})[0]["contrastive"] == want


def test_some_labels_are_lost_and_others_each_time():
    found = {told(make(ratio=0.5, view=same), BATCH, key)[1]["positives"] for key in range(12)}
    assert {round(x, 4) for x in found} == {1.0, 1.6667}


def test_frames_near_in_time_attract_as_well():
    """Frames 3 and 4 of cine 7 are one apart: as if they had a label of their own. On a ramp of 10 frames 4 and 9 attract by a half."""
    terms, metrics = told(make(anatomy.Rule("binary", margin=1.0)), BATCH)
    assert terms["contrastive"] == pytest.approx(np.mean(awcl(views_of(), [2, 0, 2, 5, -1, 5], 0.3)), rel=1e-5)
    got = np.asarray(anatomy.Rule("linear", horizon=10.0).weights(BATCH))
    want = np.eye(6)
    want[[0, 2], [2, 0]] = 1
    want[3:, 3:] = [[1, 0.4, 0.9], [0.4, 1, 0.5], [0.9, 0.5, 1]]
    np.testing.assert_allclose(got, want, rtol=1e-6)
    np.testing.assert_allclose(anatomy.Rule("linear").weights(BATCH)[3, 3:], [1, 0.7, 0.95], rtol=1e-6)  # over the sweep's 20 frames


def triples(frames, length, label):
    """N cines of three frames, each of 1 x 2 pixels."""
    image = np.asarray(frames, np.uint8).reshape(len(length), 3, 1, 2, 1)
    return {"image": image, "length": np.int32(length), "label": np.int32(label)}


def mixed(view=same, classes=2, ratio=1.0, temperature=0.4):
    return anatomy.make_mixed_loss(Toy(classes), view, "none", temperature=temperature, ratio=ratio)


def test_uscl_by_hand():
    """Whatever the share, three equal frames mix to themselves; of a cine of two or one the first two places are the samples."""
    one, two, three, four = [200, 10], [30, 90], [77, 180], [5, 6]
    batch = triples([one * 3, two + three + two, four + three + one], [9, 2, 1], [1, -1, 0])
    z = np.array([one, two, four, one, three, three]) / 255
    terms, metrics = told(mixed(), batch)
    assert terms["contrastive"] == pytest.approx(np.mean(nt_xent(z, 0.4)), rel=1e-5) and metrics["chance"] == pytest.approx(np.log(5))
    assert terms["cross_entropy"] == pytest.approx(labelled_entropy(z, [1, -1, 0] * 2), rel=1e-5)
    assert told(mixed(ratio=0.0), batch)[0]["cross_entropy"] == 0.0
    assert set(told(mixed(classes=0), batch)[0]) == {"contrastive"}


def test_uscl_mixes_with_the_frame_in_the_middle():
    """f1 = (1, 0), f3 = (0, 1), f2 = 0: samples are (l, 0) and (0, l), whatever l is; with f2 between them they would be no axes."""
    batch = triples([[255, 0, 0, 0, 0, 255]] * 3, [3, 5, 4], [-1] * 3)
    want = np.mean(nt_xent(np.array([[1, 0]] * 3 + [[0, 1]] * 3), 0.4))
    assert told(mixed(), batch)[0]["contrastive"] == pytest.approx(want, rel=1e-5)


def test_each_frame_of_uscl_has_a_view_of_its_own():
    shapes = []

    def view(key, image):
        shapes.append(image.shape)
        return brighter(key, image)

    terms, metrics = told(mixed(view), triples([[10, 20] * 3] * 3, [1] * 3, [-1] * 3))
    assert shapes == [(9, 1, 2, 1)] and metrics["embedding_std"] > 1e-3 and terms["contrastive"] != pytest.approx(np.log(5), rel=1e-4)
