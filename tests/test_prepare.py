"""The prepare command: tiny sources made here, and the store that comes out of them."""

import csv
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_readers import GRAY, write_dicom, write_video

from uscl.data import recordings
from uscl.data.fit import fit, fit_label
from uscl.data.patients import deal
from uscl.data.prepare import describe, prepare
from uscl.data.store import Store
from uscl.types import UserError

ROOT = Path(__file__).parent.parent
RNG = np.random.default_rng(1)


def write_still(folder, name, *, values=(0, 1, 2), mask=True, side=(24, 32)):
    """An image with a mask of vertical bands, one a value."""
    for place in ("images", "masks"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, side, np.uint8)).save(folder / "images" / f"{name}.png")
    if mask:
        bands = np.repeat(np.uint8(values), -(-side[1] // len(values)))[: side[1]]
        Image.fromarray(np.tile(bands, (side[0], 1))).save(folder / "masks" / f"{name}.png")


def stills(folder, names="1234", **how):
    for name in names:
        write_still(folder, name, **how)
    return folder


def run(*arguments):
    command = [sys.executable, ROOT / "launch" / "prepare.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT.parent)


def test_the_command_from_mixed_sources_to_a_store(tmp_path):
    (tmp_path / "v").mkdir()
    clip = RNG.integers(0, 256, (6, 20, 40), np.uint8)
    write_video(tmp_path / "v" / "a.mkv", clip)
    write_dicom(tmp_path / "v" / "b.dcm", GRAY, PatientID="MRN-77", PatientName="Doe^Jane", FrameTime=40)
    (tmp_path / "v" / "broken.mp4").write_bytes(b"not a video")
    (tmp_path / "v" / "notes.txt").write_text("not read")
    stills(tmp_path / "s")
    out = tmp_path / "stores" / "new"
    done = run(f"--source={tmp_path / 'v'}", f"--source={tmp_path / 's'}", f"--out={out}", "--size=16")
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert "6 recordings of 6 patients, 13 frames" in done.stdout and "class_1 4, class_2 4" in done.stdout
    store = Store.open(out)
    assert store.classes == {"class_1": [1], "class_2": [2]} and store.values == 3
    assert store.cines.frames.tolist() == [6, 3, 1, 1, 1, 1] and store.cines.patient.tolist()[:1] == ["a"]
    np.testing.assert_array_equal(store.frames[:6], [fit(frame, 16)[0] for frame in clip])
    np.testing.assert_array_equal(store.frames[6:9], [fit(frame, 16)[0] for frame in GRAY])
    np.testing.assert_allclose(store.cines.frame_ms, [40, 40] + [np.nan] * 4)
    bands = np.tile(np.repeat(np.uint8([0, 1, 2]), 11)[:32], (24, 1))
    np.testing.assert_array_equal(store.labels, [fit_label(bands, 16)] * 4)
    rows = list(csv.reader(open(out / "rejected.csv")))
    assert rows[0] == ["path", "reason"] and [r[0] for r in rows[1:]] == ["v/broken.mp4"] and "broken.mp4: cannot be read" in rows[1][1]
    written = b"".join(p.read_bytes() for p in out.iterdir()) + (done.stdout + done.stderr).encode()
    for secret in (b"MRN-77", b"Doe", b"Jane"):
        assert secret not in written
    again = run(f"--source={tmp_path / 's'}", f"--out={out}")
    assert again.returncode == 2 and "exists already" in again.stderr and again.stderr.count("\n") == 1


def test_the_command_tells_mistakes_in_one_line(tmp_path):
    for arguments, told in (
        ([f"--source={tmp_path / 'missing'}", f"--out={tmp_path / 'o'}"], "missing: there is no such file"),
        ([f"--out={tmp_path / 'o'}"], "--source"),
        ([f"--source={tmp_path}", "--size=banana"], "banana"),
        ([f"--source={tmp_path}", "stray"], "stray"),
    ):
        done = run(*arguments)
        assert done.returncode == 2 and told in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("uscl: ")
    assert run("--help").returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("happens", "status", "told"),
    [
        ("raise UserError('one\\ntwo')", 2, "uscl: one two\n"),
        ("raise KeyboardInterrupt", 130, ""),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)", 143, ""),
        ("pass", 0, ""),
        ("1 / 0", 1, None),
    ],
)
def test_how_a_command_ends(happens, status, told):
    program = f"""
import os, signal, time
from uscl.command import run_command
from uscl.types import UserError
def main(argv):
    {happens}
run_command(main)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    assert done.stderr == told if told is not None else "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--config.sede=3"], "uscl: config.sede: there is no such key; did you mean config.seed?\n"),
        (["--config.seed", "one"], "--config.seed"),
        (["--config.nothing.like.it=3"], "config.nothing.like.it"),
        (["--config=configs/nope.py"], "there is no file configs/nope.py"),
        (["--config=configs/speckle.py:huge"], "'huge'"),
    ],
)
def test_a_configuration_that_is_not_there(arguments, told):
    program = """
from ml_collections import config_flags
from uscl.command import run_command
CONFIG = config_flags.DEFINE_config_file("config", None)
run_command(lambda argv: print(CONFIG.value.seed))
"""
    command = [sys.executable, "-c", program, "--config=configs/speckle.py", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 2 and told in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_patients_are_named_by_table_then_hash_then_stem(tmp_path):
    source = tmp_path / "s"
    stills(source, ["12_left", "12_right", "Cov_a_1", "Cov_b_1", "7"])
    for name, person in (("x", "MRN-1"), ("y", "MRN-1"), ("z", "MRN-2"), ("none", "")):
        write_dicom(source / f"{name}.dcm", GRAY, PatientID=person)
    (source / "who.csv").write_text("\ufefffile; Patient \nCov_b_1.png;ann\nimages/7;x\ns/images/7.png;bob\nz;carl\n")
    summary = prepare([source], tmp_path / "out", patients=source / "who.csv", size=16, quiet=True)
    store = Store.open(tmp_path / "out")
    salt = (tmp_path / "out" / "salt").read_text().strip()
    assert (tmp_path / "out" / "salt").stat().st_mode & 0o077 == 0
    hashed = [hashlib.sha256(f"{salt}/{name}".encode()).hexdigest()[:12] for name in ("none", "MRN-1", "MRN-1")]
    assert store.cines.patient.tolist() == ["12", "12", "bob", "Cov_a_1", "ann", *hashed, "carl"]
    shown = store.cines.source.tolist()
    assert shown[0] == "s/images/12_left.png" and all("dcm" not in name and name.startswith("dicom ") for name in shown[5:])
    assert summary["guessed"] == 4 and "4 recordings is their file's name" in describe(summary)
    prepare([source], tmp_path / "two", size=16, quiet=True)
    assert not set(hashed) & set(Store.open(tmp_path / "two").cines.patient.tolist())


@pytest.mark.parametrize(
    ("text", "told"), [("name,patient\na,b\n", "columns"), ("file,patient\n1,b\n1,c\n", "line 3"), ("file,patient\nz,b\n", "none of its 1")]
)
def test_a_table_of_patients_that_will_not_do(tmp_path, text, told):
    (tmp_path / "who.csv").write_text(text)
    with pytest.raises(UserError, match=told):
        prepare([stills(tmp_path / "s")], tmp_path / "out", patients=tmp_path / "who.csv", quiet=True)
    assert not (tmp_path / "out").exists()


def test_folders_train_and_test_are_the_split(tmp_path):
    train = [f"a{i}" for i in range(30)]
    stills(tmp_path / "s" / "train", train)
    stills(tmp_path / "s" / "test", ["t1", "t2"])
    write_dicom(tmp_path / "s" / "loose.dcm", GRAY)
    prepare([tmp_path / "s"], tmp_path / "out", size=16, quiet=True)
    splits = Store.open(tmp_path / "out").splits
    assert splits["test"] == ["t1", "t2"] and len(splits["validation"]) == 3 and len(splits["train"]) == 28
    assert set(splits["validation"]) < set(train)
    stills(tmp_path / "s" / "val", ["v"])
    prepare([tmp_path / "s"], tmp_path / "two", size=16, quiet=True)
    assert Store.open(tmp_path / "two").splits["validation"] == ["v"]
    write_still(tmp_path / "s" / "test", "a7_2")
    write_still(tmp_path / "s" / "train", "a7_1")
    with pytest.raises(UserError, match="patient 'a7' is in"):
        prepare([tmp_path / "s"], tmp_path / "three", size=16, quiet=True)
    assert not (tmp_path / "three").exists() and not list(tmp_path.glob("*.partial"))


def test_a_folder_test_alone_is_no_split_and_a_loose_file_follows_its_patient(tmp_path):
    stills(tmp_path / "s" / "test", "789")
    prepare([tmp_path / "s"], tmp_path / "one", size=16, quiet=True)
    assert all(Store.open(tmp_path / "one").splits.values())
    stills(tmp_path / "s" / "train", "123456")
    stills(tmp_path / "z", ["7_more"])
    prepare([tmp_path / "s", tmp_path / "z"], tmp_path / "two", size=16, quiet=True)
    assert Store.open(tmp_path / "two").splits["test"] == ["7", "8", "9"]


def test_the_split_depends_on_the_seed_and_the_order_not_on_names():
    def places(names, seed):
        splits = deal(dict.fromkeys(names), set(names[:12]), seed=seed)
        assert sorted(sum(splits.values(), [])) == sorted(names)
        return {part: sorted(map(names.index, chosen)) for part, chosen in splits.items()}

    names, others = [f"a{i}" for i in range(20)], [f"{37 * i % 20}b" for i in range(20)]
    assert places(names, 0) == places(others, 0) != places(names, 1)


def test_every_and_most_keep_a_part_of_a_cine(tmp_path):
    clip = RNG.integers(0, 256, (11, 16, 16), np.uint8)
    write_video(tmp_path / "5_a.mkv", clip, rate=25)
    stills(tmp_path)
    cases = ({"every": 3}, [0, 3, 6, 9], 120), ({"every": 2, "most": 3}, [0, 2, 4], 80), ({"most": 99}, range(11), 40)
    for n, (how, kept, ms) in enumerate(cases):
        prepare([tmp_path], tmp_path / f".out{n}", size=16, quiet=True, **how)
        store = Store.open(tmp_path / f".out{n}")
        np.testing.assert_array_equal(store.frames[: len(kept)], clip[list(kept)])
        assert store.cines.patient[0] == "5_a" and store.cines.frames[0] == len(kept) and store.cines.frame_ms[0] == pytest.approx(ms)


def test_a_cine_that_breaks_off_keeps_what_came_before(tmp_path, monkeypatch):
    stills(tmp_path)
    write_video(tmp_path / "a.mkv", RNG.integers(0, 256, (5, 16, 16), np.uint8))
    from uscl.data import video

    def breaks(path):
        yield from (np.full((16, 16), i, np.uint8) for i in range(2))
        raise ValueError("Doe^Jane")

    monkeypatch.setattr(video, "_frames", breaks)
    summary = prepare([tmp_path], tmp_path / ".out", size=16, quiet=True)
    assert summary["cut"] == 1 and summary["rejected"] == 0 and Store.open(tmp_path / ".out").cines.frames[0] == 2
    told = (tmp_path / ".out" / "rejected.csv").read_text()
    assert "a.mkv,only its first 2 frames are kept" in told and "Doe" not in told


def test_masks_that_will_not_do_are_left_out_and_told(tmp_path):
    source = stills(tmp_path / "s")
    write_still(source, "large")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(source / "masks" / "large.png")
    write_still(source, "smooth", side=(24, 128), values=range(128))
    write_still(source, "plain", mask=False)
    (source / "masks" / "lonely.png").write_bytes((source / "masks" / "1.png").read_bytes())
    (source / "masks" / "2.png").write_bytes(b"broken")
    (source / "images" / "._1.png").write_bytes(b"what macOS leaves beside a file")
    summary = prepare([source], tmp_path / "out", size=16, quiet=True)
    reasons = {Path(name).name: reason for name, reason in summary["table"]}
    assert set(reasons) == {"large.png", "smooth.png", "lonely.png", "2.png"} and summary["rejected"] == 4
    assert "24 x 32" in reasons["large.png"] and "128 distinct" in reasons["smooth.png"]
    store = Store.open(tmp_path / "out")
    assert store.cines.patient.tolist() == ["1", "3", "4", "plain"] and len(store.labelled) == 3
    assert summary["per_class"] == {"class_1": 3, "class_2": 3} and summary["labelled"] == 3


def test_names_and_values_of_classes_come_from_the_data(tmp_path):
    source = stills(tmp_path / "s", values=(0, 255))
    prepare([source], tmp_path / "a", size=16, quiet=True)
    assert Store.open(tmp_path / "a").classes == {"class_1": [1]} and Store.open(tmp_path / "a").labels.max() == 1
    (source / "masks" / "classes.json").write_text('{"head": [255], "neck": [3]}')
    prepare([source], tmp_path / "b", size=16, quiet=True)
    assert Store.open(tmp_path / "b").classes == {"head": [2], "neck": [1]}
    other = stills(tmp_path / "t", ["9"], values=(0, 3))
    (other / "classes.json").write_text('{"neck": [3]}')
    with pytest.raises(UserError, match="one set of them"):
        prepare([source, other], tmp_path / "c", size=16, quiet=True)


def test_annotations_in_another_folder(tmp_path):
    source = stills(tmp_path / "s")
    (source / "masks").rename(tmp_path / "s" / "drawn")
    (source / "drawn" / "1.png").rename(source / "drawn" / "1_mask.png")
    summary = prepare([source], tmp_path / "out", annotations=source / "drawn", size=16, quiet=True)
    assert summary["labelled"] == summary["recordings"] == 4
    with pytest.raises(UserError, match="folder of masks"):
        prepare([source], tmp_path / "two", annotations=source / "images" / "1.png", quiet=True)


def test_check_reads_all_and_writes_nothing(tmp_path):
    source = stills(tmp_path / "s", "12")
    (source / "x.dcm").write_bytes(b"broken")
    summary = prepare([source], None, check=True, quiet=True)
    assert (summary["recordings"], summary["labelled"], summary["rejected"]) == (2, 2, 1)
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    assert "  s/x.dcm: x.dcm: cannot be read" in describe(summary) and "more" not in describe(summary)
    assert describe(summary | {"table": [("a", "b")] * 25}).endswith("and 5 more")


def test_what_cannot_become_a_store(tmp_path):
    source = stills(tmp_path / "s", "12")
    for sources, out, told in (
        ([source], None, "--out"),
        ([source], source, "exists already"),
        ([tmp_path / "gone"], tmp_path / "o", "gone"),
        ([source], tmp_path / "o", "at least 3"),
        ([source / "images"], tmp_path / "o", "no image with a mask"),
    ):
        with pytest.raises(UserError, match=told):
            prepare(sources, out, quiet=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="nothing that can be read"):
        prepare([tmp_path / "empty"], None, check=True, quiet=True)
    assert not (tmp_path / "o").exists()


def test_the_same_file_twice_is_read_once(tmp_path):
    source = stills(tmp_path / "s")
    assert prepare([source, source / "images"], None, check=True, quiet=True)["recordings"] == 4


def test_real_stills_and_a_real_cine(tmp_path, data_root):
    sources = [data_root / "usgra_seg", data_root / "dicom" / "examples_ybr_color.dcm"]
    if not all(s.exists() for s in sources):
        pytest.skip(f"{sources} are not all there")
    summary = prepare(sources, tmp_path / "out", size=48, quiet=True)
    store = Store.open(tmp_path / "out")
    assert (summary["recordings"], summary["labelled"], summary["rejected"]) == (121, 120, 0)
    assert summary["per_class"] == {"class_1": 120, "class_2": 103}
    assert sorted(store.splits["test"]) == sorted(p.stem for p in (data_root / "usgra_seg/test/images").iterdir())
    assert store.cines.frames[-1] == 30 and store.cines.frame_ms[-1] == pytest.approx(33.333)
    assert json.loads((tmp_path / "out" / "store.json").read_text())["origin"] == "prepared from files of .dcm (1), .png (120)"
    row = store.labelled[0]
    cine = store.cines[row.cine]
    image = recordings.read(data_root / cine.source)
    np.testing.assert_array_equal(store.frames[cine.first], fit(next(image.frames), 48)[0])
