"""Masks made here, of every kind annotators save, against the labels they were made from; HC18's outlines against its filled masks."""

import functools

import numpy as np
import pytest
from PIL import Image, ImageDraw

from uscl.data import masks
from uscl.data.items import Mask
from uscl.data.pairing import pair
from uscl.metrics.overlap import dice
from uscl.types import UserError

COLOURS = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (128, 0, 128)], np.uint8)


def saved(path, x, **options):
    Image.fromarray(np.asarray(x)).save(path, **options)
    return path


def read(path, shape=(20, 30), **options):
    return masks.raster(Mask((path,), **options), *shape)


def as_values(raster):
    return np.array([0, *raster.keys])[raster.index]


@pytest.fixture
def small():
    truth = np.zeros((20, 30), np.uint8)
    truth[2:5, 3:9], truth[10:15, 3:9], truth[17, 20] = 1, 2, 2
    return truth


@functools.cache
def organs(height, width, classes):
    """Label values 0..classes: ellipses that touch or overlap, on a grid of the image's own size."""
    y, x = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    label = np.zeros((height, width), np.uint8)
    for k, (cy, cx, a, b) in enumerate([(0.4, 0.4, 0.3, 0.33), (0.4, 0.35, 0.15, 0.17), (0.75, 0.75, 0.2, 0.2), (0.3, 0.8, 0.22, 0.15),
                                        (0.8, 0.2, 0.13, 0.17)][:classes], 1):  # fmt: skip
        label[((y - cy) / a) ** 2 + ((x - cx) / b) ** 2 < 1] = k
    return label


def agree(raster, truth):
    """The least Dice over the classes of `truth`, once there are as many in `raster`; which is which the majority says."""
    classes = np.unique(truth)[1:]
    assert len(raster.keys) == len(classes), raster.keys
    return min(dice(raster.index == np.bincount(raster.index[truth == k]).argmax(), truth == k) for k in classes)


def test_every_mode(tmp_path, small):
    palette = Image.fromarray(small)
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    palette.save(tmp_path / "p.png")
    clear = np.dstack([COLOURS[small] | (small == 0)[..., None] * np.uint8(255), np.where(small, 255, 0).astype(np.uint8)])
    made = {
        "p": (None, [1, 2]), "index": (small, [1, 2]), "gray": (small * 100, [100, 200]), "deep": (np.uint16(700) * small, [700, 1400]),
        "equal": (np.repeat(small[..., None] * 100, 3, 2), [100, 200]), "colour": (COLOURS[small], [0x00FF00, 0xFF0000]),
        "clear": (clear, [0x00FF00, 0xFF0000]), "bit": (small > 0, [255]),
    }  # fmt: skip
    for name, (x, keys) in made.items():
        path = tmp_path / f"{name}.png" if x is None else saved(tmp_path / f"{name}.png", x)
        raster = read(path)
        assert raster.index.dtype == np.uint8 and list(raster.keys) == keys, name
        expected = {"bit": small > 0}.get(name, np.array([0, 2, 1])[small] if 0x00FF00 in keys else small)
        np.testing.assert_array_equal(raster.index, expected, name)  # the lone pixel of class 2 included


def test_named_values(tmp_path, small):
    gray = saved(tmp_path / "g.png", np.array([0, 100, 251], np.uint8)[small])
    assert read(gray, values={255: "lesion", 100: "cyst"}).keys == ("cyst", "lesion")
    only = read(gray, values={255: "lesion"})  # 100 is nearer to the background
    assert only.keys == ("lesion",) and np.array_equal(only.index, small == 2)
    assert np.array_equal(read(gray, values={100: "cyst"}).index, small == 1)  # 251 is nobody's
    index = saved(tmp_path / "i.png", small)
    assert read(index, values={3: "nerve"}).keys == ()  # class numbers are not near to one another
    assert np.array_equal(read(index, values={1: "nerve"}).index, small == 1)  # a class of its own, and nobody's
    joined = read(index, values={1: "organ", 2: "organ"})
    assert joined.keys == ("organ",) and np.array_equal(joined.index, small > 0)
    bit = saved(tmp_path / "b.png", small > 0)
    assert read(bit, values={255: "a"}).index.sum() == read(bit, values={1: "a"}).index.sum() == (small > 0).sum()
    colour = saved(tmp_path / "c.png", COLOURS[small])
    assert read(colour, values={0xFE0101: "red"}).index.sum() == (small == 1).sum()


def test_joined_masks_the_first_wins(tmp_path):
    paths = []
    for value, rows in ((40, slice(0, 4)), (90, slice(3, 8))):
        x = np.zeros((10, 10), np.uint8)
        x[rows] = value
        paths.append(saved(tmp_path / f"{value}.png", x))
    raster = masks.raster(Mask(tuple(paths)), 10, 10)
    assert as_values(raster)[:, 0].tolist() == [40] * 4 + [90] * 4 + [0] * 2


@pytest.mark.parametrize("classes,quality", [(1, 50), (5, 50), (3, 75), (2, 95)])
def test_jpeg(tmp_path, classes, quality):
    truth = organs(240, 320, classes)
    levels = np.linspace(0, 255, classes + 1).round().astype(np.uint8)
    for name, x, shape in (("gray", levels[truth], truth.shape), ("colour", COLOURS[organs(360, 480, classes)], (360, 480))):
        path = saved(tmp_path / f"{name}.jpg", x, quality=quality)
        assert agree(read(path, shape), organs(*shape, classes)) >= 0.99, name


def test_jpeg_of_a_small_region(tmp_path):
    """No block of the JPEG is of one class alone, so nothing is quite flat; what is smaller still is refused and not lost."""
    y, x = np.mgrid[:48, :64]
    for radius in (8, 4):
        truth = ((y - 20) ** 2 + (x - 28) ** 2 < radius**2).astype(np.uint8)
        path = saved(tmp_path / "s.jpg", np.array([(0, 0, 0), (200, 30, 90)], np.uint8)[truth], quality=60)
        if radius == 8:
            assert agree(read(path, truth.shape), truth) >= 0.9
    with pytest.raises(UserError, match="s.jpg: its regions are too small"):
        read(path, truth.shape)


def test_soft_edges(tmp_path):
    for classes in (2, 5):
        truth = organs(960, 1280, classes)
        for name, table in (("gray", np.linspace(0, 255, classes + 1).round().astype(np.uint8)), ("colour", COLOURS)):
            soft = Image.fromarray(table[truth]).resize((320, 240), Image.Resampling.BOX)
            soft.save(tmp_path / f"{name}.png")
            raster = read(tmp_path / f"{name}.png", (240, 320))
            assert agree(raster, truth[2::4, 2::4]) >= 0.99
            expected = {int(v) for v in table[1 : classes + 1]} if name == "gray" else {int(r) << 16 | int(g) << 8 | int(b)
                        for r, g, b in table[1 : classes + 1]}  # fmt: skip
            assert set(raster.keys) == expected
    named = read(saved(tmp_path / "n.png", np.asarray(soft.convert("L")) // 2 * 2), (240, 320), values={76: "a", 226: "b"})
    assert named.keys == ("a", "b")


def test_a_thin_line_is_no_edge(tmp_path):
    x = np.zeros((60, 60), np.uint8)
    x[10:30, 10:30], x[40, 5:55] = 200, 100
    assert read(saved(tmp_path / "a.png", x), (60, 60)).keys == (100, 200)


def test_pages(tmp_path, small):
    frames = np.stack([small, small * 0, np.roll(small, 3, 1)])
    pages = [Image.fromarray(f) for f in frames]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    sitk = pytest.importorskip("SimpleITK")
    sitk.WriteImage(sitk.GetImageFromArray(frames.astype(np.int16)), str(tmp_path / "a.nii.gz"))
    for name in ("a.tif", "a.nii.gz"):
        mask = Mask((tmp_path / name,), frame=None)
        found = dict(masks.rasters(mask, 20, 30, 3))
        np.testing.assert_array_equal(np.stack([as_values(found[t]) for t in range(3)]), frames)
        for count, says in ((2, "more"), (4, "3")):
            with pytest.raises(UserError, match=f"{name}: a mask of {says} pages; its recording has {count} frames"):
                for t, _ in masks.rasters(mask, 20, 30, count):
                    assert t < count
        with pytest.raises(UserError, match="more pages"):
            read(tmp_path / name)


def test_what_is_no_mask(tmp_path, small):
    noise = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    many = np.repeat(np.repeat(np.arange(70, dtype=np.uint16).reshape(7, 10), 3, 0), 3, 1)
    (tmp_path / "broken.png").write_bytes(saved(tmp_path / "a.png", small).read_bytes()[:60])
    for path, shape, says in (
        (tmp_path / "a.png", (30, 20), "a.png: a mask of 20 x 30 pixels; its image has 30 x 20"),
        (saved(tmp_path / "n.png", noise), (20, 30), "n.png: .*distinct values|n.png: .*lie between levels"),
        (saved(tmp_path / "n.jpg", noise), (20, 30), "n.jpg: .*lie between levels"),
        (saved(tmp_path / "m.png", many), (21, 30), "m.png: 70 distinct values; .* at most 64"),
        (saved(tmp_path / "s.jpg", small), (20, 30), "s.jpg: .*too alike"),
        (saved(tmp_path / "f.tif", small / np.float32(2)), (20, 30), "f.tif: its pixels are fractions"),
        (tmp_path / "broken.png", (20, 30), "broken.png: cannot be read"),
    ):
        with pytest.raises(UserError, match=says):
            read(path, shape)


def ellipse(cx, cy, a, b, *, fill, shape=(200, 300), broken=None):
    image = Image.new("L", shape[::-1])
    ImageDraw.Draw(image).ellipse([cx - a, cy - b, cx + a, cy + b], outline=255, fill=255 if fill else None)
    x = np.array(image)
    if broken:
        rows, columns = np.nonzero(x)
        turn = np.argsort(np.arctan2(rows - cy, columns - cx))
        gone = turn[np.arange(len(turn)) % 7 < broken]
        x[rows[gone], columns[gone]] = 0
    return x


@pytest.mark.parametrize("centre,broken", [
    ((150, 100), 0), ((150, 100), 1), ((150, 100), 2), ((150, 10), 0), ((20, 30), 0), ((290, 100), 2), ((150, 190), 2),
])  # fmt: skip
def test_outline(tmp_path, centre, broken):
    path = saved(tmp_path / "o.png", ellipse(*centre, 80, 55, fill=False, broken=broken))
    raster = read(path, (200, 300), outline=True)
    assert raster.keys == (255,) and dice(raster.index, ellipse(*centre, 80, 55, fill=True)) > 0.99


def test_outlines_of_other_kinds(tmp_path):
    wide = ellipse(150, 100, 200, 55, fill=False)  # leaves the image on the left and on the right
    assert dice(read(saved(tmp_path / "w.png", wide), (200, 300), outline=True).index, ellipse(150, 100, 200, 55, fill=True)) > 0.99
    twins = [ellipse(80, 100, 40, 55, fill=f) | ellipse(220, 100, 40, 55, fill=f) for f in (False, True)]
    assert dice(read(saved(tmp_path / "t.jpg", twins[0], quality=75), (200, 300), outline=True).index, twins[1]) > 0.99
    for x in twins:
        raster = read(saved(tmp_path / "t.png", x), (200, 300), outline=True, values={255: "head"})
        assert raster.keys == ("head",) and dice(raster.index, twins[1]) > 0.99
    square = np.zeros((20, 30), np.uint8)
    square[5:10, 5:10] = 7
    square[6:9, 6:9] = 0
    assert as_values(read(saved(tmp_path / "q.png", square), outline=True)).sum() == 7 * 25
    line = np.zeros((20, 30), np.uint8)
    line[5, 5:20] = 255
    for x in (line, line * 0):
        with pytest.raises(UserError, match="l.png: its outline encloses nothing"):
            read(saved(tmp_path / "l.png", x), outline=True)


def test_real_outlines(data_root):
    """Every twelfth of the 71. They fill to their masks, whose border is the outline's outer one and a ragged pixel more."""
    outlines = sorted((data_root / "hc18" / "annotations_outline").iterdir())[::12]
    assert len(outlines) == 6
    for path in outlines:
        filled = np.asarray(Image.open(data_root / "hc18" / "masks_filled" / path.name.replace("Annotation", "mask")).convert("L")) > 127
        assert dice(read(path, filled.shape, outline=True).index, filled) >= 0.998, path.name


def test_real_palette_masks(data_root):
    for path in sorted((data_root / "usgra_seg" / "train" / "masks").iterdir())[::20]:
        expected = np.asarray(Image.open(path))
        np.testing.assert_array_equal(as_values(read(path, expected.shape)), expected)


def test_which_mask_goes_with_which_image(tmp_path):
    names = ["images/a.jpg", "masks/a.png", "images/b.png", "masks/b_mask.png", "images/c.png", "labels/c.png", "masks/z.png", "d.png",
             "d_mask.png", "d_mask_1.png", "e_mask.png", "f.png", "f_GT.png", "g.png", "g_label.png", "h.png", "h_seg.bmp"]  # fmt: skip
    found, lonely = pair([tmp_path / n for n in names])
    found = {str(k.relative_to(tmp_path)): [str(m.relative_to(tmp_path)) for m in v] for k, v in found.items()}
    assert found == {
        "images/a.jpg": ["masks/a.png"], "images/b.png": ["masks/b_mask.png"], "images/c.png": ["labels/c.png"],
        "d.png": ["d_mask.png", "d_mask_1.png"], "f.png": ["f_GT.png"], "g.png": ["g_label.png"], "h.png": ["h_seg.bmp"],
    }  # fmt: skip
    assert lonely == [tmp_path / "masks/z.png", tmp_path / "e_mask.png"]
    (tmp_path / "given").mkdir()
    for name in ("a.png", "b_seg.png"):
        saved(tmp_path / "given" / name, np.zeros((4, 4), np.uint8))
    found, _ = pair([tmp_path / "a.jpg", tmp_path / "b.jpg"], tmp_path / "given")
    assert [[m.name for m in v] for v in found.values()] == [["a.png"], ["b_seg.png"]]
