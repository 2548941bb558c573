"""From sources to a store: what goes in, what is left out and told, and what must never get out."""

import csv
import errno
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made import bands, clip, made, still, stills, video
from PIL import Image

from uscl.data import audit, making, merge
from uscl.data import prepare as prepare_module
from uscl.data.fit import fit, fit_label
from uscl.data.store import Store
from uscl.data.summary import describe
from uscl.data.writer import StoreWriter
from uscl.types import UserError

ROOT = Path(__file__).parent.parent


def run(*arguments):
    command = [sys.executable, ROOT / "launch" / "prepare.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT.parent)


def rejected(out):
    head, *rows = csv.reader(open(out / "rejected.csv", encoding="utf-8"))
    assert head == ["path", "reason"]
    return dict(rows)


def test_the_command_from_mixed_sources_to_a_store_and_its_page(tmp_path):
    (tmp_path / "v").mkdir()
    frames = clip()
    video(tmp_path / "v" / "a.mkv", frames)
    (tmp_path / "v" / "broken.mp4").write_bytes(b"not a video")
    (tmp_path / "v" / "notes.txt").write_text("not read")
    stills(tmp_path / "s")
    out = tmp_path / "stores" / "new"
    arguments = [f"--source={tmp_path / 'v'}", f"--source={tmp_path / 's'}", f"--out={out}", "--size=16", "--nobeam", "--workers=1"]
    done = run(*arguments)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert "5 recordings of 5 patients, 10 frames" in done.stdout and "class_1 4, class_2 4" in done.stdout
    store = Store.open(out)
    assert store.classes == {"class_1": [1], "class_2": [2]} and store.cines.frames.tolist() == [6, 1, 1, 1, 1]
    np.testing.assert_array_equal(store.frames[:6], [fit(frame, 16)[0] for frame in frames])
    np.testing.assert_array_equal(store.labels[:], [fit_label(bands(), 16)] * 4)
    np.testing.assert_allclose(store.cines.frame_ms, [40] + [np.nan] * 4)
    told = rejected(out)
    assert set(told) == {"v/broken.mp4", "v/notes.txt"} and "broken.mp4: cannot be read" in told["v/broken.mp4"]
    page = (out / "report.html").read_text()
    assert "5 recordings of 5 patients" in page and "v/broken.mp4" in page and "http" not in page.replace("http://www.w3.org", "")
    before = store.checksum
    again = run(*arguments)
    assert again.returncode == 0 and "5 recordings (0 of them new)" in again.stdout and Store.open(out).checksum == before


def test_check_leaves_nothing_but_the_report(tmp_path):
    source = stills(tmp_path / "s")
    (source / "x.dcm").write_bytes(b"broken")
    done = run(f"--source={source}", f"--out={tmp_path / 'out'}", "--size=16", "--check", "--workers=1")
    assert done.returncode == 0 and "s/x.dcm: x.dcm: " in done.stdout, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.check", "s"]
    assert sorted(p.name for p in (tmp_path / "out.check").iterdir()) == ["rejected.csv", "report.html"]


def test_the_command_tells_mistakes_in_one_line(tmp_path):
    for arguments, told in (
        ([f"--source={tmp_path / 'missing'}", f"--out={tmp_path / 'o'}"], "missing: there is no such file"),
        ([f"--out={tmp_path / 'o'}"], "--source"),
        ([f"--source={tmp_path}"], "--out"),
        ([f"--source={tmp_path}", "--out=.", "--check"], "--out: '.' is a folder that is there already"),
        ([f"--source={tmp_path}", "--size=banana"], "banana"),
        ([f"--source={tmp_path}", "stray"], "stray"),
    ):
        done = run(*arguments)
        assert done.returncode == 2 and told in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("uscl: ")
    assert list(tmp_path.iterdir()) == []


def test_every_and_most_keep_a_part_of_a_cine(tmp_path):
    frames = clip(11, 16, 16)
    video(tmp_path / "5_a.mkv", frames)
    stills(tmp_path)
    cases = ({"every": 3}, [0, 3, 6, 9], 120), ({"every": 2, "most": 3}, [0, 2, 4], 80), ({"most": 99}, range(11), 40)
    for n, (how, kept, ms) in enumerate(cases):
        made(tmp_path, tmp_path / f".out{n}", **how)
        store = Store.open(tmp_path / f".out{n}")
        np.testing.assert_array_equal(store.frames[: len(kept)], frames[list(kept)])
        assert store.cines.patient[0] == "5_a" and store.cines.frames[0] == len(kept) and store.cines.frame_ms[0] == pytest.approx(ms)


def test_numbered_images_are_a_cine_with_labels(tmp_path):
    frames, folder = clip(5, 16, 16), tmp_path / "s"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / "images" / f"a_{t + 8}.png")  # 8 .. 12: not in the order of their letters
    Image.fromarray(np.full((16, 16), 7, np.uint8)).save(folder / "masks" / "a_11.png")
    stills(folder, ["1x", "2x", "3x"], side=(16, 16), values=(0, 7))
    made(folder, tmp_path / "out", sequences=True)
    store = Store.open(tmp_path / "out")
    cine = int(np.flatnonzero(store.cines.frames == 5)[0])
    np.testing.assert_array_equal(store.frames[store.cines.first[cine] : store.cines.first[cine] + 5], frames)
    assert store.labelled.frame[store.labelled.cine == cine].tolist() == [3]


def test_masks_that_will_not_do_cost_the_label_and_are_told(tmp_path):
    source = stills(tmp_path / "s", "123456")
    still(source, "large")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(source / "masks" / "large.png")
    still(source, "plain", mask=False)
    (source / "masks" / "lonely.png").write_bytes((source / "masks" / "1.png").read_bytes())
    (source / "masks" / "2.png").write_bytes(b"broken")
    (source / "images" / "._1.png").write_bytes(b"what macOS leaves beside a file")
    summary = made(source, tmp_path / "out")
    reasons = {Path(name).name: reason for name, reason in summary["table"]}
    assert set(reasons) == {"large.png", "lonely.png", "2.png"} and (summary["rejected"], summary["noted"]) == (1, 2)
    assert reasons["large.png"].startswith("kept, but: kept without its label") and "24 x 32" in reasons["large.png"]
    store = Store.open(tmp_path / "out")
    assert store.cines.patient.tolist() == ["1", "2", "3", "4", "5", "6", "large", "plain"] and len(store.labelled) == 5
    assert summary["per_class"] == {"class_1": 5, "class_2": 5} and summary["labelled"] == 5
    assert "2 kept with a remark" in describe(summary, table="x") and "1 rejected" in describe(summary, table="x")


def test_names_and_values_of_classes_come_from_the_data(tmp_path):
    source = stills(tmp_path / "s", values=(0, 255))
    made(source, tmp_path / "a")
    assert Store.open(tmp_path / "a").classes == {"class_1": [1]} and Store.open(tmp_path / "a").labels[:].max() == 1
    (source / "masks" / "classes.json").write_text('{"head": [255], "neck": [3]}')
    made(source, tmp_path / "b")
    assert Store.open(tmp_path / "b").classes == {"head": [2], "neck": [1]}
    other = stills(tmp_path / "t", ["9"], values=(0, 3))
    (other / "classes.json").write_text('{"neck": [3]}')
    with pytest.raises(UserError, match="one set of them"):
        made([source, other], tmp_path / "c")


def test_levels_that_jpeg_moves_stay_one_class(tmp_path):
    source = stills(tmp_path / "s", values=(0, 1), side=(64, 64))
    for n, mask in enumerate(sorted((source / "masks").iterdir())):
        Image.fromarray(np.asarray(Image.open(mask)) * np.uint8(126 + n)).save(mask.with_suffix(".jpg"), quality=90)
        mask.unlink()
    made(source, tmp_path / "out")
    store = Store.open(tmp_path / "out")
    assert store.classes == {"class_1": [1]} and sorted(np.unique(store.labels[:])) == [0, 1]


def test_folders_train_and_test_are_the_split(tmp_path):
    stills(tmp_path / "s" / "train", [f"a{i}" for i in range(30)])
    stills(tmp_path / "s" / "test", ["t1", "t2"])
    made(tmp_path / "s", tmp_path / "out")
    splits = Store.open(tmp_path / "out").splits
    assert splits["test"] == ["t1", "t2"] and len(splits["validation"]) == 3 and len(splits["train"]) == 27
    still(tmp_path / "s" / "test", "a7_2")
    still(tmp_path / "s" / "train", "a7_1")
    with pytest.raises(UserError, match="patient 'a7' is in"):
        made(tmp_path / "s", tmp_path / "three")
    assert not (tmp_path / "three").exists()


def test_cines_without_any_label_become_a_store(tmp_path):
    (tmp_path / "v").mkdir()
    for name in "abc":
        video(tmp_path / "v" / f"{name}.mkv", clip())
    summary = made(tmp_path / "v", tmp_path / "out")
    store = Store.open(tmp_path / "out")
    assert (store.classes, len(store.labelled), len(store.cines)) == ({}, 0, 3) and "for pretraining, and" in describe(summary, table="x")


def test_a_leak_is_an_error_that_names_both_and_how_to_join_them(tmp_path):
    source = stills(tmp_path / "s", "12345678", side=(64, 64))
    splits = made(source, tmp_path / "first", size=64)["splits"]
    one, other = splits["train"][0], splits["test"][0]
    (source / "images" / f"{one}.png").write_bytes((source / "images" / f"{other}.png").read_bytes())
    with pytest.raises(UserError, match=f"s/images/{min(one, other)}.png and s/images/{max(one, other)}.png") as caught:
        made(source, tmp_path / "out", size=64)
    told = tmp_path / "out.private"
    assert not (tmp_path / "out").exists() and f"--patients={told / 'together.csv'} joins them all" in str(caught.value)
    row = list(csv.DictReader(open(told / "leaks.csv")))[0]
    assert {row["file"], row["other file"]} == {f"s/images/{one}.png", f"s/images/{other}.png"}
    assert made(source, tmp_path / "out", size=64, patients=[told / "together.csv"])["patients"] == 7
    for part, name in (("train", "a"), ("test", "b"), ("test", "c")):
        still(tmp_path / "t" / part, name, side=(64, 64))
    (tmp_path / "t" / "test" / "images" / "b.png").write_bytes((tmp_path / "t" / "train" / "images" / "a.png").read_bytes())
    with pytest.raises(UserError, match="t/train/images/a.png"):
        made([source, tmp_path / "t"], tmp_path / "another", size=64, patients=[told / "together.csv"])


def test_over_the_budget_there_is_no_store_but_a_table(tmp_path):
    source = stills(tmp_path / "s")
    for name in "ab":
        (source / f"{name}.mp4").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"2 of 6 files are rejected, more than --budget=0.2 allows; most often \(2 times\): cannot be"):
        made(source, tmp_path / "out")
    assert not (tmp_path / "out").exists() and set(rejected(tmp_path / "out.private")) == {"s/a.mp4", "s/b.mp4"}
    assert made(source, tmp_path / "out", budget=0.5)["rejected"] == 2


def test_a_full_disk_ends_it_all_and_keeps_what_is_done(tmp_path, monkeypatch):
    source = stills(tmp_path / "s")
    full = audit.fingerprint

    def fingerprint(frame):
        monkeypatch.undo()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(audit, "fingerprint", fingerprint)
    with pytest.raises(UserError, match="no space is left"):
        made(source, tmp_path / "out")
    assert audit.fingerprint is full and not list((tmp_path / "out.private" / "parts").glob("*.partial"))
    assert made(source, tmp_path / "out")["recordings"] == 4


def test_what_cannot_become_a_store(tmp_path):
    source = stills(tmp_path / "s", "12")
    (tmp_path / "empty").mkdir()
    for sources, told in (
        ([source], "each part needs at least one"),
        ([tmp_path / "empty"], "nothing that can be read"),
        ([tmp_path / "gone"], "gone: there is no such"),
        ([f"nosuch:{source}"], "before a colon, known are .*hc18"),
    ):
        with pytest.raises(UserError, match=told):
            made(sources, tmp_path / "o")
    (source / "images.zip").write_bytes(b"PK")
    (source / "dangling.mp4").symlink_to("nowhere")
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(source / "images" / "black.png")
    made(stills(source, "3456789abcdef", side=(40, 40)), tmp_path / "o")
    told = rejected(tmp_path / "o")
    assert "a link to nothing" in told["s/dangling.mp4"] and "an archive; unpack it" in told["s/images.zip"]
    assert "shows nothing" in told["s/images/black.png"]


def test_the_same_file_twice_is_read_once(tmp_path):
    source = stills(tmp_path / "s")
    assert made([source, source / "images"], tmp_path / "out")["recordings"] == 4


def test_no_name_gets_out(tmp_path):
    (tmp_path / "v").mkdir()
    video(tmp_path / "v" / "Doe_Jane_1.mkv", clip())
    stills(tmp_path / "s", ["Roe_1", "Poe_2", "Moe_3"])
    made([tmp_path / "v", tmp_path / "s"], tmp_path / "out", keep_names=False)
    written = b"".join(p.read_bytes() for p in (tmp_path / "out").iterdir())
    assert not any(name in written for name in (b"Doe", b"Roe", b"Poe", b"Moe"))
    assert (tmp_path / "out.private").stat().st_mode & 0o077 == 0
    table = Store.open(tmp_path / "out").cines
    assert all(len(p) == 12 for p in table.patient) and len(set(table.patient)) == 4


@pytest.mark.parametrize(
    ("budget", "kept", "rejected"), [(0.29, 71, 29), (0.57, 43, 57), (0.07, 93, 7), (0.2, 4, 1), (0.0, 1, 0), (1.0, 1, 9)]
)
def test_the_budget_may_be_spent_to_the_last(tmp_path, budget, kept, rejected):
    table = [("x", "x.dcm: bad")] * rejected + [("y", "kept, but: with a remark")] * 50
    prepare_module._within(budget, ["s"], kept, table, tmp_path)
    if budget < 1:
        with pytest.raises(UserError, match=rf"^s: {rejected + 1} of .*\({rejected + 1} times\): bad; all are in {tmp_path}/rejected.csv$"):
            prepare_module._within(budget, ["s"], kept, [*table, ("x", "x.dcm: bad")], tmp_path)
    with pytest.raises(UserError, match="^s, t: holds nothing that can be read; most often"):
        prepare_module._within(1.0, ["s", "t"], 0, [("x", "x.dcm: bad")], tmp_path)


def test_the_disk_is_full_while_the_store_is_written(tmp_path, monkeypatch):
    source = stills(tmp_path / "s")
    for number in (errno.ENOSPC, errno.EDQUOT):
        with monkeypatch.context() as patch:
            patch.setattr(StoreWriter, "add", lambda writer, number=number, **cine: (_ for _ in ()).throw(OSError(number, "full")))
            with pytest.raises(UserError, match=f"^{tmp_path}: no space is left on the disk; free some"):
                made(source, tmp_path / "out")
        with monkeypatch.context() as patch:
            patch.setattr(audit, "fingerprint", lambda frame, number=number: (_ for _ in ()).throw(OSError(number, "full")))
            with pytest.raises(UserError, match="parts: no space is left on the disk; free some"):
                made(source, tmp_path / "another")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["another.private", "out.private", "s"]
    assert made(source, tmp_path / "out")["new"] == 0


def test_files_that_change_or_go_meanwhile_are_told(tmp_path, monkeypatch):
    source, gather, make = stills(tmp_path / "s", "123456789"), prepare_module.gather, making.make

    def listed(*sources, **how):
        listing = gather(*sources, **how)
        (source / "images" / "1.png").unlink()
        return listing

    monkeypatch.setattr(prepare_module, "gather", listed)
    monkeypatch.setattr(making, "make", lambda task, beat: None if task[0].name.endswith("2.png") else make(task, beat))
    summary = made(source, tmp_path / "out", budget=0.5)
    assert dict(summary["table"]) == {
        "s/images/1.png": "cannot be read (No such file or directory)",
        "s/images/2.png": "changed while it was read",
    }
    assert (summary["recordings"], summary["rejected"], summary["noted"]) == (7, 2, 0)


def test_as_many_processes_as_there_is_work_or_as_asked_for(tmp_path, monkeypatch):
    source, asked, run_ = stills(tmp_path / "s"), [], prepare_module.workers.run
    monkeypatch.setattr(prepare_module.os, "cpu_count", lambda: 3)
    monkeypatch.setattr(prepare_module.workers, "run", lambda work, tasks, workers: asked.append(workers) or run_(work, tasks, workers=0))
    for n, processes in enumerate((None, 1, 99, 0)):
        made(source, tmp_path / f"out{n}", processes=processes)
    assert asked == [3, 1, 4, 0]


def test_what_is_linked_by_others_is_joined_too():
    joined = merge._joined([("d", "c"), ("a", "b"), ("f", "e"), ("c", "b"), ("f", "f")])
    assert joined == dict.fromkeys("abcd", "with a") | dict.fromkeys("ef", "with e")


def test_levels_within_four_of_the_first_are_one():
    levels = merge._levels({126: None, 130: None, 131: None, 250: None, "drawn": None, 0x010203: None, 0x010204: None, 254: None})
    assert levels == {126: 126, 130: 126, 131: 131, 250: 250, 254: 250, "drawn": "drawn", 0x010203: 0x010203, 0x010204: 0x010204}


def test_levels_are_only_joined_where_all_masks_are_jpeg(tmp_path):
    source = stills(tmp_path / "s", "123456", values=(0, 126), side=(64, 64))
    for n in "12345":
        mask = source / "masks" / f"{n}.png"
        Image.fromarray(np.asarray(Image.open(mask)) // 126 * np.uint8(126 + 4 * (n > "3"))).save(mask)
    made(source, tmp_path / "png")
    assert Store.open(tmp_path / "png").classes == {"class_1": [1], "class_2": [2]}
    for n in "12345":
        mask = source / "masks" / f"{n}.png"
        Image.open(mask).save(mask.with_suffix(".jpeg"), quality=95)
        mask.unlink()
    made(source, tmp_path / "both")
    assert len(Store.open(tmp_path / "both").classes) == 2
    (source / "masks" / "6.png").unlink()
    made(source, tmp_path / "jpeg")
    assert Store.open(tmp_path / "jpeg").classes == {"class_1": [1]}


def test_where_the_store_cannot_be(tmp_path, monkeypatch):
    source = stills(tmp_path / "s")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "there").mkdir()
    for out, told in (("file/out", "cannot be made"), ("file", "does not tell what it was made from"), ("there", "does not tell")):
        for _ in range(2):  # and the first try holds no lock against the second
            with pytest.raises(UserError, match=told):
                made(source, out)
    assert made("s", "deep/er/out/")["recordings"] == 4 and (tmp_path / "deep" / "er" / "out" / "store.json").is_file()
    assert made(source, tmp_path / "deep" / "er" / "out")["new"] == 0  # by another path they are the same files


def test_the_summary_in_words(tmp_path):
    source = stills(tmp_path / "s", [f"a{n}" for n in range(30)])
    for n in range(22):
        (source / f"{n:02}.zip").write_bytes(b"")
    (source / "x.txt").touch()
    summary = made(source, tmp_path / "out", budget=0.5)
    lines = describe(summary, table="there.csv").splitlines()
    assert lines[0] == "30 recordings of 30 patients, 30 frames" and lines[1] == "30 labelled frames: class_1 30, class_2 30"
    assert lines[2].startswith("the patient of 30 recordings is known by the file's name alone")
    assert lines[3] == "patients: train 21, validation 3, test 6" and lines[4] == "22 rejected, 0 kept with a remark, see there.csv"
    assert lines[5].startswith("  s/00.zip: an archive") and len(lines) == 5 + 20 + 2
    assert lines[-2:] == ["  and 2 more", "1 files without a reader, such as s/x.txt"]
    assert [row[0] for row in csv.reader(open(tmp_path / "out" / "rejected.csv"))][-1] == "s/x.txt"
    assert json.loads((tmp_path / "out" / "store.json").read_text())["origin"] == "prepared from files of .png (30)"
