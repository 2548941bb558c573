"""Occlusion maps of test videos: the fast map against blocks hidden one by one, which videos, which boxes, and what is summed up."""

from types import SimpleNamespace

import jax
import lungs
import numpy as np
import pytest

from uscl import models
from uscl.metrics import localisation
from uscl.models import ClipEncoder
from uscl.stages import saliency


@pytest.fixture(scope="module")
def made_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saliency")
    store = lungs.make_store(folder / "store")
    window = {"saliency.window": (0, 12, 16), "saliency.stride": (0, 10, 0), "saliency.videos": 9}
    with lungs.opened(lungs.config(store, **window), folder / "run") as run:
        yield run


OTHERS = np.random.default_rng(4).normal(size=(2, 4, 32, 32, 1)).astype(np.float32)


@pytest.mark.parametrize("others", [None, OTHERS], ids=["blur", "others"])
def test_the_map_is_what_hiding_a_block_costs(made_run, others):
    """Rows in blocks of 12 every 10, the last cut at the border; columns in two blocks; all frames at once.

    Shown instead: local means, or one after the other what each of two other clips has there.
    """
    model = models.Classifier(encoder=ClipEncoder(**lungs.SMALL))
    variables = jax.tree.map(np.array, models.initialise(model, 1, (4, 32, 32, 1)))
    variables["params"]["head"]["bias"][:] = 0.3, -0.2  # cancels
    clip = np.random.default_rng(0).normal(size=(4, 32, 32, 1)).astype(np.float32)
    apply = jax.jit(lambda x: model.apply(variables, x, train=False))

    def odds(x):
        found = np.asarray(apply(x[None]), float)[0]
        return found[1] - found[0]

    around = np.empty_like(clip)  # at most half a block away: 2 frames, 6 rows, 8 columns
    for t, i, j in np.ndindex(4, 32, 32):
        around[t, i, j] = clip[max(t - 2, 0) : t + 3, max(i - 6, 0) : i + 7, max(j - 8, 0) : j + 9].mean()
    falls, covered = np.zeros((32, 32)), np.zeros((32, 32))
    for shown in [around] if others is None else others:
        for top in (0, 10, 20):
            for left in (0, 16):
                hidden = clip.copy()
                hidden[:, top : top + 12, left : left + 16] = shown[:, top : top + 12, left : left + 16]
                falls[top : top + 12, left : left + 16] += odds(clip) - odds(hidden)
                covered[top : top + 12, left : left + 16] += 1
    assert covered.min() >= 1
    got = np.asarray(saliency.make_map(made_run)(variables, clip, others))
    np.testing.assert_allclose(got, falls / covered, atol=2e-5 * np.abs(falls).max() + 1e-6)
    assert np.ptp(got) > 1e-3


def test_a_hidden_block_shows_negative_training_videos(made_run):
    """Of 10 training videos 5 are negative, the even ones; each is seen as the network is shown a clip from its middle."""
    data = made_run.store
    train = data.cines_of(data.patients("train"))
    everyone = saliency.middle_clips(made_run, train)[1]
    told = [[np.array_equal(one, other) for other in everyone].index(True) for one in saliency.negatives(made_run)]
    assert len(told) == made_run.config.saliency.others == 4 and sorted(set(told)) == told and not any(place % 2 for place in told)
    with made_run.config.unlocked():
        made_run.config.saliency.others = 99
        assert len(saliency.negatives(made_run)) == 5
        made_run.config.saliency.others, made_run.config.saliency.hidden = 4, "blur"
        assert saliency.negatives(made_run) is None
        made_run.config.saliency.hidden = "negative"


def test_boxes_out_of_sight_are_left_out(made_run):
    data = made_run.store
    cine = int(data.cines_of(data.patients("test"))[1])
    found = saliency.boxes_of(made_run, cine, np.array([0, 1, 3, 3]))
    assert [one.tolist() for one in found] == [[], [list(lungs.BOX)], [list(lungs.BOX)], [list(lungs.BOX)]]


def test_a_store_that_knows_no_boxes():
    seen = [[[1, 2, 3, 4]], [[-1] * 4], [[5, 6, 7, 8]]]
    store = SimpleNamespace(length=lambda cine: 3, truth={0: {}, 1: {"boxes": [[], [], []]}, 2: {"boxes": seen}})
    assert [saliency.boxes_of_cine(store, cine).shape for cine in (0, 1, 2, 9)] == [(3, 0, 4), (3, 0, 4), (3, 1, 4), (3, 0, 4)]
    frames = saliency.boxes_of(SimpleNamespace(store=store), 2, np.arange(3))
    assert [one.tolist() for one in frames] == [[[1, 2, 3, 4]], [], [[5, 6, 7, 8]]]


def test_positive_videos_that_show_a_box_come_first(made_run, monkeypatch):
    data = made_run.store
    positive = data.cines_of(data.patients("test"))[1::2]
    np.testing.assert_array_equal(saliency.chosen(made_run), positive)
    hidden = {cine: dict(facts) for cine, facts in data.truth.items()}
    hidden[int(positive[0])]["boxes"] = np.full((data.length(positive[0]), 1, 4), -1).tolist()
    monkeypatch.setitem(data.__dict__, "truth", hidden)
    np.testing.assert_array_equal(saliency.chosen(made_run), positive[[1, 2, 0]])


def test_a_summary_is_a_mean_over_videos_with_its_interval():
    """Two patients: the interval of two resampled ends at both. A video without a box has nan and is left out."""
    made = lungs.config()
    one = saliency.summary([{"hit": 0.0}, {"hit": 1.0}, {"hit": float("nan")}], ["a", "b", "c"], made)
    assert one == {"hit": {"mean": 0.5, "ci95": [0.0, 1.0]}}
    assert saliency.summary([{"hit": float("nan")}], ["a"], made) == {"hit": {"mean": None, "ci95": [None, None]}}
    assert saliency.summary([{"hit": 0.25}] * 2, ["a", "a"], made)["hit"] == {"mean": 0.25, "ci95": [None, None]}
    assert saliency.summary([], [], made) == {}


def test_the_stage_meets_the_boxes_of_its_own_frames(made_run, monkeypatch):
    """A map that is the box itself hits it, in each frame that has one."""
    block = np.zeros((32, 32), np.float32)
    block[lungs.BOX[0] : lungs.BOX[2] + 1, lungs.BOX[1] : lungs.BOX[3] + 1] = np.linspace(1, 2, 320).reshape(16, 20)
    share = 0.1 * 32 * 32 / 320  # of the box is kept: the highest, at its lower edge
    monkeypatch.setattr(saliency, "make_map", lambda run: lambda network, clip, others: block)
    monkeypatch.setattr(saliency.classify, "load_network", lambda run, mode: None)
    assert saliency.run(made_run, {"kept": 1}) == {"kept": 1}
    with np.load(made_run.folder / "saliency" / "maps.npz", allow_pickle=False) as file:
        assert file["boxes"].shape == (3, 4, 1, 4) and file["map_random"].shape == (3, 32, 32)
        each = [localisation(block, [frame[frame[:, 0] >= 0] for frame in own]) for own in file["boxes"]]
    told = (made_run.folder / "saliency" / "localisation.json").read_text()
    assert all(one.pointing == 1 and one.weighted_iou == pytest.approx(share, rel=0.2) for one in each) and '"pointing"' in told
