"""The anatomy study's plan without running any of it: rows, what they share, public weights, what is measured, and coarse labels."""

import functools
import json
from collections import Counter

import fetuses
import pytest

from uscl.config import flatten
from uscl.report import planes as page
from uscl.stages import anatomy
from uscl.study import cost, keys, plan, run, tasks
from uscl.types import UserError

PRETRAINED = ("simclr", "coarse", "fine", "temporal", "temporal_anatomy", "uscl", "ratio10", "ratio30", "ratio50", "ratio80")
RESNET = {"anatomy.depth", "anatomy.width"}


def planned(whole, **changes):
    whole = plan.override(whole, changes)
    cells = plan.jobs(whole)
    return whole, cells, *tasks.tasks(whole, cells)


@functools.cache
def everything():
    return planned(plan.load("anatomy"))


def test_one_run_a_row_and_seed_goes_through_all_shares():
    whole, cells, todo, serves = everything()
    assert serves[:4] == [*(f"runs/simclr/seed{seed}" for seed in (0, 1, 2)), "runs/coarse/seed0"] and whole.scores == "planes"
    assert Counter(task.stages for task in todo.values()) == {("anatomy",): 3 * 10, ("planes",): 3 * 11}
    for name, cell in zip(serves, cells, strict=True):
        fresh = cell.experiment.name == "supervised"
        assert (todo[name].after is None) == fresh
        assert set(cell.config.planes.modes) == ({"random", "supervised"} if fresh else {"features", "finetuned"})
        assert cell.config.planes.fractions == (0.1, 0.3, 1.0) and cell.config.planes.draws == 1
        assert (cell.config.data.patients, cell.config.data.test, cell.config.data.phantom) == (80, 0.4, "fetal")
    assert [e.name for e in whole.experiments if e.table == "ratio"] == ["ratio10", "ratio30", "ratio50", "ratio80"]


def test_pretrainings_are_as_their_rows_say():
    _, cells, todo, serves = everything()
    of = {cell.experiment.name: todo[todo[name].after].config for name, cell in zip(serves, cells, strict=True) if todo[name].after}
    awcl = {name: (one.anatomy.ratio, one.anatomy.level, one.anatomy.near.kind) for name, one in of.items() if one.anatomy.method == "awcl"}
    assert awcl == {
        "simclr": (0.0, "fine", "none"), "coarse": (1.0, "coarse", "none"), "fine": (1.0, "fine", "none"),
        "temporal": (0.0, "fine", "binary"), "temporal_anatomy": (1.0, "fine", "binary"),
        **{f"ratio{100 * r:.0f}": (r, "fine", "none") for r in (0.1, 0.3, 0.5, 0.8)},
    }  # fmt: skip
    assert set(of) == set(PRETRAINED) and of["uscl"].anatomy.method == "uscl" and of["uscl"].anatomy.ratio == 1.0
    assert all(one.stages == ("anatomy",) and one.data.patients == 80 and one.start == "" for one in of.values())


@pytest.mark.parametrize(
    ("change", "shared"),
    [
        ({"planes.steps": 7}, True), ({"planes.fractions": (0.5,)}, True), ({"evaluate.bootstrap": 100}, True),
        ({"evaluate.circumference": "head"}, True), ({"finetune.network": "resnet_unet"}, True), ({"anatomy.steps": 3}, False),
        ({"anatomy.coarse": "organ"}, False), ({"anatomy.column": "view"}, False), ({"anatomy.width": 8}, False),
        ({"planes.column": "view"}, False), ({"anatomy.views.flip": 0.1}, False), ({"data.patients": 30}, False),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_pretraining_depends_on(change, shared):
    def pretrained(changes):
        return {name for name in planned(plan.only(plan.load("anatomy"), ["fine"], [0]), **changes)[2] if name.startswith("pretrain/")}

    assert (pretrained(change) == pretrained({})) == shared


def test_a_network_of_a_resnet_depends_on_its_depth_and_width():
    plain = flatten(plan.make_config("anatomy", "quick"))
    wide = plain | {"finetune.network": "resnet_fpn"}
    for stage in ("anatomy", "planes"):
        assert RESNET < set(keys.relevant(plain, stage))
    for stage in ("finetune", "evaluate"):
        assert not RESNET & set(keys.relevant(plain, stage)) and RESNET < set(keys.relevant(wide, stage))
        assert {"finetune.network": "resnet_fpn"}.items() <= keys.relevant(wide, stage).items()
    assert "evaluate.circumference" in keys.relevant(plain, "evaluate") and not RESNET & set(keys.relevant(wide, "encoder"))


def test_public_weights_add_a_row(tmp_path):
    file = tmp_path / "resnet18.safetensors"
    file.write_bytes(b"made up")
    base = plan.load("anatomy")
    whole, cells, todo, serves = planned(plan.only(plan.with_weights(base, str(file)), ["fine", "imagenet"]), **{"anatomy.depth": 50})
    assert [e.name for e in whole.experiments] == ["fine", "imagenet"] and whole.public == base.public
    mine = [todo[name] for name, cell in zip(serves, cells, strict=True) if cell.experiment.name == "imagenet"]
    assert [task.name for task in mine] == [f"runs/imagenet/seed{seed}" for seed in (0, 1, 2)] and {task.after for task in mine} == {None}
    made = tasks.placed(mine[0], tmp_path)
    assert (made.start, made.stages, made.anatomy.width, made.anatomy.depth) == (str(file), ("planes",), 64, 50)
    assert f"--config.start={file}" in tasks.command(mine[0], tmp_path, "quick")
    other = tasks.placed(todo["runs/fine/seed0"], tmp_path)
    assert other.anatomy.width == 16 and other.start == str(tmp_path / todo["runs/fine/seed0"].after)
    flat = flatten(mine[0].config)
    assert keys.world(flat)["start"] == str(file) and "start" not in keys.world(flat | {"start": ""}), "two files are two runs"
    with pytest.raises(UserError, match="--weights: found '.*nothing.safetensors'; there is no such file"):
        plan.with_weights(base, str(tmp_path / "nothing.safetensors"))
    with pytest.raises(UserError, match="--weights: the study 'lung' has no row that begins from public weights"):
        plan.with_weights(plan.load("lung"), str(file))


def test_a_run_has_ended_with_its_table(tmp_path):
    _, _, todo, serves = everything()
    task, place = todo[serves[0]], tmp_path / serves[0]
    (place / "planes").mkdir(parents=True)
    (place / "config.json").write_text(tasks.placed(task, tmp_path).to_json())
    (place / "planes" / "table.json").write_text("{}")
    assert not tasks.done(task, tmp_path), "results.json is written last"
    (place / "results.json").write_text('{"metrics": {}}')
    assert tasks.done(task, tmp_path)


def test_updates_and_forms():
    _, _, todo, serves = everything()
    first, fresh = todo[todo[serves[0]].after], todo["runs/supervised/seed0"]
    assert cost.updates(first, "anatomy") == (200, 4) and cost.form(first, "anatomy") == "anatomy of ResNet-18, 16 wide"
    assert cost.updates(fresh, "planes") == (3 * 60, 3 * 3), "three shares, one draw, one mode that trains the whole"
    known = {"start": {"first": 2}, "planes of ResNet-18, 16 wide": {"first": 5, "update": 0.1, "look": 1}}
    seen = cost.Cost(known, fresh)
    assert seen.of(fresh) == pytest.approx(2 + 5 + 18 + 9) and seen.complete
    assert seen.of(first) == 2 and not seen.complete


def test_what_is_measured(tmp_path, monkeypatch):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"made up")
    _, _, todo, _ = planned(plan.only(plan.with_weights(plan.load("anatomy"), str(file)), ["fine", "imagenet"], [0]))
    asked = []

    def measure(line, seat, output, what):
        asked.append(json.loads((tmp_path / "logs/measure/config.json").read_text()))
        told = {name: {"first": len(asked)} for name in ("start", "report", *asked[-1]["stages"])}
        (tmp_path / "logs/measure/measured.json").write_text(json.dumps(told))

    monkeypatch.setattr(run, "once", measure)
    known = run.measured(tmp_path, todo, None, "quick", lambda text: None)
    assert {(tuple(one["stages"]), one["start"], one["anatomy"]["width"]) for one in asked} == {
        (("planes",), str(file), 64), (("anatomy", "planes"), "", 16),
    }  # fmt: skip
    assert all(one["planes"]["fractions"] == [1.0] for one in asked)
    assert set(known) == {
        "start",
        "report",
        "anatomy of ResNet-18, 16 wide",
        "planes of ResNet-18, 16 wide",
        "planes of ResNet-18, 64 wide",
    }
    assert run.measured(tmp_path, todo, None, "quick", None) == json.loads((tmp_path / "measured.json").read_text()) and len(asked) == 2


def test_coarse_labels_choose_the_pairs_of_a_stage_that_is_told_so(tmp_path):
    store = fetuses.make_store(tmp_path / "store")
    for level, names in {"fine": ("brow", "crown", "foot"), "coarse": ("head", "limb")}.items():
        made = fetuses.config(store, **{"anatomy.level": level})
        with fetuses.opened(made, tmp_path / level) as opened:
            assert anatomy.make_batches(opened).names == names
        assert repr({"fine": "plane", "coarse": "anatomy"}[level]) in page.told(json.loads(made.to_json()))[0]
    with fetuses.opened(fetuses.config(store, **{"anatomy.level": "coarse", "anatomy.coarse": "organ"}), tmp_path / "run") as opened:
        with pytest.raises(UserError, match="attributes.csv: it has no column 'organ'"):
            anatomy.make_batches(opened)
