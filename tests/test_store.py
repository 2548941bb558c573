"""The store: what goes in comes out, a killed run leaves nothing that looks whole, every damage is a sentence."""

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from uscl.data.store import Store
from uscl.data.writer import StoreWriter, recover
from uscl.types import UserError

SIZE, CLASSES = 8, {"organ": [1, 2], "core": [2], "rim": [3]}
LABELLED = {0: (4, 2), 1: (0,), 2: (1, 3), 4: (0, 2), 5: (1,), 6: (0, 1)}  # cine: its labelled frames; cine 3 has none
KILLED = """
import os, signal, sys, numpy as np
from uscl.data.writer import StoreWriter
with StoreWriter(sys.argv[1], size=8, classes={"a": [1]}) as writer:
    for n in range(9):
        writer.add(patient=n, frames=np.zeros((9, 8, 8), np.uint8), labels={0: np.ones((8, 8), np.uint8)})
        writer.stacks['frames.npy'].file.flush()
        if n == 5:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def cines(seed=0, patients=6):
    """Seven cines of 5, 1, 4, 2, 3, 2, 3 frames; the first patient has two, the third (p2) no label."""
    rng = np.random.default_rng(seed)
    for number, length in zip(range(patients + 1), (5, 1, 4, 2, 3, 2, 3), strict=False):
        yield {
            "patient": f"p{max(number - 1, 0)}",
            "frames": rng.integers(0, 256, (length, SIZE, SIZE), dtype=np.uint8),
            "labels": {t: rng.integers(0, 4, (SIZE, SIZE), dtype=np.uint8) for t in LABELLED.get(number, ())} or None,
            "mm_per_pixel": float(rng.uniform(0.1, 0.3)) if number % 3 else None,
            "frame_ms": 1000 / 30 if number else float("nan"),
            "source": f'disk/a "quoted", name {number}.dcm',
            "beam": np.arange(SIZE * SIZE).reshape(SIZE, SIZE) % 3 == number % 3 if number else None,
            "attributes": {"view": f"a, {number}"} | ({"finding": "stone"} if number == 4 else {}),
        }


def write(path, content=None, **options):
    with StoreWriter(path, size=SIZE, classes=CLASSES, origin="test", **options) as writer:
        for cine in cines() if content is None else content:
            writer.add(**cine)
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write(tmp_path_factory.mktemp("written") / "store")


@pytest.fixture
def path(written, tmp_path):
    """A copy to damage: writing waits for the disk."""
    return shutil.copytree(written, tmp_path / "store")


def test_round_trip(path):
    store, given = Store.open(path), list(cines())
    assert (store.size, store.values, store.origin, store.classes, store.truth) == (SIZE, 4, "test", CLASSES, {})
    np.testing.assert_array_equal(store.frames[:], np.concatenate([c["frames"] for c in given]))
    everywhere = np.ones((SIZE, SIZE), bool)
    np.testing.assert_array_equal(store.beams[:], [everywhere if c["beam"] is None else c["beam"] for c in given])
    assert store.attributes == {"view": [f"a, {n}" for n in range(7)], "finding": ["", "", "", "", "stone", "", ""]}
    assert store.cines.source.tolist() == [c["source"] for c in given]
    for column in ("mm_per_pixel", "frame_ms"):  # exactly, as float64
        np.testing.assert_array_equal(store.cines[column], [np.nan if c[column] is None else c[column] for c in given])
    kept = [(n, t, label) for n, c in enumerate(given) for t, label in sorted((c["labels"] or {}).items())]
    assert list(zip(store.labelled.cine, store.labelled.frame, strict=True)) == [(n, t) for n, t, _ in kept]
    np.testing.assert_array_equal(store.labels[:], [label for *_, label in kept])
    for n, cine in enumerate(given):
        assert (store.patient(n), store.length(n)) == (cine["patient"], len(cine["frames"]))
        np.testing.assert_array_equal([store.frame(n, t) for t in range(store.length(n))], cine["frames"])
    for cine, t in ((0, -1), (0, 5), (7, 0), (-1, 0)):  # never a frame of a neighbour
        with pytest.raises(IndexError, match=f"no frame {t} in cine {cine}"):
            store.frame(cine, t)
    store.verify()


def test_the_files_are_what_the_format_says(path):
    """Read with NumPy, csv and json alone."""
    images = {name: np.load(path / name, allow_pickle=False) for name in ("frames.npy", "labels.npy", "beams.npy")}
    texts = {name: (path / name).read_text() for name in ("cines.csv", "labels.csv", "attributes.csv")}
    tables = {name: list(csv.DictReader(text.splitlines())) for name, text in texts.items()}
    info, splits = (json.loads((path / name).read_text()) for name in ("store.json", "splits.json"))
    assert [(a.dtype, a.shape) for a in images.values()] == [("u1", (20, 8, 8)), ("u1", (10, 8, 8)), ("u1", (7, 8, 8))]
    assert ",".join(tables["cines.csv"][0]) == "cine,patient,first,frames,frame_ms,mm_per_pixel,source"
    assert [int(row["first"]) for row in tables["cines.csv"]] == [0, 5, 6, 10, 12, 15, 17]
    assert [" ".join(row.values()) for row in tables["labels.csv"]][:3] == ["0 0 2", "1 0 4", "2 1 0"]
    assert tables["cines.csv"][0]["frame_ms"] == ""
    assert (info["format"], info["version"], info["frames"], info["values"]) == ("uscl-store", 2, 20, 4)
    assert list(info["classes"]) == list(CLASSES) and sorted(splits) == ["test", "train", "validation"]
    digests = {name: hashlib.sha256(array.tobytes()) for name, array in images.items()}
    digests |= {name: hashlib.sha256((path / name).read_bytes()) for name in tables}
    assert info["sha256"] == {name: digest.hexdigest() for name, digest in digests.items()}


def test_same_input_same_bytes(tmp_path):
    one, two, other = (write(tmp_path / n, cines(seed)) for n, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert all(file.read_bytes() == (two / file.name).read_bytes() for file in one.iterdir())
    assert Store.open(one).checksum == Store.open(two).checksum != Store.open(other).checksum


def test_labels_as_a_stack_and_truth(tmp_path):
    content = [c | {"labels": np.full((len(c["frames"]), SIZE, SIZE), n % 4, np.uint8)} for n, c in enumerate(cines())]
    content[0] |= {"labelled_frames": [3], "truth": {"core": {"m": np.float32(0.5)}, "dynamic_range": 60}}
    store = Store.open(write(tmp_path / "store", content))
    assert store.labelled.frame.tolist() == [3, 0, 0, 1, 2, 3, 0, 1, 0, 1, 2, 0, 1, 0, 1, 2]  # of the others all
    assert all((store.labels[row] == cine % 4).all() for row, cine in enumerate(store.labelled.cine))
    assert store.truth == {0: {"core": {"m": 0.5}, "dynamic_range": 60}}


def test_patients_cines_rows(tmp_path):
    given = {"train": ["p0", "p1", "p2", "p3"], "validation": ["p4"], "test": ["p5"]}
    store = Store.open(write(tmp_path / "store", splits=given))
    assert {part: store.patients(part) for part in given} == given
    assert store.cines_of(["p0"]).tolist() == [0, 1] and store.cines_of(["p4", "p1"]).tolist() == [2, 5]
    with pytest.raises(UserError, match="splits: patient 'p5' of cines.csv is in no part"):
        write(tmp_path / "other", splits=given | {"train": ["p0", "p1", "p2"], "test": ["p3"]})
    rows = store.rows_of(["p5", "p0"])
    assert rows.tolist() == [0, 1, 2, 8, 9] and store.patients_of_rows(rows) == ["p0"] * 3 + ["p5"] * 2


def test_a_store_without_labels(tmp_path):
    path = tmp_path / "store"
    with StoreWriter(path, size=SIZE, classes={}) as writer:
        for cine in cines():
            writer.add(**cine | {"labels": None})
    store = Store.open(path)
    assert (store.values, store.classes, len(store.labelled), store.labels.shape) == (1, {}, 0, (0, SIZE, SIZE))
    store.verify()


def test_a_store_takes_the_place_of_another(tmp_path):
    one = write(tmp_path / "store")
    before = Store.open(one).checksum
    with pytest.raises(ZeroDivisionError), StoreWriter(one, size=SIZE, classes=CLASSES, replace=True) as writer:
        writer.add(**next(cines(1)) | {"frames": np.zeros((1 // 0, SIZE, SIZE), np.uint8)})
    assert Store.open(one).checksum == before and os.listdir(tmp_path) == ["store"]
    (one / "notes").mkdir()
    (one / "notes" / "mine.txt").write_text("not of the store")
    (one / "truth.json").write_text("{}")
    write(one, cines(1), replace=True)
    assert Store.open(one).checksum != before and os.listdir(tmp_path) == ["store"]
    assert (one / "notes" / "mine.txt").read_text() == "not of the store" and not (one / "truth.json").exists()
    os.rename(one, tmp_path / "store.replaced")  # killed between the two renames
    recover(one)
    assert Store.open(one).checksum != before
    shutil.copytree(one, tmp_path / "store.replaced")  # killed after them
    (tmp_path / "store.replaced" / "late.txt").touch()
    recover(one)
    assert os.listdir(tmp_path) == ["store"]
    assert (one / "late.txt").exists()
    shutil.copytree(one, tmp_path / "store.old")  # what users call a copy of their own
    recover(write(one, cines(), replace=True))
    assert Store.open(tmp_path / "store.old").checksum != Store.open(one).checksum == before


def test_memory_of_one_cine(tmp_path):
    frames = np.zeros((1000, 16, 16), np.uint8)
    tracemalloc.start()
    with StoreWriter(tmp_path / "store", size=16, classes={"a": [1]}) as writer:
        for number in range(40):
            writer.add(patient=f"p{number}", frames=frames + np.uint8(number), labels={0: frames[0]})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * frames.nbytes and Store.open(tmp_path / "store").frame(39, 999).max() == 39


def test_a_killed_run_leaves_nothing_that_looks_whole(tmp_path):
    path, partial = tmp_path / "store", tmp_path / "store.partial"
    assert subprocess.run([sys.executable, "-c", KILLED, path]).returncode == -signal.SIGKILL
    assert not path.exists() and (partial / "frames.npy").stat().st_size > 0
    with pytest.raises(UserError, match="no such folder.*store.partial is an unfinished one"):
        Store.open(path)
    with pytest.raises(UserError, match="store.partial/store.json: the file is missing"):
        Store.open(partial)
    (partial / "truth.json").write_text("left over")
    assert Store.open(write(path)).truth == {} and os.listdir(tmp_path) == ["store"]
    with pytest.raises(UserError, match="store: this exists already"):
        write(path)


@pytest.mark.parametrize("change,error,says", [
    ({"frames": np.zeros((2, 8, 9), np.uint8)}, ValueError, r"a.dcm: frames.*\(2, 8, 9\)"),
    ({"frames": np.zeros((2, 8, 8), np.float32)}, ValueError, "float32"),
    ({"frames": np.zeros((0, 8, 8), np.uint8)}, ValueError, r"\(0, 8, 8\)"),
    ({"patient": "  "}, UserError, "a.dcm: the patient's name is empty"),
    ({"mm_per_pixel": 0.0}, ValueError, "above 0"),
    ({"frame_ms": -3.0}, ValueError, "above 0"),
    ({"labels": {2: np.zeros((8, 8), np.uint8)}}, ValueError, r"frame 2 \(of 2\)"),
    ({"labels": {-1: np.zeros((8, 8), np.uint8)}}, ValueError, "frame -1"),
    ({"labels": {0: np.zeros((8, 8), int)}}, ValueError, "int64"),
    ({"labels": {1: np.full((8, 8), 4, np.uint8)}}, UserError, "a.dcm: the label of frame 1 holds value 4; "),
    ({"truth": {"m": float("nan")}}, ValueError, "JSON"),
    ({"labels": {1: np.full((8, 8), 3, np.uint8)}}, UserError, "1 of 1 patients have labels"),
])  # fmt: skip
def test_what_the_writer_refuses(tmp_path, change, error, says):
    good = {"patient": "p", "frames": np.zeros((2, 8, 8), np.uint8), "source": "a.dcm"}
    with pytest.raises(error, match=says):
        write(tmp_path / "store", [good | change])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("values", [[[]], [[1], [3]], [[0, 1]], [[2]], [range(1, 257)]])
def test_classes_without_a_gap(tmp_path, values):
    with pytest.raises(UserError, match="classes: the classes are .* 1, 2, ... with no gap"):
        StoreWriter(tmp_path / "store", size=SIZE, classes=dict(enumerate(values)))


def js(**changes):
    return lambda file: file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def swap(old, new):
    return lambda file: file.write_bytes(file.read_bytes().replace(old, new, 1))


def npy(change):
    return lambda file: np.save(file, change(np.load(file)))


def put(content):
    return lambda file: file.write_bytes(content)


def head(file):
    file.write_text(file.read_text().splitlines()[0] + "\n")


DAMAGES = [
    *[(n, os.remove, "the file is missing") for n in ("store.json", "frames.npy", "labels.csv", "splits.json")],
    ("store.json", put(b"{"), "this is no JSON"),
    ("store.json", put(b"[1]"), r"the format is \[1\]; it must be 'uscl-store'"),
    ("store.json", js(format="zarr"), "the format is 'zarr'; it must be 'uscl-store'"),
    ("store.json", js(version=1), "found version 1; supported is 2"),
    ("store.json", js(size=None), "'size' is None; it must be of type int"),
    ("store.json", js(classes=[1]), r"'classes' is \[1\]; it must be of type dict"),
    ("store.json", js(classes={"a": [1, 3]}), "the classes are .* with no gap"),
    ("store.json", js(classes={"a": "1"}), "the classes are .* with no gap"),
    ("store.json", js(values=5), "'values' is 5; .* make 4"),
    ("frames.npy", lambda file: os.truncate(file, 128 + 20 * 64 - 1), "found 1407 bytes; its header promises 1408"),
    ("frames.npy", put(b"hello"), "this is no .npy file"),
    ("frames.npy", npy(lambda x: x[:, 1:]), r"found uint8 \[20, 7, 8\]; .* ask for uint8 \[20, 8, 8\]"),
    ("frames.npy", npy(np.asfortranarray), "found uint8"),
    ("labels.npy", npy(lambda x: x[1:]), r"found uint8 \[9, 8, 8\]; .* ask for uint8 \[10, 8, 8\]"),
    ("labels.npy", npy(lambda x: x.astype(np.int8)), "found int8"),
    ("labels.npy", lambda file: np.save(file, np.array([{}])), "found object"),
    ("labels.npy", npy(lambda x: x + 9 * (np.arange(10) == 3)[:, None, None].astype(np.uint8)),
     r"row 3 \(cine 2, frame 1\) holds the label value [0-9]+; no class owns it; .*'rim': \[3\]"),
    ("cines.csv", swap(b"patient", b"person"), "its first line is 'cine,person.*must be 'cine,patient"),
    ("cines.csv", put(b""), "its first line is ''"),
    ("cines.csv", put(b"\xff\xfe"), "this is no csv file in UTF-8"),
    ("cines.csv", swap(b"1,p0,5,", b"1,p0\n5,"), "line 3: found 2 cells; there must be 7"),
    ("cines.csv", head, "its cines have 0 frames; store.json says 20"),
    ("cines.csv", swap(b"6,p5,17,3,", b"6,p5,17,4,"), "its cines have 21 frames; store.json says 20"),
    ("cines.csv", swap(b"1,p0,5,", b"2,p0,5,"), r"line 3: found \(2, .*follow one another"),
    ("cines.csv", swap(b"0,p0,0,", b"0,p0,1,"), "line 2: found .*follow one another"),
    ("cines.csv", swap(b"1,p0,5,1,", b"1,p0,5,0,"), "line 3: found .*follow one another"),
    ("cines.csv", swap(b"0,p0,0,", b"0,p0,one,"), "line 2, first: found 'one'; allowed is a whole number from 0"),
    ("cines.csv", swap(b"0,p0,0,", b"0,p0,-1,"), "line 2, first: found '-1'; allowed is a whole number from 0"),
    ("cines.csv", swap(b",33.3", b",-33.3"), "line 3, frame_ms: found '-33.3.*above 0"),
    ("cines.csv", swap(b",33.3", b",fast"), "line 3, frame_ms: found 'fast"),
    ("attributes.csv", swap(b"cine,view", b"view,cine"), "its first line is 'view,cine,finding'; it must be 'cine' and"),
    ("attributes.csv", swap(b"view,finding", b"view,view"), "its first line is 'cine,view,view'; it must be"),
    ("attributes.csv", swap(b"\n3,", b"\n4,"), "line 5: found '4,.*the first 3"),
    ("attributes.csv", swap(b",stone", b""), "line 6: found .*must be 3 cells"),
    ("attributes.csv", head, "0 lines; cines.csv has 7"),
    ("beams.npy", npy(lambda x: x[1:]), r"found uint8 \[6, 8, 8\]; .* ask for uint8 \[7, 8, 8\]"),
    ("labels.csv", swap(b"\n1,0", b"\n2,0"), "line 3: found .*rows count from 0"),
    ("labels.csv", swap(b"\n9,6,", b"\n9,7,"), "line 11: found .*each a frame of a cine"),
    ("labels.csv", swap(b"\n0,0,2", b"\n0,0,5"), "line 2: found .*each a frame of a cine"),
    ("labels.csv", swap(b"\n1,0,4", b"\n1,0,2"), "line 3: found .*none twice"),
    ("splits.json", js(train=["p0", "p1"], validation=["p2", "p3"], test=["p4", "p5", "p0"]), "patient 'p0' is in"),
    ("splits.json", js(train=["p0", "p1", "p3", "p4"], validation=["p5"], test=["p2"]), "'test' has no patient with"),
    ("splits.json", put(b'{"train": ['), "this is no JSON"),
]  # fmt: skip


@pytest.mark.parametrize("name,damage,says", DAMAGES, ids=[f"{name} {says:.40}" for name, _, says in DAMAGES])
def test_every_damage_is_a_sentence(path, name, damage, says):
    damage(path / name)
    with pytest.raises(UserError, match=f"store/{name}[:,] {says}") as caught:
        Store.open(path)
    assert "\n" not in str(caught.value)


def test_missing_folder(tmp_path):
    with pytest.raises(UserError, match="nowhere: there is no such folder; launch/prepare.py makes a store$"):
        Store.open(tmp_path / "nowhere")


@pytest.mark.parametrize("name,damage", [
    ("frames.npy", npy(lambda x: x ^ (x[:1] == x).all((1, 2))[:, None, None])),
    ("labels.npy", npy(lambda x: x[::-1])),
    ("cines.csv", swap(b"quoted", b"Quoted")),
    ("labels.csv", swap(b",4,0\n", b",4,1\n")),
    ("beams.npy", npy(lambda x: 1 - x)),
    ("attributes.csv", swap(b"stone", b"cyst")),
])  # fmt: skip
def test_verify_names_the_file_that_changed(path, name, damage):
    damage(path / name)
    store = Store.open(path)  # as good as before to every other check
    with pytest.raises(UserError, match=f"store/{name}: found sha256 [0-9a-f]+; store.json says [0-9a-f]+"):
        store.verify()


def test_no_jax_in_this_room():
    code = "import sys, uscl.data.loader, uscl.data.splits, uscl.data.store; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
