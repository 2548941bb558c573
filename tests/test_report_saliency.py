"""Occlusion maps in the report: colours, boxes, the animation, and what is said of them."""
import base64
import io
import re

import numpy as np
import pytest
from PIL import Image
from test_report_videos import SHAPE, broken, write_run

from uscl.report import film, saliency
from uscl.report.figures import Easel
from uscl.report.folder import Folder, Missing
from uscl.report.page import fill


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


def test_frames_and_boxes_of_a_video():
    boxes = np.full((5, 2, 4), -1)
    assert saliency.nearest_boxed(saliency.own_boxes(boxes)) == 2
    boxes[0, 0] = boxes[3, 1] = 0, 0, 1, 3
    own = saliency.own_boxes(boxes)
    assert [len(each) for each in own] == [1, 0, 0, 1, 0] and own[3].tolist() == [[0, 0, 1, 3]]
    assert saliency.nearest_boxed(own) == 3 and saliency.covered(boxes[None], (4, 4)) == 0.5
    boxes[0, 1] = 1, 0, 2, 3
    assert saliency.covered(boxes[None], (4, 4)) == (0.75 + 0.5) / 2, "what two boxes share counts once"


def test_a_map_is_colour_where_hiding_costs(run):
    image, rising = np.full((2, 3), 100, np.uint8), np.array([[0, -4, 1], [2, 4, 0]])
    rgb = film.coloured(image, rising, 4.0)
    assert np.allclose(rgb[0, :2], 100 / 255) and np.allclose(rgb[1, 2], 100 / 255), "nothing and less stay gray"
    assert np.ptp(rgb[1, 1]) > 0.2 and np.abs(rgb[1, 1] - 100 / 255).max() > np.abs(rgb[0, 2] - 100 / 255).max() > 0.1
    assert np.allclose(film.coloured(image, -np.abs(rising), -1.0), 100 / 255)
    content = saliency.section(Folder(run), Easel(None))
    captions = [[cell["caption"] for cell in block["cells"]] for block in content["blocks"] if block["kind"] == "tiles"]
    assert captions == [["video", "random features", "fine-tuned"], ["video", "random features · 0.00", "fine-tuned · 1.00"],
                        ["video", "random features", "fine-tuned"]]  # fmt: skip
    (kept, *_), (box, *_) = film.outlines([(2, 3, 5, 8)], SHAPE, np.eye(*SHAPE))
    assert kept.sum() == 12 and np.array_equal(np.argwhere(box)[[0, -1]], [[2, 3], [5, 8]]) and box.sum() == 24


def test_what_a_hidden_block_shows_is_told(run):
    text = saliency.section(Folder(run), Easel(None))["text"]
    assert "is hidden behind its own mean, moved" in text, "a run from before there was a choice"
    assert saliency._behind({"hidden": "negative", "others": 4}) == (
        "behind what negative training videos have in its place, 4 of them in turn"
    )


def test_the_animation_moves_and_has_its_boxes(run):
    section = {"anchor": "a", "title": "", "missing": "", **saliency.section(Folder(run), Easel(None))}
    page = fill(title="", scale="", headline="", tiles=[], sections=[section], footer="")
    found = [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r'"data:image/webp;base64,([^"]+)"', page)]
    assert [(picture.format, picture.n_frames, picture.size) for picture in found] == [("WEBP", 3, (192, 144))] * 3
    plain = np.stack([(picture.seek(t), np.asarray(picture.convert("RGB"), float))[1] for picture in found[:1] for t in range(3)])
    greener = plain[..., 1] - plain[..., 0] > 40
    assert not greener[1].any() and np.array_equal(greener[0], greener[2]), "frame 1 has no box"
    rows, columns = np.where(greener[0])
    assert np.abs([rows.min() - 24, rows.max() - 71, columns.min() - 36, columns.max() - 107]).max() <= 2
    assert not greener[0, 32:64, 44:100].any()


def test_a_broken_archive_is_told_by_name(tmp_path):
    broken(tmp_path, "saliency/maps.npz", saliency.section)


def test_maps_without_boxes_or_that_do_not_fit(tmp_path):
    run = write_run(tmp_path / "run")
    (run / "saliency/localisation.json").write_text('{"random": {"weighted_iou": {"mean": null, "ci95": [null, null]}}}')
    assert "no video has a box" in [b["text"] for b in saliency.section(Folder(run), Easel(None))["blocks"] if b["kind"] == "missing"][0]
    arrays = dict(np.load(run / "saliency/maps.npz"))
    for wrong in ({"boxes": arrays["boxes"][:, :2]}, {"map_random": arrays["map_random"][:, 1:]}, {"boxes": arrays["boxes"] + 12},
                  {"map_random": arrays["map_random"] + np.nan}):  # fmt: skip
        np.savez(run / "saliency/maps.npz", **(arrays | wrong))
        with pytest.raises(Missing, match="do not fit together|not finite, or a box outside"):
            saliency.section(Folder(run), Easel(None))
