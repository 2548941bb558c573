"""Which stills keep their labels, how their patients are dealt to folds, and what the stage refuses in one sentence."""

import numpy as np
import pytest
from plane_stills import NAMES, config, make_store

from uscl.data.planes import Planes
from uscl.data.store import Store
from uscl.stages import experiment, modes, planes, source
from uscl.train import mesh
from uscl.train.logs import Log
from uscl.types import UserError


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "stills")


def test_few_hold_every_class_and_are_nested():
    label = np.array([0, 1, 2, 3] * 10 + [4] * 2)
    every = Planes(100 + np.arange(42), label, np.array([f"p{k // 3}" for k in range(42)]), tuple("abcde"))
    before = set()
    for fraction in (0.01, 0.2, 0.5, 1.0):
        found = modes.few(every, fraction, seed=3)
        assert set(found.label.tolist()) == {0, 1, 2, 3, 4} and found.names == every.names
        assert before <= set(found.cine.tolist()) and len(found.cine) >= round(42 * fraction)
        np.testing.assert_array_equal(found.label, label[found.cine - 100])
        np.testing.assert_array_equal(found.patient, every.patient[found.cine - 100])
        before = set(found.cine.tolist())
    counts = np.bincount(modes.few(every, 0.5, seed=3).label)
    assert len(modes.few(every, 0.5, seed=3).cine) == 21 and (np.abs(counts - [5, 5, 5, 5, 1]) <= 1).all()


REFUSED = {
    "column": ({"planes.column": "view"}, (), r"attributes.csv: it has no column 'view'; its columns are 'plane'"),
    "nothing": ({"planes.ignore": NAMES}, (), r"column 'plane' holds no plane"),
    "one class": ({"planes.ignore": NAMES[1:]}, (), r"config.planes.column: the train patients have stills of 'abdomen' alone; each part"),
    "none": ({}, [("test", name) for name in NAMES], r"config.planes.column: the test patients have no labelled stills; each part needs"),
    "unseen": ({}, [("train", "head")], r"config.planes.column: 'head' is among the validation patients' stills and not among the tr"),
    "pretraining": ({"planes.modes": ("finetuned",)}, (), r"config.planes.modes: 'finetuned' needs a pretrained encoder; put 'anatomy' b"),
    "stills": ({"planes.stills": 7}, (), r"config.planes.stills: 7 images do not split evenly over 4 devices"),
    "batch": ({"planes.batch": 6}, (), r"config.planes.batch: 6 images do not split evenly over 4 devices"),
    "mode": ({"planes.modes": ("feature",)}, (), r"config.planes.modes: found .*'feature'.*'features'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_one_sentence(name, store, tmp_path):
    changes, without, told = REFUSED[name]
    made = config(make_store(tmp_path / "store", without=without) if without else store, **changes)
    with pytest.raises(UserError, match=told) as caught:
        experiment.run(made, tmp_path / "run")
    assert "\n" not in str(caught.value) and not list(tmp_path.glob("**/checkpoints"))


def test_a_class_that_the_test_lacks_is_no_mistake(tmp_path):
    made = config(make_store(tmp_path / "store", without=[("test", "head"), ("validation", "femur")]))
    found = planes.check(made, Store.open(made.data.store), mesh.make_mesh(1))
    assert [sorted(set(found[part].label.tolist())) for part in ("train", "validation", "test")] == [[0, 1, 2], [0, 2], [0, 1]]


def test_folds_are_dealt_by_the_planes_of_the_patients(tmp_path):
    made, tested = config(make_store(tmp_path / "store", without=[("test", "head")])), []
    for fold in range(3):
        made.data.cross, made.data.fold = 3, fold
        with Log(tmp_path) as log:
            dealt = source.open_store(made, tmp_path, log)
        few = [name for name in dealt.patients("test") if name >= "p16"]  # who has no head: the former test patients
        assert len(few) == 2, "each stratum is spread over the parts"
        tested += dealt.patients("test")
    assert sorted(tested) == [f"p{k:02d}" for k in range(22)]
