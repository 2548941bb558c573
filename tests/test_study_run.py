"""A study as it runs: what is left to do and how long that takes, its results, kills."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from uscl.study import crew, plan, results, run, tasks
from uscl.study.cost import Cost, Ticker, updates
from uscl.study.plan import Experiment, Study
from uscl.train import lock
from uscl.types import UserError

ROOT = Path(__file__).parent.parent
TINY = {
    "data.patients": 8, "data.frames": 8, "data.size": 32, "data.labelled": 2, "model.width": (2,) * 6, "encoder.steps": 2,
    "decoder.steps": 2, "finetune.steps": 4, "encoder.cines": 2, "decoder.cines": 2, "decoder.blocks": 4, "finetune.batch": 4,
    "finetune.validate_every": 2, "evaluate.batch": 4, "evaluate.bootstrap": 100, "log.every": 1, "log.save_every": 1,
}  # fmt: skip
TOY = Study(
    "toy", "quick",
    (Experiment("baseline", "labels", "Chaitanya", "baseline"),
     Experiment("late", "temporal", "decoder", "temporal", {"temporal.stages": ("decoder",)})),
    (0,), {"labels": (0.5, 1.0), "temporal": (0.5, 1.0)}, TINY,
)  # fmt: skip


CASES = "patient,cine,frame,class,dsc,hd95_mm\np,3,7,a,0.5,\np,3,7,b,1.0,2.5\nq,4,0,a,0.25,4\n"

# --- what is done, and how long the rest takes ---


def ended_run(place, task, folder):
    place.mkdir(parents=True)
    (place / "config.json").write_text(tasks.placed(task, folder).to_json())
    if "evaluate" in task.stages:
        (place / "evaluate").mkdir()
        (place / "evaluate" / "cases.csv").write_text(CASES)
        (place / "results.json").write_text('{"metrics": {}}')
    else:
        (place / task.stages[-1] / "checkpoints" / "2").mkdir(parents=True)
    (place / "timing.json").write_text(json.dumps({stage: 10.0 for stage in task.stages}))


def everything_ended(folder):
    todo, _ = tasks.tasks(TOY, plan.jobs(TOY))
    for name, task in todo.items():
        ended_run(folder / name, task, folder)
    return todo


def test_what_has_ended_is_not_begun_again(tmp_path):
    todo = everything_ended(tmp_path)
    told = []
    outcome = run.run(TOY, tmp_path, tell=told.append)
    assert outcome.ended == set(todo) and not outcome.failed and "done: 7 of 7" in told[0]
    assert "cells asked for: 4; runs: 4" in told[0] and "asked for by these runs: 8; run: 3" in told[0]
    run_of = next(name for name in todo if name.startswith("runs/"))
    (tmp_path / run_of / "results.json").write_text('{"metr')  # torn: its rows are not believed
    assert not tasks.done(todo[run_of], tmp_path)


def test_a_row_that_means_something_else_now_is_refused(tmp_path):
    everything_ended(tmp_path)
    with pytest.raises(UserError, match=r"runs/baseline@50/seed0/config\.json: config\.finetune\.batch was 4 here and is 8 now"):
        run.run(plan.override(TOY, {"finetune.batch": 8}), tmp_path)
    run.run(plan.override(TOY, {"log.every": 5}), tmp_path, tell=lambda text: None)


def test_one_study_at_a_time_in_a_folder(tmp_path):
    with lock.hold(tmp_path), pytest.raises(UserError, match=f"{tmp_path}: in use by process {os.getpid()}"):
        run.run(TOY, tmp_path)


def test_the_cost_of_a_task():
    """10 to begin, 5 around it, 4 updates of 2, 2 looks of 3, and 7 to evaluate."""
    measured = {"start": {"first": 4}, "report": {"first": 1}, "finetune": {"first": 10, "update": 2, "look": 3}, "evaluate": {"first": 7}}
    todo, serves = tasks.tasks(TOY, plan.jobs(TOY))
    task = todo[serves[0]]
    assert updates(task, "finetune") == (4, 2) and updates(task, "evaluate") == (0, 0)
    block = {"nnunet.epochs": 7, "nnunet.iterations": 3, "nnunet.validate_every": 5}
    assert updates(SimpleNamespace(config=plan.make_config("nnunet", "quick", block)), "nnunet") == (21, 2)
    cost = Cost(measured, Path("/nowhere"))
    assert cost.of(task) == 5 + 10 + 4 * 2 + 2 * 3 + 7 and cost.complete
    cost.of(todo[task.after])
    assert not cost.complete


def test_the_cost_is_learnt_from_what_has_ended_and_the_time_left_from_the_pace(tmp_path):
    todo = everything_ended(tmp_path)
    cost = Cost({}, tmp_path)
    for task in todo.values():
        cost.learn(task)
    assert [cost.of(task) for task in todo.values()] == [10, 10, 10, 20, 20, 20, 20]
    # One seat: 3 x 10 + 4 x 20. Two: encoder 10, both decoders by 20, then two and two runs of 20.
    assert cost.together(list(todo.values()), 1) == 110 and cost.together(list(todo.values()), 2) == 60
    told = []
    ticker = Ticker(todo, cost, 2, 0, told.append)
    names = list(todo)
    ticker(crew.Outcome(set()), names[:1])
    ticker.begun[names[0]] -= 20  # it takes twice as long as was thought
    ticker(crew.Outcome({names[0]}), [])
    assert told == [f"[1/7] {names[0]} done in 0:00:20; 0:01:40 left"]  # 2 x (110 - 10) / 2


def test_every_score_of_every_cell_is_read(tmp_path):
    todo = everything_ended(tmp_path)
    run.run(TOY, tmp_path, tell=lambda text: None)
    rows = results.read(tmp_path)
    assert len(rows) == 4 * 3 * 2 and results.missing(tmp_path) == []
    mine = [row for row in rows if row.experiment == "late" and row.fraction == 0.5]
    assert mine[0] == ("late", "temporal", "decoder", 0.5, 0, "p", "3:7", "a", "dsc", 0.5) and mine[1].value != mine[1].value
    table = list(csv.DictReader((tmp_path / "results.csv").open()))
    mine = [r for r in table if r["experiment"] == "late" and r["fraction"] == "1.0"]
    found = {(r["class"], r["measure"]): (r["mean"], r["images"], r["patients"]) for r in mine}
    assert found[("a", "dsc")] == ("0.375", "2", "2") and found[("all", "dsc")] == ("0.6875", "", "")
    assert found[("a", "hd95_mm")] == ("4.0", "1", "1") and found[("b", "hd95_mm")] == ("2.5", "1", "1")
    lost = [name for name in todo if name.startswith("runs/late@50")][0]
    (tmp_path / lost / "results.json").unlink()
    assert results.missing(tmp_path) == [f"late at 50 %, seed 0: {tmp_path / lost} has no evaluation"] and len(results.read(tmp_path)) == 18
    with pytest.raises(UserError, match="holds no study.json"):
        results.read(tmp_path / lost)


def test_mistakes_on_the_command_line(tmp_path):
    lines = {"config.finetune.lr": "--config.finetune.lr=1", "found 'huge'": "--scale=huge", "encoder.steps": "--config.encoder.steps=x"}
    start = [sys.executable, "launch/study.py", f"--workdir={tmp_path}"]
    begun = {told: subprocess.Popen([*start, flag], cwd=ROOT, stderr=subprocess.PIPE, text=True) for told, flag in lines.items()}
    for told, process in begun.items():
        err = process.communicate(timeout=60)[1]
        assert process.returncode == 2 and told in err and len(err.strip().splitlines()) == 1, err
    assert not list(tmp_path.iterdir())


# --- a whole one ---


@pytest.mark.slow
def test_killed_three_times_it_ends_with_the_same_table(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("XLA_FLAGS", "")
    code = "from test_study_run import TOY; from uscl.study import run; run.run(TOY, sys.argv[1], count=1)"
    line = [sys.executable, "-c", f"import sys; sys.path.insert(0, 'tests'); {code}"]
    subprocess.run([*line, tmp_path / "whole"], cwd=ROOT, check=True)
    todo, _ = tasks.tasks(TOY, plan.jobs(TOY))
    for after in (1, 3, 5):  # tasks that have ended when it is killed
        study = subprocess.Popen([*line, tmp_path / "killed"], cwd=ROOT)
        while sum(tasks.done(task, (tmp_path / "killed").resolve()) for task in todo.values()) < after:
            assert study.poll() is None
            time.sleep(0.2)
        time.sleep(2)
        study.kill()
        study.wait()
    subprocess.run([*line, tmp_path / "killed"], cwd=ROOT, check=True)
    assert (tmp_path / "killed" / "results.csv").read_bytes() == (tmp_path / "whole" / "results.csv").read_bytes()
