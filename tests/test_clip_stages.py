"""What the stages on clips share: the order of frames, the door, features of whole videos, the look at labels, and what is asked for."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import lungs
import numpy as np
import pytest

from uscl.stages import clips, run, video

RNG = np.random.default_rng(0)


def test_without_temporal_changes_frames_keep_their_order():
    """All else is off, and frames are always reversed."""
    block = lungs.config(**{f"video.views.{name}.probability": 0.0 for name in ("affine", "jitter", "noise", "erase")}).video.views
    block.flip, block.temporal.reverse, block.temporal.most = 0.0, 1.0, 0
    clip = RNG.uniform(size=(2, 5, 8, 8, 1)).astype(np.float32)
    for temporal, want in ((False, clip), (True, clip[:, ::-1])):
        view = jax.jit(clips.make_view(block, temporal=temporal))
        np.testing.assert_array_equal(view(jax.random.key(0), clip), want)


def test_a_clip_is_normalised_as_a_whole():
    clip = np.float32([1, 2, 3, 6]).reshape(1, 2, 1, 2, 1).repeat(2, 0) * np.float32([1, 10]).reshape(2, 1, 1, 1, 1)
    got = np.asarray(clips.at_the_door(jnp.asarray(clip), "standardise")).reshape(2, 4)
    np.testing.assert_allclose(got, [np.array([-2, -1, 0, 3]) / 3.5**0.5] * 2, rtol=1e-4)  # mean 3, variance (4 + 1 + 0 + 9) / 4
    np.testing.assert_array_equal(clips.at_the_door(jnp.asarray(clip), "none"), clip)


@pytest.mark.parametrize("temporal", [True, False])
def test_what_the_stage_asks_of_the_training(temporal, tmp_path, monkeypatch):
    asked, views = SimpleNamespace(), []
    monkeypatch.setattr(clips, "make_view", lambda block, *, temporal: views.append(temporal))

    def train(run, stage, loss_fn, variables, batches, **options):
        asked.__dict__.update(options, stage=stage, variables=variables, batches=batches)
        return {kind: variables[kind] for kind in ("params", "batch_stats")}

    store = lungs.make_store(tmp_path / "store")
    made = lungs.config(store, **{"video.temporal": temporal, "video.stride": 2, "video.frames": 3, "video.look_every": 7})
    with lungs.opened(made, tmp_path / "run") as opened:
        handed = video.run(opened, None, train=train)
        assert video.run(opened, None, train=lambda *_, **__: None) is None  # a replay
    assert views == [temporal] * 2 and asked.stage == "video" and asked.weights == {"similarity": 1.0}
    assert (asked.batches.stride, asked.batches.frames, asked.batches.size, asked.batches.left_out) == (2, 3, 4, 0)
    assert dataclasses.replace(asked.course, optimizer=None) == run.Course(lungs.STEPS, None, 7, "video", keep="last")
    assert "target" in asked.variables["batch_stats"] and "target" not in handed["batch_stats"] and "encoder" in handed["batch_stats"]
    assert asked.validate is not None


def test_a_look_asks_neighbours_and_a_line(tmp_path):
    """An encoder that tells mean gray: what is bright is positive, on both sides, so both say 1; turned round at one side they say 0."""

    class Gray:
        def apply(self, variables, clip, train):
            gray = jnp.tanh(clip[:, :, 4:20, 6:26].mean((1, 2, 3, 4)))
            return jnp.stack([gray * variables["params"], jnp.full_like(gray, 0.1)], 1)

    store = lungs.make_store(tmp_path / "store")
    with lungs.opened(lungs.config(store), tmp_path / "run") as opened:
        look = clips.make_look(opened, Gray())
        state = SimpleNamespace(params={"encoder": jnp.float32(1)}, batch_stats={"encoder": jnp.float32(0)})
        assert look(state) == (1.0, {"linear_auc": 1.0})
    unlabelled = lungs.make_store(tmp_path / "other", column="kind")
    with lungs.opened(lungs.config(unlabelled), tmp_path / "second") as opened:
        assert clips.make_look(opened, Gray()) is None
    one = lungs.make_store(tmp_path / "one", labels=("normal",))
    with lungs.opened(lungs.config(one), tmp_path / "third") as opened:
        assert clips.make_look(opened, Gray()) is None


def test_features_of_whole_videos_whatever_the_batch(tmp_path):
    """Of each clip its mean gray and how many frames it has: 20 videos, 3 clips each, seen 8 at a time."""
    made = lungs.config(lungs.make_store(tmp_path / "store"), **{"model.normalise": "none"})
    with lungs.opened(made, tmp_path / "run") as run:
        features = clips.make_features(run, lambda by, x: jnp.stack([by * x.mean((1, 2, 3, 4)), jnp.full(len(x), x.shape[1])], 1))
        cines = np.array([4, 0, 19, 7, 11])
        found = features(np.float32(2), cines, 3)
        data = run.store
    assert found.shape == (5, 3, 2) and found.dtype == np.float32
    for cine, each in zip(cines, found, strict=True):
        room = data.length(cine) - 4
        starts = [int(share * room) for share in (0, 0.5, 1)]
        want = [2 / 255 * np.mean([data.frame(cine, s + t) for t in range(4)]) for s in starts]
        np.testing.assert_allclose(each, np.stack([want, [4] * 3], 1), rtol=1e-5)
