"""The report of a made-up study: every section is there, gaps are told, deviations are found, nothing is fetched from elsewhere."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest
import studies
from test_report import Reader

from uscl.report import study, study_cases, study_protocol
from uscl.report.figures import Easel
from uscl.report.folder import Missing
from uscl.report.study_folder import Study
from uscl.types import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return studies.write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def page(folder):
    return study.draw(folder).read_text(encoding="utf-8")


def test_the_page_is_one_file_and_parses(page):
    read = Reader(page)
    assert "http" not in page and "@import" not in page and "script" not in read.tags and "link" not in read.tags
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in read.links) and len(read.ids) == len(set(read.ids))
    assert {link[1:] for link in read.links if link.startswith("#")} <= set(read.ids)
    assert 'class="missing"' not in page and "not yet run" not in read.text


def test_the_findings_come_first(page):
    text = Reader(page.split("<body>")[1].split("</body>")[0]).text
    claims = ["Does contrastive pretraining save labels?", "Is it the pretraining?", "Do temporal weights help with few labels?",
              "on gray levels?", "on the decompressed envelope?", "as a local map?"]  # fmt: skip
    places = [text.index(claim) for claim in claims]
    assert places == sorted(places) and text.startswith("kidney study · quick Does") and places[-1] < text.index("runs evaluated")
    for number in ("40 of 40", "81 of 81"):
        assert number in text


def test_every_section_is_drawn(page):
    ids = Reader(page).ids
    for anchor in ("table-labels", "table-temporal", "table-speckle", "table-beyond", "curves", "classes", "borders",
                   "calibration", "cases", "nakagami", "maps", "activations", "embedding", "protocol", "spent", "versions"):  # fmt: skip
        assert anchor in ids
    # two curves, four bars, reliability, three cases of six, four parameters, four colour scales and 3 x 6 maps, activations, 4 x 3 clouds
    assert page.count("<svg") == 2 + 4 + 1 + 3 * 6 + 4 + (4 + 3 * 6) + 1 + 3 * 4


def test_tables_lie_beside_the_page(folder, page):
    names = {path.name for path in (folder / "tables").iterdir()}
    assert names == {f"{key}.{ending}" for key in studies.TABLES for ending in ("csv", "md", "tex")}


def test_deviations_are_those_of_the_configs(folder):
    found = {key: (theirs, mine) for key, theirs, mine, _ in study_protocol.deviations(Study(folder))}
    assert found["finetune.steps"] == (10001, 160) and found["data.size"] == (192, 96)
    assert found["encoder.pairs.kind"] == ("partition", "none")
    assert all(theirs != mine for theirs, mine in found.values())
    for same in ("finetune.loss.dice", "encoder.learning_rate", "finetune.label_fraction", "seed", "temporal.kind"):
        assert same not in found


def test_a_store_of_ones_own_has_no_phantoms_settings(tmp_path):
    folder = studies.write_study(tmp_path, names=("nnunet",), seeds=(0,))
    for path in folder.glob("runs/*/*/data.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"origin": "/clinic/store"}))
    mine = Study(folder)
    assert not [key for key, *_ in study_protocol.deviations(mine) if key.startswith("data.")]
    recordings = dict((what, here) for what, _, here in study_protocol.facts(mine))["recordings"]
    assert recordings.endswith("of the store (/clinic/store)") and recordings.startswith("54 cines of 54 patients")


def test_time_and_sharing_are_added_up(folder, page):
    text = Reader(page).text.replace("\N{NO-BREAK SPACE}", " ")
    runs = len({cell["folder"] for cell in studies.plan()["runs"]})
    assert f"evaluate {runs} 5 s {5 * runs // 60} min {5 * runs % 60} s" in text and "encoder 1 1 min 20 s 1 min 20 s" in text
    assert "CPU time not measured" in text and "no counter of joules" in text
    begun = len([path for path in folder.glob("runs/*/*") if not path.parent.name.startswith(("nnunet", "scratch"))])
    assert f"2 run for {2 * begun} that the runs ask for" in text
    assert "Runs differ in jax" in text and "c0ffee" in text


def test_models_are_shown_on_the_same_images(folder):
    mine = Study(folder)
    models = study.shown(mine)
    assert list(models) == ["Chaitanya", "scratch", "nnU-Net", "Chaitanya + speckle", "InfoNCE, binary, positives, encoder"]
    assert {(run.fraction, run.seed) for run in models.values()} == {(0.1, 0)}
    means = np.mean([run.folder.arrays("evaluate/cases.npz")["mean_dsc"] for run in models.values()], axis=0)
    best = f"patient{np.argmax(means) // studies.FRAMES:04d}"
    blocks = study_cases.cases(mine, Easel(None), dict(list(models.items())[:2]))["blocks"]
    assert [block["text"] for block in blocks if block["kind"] == "heading"] == ["best", "median", "worst"]
    assert best in blocks[1]["note"] and len(blocks[2]["cells"]) == 3


@pytest.mark.slow
@pytest.mark.parametrize("names", [(), ("nnunet",)])
def test_a_study_that_is_half_done(tmp_path, names):
    text = Reader(study.draw(studies.write_study(tmp_path, names=names, seeds=(0,))).read_text()).text
    assert "Does the speckle loss help as a local map? Not yet run." in text and "not yet run paper 0.504" in text
    runs = 3 * len(names)
    assert f"{runs} of 40" in text
    for told in ("no run has written its evaluate/embedding.npz",) + (() if names else ("no run has begun", "no run has been evaluated")):
        assert told in text


def test_a_torn_run_is_passed_over(tmp_path):
    folder = studies.write_study(tmp_path, names=("nnunet",), seeds=(0,))
    (folder / "runs/nnunet@10/seed0/config.json").write_text("{torn")
    (folder / "runs/nnunet@50/seed0/evaluate/nakagami.json").write_text("{torn")
    mine = Study(folder)
    assert {run.fraction for run in mine.runs} == {0.5, 1.0}
    torn = next(run for run in mine.runs if run.fraction == 0.5)
    with pytest.raises(Missing, match="no run has written"):
        study_cases.speckle(mine, Easel(None), {"nnU-Net": torn})


def test_what_is_no_study(tmp_path):
    with pytest.raises(UserError, match="holds no study.json"):
        study.draw(tmp_path)
    (tmp_path / "study.json").write_text("{torn")
    with pytest.raises(UserError, match="not readable JSON"):
        study.draw(tmp_path)
    (tmp_path / "study.json").write_text('{"experiments": [], "tables": {}}')
    with pytest.raises(UserError, match="lacks runs"):
        study.draw(tmp_path)


def test_the_report_imports_no_model():
    for path in (Path(study.__file__).parent).glob("study*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None) or ""]
            assert not [name for name in names if name.startswith(("uscl.models", "uscl.stages", "uscl.train", "jax", "flax"))], path
