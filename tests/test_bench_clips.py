"""The bench's clip rows: their calls, their clips, and where torch is, that its side does the same work."""

import importlib
import inspect

import numpy as np
import pytest

from uscl.study import bench, bench_clip_views, bench_clips, bench_occlusion, bench_peers

ROOMS = {"clip_step": bench_clips, "clip_views": bench_clip_views, "occlusion": bench_occlusion}
NEEDS = "pip install -e .[bench]"


@pytest.mark.parametrize("row,rows,goal", [("clip_step", 1, 3.0), ("clip_views", 2, 1.5), ("occlusion", 4, 1.5)])
def test_both_sides_of_a_row_take_its_options(monkeypatch, row, rows, goal):
    asked = []
    monkeypatch.setattr(ROOMS[row], "compare", lambda *given, **more: asked.append((given, more)) or {})
    assert len(list(bench.ROWS[row]())) == rows == len({given[0] for given, _ in asked})
    for given, more in asked:
        inspect.signature(bench_peers.compare).bind(*given, **more)
        name, ours, peer, options = given
        assert more["goal"] == goal and name.startswith(row)
        assert more["library"] == options.get("library", "torch")
        for side in (ours, peer):
            module, function = side.split(":")
            inspect.signature(getattr(importlib.import_module(module), function)).bind("folder", **options)


def test_225_windows():
    places = [(64 - w) // s + 1 for w, s in zip(bench_occlusion.WINDOW, bench_occlusion.STRIDE, strict=True)]
    assert np.prod(places) == 225 and all((places[0] - 1) * s + w == 64 for w, s in zip((8, 8), (4, 4), strict=True))


def test_no_brightness_saturates_the_clips():
    clip = bench_clips.clips_of(3, 5, 16)
    assert clip.shape == (3, 5, 16, 16, 1) and clip.dtype == np.float32
    np.testing.assert_allclose([clip.min(), clip.max()], [0.1, 0.6], atol=1e-6)
    assert 1.3 * clip.max() < 1 and clip.std() > 0.03
    np.testing.assert_allclose([bench_clips.standardised(3, 5, 16).mean(), bench_clips.standardised(3, 5, 16).std()], [0, 1], atol=1e-5)


def test_the_twin_has_the_papers_parameters():
    torch = pytest.importorskip("torch", reason=NEEDS)
    from uscl.study import torch_darknet

    model = torch_darknet.Classifier()
    assert sum(p.numel() for p in model.parameters()) == 133_880 and sum(p.numel() for p in model.encoder.parameters()) == 133_842
    assert model.encoder(torch.zeros(2, 1, 16, 64, 33)).shape == (2, 18, 1, 2, 2)
    assert {m.eps for m in model.modules() if isinstance(m, torch.nn.BatchNorm3d)} == {1e-5}


def test_weights_that_do_not_fit_are_refused():
    torch = pytest.importorskip("torch", reason=NEEDS)
    from uscl.study import torch_darknet

    layer = torch_darknet.ConvNorm(2, 3)
    ours = {"params/conv/kernel": np.arange(162.0, dtype=np.float32).reshape(3, 3, 3, 2, 3)}
    ours |= {f"params/{name}": np.full(3, value, np.float32) for name, value in (("scale", 2), ("shift", 3))}
    ours |= {f"batch_stats/{name}": np.full(3, value, np.float32) for name, value in (("mean", 4), ("var", 5))}
    names = torch_darknet.load(layer, ours | {"logits": np.zeros(1)})
    assert set(names) == set(ours) and layer.norm.running_var.tolist() == [5] * 3 and layer.norm.bias.tolist() == [3] * 3
    assert layer.conv.weight[2, 1, 0, 1, 2] == ours["params/conv/kernel"][0, 1, 2, 1, 2]
    np.testing.assert_array_equal(torch_darknet.like_ours(layer.conv.weight), ours["params/conv/kernel"])
    with pytest.raises(ValueError, match="norm.running_var"):
        torch_darknet.load(layer, {name: value for name, value in ours.items() if not name.endswith("var")})
    with pytest.raises(ValueError, match="params/scale"):
        torch_darknet.load(layer, ours | {"params/scale": np.ones(4)})
    assert isinstance(layer.conv.weight, torch.nn.Parameter)


def test_the_peers_draws_are_the_tables():
    torch = pytest.importorskip("torch", reason=NEEDS)
    from uscl.study import torch_clips

    torch.manual_seed(0)
    n, height, width = 2000, 64, 80
    drawn = {name: value.numpy() for name, value in torch_clips.draw(n, 10, height, width).items()}
    for name, low, high in (("angle", -10, 10), ("scale", 0.8, 1.2), ("brightness", 0.7, 1.3), ("contrast", 0.7, 1.3)):
        assert low <= drawn[name].min() < low + 0.02 * (high - low) and high - 0.02 * (high - low) < drawn[name].max() <= high
    assert np.abs(drawn["shift"] / [width, height]).max(0) == pytest.approx([0.1, 0.1], rel=0.02)
    box, erased = drawn["box"], drawn["box"][:, 2] > 0
    for share in (drawn["mirror"].mean(), erased.mean()):
        assert abs(share - 0.5) < 4 * 0.5 / n**0.5
    area, aspect = box[erased, 2] * box[erased, 3] / (height * width), box[erased, 2] / box[erased, 3]
    assert 0.015 < area.min() and area.max() < 0.11 and abs(area.mean() - 0.06) < 0.003 and 0.25 < aspect.min() and aspect.max() < 4
    assert (box[:, :2] >= 0).all() and (box[:, :2] + box[:, 2:] <= [height, width]).all()
    order = drawn["order"]
    # Orders left alone: not reversed, shuffled to a new order with chance .229, replaced with .4 (see `frame_order`).
    assert abs((order == np.arange(10)).all(1).mean() - 0.5 * (1 - 0.229) * (1 - 0.4)) < 0.04
    assert order.min() == 0 and order.max() == 9 and (np.array([len(set(one)) for one in order]) >= 6).all()


@pytest.mark.slow
@pytest.mark.parametrize("library", ["kornia", "torchvision"])
def test_a_peer_makes_of_our_draws_what_we_make(tmp_path, library):
    pytest.importorskip("torch", reason=NEEDS)
    pytest.importorskip("kornia", reason=NEEDS)
    _agree(tmp_path, bench_clip_views.views_ours, bench_clip_views.views_peer, library=library, clips=8, frames=8, side=48)


@pytest.mark.slow
def test_a_step_in_torch_is_ours(tmp_path):
    pytest.importorskip("torch", reason=NEEDS)
    ours, twin = _agree(tmp_path, bench_clips.step_ours, bench_clips.step_twin, clips=4, frames=16, side=32)
    assert ours.answer["gradient"].shape == (133_880,) and ours.note["parameters"] == twin.note["parameters"] == 133_880
    # Adam makes full steps of the rounding in gradients near 0.
    assert ours.note["third_loss"] == pytest.approx(twin.note["third_loss"], rel=3e-3)


@pytest.mark.slow
@pytest.mark.parametrize("library,form", [("captum", "fast"), ("monai", "plain")])
def test_maps_of_the_peers_are_ours(tmp_path, library, form):
    pytest.importorskip("torch", reason=NEEDS)
    pytest.importorskip(library, reason=NEEDS)
    made = {"library": library, "form": form, "frames": 8, "side": 32}
    _agree(tmp_path, bench_occlusion.occlusion_ours, bench_occlusion.occlusion_peer, **made)


def _agree(folder, ours, peer, **options):
    ours = ours(str(folder), **options)
    np.savez(folder / "ours.npz", **ours.answer)
    peer = peer(str(folder), **options)
    np.savez(folder / "peer.npz", **peer.answer)
    assert bench_peers.distance(folder) < 1e-4
    return ours, peer
