"""The report of a made-up run: every section and number is there, gaps are told, nothing is fetched from elsewhere."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from uscl import report
from uscl.report.figures import Easel
from uscl.report.folder import Folder, Missing
from uscl.report.page import SECTIONS
from uscl.types import UserError

CLASSES = {"capsule": [1, 2], "cortex": [1], "medulla": [2]}
VOID = {"meta", "br", "img", "link", "input", "hr"}


def labels(shift):
    rows, columns = np.mgrid[:40, :48]
    distance = np.hypot(rows - 20, columns - 22 - shift)
    return ((distance < 12) * 1 + (distance < 6) * 1).astype(np.uint8)


def write_run(path):
    """A run's folder with every file a run may leave, its numbers unlike one another."""
    rng = np.random.default_rng(0)
    for place in ("evaluate", "nnunet"):
        (path / place).mkdir(parents=True)
    gray = rng.integers(20, 200, (4, 40, 48)).astype(np.uint8)
    truth = np.stack([labels(k) for k in range(4)])
    prediction = np.stack([labels(0), labels(2), labels(5), 0 * labels(0)])
    keys = ("dsc", "dsc_skip_empty", "hd95_mm", "surface_dice", "delta_snr", "signed_snr")
    entry = lambda k: {"mean": 0.1234 * k, "ci95": [0.1111 * k, 0.1333 * k]}  # noqa: E731
    metrics = {
        key: {**entry(k + 1), "per_class": {name: entry(k + 1 + 0.2 * (c + 1)) for c, name in enumerate(CLASSES)}}
        for k, key in enumerate(keys)
    }
    metrics["dsc"]["per_class"]["medulla"] = {"mean": None, "ci95": [None, None]}
    texts = {
        "config.json": {"experiment": "made up", "seed": 41, "encoder": {"steps": 20, "pairs": {"margin": 7}}},
        "environment.json": {"python": "3.99", "packages": {"jax": "0.77"}},
        "data.json": {"origin": "phantom <b>", "classes": CLASSES, "splits": {"train": {"patients": 31}, "test": {"patients": 13}}},
        "timing.json": {"encoder": 61.0, "finetune": 30.2},
        "results.json": {
            "experiment": "made up", "scale": "quick", "classes": list(CLASSES), "n_test": 4, "n_test_patients": 2, "n_train_labels": 9,
            "metrics": metrics,
        },
        "evaluate/classes.json": CLASSES,
        "evaluate/nakagami.json": {
            "cortex": {"truth": {"m": 5.125, "omega": 3}, "prediction": {"m": 4.875, "omega": 4}, "intended": {"m": 0.625, "omega": 1}},
            "medulla": {"truth": {"m": 2.5, "omega": 0.2}},
        },
        "nnunet/plans.json": {
            "experiment_planner_used": "ExperimentPlanner",
            "configurations": {"2d": {
                "batch_size": 17, "patch_size": [40, 56], "median_image_size_in_voxels": [38.0, 54.0], "use_mask_for_norm": [False],
                "architecture": {"arch_kwargs": {
                    "n_stages": 3, "features_per_stage": [6, 12, 23], "kernel_sizes": [[3, 3], [3, 3], [3, 1]],
                    "strides": [[1, 1], [2, 2], [2, 1]], "n_conv_per_stage": [2, 2, 4], "n_conv_per_stage_decoder": [5, 7],
                }},
            }},
        },
        "nnunet/network.json": {
            "parameters": 123457, "networks": 5, "heads": 3, "regions": False, "augmentation": "upright", "turn": 15.0,
        },
        "nnunet/postprocessing.json": {"keep_largest": [[1, 2]], "tried": [
            {"of": "foreground", "values": [1, 2], "before": 0.8125, "after": 0.84375, "adopted": True},
            {"of": "cortex", "values": [1], "before": 0.71875, "after": 0.703125, "adopted": False},
        ]},
    }  # fmt: skip
    for name, content in texts.items():
        (path / name).write_text(json.dumps(content))
    lines = [{"stage": "encoder", "step": s, "loss": 3.8 - s / 10, "chance": 3.85, "contrastive": 3.8 - s / 10} for s in range(0, 21, 10)]
    lines += [
        {"stage": "finetune", "step": s, "loss": 2 / (s + 1), "dice": 1 / (s + 1), "validation": s / 50, "best": 1}
        for s in range(0, 31, 10)
    ]
    (path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"stage": "finetu')
    cases = [f"P{k // 2},{k},0,{name},0.5,0.5,{k}.5,0.1,-0.1" for k in range(4) for name in CLASSES]
    (path / "evaluate/cases.csv").write_text("\n".join(["patient,cine,frame,class," + ",".join(keys), *cases]))
    np.savez(path / "evaluate/cases.npz", image=gray, truth=truth, prediction=prediction, mean_dsc=[1, 0.8, 0.5, 0], patient=list("ABCD"))
    np.savez(path / "data.npz", frames=gray, cine=[3, 3, 3, 8], frame=[10, 2, 4, 0], label=truth)
    z = rng.normal(size=(12, 5))
    np.savez(path / "evaluate/embedding.npz", z=z, cine=np.repeat([3, 8], 6), frame=np.tile(np.arange(6), 2), patient=[0, 1])
    same = np.kron(np.eye(2), np.ones((2, 2)))
    for stage in ("encoder", "decoder"):
        (path / stage).mkdir()
        np.savez(path / stage / "pairs.npz", weights=same, positive=np.tile(same, (2, 2)), negative=np.tile(1 - same, (2, 2)),
                 cine=[5, 5, 2, 2], frame=[1, 0, 9, 4])  # fmt: skip
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(run):
    return report.draw(run).read_text(encoding="utf-8")


@pytest.fixture
def unpainted(monkeypatch):
    """Figures of a page that is only read stay empty: painting them is nearly all of its time."""
    monkeypatch.setattr(Easel, "_svg", lambda self, panel: "<svg></svg>")
    monkeypatch.setattr(Easel, "_sheet", lambda self, *_: None)


class Reader(HTMLParser):
    """Checks that tags close in order; keeps what is said and what is pointed at."""

    def __init__(self, page):
        super().__init__()
        self.open, self.links, self.ids, self.said, self.tags = [], [], [], [], set()
        self.feed(page)
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.links += [value for name, value in attributes if name.endswith("href") or name == "src"]
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.said += data.split()

    @property
    def text(self):
        return " ".join(self.said)


def test_the_page_is_one_file_and_parses(page):
    read = Reader(page)
    assert "http" not in page and "@import" not in page and "script" not in read.tags and "link" not in read.tags
    assert read.links and all(link.startswith(("#", "data:image/png;base64,")) for link in read.links)
    assert len(read.ids) == len(set(read.ids))
    assert {link[1:] for link in read.links if link.startswith("#")} <= set(read.ids)
    assert 'name="viewport"' in page and "prefers-color-scheme: dark" in page


def test_every_section_is_drawn(page):
    text = Reader(page).text
    for anchor, (title, _) in SECTIONS.items():
        if anchor in ("classify", "planes", "saliency", "heads"):  # of runs that classify, or measure heads
            continue
        assert f'id="{anchor}"' in page and title in text
    assert 'class="missing"' not in page
    assert page.count("<svg") == 4 + 1 + 3 + 2 + 12 + 2 + 6 + 2  # frames, curves of two stages, dots, cases, Nakagami, pairs, embedding


def test_every_number_is_told(page):
    text = Reader(page).text.replace("\N{NO-BREAK SPACE}", " ")
    headline = "Mean DSC 0.123 (95 % interval 0.111 to 0.133) over 3 classes, on 4 images of 2 test patients, "
    assert headline + "learnt from 9 labelled frames, in 1 min 31 s." in text
    for k in range(1, 6):
        digits = 1 if k == 3 else 3
        for scale in (k, k + 0.2, k + 0.4):
            for number in (0.1234, 0.1111, 0.1333):
                assert f"{number * scale:.{digits}f}" in text
    assert f"medulla – {0.1234 * 2.6:.3f}" in text  # nothing under DSC, but under DSC of the images that hold a medulla
    for told in (
        "5.125",
        "4.875",
        "0.625",
        "31",
        "13",
        "seed 41",
        "pairs.margin 7",
        "python 3.99",
        "jax 0.77",
        "phantom <b>",
        "false negative",
    ):
        assert told in text, told
    assert "20 steps · loss 3.8 to 1.8 · chance 3.85 · 1 min 1 s" in text
    assert "30 steps · loss 2 to 0.0645 · best validation DSC 0.600 at step 30 · 30 s" in text
    assert "patient A · mean DSC 1.000 · capsule 1.00, cortex 1.00, medulla 1.00" in text
    assert "patient D · mean DSC 0.000 · capsule 0.00" in text


def test_the_plan_is_told_stage_by_stage(page):
    text = Reader(page).text.replace("\N{NO-BREAK SPACE}", " ")
    for told in ("5 networks of 123,457 parameters", "40 × 56 px", "17 patches", "38 × 54 px after the crop", "upright: turns up to ±15°",
                 "a softmax over 3 label values", "1 40 × 56 6 3 × 3 1 × 1 2 7",
                 "2 20 × 28 12 3 × 3 2 × 2 2 5", "3 10 × 28 23 3 × 1 2 × 1 4 –",
                 "largest component of foreground 0.812 0.844 yes", "largest component of cortex 0.719 0.703 no"):  # fmt: skip
        assert told in text, told


def test_a_plan_before_its_post_processing(tmp_path, unpainted):
    write_run(tmp_path)
    (tmp_path / "nnunet/postprocessing.json").unlink()
    assert "nnunet/postprocessing.json was not written" in Reader(report.draw(tmp_path).read_text()).text
    (tmp_path / "nnunet/plans.json").write_text('{"configurations": {"2d": {"patch_size": [8, 8]}}}')
    with pytest.raises(Missing, match="nnunet/plans.json and nnunet/network.json do not fit together"):
        SECTIONS["plan"][1](Folder(tmp_path), Easel(tmp_path / "plots"))


def test_a_run_tells_only_of_its_stages(tmp_path, unpainted):
    write_run(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"nnunet": {"epochs": 61}}
    for stages, shown, left_out in (
        (["nnunet", "evaluate"], ["plan", "epochs"], ["pairs", "embedding", "pairs.margin"]),
        (["encoder", "finetune", "evaluate"], ["pairs", "embedding", "pairs.margin"], ["plan", "epochs"]),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | {"stages": stages}))
        page = report.draw(tmp_path).read_text()
        for name in shown:
            assert f'id="{name}"' in page or f">{name}<" in page, name
        for name in left_out:
            assert f'id="{name}"' not in page and f">{name}<" not in page, name


def test_plots_are_pictures(run, page):
    names = {path.stem for path in (run / "plots").glob("*.png")}
    assert names == {"data", "curves-encoder", "curves-finetune", "classes", "overlay-best", "overlay-median", "overlay-worst",
                     "nakagami", "pairs-encoder", "pairs-decoder", "embedding"}  # fmt: skip
    assert all(np.asarray(Image.open(path)).std() > 1 for path in (run / "plots").glob("*.png"))


def test_a_run_that_has_only_begun(tmp_path):
    (tmp_path / "config.json").write_text('{"experiment": "young"}')
    text = Reader(report.draw(tmp_path).read_text()).text
    assert "Not evaluated yet" in text and "young" in text
    for name in ("data.json", "data.npz", "metrics.jsonl", "evaluate/cases.npz", "evaluate/nakagami.json", "encoder/pairs.npz",
                 "decoder/pairs.npz", "evaluate/embedding.npz", "environment.json", "nnunet/plans.json"):  # fmt: skip
        assert f"{name} was not written" in text


@pytest.mark.parametrize(
    "anchor, name", [("training", "metrics.jsonl"), ("cases", "evaluate/cases.npz"), ("nakagami", "evaluate/nakagami.json"),
                     ("embedding", "evaluate/embedding.npz"), ("environment", "environment.json"), ("plan", "nnunet/plans.json"),
                     ("plan", "nnunet/network.json")],
)  # fmt: skip
def test_a_broken_file_is_told_by_name(tmp_path, anchor, name):
    write_run(tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(Missing, match=name):
        SECTIONS[anchor][1](Folder(tmp_path / "run"), Easel(tmp_path / "plots"))


def test_what_is_no_run(tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        report.draw(tmp_path / "nowhere")
    with pytest.raises(UserError, match="config.json was not written"):
        report.draw(tmp_path)
    (tmp_path / "config.json").write_text("{torn")
    with pytest.raises(UserError, match="config.json is not readable JSON"):
        report.draw(tmp_path)
