"""What an anatomy study says of AWCL's two findings and of what else was asked: one plain answer each, from the tables."""

from uscl.report.plane_cells import COARSE, FINE, SIMCLR
from uscl.report.plane_tables import GROUPS, TITLES, smallest
from uscl.report.study_findings import answer
from uscl.report.study_folder import percent
from uscl.report.study_sentences import at_shares, bound, families, tested
from uscl.report.tables import plural

NOT_YET = "Not yet run."
OTHERS = {"temporal": "nearness in time", "temporal_anatomy": "nearness in time and labels", "uscl": "USCL", "imagenet": "public weights"}


def findings(planes, tables):
    """[(question, answer)]; differences, corrected p and verdicts are those of the tables, so the page can't contradict itself."""
    asked = [
        ("Do fine labels beat coarse ones?", *_granularity(planes, tables), "Fine less coarse labels"),
        ("Does a larger ratio of labels help?", *_slopes(tables), "Rise from no label to all"),
        ("Do fine labels beat SimCLR, which is told none?", *_few(planes, tables, FINE), "Fine labels less SimCLR"),
        ("Does SimCLR beat random weights?", *_few(planes, tables, SIMCLR), "SimCLR less the network not pretrained"),
    ]  # fmt: skip
    found = [(question, _asked(planes, rows, what)) for question, planned, rows, what in asked if planned]
    others = [name for name in OTHERS if _few(planes, tables, name)[0]]
    if others:
        found.append(("What do other pairs bring?", _others(planes, tables, others)))
    return found + [("How sure is this?", told) for told in [limits(planes, tables)] if told]


def _rows(planes, tables, key, name):
    """{mode: judged cells} of an experiment's rows of a table."""
    rows = dict(tables[key].rows) if key in tables else {}
    mine = {planes.name((name, mode)) for mode in planes.modes(name)} if name in planes.study.experiments else set()
    return {labels[1]: cells for labels, cells in rows.items() if labels in mine and any(cell.verdict for cell in cells)}


def _granularity(planes, tables):
    return "granularity" in tables, _rows(planes, tables, "granularity", FINE)


def _few(planes, tables, name):
    """Whether the plan has what an experiment is held against, and {mode: judged cells} over the tables of shares."""
    planned = name in planes.study.experiments and any(planes.against((name, mode)) for mode in planes.modes(name))
    return planned, {mode: cells for key in GROUPS for mode, cells in _rows(planes, tables, key, name).items()}


def _slopes(tables):
    rows = tables["slope"].rows if "slope" in tables else ()
    return "slope" in tables, {labels[0]: cells for labels, cells in rows if any(cell.verdict for cell in cells)}


def _asked(planes, rows, what):
    """The answer from all comparisons, figures from the smallest share."""
    words = [cell.verdict.word for cells in rows.values() for cell in cells if cell.verdict]
    if not words:
        return NOT_YET
    share = smallest(planes)
    told = "; ".join(f"{mode} {at_shares(cells, planes.shares(), [share], named=False)}" for mode, cells in rows.items())
    where = f"macro F1 at {percent(share)} of the labels, with 95 % intervals"
    return f"{answer(words)} {what}, {where}: {told}. At all shares: {_count(words)}."


def _others(planes, tables, names):
    told = []
    for name in names:
        words = [cell.verdict.word for cells in _few(planes, tables, name)[1].values() for cell in cells if cell.verdict]
        label = OTHERS[name]
        told.append(f"{label[:1].upper()}{label[1:]}: {_count(words) if words else 'not yet run'}.")
    return f"Against SimCLR, in macro F1 of all modes and shares. {' '.join(told)}"


def _count(words):
    """`better in 2, worse in none of 9 comparisons`."""
    better, worse = (words.count(word) or "none" for word in ("better", "worse"))
    return f"better in {better}, worse in {worse} of {plural(len(words), 'comparison')}"


def limits(planes, tables):
    """How the p were corrected, and how small they can be."""
    told = families(tables, TITLES)
    if not told or not planes.cells:
        return ""
    cell = next(iter(planes.cells.values()))
    told += f" Behind them stand {plural(len(cell.label), 'still')} of {tested(cell)}."
    if {COARSE, FINE} & planes.study.experiments.keys():
        told += (
            " A pretraining that is told labels is told those of all training stills, so a gain over SimCLR or over random weights is one "
            "of more labels as well; that of fine labels over coarse ones is not, and neither asks what another store would say."
        )
    return f"{told} {bound(cell, tables, TITLES)}".strip()
