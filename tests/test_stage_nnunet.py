"""nnU-Net as a stage of a run: planned, trained, resumed, ensembled and evaluated on a phantom of a few tiny frames."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uscl import config as uscl_config
from uscl import losses
from uscl.data.cases import frame_and_label, prepare_case
from uscl.data.patches import PatchBatches
from uscl.data.store import Store
from uscl.models.plan import Plan, read_plan, write_plan
from uscl.report import pairs, plan
from uscl.report.folder import Folder, Missing
from uscl.stages import evaluate, experiment, finetune, nnunet, nnunet_loss, nnunet_plan, nnunet_predict, source
from uscl.stages import run as stage_run
from uscl.stages.nnunet_predict import Heads
from uscl.train import mesh as meshes
from uscl.train.logs import Log
from uscl.types import UserError

STEPS = 4
PLAN = Plan(
    preset="plain", patch=(32, 32), batch=4, features=(4, 8), strides=((1, 1), (2, 2)), kernels=((3, 3), (3, 3)), blocks=(1, 1),
    decoder=(1,), residual=False, masked=False, shape=(32.0, 32.0),
)  # fmt: skip
PHANTOM = {"data.patients": 8, "data.frames": 8, "data.size": 32, "data.labelled": 2}
# two encoder convolutions, 2x2 up, a decoder convolution of 4 + 4 channels, a head of 4; norms have 2 numbers a channel
PARAMETERS = (9 * 4 + 4 + 8) + (9 * 4 * 8 + 8 + 16) + (4 * 8 * 4 + 4) + (9 * 8 * 4 + 4 + 8) + (4 * 4 + 4)
CLASSES = {"capsule": [1, 2, 3, 4], "cortex": [1], "medulla": [2], "central_echo_complex": [3]}


def tiny(**changes):
    config = uscl_config.default()
    config.experiment = "tiny"
    config.stages = ("nnunet", "evaluate")
    config.update_from_flattened_dict(
        PHANTOM
        | {
            "nnunet.epochs": 2, "nnunet.iterations": 2, "nnunet.validate_every": 1, "evaluate.batch": 4, "evaluate.bootstrap": 100,
            "log.every": 1, "log.save_every": 2,
        }
        | changes
    )  # fmt: skip
    return config


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    path = tmp_path_factory.mktemp("plans") / "plans.json"
    write_plan(PLAN, path)
    return str(path)


def middle(key, image, label, *, size, **how):
    """In the place of the augmentation, which takes seconds to compile: the middle of each patch."""
    top, left = ((read - n) // 2 for read, n in zip(image.shape[1:3], size, strict=True))
    rows, columns = slice(top, top + size[0]), slice(left, left + size[1])
    return image[:, rows, columns], jnp.maximum(label[:, rows, columns].astype(jnp.int32), 0)


@pytest.fixture(scope="module")
def done(tmp_path_factory, plans):
    """An undisturbed run, without its report."""
    folder = tmp_path_factory.mktemp("done")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nnunet_loss, "nnunet_pair", middle)
        patch.setattr(experiment.report, "draw", lambda folder: folder)
        experiment.run(tiny(**{"nnunet.plans": plans}), folder)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """make(**changes) -> a Run on a phantom that is made once."""
    folder = tmp_path_factory.mktemp("made")
    with Log(folder) as log:
        config = tiny()
        store = source.open_store(config, folder, log)
        count = iter(range(100))

        def make(devices=4, **changes):
            own = folder / str(next(count))
            own.mkdir()
            fresh = Store.open(store.path)
            return stage_run.Run(config=tiny(**changes), folder=own, store=fresh, mesh=meshes.make_mesh(devices), log=log)

        yield make


def rows_of(run, *parts):
    return np.concatenate([run.store.rows_of(run.store.patients(part)) for part in parts])


# --- a whole run ---


def test_a_run_leaves_what_the_contract_promises(done):
    results = json.loads((done / "results.json").read_text())
    assert list(results) == ["experiment", "scale", "classes", "n_test", "n_test_patients", "n_train_labels", "metrics"]
    assert list(results["metrics"]) == ["dsc", "dsc_skip_empty", "hd95_mm", "delta_snr", "signed_snr"]
    cases = list(csv.DictReader((done / "evaluate" / "cases.csv").open()))
    assert results["n_test"] == 4 and results["n_train_labels"] == 2 * 5 and len(cases) == 4 * len(results["classes"])
    lines = [json.loads(line) for line in (done / "metrics.jsonl").read_text().splitlines()]
    found = [(line["stage"], line["step"], "validation" in line) for line in lines]
    assert found == [("nnunet", 1, False), ("nnunet", 2, True), ("nnunet", 3, False), ("nnunet", 4, True)]
    for line in lines:
        assert line["loss"] == pytest.approx(line["dice"] + line["cross_entropy"], rel=1e-5) and -1 <= line["dice"] < 0
    assert read_plan(done / "nnunet" / "plans.json") == PLAN
    rules = json.loads((done / "nnunet" / "postprocessing.json").read_text())
    assert [step["of"] for step in rules["tried"]] == ["foreground", *results["classes"]]
    facts, table, _, after = plan.section(Folder(done), None)["blocks"]
    assert facts["facts"]["augmentation"].startswith("faithful to nnU-Net: turns up to ±180°, flips of both axes")
    assert facts["facts"]["network"] == f"1 network of {PARAMETERS} parameters, a softmax over 4 label values"
    assert table["table"]["rows"] == [["1", "32 × 32", "4", "3 × 3", "1 × 1", "1", "1"], ["2", "16 × 16", "8", "3 × 3", "2 × 2", "1", "–"]]
    assert len(after["table"]["rows"]) == 1 + len(results["classes"])
    with pytest.raises(Missing, match="evaluate/embedding.npz was not written"):
        pairs.embedding(Folder(done), None)


def test_the_same_command_again_trains_nothing(done, plans, monkeypatch):
    monkeypatch.setattr(experiment.report, "draw", lambda folder: folder)
    before = {path: path.read_bytes() for path in done.rglob("*.json*") if path.name not in ("timing.json", "environment.json")}
    experiment.run(tiny(**{"nnunet.plans": plans}), done)
    assert before == {path: path.read_bytes() for path in before}
    with pytest.raises(UserError, match=r"config\.nnunet\.epochs was 2 here and is 3 now"):
        experiment.run(tiny(**{"nnunet.plans": plans, "nnunet.epochs": 3}), done)


def test_a_plan_edited_after_the_training_began_is_refused(done, plans):
    path = done / "nnunet" / "plans.json"
    text = path.read_text()
    path.write_text(text.replace('"batch_size": 4', '"batch_size": 8'))
    try:
        with pytest.raises(UserError, match="plans.json: the plan has changed since the training began"):
            experiment.run(tiny(**{"nnunet.plans": plans}), done)
    finally:
        path.write_text(text)


def test_the_last_weights_count_where_they_are_asked_for(made):
    """A weight that grows by 1 with every update, and looks that like it less and less."""
    run = made(devices=1)
    batches = SimpleNamespace(size=2, batch=lambda step, rows=slice(None): {"x": np.ones((2, 1), np.float32)})
    grows = lambda params, stats, batch, key: ({"t": -(params["a"]["w"] * batch["x"]).mean()}, (stats, {}))  # noqa: E731
    for keep, expected in (("last", 4.0), ("best", 2.0)):
        course = stage_run.Course(4, stage_run.optax.sgd(1.0), 2, f"somewhere/{keep}", keep)
        start = {"params": {"a": {"w": jnp.zeros(())}}, "batch_stats": {}}
        found = stage_run.train(run, keep, grows, start, batches, weights={"t": 1.0}, validate=lambda s: -float(s.step), course=course)
        assert float(found["params"]["a"]["w"]) == expected
        assert (run.folder / "somewhere" / keep / "checkpoints" / "4").is_dir()


@pytest.mark.parametrize("speckle", [0.0, 2.0])
def test_what_the_training_is_given(speckle, made, plans):
    """Rate 0.01, then 0.01 (1 - 1/2)^0.9 in the second of two epochs; momentum of a gradient of 1 by hand: 1, 1.99, 2.9701."""
    seen = {}

    def train(run, stage, loss_fn, variables, batches, **how):
        seen.update(how, stage=stage, batches=batches, variables=variables)

    run = made(**{"nnunet.plans": plans, "nnunet.loss.speckle": speckle, "nnunet.upright": True})
    assert nnunet.run(run, None, train=train) is None  # as in a replay, which ends where the update was
    course = seen["course"]
    assert (course.steps, course.validate_every, course.folder, course.keep, seen["stage"]) == (4, 2, "nnunet", "last", "nnunet")
    assert seen["weights"] == {"dice": 1.0, "cross_entropy": 1.0} | ({"speckle": 2.0} if speckle else {})
    assert seen["equalise"] == bool(speckle) and ("gray" in seen["batches"].batch(0)) == bool(speckle)
    assert seen["batches"].batch(0)["image"].shape == (4, 46, 37, 1)  # 32 (cos 15 + sin 15) / 0.85 and 32 / 0.85
    assert nnunet.mirrored_axes(run) == ("columns",) and nnunet.mirrored_axes(made()) == ("rows", "columns")
    params = {"w": jnp.zeros(())}
    state = course.optimizer.init(params)
    for rate, momentum in ((0.01, 1), (0.01, 1.99), (0.01 * 0.5**0.9, 2.9701)):
        update, state = course.optimizer.update({"w": jnp.ones(())}, state, params)
        assert float(update["w"]) == pytest.approx(-rate * (1 + 0.99 * momentum), rel=1e-5)


# --- what it learns from ---


def test_the_split_and_the_fraction_are_those_of_the_contrastive_models(made):
    for fraction in (1.0, 0.4):
        run = made(**{"finetune.label_fraction": fraction})
        (part,) = nnunet_plan.parts_of(run)
        assert (part.name, part.folder, part.seed) == ("nnunet", "nnunet", run.config.seed)
        np.testing.assert_array_equal(part.learn, finetune.labelled_rows(run))
        assert len(part.learn) == round(10 * fraction)
        np.testing.assert_array_equal(part.held, rows_of(run, "validation"))


def test_one_network_on_both(made):
    run = made(**{"nnunet.folds": "all"})
    (part,) = nnunet_plan.parts_of(run)
    np.testing.assert_array_equal(part.learn, np.sort(rows_of(run, "train", "validation")))
    assert len(part.held) == 0


def test_five_folds_of_patients(made):
    """Each patient is held out by one network, which never learns from it, and the test stays out; the store's own folds go first."""
    run = made(**{"nnunet.folds": "five"})
    parts = nnunet_plan.parts_of(run)
    assert [part.folder for part in parts] == [f"nnunet/fold_{k}" for k in range(5)]
    assert [part.name for part in parts] == [f"nnunet_fold_{k}" for k in range(5)]
    everything = np.sort(rows_of(run, "train", "validation"))
    np.testing.assert_array_equal(np.sort(np.concatenate([part.held for part in parts])), everything)
    for part in parts:
        np.testing.assert_array_equal(np.sort(np.concatenate([part.learn, part.held])), everything)
        assert not set(run.store.patients_of_rows(part.learn)) & set(run.store.patients_of_rows(part.held))
    assert len({part.seed for part in parts}) == 5
    assert not set(run.store.patients_of_rows(everything)) & set(run.store.patients("test"))

    names = sorted(set(run.store.patients_of_rows(everything)))
    run.store.splits["folds"] = [names[:2], names[2:]]
    parts = nnunet_plan.parts_of(run)
    assert [sorted(set(run.store.patients_of_rows(part.held))) for part in parts] == [names[:2], names[2:]]


def test_too_few_patients_for_five_folds(made):
    run = made(**{"nnunet.folds": "five"})
    run.store.splits = run.store.splits | {"train": run.store.patients("train")[:3]}
    with pytest.raises(UserError, match="4 patients with labels allow"):
        nnunet_plan.parts_of(run)


def test_the_plan_comes_from_the_rows_it_learns_from(made, monkeypatch):
    """The median box of what is not black, by hand, over the chosen rows; then edited, and read again."""
    run = made(**{"finetune.label_fraction": 0.4, "nnunet.base": 3, "nnunet.batch": 8})
    parts = nnunet_plan.parts_of(run)
    real, asked = nnunet_plan.fingerprint, []
    monkeypatch.setattr(nnunet_plan, "fingerprint", lambda store, rows: asked.extend(rows) or real(store, rows))
    found = nnunet_plan.plan_of(run, parts)
    assert asked == list(parts[0].learn) and len(asked) == 4
    boxes = []
    for row in parts[0].learn:
        image, _ = frame_and_label(run.store, row)
        boxes.append([np.ptp(np.nonzero(image)[axis]) + 1 for axis in (0, 1)])
    assert found.shape == tuple(np.median(boxes, axis=0)) and found.batch == 8 and found.features[:2] == (3, 6) and found.preset == "plain"
    path = run.folder / "nnunet" / "plans.json"
    path.write_text(path.read_text().replace('"batch_size": 8', '"batch_size": 4'))
    assert nnunet_plan.plan_of(run, parts).batch == 4
    path.write_text(path.read_text().replace('"batch_size": 4', '"batch_size": 6'))
    with pytest.raises(UserError, match=r"config\.nnunet\.batch.*plans.json.*: 6 images do not split evenly over 4 devices"):
        nnunet_plan.plan_of(run, parts)


def test_a_plan_of_more_channels_is_refused(made, tmp_path):
    write_plan(nnunet_plan.replace(PLAN, channels=3), tmp_path / "rgb.json")
    run = made(**{"nnunet.plans": str(tmp_path / "rgb.json")})
    with pytest.raises(UserError, match="found 3 channels; the frames of a store have 1"):
        nnunet_plan.plan_of(run, nnunet_plan.parts_of(run))


# --- heads, loss, label maps ---


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


# --- what does not fit ---


def test_a_network_must_come_before_the_evaluation(made, tmp_path):
    assert evaluate.segmenting(("encoder", "finetune", "evaluate")) is finetune
    assert evaluate.segmenting(("finetune", "nnunet", "evaluate")) is experiment.STAGES["nnunet"]
    with pytest.raises(UserError, match=r"config\.stages: found \('encoder', 'evaluate'\).*'finetune' or 'nnunet' before it"):
        experiment.run(tiny(stages=("encoder", "evaluate"), **{"data.store": str(made().store.path)}), tmp_path)
    assert not (tmp_path / "encoder").exists()


def test_nothing_comes_before_nnunet(made):
    with pytest.raises(UserError, match="random weights, so no stage may come before it"):
        experiment.STAGES["nnunet"].run(made(), {"params": {}, "batch_stats": {}})


# --- all of it, with the real augmentation ---


@pytest.mark.slow
def test_five_folds_interrupted_and_resumed_equal_undisturbed(tmp_path, plans, monkeypatch):
    """Regions, upright and speckle as well: SIGINT while a batch of the third fold is fetched, then the same command once more."""
    changes = {"nnunet.folds": "five", "nnunet.regions": True, "nnunet.upright": True, "nnunet.loss.speckle": 1.0, "nnunet.plans": plans}
    experiment.run(tiny(**changes), tmp_path / "whole")
    fetch, seen = PatchBatches.batch, []

    def batch(self, step, **how):
        if (tmp_path / "cut/nnunet/fold_1/checkpoints/4").exists() and step == 1 and not seen:
            seen.append(step)
            os.kill(os.getpid(), signal.SIGINT)
        return fetch(self, step, **how)

    monkeypatch.setattr(PatchBatches, "batch", batch)
    with pytest.raises(SystemExit) as stopped:
        experiment.run(tiny(**changes), tmp_path / "cut")
    assert stopped.value.code == 130 and seen and not (tmp_path / "cut/nnunet/fold_2/checkpoints/4").exists()
    monkeypatch.undo()
    experiment.run(tiny(**changes), tmp_path / "cut")
    for name in ("results.json", "metrics.jsonl", "evaluate/cases.csv", "nnunet/postprocessing.json", "nnunet/plans.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes(), name
    lines = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines] == [f"nnunet_fold_{k}" for k in range(5) for _ in range(STEPS)]
    assert all({"dice", "cross_entropy", "speckle"} <= line.keys() for line in lines)
    assert json.loads((tmp_path / "whole/results.json").read_text())["n_train_labels"] == 12
    page = (tmp_path / "whole/report.html").read_text()
    for told in ("5 networks", "a sigmoid for each of 4 regions", "upright: turns up to ±15°", "nnunet_fold_4", "embedding.npz was not"):
        assert told in page, told


@pytest.mark.slow
def test_no_label_outside_the_image_reaches_the_loss(made):
    """A store with black borders gives -1 in its patches; what comes out of the augmentation has none."""
    run = made()
    batches = PatchBatches(run.store, rows_of(run, "train"), patch=(32, 32), read=(45, 45), batch=8, masked=True, seed=0)
    batch = batches.batch(0)
    assert (batch["label"] == -1).mean() > 0.2
    pair = jax.jit(lambda key, image, label: nnunet_loss.nnunet_pair(key, image, label, size=(32, 32), masked=True))
    for step in range(3):
        _, label = pair(jax.random.key(step), batch["image"], batch["label"])
        assert label.shape == (8, 32, 32) and set(np.unique(label)) <= set(range(4))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["all", "planned"])
def test_other_ways_to_train(how, tmp_path):
    """One network on train and validation, with nothing to decide post-processing on; a residual network, planned here."""
    changes = {"all": {"nnunet.folds": "all"}, "planned": {"nnunet.preset": "resenc_m"}}[how]
    experiment.run(tiny(**{"nnunet.batch": 4, "nnunet.base": 2} | changes), tmp_path)
    assert (tmp_path / "nnunet/postprocessing.json").exists() == (how == "planned")
    assert read_plan(tmp_path / "nnunet/plans.json").residual == (how == "planned")
    assert json.loads((tmp_path / "results.json").read_text())["n_train_labels"] == {"all": 12, "planned": 10}[how]


@pytest.mark.slow
def test_two_processes_run_as_one(tmp_path, plans):
    """Two processes of four devices, each reading its half of every batch, and one of four: the same numbers."""
    changes = {"nnunet.plans": plans, "nnunet.batch": 8}
    experiment.run(tiny(**changes), tmp_path / "alone")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    changes["data.store"] = str(tmp_path / "alone/data")
    command = [sys.executable, __file__, json.dumps(changes), str(tmp_path / "both"), str(port)]
    processes = [subprocess.Popen([*command, str(number)], stderr=subprocess.PIPE, text=True) for number in range(2)]
    try:
        told = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(told)
    one, two = ([json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()] for name in ("alone", "both"))
    assert len(one) == len(two) == STEPS
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys() and all(b[name] == pytest.approx(a[name], rel=1e-3) for name in ("loss", "dice", "gradient_norm"))
    found = [json.loads((tmp_path / name / "results.json").read_text())["metrics"]["dsc"]["mean"] for name in ("alone", "both")]
    assert found[0] == pytest.approx(found[1], abs=0.02)


if __name__ == "__main__":
    from uscl.train import hosts

    hosts.start(coordinator=f"127.0.0.1:{sys.argv[3]}", processes=2, process=int(sys.argv[4]))
    experiment.run(tiny(**json.loads(sys.argv[1])), Path(sys.argv[2]))
