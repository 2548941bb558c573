"""What the evaluation writes beside the scores: embeddings and their geometry, calibration, activations, sensitivity."""

import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from scipy import ndimage
from test_stages import tiny

from uscl import metrics, models
from uscl.augment import normalise
from uscl.stages import evaluate, finetune, predict, source
from uscl.stages import run as stage_run
from uscl.train import hosts
from uscl.train import mesh as meshes
from uscl.train.logs import Log

pytestmark = pytest.mark.usefixtures("quick_programs")
WIDTH = (2, 2, 4, 4, 4, 4)
TISSUES = {"cortex": [1], "medulla": [2], "central_echo_complex": [3]}
CLASSES = {"capsule": [1, 2, 3], **TISSUES}  # the union, which has no embedding of its own


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """(folder, what the network gives for the labelled test images, one pass, by its parts) of a network that has learnt nothing."""
    folder = tmp_path_factory.mktemp("evaluated")
    with Log(folder) as log:
        config = tiny(stages=("finetune", "evaluate"), **{"data.labelled": 5})
        store = source.open_store(config, folder, log)
        run = stage_run.Run(config=config, folder=folder, store=store, mesh=meshes.make_mesh(), log=log)
        carried = models.initialise(finetune.make_network(run), 0, (32, 32, 1))  # this one calls half of the pixels background
        evaluate.run(run, carried)
    rows = store.rows_of(store.patients("test"))
    cine, frame = store.labelled.cine[rows], store.labelled.frame[rows]
    image = store.frames[store.cines.first[cine] + frame]
    x = normalise(image[..., None].astype(np.float32) / 255, config.model.normalise)
    of = lambda part: {kind: carried[kind][part] for kind in ("params", "batch_stats")}  # noqa: E731

    @jax.jit
    def part_by_part(x):
        features = models.Decoder(5).apply(of("decoder"), models.Encoder(WIDTH).apply(of("encoder"), x, train=False), train=False)
        return features, models.Tail(store.values).apply(of("tail"), features, train=False)

    features, logits = (np.asarray(array, np.float64) for array in part_by_part(x))
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    patients = store.patients_of_rows(rows)
    return SimpleNamespace(
        folder=folder / "evaluate", run=run, carried=carried, image=image, label=store.labels[rows], features=features,
        probability=odds / odds.sum(-1, keepdims=True), cine=cine, frame=frame, patients=patients,
    )  # fmt: skip


def read(evaluated, name):
    path = evaluated.folder / name
    return json.loads(path.read_text()) if name.endswith("json") else dict(np.load(path, allow_pickle=False))


def test_one_embedding_for_each_class_that_an_image_shows(evaluated):
    found = read(evaluated, "embedding.npz")
    assert set(found) == {"z", "cine", "frame", "patient", "region_z", "region_class", "region_cine", "region_patient"}
    z, name, cine, patient = [], [], [], []
    for features, label, c in zip(evaluated.features, evaluated.label, evaluated.cine, strict=True):
        for key, values in TISSUES.items():
            where = [pixel for pixel in np.ndindex(label.shape) if label[pixel] in values]
            if where:
                z.append(sum(features[pixel] for pixel in where) / len(where))
                name.append(key)
                cine.append(c)
                patient.append(sorted(set(evaluated.patients)).index(evaluated.run.store.patient(c)))
    assert found["region_z"].dtype == np.float32 and found["region_z"].shape == (len(z), 2) and len(set(name)) == 3
    np.testing.assert_allclose(found["region_z"], z, atol=1e-5)
    assert found["region_class"].tolist() == name and found["region_class"].dtype.kind == "U"
    assert found["region_cine"].tolist() == cine and found["region_patient"].tolist() == patient and len(set(patient)) > 1
    assert found["z"].shape == (len(found["cine"]), 4) and len(found["patient"]) == len(found["frame"]) == len(found["cine"])


def test_geometry_of_the_embeddings_written(evaluated):
    arrays, found = read(evaluated, "embedding.npz"), read(evaluated, "geometry.json")
    assert {kind: list(by) for kind, by in found.items()} == {"frames": ["cine"], "regions": ["class", "cine"]}
    for kind, by, z in (("frames", "cine", "z"), ("regions", "class", "region_z"), ("regions", "cine", "region_z")):
        labels = arrays[by if kind == "frames" else f"region_{by}"]
        expected = metrics.embedding_geometry(arrays[z], labels)
        assert found[kind][by] == pytest.approx({k: None if np.isnan(v) else v for k, v in expected.items()}, abs=1e-9)
    assert found["regions"]["class"]["labels"] == 3 and found["regions"]["cine"]["labels"] == len(set(evaluated.cine.tolist()))


def counted_by_hand(probability, label):
    """Bins, ECE, Brier and pixels, pixel after pixel."""
    bins, squares = [[] for _ in range(15)], []
    for p, y in zip(probability.reshape(-1, probability.shape[-1]), label.ravel(), strict=True):
        chosen = int(np.argmax(p))
        if chosen or y:
            place = next(b for b in range(15) if p[chosen] <= (b + 1) / 15 or b == 14)
            bins[place].append((p[chosen], chosen == y))
            squares.append(sum((q - (k == y)) ** 2 for k, q in enumerate(p)))
    ece = sum(abs(sum(float(right) - c for c, right in one)) for one in bins) / len(squares)
    return bins, ece, np.mean(squares), len(squares)


def test_calibration_leaves_the_sure_background_out(evaluated):
    found = read(evaluated, "calibration.json")
    bins, ece, brier, pixels = counted_by_hand(evaluated.probability, evaluated.label)
    assert list(found) == ["ece", "brier", "pixels", "bins"] and found["pixels"] == pixels < evaluated.label.size
    assert (found["ece"], found["brier"]) == pytest.approx((ece, brier), abs=1e-5)
    assert sum(found["bins"]["count"]) == pixels and all(isinstance(n, int) for n in found["bins"]["count"])
    np.testing.assert_allclose(found["bins"]["count"], [len(one) for one in bins], atol=3)  # a rounding apart at an edge
    for place, one in enumerate(bins):
        mean = [found["bins"][name][place] for name in ("confidence", "correct")]
        assert mean == (pytest.approx(np.mean(one, axis=0), abs=0.01) if one else [None, None])


def test_activations_of_evenly_spaced_images(evaluated):
    found = read(evaluated, "activations.npz")
    n = len(evaluated.label)
    chosen = sorted({0, (n - 1) // 3, 2 * (n - 1) // 3, n - 1})
    assert {name: array.dtype.kind for name, array in found.items()} == {
        "image": "u", "truth": "u", "probability": "u", "patient": "U", "cine": "i", "frame": "i",
    }  # fmt: skip
    levels = 255 * np.moveaxis(evaluated.probability[chosen], 3, 1)
    assert found["probability"].shape == (len(chosen), 4, 32, 32) and found["probability"].dtype == np.uint8
    assert np.abs(found["probability"] - levels).max() < 0.51  # rounded, not cut off
    for name, all_of_them in (("image", evaluated.image), ("truth", evaluated.label), ("cine", evaluated.cine), ("frame", evaluated.frame)):
        np.testing.assert_array_equal(found[name], all_of_them[chosen], err_msg=name)
    assert found["patient"].tolist() == [evaluated.patients[i] for i in chosen]


def test_sensitivity_is_the_mean_over_images_of_moved_masks(evaluated):
    """With disks as structuring elements in place of distances; beyond the image's edge there is more of what the mask has there."""
    found = read(evaluated, "sensitivity.json")
    assert list(found) == list(CLASSES)
    ratio = lambda x: np.log10(x.mean() / x.std()) if np.ptp(x) else 0.0  # noqa: E731
    for name, values in CLASSES.items():
        shown = [(image, np.isin(label, values)) for image, label in zip(evaluated.image, evaluated.label, strict=True)]
        shown = [(image, truth) for image, truth in shown if truth.any()]
        assert list(found[name]) == ["erode 1", "dilate 1", "erode 10", "dilate 10"]
        for move, size in (("erode", 1), ("dilate", 1), ("dilate", 10)):
            y, x = np.ogrid[-size : size + 1, -size : size + 1]
            disk = x**2 + y**2 <= size**2
            moved = [ndimage.binary_dilation(t, disk) if move == "dilate" else ~ndimage.binary_dilation(~t, disk) for _, t in shown]
            pairs = [(m, t) for m, (_, t) in zip(moved, shown, strict=True)]
            signed = [ratio(i[m]) - ratio(i[t]) for m, (i, t) in zip(moved, shown, strict=True) if m.any()]
            mean = found[name][f"{move} {size}"]
            assert mean["n"] == len(shown)
            assert mean["dsc"] == pytest.approx(np.mean([2 * (m & t).sum() / (m.sum() + t.sum()) for m, t in pairs]))
            assert mean["area"] == pytest.approx(np.mean([m.sum() / t.sum() for m, t in pairs]))
            assert mean["signed_snr"] == pytest.approx(np.mean(signed), abs=1e-6)
            assert mean["delta_snr"] == pytest.approx(np.mean(np.abs(signed)), abs=1e-6)
    thin = found["cortex"]["erode 10"]  # a band a few pixels wide: nothing is left, and that is no speckle of its own
    assert (thin["dsc"], thin["area"], thin["delta_snr"], thin["signed_snr"]) == (0, 0, None, None) and thin["n"] > 0


def test_another_process_writes_nothing(evaluated, tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "primary", lambda: False)
    run = stage_run.Run(**vars(evaluated.run) | {"folder": tmp_path})
    evaluate.run(run, evaluated.carried)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_who_watches_is_shown_every_image_once(evaluated):
    """Seven images in batches of 5: the last one is filled up, and that is not shown."""
    store, shown = evaluated.run.store, []
    rows = store.rows_of(store.patients("test"))[:7]
    answer = lambda image: (image[..., 0] > 9, {"twice": 2.0 * image})  # noqa: E731
    maps = predict.label_maps(answer, store, rows, batch=5, watch=shown.append)
    plain = predict.label_maps(lambda image: image[..., 0] > 9, store, rows, batch=5)
    assert [len(part["twice"]) for part in shown] == [5, 2] and set(maps) == set(plain)
    for name, array in plain.items():
        np.testing.assert_array_equal(maps[name], array)
        np.testing.assert_array_equal(np.concatenate([part[name] for part in shown]), array)
    np.testing.assert_array_equal(np.concatenate([part["twice"] for part in shown]), 2.0 * maps["image"])
