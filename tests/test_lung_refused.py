"""The lung paper's stages refuse what does not fit in one sentence, before anything is trained."""

import json

import lungs
import pytest

from uscl.stages import clips, experiment, start
from uscl.types import UserError


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return lungs.make_store(tmp_path_factory.mktemp("store") / "lungs")


REFUSED = {
    "column": ({"classify.column": "label"}, r"attributes.csv: it has no column 'label'; its columns are 'class'"),
    "negative": ({"classify.negative": ("healthy",)}, r"column 'class' holds none of 'healthy', the negative class; it holds 'conso"),
    "pretraining": ({"stages": ("classify",)}, r"config.classify.modes: 'features' needs a pretrained encoder; put 'video' before"),
    "other network": ({"stages": ("video", "encoder", "classify")}, r"'video' before 'encoder'; the first has a network of clips"),
    "frames first": ({"stages": ("finetune", "video")}, r"'finetune' before 'video'; the first has a network of frames"),
    "folds": ({"data.cross": 3}, r"config.data.fold: found -1; with config.data.cross=3 allowed is a number from 0 to 2"),
    "saliency": ({"stages": ("video", "saliency")}, r"config.stages: found .*; 'saliency' needs the networks of 'classify' before it"),
    "cines": ({"video.clips": 12}, r"clips: a batch asks for 12 cines, the patients have 10 of 4 frames or more; lower clips"),
    "long": ({"video.frames": 9}, r"clips: a batch asks for 4 cines, the patients have 0 of 9 frames or more"),
    "devices": ({"video.clips": 6}, r"config.video.clips: 6 images do not split evenly over 4 devices"),
    "more devices": ({"classify.clips": 5}, r"config.classify.clips: 5 images do not split evenly over 4 devices"),
    "batch": ({"classify.batch": 6}, r"config.classify.batch: 6 images do not split evenly over 4 devices"),
    "short": ({"classify.shortest": 100}, r"config.classify.column: the train patients have 0 negative and 0 positive videos; each p"),
    "stride": ({"saliency.stride": (0, 9, 8)}, r"config.saliency.stride=.* no stride beyond its block"),
    "window": ({"saliency.window": (0, 8, 8, 8)}, r"config.saliency.window=.*frames, rows and columns of each are needed"),
    "area": ({"video.views.erase.area": (0.1, 0.02)}, r"config.video.views.erase.area=.*the smallest and the largest"),
    "mode": ({"classify.modes": ("random", "feature")}, r"config.classify.modes: found .*'feature'.*'features'"),
    "method": ({"video.method": "dino"}, r"config.video.method: found 'dino'; allowed is one of 'byol'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_one_sentence(name, store, tmp_path):
    changes, told = REFUSED[name]
    with pytest.raises(UserError, match=told) as caught:
        lungs.run(lungs.config(store, **changes), tmp_path)
    assert "\n" not in str(caught.value) and not list(tmp_path.glob("**/checkpoints"))


def test_one_class_in_a_part(tmp_path):
    made = lungs.make_store(tmp_path / "store", labels=("normal",) * 14 + ("consolidation",) * 6)
    with pytest.raises(UserError, match="the train patients have 10 negative and 0 positive videos; each part needs both"):
        lungs.run(lungs.config(made), tmp_path / "run")
    (tmp_path / "uncertain").mkdir()
    made = lungs.make_store(tmp_path / "uncertain" / "store", labels=("uncertain", "normal", "consolidation", "regular"))
    store = experiment.Store.open(made)
    assert clips.videos_of(lungs.config(), store, "train").label.tolist() == [0, 1, 0, 0, 1, 0, 0]


@pytest.mark.parametrize("theirs, ours, told", [
    (("encoder",), ("classify",), "ends with a network of frames; config.stages begins with one of clips"),
    (("video",), ("finetune",), "ends with a network of clips; config.stages begins with one of frames"),
])  # fmt: skip
def test_a_start_with_another_network(theirs, ours, told, store, tmp_path):
    (tmp_path / "config.json").write_text(lungs.config(store, stages=theirs).to_json())
    data = experiment.Store.open(store)
    (tmp_path / "environment.json").write_text(json.dumps({"store": {"checksum": data.checksum}}))
    with pytest.raises(UserError, match=told):
        start.carried(lungs.config(store, stages=ours, start=str(tmp_path)), store=data)
    other = lungs.config(store, stages=theirs, start=str(tmp_path), **{"video.plan": "darknet53", "model.width": (9,) * 6})
    with pytest.raises(UserError, match=r"config.video.plan: found 'darknet53'" if theirs == ("video",) else r"config.model.width"):
        start.carried(other, store=data)
