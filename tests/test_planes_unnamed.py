"""Stores that tell no planes, or not of all stills: their stills are frames like a sweep's, and SimCLR pretrains on them."""

from types import SimpleNamespace

import pytest
from test_planes import EVERYONE, PLANE, planes, store_of

from uscl import config as uscl_config
from uscl.stages import anatomy
from uscl.train.mesh import make_mesh
from uscl.types import UserError


def test_stills_that_nobody_named_are_drawn_as_sweeps_are():
    """One frame of each of all ten cines, of which five have no other; more frames of each than they have are not to be had."""
    drawn = planes(10, 0, 1).batch(0)
    assert sorted(drawn["cine"]) == list(range(10)) and (drawn["label"] == -1).all()
    with pytest.raises(UserError, match=r"it asks for 6 sweeps of 2 frames or more, there are 5; 5 are shorter: lower frames$"):
        planes(12, 0, 2)
    with pytest.raises(UserError, match=r"it asks for 5 sweeps of 3 frames or more, there are 2; lower batch, or change share$"):
        planes(15, 0, 3, patients=["p0", "p3"])


@pytest.mark.parametrize("ratio, share, told", [(0.0, 0.5, 0), (0.3, 0.5, "no column 'plane'"), (0.3, 0.0, 0)])
def test_simclr_can_do_without_planes(ratio, share, told):
    """A store whose attributes name a head's circumference alone, as HC18's do."""
    store = store_of()
    store.attributes = {"head_circumference_mm": ["99"] * 10}
    store.patients = lambda part: EVERYONE
    made = uscl_config.default()
    made.update_from_flattened_dict({"anatomy.ratio": ratio, "anatomy.share": share, "anatomy.frames": 1, "anatomy.batch": 4})
    run = SimpleNamespace(config=made, store=store, mesh=make_mesh(), log=SimpleNamespace(info=lambda text: None))
    if told:
        with pytest.raises(UserError, match=told):
            anatomy.make_batches(run)
    else:
        found = anatomy.make_batches(run)
        assert found.counts == (0, 4) and (found.batch(0)["label"] == -1).all()
    store.attributes = {"plane": PLANE}  # where the planes are told, both kinds are drawn as ever
    made.update_from_flattened_dict({"anatomy.share": 0.5})
    assert anatomy.make_batches(run).counts == (2, 2)
