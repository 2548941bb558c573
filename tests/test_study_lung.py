"""The lung study's plan without running any of it: which runs, what they share, and where folds come in."""

import json
from collections import Counter

import lungs
import pytest

from uscl.study import plan, run, tasks
from uscl.types import UserError


def planned(**changes):
    whole = plan.override(plan.load("lung"), changes)
    cells = plan.jobs(whole)
    return whole, cells, *tasks.tasks(whole, cells)


def test_one_run_a_model_and_seed_goes_through_all_shares():
    whole, cells, todo, serves = planned()
    assert Counter((cell.experiment.name, cell.seed, cell.fold) for cell in cells).most_common(1)[0][1] == 1
    assert [name for name in serves if "byol/" in name] == [f"runs/byol/seed{seed}" for seed in whole.seeds]
    # Three pretrainings a seed: BYOL, SimCLR, BYOL in order. Random weights and full supervision need none, and are one run.
    assert Counter(task.stages for task in todo.values()) == {("video",): 9, ("classify", "saliency"): 12}
    for name, cell in zip(serves, cells, strict=True):
        fresh = cell.experiment.name == "supervised"
        assert (todo[name].after is None) == fresh
        assert set(cell.config.classify.modes) == ({"random", "supervised"} if fresh else {"features", "finetuned"})
        assert cell.config.finetune.label_fraction == 1.0 and len(cell.config.classify.fractions) == 3 and cell.config.classify.draws == 1


def test_pretrainings_are_as_their_rows_say():
    _, cells, todo, serves = planned()
    of = {cell.experiment.name: todo[todo[name].after].config for name, cell in zip(serves, cells, strict=True) if todo[name].after}
    assert {name: (made.video.method, made.video.temporal) for name, made in of.items()} == {
        "byol": ("byol", True), "simclr": ("simclr", True), "byol_still": ("byol", False),
    }  # fmt: skip
    assert all(made.data.phantom == "lung" and made.stages == ("video",) for made in of.values())


@pytest.mark.parametrize(
    ("change", "shared"),
    [
        ({"classify.steps": 7}, True), ({"classify.fractions": (0.5,)}, True), ({"evaluate.bootstrap": 100}, True),
        ({"saliency.videos": 2}, True), ({"video.frames": 3}, False), ({"classify.column": "diagnosis"}, False),
        ({"video.views.flip": 0.1}, False), ({"data.patients": 30}, False), ({"data.split_seed": 3}, False),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_pretraining_depends_on(change, shared):
    def pretrained(changes):
        return {name for name in planned(**changes)[2] if name.startswith("pretrain/")}

    assert (pretrained(change) == pretrained({})) == shared


def test_a_cross_validation_trains_and_tests_every_fold_by_itself(tmp_path):
    store = lungs.make_store(tmp_path / "store")
    whole, cells, todo, serves = planned(**{"data.cross": 4, "data.store": str(store)})
    assert len(cells) == 4 * 3 * 4 and len(todo) == 4 * (9 + 12)
    assert serves[:5] == [*(f"runs/byol/seed0/fold{k}" for k in range(4)), "runs/byol/seed1/fold0"]
    for name, cell in zip(serves, cells, strict=True):
        task = todo[name]
        assert task.config.data.fold == cell.fold and task.config.data.cross == 4
        if task.after:
            assert (todo[task.after].config.data.fold, todo[task.after].config.data.cross) == (cell.fold, 4)
    run.keep_plan(whole, tmp_path, cells, serves)
    kept = json.loads((tmp_path / "study.json").read_text())
    assert kept["scores"] == "videos" and [entry["fold"] for entry in kept["runs"][:4]] == [0, 1, 2, 3]
    with pytest.raises(UserError, match=r"config\.data\.fold: the study 'lung' sets it"):
        planned(**{"data.fold": 1})
    with pytest.raises(UserError, match=r"config\.video\.method: the study 'lung' sets it in its experiment 'byol'"):
        planned(**{"video.method": "vicreg"})


def test_a_run_has_ended_with_the_last_file_of_its_last_stage(tmp_path):
    _, cells, todo, serves = planned()
    task, place = todo[serves[0]], tmp_path / serves[0]
    (place / "saliency").mkdir(parents=True)
    (place / "config.json").write_text(tasks.placed(task, tmp_path).to_json())
    assert not tasks.done(task, tmp_path)
    (place / "results.json").write_text('{"metrics": {}}')
    assert not tasks.done(task, tmp_path)
    (place / "saliency" / "localisation.json").write_text("{}")
    assert tasks.done(task, tmp_path)
