"""The tables of a video study: the paper's Table 3, AUC by share of the labels, rows without temporal operations, maps against boxes."""

import numpy as np

from uscl.report import saliency, study_tables
from uscl.report.study_folder import percent
from uscl.report.study_tables import REPEATS, Cell, Scores, Table, Values, judged
from uscl.report.tables import plural
from uscl.study import papers_lung, statistics

FIGURES = {"accuracy": "accuracy", "sensitivity": "sensitivity", "specificity": "specificity", "auc": "AUC"}
TITLES = {
    "modes": "Table 3", "shares": "Few labels", "temporal": "Temporal augmentation", "saliency": "Maps against boxes",
}  # fmt: skip


def tables(videos, mapped):
    """{key: Table}, judged, of those the plan has rows for. mapped: `uscl.study.videos.saliency`. Each judged table is one family."""
    found = [_modes(videos), _shares(videos), _temporal(videos), _saliency(videos, mapped)]
    return {table.key: table for table in found if table.rows}


def _modes(videos):
    """Without verdicts: AUC has its own in `_shares`, and two families would give one comparison two corrections."""
    share = videos.largest()
    rows = []
    for place in videos.places(temporal=False):
        printed = of_paper(videos, place)
        cells = [videos.cell(place, share, figure, paper=theirs) for figure, theirs in zip(FIGURES, printed, strict=True)]
        rows.append(((*videos.name(place), trainable(videos, place)), cells))
    note = f"At {percent(share)} of the labels{_count(videos, share)}. What is better than what stands in the next table."
    heads = ("model", "mode", "trained parameters")
    return Table("modes", "Table 3: videos told apart", heads, tuple(FIGURES.values()), rows, note, digits=2)


def _shares(videos):
    """A row a place, a column a share; a pretrained encoder's AUC against the same network's without the pretraining."""
    shares, rows = videos.shares(), []
    for place in videos.places(temporal=False):
        auc = of_paper(videos, place)[-1]
        other = videos.against(place)
        cells = [videos.cell(place, share, "auc", against=other, paper=auc if share == 1 else None) for share in shares]
        rows.append((videos.name(place), cells))
    columns = tuple(percent(share) for share in shares)
    table = Table("shares", "AUC by share of the labels", ("model", "mode"), columns, rows, _held(videos, temporal=False), digits=2)
    return judged(table, ["auc"] * len(columns))


def _temporal(videos):
    """Each row without temporal operations below the same with them."""
    shares, rows = videos.shares(), []
    for place in videos.places(temporal=True):
        other = videos.against(place)
        if other:
            rows.append((videos.name(other), [videos.cell(other, share, "auc") for share in shares]))
        rows.append((videos.name(place), [videos.cell(place, share, "auc", against=other) for share in shares]))
    columns = tuple(percent(share) for share in shares)
    note = _held(videos, temporal=True) + f" The paper prints a difference alone, {study_tables.signed(-papers_lung.TEMPORAL_COST, 2)}."
    return judged(Table("temporal", "AUC without temporal augmentation", ("model", "mode"), columns, rows, note), ["auc"] * len(columns))


def _saliency(videos, mapped):
    """Maps against boxes; weighted IoU, the paper's measure, is judged, the others have their differences in the file alone."""
    base = mapped.get(videos.random())
    places = [place for temporal in (False, True) for place in videos.places(temporal=temporal)]
    rows = []
    for place in places if mapped else ():
        own = None if place == videos.random() else base
        cells = [_measured(mapped.get(place), own, measure) for measure in saliency.MEASURES]
        rows.append((videos.name(place), cells))
    columns = tuple(name for name, _ in saliency.MEASURES.values())
    note = "Weighted IoU is held against the random features' maps; the other measures are shown, not judged."
    table = Table("saliency", "Occlusion maps against boxes", ("model", "mode"), columns, rows, note)
    first = [(labels, [cells[0], *(Cell() for _ in cells[1:])]) for labels, cells in rows]
    first = judged(Table(table.key, table.title, table.labels, columns, first), list(saliency.MEASURES))
    kept = [(labels, [one[0], *cells[1:]]) for (labels, one), (_, cells) in zip(first.rows, rows, strict=True)]
    return Table(table.key, table.title, table.labels, columns, kept, note, family=first.family)


def _measured(mine, other, measure):
    """One measure of one place's maps, its mean over the videos that have boxes, and less the random ones'."""
    own = _values(mine, measure)
    if own is None:
        return Cell()
    mean, low, high = statistics.mean_of_seeds(
        own.values, own.patients_of(own.images), seeds="drawn" if len(own.seeds) > 1 else "kept", repeats=REPEATS,
    )  # fmt: skip
    theirs = _values(other, measure)
    return Cell(mean, low, high, len(own.seeds), difference=Scores.difference(own, theirs) if theirs else None)


def _values(found, measure):
    """`study_tables.Values` of a measure over the videos with boxes; None without."""
    if found is None or measure not in found[0]:
        return None
    values, patient, cine = np.asarray(found[0][measure], float), found[1], found[2]
    known = ~np.isnan(values).all(0)
    images = [(p, c) for p, c in zip(patient[known].tolist(), cine[known].tolist(), strict=True)]
    return Values(values[:, known], images, list(range(len(values)))) if images else None


def of_paper(videos, place):
    """What the paper prints of a place, in the order of FIGURES; None throughout where it has no such row."""
    name, mode = place
    entry = videos.study.experiments[name]
    plain = not set(entry.get("changes") or {}) - {"video.method", "classify.modes"} and entry["table"] == "modes"
    method = videos.setting(name, "video.method") if mode in ("features", "finetuned") else "none"
    return papers_lung.CLASSIFIED.rows.get((method, mode) if plain else None, (None,) * len(FIGURES))


def trainable(videos, place):
    """How many parameters learn from the labels, of the network whose count the paper gives."""
    known = papers_lung.TRAINABLE if videos.setting(place[0], "video.plan") == "tiny" else {}
    return f"{known[place[1]]:,}" if place[1] in known else "–"


def _held(videos, *, temporal):
    """'Held against: ..' of a table, a counterpart and what is held against it."""
    held = {}
    for place in videos.places(temporal=temporal):
        if videos.against(place):
            held.setdefault(videos.against(place), []).append(", ".join(videos.name(place)))
    told = [f"{' and '.join(rows) if len(rows) < 4 else plural(len(rows), 'row')} against {', '.join(videos.name(other))}"
            for other, rows in held.items()]  # fmt: skip
    return f"Held against: {'; '.join(told)}." if told else ""


def _count(videos, share):
    labels = videos.labels(share)
    return "" if labels is None else f", {plural(labels, 'video')}"
