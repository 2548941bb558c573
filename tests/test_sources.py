"""What is found below the sources, and marks on their way into the store: drawn, filled, cropped with the picture."""

import csv
import json

import numpy as np
import pytest
from dicoms import region, write_dicom
from made import RNG, made, picture, stills, video
from PIL import Image

from uscl.data import recordings
from uscl.data.fit import fit, fit_label
from uscl.data.sources import gather
from uscl.data.store import Store
from uscl.types import UserError


def plain(folder, names, side=(40, 40)):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(picture(*side)).save(folder / f"{name}.png")
    return folder


def square(name, left, top, right, bottom):
    return {
        "shape_attributes": {"name": "polygon", "all_points_x": [left, right, right, left], "all_points_y": [top, top, bottom, bottom]},
        "region_attributes": {"Anatomy": name},
    }


def via(path, drawn, **facts):
    images = {name: {"filename": name, "size": 1, "regions": regions, "file_attributes": facts} for name, regions in drawn.items()}
    path.write_text(json.dumps(images))
    return path


def test_drawn_classes_that_contain_others_keep_their_meaning(tmp_path):
    source = plain(tmp_path / "s", "12345")
    whole, inner, other = square("capsule", 5, 5, 35, 35), square("cortex", 10, 10, 20, 20), square("stone", 36, 0, 40, 4)
    drawn = {f"{n}.png": [inner, whole, other] for n in "1234"} | {"gone.png": [whole], "5.png": [square("capsule", 5, 5, 90, 35)]}
    table = via(tmp_path / "drawn.json", drawn, Quality="Good", Comments="Jane Doe")
    summary = made(source, tmp_path / "out", size=40, annotations=table, keep=["Quality"], budget=0.5)
    store = Store.open(tmp_path / "out")
    assert store.classes == {"capsule": [1, 2], "cortex": [2], "stone": [3]} and summary["labelled"] == 4
    truth = np.zeros((40, 40), np.uint8)
    truth[5:35, 5:35], truth[10:20, 10:20], truth[0:4, 36:40] = 1, 2, 3
    np.testing.assert_array_equal(store.labels[:], [truth] * 4)
    assert store.attributes == {"Quality": ["Good"] * 5}  # and not the comments, which were not asked for
    told = dict(csv.reader(open(tmp_path / "out" / "rejected.csv")))
    assert "no such image" in told["gone.png"] and "s/5.png" in told and "a point at x 90, y 5" in told["s/5.png"]


def test_classes_named_by_the_user_are_unions_of_drawn_names(tmp_path):
    source = plain(tmp_path / "s", "1234")
    table = via(tmp_path / "drawn.json", {f"{n}.png": [square("a", 0, 0, 20, 20), square("b", 20, 20, 40, 40)] for n in "1234"})
    (tmp_path / "classes.json").write_text('{"both": ["a", "b"], "one": ["a"]}')
    made(source, tmp_path / "out", annotations=table)
    assert Store.open(tmp_path / "out").classes == {"both": [1, 2], "one": [1]}


def test_a_drawing_for_two_images_of_one_name_is_nobodys(tmp_path):
    source = plain(tmp_path / "s" / "a", ["1", "2", "3", "4"])
    plain(tmp_path / "s" / "b", "1")
    drawn = {f"{n}.png": [square("x", 0, 0, 9, 9)] for n in ("1", "2", "3", "b/1", "4")}
    found = gather([source.parent], marks=via(tmp_path / "drawn.json", drawn))
    assert [name for name, _ in found.rejected] == ["1.png"] and "2 images have this name" in found.rejected[0][1]
    assert [item.name for item in found.items if item.marks] == ["s/a/2.png", "s/a/3.png", "s/a/4.png", "s/b/1.png"]


def test_annotations_that_are_a_folder_of_masks(tmp_path):
    source = stills(tmp_path / "s")
    (source / "masks").rename(source / "drawn")
    (source / "drawn" / "1.png").rename(source / "drawn" / "1_mask.png")
    summary = made(source, tmp_path / "out", annotations=source / "drawn")
    assert summary["labelled"] == summary["recordings"] == 4
    with pytest.raises(UserError, match="gone: there is no such file or folder"):
        made(source, tmp_path / "two", annotations=tmp_path / "gone")


def test_outlines_are_filled(tmp_path):
    source = plain(tmp_path / "s" / "images", "1234")
    (tmp_path / "s" / "masks").mkdir()
    curve = np.zeros((40, 40), np.uint8)
    curve[10:30, [10, 29]] = curve[[10, 29], 10:30] = 255
    for n in "1234":
        Image.fromarray(curve).save(tmp_path / "s" / "masks" / f"{n}.png")
    made(source.parent, tmp_path / "out", size=40, outlines=True)
    filled = np.zeros((40, 40), np.uint8)
    filled[10:30, 10:30] = 1
    np.testing.assert_array_equal(Store.open(tmp_path / "out").labels[:], [filled] * 4)


def test_a_label_follows_the_crop_to_the_header_s_region_and_so_does_the_scale(tmp_path):
    frames = np.stack([np.pad(picture(60, 80), 20) for _ in range(3)])
    (tmp_path / "s").mkdir()
    write_dicom(tmp_path / "s" / "a.dcm", frames, PatientID="MRN-77", PatientName="Doe^Jane", FrameTime=40,
                SequenceOfUltrasoundRegions=[region(20, 20, 99, 79, delta=(0.05, 0.05))])  # fmt: skip
    stills(tmp_path / "s", "12345")
    table = via(tmp_path / "drawn.json", {"a.dcm": [square("x", 30, 30, 60, 50)]})
    made(tmp_path / "s", tmp_path / "out", size=40, annotations=table, keep_names=False)
    store = Store.open(tmp_path / "out")
    np.testing.assert_array_equal(store.frames[:3], [fit(frame[20:80, 20:100], 40)[0] for frame in frames])
    truth = np.zeros((100, 120), np.uint8)
    truth[30:50, 30:60] = 1
    assert store.labelled.cine.tolist() == [0] + [1, 2, 3, 4, 5][: len(store.labelled) - 1]
    row = store.labels[0]
    np.testing.assert_array_equal(row > 0, fit_label(truth[20:80, 20:100], 40) > 0)
    assert store.cines.mm_per_pixel[0] == pytest.approx(0.5 * 2) and store.cines.frame_ms[0] == 40
    written = b"".join(p.read_bytes() for p in (tmp_path / "out").iterdir() if p.suffix != ".npy")
    written += (tmp_path / "out.private" / "prepared.jsonl").read_bytes()
    assert not any(secret in written for secret in (b"MRN-77", b"Doe", b"Jane"))


def test_a_label_outside_the_beam_proves_the_beam_wrong(tmp_path):
    for name in "abcd":
        frames = np.zeros((8, 64, 96), np.uint8)
        frames[:, 8:56, 8:56] = RNG.integers(40, 250, (8, 48, 48), np.uint8)
        frames[:, 20:40, 70:90] = 90  # still, so it is not in the beam
        video(tmp_path / f"{name}.mkv", frames)
    kept = made(tmp_path, tmp_path / ".one", size=96, beam=True)
    assert kept["labelled"] == 0 and Store.open(tmp_path / ".one").beams[0].all()  # cropped to a square of its own
    table = via(tmp_path / "drawn.json", {f"{name}.mkv": [square("x", 72, 22, 88, 38)] for name in "abcd"})
    made(tmp_path, tmp_path / ".two", size=96, beam=True, annotations=table)
    store = Store.open(tmp_path / ".two")
    assert store.beams[0].mean() == pytest.approx(64 / 96, abs=0.01) and (store.labels[0] > 0).sum() == 16 * 16


def test_real_stills_and_a_real_cine(tmp_path, data_root):
    sources = [data_root / "usgra_seg", data_root / "dicom" / "examples_ybr_color.dcm"]
    if not all(s.exists() for s in sources):
        pytest.skip(f"{sources} are not all there")
    who = tmp_path / "who.csv"  # pictures that stand twice in the set, as the audit tells
    pairs = [("0012", "0073"), ("0028", "0120"), ("0029", "0125"), ("0036", "0146"), ("0037", "0147")]
    who.write_text("file,patient\n" + "".join(f"train/images/{name}.png,{pair[0]}\n" for pair in pairs for name in pair))
    summary = made(sources, tmp_path / "out", size=48, patients=[who], beam=True)
    store = Store.open(tmp_path / "out")
    assert (summary["recordings"], summary["labelled"], summary["rejected"]) == (121, 120, 0)
    assert summary["per_class"] == {"class_1": 120, "class_2": 103}
    assert sorted(store.splits["test"]) == sorted(p.stem for p in (data_root / "usgra_seg/test/images").iterdir())
    assert store.cines.frames[-1] == 30 and store.cines.frame_ms[-1] == pytest.approx(33.333)
    assert json.loads((tmp_path / "out" / "store.json").read_text())["origin"] == "prepared from files of .dcm (1), .png (120)"
    with pytest.raises(UserError, match=r"show the same.*0012.png"):
        made(sources[0], tmp_path / "another", size=48)


def test_the_public_sets_at_hand_become_stores(tmp_path, data_root):
    made([f"hc18:{data_root / 'hc18'}"], tmp_path / "hc18", size=128)
    store = Store.open(tmp_path / "hc18")
    assert store.classes == {"head": [1]} and len(store.labelled) == len(store.cines) == 120
    assert np.isfinite(store.cines.mm_per_pixel).all() and len(store.attributes["head_circumference_mm"]) == 120
    circumference = np.array([float(x) for x in store.attributes["head_circumference_mm"]])
    area = np.array([(store.labels[row] > 0).sum() for row in range(120)]) * store.cines.mm_per_pixel**2
    ratio = circumference / (2 * np.sqrt(np.pi * area))  # 1 for a circle, 1.006 for an ellipse with axes of 4 to 5
    assert 0.98 < ratio.min() and ratio.max() < 1.04 and abs(np.median(ratio) - 1) < 0.01
    image = next(recordings.read(data_root / "hc18" / "images" / store.cines.source[0].rpartition("/")[2]).frames)
    assert image.shape == (540, 800)


