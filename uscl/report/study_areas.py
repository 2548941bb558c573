"""The label curves in figures: the area under each, and how many labels a model needs to match the baseline that had them all."""

import numpy as np

from uscl.report.folder import Missing
from uscl.report.study_folder import percent
from uscl.report.study_layout import every, plain
from uscl.report.study_tables import NOT_RUN, REPEATS
from uscl.report.tables import figure
from uscl.study import labels

SAID = (
    "Area: the mean DSC along the curve; the log axis weighs each doubling of the labels alike, the linear one is nearly all about many. "
    "Labels needed: where the curve first reaches the baseline, straight over the logarithm in between."
)


def areas(study, scores):
    """The label curves in figures, as a table: area under each by either axis, and the share of labels that matches nnU-Net with all.

    A row a model of the labels table. Areas compare only over the same shares, so a model that lacks one that is planned has none yet.
    Raises Missing where fewer than two shares are planned or no model has been evaluated at all of them.
    """
    names = [name for name, entry in study.experiments.items() if entry["table"] == "labels"]
    shares = study.fractions("labels")
    found = {name: {share: scores.of(name, share, "dsc", every(scores, "dsc")) for share in shares} for name in names}
    whole = {name: values for name, values in found.items() if all(values.values())}
    if len(shares) < 2 or not whole:
        raise Missing("no model has been evaluated at all planned shares of labels, two or more")
    goals = [name for name in names if study.experiments[name]["config"] == "nnunet" and plain(study.experiments[name])]
    goal = scores.of(goals[0], 1.0, "dsc", every(scores, "dsc")) if goals else None
    rows = []
    for name in names:
        if name not in whole:
            rows.append([study.label(name), *[NOT_RUN] * 4])
            continue
        needed = ["–", "–"] if name in goals[:1] else _match(whole[name], goal)  # nobody is to match itself
        rows.append([study.label(name), *_area(whole[name]), *needed])
    other = study.label(goals[0]) if goals else "nnU-Net"
    head = ["model", *({"value": "area", "note": f"{axis} axis"} for axis in ("log", "linear"))]
    head += [{"value": "labels needed", "note": f"to match {other} with all"}, {"value": "reached", "note": "in so many resamples"}]
    return {"head": head, "rows": rows}


def _area(values):
    """Both areas with their intervals, over the images that every share has."""
    given, patients, seeds = _common(values)
    cells = []
    for axis in ("log", "linear"):
        mean, low, high = labels.area_under_labels(given, patients, axis=axis, seeds=seeds, repeats=REPEATS)
        cells.append({"value": figure(mean), "note": f"{figure(low)} to {figure(high)}" if low == low else ""})
    return cells


def _match(values, goal):
    if not goal:
        return [NOT_RUN, NOT_RUN]
    given, patients, seeds, target = _common(values, goal)
    match = labels.labels_to_match(given, target, patients, seeds=seeds, repeats=REPEATS)
    if match.share is not None and np.isnan(match.share):
        return ["–", "–"]
    said = lambda share: "not reached" if share is None else percent(float(f"{share:.2g}"))  # noqa: E731
    least = " or fewer" if match.share is not None and match.share <= match.least else ""
    sure = not np.isnan(match.reached)
    return [
        {"value": said(match.share) + least, "note": f"{said(match.low)} to {said(match.high)}" if sure else ""},
        percent(round(match.reached, 2)) if sure else "–",
    ]


def _common(values, goal=None):
    """({share: [S, n]}, patients, which seeds to draw, the goal's [S, n]?) over the images that all have."""
    everyone = [*values.values(), *([goal] if goal else [])]
    images = [image for image in everyone[0].images if all(image in set(one.images) for one in everyone)]
    seeds = "drawn" if min(len(one.seeds) for one in everyone) > 1 else "kept"
    found = {share: one.at(images) for share, one in values.items()}, everyone[0].patients_of(images), seeds
    return (*found, goal.at(images)) if goal else found
