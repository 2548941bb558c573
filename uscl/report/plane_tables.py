"""The tables of an anatomy study: macro F1 by share of the labels, fine against coarse, the anatomy ratio and its slope, all figures."""

from uscl.report.plane_cells import FIGURE
from uscl.report.scores import METRICS
from uscl.report.study_cells import mode_name
from uscl.report.study_folder import percent
from uscl.report.study_tables import Table, judged
from uscl.report.tables import plural

GROUPS = {  # key: title, the modes of its rows
    "linear": ("Frozen features, linear layer", ("random", "features")),
    "neighbours": ("Frozen features, nearest neighbours", ("random_knn", "features_knn")),
    "finetuned": ("Encoder trained with the rest", ("supervised", "finetuned")),
}
TITLES = {
    **{key: title for key, (title, _) in GROUPS.items()}, "granularity": "Fine against coarse labels", "ratio": "Anatomy ratio",
    "slope": "Slope over the ratio", "figures": "All figures",
}  # fmt: skip
FIGURES = ("macro_f1", "macro_precision", "macro_recall", "accuracy")
HELD = "Held against: each row against SimCLR of the same mode, SimCLR against the network that was not pretrained. "
TOLD = "Labels that a pretraining was told are more labels than those of the share."


def tables(planes):
    """{key: Table}, judged, of those the plan has rows for. Each judged table is one family."""
    found = [*(_shares(planes, key) for key in GROUPS), _granularity(planes), _ratio(planes), _slope(planes), _figures(planes)]
    return {table.key: table for table in found if table.rows}


def _shares(planes, key):
    """A row a place of some modes, a column a share of the labels."""
    title, modes = GROUPS[key]
    places = planes.places(modes)
    rows = [
        (planes.name(place), [planes.cell(place, share, FIGURE, against=planes.against(place)) for share in planes.shares()])
        for place in places
    ]
    note = (HELD if any(map(planes.against, places)) else "") + TOLD
    return _judged(planes, Table(key, f"Macro F1, {title[:1].lower()}{title[1:]}", ("model", "mode"), _columns(planes), rows, note))


def _granularity(planes):
    """Each mode's fine labels below its coarse ones."""
    rows, shares = [], planes.shares()
    for coarse, fine in planes.granularity():
        rows.append((planes.name(coarse), [planes.cell(coarse, share, FIGURE) for share in shares]))
        rows.append((planes.name(fine), [planes.cell(fine, share, FIGURE, against=coarse) for share in shares]))
    note = "Fine labels are held against coarse ones of the same mode."
    title = "Macro F1 with fine and with coarse labels"
    return _judged(planes, Table("granularity", title, ("model", "mode"), _columns(planes), rows, note))


def smallest(planes):
    """The smallest share of the labels, where the questions are asked first."""
    return min(planes.shares(), default=1.0)


def _ratio(planes):
    """A row a ratio, a column a mode, at the smallest share; without verdicts: the slope has them."""
    ratios, share = planes.ratios(), smallest(planes)
    modes = planes.pretrained(*ratios.values()) if len(ratios) > 2 else []
    rows = [
        ((f"r = {r:g}", planes.study.label(name)), [planes.cell((name, mode), share, FIGURE) for mode in modes])
        for r, name in ratios.items() if modes
    ]  # fmt: skip
    count = planes.labels(share)
    note = f"At {percent(share)} of the labels{'' if count is None else f', {plural(count, planes.noun)}'}."
    columns = tuple(map(mode_name, modes))
    return Table("ratio", "Macro F1 by the share r of labels that the pretraining keeps", ("ratio", "model"), columns, rows, note)


def _slope(planes):
    """A row a mode, a column a share: how much macro F1 rises with the ratio."""
    ratios = planes.ratios()
    modes = planes.pretrained(*ratios.values()) if len(ratios) > 2 else []
    over = f"r = {', '.join(f'{r:g}' for r in ratios)}"
    rows = [((mode_name(mode), over), [planes.slope(mode, share) for share in planes.shares()]) for mode in modes]
    note = "From r = 0 to r = 1 on the line of least squares, held against no rise."
    return _judged(planes, Table("slope", "Rise of macro F1 with the ratio", ("mode", "ratios"), _columns(planes), rows, note))


def _figures(planes):
    """All figures at the largest share, without verdicts."""
    share = planes.largest()
    places = planes.places(tuple(mode for _, modes in GROUPS.values() for mode in modes))
    rows = [(planes.name(place), [planes.cell(place, share, figure) for figure in FIGURES]) for place in places]
    columns = tuple(METRICS[figure][0] for figure in FIGURES)
    note = f"At {percent(share)} of the labels. What is better than what stands in the tables above."
    return Table("figures", "Planes told apart", ("model", "mode"), columns, rows, note)


def _columns(planes):
    return tuple(map(percent, planes.shares()))


def _judged(planes, table):
    return judged(table, [FIGURE] * len(table.columns)) if table.rows else table
