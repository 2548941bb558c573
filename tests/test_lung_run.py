"""The lung paper's stages from store to results: what they leave, what is handed on, and that an interrupted run goes on exactly."""

import csv
import json
import os
import signal

import jax
import lungs
import numpy as np
import pytest

from uscl import models
from uscl.data.clips import ClipBatches, LabelledClips
from uscl.metrics import auc
from uscl.models import ClipEncoder
from uscl.stages import clips, experiment, saliency, start
from uscl.train import checkpoint

pytestmark = pytest.mark.usefixtures("quick_programs")
MODES = ("random", "supervised", "features", "finetuned")
SAME = ("results.json", "metrics.jsonl", "classify/predictions.csv", "classify/table.json", "saliency/localisation.json")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return lungs.make_store(tmp_path_factory.mktemp("store") / "lungs")


@pytest.fixture(scope="module")
def done(store, tmp_path_factory):
    """An undisturbed run."""
    folder = tmp_path_factory.mktemp("done")
    lungs.run(lungs.config(store), folder)
    return folder


def cells(folder):
    """{(mode, draw, part): (labels, scores)} of predictions.csv."""
    found = {}
    with open(folder / "classify" / "predictions.csv") as file:
        for row in csv.DictReader(file):
            labels, scores = found.setdefault((row["mode"], int(row["draw"]), row["part"]), ([], []))
            labels.append(int(row["label"]))
            scores.append(float(row["score"]))
    return found


def weights_of(path, side="state"):
    tree = checkpoint.load_weights(path)
    return jax.device_get(tree[side])


def test_what_a_run_leaves(done):
    lines = [json.loads(line) for line in (done / "metrics.jsonl").read_text().splitlines()]
    trained = ["video"] + [f"classify/{mode}_60_{draw}" for draw in (0, 1) for mode in ("supervised", "finetuned")]
    assert [(line["stage"], line["step"]) for line in lines] == [(stage, n + 1) for stage in trained for n in range(lungs.STEPS)]
    assert all(np.isfinite(line["loss"]) for line in lines)
    for line in lines[:4]:
        assert {"similarity", "embedding_std", "effective_rank"} <= line.keys() and ("linear_auc" in line) == (line["step"] % 2 == 0)
    found = cells(done)
    assert set(found) == {(mode, draw, part) for mode in MODES for draw in (0, 1) for part in ("validation", "test")}
    assert all(labels == ([0, 1] * 3)[: lungs.PATIENTS[key[2]]] for key, (labels, _) in found.items())
    results = json.loads((done / "results.json").read_text())
    assert (results["n_test"], results["n_test_patients"], results["n_train_labels"], results["mode"]) == (6, 6, 6, "finetuned")
    mean = np.mean([auc(np.array(labels), np.array(scores)) for labels, scores in (found["finetuned", n, "test"] for n in (0, 1))])
    assert results["metrics"]["auc"]["mean"] == pytest.approx(mean) and set(results["metrics"]) == {
        "auc", "accuracy", "sensitivity", "specificity"}  # fmt: skip


def test_the_encoder_is_handed_on_as_it_was_last_and_not_as_labels_liked_it_best(done, store):
    place = done / "video" / "checkpoints" / str(lungs.STEPS)
    last = weights_of(place)
    kept = checkpoint.load_weights(done / "classify" / "networks" / "features")
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(kept["params"]["encoder"]), last["params"]["encoder"])
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(kept["batch_stats"]["encoder"]), last["batch_stats"]["encoder"])
    made = lungs.config(store, start=str(done), stages=("classify",))
    carried = start.carried(made, store=experiment.Store.open(store))
    jax.tree.map(np.testing.assert_array_equal, carried["params"], last["params"])
    weights_of(place, "best")  # there is one, and it is not what is carried


@pytest.mark.parametrize("mode", MODES)
def test_a_kept_network_has_its_own_scores(mode, done, store):
    """Two clips of 4 frames of each test video, from its first frame and to its last, normalised and looked at one by one."""
    data, model = experiment.Store.open(store), models.Classifier(encoder=ClipEncoder(**lungs.SMALL))
    variables = jax.device_get(checkpoint.load_weights(done / "classify" / "networks" / mode))
    apply, scores = jax.jit(lambda x: model.apply(variables, x, train=False)), []
    for cine in data.cines_of(data.patients("test")):
        odds = []
        for first in (0, data.length(cine) - 4):
            clip = np.stack([data.frame(cine, first + t) for t in range(4)]) / 255.0
            logits = np.asarray(apply(((clip - clip.mean()) / clip.std()).astype(np.float32)[None, ..., None]))[0]
            odds.append(logits[1] - logits[0])
        scores.append(np.mean(odds))
    np.testing.assert_allclose(cells(done)[mode, 0, "test"][1], scores, rtol=2e-3, atol=2e-4)


def test_random_encoders_are_fresh_and_each_draw_has_another(done):
    model = models.Classifier(encoder=ClipEncoder(**lungs.SMALL))
    fresh = models.initialise(model, 0, (4, lungs.SIDE, lungs.SIDE, 1))
    kept = checkpoint.load_weights(done / "classify" / "networks" / "random")
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(kept["params"]["encoder"]), fresh["params"]["encoder"])
    found = cells(done)
    for mode in ("random", "supervised", "finetuned"):
        assert found[mode, 0, "test"][1] != found[mode, 1, "test"][1], mode


def test_maps_and_boxes(done, store):
    with np.load(done / "saliency" / "maps.npz", allow_pickle=False) as file:
        kept = {name: file[name] for name in file.files}
    data = experiment.Store.open(store)
    positive = data.cines_of(data.patients("test"))[1::2][:2]
    np.testing.assert_array_equal(kept["cine"], positive)
    assert kept["patient"].tolist() == [data.patient(c) for c in positive]
    for place, cine in enumerate(positive):
        first = (data.length(cine) - 4) // 2
        np.testing.assert_array_equal(kept["image"][place], [data.frame(cine, first + t) for t in range(4)])
        seen = [lungs.BOX if first + t else (-1,) * 4 for t in range(4)]
        np.testing.assert_array_equal(kept["boxes"][place], [[box] for box in seen])
    assert all(kept[f"map_{mode}"].shape == (2, 32, 32) and np.ptp(kept[f"map_{mode}"]) > 0 for mode in MODES)
    told = json.loads((done / "saliency" / "localisation.json").read_text())
    assert set(told) == set(MODES) and all(0 <= told[mode]["weighted_iou"]["mean"] <= 1 for mode in MODES)


def test_the_same_command_again_trains_nothing(done, store):
    before = {name: (done / name).read_bytes() for name in SAME}
    checkpoints = {path: path.stat().st_mtime_ns for path in done.glob("**/checkpoints/*")}
    lungs.run(lungs.config(store), done)
    assert before == {name: (done / name).read_bytes() for name in SAME}
    assert checkpoints == {path: path.stat().st_mtime_ns for path in done.glob("**/checkpoints/*")} and len(checkpoints) == 10


def once(monkeypatch, owner, name, end):
    """The third call of a method ends with what `end` does; those after it do not."""
    fetch, seen = getattr(owner, name), []

    def changed(*args, **options):
        seen.append(1)
        if len(seen) == 3:
            end()
        return fetch(*args, **options)

    monkeypatch.setattr(owner, name, changed)


@pytest.mark.slow
def test_stopped_in_every_stage_it_ends_as_if_undisturbed(done, store, tmp_path, monkeypatch):
    made = lungs.config(store)
    for owner in (ClipBatches, LabelledClips):
        once(monkeypatch, owner, "batch", lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(SystemExit) as stopped:
            lungs.run(made, tmp_path)
        assert stopped.value.code == 130 and not (tmp_path / "results.json").exists()
    assert (tmp_path / "video" / "checkpoints" / "4").exists() and not (tmp_path / "classify" / "networks").exists()
    monkeypatch.undo()
    with pytest.raises(ZeroDivisionError), monkeypatch.context() as patch:
        patch.setattr(saliency, "chosen", lambda run: 1 / 0)  # ended between two stages
        lungs.run(made, tmp_path)
    lungs.run(made, tmp_path)
    for name in SAME:
        assert (tmp_path / name).read_bytes() == (done / name).read_bytes(), name


def test_a_batch_that_is_no_number_is_told_and_kept(store, tmp_path, monkeypatch):
    fetch = ClipBatches.batch

    def batch(self, step, **rows):
        found = fetch(self, step, **rows)
        image = found["image"].astype(np.float32)
        image[0, 0, 0, 0] = np.nan if step == 1 else image[0, 0, 0, 0]
        return found | {"image": image}

    monkeypatch.setattr(ClipBatches, "batch", batch)
    monkeypatch.setattr(clips, "make_view", lambda block, *, temporal: lambda key, clip: clip)  # compiles sooner
    with pytest.raises(FloatingPointError, match="video: .* is nan at update 2"):
        lungs.run(lungs.config(store, stages=("video",)), tmp_path)
    assert [path.name for path in (tmp_path / "video" / "offending").iterdir()] == ["2.npz"]
