"""The kidney study's rows, fractions and shared pretrainings, without running any of it."""

from collections import Counter

import pytest

from uscl.study import plan, tasks


@pytest.fixture(scope="module")
def kidney():
    """{scale: (study, cells, tasks, the run of each cell)}"""
    found = {}
    for scale in ("quick", "paper"):
        whole = plan.load("kidney", scale)
        cells = plan.jobs(whole)
        found[scale] = (whole, cells, *tasks.tasks(whole, cells))
    return found


@pytest.mark.parametrize("scale", ["quick", "paper"])
def test_every_row_of_every_table_is_there(kidney, scale):
    """The rows as they stand in the papers' tables, with what each has to set; the brackets are counted from Table 2."""
    _, cells, _, _ = kidney[scale]
    rows = {(c.experiment.table, c.experiment.row): c.experiment for c in cells}
    assert {row for table, row in rows if table == "labels"} >= {"nnU-Net", "Chaitanya", "scratch"}
    assert {row for table, row in rows if table == "speckle"} == {"Chaitanya", "Chaitanya + speckle", "nnU-Net", "nnU-Net + speckle"}
    schemes = [("InfoNCE", "binary", "positives"), ("pairwise", "binary", "positives"), ("pairwise", "linear", "positives"),
               ("pairwise", "binary", "+ negatives"), ("pairwise", "linear", "+ negatives")]  # fmt: skip
    expected = {"InfoNCE, none"} | {f"{', '.join(s)}, {place}" for s in schemes for place in ("encoder", "decoder", "both")}
    assert {row for table, row in rows if table == "temporal"} == expected and len(expected) == 16
    chosen = rows["temporal", "pairwise, linear, + negatives, both"].changes
    assert dict(chosen) == {"temporal.loss": "pairwise", "temporal.kind": "linear", "temporal.negatives": "all",
                            "temporal.stages": ("encoder", "decoder")}  # fmt: skip
    assert any(c.config.finetune.speckle.envelope for c in cells if c.experiment.table == "beyond")


def test_at_paper_scale_the_fractions_are_the_papers(kidney):
    _, cells, _, _ = kidney["paper"]
    names = ("nnunet", "baseline", "speckle", "info_nce_binary_both")
    of = {name: sorted({c.fraction for c in cells if c.experiment.name == name}) for name in names}
    assert of["nnunet"] == of["baseline"] == [0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert of["speckle"] == of["info_nce_binary_both"] == [0.1, 0.5, 1.0]
    assert all(c.config.encoder.steps == 10001 and c.config.data.size == 192 for c in cells)


@pytest.mark.parametrize("scale", ["quick", "paper"])
def test_pretrainings_are_shared(kidney, scale):
    """By hand, a seed: the encoders are the baseline's and five schemes'; decoders the baseline's and each scheme's three places'."""
    whole, cells, todo, _ = kidney[scale]
    kinds = Counter(task.stages for task in todo.values())
    own = [e for e in whole.experiments if e.table != "beyond"]
    beyond = {c.pretraining for c in cells if c.experiment.table == "beyond"} - {c.pretraining for c in cells if c.experiment in own}
    assert kinds[("encoder",)] >= 6 * len(whole.seeds) and (beyond or kinds[("encoder",)] == 6 * len(whole.seeds))
    assert kinds[("decoder",)] >= 16 * len(whole.seeds) and (beyond or kinds[("decoder",)] == 16 * len(whole.seeds))
    done = set()
    for task in todo.values():
        assert task.after is None or task.after in done, "nothing waits for what comes later"
        done.add(task.name)


def test_a_row_that_stands_in_two_tables_is_run_once(kidney):
    _, cells, todo, serves = kidney["quick"]
    name = {(c.experiment.name, c.fraction, c.seed): run for c, run in zip(cells, serves, strict=True)}
    for (experiment, fraction, seed), served in name.items():
        if experiment in ("temporal_none", "speckle_reference"):
            assert served == name["baseline", fraction, seed]
    assert len(set(serves)) < len(cells) and {t for t in todo if t.startswith("runs/")} == set(serves)
