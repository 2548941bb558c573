"""A study's plan without running any of it: what determines a key, what is shared, what is refused."""

import json
from collections import Counter
from pathlib import Path

import pytest

from uscl.config import flatten
from uscl.study import keys, plan, run, tasks
from uscl.study.plan import Experiment, Study
from uscl.types import UserError

ROWS = (Experiment("a", "one", "A", "baseline"), Experiment("b", "two", "A again", "baseline"), Experiment("c", "two", "C", "scratch"))


def study(experiments=ROWS, fractions=(0.1, 1.0), seeds=(0, 1), **base):
    tables = dict.fromkeys((e.table for e in experiments), fractions)
    return Study("toy", "quick", tuple(experiments), tuple(seeds), tables, base)


def config(*changes, name="baseline"):
    return plan.make_config(name, "quick", *changes)


# --- what the key is made of ---


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"data.size": 64}, {"data.fold": 1}, {"model.width": (8,) * 6}, {"encoder.steps": 3}, {"decoder.views.flip": 0.1},
     {"encoder.pairs.margin": 3}, {"temporal.stages": ("decoder",)}],
    ids=str,
)  # fmt: skip
def test_what_determines_the_weights_changes_the_key(change):
    assert plan.pretraining_key(config(change)) != plan.pretraining_key(config())


@pytest.mark.parametrize(
    "change",
    [{"finetune.steps": 3}, {"finetune.label_fraction": 0.1}, {"finetune.loss.speckle": 1.0}, {"nnunet.epochs": 3}, {"experiment": "x"},
     {"evaluate.bootstrap": 100}, {"log.every": 1}, {"temporal.margin": 1}, {"stages": ("encoder", "decoder")}],
    ids=str,
)  # fmt: skip
def test_what_does_not_leaves_it(change):
    assert plan.pretraining_key(config(change)) == plan.pretraining_key(config())


def test_a_rule_that_another_takes_the_place_of_does_not_count():
    both = {"temporal.stages": ("encoder", "decoder")}
    assert plan.pretraining_key(config(both)) == plan.pretraining_key(config(both, {"encoder.pairs.margin": 3}))
    assert plan.pretraining_key(config(both)) != plan.pretraining_key(config(both, {"temporal.margin": 3}))
    assert plan.pretraining_key(config(name="scratch")) is None and plan.pretraining_key(config(name="nnunet")) is None


def test_a_store_counts_by_its_checksum(tmp_path, monkeypatch):
    monkeypatch.setattr(keys.index, "read_info", lambda path: {"checksum": Path(path).read_text()})
    for name, checksum in (("one", "a"), ("moved", "a"), ("other", "b")):
        (tmp_path / name).write_text(checksum)
    one, moved, other = (plan.pretraining_key(config({"data.store": str(tmp_path / n)})) for n in ("one", "moved", "other"))
    assert one == moved != other
    unused = {"data.store": str(tmp_path / "one"), "data.patients": 7}  # the phantom's
    assert plan.pretraining_key(config(unused)) == one


# --- cells, tasks, commands ---


def test_some_of_the_experiments():
    whole = study()
    some = plan.only(whole, ["c", "a"])
    assert [e.name for e in some.experiments] == ["a", "c"] and set(some.fractions) == {"one", "two"}
    assert set(plan.only(whole, ["a"]).fractions) == {"one"} and plan.only(whole, []) == whole
    assert plan.only(whole, [], [4, 2, 4]).seeds == (4, 2) and len(plan.jobs(plan.only(whole, ["a"], [3]))) == 2
    with pytest.raises(UserError, match="--only: found 'd'; the experiments of toy are a, b, c"):
        plan.only(whole, ["a", "d"])


def test_cells_and_tasks_of_a_small_study():
    whole = study()
    cells = plan.jobs(whole)
    first = [("a", 0.1, 0), ("a", 0.1, 1), ("a", 1.0, 0), ("a", 1.0, 1), ("b", 0.1, 0)]
    assert [(c.experiment.name, c.fraction, c.seed) for c in cells[:5]] == first
    todo, serves = tasks.tasks(whole, cells)
    assert serves[:4] == serves[4:8] == [f"runs/a@{p}/seed{s}" for p in (10, 100) for s in (0, 1)]
    assert Counter(task.stages for task in todo.values()) == {("encoder",): 2, ("decoder",): 2, ("finetune", "evaluate"): 8}
    assert all((todo[name].after is None) == name.startswith("runs/c@") for name in serves)
    assert cells[0].pretraining == Path(todo[serves[0]].after).name and cells[8].pretraining is None


def test_a_pretraining_is_the_same_whoever_asks_first():
    """Its configuration may not tell which row came first, or a row before it would make another run of it."""
    rows = (Experiment("x", "t", "X", "speckle"), Experiment("y", "t", "Y", "baseline", {"finetune.steps": 9}))
    one, _ = tasks.tasks(study(rows), plan.jobs(study(rows)))
    other, _ = tasks.tasks(study(rows[::-1]), plan.jobs(study(rows[::-1])))
    mine = {name: flatten(task.config) for name, task in one.items() if name.startswith("pretrain/")}
    assert mine == {name: flatten(task.config) for name, task in other.items() if name.startswith("pretrain/")} and len(mine) == 4


def test_a_temporal_rule_reaches_the_pretraining_s_own_settings():
    rule = {"temporal.stages": ("decoder",), "temporal.kind": "linear", "temporal.loss": "pairwise"}
    whole = study([Experiment("t", "t", "T", "temporal", rule)], seeds=(3,))
    todo, serves = tasks.tasks(whole, plan.jobs(whole))
    last = todo[todo[serves[0]].after]
    first = todo[last.after]
    assert (last.config.decoder.pairs.kind, last.config.decoder.pairs.loss, last.config.seed) == ("linear", "pairwise", 3)
    assert (first.stages, first.config.encoder.pairs.kind, first.config.encoder.pairs.loss) == (("encoder",), "none", "info_nce")


def test_overrides_hold_for_all_and_rows_are_left_alone():
    changed = plan.override(study(), {"finetune.steps": 7, "data.size": 64})
    assert {(c.config.finetune.steps, c.config.data.size) for c in plan.jobs(changed)} == {(7, 64)}
    with pytest.raises(UserError, match=r"config\.seed: .*'toy' sets it itself"):
        plan.override(study(), {"seed": 3})
    rows = (Experiment("s", "t", "S", "speckle", {"finetune.speckle.envelope": True}),)
    with pytest.raises(UserError, match=r"config\.finetune\.speckle\.envelope: .*its experiment 's'"):
        plan.override(study(rows), {"finetune.speckle.envelope": False})


@pytest.mark.parametrize(
    "wrong,told", [({"encoder.step": 1}, "no such key"), ({"finetune.steps": 0}, "allowed is"), ({"data.test": 0.95}, "at most 0.9")]
)
def test_a_wrong_value_is_told_before_anything_runs(wrong, told):
    with pytest.raises(UserError, match=told):
        plan.jobs(study(**wrong))


def test_names_that_are_not_there():
    with pytest.raises(UserError, match="--study: found 'liver'; allowed are kidney"):
        plan.load("liver")
    with pytest.raises(UserError, match="--scale: found 'huge'"):
        plan.load("kidney", "huge")
    with pytest.raises(ValueError, match="must differ: \\['a'\\]"):
        plan.jobs(study([ROWS[0], ROWS[0]]))


def test_commands_say_what_differs_from_the_file(tmp_path):
    whole = study(**{"finetune.steps": 7})
    todo, serves = tasks.tasks(whole, plan.jobs(whole))
    line = tasks.command(todo[serves[-1]], tmp_path, "quick")
    assert line[1:3] == [str(plan.ROOT / "launch" / "main.py"), f"--config={plan.ROOT / 'configs' / 'scratch.py'}:quick"]
    assert sorted(line[3:]) == sorted([
        f"--workdir={tmp_path}/runs/c@100/seed1", f"--config.data.store={tmp_path}/data", "--config.experiment=c",
        "--config.finetune.steps=7", "--config.seed=1",
    ])  # fmt: skip
    last = tasks.command(todo[serves[0]], tmp_path, "quick")
    assert f"--config.start={tmp_path / todo[serves[0]].after}" in last and "--config.stages=('finetune', 'evaluate')" in last


def test_lines_for_a_job_array(tmp_path):
    lines, notes = run.commands(study(), tmp_path)
    assert notes == ["lines 1 to 1: at once", "lines 2 to 7: once lines 1 to 1 have ended", "lines 8 to 9: once lines 1 to 7 have ended",
                     "lines 10 to 13: once lines 1 to 9 have ended"]  # fmt: skip
    assert "uscl.study.data" in lines[0] and sum("--config.start=" in line for line in lines) == 2 + 4 and len(lines) == 13
    kept = json.loads((tmp_path / "study.json").read_text())
    assert len(kept["runs"]) == 12 and kept["fractions"] == [0.1, 1.0] and [e["name"] for e in kept["experiments"]] == ["a", "b", "c"]
