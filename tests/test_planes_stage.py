"""The stage that tells stills apart: what it learns from, shows, keeps, and that an interrupted run goes on exactly."""

import csv
import json
import os
import signal
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plane_stills import NAMES, PATIENTS, SIDE, config, go, make_store, opened, tiny
from scipy.special import softmax

from uscl import models
from uscl.data.clips import LabelledClips
from uscl.data.store import Store
from uscl.metrics import confusion, macro
from uscl.stages import modes, planes
from uscl.train import checkpoint

pytestmark = pytest.mark.usefixtures("quick_programs")
SAME = ("results.json", "metrics.jsonl", "planes/predictions.csv", "planes/table.json")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "stills")


@pytest.fixture(scope="module")
def carried():
    whole = models.StillModel(encoder=tiny(), hidden=8, features=4)
    return models.initialise(whole, 99, (SIDE, SIDE, 1))


@pytest.fixture(scope="module")
def frozen(store, carried, tmp_path_factory):
    """The folder of a run of both frozen modes, at two fractions."""
    folder, how = tmp_path_factory.mktemp("frozen"), {"planes.modes": ("random", "features"), "planes.fractions": (0.25, 1.0)}
    with opened(config(store, **how), folder) as run, mock.patch.object(modes, "check_source"):
        assert planes.run(run, carried) is carried
    return folder


def predictions(folder):
    """{(mode, fraction, draw, part): (labels, called, probabilities)} of predictions.csv."""
    found = {}
    for row in csv.DictReader((folder / "planes" / "predictions.csv").open()):
        kept = found.setdefault((row["mode"], float(row["fraction"]), int(row["draw"]), row["part"]), ([], [], []))
        for mine, one in zip(kept, (row["label"], row["called"], [float(row[f"p {name}"]) for name in NAMES]), strict=True):
            mine.append(one)
    return found


def test_what_frozen_modes_leave(frozen):
    found, names = predictions(frozen), ("random", "random_knn", "features", "features_knn")
    parts = ("validation", "test")
    assert set(found) == {(mode, share, draw, part) for mode in names for share in (0.25, 1.0) for draw in (0, 1) for part in parts}
    assert all(labels == list(NAMES) * PATIENTS[key[3]] for key, (labels, _, _) in found.items())
    assert all(called == [NAMES[k] for k in np.argmax(p, 1)] for _, called, p in found.values())
    told = json.loads((frozen / "planes" / "table.json").read_text())
    assert [row["labels"] for row in told["rows"]] == [9] * 4 + [36] * 4 and [d["mode"] for d in told["differences"]] == ["features"] * 2
    for row in told["rows"]:
        each = []
        for draw in (0, 1):
            labels, called, _ = found[row["mode"], row["fraction"], draw, "test"]
            each.append(macro(confusion(*([NAMES.index(one) for one in many] for many in (labels, called)), classes=3)).f1)
        assert row["macro_f1"]["mean"] == pytest.approx(np.mean(each)) and row["each"] == pytest.approx(each)
    assert told["rows"][6]["macro_f1"]["mean"] > 0.6, "a bar, a frame and neither are easy to tell apart"
    results = json.loads((frozen / "results.json").read_text())
    assert (results["mode"], results["n_test"], results["n_train_labels"]) == ("features", 18, 36)


@pytest.mark.parametrize("mode", ["random", "features"])
def test_a_kept_network_has_its_own_scores(mode, frozen, store, carried):
    """Each test still normalised by itself; of neighbours, a loop over the features. The encoder is the one that was given."""
    data, model = Store.open(store), models.Classifier(encoder=tiny(), classes=3)
    variables = jax.device_get(checkpoint.load_weights(frozen / "planes" / "networks" / mode))
    given = carried if mode == "features" else models.initialise(model, 0, (SIDE, SIDE, 1))
    jax.tree.map(np.testing.assert_array_equal, variables["params"]["encoder"], jax.device_get(given["params"]["encoder"]))

    def seen(part):
        labelled = [c for c in data.cines_of(data.patients(part)) if data.attributes["plane"][c]]
        image = np.stack([data.frame(c, data.length(c) // 2) for c in labelled]) / 255.0
        image = (image - image.mean((1, 2), keepdims=True)) / image.std((1, 2), keepdims=True)
        return image.astype(np.float32)[..., None], [NAMES.index(data.attributes["plane"][c]) for c in labelled]

    (known, labels), (asked, _) = seen("train"), seen("test")
    apply = jax.jit(lambda x: (model.apply(variables, x, train=False), tiny().apply(
        {kind: tree["encoder"] for kind, tree in variables.items()}, x, train=False)))  # fmt: skip
    scores, near = predictions(frozen)[mode, 1.0, 0, "test"][2], predictions(frozen)[f"{mode}_knn", 1.0, 0, "test"][2]
    whole = [np.asarray(part, np.float64) for part in apply(np.concatenate([known, asked]))]
    np.testing.assert_allclose(softmax(whole[0][len(known) :], 1), scores, rtol=2e-2, atol=1e-3)
    z = whole[1] / np.linalg.norm(whole[1], axis=1, keepdims=True)
    for place, mine in enumerate(near):
        cosine = z[: len(known)] @ z[len(known) + place]
        votes = np.zeros(3)
        for row in np.argsort(-cosine)[:3]:
            votes[labels[row]] += np.exp(cosine[row] / 0.07)
        np.testing.assert_allclose(votes / votes.sum(), mine, atol=1e-2)


def test_the_loss_is_cross_entropy_of_a_view_of_the_frame():
    """Logits are the first two pixels, 1 and 0, or after a view that mirrors 0 and 1; labels 0: log(1 + e^-1) or log(1 + e)."""

    class Pixels:
        def apply(self, variables, x, *, train, mutable):
            assert train and mutable == ["batch_stats"] and x.shape == (2, 1, 2, 1)
            return x[:, 0, :, 0] * variables["params"], {"batch_stats": variables["batch_stats"] + 1}

    batch = {"image": np.uint8([[255, 0]] * 2).reshape(2, 1, 1, 2, 1), "target": np.int32([0, 0])}
    for turn, want in ((1, np.log1p(np.exp(-1))), (-1, np.log1p(np.e))):
        loss_fn = planes.make_loss(Pixels(), lambda key, image, turn=turn: image[:, :, ::turn], "none")
        terms, (stats, told) = loss_fn(jnp.float32(1), jnp.float32(4), batch, jax.random.key(0))
        assert float(terms["cross_entropy"]) == pytest.approx(want, rel=1e-6) and stats == 5 and told == {}


@pytest.fixture(scope="module")
def done(store, tmp_path_factory):
    """An undisturbed run."""
    folder = tmp_path_factory.mktemp("done")
    go(config(store), folder)
    return folder


@pytest.mark.slow
def test_stopped_it_ends_as_if_undisturbed_and_the_same_command_trains_nothing(done, store, tmp_path, monkeypatch):
    fetch, seen = LabelledClips.batch, []

    def batch(self, step, **rows):
        seen.append(step)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return fetch(self, step, **rows)

    monkeypatch.setattr(LabelledClips, "batch", batch)
    with pytest.raises(SystemExit) as stopped:
        go(config(store), tmp_path)
    assert stopped.value.code == 130 and not (tmp_path / "results.json").exists()
    for _ in range(2):
        go(config(store), tmp_path)
        assert all((tmp_path / name).read_bytes() == (done / name).read_bytes() for name in SAME)


@pytest.mark.slow
def test_trained_modes_follow_their_looks_and_learn(done, store, carried, tmp_path):
    lines = [json.loads(line) for line in (done / "metrics.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in lines] == [(f"planes/supervised_50_{k}", n + 1) for k in (0, 1) for n in range(4)]
    assert all(("validation" in line) == (line["step"] % 2 == 0) for line in lines)
    how = {"planes.modes": ("finetuned",), "planes.steps": 40, "planes.look_every": 20, "planes.draws": 1, "planes.fractions": (1.0,)}
    with opened(config(store, **how, **{"planes.learning_rate": 0.01}), tmp_path) as run, mock.patch.object(modes, "check_source"):
        planes.run(run, carried)
    assert json.loads((tmp_path / "results.json").read_text())["metrics"]["macro_f1"]["mean"] > 0.9
