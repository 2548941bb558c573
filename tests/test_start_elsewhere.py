"""A start on weights that learnt from another store: allowed by name, and refused where that store shows this one's test patients."""

import json
import shutil
from pathlib import Path
from unittest import mock

import fetuses
import jax
import numpy as np
import pytest

from uscl import config as uscl_config
from uscl.config.difference import Facts, refused
from uscl.data.store import Store
from uscl.data.writer import StoreWriter
from uscl.stages import experiment, origins, start
from uscl.train.checkpoint import Checkpoints, load_weights
from uscl.types import UserError

PARTS = {"train": ["ann", "bob"], "validation": ["cat"], "test": ["dan"]}  # of each a sweep of 3 frames, then a still


def make_store(path, seed, *, size=8, parts=None, into=None, flat=False):
    """Gray noise. into: {(patient, frame of the sweep; None is the still): picture}; flat: all sweeps begin with a black frame."""
    rng, into = np.random.default_rng(seed), into or {}
    with StoreWriter(path, size=size, classes={}, origin="made for the test", splits=parts or PARTS) as writer:
        for name in ("ann", "bob", "cat", "dan"):
            frames = rng.integers(0, 256, (4, size, size), np.uint8)
            frames[0] *= not flat
            for (patient, frame), picture in into.items():
                if patient == name:
                    frames[-1 if frame is None else frame] = picture
            writer.add(patient=name, frames=frames[:3])
            writer.add(patient=name, frames=frames[3:], attributes={"plane": "head"})
    return Store.open(path)


def config(**changes):
    made = uscl_config.default()
    made.update_from_flattened_dict({"stages": ("anatomy",), "anatomy.steps": 2, "finetune.steps": 2} | changes)
    return made


def finished(folder, store, **changes):
    """The folder of a run of one stage on `store`, as far as a start reads it; a phantom if there is no other store in its config."""
    made = config(**changes)
    experiment.keep_config(folder, made)
    (folder / "environment.json").write_text(
        json.dumps({"store": {"path": str(store.path), "checksum": store.checksum, "test": start.kept_out(store)}})
    )
    leaf = {"encoder": {"kernel": np.full((2, 2), 3, np.float32)}}
    Checkpoints(folder / made.stages[-1] / "checkpoints").save(2, {"state": {"params": leaf, "batch_stats": {}, "step": np.int32(2)}})
    return folder


def begin(folder, store, **changes):
    """The lines that a start in `folder` tells; UserError where it is refused."""
    told = []
    found = start.carried(config(start=str(folder), **{"start_elsewhere": True} | changes), store=store, tell=told.append)
    assert found["params"]["encoder"]["kernel"].tolist() == [[3, 3], [3, 3]]
    assert not any("\n" in line for line in told)
    return told


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    place = tmp_path_factory.mktemp("stores")
    mine = make_store(place / "mine", 0)
    return {"mine": mine, "theirs": make_store(place / "theirs", 1), "place": place}


@pytest.fixture(scope="module")
def other(stores):
    return finished(stores["place"] / "run", stores["theirs"])


def test_another_store_has_to_be_allowed(stores, other):
    with pytest.raises(UserError, match="config.start: .* learnt from a store with the checksum .* config.start_elsewhere=True"):
        begin(other, stores["mine"], start_elsewhere=False)
    (line,) = begin(other, stores["mine"])
    assert line.endswith(f"4 frames of the test patients, 16 of {stores['theirs'].path}, no two of the same pixels")
    assert begin(other, stores["theirs"]) == [], "the same store, where nothing has to be looked at"


@pytest.mark.parametrize("mine, theirs", [((3, 0), ("ann", 2)), ((2, 0), ("bob", None)), ((2, 2), ("dan", 1)), ((3, 0), ("cat", None))])
def test_a_test_patients_frame_is_found_wherever_it_is(mine, theirs, stores, tmp_path):
    """mine: cine 6 is dan's sweep and 7 his still. In theirs: in a sweep or a still, of any part of the split."""
    ours = stores["mine"]
    cine, frame = 4 + mine[0], mine[1]
    made = make_store(tmp_path / "made", 2, into={theirs: ours.frame(cine, frame)})
    there = 2 * "ann bob cat dan".split().index(theirs[0]) + (theirs[1] is None)
    told = f"frame {frame} of cine {cine} of patient dan, .* is frame {theirs[1] or 0} of cine {there} of patient {theirs[0]} in "
    with pytest.raises(UserError, match=told) as caught:
        begin(finished(tmp_path / "run", made), ours)
    assert "\n" not in str(caught.value)


def test_what_may_be_shared(stores, tmp_path):
    ours = stores["mine"]
    learnt = {("ann", 0): ours.frame(0, 0), ("dan", None): ours.frame(5, 0)}  # frames of ann, who trains, and of cat, who validates
    assert "no two" in begin(finished(tmp_path / "a", make_store(tmp_path / "learnt", 3, into=learnt)), ours)[0]
    black = [make_store(tmp_path / f"black{seed}", seed, flat=True) for seed in (4, 5)]
    assert "no two" in begin(finished(tmp_path / "b", black[0]), black[1])[0]
    (line,) = begin(finished(tmp_path / "c", make_store(tmp_path / "large", 0, size=9)), ours)
    assert line.endswith("their sides are 8 and 9 px, so none could be known again")


def test_a_store_that_is_gone_or_changed_is_told(stores, tmp_path):
    made = make_store(tmp_path / "run" / "data", 6, into={("ann", 0): stores["mine"].frame(7, 0)})
    folder = finished(tmp_path / "run", made)
    shutil.move(folder, tmp_path / "moved")
    with pytest.raises(UserError, match="moved/data"):  # a phantom lies in its run's folder and moves with it
        begin(tmp_path / "moved", stores["mine"])
    shutil.rmtree(tmp_path / "moved" / "data")
    (line,) = begin(tmp_path / "moved", stores["mine"])
    assert "there is no such folder" in line and f"not be checked whether the run in {tmp_path / 'moved'} has learnt from" in line
    make_store(tmp_path / "moved" / "data", 7)
    (line,) = begin(tmp_path / "moved", stores["mine"])
    assert f"its checksum is {Store.open(tmp_path / 'moved' / 'data').checksum}, and was {made.checksum}" in line


def test_the_runs_before_that_run_count_as_well(stores, other, tmp_path):
    ours = stores["mine"]
    known = finished(tmp_path / "known", make_store(tmp_path / "shows", 8, into={("bob", 1): ours.frame(6, 1)}))
    between = finished(tmp_path / "between", stores["theirs"], start=str(known), start_elsewhere=True)
    with pytest.raises(UserError, match="shows, which the run in .*known learnt from"):
        begin(between, ours)
    (line,) = begin(between, stores["theirs"], start_elsewhere=False)  # that run asked for leave; this one is on its store
    assert str(known) in line and "no two" in line
    shutil.rmtree(known)
    lost, line = begin(between, ours)
    assert f"the run in {between} began there" in lost and "no two" in line
    alike = finished(tmp_path / "alike", stores["theirs"], start=str(known))  # it began on its own store, and was held against it then
    assert len(begin(alike, ours)) == 1
    again = make_store(tmp_path / "again", 0, parts=PARTS | {"validation": ["dan"], "test": ["cat"]})
    again.checksum = ours.checksum  # the same pictures, of which other patients were kept out
    back = finished(tmp_path / "back", stores["theirs"], start=str(finished(tmp_path / "first", again)), start_elsewhere=True)
    with pytest.raises(UserError, match="first kept other patients out for its test"):
        begin(back, ours)


def test_the_first_frame_met_is_named_by_cine(stores):
    """By hand: a row of frames.npy is in the last cine that begins at it or before."""
    assert [origins._place(stores["mine"], row) for row in (0, 2, 3, 4, 15)] == [(0, 0), (0, 2), (1, 0), (2, 0), (7, 0)]
    assert origins._rows(stores["mine"]).tolist() == [12, 13, 14, 15]


def test_the_permission_may_be_given_later(other):
    assert refused({"start_elsewhere": False}, {"start_elsewhere": True}, Facts()) == []
    assert Path(other / "config.json").exists() and origins.is_file("a.safetensors") and not origins.is_file(str(other))


@pytest.mark.slow
def test_an_encoder_goes_over_to_images_of_another_size(tmp_path):
    """Pretrained on sides of 48 px and held still on sides of 32; the run's log and its environment.json say where from."""
    here, before = fetuses.make_store(tmp_path / "here"), tmp_path / "before"
    with mock.patch.object(fetuses, "SIDE", 48):
        there = fetuses.make_store(tmp_path / "there")
    fetuses.run(fetuses.config(there), before)
    changes = {"stages": ("planes",), "start": str(before), "planes.modes": ("features",)}
    with pytest.raises(UserError, match="config.start_elsewhere=True"):
        fetuses.run(fetuses.config(here, **changes), tmp_path / "run")
    fetuses.run(fetuses.config(here, **changes, start_elsewhere=True), tmp_path / "run")
    last = load_weights(before / "anatomy" / "checkpoints" / str(fetuses.STEPS))["state"]
    kept = load_weights(tmp_path / "run" / "planes" / "networks" / "features")
    for kind in ("params", "batch_stats"):
        jax.tree.map(np.testing.assert_array_equal, *(jax.device_get(tree[kind]["encoder"]) for tree in (kept, last)))
    noted = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert noted["start"] == {"path": str(before), "checksum": start.checksum(str(before))}
    assert "their sides are 32 and 48 px" in (tmp_path / "run" / "run.log").read_text()
