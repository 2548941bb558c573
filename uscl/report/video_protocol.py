"""How a video study was done: its videos and parts, the lung paper's protocol against ours and why, repetitions and what has not ended."""

import numpy as np

from uscl.report import study_parts
from uscl.report.folder import Missing
from uscl.report.tables import figure, plural, spoken
from uscl.study import papers_lung

SETTINGS = ("video.", "classify.", "saliency.", "data.size", "data.test", "model.normalise", "model.dtype")
OF_DATA = ("classify.column", "classify.negative", "classify.ignore")  # which values mean what is the store's affair
WHY = (
    ("video.steps", "fewer steps, for time"), ("video.clips", "fewer clips a step, for memory and time"),
    ("video.frames", "shorter clips, for time"), ("video.stride", "shorter clips that span as long"),
    ("video.hidden", "smaller heads, for time"), ("video.features", "smaller heads, for time"),
    ("video.learning_rate", "a larger rate, for so few steps"), ("video.schedule", "chosen for so few steps"),
    ("video.look_every", "more looks, for so few steps"), ("classify.fractions", "fewer shares, for time"),
    ("classify.draws", "fewer draws, for time"), ("classify.steps", "fewer steps, for time"), ("classify.clips", "for time"),
    ("classify.learning_rate", "a larger rate, for so few steps"), ("classify.views_each", "fewer clips a video, for time"),
    ("classify.look_every", "more looks, for so few steps"), ("saliency.", "fitted to the size of the pictures"),
    ("data.size", "smaller frames, for time"),
    ("data.test", "more patients to test on, for narrower intervals"),
)  # fmt: skip
PAPER = papers_lung.VIDEOS
PAPERS = {
    "videos": f"{PAPER['all']:,} of {papers_lung.PATIENTS} patients at {papers_lung.SITES} sites; at least 3 s and 60 frames each",
    "labelled videos": f"{PAPER['labelled']:,}: {PAPER['train']:,} train, {PAPER['validation']} validation, {PAPER['test']} test; "
    "divided by patient; two readers and a third where they differ",
    "pretraining": f"the {PAPER['unlabelled']:,} videos without and the training videos with a label",
    "runs of each model": "1, without intervals",
    "network": "a modified Darknet-53 with 3-D kernels, 133,880 parameters; its widths are not printed",
    "frozen encoder": "the linear layer is trained at a rate of 3e-4",
    "few labels": "drawn at random; the shares between 5 and 100 % are not printed",
    "threshold": "not said",
    "views": "ranges, and probabilities of the flip and the temporal operations alone",
    "occlusion": "after Zeiler and Fergus; block, stride and what hides are not printed",
    "weighted IoU": "the highest 10 % of pixels in boxes, against the readers' boxes; the weights are not defined",
}


def data(videos):
    """Parts of the data, and of the test videos how many patients and videos of each class each part has."""
    cell = max(videos.cells.values(), key=lambda cell: len(cell.cine), default=None)
    if cell is None:
        raise Missing("no run has ended")
    rows = []
    folds = sorted(set(cell.fold.tolist()))
    for fold in folds:
        mine = cell.fold == fold
        rows.append([f"part {fold + 1}" if fold >= 0 else "test", *_counts(cell, mine)])
    if len(folds) > 1:
        rows.insert(0, ["all parts", *_counts(cell, np.ones(len(cell.cine), bool))])
    head = ["tested", "patients", *({"value": f"{kind} videos", "note": "of patients"} for kind in ("positive", "negative"))]
    blocks = [{"kind": "table", "table": {"head": head, "rows": rows}, "strong": len(folds) > 1}]
    blocks += study_parts.labelled(videos)
    text = "A patient lies in one part. " + (
        f"Cross-validation: each of {len(folds)} parts is tested by networks that have seen none of its patients, not even without labels. "
        "AUC compares videos of one part alone, because two networks' scores share no scale."
        if len(folds) > 1 else "Test patients are seen by no network before, not even without labels."
    )  # fmt: skip
    return {"text": text, "blocks": blocks}


def _counts(cell, mine):
    """Patients, and of the positive and the negative videos their number and that of their patients, of some of a cell's videos."""
    of = lambda rows: {"value": figure(int(rows.sum())), "note": f"of {len(set(cell.patient[rows].tolist()))}"}  # noqa: E731
    return [figure(len(set(cell.patient[mine].tolist()))), of(mine & (cell.label == 1)), of(mine & (cell.label == 0))]


def section(videos, missing):
    """The protocol against the paper's, settings that are not the paper's, and what has not ended. missing: `videos.missing`."""
    study = videos.study
    blocks = study_parts.protocol(study, "paper", PAPERS, lambda: facts(videos), deviations(study), missing)
    notes = [
        "config.json of the runs, held against uscl.config at the scale paper: the paper's values, and where it prints none, what was "
        "chosen for its size. What an experiment changes on purpose is not listed."
    ]
    return {"text": "What was done as the paper did it, what was not, and why.", "blocks": blocks, "notes": notes}


def facts(videos):
    """Ours, in the order of PAPERS: what no knob tells."""
    study = videos.study
    name = study.runs[0].experiment
    known = next(iter(study.json("data.json")), {})
    splits, origin = known.get("splits", {}), str(known.get("origin", "not noted"))
    count = lambda key: sum(part.get(key, 0) for part in splits.values())  # noqa: E731
    where = f"{origin}: the hospitals' recordings are not public" if "phantom" in origin else f"store {origin}"
    seeds = sorted({run.seed for run in study.runs})
    draws = int(videos.setting(name, "classify.draws"))
    negative = spoken(videos.setting(name, "classify.negative"))
    column = f"positive is any value of the column {videos.setting(name, 'classify.column')} but {negative}"
    window = spoken([side or "all" for side in videos.setting(name, "saliency.window")])
    network = "widths 6, 12, 12, 12, 12, 18: the only plan of Darknet-53's kind with that count; a reconstruction"
    return [
        f"{plural(count('cines'), 'cine')} of {plural(count('patients'), 'patient')} of the {where}" if splits else "not noted",
        f"divided by patient; {column}",
        "the training patients' videos, with and without a label; no other patient's",
        f"{plural(len(seeds), 'seed')} ({spoken(seeds)}) of the pretraining, {plural(draws, 'draw')} of labels and first weights each, "
        "because runs of one model differ; draws of one seed share its pretraining, so intervals resample seeds",
        network if videos.setting(name, "video.plan") == "tiny" else "Darknet-53's usual widths with 3-D kernels",
        "the linear layer is fitted to its minimum, so that no rate or number of steps decides",
        "nested in one draw, spread over patients, classes in proportion: so that shares differ in nothing but their number",
        "Youden's, chosen on the validation videos of the same run; nothing is chosen on test videos",
        "all but erasing happen to every clip, erasing to half of them, one draw a clip; noise differs by pixel",
        f"block of {window} (frames, rows, columns), hidden by its surroundings' mean; the fall of the positive class's log odds",
        "a region counts by its share of the saliency that was kept; mean over frames with boxes",
    ]  # fmt: skip


def deviations(study):
    """[(knob, the paper's value, ours, why)] of the video stages' knobs, but for those that an experiment sets itself."""
    return study_parts.deviations(study, SETTINGS, WHY, OF_DATA)
