"""What is found below the sources, and marks on their way into the store: drawn, filled, cropped with the picture."""

import csv
import hashlib
import json
import os
import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from dicoms import region, write_dicom
from made import RNG, clip, made, picture, stills, video
from PIL import Image

from uscl.data import making, parts, recordings
from uscl.data import picture as picture_of
from uscl.data.fit import fit, fit_label
from uscl.data.items import Drawing, Item, Mask, Shape
from uscl.data.parts import Settings
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


def one(folder, item, *, every=1, most=None, beam=True, size=40):
    """(facts, frames, labels, beam) of a part made in this process."""
    making.make((item, Settings(size=size, every=every, most=most, beam=beam, salt="s"), folder), lambda: None)
    part = parts.load(folder)
    return part.facts, part.frames[:], part.labels[:], part.beam[0]


def ring(left, top, right, bottom, name="x"):
    return Shape(name, (np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float),))


def image(path, x):
    Image.fromarray(x).save(path)
    return path


@pytest.mark.parametrize(("outside", "lost"), [(0, False), (1, False), (2, True), (200, True)])
def test_a_beam_may_cut_off_one_labelled_pixel_in_two_hundred(tmp_path, monkeypatch, outside, lost):
    x, beam = picture(40, 40), np.ones((30, 40), bool)
    beam[0, :20], beam[1, :20] = False, False
    monkeypatch.setattr(picture_of.Watch, "picture", lambda watch, region: picture_of.Picture((slice(0, 30), slice(0, 40)), beam, "motion"))
    mask = np.zeros((40, 40), np.uint8)
    mask[5:10, :], mask[0, :outside] = 7, 7
    mask[5, 40 - outside :] = 0 if outside else 7
    if outside == 200:
        mask[:10], mask[32:37] = 0, 7  # below the box, all of it
    item = Item((image(tmp_path / "a.png", x),), "s/a.png", marks=(Mask((image(tmp_path / "m.png", mask),)),))
    facts, frames, labels, kept = one(tmp_path / "part", item)
    assert (mask > 0).sum() == 200 and (facts["found"] == "whole") == lost and facts["notes"] == []
    if lost:
        assert (frames[0] == x).all() and (labels[0] == mask // 7).all() and kept.all()
        return
    shown, label = x[:30] * beam, mask[:30] // 7
    np.testing.assert_array_equal(frames[0], fit(shown, 40)[0])  # nothing is left of what is outside the beam
    np.testing.assert_array_equal(labels[0], fit_label(label, 40))
    np.testing.assert_array_equal(kept, fit_label(beam.astype(np.uint8), 40))


def test_a_label_outside_the_header_s_region_brings_all_of_the_image_back(tmp_path):
    frames = np.stack([picture(100, 120) for _ in range(3)])
    write_dicom(tmp_path / "a.dcm", frames, SequenceOfUltrasoundRegions=[region(20, 20, 99, 79, delta=(0.05, 0.05))])
    inside, outside = Drawing((ring(30, 30, 40, 40),), 0), Drawing((ring(2, 2, 12, 12),), 2)
    between = Drawing((ring(30, 30, 40, 40),), 1)
    item = Item((tmp_path / "a.dcm",), "s/a.dcm", marks=(inside, between, outside))
    for beam in (True, False):
        facts, stored, labels, kept = one(tmp_path / f"part{beam}", item, every=2, beam=beam)
        np.testing.assert_array_equal(stored, [fit(frames[t], 40)[0] for t in (0, 2)])
        assert facts["labelled"] == [0, 1] and kept[4:36].all() and facts["scale"] == 120 / 40
        assert facts["notes"] == ["1 labels are left out, of frames that are not kept: 1"]  # and not once more for the second look
        truth = np.zeros((100, 120), np.uint8)
        truth[2:12, 2:12] = 1
        np.testing.assert_array_equal(labels[1], fit_label(truth, 40))
    facts, stored, _, _ = one(tmp_path / "cropped", replace(item, marks=(inside,)), beam=False)
    np.testing.assert_array_equal(stored, [fit(frame[20:80, 20:100], 40)[0] for frame in frames])  # the region counts without a beam, too


def stack(path, pages):
    first, *others = map(Image.fromarray, pages)
    first.save(path, save_all=True, append_images=others)
    return path


@pytest.mark.parametrize(
    ("how", "kept"), [({}, range(7)), ({"every": 3}, [0, 3, 6]), ({"most": 2}, [0, 1]), ({"every": 2, "most": 3}, [0, 2, 4])]
)
def test_a_mask_as_long_as_its_recording_loses_no_label_of_a_kept_frame(tmp_path, how, kept):
    frames, masks = clip(7, 16, 16), np.zeros((7, 16, 16), np.uint8)
    for t in range(7):
        masks[t, t : t + 4, 3:9] = t + 1
    item = Item((stack(tmp_path / "a.tif", frames),), "s/a.tif", marks=(Mask((stack(tmp_path / "m.tif", masks),), None),))
    facts, stored, labels, _ = one(tmp_path / "part", item, size=16, beam=False, **how)
    np.testing.assert_array_equal(stored, frames[list(kept)])
    shown = np.array([0, *facts["keys"]], np.uint8)[labels]  # a value is a frame's number, counted from 1
    np.testing.assert_array_equal(shown, masks[list(kept)])
    assert facts["labelled"] == list(range(len(kept)))
    gone = [t for t in range(7) if t not in kept]
    told = [f"{len(gone)} labels are left out, of frames that are not kept: {', '.join(map(str, gone[:5]))}"] if gone else []
    assert facts["notes"] == told


def test_a_mask_of_another_length_is_told(tmp_path):
    frames = clip(4, 16, 16)
    masks = np.zeros((5, 16, 16), np.uint8)
    masks[:, :4] = 3
    item = Item((stack(tmp_path / "a.tif", frames),), "s/a.tif", marks=(Mask((stack(tmp_path / "m.tif", masks),), None),))
    for n, how in enumerate(({}, {"every": 3}, {"most": 1})):
        facts, _, labels, _ = one(tmp_path / f"part{n}", item, size=16, beam=False, **how)
        assert len(labels) == len(facts["labelled"]) == len(facts["keys"]) == 0
        assert facts["notes"] == ["kept without its label: m.tif: a mask of more pages; its recording has 4 frames"]


@pytest.mark.parametrize(("stored", "shown"), [(8, 16), (15, 24)])
def test_a_label_is_widened_with_its_frame(tmp_path, monkeypatch, stored, shown):
    frame, mask = picture(shown, shown), RNG.integers(0, 3, (shown, stored)).astype(np.uint8)
    recording = recordings.Recording(iter([frame]), np.nan, np.nan, "a.png", columns=stored)
    monkeypatch.setattr(recordings, "read", lambda path: recording)
    item = Item((image(tmp_path / "a.png", frame),), "s/a.png", marks=(Mask((image(tmp_path / "m.png", mask),)),))
    facts, _, labels, _ = one(tmp_path / "part", item, size=shown, beam=False)
    nearest = np.asarray(Image.fromarray(mask).resize((shown, shown), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(np.array([0, *facts["keys"]], np.uint8)[labels[0]], nearest)


def test_keys_and_areas_add_up_over_frames(tmp_path):
    frames = clip(3, 40, 40)
    first = Drawing((ring(0, 0, 20, 20, "b"), ring(10, 10, 20, 20, "a")), 2)  # later frames may come first
    second = Drawing((ring(0, 0, 10, 10, "c"), ring(0, 0, 4, 4, "b"), ring(2, 0, 4, 4, "a")), 0)
    item = Item((video(tmp_path / "a.mkv", frames),), "s/a.mkv", marks=(first, second))
    facts, _, labels, _ = one(tmp_path / "part", item, beam=False)
    assert facts["labelled"] == [0, 2] and facts["keys"] == ["b", "a", "c"]
    assert facts["area"] == {"b": 400 + 16, "a": 100 + 8, "c": 100}
    assert sorted(facts["overlap"]) == [["a", "b", 100 + 8], ["a", "c", 8], ["b", "c", 16]]
    late, early = np.zeros((2, 40, 40), np.uint8)
    late[:20, :20], late[10:20, 10:20] = 1, 2
    early[:10, :10], early[:4, :4], early[:4, 2:4] = 3, 1, 2
    np.testing.assert_array_equal(labels, [early, late])


def test_a_recording_that_breaks_is_kept_so_far(tmp_path, monkeypatch):
    def broken(good):
        yield from clip(4, 16, 16)[:good]
        raise UserError("a.mkv: cannot be read")

    item = Item((video(tmp_path / "a.mkv", clip(2, 16, 16)),), "s/a.mkv", marks=(Drawing((ring(0, 0, 9, 9),), 4),))
    for good in (3, 0):
        recording = recordings.Recording(broken(good), 40.0, np.nan, "a.mkv", promised=9)
        monkeypatch.setattr(recordings, "read", lambda path, recording=recording: recording)
        if good:
            facts, frames, labels, _ = one(tmp_path / "part", item, size=16, beam=False)
            assert (len(frames), len(labels), facts["frames"], facts["keys"]) == (3, 0, 3, ["x"])
            assert facts["notes"][0] == "only its first 3 frames are used: a.mkv: cannot be read" and "of frames that" in facts["notes"][1]
        else:
            with pytest.raises(UserError, match="a.mkv: cannot be read"):
                one(tmp_path / "other", item)
    recording = recordings.Recording(iter(clip(3, 16, 16)), 40.0, np.nan, "a.mkv", promised=9)
    monkeypatch.setattr(recordings, "read", lambda path: recording)
    facts = one(tmp_path / "fewer", replace(item, marks=()), size=16, beam=False, every=2)[0]
    assert facts["notes"] == ["its header promises 9 frames, 3 decode"] and (facts["frames"], facts["frame_ms"]) == (2, 80)


def test_the_part_knows_a_person_by_a_pseudonym(tmp_path):
    write_dicom(tmp_path / "a.dcm", clip(1, 16, 16), PatientID="MRN-77", PatientName="Doe^Jane")
    facts = one(tmp_path / "part", Item((tmp_path / "a.dcm",), "s/a.dcm"))[0]
    person = recordings.read(tmp_path / "a.dcm").person
    assert person and facts["person"] == hashlib.sha256(f"s/person/{person}".encode()).hexdigest()[:12]


def test_two_folders_of_one_name_are_told_apart(tmp_path):
    one_, other = (stills(tmp_path / place / "set", "1234") for place in "ab")
    for path in [*one_.rglob("*.png"), *other.rglob("*.png")]:
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
        os.utime(path.with_suffix(".bmp"), (1, 1))  # of one size and time, as an archive leaves them
        (path.parent.parent / "x.zip").write_bytes(b"")
        (path.parent.parent / "x.txt").write_bytes(b"")
    found = gather([one_, other, other])
    assert [item.name for item in found.items] == [f"{s}/images/{n}.bmp" for s in ("set", "b/set") for n in "1234"]
    assert [name for name, _ in found.rejected] == ["set/x.zip", "b/set/x.zip"] and found.ignored == ["set/x.txt", "b/set/x.txt"]
    made([one_, other], tmp_path / "out", size=32, budget=0.5)
    store = Store.open(tmp_path / "out")
    truth = [fit(np.asarray(Image.open(item.paths[0])), 32)[0] for item in found.items]
    np.testing.assert_array_equal(store.frames[:], truth)
    assert store.cines.source.tolist() == [item.name for item in found.items]


def test_a_file_met_twice_keeps_its_mask(tmp_path):
    source = stills(tmp_path / "s")
    for sources in ([source / "images", source], [source, source / "images"], [source / "images" / "1.png", source]):
        found = gather(sources)
        assert len(found.items) == 4 and all(item.marks for item in found.items) and not found.rejected


def test_what_is_no_recording_is_not_told_as_one(tmp_path):
    source = stills(tmp_path / "s")
    (source / "masks" / "classes.json").write_text('{"a": [1, 2]}')
    table = via(source / "drawn.json", {"1.png": [square("x", 0, 0, 9, 9)]})
    assert gather([source], marks=table).ignored == [] and gather([source]).ignored == ["s/drawn.json"]
    made(source, source / "store")
    made(source, source / "store")
    assert gather([source], marks=table).ignored == [] and len(gather([source]).items) == 4


def test_links_and_names_that_no_table_could_hold(tmp_path):
    source, other = stills(tmp_path / "s"), stills(tmp_path / "t", "789")
    (source / "linked").symlink_to(other)
    os.rename(source / "images" / "4.png", os.fsencode(source / "images") + b"/J\xf6rg.png")
    (source / "images" / "file.png").symlink_to(other / "images" / "7.png")
    found = gather([source])
    assert [item.name for item in found.items] == [f"s/images/{n}.png" for n in ("1", "2", "3", "file")]
    told = dict(found.rejected)
    assert "a link to a folder" in told["s/linked"] and "not in UTF-8" in told["s/images/J\\udcf6rg.png"]


def test_an_accent_is_one_letter_or_two(tmp_path):
    apart = unicodedata.normalize("NFD", "Müller")
    source = plain(tmp_path / "s", ["1", apart])
    found = gather([source], marks=via(tmp_path / "drawn.json", {"Müller.png": [square("x", 0, 0, 9, 9)]}))
    assert [bool(item.marks) for item in found.items] == [False, True] and not found.rejected
