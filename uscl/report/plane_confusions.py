"""What coarse and fine labels leave confused: confusions side by side, and the planes most often taken for each other, counted in both."""

import numpy as np

from uscl.metrics.classification import confusion
from uscl.report import planes as still_parts
from uscl.report.folder import Missing
from uscl.report.plane_tables import smallest
from uscl.report.study_cells import mode_name, paired, several
from uscl.report.study_folder import percent
from uscl.report.study_tables import signed
from uscl.report.tables import figure, plural
from uscl.study import repetitions

MOST = 4  # pairs of planes


def section(planes, easel):
    """Coarse and fine of the first mode that both have at the smallest share. Raises Missing before both are there."""
    share = smallest(planes)
    found = [(mode, planes.at((a, mode), share), planes.at((b, mode), share)) for (a, mode), (b, _) in planes.granularity()]
    found = [(mode, *cells) for mode, *cells in found if all(cell is not None for cell in cells) and paired(*cells)]
    if not found:
        raise Missing("coarse and fine labels have not both been evaluated at the smallest share")
    mode, *cells = found[0]
    counts = [counted(cell) for cell in cells]
    panels = [still_parts.confusion(count, cell.classes, planes.study.label(cell.experiment))
              for cell, count in zip(cells, counts, strict=True)]  # fmt: skip
    blocks = [easel.block("plane-confusions", panels)]
    pairs = look_alikes(counts)
    if pairs:
        note = f"{plural(len(pairs), 'pair')}, chosen by the mistakes of both rows together"
        names = [planes.study.label(cell.experiment) for cell in cells]
        head = ["taken for each other", *names, {"value": "difference", "note": "below 0: fine is better"}]
        rows = [[_named(pair, cells[0].classes), *_told(planes, cells, (pair,))] for pair in pairs]
        rows = [["all of these", *_told(planes, cells, tuple(pairs))], *rows] if len(pairs) > 1 else rows
        blocks.append({"kind": "heading", "text": "Look-alikes", "note": note})
        blocks.append({"kind": "table", "table": {"head": head, "rows": rows}, "strong": len(pairs) > 1})
    text = (
        f"{mode_name(mode)[:1].upper()}{mode_name(mode)[1:]} at {percent(share)} of the labels. A row is a true class, in % of its stills, "
        "nothing below half a percent; all repetitions together."
    )
    notes = [
        "Look-alikes: of the stills of two planes the share that is taken for the other one, with 95 % intervals over patients and "
        "repetitions; not corrected for the number of pairs."
    ]
    return {"text": text, "blocks": blocks, "notes": notes if pairs else []}


def counted(cell):
    """int [K, K]: a row a true class, all repetitions together."""
    return sum(confusion(cell.label, called, classes=len(cell.classes)) for called in cell.called)


def look_alikes(counts):
    """[(a, b)] of classes, those most often taken for each other over all confusion matrices, a mistake counted by its class's size."""
    rate = sum(np.divide(c, np.maximum(c.sum(1, keepdims=True), 1)) for c in counts)
    both = np.triu(rate + rate.T, 1)
    order = np.argsort(-both, axis=None, kind="stable")[:MOST]
    return [tuple(map(int, np.unravel_index(k, both.shape))) for k in order if both.flat[k] > 0]


def mixed(cell, pairs, weight):
    """Of the stills of some pairs' planes, the share that is taken for the other plane of a pair.

        share_s(w) = sum_i w_i [called_si is a partner of label_i] / sum_i w_i,        i over the stills whose plane is in a pair

    weight: [R, P] of the cell's patients in sorted order. Returns float64 [S, R], nan where no such still was drawn.
    Known values: weights of 1, one pair: both counts off the diagonal over both planes' stills.
    """
    asked = np.isin(cell.label, pairs)
    partners = {(a, b) for pair in pairs for a, b in (pair, pair[::-1])}
    number = len(cell.classes)
    taken = np.isin(np.asarray(cell.label) * number + np.asarray(cell.called), [a * number + b for a, b in partners])
    owner = np.eye(weight.shape[1])[np.unique(cell.patient, return_inverse=True)[1]]  # [n, P]: whose each still is
    wrong, whole = (taken & asked) @ owner @ weight.T, asked @ owner @ weight.T
    return np.divide(wrong, whole, out=np.full(wrong.shape, np.nan), where=np.broadcast_to(whole > 0, wrong.shape))


KIND = repetitions.Kind(mixed, lambda cell, pairs: len(np.unique(np.asarray(cell.patient)[np.isin(cell.label, pairs)])))


def _told(planes, cells, pairs):
    """The share of each cell with its interval, and the second less the first."""
    how = {"kind": KIND, "repeats": planes.repeats}
    shares = [repetitions.interval(cell, pairs, seeds=several(cell), **how) for cell in cells]
    coarse, fine = cells
    d = repetitions.difference(fine, coarse, pairs, seeds=several(*cells), **how)
    told = [{"value": figure(mean), "note": _ends(low, high, figure)} for mean, low, high in shares]
    return [*told, {"value": signed(d.mean), "note": _ends(d.low, d.high, signed)}]


def _ends(low, high, form):
    return f"{form(low)} to {form(high)}" if low == low else ""


def _named(pair, classes):
    return " and ".join(classes[k].replace("_", " ") for k in pair)
