"""From nnU-Net's logits to its loss and to label maps: heads, gray values for the speckle loss, tiles put back."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nnunets
from nnunets import CLASSES, PLAN, rows_of, tiny
from uscl import losses
from uscl.data.cases import prepare_case
from uscl.data.patches import PatchBatches
from uscl.stages import evaluate, experiment, finetune, nnunet_loss, nnunet_plan, nnunet_predict
from uscl.stages.nnunet_predict import Heads
from uscl.train import mesh as meshes
from uscl.types import UserError

made = nnunets.made  # fixtures


def test_heads_of_overlapping_classes():
    """Capsule {1, 2, 3, 4} lies under the others and paints 4, the value that only it has."""
    store = SimpleNamespace(values=5, classes=CLASSES)
    heads = Heads.of(store, True)
    assert (heads.regions, heads.paint, heads.count, heads.entries) == (((1, 2, 3, 4), (1,), (2,), (3,)), (4, 1, 2, 3), 4, 5)
    label = np.arange(5)[None]
    np.testing.assert_array_equal(heads.target(label)[0], [[0, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1], [1, 0, 0, 0]])
    np.testing.assert_array_equal(heads.values_of(10 * np.asarray(heads.target(label)) - 5), label)
    # probability 1/2 paints nothing, and a later region lies on the capsule even where the capsule is not
    np.testing.assert_array_equal(heads.values_of(np.float32([[[0, 0, 0, 0], [-1, 0.1, 0, 0], [1, 1, 1, -1]]])), [[0, 1, 2]])
    apart = Heads.of(SimpleNamespace(values=3, classes={"a": [2], "b": [1]}), True)
    assert (apart.regions, apart.paint) == (((2,), (1,)), (2, 1))
    softmax = Heads.of(store, False)
    assert (softmax.regions, softmax.count, softmax.entries) == ((), 5, 5)
    np.testing.assert_array_equal(softmax.values_of(np.float32([[[0, 0, 0, 1, 0], [0, 0, 0, 0, 0]]])), [[3, 0]])


def two_levels(variables, image, train):
    """In the place of the network: logits of 5 channels from the image and a factor, at two resolutions."""
    assert train
    logits = image * variables["params"] * jnp.arange(1.0, 6.0)
    return [logits, logits[:, ::2, ::2], logits[:, ::4, ::4] * jnp.nan]  # the coarsest weighs nothing


def by_hand(logits, label, heads):
    """(-Dice, cross-entropy) in float64, from the formulas."""
    logits = np.asarray(logits, np.float64)
    target = np.stack([np.isin(label, group) for group in heads.regions or [[v] for v in range(5)]], -1).astype(float)
    if heads.regions:
        p = 1 / (1 + np.exp(-logits))
        entropy = -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean()
    else:
        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        entropy = -(target * np.log(p)).sum(-1).mean()
        p, target = p[..., 1:], target[..., 1:]
    axes = (0, 1, 2)
    dice = (2 * (p * target).sum(axes) + 1e-5) / (p.sum(axes) + target.sum(axes) + 1e-5)
    return -dice.mean(), entropy


@pytest.mark.parametrize("regions", [False, True])
def test_the_loss_is_nnunets(regions, monkeypatch):
    rng = np.random.default_rng(0)
    heads = Heads.of(SimpleNamespace(values=5, classes={**CLASSES, "tip": [4]} if regions else CLASSES), regions)
    image, label = rng.normal(size=(4, 8, 8, 1)).astype(np.float32), rng.integers(0, 5, (4, 8, 8))
    asked, real = {}, nnunet_loss.nnunet_pair

    def unmoved(key, image, label, **how):
        asked.update(how)
        jax.eval_shape(lambda *x: real(*x, **how), key, image, label)  # it takes what it is given
        return image, label

    monkeypatch.setattr(nnunet_loss, "nnunet_pair", unmoved)
    small = nnunet_plan.replace(PLAN, patch=(8, 8), masked=True)
    speckle = {"form": "parameters", "envelope": False, "dynamic_range": 60.0, "min_pixels": 1.0}
    loss_fn = nnunet_loss.make_loss(SimpleNamespace(apply=two_levels), small, heads, weights=("dice", "cross_entropy", "speckle"),
                                    speckle=speckle, turn=12.0, upright=True)  # fmt: skip
    first = 0 if regions else 1  # the background has no speckle to compare

    def one(logits, target):
        return losses.dice_ce(logits, target, regions=regions)

    @jax.jit
    def both(image, gray):
        """The stage's terms, and the same from the functions of uscl.losses."""
        terms, (stats, _) = loss_fn(0.3, {}, {"image": image, "label": label, "gray": gray}, jax.random.key(0))
        outputs = two_levels({"params": 0.3}, image, True)
        targets = [heads.target(losses.shrink(label, x.shape[1:3])) for x in outputs]
        whole = losses.deep_supervision(outputs, targets, losses.supervision_weights(3), one).mean()
        p, t = heads.probability(outputs[0])[..., first:], targets[0][..., first:]
        return terms, whole, losses.speckle_loss(jnp.clip(image[..., 0] * 0.2 + 0.5, 0, 1), p, t, **speckle).mean()

    terms, whole, seen = both(image, np.tile(np.float32([0.2, 0.5]), (4, 1)))
    assert asked == {"size": (8, 8), "turn": 12.0, "mirror": ("rows", "columns"), "upright": True, "masked": True}
    logits = image * 0.3 * np.arange(1, 6)
    full, half = by_hand(logits, label, heads), by_hand(logits[:, ::2, ::2], label[:, 1::2, 1::2], heads)
    for place, name in enumerate(("dice", "cross_entropy")):
        assert float(terms[name]) == pytest.approx((2 * full[place] + half[place]) / 3, rel=1e-5)
    assert float(terms["dice"] + terms["cross_entropy"]) == pytest.approx(float(whole), rel=1e-5)
    assert float(terms["speckle"]) == pytest.approx(float(seen), rel=1e-5) and float(seen) > 0


@pytest.mark.parametrize("masked", [False, True])
def test_gray_levels_come_back_for_the_speckle_loss(masked, made):
    run = made()
    batches = PatchBatches(run.store, rows_of(run, "train"), patch=(32, 32), read=(40, 40), batch=4, masked=masked, seed=0)
    with_gray = nnunet_loss.WithGray(batches)
    batch = with_gray.batch(3, rows=slice(1, 4))
    assert with_gray.size == 4 and batch["gray"].shape == (3, 2) and batch["gray"].dtype == np.float32
    for place, (cine, frame) in enumerate(zip(batch["cine"], batch["frame"], strict=True)):
        factor, shift = batch["gray"][place]
        case = prepare_case(run.store.frame(cine, frame), masked=masked)
        top, bottom, left, right = case.box
        true = run.store.frame(cine, frame)[top:bottom, left:right] / 255
        inside = true > 0 if masked else np.ones_like(true, bool)
        np.testing.assert_allclose((case.image * factor + shift)[inside], true[inside], atol=1e-5)


class FakeTiles:
    """Logits that say value 1 where a pixel is above the image's mean; `params` scales them."""

    def many(self, images, params):
        return [np.concatenate([0 * x, params * x], -1) for x in images]


def test_label_maps_are_put_back_where_the_crop_was():
    image = np.zeros((2, 6, 7, 1), np.uint8)
    image[0, 2:5, 1:4, 0] = [[9, 1, 9], [1, 1, 1], [1, 1, 1]]
    image[1, :, :, 0] = 1
    image[1, 5, 6, 0] = 200
    heads = Heads(values=2)
    values = nnunet_predict.make_values(FakeTiles(), [1.0], heads, masked=False)(image)
    expected = np.zeros((2, 6, 7), np.uint8)
    expected[0, 2, [1, 3]] = expected[1, 5, 6] = 1
    np.testing.assert_array_equal(values, expected)
    assert values.dtype == np.uint8
    # the mean of two networks of which the second says the opposite, louder
    opposite = nnunet_predict.make_values(FakeTiles(), [1.0, -3.0], heads, masked=False)(image)
    assert opposite[0].sum() == 7 and opposite[0, 2, 1] == 0
    one_piece = image.copy()
    one_piece[0, 4, 1:3, 0] = 9  # two pixels against one and one
    kept = nnunet_predict.make_values(FakeTiles(), [1.0], heads, masked=False, rules={"keep_largest": [[1]]})(one_piece)
    assert kept[0].sum() == 2 and kept[0, 4, 1:3].all()


def test_tiles_on_several_devices_are_the_network_mirrored():
    rng = np.random.default_rng(0)
    network = SimpleNamespace(apply=lambda v, x, train: [jnp.cumsum(x, 2) * v["params"]["w"]])
    images = [rng.normal(size=shape).astype(np.float32) for shape in ((32, 32, 1), (20, 30, 1), (32, 32, 1))]
    tiles = [nnunet_predict.make_tiles(network, PLAN, meshes.make_mesh(devices), mirror=("columns",)) for devices in (1, 4)]
    found = [one.many(images, {"w": jnp.float32(2)}) for one in tiles]
    for one, four, image in zip(*found, images, strict=True):
        np.testing.assert_allclose(one, four, atol=1e-5)
        wide = np.pad(image, [((32 - n) // 2, (33 - n) // 2) for n in image.shape[:2]] + [(0, 0)])
        by_hand = wide.cumsum(1) + wide[:, ::-1].cumsum(1)[:, ::-1]  # 2 w, halved
        top, left = ((32 - n) // 2 for n in image.shape[:2])
        np.testing.assert_allclose(one, by_hand[top : top + image.shape[0], left : left + image.shape[1]], atol=1e-4)


def test_a_network_must_come_before_the_evaluation(made, tmp_path):
    assert evaluate.segmenting(("encoder", "finetune", "evaluate")) is finetune
    assert evaluate.segmenting(("finetune", "nnunet", "evaluate")) is experiment.STAGES["nnunet"]
    with pytest.raises(UserError, match=r"config\.stages: found \('encoder', 'evaluate'\).*'finetune' or 'nnunet' before it"):
        experiment.run(tiny(stages=("encoder", "evaluate"), **{"data.store": str(made().store.path)}), tmp_path)
    assert not (tmp_path / "encoder").exists()


def test_nothing_comes_before_nnunet(made):
    with pytest.raises(UserError, match="random weights, so no stage may come before it"):
        experiment.STAGES["nnunet"].run(made(), {"params": {}, "batch_stats": {}})
