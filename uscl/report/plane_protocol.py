"""How an anatomy study was done: its stills and parts, what AWCL found and did against what was done here, and what has not ended."""

import numpy as np

from uscl.report import study_parts
from uscl.report.folder import Missing
from uscl.report.plane_cells import COARSE, FINE, SIMCLR
from uscl.report.tables import figure, plural, spoken

SOURCE = "Fu, Jiao, Yasrab and others: Anatomy-Aware Contrastive Representation Learning for Fetal Ultrasound, ECCV 2022 workshops"
FOUND = {  # what its abstract says, by question
    "fine or coarse labels": "fine ones, which keep the difference inside a class, are more effective than coarse ones",
    "anatomy ratio": "more distinct samples of one anatomy among the positive pairs give better representations",
}
SETTINGS = ("anatomy.", "planes.", "data.size", "data.test", "model.normalise", "model.dtype")
OF_DATA = ("anatomy.column", "anatomy.ignore", "anatomy.coarse", "anatomy.level", "planes.column", "planes.ignore")
WHY = (
    ("anatomy.steps", "fewer steps, for time"), ("anatomy.width", "a smaller network, for time"),
    ("anatomy.schedule", "chosen for so few steps"), ("anatomy.look_every", "more looks, for so few steps"),
    *((f"anatomy.views.{name}", "milder, for so few steps") for name in ("crop", "smallest", "brightness", "contrast", "flip")),
    ("anatomy.views.", "more kinds of view, those of ultrasound"),
    ("planes.fractions", "fewer shares, for time"), ("planes.draws", "fewer draws, for time"), ("planes.steps", "fewer steps, for time"),
    ("planes.stills", "fewer stills a step, for time"), ("planes.look_every", "more looks, for so few steps"),
    ("data.size", "smaller frames, for time"), ("data.test", "more patients to test on, for narrower intervals"),
)  # fmt: skip
PAPERS = {  # what the authors' released code does, where no knob tells it
    "stills and sweeps": "routine scans of the second trimester, which are not public; every 8th frame of a scan",
    "which frames attract": "the first item of a batch decides for all: with a label, its whole batch is paired by labels, and all frames "
    "without one attract one another",
    "background": "one class of 14, whose frames attract one another",
    "coarse labels": "the two views of the spine are one class; the rest of the map is not in the code",
    "scale of the loss": "times temperature / 0.07",
    "frozen features": "the code has the pretraining alone",
    "runs of each model": "not in the abstract, nor in the code",
}


def paper():
    """What the paper found; no figure of it could be read."""
    rows = [[what, said] for what, said in FOUND.items()]
    text = (
        "What the paper found, in its abstract's words made short. Its tables were not at hand, so that no figure of it stands on this "
        "page; its scans are not public, so that none could be measured again."
    )
    table = {"head": ["question", "the paper"], "rows": rows}
    return {"text": text, "blocks": [{"kind": "table", "table": table, "strong": False, "prose": True}], "notes": [f"{SOURCE}."]}


def data(planes):
    """Test stills of each class and of each part, and the labels at each share."""
    cell = max(planes.cells.values(), key=lambda cell: len(cell.cine), default=None)
    if cell is None:
        raise Missing("no run has ended")
    folds, of = sorted(set(cell.fold.tolist())), lambda mine: [figure(int(mine.sum())), figure(len(set(cell.patient[mine].tolist())))]
    rows = [["all", *of(np.ones(len(cell.cine), bool))]]
    rows += [[f"part {fold + 1}", *of(cell.fold == fold)] for fold in folds] if len(folds) > 1 else []
    rows += [[name.replace("_", " "), *of(cell.label == k)] for k, name in enumerate(cell.classes)]
    blocks = [{"kind": "table", "table": {"head": ["tested", "stills", "patients"], "rows": rows}, "strong": True}]
    text = "A patient lies in one part. " + (
        f"Cross-validation: each of {len(folds)} parts is tested by networks that have seen none of its patients, not even without labels. "
        "A call needs no scale in common, so calls of all parts are counted together."
        if len(folds) > 1 else "Test patients are seen by no network before, not even without labels."
    )  # fmt: skip
    return {"text": text, "blocks": blocks + study_parts.labelled(planes)}


def section(planes, missing):
    """The protocol against the released code's, settings that are not the paper's, what has not ended. missing: `stills.missing`."""
    changed = study_parts.deviations(planes.study, SETTINGS, WHY, OF_DATA)
    blocks = study_parts.protocol(planes.study, "their code", PAPERS, lambda: facts(planes), changed, missing)
    notes = [
        "config.json of the runs and of the pretrainings, held against uscl.config at the scale paper: the released code's values, and "
        "where it has none, what was chosen for its size. What an experiment changes on purpose is not listed."
    ]
    return {"text": "What was done as the authors' code does it, what was not, and why.", "blocks": blocks, "notes": notes}


def facts(planes):
    """Ours, in the order of PAPERS: what no knob tells."""
    study = planes.study
    name = study.runs[0].experiment
    known = next(iter(study.json("data.json")), {})
    splits, origin = known.get("splits", {}), str(known.get("origin", "not noted"))
    count = lambda key: sum(part.get(key, 0) for part in splits.values())  # noqa: E731
    where = f"{origin}: the hospital's scans are not public" if "phantom" in origin else f"store {origin}"
    seeds = sorted({run.seed for run in study.runs})
    draws, ignored = int(planes.setting(name, "planes.draws")), spoken(planes.setting(name, "anatomy.ignore"))
    rows = [study.label(row) for row in (SIMCLR, COARSE, FINE) if row in study.experiments]
    return [
        f"{plural(count('cines'), 'cine')} of {plural(count('patients'), 'patient')} of the {where}" if splits else "not noted",
        "each frame by itself: with a label, all frames of its class and its own other view; without one, its other view alone, so that no "
        "batch makes strangers attract",
        f"{ignored}: no anatomy, and nobody's positives; a class like all others where planes are told apart",
        f"{spoken(rows)} differ in the label alone; planes are told apart by the fine one in all rows",
        "as it is: with Adam a factor changes next to nothing",
        "the linear layer is fitted to its minimum, so that no rate or number of steps decides; the nearest labelled stills vote beside it",
        f"{plural(len(seeds), 'seed')} ({spoken(seeds)}) of the pretraining, {plural(draws, 'draw')} of labels and first weights each; "
        "draws of one seed share its pretraining, so intervals resample seeds",
    ]  # fmt: skip
