"""The heads study's plan without running any of it: its rows, which pretrainings they share, and a store that tells no planes."""

from collections import Counter

import pytest

from uscl import config as uscl_config
from uscl.study import heads, plan, tasks


def planned(scale="quick", names=(), **changes):
    whole = plan.only(plan.override(heads.load(scale), changes), names)
    cells = plan.jobs(whole)
    return whole, cells, *tasks.tasks(whole, cells)


def test_rows_and_shares():
    _, cells, _, _ = planned()
    rows = Counter((cell.experiment.table, cell.experiment.row, cell.fraction) for cell in cells)
    expected = {("heads", row, share): 3 for row in ("random weights", "SimCLR", "AWCL") for share in (0.1, 1.0)}
    assert rows == expected | {("decoder", f"{row}, FPN", 0.1): 3 for row in ("random weights", "SimCLR", "AWCL")}
    assert next(cell.experiment.row for cell in cells) == "random weights"  # what the page holds the others against
    for cell in cells:
        config, fpn = cell.config, cell.experiment.table == "decoder"
        assert config.finetune.network == ("resnet_fpn" if fpn else "resnet_unet") and config.finetune.label_fraction == cell.fraction
        assert config.evaluate.circumference == "head" and config.data.phantom == "fetal" and cell.stages == ("finetune", "evaluate")
        assert (cell.pretraining is None) == cell.experiment.name.startswith("scratch")


def test_both_decoders_and_all_shares_begin_from_one_pretraining_a_method_and_seed():
    _, cells, todo, serves = planned()
    assert Counter(task.stages for task in todo.values()) == {("anatomy",): 6, ("finetune", "evaluate"): 27}
    begun = {}
    for cell, name in zip(cells, serves, strict=True):
        begun.setdefault((cell.experiment.row.removesuffix(", FPN"), cell.seed), set()).add(todo[name].after)
    assert all(len(names) == 1 for names in begun.values()) and len(begun) == 9
    ratios = {row: todo[name].config.anatomy.ratio for (row, _), (name,) in begun.items() if name}
    assert ratios == {"SimCLR": 0.0, "AWCL": 1.0}
    # What differs between the two is the ratio alone: same stills and sweeps, same steps.
    one, other = (uscl_config.flatten(todo[next(iter(begun[row, 0]))].config) for row in ratios)
    assert [key for key in one if one[key] != other[key]] == ["anatomy.ratio"] and one["anatomy.share"] == 0.5


@pytest.mark.parametrize(("change", "shared"), [({"finetune.steps": 7}, True), ({"evaluate.tolerance": 1.0}, True),
                                                ({"anatomy.steps": 7}, False), ({"anatomy.width": 8}, False)])  # fmt: skip
def test_what_a_pretraining_depends_on(change, shared):
    def pretrained(changes):
        return {name for name in planned(names=("simclr",), **changes)[2] if name.startswith("pretrain/")}

    assert (pretrained(change) == pretrained({})) == shared


def test_a_store_without_planes_leaves_awcl_out():
    told = [line for line in heads.__doc__.split() if line.startswith("--only=")]
    _, cells, todo, _ = planned(names=told[0].removeprefix("--only=").split(","))
    assert {cell.experiment.table for cell in cells} == {"heads", "decoder"}
    assert {task.config.anatomy.ratio for task in todo.values()} == {0.0}


def test_at_paper_scale():
    _, cells, _, _ = planned("paper")
    assert sorted({cell.fraction for cell in cells}) == [0.1, 0.25, 0.5, 1.0]
    assert all(cell.config.anatomy.width == 64 and cell.config.data.size == 192 for cell in cells)


def test_public_weights_are_a_row_under_each_decoder(tmp_path):
    (tmp_path / "resnet18.safetensors").write_bytes(b"weights")
    whole = plan.with_weights(heads.load("quick"), str(tmp_path / "resnet18.safetensors"))
    added = [cell for cell in plan.jobs(whole) if "imagenet" in cell.experiment.name]
    assert Counter((cell.experiment.table, cell.fraction) for cell in added) == {("heads", 0.1): 3, ("heads", 1.0): 3, ("decoder", 0.1): 3}
    for cell in added:
        assert cell.pretraining is None and cell.config.start == str(tmp_path / "resnet18.safetensors")
        assert cell.config.anatomy.width == 64 and cell.stages == ("finetune", "evaluate")
