"""VIA files written here, as the tool writes them and as they go wrong, and what becomes of each image in them."""

import csv
import json

import numpy as np
import pytest
from mutants_text import scribbled

from uscl.data import annotations, shapes
from uscl.types import UserError

HEADER = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"


def polygon(*points):
    return {"name": "polygon", "all_points_x": [x for x, _ in points], "all_points_y": [y for _, y in points]}


BIG, SMALL = polygon((0, 0), (40, 0), (40, 40), (0, 40)), polygon((5, 5), (9, 5), (9, 9), (5, 9))


def quoted(value):
    return '"' + json.dumps(value).replace('"', '""') + '"'


def row(name, shape, labels, facts=None, count=9, delimiter=",", bare=False):
    last = json.dumps(labels, separators=(",", ":")) if bare else quoted(labels)
    return delimiter.join([name, "77", quoted(facts or {}), str(count), "0", quoted(shape), last])


def write(path, *rows, start=b"", header=HEADER, end="\n"):
    path.write_bytes(start + end.join([header, *rows, ""]).encode())
    return path


def entry(name, *regions, **facts):
    regions = [{"shape_attributes": shape, "region_attributes": labels} for shape, labels in regions]
    return {"filename": name, "size": 77, "regions": regions, "file_attributes": facts}


def write_json(path, data):
    path.write_text(json.dumps(data))
    return path


def said(drawings):
    """{image: [(class, number of points), ...]}"""
    return {name: [(shape.name, len(shape.rings[0])) for shape in found] for name, found in drawings.of.items()}


KIDNEY = [
    row("1.png", SMALL, {"Anatomy": "Cortex"}, {"Quality": "Fair", "View": "Other", "n": 3}, count=1),
    row("2.png", {}, {}, {"Quality": "Poor"}, count=0),
    row("1.png", BIG, {"Anatomy": "Capsule"}, {"Quality": "Good", "Comments": " n/a "}, count=5),
    row("1.png", SMALL, {"Anatomy": "Cortex"}, count=2, bare=True),
    row("3.png", BIG, {"Anatomy": "Capsule"}, bare=True),
]


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_rows_are_grouped_by_image_and_counts_are_not_believed(tmp_path, start, end):
    found = annotations.read(write(tmp_path / "a.csv", *KIDNEY, start=start, end=end))
    assert said(found) == {"1.png": [("Capsule", 4), ("Cortex", 4), ("Cortex", 4)], "2.png": [], "3.png": [("Capsule", 4)]}
    np.testing.assert_array_equal(found.of["1.png"][1].rings[0], [(5, 5), (9, 5), (9, 9), (5, 9)])
    assert found.order == ["Capsule", "Cortex"] and found.rejected == [] and found.sizes == {}
    assert found.facts == {"1.png": {"Quality": "Fair", "View": "Other", "Comments": "n/a"}, "2.png": {"Quality": "Poor"}}


def test_csv_of_other_hands(tmp_path):
    """VIA 1's first column, a semicolon for a comma, no column of file attributes, blank lines, a name in the file's own suffix."""
    one = annotations.read(write(tmp_path / "a.txt", *KIDNEY, header="#" + HEADER))
    lines = [row("1.png", BIG, {"A": "x"}, delimiter=";"), "", row("ö b/2.png", BIG, {"A": "y"}, delimiter=";")]
    two = annotations.read(write(tmp_path / "b.csv", *lines, header=HEADER.replace(",", ";")))
    least = "filename,region_shape_attributes,region_attributes"
    three = annotations.read(write(tmp_path / "c.json", f"1.png,{quoted(BIG)},{quoted({'A': 'x'})}", header=least))
    assert said(one) == said(annotations.read(write(tmp_path / "d.csv", *KIDNEY)))
    assert said(two) == {"1.png": [("x", 4)], "ö b/2.png": [("y", 4)]} and said(three) == {"1.png": [("x", 4)]}
    wide = polygon(*((float(i) + 0.123456789, i % 7) for i in range(20_000)))  # more than the csv module reads in a field by itself
    assert said(annotations.read(write(tmp_path / "e.csv", row("1.png", wide, {"A": "x"})))) == {"1.png": [("x", 20_000)]}
    assert csv.field_size_limit() == 131_072, "other readers of csv keep the limit they know"


@pytest.mark.parametrize("form", ["bare", "project", "via 1"])
def test_json_in_its_three_forms_says_the_same(tmp_path, form):
    data = {
        "1.png77": entry("1.png", (SMALL, {"Anatomy": "Cortex"}), (BIG, {"Anatomy": "Capsule"}), Quality="Fair", View={"Other": True}),
        "2.png77": entry("2.png", Quality="Poor"),
        "1.png78": entry("1.png", (SMALL, {"Anatomy": "Cortex"}), Quality="Good"),
    }
    if form == "via 1":
        for one in data.values():
            one["regions"] = {str(i): region for i, region in enumerate(one["regions"])}
    found = annotations.read(write_json(tmp_path / "a", {"_via_settings": {}, "_via_img_metadata": data} if form == "project" else data))
    assert said(found) == {"1.png": [("Capsule", 4), ("Cortex", 4), ("Cortex", 4)], "2.png": []}
    assert found.facts == {"1.png": {"Quality": "Fair", "View": "Other"}, "2.png": {"Quality": "Poor"}} and found.rejected == []


def pixels(tmp_path, shape):
    found = annotations.read(write_json(tmp_path / "a.json", {"k": entry("1.png", (shape, {"A": "x"}))}))
    assert found.rejected == []
    return shapes.raster(shapes.Drawing(found.of["1.png"]), 100, 120).index


def test_every_kind_of_shape_is_the_region_it_draws(tmp_path):
    y, x = np.mgrid[:100, :120] + 0.5
    box = pixels(tmp_path, {"name": "rect", "x": 3, "y": 4, "width": 10, "height": 20})
    np.testing.assert_array_equal(box, (x > 3) & (x < 13) & (y > 4) & (y < 24))
    disc = (x - 50) ** 2 + (y - 40) ** 2 < 30.2**2
    assert (pixels(tmp_path, {"name": "circle", "cx": 50, "cy": 40, "r": 30.2}) != disc).mean() < 2e-4
    level = pixels(tmp_path, {"name": "ellipse", "cx": 50, "cy": 40, "rx": 40, "ry": 9.5})
    assert (level != (((x - 50) / 40) ** 2 + ((y - 40) / 9.5) ** 2 < 1)).mean() < 2e-4
    # A turn of 0.5 radians is clockwise on the screen, where y grows downwards: the long axis runs down to the right.
    along, across = (x - 50) * np.cos(0.5) + (y - 40) * np.sin(0.5), (y - 40) * np.cos(0.5) - (x - 50) * np.sin(0.5)
    turned = pixels(tmp_path, {"name": "ellipse", "cx": 50, "cy": 40, "rx": 40, "ry": 9.5, "theta": 0.5})
    assert (turned != ((along / 40) ** 2 + (across / 9.5) ** 2 < 1)).mean() < 2e-4 and turned[54, 76] and not turned[26, 76]
    closed = BIG | {"name": "polyline", "all_points_x": [0, 40, 40, 0, 1], "all_points_y": [0, 0, 40, 40, 1]}
    assert pixels(tmp_path, closed).sum() == pytest.approx(1600, rel=0.02)


def test_marks_without_area_are_left_out_and_told(tmp_path):
    point = {"name": "point", "cx": 3, "cy": 4}
    ruler = {"name": "polyline", "all_points_x": [1, 9], "all_points_y": [1, 9]}
    data = {"a": entry("1.png", (BIG, {"A": "x"}), (point, {}), (ruler, {"A": "y"})), "b": entry("2.png", (point, {"A": "x"}))}
    found = annotations.read(write_json(tmp_path / "a.json", data))
    assert said(found) == {"1.png": [("x", 4)]} and found.order == ["x"], "an image with nothing else counts as not annotated"
    assert [(name, reason[:17]) for name, reason in found.rejected] == [("1.png", "2 points or lines"), ("2.png", "1 points or lines")]


@pytest.mark.parametrize(
    "shape, labels, words",
    [
        (SMALL, {"B": "x"}, "attribute 'A' names 0 classes"),
        (SMALL, {"A": " "}, "attribute 'A' names 0 classes"),
        (SMALL, {"A": {"x": True, "y": True, "z": False}}, "names 2 classes"),
        (SMALL, {"A": "x" * 201}, "at most 200 letters"),
        (SMALL, {"A": "\ud800"}, "names 0 classes"),
        (SMALL, {"A": 7}, "names 0 classes"),
        (SMALL, ["A"], "names 0 classes"),
        ({"name": "cuboid"}, {"A": "x"}, "no shape of VIA"),
        ({"name": ["polygon"]}, {"A": "x"}, "no shape of VIA"),
        (None, {"A": "x"}, "no shape of VIA"),
        ({"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1, 2]}, {"A": "x"}, "numbers of its polygon"),
        ({"name": "polygon", "all_points_x": [1, 2, 10**400], "all_points_y": [1, 2, 3]}, {"A": "x"}, "numbers of its polygon"),
        ({"name": "polygon", "all_points_x": [[1], [2], [3]], "all_points_y": [[1], [2], [3]]}, {"A": "x"}, "numbers of its polygon"),
        ({"name": "polygon", "all_points_x": "123", "all_points_y": "456"}, {"A": "x"}, "numbers of its polygon"),
        ({"name": "polygon", "all_points_x": [0] * 100_001, "all_points_y": [0] * 100_001}, {"A": "x"}, "100001 points"),
        ({"name": "rect", "x": 3, "y": 4, "width": None, "height": 20}, {"A": "x"}, "numbers of its rect"),
        ({"name": "circle", "cx": 3, "cy": 4}, {"A": "x"}, "numbers of its circle"),
        ({"name": "polyline", "all_points_x": [0, 20, 40], "all_points_y": [9, 5, 9]}, {"A": "x"}, "open line, its ends 40 pixels apart"),
    ],
)  # fmt: skip
def test_a_broken_region_costs_its_image_alone(tmp_path, shape, labels, words):
    data = {"a": entry("1.png", (BIG, {"A": "x"}), (shape, labels)), "b": entry("2.png", (BIG, {"A": "x"}))}
    found = annotations.read(write_json(tmp_path / "a.json", data))
    assert said(found) == {"2.png": [("x", 4)]}
    ((name, reason),) = found.rejected
    assert name == "1.png" and reason.startswith("region 2: ") and words in reason


def test_the_class_is_the_attribute_asked_for_or_the_most_used(tmp_path):
    tick = {"Cortex": True}
    labels = [{"Anatomy": {"Capsule": True, "Cortex": False}, "sure": "no"}, {"Anatomy": tick, "sure": ""}, {"Anatomy": tick}]
    path = write_json(tmp_path / "a.json", {str(i): entry(f"{i}.png", (BIG, label)) for i, label in enumerate(labels)})
    assert said(annotations.read(path)) == {"0.png": [("Capsule", 4)], "1.png": [("Cortex", 4)], "2.png": [("Cortex", 4)]}
    assert said(annotations.read(path, attribute="sure")) == {"0.png": [("no", 4)]}
    with pytest.raises(UserError, match="no region fills in attribute 'organ'; filled in are 'Anatomy', 'sure'"):
        annotations.read(path, attribute="organ")
    with pytest.raises(UserError, match="'A', 'B', more than one of them most often"):
        annotations.read(write_json(path, {"k": entry("1.png", (BIG, {"A": "x", "B": "y"}))}))
    with pytest.raises(UserError, match="no region says of which class it is"):
        annotations.read(write_json(path, {"k": entry("1.png", (BIG, {}))}))
    assert said(annotations.read(write_json(path, {"k": entry("1.png")}))) == {"1.png": []}


def test_order_is_by_mean_area_of_a_shape_then_by_name(tmp_path):
    """Two small ones make no big one; equal ones go by name."""
    half = polygon((0, 0), (30, 0), (30, 30), (0, 30))
    regions = [(half, {"A": "twice"}), (half, {"A": "twice"}), (half, {"A": "same"}), (BIG, {"A": "big"}), (SMALL, {"A": "small"})]
    found = annotations.read(write_json(tmp_path / "a.json", {"k": entry("1.png", *regions)}))
    assert found.order == ["big", "same", "twice", "small"] == list(dict.fromkeys(shape.name for shape in found.of["1.png"]))


def test_rows_without_an_image_are_told_and_short_rows_cost_theirs(tmp_path):
    label = {"Anatomy": "x"}
    found = annotations.read(write(tmp_path / "a.csv", *KIDNEY[:2], row("", BIG, label), "3.png,77", row("4.png", BIG, label)))
    assert list(found.of) == ["1.png", "2.png", "4.png"]
    (short, reason), nameless = found.rejected
    assert short == "3.png" and reason.startswith("region 1: is no shape of VIA")
    assert nameless == ("a.csv", "1 of its rows or regions name no image")


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is empty"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"a,b\n1,2\n", "neither JSON nor a CSV"),
        (b"[1, 2", "not JSON that can be read"),
        (b"[" * 100_000, "not JSON that can be read"),
        (b'{"a":' * 100_000, "not JSON that can be read"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "not JSON that can be read"),
        (b'{"a": 1}', "JSON of another kind"),
        (b'{"_via_img_metadata": []}', "JSON of another kind"),
        (b'{"project": {}, "metadata": {}, "view": {}}', "VIA 3"),
        ((HEADER + '\n1.png,1,"{}').encode(), "line 2 is no CSV"),
        ((HEADER + "\n" + "x" * 2**23).encode(), "line 2 is no CSV, or a field has more"),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_refused_in_a_sentence(tmp_path, content, words):
    (tmp_path / "odd.json").write_bytes(content)
    with pytest.raises(UserError, match="^odd.json: ") as error:
        annotations.read(tmp_path / "odd.json")
    assert words in str(error.value) and len(str(error.value)) < 250 and error.value.__cause__ is None


def test_what_is_no_file_or_too_large_is_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="there is no such file"):
        annotations.read(tmp_path)
    monkeypatch.setattr(annotations, "MOST_BYTES", 100)
    with pytest.raises(UserError, match="at most 100"):
        annotations.read(write(tmp_path / "a.csv", *KIDNEY))
    monkeypatch.setattr(annotations, "MOST_BYTES", 10**6)
    monkeypatch.setattr(annotations, "MOST_SHAPES", 2)
    assert annotations.read(tmp_path / "a.csv").rejected == [("1.png", "region 3: more than 2 shapes are drawn on it")]


@pytest.mark.parametrize("form", ["csv", "json"])
def test_damaged_files_end_in_drawings_or_in_a_sentence(tmp_path, form):
    """Flipped bytes and cut ends: never an error of ours, and nothing that cannot be written again."""
    regions = [
        ({"name": "ellipse", "cx": 9, "cy": 9, "rx": 5, "ry": 3, "theta": 1}, {"A": "x"}),
        (BIG, {"A": {"y": True}}),
        (SMALL, {"A": "z"}),
    ]
    if form == "csv":
        source = write(tmp_path / "a", *KIDNEY, *(row("4.png", shape, labels, {"Q": "ö"}) for shape, labels in regions)).read_bytes()
    else:
        entries = {"k": entry("1.png", *regions, Q="ö"), "l": entry("2.png", *regions)}
        source = write_json(tmp_path / "a", {"_via_img_metadata": entries}).read_bytes()
    random, kinds = np.random.default_rng(3), []
    for _ in range(300):
        (tmp_path / "a").write_bytes(scribbled(source, random))
        try:
            found = annotations.read(tmp_path / "a")
            kinds.append("read")
            json.dumps([found.rejected, found.facts, list(found.of), found.order], ensure_ascii=False).encode()
            for shown in found.of.values():
                try:
                    shapes.raster(shapes.Drawing(shown), 50, 60)
                except UserError:
                    kinds.append("outside")
        except UserError as error:
            assert error.__cause__ is None, "caught by the last net only"
            kinds.append("refused")
    assert set(kinds) == {"read", "outside", "refused"}
