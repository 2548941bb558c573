"""How sure networks are, on batches made by hand; nnU-Net's probabilities; and the seconds of a stage."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from uscl.stages import embedding, experiment, nnunet_predict
from uscl.stages.certainty import Certainty
from uscl.stages.nnunet_predict import Heads


def test_certainty_by_hand(tmp_path):
    """Three pixels count: right at 0.78, wrong at 0.62, a background that is none. The fourth, background and called so, does not."""
    certainty = Certainty(["ann", "bob"])
    probability = np.float32([[[[0.22, 0.78]]], [[[0.38, 0.62]]]]), np.float32([[[[0.9, 0.1], [0.9, 0.1]]]])
    part = {"image": np.zeros((2, 1, 1, 1), np.uint8), "cine": np.array([4, 5]), "frame": np.array([6, 7])}
    certainty.see(part | {"label": np.array([[[1]], [[0]]]), "probability": probability[0]})
    first, certainty.shown = certainty.shown, []
    wide = {"image": np.zeros((1, 1, 2, 1), np.uint8), "label": np.array([[[1, 0]]]), "probability": probability[1]}
    certainty.see(wide | {"cine": [8], "frame": [9]})
    assert [one[3:] for one in first] == [("ann", 4, 6), ("bob", 5, 7)] and certainty.seen == 3 and not certainty.shown
    assert first[0][2].ravel().tolist() == [56, 199]
    certainty.shown = first
    certainty.save(tmp_path)
    found = json.loads((tmp_path / "calibration.json").read_text())
    assert found["pixels"] == 3 and found["ece"] == pytest.approx((0.22 + 0.62 + 0.9) / 3)
    assert found["brier"] == pytest.approx(2 * (0.22**2 + 0.62**2 + 0.9**2) / 3)
    full = {place: (c, round(t, 6)) for place, (n, c, t) in enumerate(zip(*found["bins"].values(), strict=True)) if n}
    assert full == {9: (pytest.approx(0.62), 0.0), 11: (pytest.approx(0.78), 1.0), 13: (pytest.approx(0.9), 0.0)}


def test_networks_without_probabilities_or_features_leave_no_file(tmp_path):
    certainty, regions = Certainty(["ann"]), embedding.Regions({"a": [1]})
    part = {"image": np.zeros((1, 2, 2, 1), np.uint8), "label": np.ones((1, 2, 2), int), "cine": [0], "frame": [0]}
    certainty.see(part)
    regions.see(part)
    certainty.save(tmp_path)
    assert not list(tmp_path.iterdir()) and not regions.z


class FakeTiles:
    """Logits (0, the image's own value above its mean), times `params`."""

    def many(self, images, params):
        return [np.concatenate([0 * x, params * x], -1) for x in images]


def test_probabilities_of_nnunet_are_of_the_mean_logits_without_the_rules():
    image = np.zeros((1, 4, 5, 1), np.uint8)
    image[0, 1:3, 1:4, 0] = [[9, 1, 9], [9, 1, 1]]
    rules = {"keep_largest": [[1]]}
    how = {"masked": False, "rules": rules, "watched": True}
    values, more = nnunet_predict.make_values(FakeTiles(), [1.0, 3.0], Heads(values=2), **how)(image)
    assert values[0].sum() == 2 and values[0, 1, 3] == 0, "the single pixel is removed"
    found = more["probability"]
    assert found.shape == (1, 4, 5, 2) and found.dtype == np.float32
    inside = image[0, 1:3, 1:4, 0].astype(np.float64)
    high = 2 * (inside - inside.mean()) / inside.std()  # 1 and 3 times, halved
    np.testing.assert_allclose(found[0, 1:3, 1:4, 1], 1 / (1 + np.exp(-high)), atol=1e-5)
    beyond = np.ones((4, 5), bool)
    beyond[1:3, 1:4] = False
    np.testing.assert_array_equal(found[0][beyond], np.tile([1, 0], (beyond.sum(), 1)))
    regions = Heads(values=3, regions=((1, 2), (2,)), paint=(1, 2))
    assert nnunet_predict.make_values(FakeTiles(), [1.0], regions, **how | {"rules": None})(image)[1] == {}


def test_seconds_of_all_cores_add_up_over_interruptions(tmp_path, monkeypatch):
    now = {"wall": 100.0, "cpu": [1.0, 2.0, 3.0, 4.0]}
    monkeypatch.setattr(experiment, "time", SimpleNamespace(monotonic=lambda: now["wall"]))
    monkeypatch.setattr(experiment, "os", SimpleNamespace(times=lambda: (*now["cpu"], 1e6 * now["wall"])))
    with pytest.raises(KeyboardInterrupt), experiment.timed(tmp_path, "finetune"):
        now.update(wall=110.0, cpu=[2.0, 4.0, 8.0, 12.5])  # 1 + 2 here, 5 + 8.5 in children
        raise KeyboardInterrupt
    with experiment.timed(tmp_path, "evaluate"):
        pass
    with experiment.timed(tmp_path, "finetune"):
        now.update(wall=111.5, cpu=[2.0, 4.0, 8.0, 12.75])
    assert json.loads((tmp_path / "timing.json").read_text()) == {"finetune": 11.5, "evaluate": 0.0}
    assert json.loads((tmp_path / "cpu.json").read_text()) == {"finetune": pytest.approx(16.7, abs=0.11), "evaluate": 0.0}
