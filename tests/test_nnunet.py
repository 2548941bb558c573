"""nnU-Net's layout, out and in again; the rules of its own check of a dataset, written down once more."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from uscl.data import classes, masks, nnunet
from uscl.data.nnunet_export import regions
from uscl.data.store import Store
from uscl.data.writer import StoreWriter
from uscl.types import UserError

SIZE = 16
SPLITS = {"train": ["p0", "p1", "p2"], "validation": ["p3"], "test": ["p4"]}


def write(path, names, splits=SPLITS):
    rng = np.random.default_rng(0)
    top = max(v for values in names.values() for v in values)
    with StoreWriter(path, size=SIZE, classes=names, splits=splits) as writer:
        for n in range(6):  # p0 has two cines
            labels = {t: rng.integers(0, top + 1, (SIZE, SIZE), dtype=np.uint8) for t in (0, 2)[: 1 + n % 2]}
            frames = rng.integers(0, 256, (3, SIZE, SIZE), dtype=np.uint8)
            writer.add(patient=f"p{max(n - 1, 0)}", frames=frames, labels=labels, mm_per_pixel=0.1 * n or None)
    return Store.open(path)


def rules_hold(folder):
    """What nnU-Net v2 asserts of a dataset before it plans anything: keys, counts, names, sizes, one channel, consecutive labels."""
    info = json.loads((folder / "dataset.json").read_text())
    assert {"labels", "channel_names", "numTraining", "file_ending"} <= set(info) and info["file_ending"] == ".png"
    assert info["labels"]["background"] == 0 and "ignore" not in info["labels"]
    lists = [v if isinstance(v, list) else [v] for v in info["labels"].values()]
    allowed = sorted({v for values in lists for v in values})
    assert allowed == list(range(len(allowed)))
    if any(len(values) > 1 for values in lists):
        assert len(info["regions_class_order"]) == len(lists) - 1
    cases = {p.name[:-9] for p in (folder / "imagesTr").iterdir()}
    assert len(cases) == info["numTraining"] == len(list((folder / "labelsTr").iterdir()))
    for part in ("Tr", "Ts"):
        for file in (folder / f"images{part}").iterdir():
            assert file.name.endswith("_0000.png")
            image, label = (np.asarray(Image.open(f)) for f in (file, folder / f"labels{part}" / (file.name[:-9] + ".png")))
            assert image.ndim == 2 and image.shape == label.shape and set(np.unique(label)) <= set(allowed)
    for entry in json.loads((folder / "splits_final.json").read_text()):
        assert set(entry["train"]) | set(entry["val"]) == cases and not set(entry["train"]) & set(entry["val"])
    return info


@pytest.mark.parametrize("names", [
    {"nerve": [1], "vessel": [2]},
    {"cortex": [1], "capsule": [1, 2, 3], "cec": [3]},
    {"a": [1, 2], "b": [2, 3], "c": [1, 2, 3, 4]},
])  # fmt: skip
def test_round_trip(tmp_path, names):
    store = write(tmp_path / "store", names)
    folder = nnunet.export(store, tmp_path / "raw", number=7, name="kidney")
    assert folder == tmp_path / "raw" / "Dataset007_kidney" and [p.name for p in folder.parent.iterdir()] == [folder.name]
    rules_hold(folder)
    listing = nnunet.read(folder)
    assert not listing.rejected and not listing.ignored and len(listing.items) == len(store.labelled) == 9
    found = {}
    for item in listing.items:
        found[item.paths[0].name[:-9]] = item, masks.raster(item.marks[0], SIZE, SIZE)
    keys = {key for _, raster in found.values() for key in raster.keys}
    stored, named = classes.code(keys, listing.order, listing.classes)
    assert {name: sorted(named[name]) for name in names} == names
    for row in range(len(store.labelled)):
        cine, frame = int(store.labelled.cine[row]), int(store.labelled.frame[row])
        item, raster = found[f"cine{cine:05d}_{frame:05d}"]
        np.testing.assert_array_equal(classes.encode(raster, stored), store.labels[row])
        np.testing.assert_array_equal(np.asarray(Image.open(item.paths[0])), store.frame(cine, frame))
        assert item.patient == store.patient(cine) and item.patient in store.splits[item.part]
        np.testing.assert_equal(item.mm_per_pixel, store.cines.mm_per_pixel[cine])


def test_regions_paint_every_value_back():
    rng = np.random.default_rng(1)
    assert regions({"a": [1, 2], "b": [2]}) == ({"background": 0, "a": [1, 2], "b": 2}, [1, 2])
    assert regions({"a": [2], "z": [1, 2]}) == ({"background": 0, "z": [1, 2], "a": 2}, [1, 2])  # the wider first
    assert regions({"a": [1], "b": [2]}) == ({"background": 0, "a": 1, "b": 2}, [])
    assert regions({"b": [3], "all": [1, 2, 3]})[1] == [1, 3, 2]  # 2 is a region of its own
    for _ in range(200):
        k = int(rng.integers(2, 6))
        names = {f"c{i}": sorted(rng.choice(np.arange(1, k + 1), int(rng.integers(1, k + 1)), replace=False).tolist()) for i in range(4)}
        names["rest"] = list(range(1, k + 1))
        labels, order = regions(names)
        lists = [v if isinstance(v, list) else [v] for name, v in labels.items() if name != "background"]
        painted = np.zeros(k + 1, int)
        for values, label in zip(lists, order, strict=True):
            painted[values] = label
        assert painted.tolist() == list(range(k + 1)), names
        assert all(np.array_equal(lists[list(labels).index(name) - 1], names[name]) for name in names)


def test_splits(tmp_path):
    store = write(tmp_path / "store", {"a": [1]}, SPLITS | {"folds": [["p0", "p1"], ["p2", "p3"]]})
    folder = nnunet.export(store, tmp_path)
    rows = {row["case"]: row for row in csv.DictReader((folder / "cases.csv").open())}
    entries = json.loads((folder / "splits_final.json").read_text())
    validated = [{rows[case]["patient"] for case in entry["val"]} for entry in entries]
    assert validated == [{"p3"}, {"p0", "p1"}, {"p2", "p3"}]
    assert {rows[case]["patient"] for case in entries[0]["train"]} == {"p0", "p1", "p2"}
    assert {row["part"] for row in rows.values()} == {"train", "validation", "test"}


def test_refused_exports(tmp_path):
    store = write(tmp_path / "store", {"a": [1]})
    folder = nnunet.export(store, tmp_path)
    for options, says in (({}, "Dataset001_uscl: this exists already"), ({"number": 0}, "number 0"), ({"name": "a/b"}, "name 'a/b'")):
        with pytest.raises(UserError, match=says):
            nnunet.export(store, tmp_path, **options)
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="'ignore' has a name"):
        nnunet.export(write(tmp_path / "other", {"ignore": [1]}), tmp_path)
    store.splits = SPLITS | {"folds": [["p0", "p1", "p2", "p3"]]}
    with pytest.raises(UserError, match="fold 1 leaves no labelled frame to train on"):
        nnunet.export(store, tmp_path)
    assert not list(tmp_path.glob("Dataset*"))


@pytest.fixture
def dataset(tmp_path):
    """Two channels, no cases.csv, labels of other people's making."""
    root = tmp_path / "nnUNet_raw" / "Dataset002_neck"
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (root / folder).mkdir(parents=True)
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    for case in ("c_1", "c_2", "c_3"):
        for channel in ("0000", "0001"):
            image.save(root / "imagesTr" / f"{case}_{channel}.png")
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(root / "labelsTr" / f"{case}.png")
    image.save(root / "imagesTs" / "t_0000.png")
    info = {"channel_names": {"0": "US", "1": "elasto"}, "labels": {"background": 0, "vessel": 2, "nerve": 1}, "numTraining": 3}
    (root / "dataset.json").write_text(json.dumps(info | {"file_ending": ".png"}))
    return root


def test_a_dataset_of_others(dataset):
    listing = nnunet.read(dataset)
    assert [(i.patient, i.part, len(i.marks)) for i in listing.items] == [
        ("c_1", None, 1),
        ("c_2", None, 1),
        ("c_3", None, 1),
        ("t", "test", 0),
    ]
    assert all(i.paths[0].name.endswith("_0000.png") for i in listing.items)
    assert sorted(listing.ignored) == [f"Dataset002_neck/imagesTr/c_{n}_0001.png" for n in (1, 2, 3)] and not listing.rejected
    assert listing.order == ["nerve", "vessel"] and listing.classes == {"nerve": ["nerve"], "vessel": ["vessel"]}
    assert listing.items[0].marks[0].values == {1: "nerve", 2: "vessel"} and listing.items[0].marks[0].frame == 0
    assert classes.code({"vessel"}, listing.order, listing.classes)[0] == {0: 0, "nerve": 1, "vessel": 2}  # as nnU-Net numbers them

    place = dataset.parent.parent / "nnUNet_preprocessed" / dataset.name
    place.mkdir(parents=True)
    (place / "splits_final.json").write_text('[{"train": ["c_1"], "val": ["c_2"]}, {"train": ["c_3"], "val": ["c_1"]}]')
    (dataset / "cases.csv").write_text("case,patient\nc_1,anna\n")
    (dataset / "imagesTr" / "c_2_0000.png").unlink()
    Image.new("L", (8, 8)).save(dataset / "imagesTr" / "c_4_0000.png")
    listing = nnunet.read(dataset)
    assert [(i.patient, i.part) for i in listing.items] == [("anna", "train"), ("t", "test")]
    told = dict(listing.rejected)
    assert "does not name it" in told["Dataset002_neck/imagesTr/c_3_0000.png"] and "there is no c_2_0000.png" in str(told)
    assert "a label without its image" in told["Dataset002_neck/labelsTr/c_2.png"] and len(told) == 4

    info = json.loads((dataset / "dataset.json").read_text())
    (dataset / "dataset.json").write_text(json.dumps(info | {"labels": {"background": 0, "both": [1, 2], "nerve": 1}}))
    listing = nnunet.read(dataset)
    assert listing.classes == {"both": [1, 2], "nerve": [1]} and listing.items[0].marks[0].values is None


@pytest.mark.parametrize("change,says", [
    ({"labels": {"0": "background", "1": "a"}}, "'labels' is .*as version 2 has it"),
    ({"labels": {"background": 0, "a": 2}}, "1, 2, ... with no gap"),
    ({"labels": {"background": 0, "a": "1"}}, "with no gap"),
    ({"labels": {"background": 0}}, "the background alone"),
    ({"labels": {"background": 0, "a": 1, "ignore": 2}}, "has 'ignore'"),
    ({"file_ending": ".xyz"}, "'file_ending' is '.xyz'"),
    ({"file_ending": None}, "'file_ending' is None"),
    ({"dataset": {}}, "'dataset' lists files elsewhere"),
])  # fmt: skip
def test_dataset_that_will_not_do(dataset, change, says):
    file = dataset / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UserError, match=f"dataset.json: .*{says}"):
        nnunet.read(dataset)


def test_broken_files(dataset):
    for text, says in (("[{]", "no JSON"), ("{}", "must hold a list"), ("[]", "first entry must be"),
                       ('[{"train": ["c_1"], "val": ["c_1"]}]', "'c_1' trains and validates")):  # fmt: skip
        (dataset / "splits_final.json").write_text(text)
        with pytest.raises(UserError, match=f"splits_final.json: .*{says}"):
            nnunet.read(dataset)
    (dataset / "splits_final.json").unlink()
    (dataset / "cases.csv").write_text("name\nc_1\n")
    with pytest.raises(UserError, match="cases.csv: it must have the columns"):
        nnunet.read(dataset)
    (dataset / "dataset.json").unlink()
    with pytest.raises(UserError, match="dataset.json: the file is missing"):
        nnunet.read(dataset)
