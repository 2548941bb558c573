"""Recipes on look-alikes of the public sets, with the traps of each, and on the real files where they are."""
import collections
import json
import math

import numpy as np
import pytest

from uscl.data.recipes import RECIPES, describe, heart, kidney, lung, tables
from uscl.types import UserError


def lay(root, *names, **texts):
    """Empty files of these names, and files with a text: a name's __ stands for / and the suffix .csv is added."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name, text in texts.items():
        path = root / f"{name.replace('__', '/')}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def by_name(listing):
    """{path below the root: item}; every name starts with the root's own."""
    return {item.name.partition("/")[2]: item for item in listing.items}


def reasons(listing):
    return {name.partition("/")[2]: reason for name, reason in listing.rejected}


# --- the tables ---
@pytest.mark.parametrize("delimiter", ",;\t")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_a_table_is_read_whatever_wrote_it(tmp_path, delimiter, encoding):
    text = delimiter.join(["File ", " Größe", "note"]) + "\r\n" + delimiter.join(["a.png", " 3", '"one\r\ntwo"']) + "\r\n\r\nb.png\r\n"
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    assert list(tables.rows(tmp_path / "t.csv", "File", "Größe")) == [
        {"File": "a.png", "Größe": "3", "note": "one\r\ntwo"}, {"File": "b.png", "Größe": "", "note": ""}]


@pytest.mark.parametrize("text,said", [
    (b"file,x\n", "no column 'File'; its columns are file, x"), (b"", "columns are none"), (b"File\n" + b"a" * 200_000, "file (Error)")])
def test_a_table_that_will_not_do_is_told(tmp_path, text, said):
    (tmp_path / "t.csv").write_bytes(text)
    with pytest.raises(UserError) as told:
        list(tables.rows(tmp_path / "t.csv", "File"))
    assert said in str(told.value) and "t.csv" in str(told.value)


def test_a_huge_or_missing_table_is_not_read(tmp_path, monkeypatch):
    lay(tmp_path, t="File\na\n")
    monkeypatch.setattr(tables, "MOST_BYTES", 5)
    for name in ("t.csv", "u.csv"):
        with pytest.raises(UserError):
            list(tables.rows(tmp_path / name, "File"))


def test_numbers_of_a_table():
    assert tables.number(" 0.07") == 0.07
    assert all(math.isnan(tables.number(text)) for text in ("", "n/a", "0", "-1", "inf", "nan"))


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_folder_of_something_else_is_told(name, tmp_path):
    lay(tmp_path, "holiday/beach.png", "notes.txt", ".hidden")
    with pytest.raises(UserError, match=r"has no .+; found holiday, notes.txt there|dataset.json: the file is missing"):
        RECIPES[name](tmp_path)
    with pytest.raises(UserError, match="there is no such folder|dataset.json: the file is missing"):
        RECIPES[name](tmp_path / "gone")
    assert describe(name).count("\n") == 0 and describe(name).endswith(".")


# --- kidneys ---
def via_row(name, shape, anatomy="", quality="Fair", comments="n/a", view="Longitudinal"):
    facts = json.dumps({"Quality": quality, "View": view, "Comments": comments})
    region = json.dumps({"Anatomy": anatomy} if anatomy else {})
    return ",".join([name, "7", *('"' + text.replace('"', '""') + '"' for text in (facts,)), "9", "0",
                     *('"' + text.replace('"', '""') + '"' for text in (json.dumps(shape), region))])  # fmt: skip


def polygon(*points):
    return {"name": "polygon", "all_points_x": [x for x, _ in points], "all_points_y": [y for _, y in points]}


TRIANGLE = polygon((1, 1), (9, 2), (4, 8))


def kidneys(root):
    names = {"plain": "102_IM-0262-0009_anon.png", "copy": "404_IM-0262-0009_anon.png", "second": "102_IM-0262-0010_anon.png",
             "own404": "404_IM-0084-0099_anon.png", "box": "169_IM-0885-0035_anon.png", "empty": "12_IM-0464-17664_anon.png",
             "long": "115_IM-0474-0001-0002_anon.png", "odd": "7_IM-0001-0001_anon.png", "norow": "8_IM-0001-0001_anon.png"}  # fmt: skip
    table = ["filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes",
             via_row(names["plain"], TRIANGLE, "Cortex", comments="Probably TRANSPLANT"),
             via_row(names["plain"], TRIANGLE, "Capsule", comments="Probably TRANSPLANT"),
             via_row(names["plain"], TRIANGLE, "Medulla", comments="Probably TRANSPLANT"),
             via_row(names["plain"], TRIANGLE, "Medulla", comments="Probably TRANSPLANT"),
             via_row(names["plain"], TRIANGLE, "Central Echo Complex", comments="Probably TRANSPLANT"),
             via_row(names["copy"], TRIANGLE, "Capsule"), via_row(names["second"], TRIANGLE, "Capsule"),
             via_row(names["own404"], TRIANGLE, "Capsule"), via_row(names["long"], TRIANGLE, "Capsule"),
             via_row(names["box"], {"name": "rect", "x": 198, "y": 7, "width": 517, "height": 11}, "Capsule", "Poor"),
             via_row(names["empty"], {}, "", "Unsatisfactory"), via_row(names["odd"], TRIANGLE, "Spleen"),
             via_row("99_IM-0009-0009_anon.png", TRIANGLE, "Capsule")]  # fmt: skip
    sheet = "Filename,Manufacturer,Physical Delta X\n102_IM-0262-0009,P,-0.02\n115_IM-0474-0001-0002,A,1\n12_IM-0464-17664,T,.03\n"
    lay(root, *(f"images/{name}" for name in names.values()), "images/cover.png",
        labels__reviewed_labels_1=b"\xef\xbb\xbf" + "\n".join(table).encode(), OpenKidneyUltrasoundDataSet_TransducerInfo=sheet)
    return names


def test_open_kidney(tmp_path):
    names = kidneys(tmp_path)
    listing = RECIPES["open_kidney"](tmp_path)
    items = by_name(listing)
    kept = {key: items[f"images/{names[key]}"] for key in ("plain", "second", "own404", "box", "empty", "long")}
    assert len(listing.items) == 6 and listing.public
    (drawing,) = kept["plain"].marks
    assert [s.name for s in drawing.shapes] == ["Capsule", "Central Echo Complex", "Medulla", "Medulla", "Cortex"]
    np.testing.assert_array_equal(drawing.shapes[0].rings[0], [[1, 1], [9, 2], [4, 8]])
    assert [kept[key].patient for key in kept] == ["102", "102", "404", "169", "12", "115"]
    assert kept["box"].marks == kept["empty"].marks == ()
    assert kept["plain"].attributes == {"quality": "Fair", "view": "Longitudinal", "transplant": "yes"}
    assert kept["empty"].attributes == {"quality": "Unsatisfactory", "view": "Longitudinal", "transplant": "no"}
    assert kept["plain"].mm_per_pixel == pytest.approx(0.2) and kept["empty"].mm_per_pixel == pytest.approx(0.3)
    assert math.isnan(kept["long"].mm_per_pixel) and math.isnan(kept["second"].mm_per_pixel)
    assert listing.order == ["Capsule", "Central Echo Complex", "Medulla", "Cortex"]
    assert listing.classes["capsule"] == listing.order and listing.classes["cortex"] == ["Cortex"] and len(listing.classes) == 4
    assert {key: reason.split()[0] for key, reason in reasons(listing).items()} == {
        f"images/{names['copy']}": "one", f"images/{names['odd']}": "a", f"images/{names['norow']}": "no", "images/cover.png": "its",
        "labels/reviewed_labels_1.csv": "1"}
    assert "99_IM-0009-0009_anon.png" in reasons(listing)["labels/reviewed_labels_1.csv"]


def test_all_twenty_copies_are_known():
    """Ten images twice each: as 400 to 409, and once more under numbers that add up to 4655."""
    pairs = np.array(list(kidney.COPIES.values()), int)
    assert sorted(pairs[:, 0]) == list(range(400, 410)) and pairs[:, 1].sum() == 4655 and len(set(kidney.COPIES)) == 10


# --- children ---
HC_TABLE = "filename,pixel size(mm),head circumference (mm)\n" \
    "010_HC.png,0.07,44.3\n010_2HC.png,0.09,56.8\n011_HC.png,0.06,60\n012_HC.png,1,2\n"


def test_hc18_as_published(tmp_path):
    lay(tmp_path, *(f"training_set/{stem}{tail}.png" for stem in ("010_HC", "010_2HC") for tail in ("", "_Annotation")),
        "training_set/011_HC.png", "training_set/020_HC_Annotation.png", "training_set/030_HC.png", "training_set/._010_HC.png",
        "test_set/010_HC.png", training_set_pixel_size_and_HC=HC_TABLE, test_set_pixel_size="filename,pixel size(mm)\n010_HC.png,0.11\n")
    listing = RECIPES["hc18"](tmp_path)
    items = by_name(listing)
    assert [(name, item.patient, item.mm_per_pixel, len(item.marks), item.part) for name, item in items.items()] == [
        ("training_set/010_2HC.png", "010", 0.09, 1, None), ("training_set/010_HC.png", "010", 0.07, 1, None),
        ("training_set/011_HC.png", "011", 0.06, 0, None), ("test_set/010_HC.png", "test 010", 0.11, 0, None)]
    (mask,) = items["training_set/010_2HC.png"].marks
    assert mask.paths == (tmp_path / "training_set/010_2HC_Annotation.png",)
    assert mask.outline and mask.values == {255: "head"} and mask.frame == 0
    assert items["training_set/010_HC.png"].attributes == {"head_circumference_mm": "44.3"}
    assert set(reasons(listing)) == {"training_set/020_HC_Annotation.png", "training_set/030_HC.png", "training_set_pixel_size_and_HC.csv"}
    assert "012_HC.png" in reasons(listing)["training_set_pixel_size_and_HC.csv"]


def test_hc18_with_folders_of_masks_prefers_filled_ones(tmp_path):
    lay(tmp_path, "images/010_HC.png", "images/011_HC.png", "masks_filled/010_HC_mask.png", "annotations_outline/010_HC_Annotation.png",
        "annotations_outline/011_HC_Annotation.png", training_set_pixel_size_and_HC=HC_TABLE)
    first, second = (item.marks[0] for item in RECIPES["hc18"](tmp_path).items)
    assert (first.paths[0].parent.name, first.outline) == ("masks_filled", False)
    assert (second.paths[0].parent.name, second.outline) == ("annotations_outline", True)


def test_hc18_real(data_root):
    listing = RECIPES["hc18"](data_root / "hc18")
    assert len(listing.items) == 120 and all(len(item.marks) == 1 and item.marks[0].paths[0].is_file() for item in listing.items)
    assert len(listing.rejected) == 1 and listing.rejected[0][1].startswith("879 ")  # 999 rows, 120 images
    item = by_name(listing)["images/016_HC.png"]
    assert (item.patient, item.mm_per_pixel, item.attributes["head_circumference_mm"]) == ("016", 0.06030584, "65.05")


def test_fetal_planes(tmp_path):
    head = "Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train \n"
    text = head + "P1_1;1;Fetal brain;Trans-thalamic;Op. 1;Voluson E6;1 \nP1_2.png;1;Other;Not A Brain;Op. 1;Aloka;1\n" \
        "P2_1;2;Fetal femur;Not A Brain;Médecin;Voluson S10;0 \nP5_1;5;Other;x;y;z;0\nP5_1;5;Other;x;y;z;0\nP6_1;6;Other;x;y;z;0\n" \
        "P6_1;7;Other;x;y;z;0\nP3_1;3;Other;Not A Brain;Other;Other;maybe\nP9_1;9;Other;x;Other;Other;0\n"
    stems = ("P1_1", "P1_2", "P2_1", "P3_1", "P4_1", "P5_1", "P6_1")
    lay(tmp_path, *(f"Images/{stem}.png" for stem in stems), FETAL_PLANES_DB_data=text.encode("latin-1"))
    listing = RECIPES["fetal_planes"](tmp_path)
    items = by_name(listing)
    assert {name: (item.patient, item.part) for name, item in items.items()} == {
        "Images/P1_1.png": ("1", "train"), "Images/P1_2.png": ("1", "train"), "Images/P2_1.png": ("2", "test"),
        "Images/P5_1.png": ("5", "test")}
    about = {"plane": "Fetal femur", "brain_plane": "Not A Brain", "operator": "Médecin", "machine": "Voluson S10"}
    assert items["Images/P2_1.png"].attributes == about and items["Images/P2_1.png"].marks == ()
    assert set(reasons(listing)) == {"Images/P3_1.png", "Images/P4_1.png", "Images/P6_1.png", "FETAL_PLANES_DB_data.csv"}
    assert listing.classes is None


# --- hearts ---
def test_echonet(tmp_path):
    table = "FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split\n0XA,60.5,14,49,112,112,50,9,TRAIN\n" \
        "0XB,50,1,2,112,112,0,9,VAL\n0XC.avi,40,1,2,112,112,25,9,TEST\n0XD,1,1,2,112,112,25,9,OTHER\n0XZ,1,1,2,112,112,25,9,TEST\n"
    axis = "50,0,50,100"
    lines = {("0XA", 46): [axis, "40,10,60,10", "30,50,70,50", "45,90,55,90"], ("0XA", 7): [axis, "40,20,60,20", "45,80,55,80"],
             ("0XC", 3): [axis, "40,20,60,20"], ("0XC", 4): [axis, "40,20,x,20", "1,2,3,4"], ("0XY", 1): [axis, "1,1,2,1", "1,2,2,2"],
             ("0XC", -1): [axis, "1,1,2,1", "1,2,2,2"], ("0XC", 5): [axis, "nan,1,2,1", "1,2,2,2"]}  # fmt: skip
    traced = "FileName,X1,Y1,X2,Y2,Frame\n" + "".join(f"{n}.avi,{line},{k}\n" for (n, k), every in lines.items() for line in every)
    lay(tmp_path, *(f"Videos/0X{letter}.avi" for letter in "ABCDE"), FileList=table, VolumeTracings=traced)
    listing = RECIPES["echonet"](tmp_path)
    items = by_name(listing)
    assert [(item.patient, item.part, len(item.marks)) for item in items.values()] == [
        ("0XA", "train", 2), ("0XB", "validation", 0), ("0XC", "test", 0)]
    late, early = items["Videos/0XA.avi"].marks
    assert (late.frame, early.frame, late.shapes[0].name) == (46, 7, "left_ventricle")
    ring = [[40.5, 10.5], [30.5, 50.5], [45.5, 90.5], [55.5, 90.5], [70.5, 50.5], [60.5, 10.5]]
    np.testing.assert_array_equal(late.shapes[0].rings[0], ring)
    assert items["Videos/0XA.avi"].frame_ms == 20 and math.isnan(items["Videos/0XB.avi"].frame_ms)
    assert items["Videos/0XA.avi"].attributes == {"ef": "60.5", "esv": "14", "edv": "49"}
    told = [reason for name, reason in listing.rejected if name.endswith("VolumeTracings.csv")]
    assert [next(k for k in ("frame 3 ", "frame 4 ", "frame -1 ", "frame 5 ", "0XY") if k in reason) for reason in told] == [
        "frame 3 ", "frame 4 ", "frame -1 ", "frame 5 ", "0XY"]
    assert {"Videos/0XD.avi", "Videos/0XE.avi", "FileList.csv"} <= set(reasons(listing)) and len(listing.rejected) == 8


def test_a_traced_ventricle_is_a_ring_of_the_right_area():
    """Chords across a circle of radius 30 around (56, 40): the shoelace area is pi r^2 within 1 %, so the ring does not cross itself."""
    y = np.linspace(-30, 30, 61)
    half = np.sqrt(900 - y**2)
    chords = np.stack([56 - half, 40 + y, 56 + half, 40 + y], axis=1)
    x, y = heart.outline(np.concatenate([[[56, 10, 56, 70]], chords])).T
    area = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
    assert abs(area / (np.pi * 900) - 1) < 0.01
    assert x.mean() == pytest.approx(56.5) and y.mean() == pytest.approx(40.5)


def test_camus(tmp_path):
    base = tmp_path / "database_nifti"
    both = [f"patient0001/patient0001_2CH_{what}{gt}.nii.gz" for what in ("ED", "ES", "half_sequence") for gt in ("", "_gt")]
    stills = [f"patient0002/patient0002_4CH_{what}{gt}.mhd" for what in ("ED", "ES") for gt in ("", "_gt")]
    lay(base, *both, *stills, "patient0001/patient0001_4CH_ED.nii.gz", "patient0001/patient0001_4CH_half_sequence.nii.gz")
    info = "ED: 1\nES: 18\nNbFrame: 18\nSex: F\nAge: 56\nImageQuality: Good\nEF: 54\nFrameRate: 50.0\nnonsense\n"
    (base / "patient0001/Info_2CH.cfg").write_text(info)
    (tmp_path / "database_split").mkdir()
    (tmp_path / "database_split/subgroup_testing.txt").write_text("patient0002\n")
    listing = RECIPES["camus"](tmp_path)
    items = {item.paths[0].name: item for item in listing.items}
    assert {name: (item.patient, item.part, item.attributes["view"]) for name, item in items.items()} == {
        "patient0001_2CH_half_sequence.nii.gz": ("patient0001", None, "2CH"), "patient0001_4CH_ED.nii.gz": ("patient0001", None, "4CH"),
        "patient0002_4CH_ED.mhd": ("patient0002", "test", "4CH"), "patient0002_4CH_ES.mhd": ("patient0002", "test", "4CH")}
    cine, still = items["patient0001_2CH_half_sequence.nii.gz"], items["patient0002_4CH_ES.mhd"]
    assert cine.attributes == {"view": "2CH", "sex": "F", "age": "56", "quality": "Good", "ef": "54"} and cine.frame_ms == 20
    assert cine.marks[0].frame is None and cine.marks[0].paths[0].name == "patient0001_2CH_half_sequence_gt.nii.gz"
    assert still.marks[0].frame == 0 and still.marks[0].values == {1: "left_ventricle", 2: "myocardium", 3: "left_atrium"}
    assert items["patient0001_4CH_ED.nii.gz"].marks == () and math.isnan(still.frame_ms)
    assert list(reasons(listing)) == ["database_nifti/patient0002/patient0002_2CH"]
    assert len(RECIPES["camus"](base).items) == 4


# --- breasts ---
def test_busi(tmp_path):
    base = tmp_path / "Dataset_BUSI_with_GT"
    lay(base, "benign/benign (4).png", "benign/benign (4)_mask.png", "benign/benign (4)_mask_1.png", "benign/benign (40).png",
        "malignant/malignant (1).png", "malignant/malignant (1)_mask.png", "normal/normal (1).png", "normal/normal (1)_mask.png",
        "malignant/malignant (2)_mask.png")
    listing = RECIPES["busi"](tmp_path)
    items = {item.paths[0].stem: item for item in listing.items}
    assert {stem: (item.patient, item.attributes["class"]) for stem, item in items.items()} == {
        "benign (4)": ("benign (4)", "benign"), "benign (40)": ("benign (40)", "benign"),
        "malignant (1)": ("malignant (1)", "malignant"), "normal (1)": ("normal (1)", "normal")}
    (mask,) = items["benign (4)"].marks
    assert [path.stem for path in mask.paths] == ["benign (4)_mask", "benign (4)_mask_1"] and mask.values == {255: "lesion"}
    assert items["benign (40)"].marks == () and len(items["normal (1)"].marks) == 1
    assert list(reasons(listing)) == ["Dataset_BUSI_with_GT/malignant/malignant (2)_mask.png"]
    assert len(RECIPES["busi"](base).items) == 4


# --- lungs ---
def people(*told):
    """Patients of clips (name, id, source), all convex."""
    keys = ("Filename", "Patient ID / Name", "Source ID")
    found = lung.persons([{"Probe": "Convex", **dict(zip(keys, row, strict=True))} for row in told])
    return [found["convex", row[0].lower()] for row in told]


def test_clips_of_one_person_stay_together():
    assert people(("Cov_a_vid1", "5", "1"), ("Pneu_b", "5", "2"), ("Reg_c", "6", "1")) == ["patient 5", "patient 5", "patient 6"]
    numbered = ("Pneu_ward_set3_vid1", "190", "18"), ("Reg_ward_set3_img2", "206", "18"), ("Reg_ward_set4_vid1", "7", "18")
    first, second, other = people(*numbered)
    assert first == second != other  # numbered through: nobody knew, and they are a series
    assert people(("Cov_w_vid1", "1", "9"), ("Cov_w_vid2", "1", "9"), ("Cov_w_vid3", "2", "9")) == ["patient 1", "patient 1", "patient 2"]
    assert people(("Cov_x one", "", "41"), ("Cov_y", "", "41"), ("Cov_z", "", "")) == ["source 41", "source 41", "titled z"]
    assert len(set(people(("Cov_a_vid1", "1", ""), ("Cov_a_vid2", "2", ""), ("Cov_b_vid1", "2", ""), ("Cov_b_vid2", "3", "")))) == 1
    chain = [(f"Cov_{series}_vid{i}", person, "") for i, (series, person) in enumerate(("a1", "a2", "b3", "b4", "c1", "c3"))]
    assert len(set(people(*chain))) == 1


@pytest.mark.parametrize("stem,name", [
    ("Reg_pat1Image_132943", "pat1"), ("Pneu_northumbria_0409_set3_vid2", "northumbria_0409_set3"), ("cov-clip-MOV4", "clip"),
    ("Reg_Image_181602_trimmed_crop", "image_181602"), ("Vir_or_Pneu_prospective_file4", "prospective"), ("Cov-grep-7543", "grep-7543"),
    ("regal_heart", "al_heart")])
def test_series(stem, name):
    assert lung.series(stem) == name


def test_pocus(tmp_path):
    head = "Filename,Probe,Source ID,Patient ID / Name\n"
    table = head + "Cov_one,convex,1,8\nReg_six,linear,1,9\nPneu-two,convex,1,8\nCov_five,linear,4,\nReg_ward_vid1,convex,1,3\n"
    videos = ("Convex/Cov_one.mp4", "Convex/pneu-two.gif", "Convex/Reg_ward_vid2.avi", "linear/Reg_six.mov", "linear/other.mp4",
              "linear/label_uncertain/Cov_five.mp4", "linear/._Reg_six.mov")  # fmt: skip
    lay(tmp_path, *(f"data/pocus_videos/{name}" for name in videos), "data/pocus_images/convex/Vir_four.png",
        "data/pocus_images/convex/list.txt", data__dataset_metadata=table)
    listing = RECIPES["pocus"](tmp_path)
    told = {item.paths[0].name: (item.patient, item.attributes["class"], item.attributes["probe"]) for item in listing.items}
    assert told == {
        "Cov_one.mp4": ("patient 8", "covid", "convex"), "pneu-two.gif": ("patient 8", "pneumonia", "convex"),
        "Reg_ward_vid2.avi": ("patient 3", "regular", "convex"), "Reg_six.mov": ("patient 9", "regular", "linear"),
        "Vir_four.png": ("titled four", "viral", "convex"), "Cov_five.mp4": ("source 4", "uncertain", "linear")}
    assert listing.ignored == [f"{tmp_path.name}/data/pocus_images/convex/list.txt"]
    assert set(reasons(listing)) == {"data/pocus_videos/linear/other.mp4", "data/dataset_metadata.csv"}


def test_pocus_real(data_root):
    listing = RECIPES["pocus"](data_root / "lung_pocus")
    groups = collections.defaultdict(set)
    for item in listing.items:
        groups[item.patient].add(item.paths[0].stem)
    assert len(listing.items) == 52 and len(groups) == 15 and not listing.ignored and len(listing.rejected) == 1
    of = {stem: patient for patient, stems in groups.items() for stem in stems}
    assert len({of[f"Reg_pat{n}Image_{t}"] for n, t in ((1, 132943), (2, 133824), (3, 134711), (4, 135904))}) == 4
    assert {stem[:9] for stem in groups["patient 1"] | groups["patient 2"] | groups["patient 3"]} == {"Reg_pat2I", "Reg_pat3I", "Reg_pat4I"}
    assert of["Reg_Image_182106_crop"] == of["Reg_pat1Image_132943"] != of["Reg_Image_181739_trimmed_crop"]  # as the table has it
    for start, count in (("Cov_convex_volpecelli", 5), ("Cov_Oliviera", 5)):
        assert len(groups[next(p for stem, p in of.items() if stem.startswith(start))]) == count
    assert len({p for stem, p in of.items() if "prospective" in stem}) == 1
    kinds = collections.Counter(item.attributes["class"] for item in listing.items)
    assert kinds == {"regular": 32, "covid": 14, "viral": 3, "pneumonia": 2, "uncertain": 1}
    assert collections.Counter(item.attributes["probe"] for item in listing.items)["linear"] == 10


def test_covidx(tmp_path):
    old = "id,filename,filetype,folder,source,url,probe,class,version,type,patient,comment\n" \
        "1_butterfly_covid,a.mp4,mp4,x,Butterfly,u,Convex,COVID,v,lung,,caf\xe9\n" \
        "121_litfl_pneumonia,b,mp4,x,Litfl,u,Convex,Pneumonia,v,lung,pneumonia_case_1_1,\n" \
        "122_litfl_pneumonia,b,mp4,x,Litfl,u,Linear,Pneumonia,v,neck,pneumonia_case_1_2,\n9_x_normal,,,,,,,Normal,,,,\n"
    cines = ("1_butterfly_covid", "121_litfl_pneumonia", "122_litfl_pneumonia", "3_z")
    lay(tmp_path, *(f"data/video/cropped/{name}_prc.avi" for name in cines), "data/video/1_butterfly_covid.mp4",
        "data/mask/1_butterfly_covid_prc_convex_frame0_mask.jpg", utils__video_metadata=old.encode("latin-1"))
    listing = RECIPES["covidx"](tmp_path)
    items = {item.paths[0].stem.partition("_")[0]: item for item in listing.items}
    patients = {"1": "1_butterfly_covid", "121": "pneumonia_case_1", "122": "pneumonia_case_1"}
    assert {key: item.patient for key, item in items.items()} == patients
    assert items["122"].attributes == {"class": "pneumonia", "source": "litfl", "probe": "linear", "type": "neck"}
    assert not any(item.marks for item in listing.items)
    assert set(reasons(listing)) == {"data/video/cropped/3_z_prc.avi", "utils/video_metadata.csv"}
    first = "filename,patient,source,probe,class,class_level2\n122_litfl_pneumonia.mp4,pneumothorax_case2_4,L,Linear,Other,\n"
    lay(tmp_path, **{"labels__COVIDx-US1.2_4class": first})
    assert [item.patient for item in RECIPES["covidx"](tmp_path).items] == ["pneumothorax_case2"]
    new = "id,LUSS,source,probe,class,type,patient,case_no\n1_butterfly_covid,3,B,Convex,COVID,lung,p1,1\n"
    lay(tmp_path, **{"labels__COVIDx-US1.4_4class": new})
    assert [item.patient for item in RECIPES["covidx"](tmp_path).items] == ["p1"]
