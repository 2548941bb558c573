"""What nnU-Net is planned from and learns from: the rows of the contrastive models, folds of patients."""


import numpy as np
import pytest

import nnunets
from nnunets import PLAN, rows_of
from uscl.data.cases import frame_and_label
from uscl.models.plan import write_plan
from uscl.stages import finetune, nnunet_plan
from uscl.types import UserError

plans, made = nnunets.plans, nnunets.made  # fixtures


def test_the_split_and_the_fraction_are_those_of_the_contrastive_models(made):
    for fraction in (1.0, 0.4):
        run = made(**{"finetune.label_fraction": fraction})
        (part,) = nnunet_plan.parts_of(run)
        assert (part.name, part.folder, part.seed) == ("nnunet", "nnunet", run.config.seed)
        np.testing.assert_array_equal(part.learn, finetune.labelled_rows(run))
        assert len(part.learn) == round(10 * fraction)
        np.testing.assert_array_equal(part.held, rows_of(run, "validation"))


def test_one_network_on_both(made):
    run = made(**{"nnunet.folds": "all"})
    (part,) = nnunet_plan.parts_of(run)
    np.testing.assert_array_equal(part.learn, np.sort(rows_of(run, "train", "validation")))
    assert len(part.held) == 0


def test_five_folds_of_patients(made):
    """Each patient is held out by one network, which never learns from it, and the test stays out; the store's own folds go first."""
    run = made(**{"nnunet.folds": "five"})
    parts = nnunet_plan.parts_of(run)
    assert [part.folder for part in parts] == [f"nnunet/fold_{k}" for k in range(5)]
    assert [part.name for part in parts] == [f"nnunet_fold_{k}" for k in range(5)]
    everything = np.sort(rows_of(run, "train", "validation"))
    np.testing.assert_array_equal(np.sort(np.concatenate([part.held for part in parts])), everything)
    for part in parts:
        np.testing.assert_array_equal(np.sort(np.concatenate([part.learn, part.held])), everything)
        assert not set(run.store.patients_of_rows(part.learn)) & set(run.store.patients_of_rows(part.held))
    assert len({part.seed for part in parts}) == 5
    assert not set(run.store.patients_of_rows(everything)) & set(run.store.patients("test"))

    names = sorted(set(run.store.patients_of_rows(everything)))
    run.store.splits["folds"] = [names[:2], names[2:]]
    parts = nnunet_plan.parts_of(run)
    assert [sorted(set(run.store.patients_of_rows(part.held))) for part in parts] == [names[:2], names[2:]]


def test_too_few_patients_for_five_folds(made):
    run = made(**{"nnunet.folds": "five"})
    run.store.splits = run.store.splits | {"train": run.store.patients("train")[:3]}
    with pytest.raises(UserError, match="4 patients with labels allow"):
        nnunet_plan.parts_of(run)


def test_the_plan_comes_from_the_rows_it_learns_from(made, monkeypatch):
    """The median box of what is not black, by hand, over the chosen rows; then edited, and read again."""
    run = made(**{"finetune.label_fraction": 0.4, "nnunet.base": 3, "nnunet.batch": 8})
    parts = nnunet_plan.parts_of(run)
    real, asked = nnunet_plan.fingerprint, []
    monkeypatch.setattr(nnunet_plan, "fingerprint", lambda store, rows: asked.extend(rows) or real(store, rows))
    found = nnunet_plan.plan_of(run, parts)
    assert asked == list(parts[0].learn) and len(asked) == 4
    boxes = []
    for row in parts[0].learn:
        image, _ = frame_and_label(run.store, row)
        boxes.append([np.ptp(np.nonzero(image)[axis]) + 1 for axis in (0, 1)])
    assert found.shape == tuple(np.median(boxes, axis=0)) and found.batch == 8 and found.features[:2] == (3, 6) and found.preset == "plain"
    path = run.folder / "nnunet" / "plans.json"
    path.write_text(path.read_text().replace('"batch_size": 8', '"batch_size": 4'))
    assert nnunet_plan.plan_of(run, parts).batch == 4
    path.write_text(path.read_text().replace('"batch_size": 4', '"batch_size": 6'))
    with pytest.raises(UserError, match=r"config\.nnunet\.batch.*plans.json.*: 6 images do not split evenly over 4 devices"):
        nnunet_plan.plan_of(run, parts)


def test_a_plan_of_more_channels_is_refused(made, tmp_path):
    write_plan(nnunet_plan.replace(PLAN, channels=3), tmp_path / "rgb.json")
    run = made(**{"nnunet.plans": str(tmp_path / "rgb.json")})
    with pytest.raises(UserError, match="found 3 channels; the frames of a store have 1"):
        nnunet_plan.plan_of(run, nnunet_plan.parts_of(run))
