"""What the page shows of the pairs of stills and sweeps: which rows stand together, what they are called, and what the ratio takes away."""

import json

import numpy as np
import pytest
from matplotlib.figure import Figure

from uscl.report import pairs
from uscl.report.folder import Folder, Missing
from uscl.report.page import OF_STAGES

# A batch by hand. Stills first: planes a b a c b a of cines 9 8 7 6 5 4, then two sweeps: cine 3 at frames 5 and 1, cine 2 at 0 and 9.
CINE, FRAME = np.array([9, 8, 7, 6, 5, 4, 3, 3, 2, 2]), np.array([0, 0, 0, 0, 0, 0, 5, 1, 0, 9])
PLANE = np.array(list("abacba") + list("wxyz"))


class Easel:
    """Draws the first panel alone, and keeps what stands beside it."""

    def block(self, name, panels, columns):
        axes = Figure().subplots()
        panels[0].draw(axes)
        named = [tick.get_text() for tick in axes.get_yticklabels()]
        return {"kind": "panels", "name": name, "titles": [panel.caption for panel in panels], "named": named}


def weights():
    return (PLANE[:, None] == PLANE).astype(np.float32)


def folder(path, *, stages=("anatomy", "planes"), told=True, **how):
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps({"stages": stages, "anatomy": {"method": "awcl", "ratio": 1.0} | how}))
    if told:
        (path / "anatomy").mkdir(exist_ok=True)
        positive = np.tile(weights(), (2, 2)) - np.eye(20)
        np.savez(path / "anatomy" / "pairs.npz", weights=weights(), positive=positive, negative=1 - positive - np.eye(20),
                 cine=CINE, frame=FRAME)  # fmt: skip
    return Folder(path)


def test_rows_that_attract_stand_together():
    order, part, called = pairs.parted(weights(), CINE, FRAME)
    assert PLANE[order].tolist() == list("aaabbc") + list("yzxw"), "the three of a, the two of b, c alone, sweeps by cine and frame"
    assert CINE[order].tolist() == [4, 7, 9, 5, 8, 6, 2, 2, 3, 3]
    assert [called[p] for p in part[order].tolist()] == ["3 alike"] * 3 + ["2 alike"] * 2 + ["alone"] + ["cine 2"] * 2 + ["cine 3"] * 2
    assert len(set(part.tolist())) == 5


def test_frames_near_in_time_do_not_part_their_sweep():
    near = weights()
    near[6, 7] = near[7, 6] = near[8, 9] = near[9, 8] = 0.5
    order, part, called = pairs.parted(near, CINE, FRAME)
    assert PLANE[order].tolist() == list("aaabbcyzxw") and [called[p] for p in part[order[-4:]]] == ["cine 2"] * 2 + ["cine 3"] * 2
    order, part, called = pairs.parted(np.eye(10), CINE, FRAME)
    assert [called[p] for p in part[order]] == ["alone"] * 6 + ["cine 2"] * 2 + ["cine 3"] * 2, "no label: nobody stands together"


def test_blocks_lie_on_the_diagonal_and_carry_their_names():
    order, part, called = pairs.parted(weights(), CINE, FRAME)
    axes = Figure().subplots()
    pairs._matrix(weights(), part, order, "w", called).draw(axes)
    shown = axes.images[0].get_array()
    assert shown[:3, :3].all() and shown[3:5, 3:5].all() and shown.sum() == 9 + 4 + 5
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["3 alike", "2 alike", "alone", "cine 2", "cine 3"]
    large = Figure().subplots()
    pairs._matrix(np.tile(weights(), (3, 3)), part, order, "w", called).draw(large)
    assert [tick.get_text() for tick in large.get_yticklabels()] == ["3 alike", "2 alike", "", "cine 2", "cine 3"] * 3, (
        "no room for one row"
    )
    assert axes.get_ylabel() == "" and [y for y in axes.get_yticks()] == [1, 3.5, 5, 6.5, 8.5]


def test_the_section_tells_what_was_attracted(tmp_path):
    found = pairs.weights(folder(tmp_path / "run"), Easel())
    assert [block.get("text") for block in found["blocks"] if block["kind"] == "heading"] == ["anatomy"]
    panels = found["blocks"][1]
    assert (panels["name"], panels["titles"]) == ("pairs-anatomy", ["resemblance", "attracts", "repels"])
    assert panels["named"] == ["3 alike", "2 alike", "alone", "cine 2", "cine 3"]
    assert found["blocks"][0]["note"] == "10 frames of 8 cines" and "stills that show the same together" in found["text"]
    assert "probability" not in found["text"] and "anatomy" in OF_STAGES["pairs"]


@pytest.mark.parametrize("how, told", [
    ({"ratio": 0.3}, "in every step, each label is known with a probability of 0.3"),
    ({"ratio": 0.0}, "no label is known; a still without one attracts its own other view alone"),
])  # fmt: skip
def test_the_ratio_takes_labels_away(how, told, tmp_path):
    assert told in pairs.weights(folder(tmp_path / "run", **how), Easel())["text"]


def test_uscl_has_no_matrices_and_a_run_may_not_have_come_so_far(tmp_path):
    found = pairs.weights(folder(tmp_path / "uscl", told=False, method="uscl"), None)
    assert found["blocks"] == [] and "mixed from one cine" in found["text"]
    with pytest.raises(Missing, match="anatomy/pairs.npz"):
        pairs.weights(folder(tmp_path / "early", told=False), None)
    with pytest.raises(Missing, match="encoder/pairs.npz .*decoder/pairs.npz"):
        pairs.weights(folder(tmp_path / "frames", stages=("encoder", "decoder"), told=False), None)
