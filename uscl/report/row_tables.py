"""Tables of a study that follows no paper's: a row an experiment, a column a share of the labels and measure, all against the first row."""

import numpy as np

from uscl.report.scores import METRICS
from uscl.report.study_findings import answer
from uscl.report.study_folder import percent
from uscl.report.study_sentences import sentence
from uscl.report.study_tables import NOT_RUN, Cell, Table, judged

GROUPS = {  # ending of a table's key: its measures
    "": ("dsc", "hc_error_mm"),
    "_more": ("hc_missed", "hc_table_error_mm", "hd95_mm", "surface_dice"),
}
PLACED = ", "  # in a column's name, between share and measure


def tables(study, scores):
    """{key: Table}: for each table of the plan one with what counts and one with further measures, each a family of comparisons."""
    made = {}
    for key in dict.fromkeys(entry["table"] for entry in study.experiments.values()):
        for ending, group in GROUPS.items():
            measures = [name for name in group if measured(study, scores, key, name)] or ([] if ending else ["dsc"])
            if measures:
                made[key + ending] = _table(study, scores, key, ending, measures)
    return made


def measured(study, scores, key, measure):
    """Whether any run of a table has a number for the measure."""
    found = (scores.of(name, share, measure, scores.classes) for name in rows_of(study, key) for share in study.fractions(key))
    return any(values is not None and not np.isnan(values.values).all() for values in found)


def rows_of(study, key):
    """The experiments of a table of the plan; the first is what the others are held against."""
    return [name for name, entry in study.experiments.items() if entry["table"] == key]


def titled(key):
    """`titled("heads_more")` is "Heads, further measures"."""
    ending = next(ending for ending in reversed(GROUPS) if key.endswith(ending))
    return key.removesuffix(ending).replace("_", " ").capitalize() + (", further measures" if ending else "")


def _table(study, scores, key, ending, measures):
    names, places = rows_of(study, key), [(share, measure) for share in study.fractions(key) for measure in measures]
    rows = []
    for name in names:
        against = names[0] if name != names[0] else None
        cells = [_cell(scores, name, against, *place) for place in places]
        rows.append(((study.label(name),), cells))
    columns = tuple(f"{percent(share)}{PLACED}{METRICS[measure][0]}" for share, measure in places)
    note = f"The baseline is {study.label(names[0])}." if len(names) > 1 else ""
    table = Table(key + ending, f"{titled(key + ending)}, by share of the labels", ("model",), columns, rows, note)
    return judged(table, [measure for _, measure in places])


def _cell(scores, name, against, share, measure):
    return scores.cell(name, share, measure, scores.classes, against=(against, share) if against else None) if scores.classes else Cell()


def findings(study, tables):
    """[(question, answer)]: each row of the tables with what counts against the first; differences and verdicts are the tables' own."""
    found = []
    for key, table in tables.items():
        if not key.endswith(tuple(filter(None, GROUPS))):
            (first,), _ = table.rows[0]
            found += [(f"Is {label} better than {first}?", _answered(table, cells)) for (label,), cells in table.rows[1:]]
    return found or [("What was run?", "One row alone, which nothing is held against.")]


def _answered(table, cells):
    said = [(column, cell) for column, cell in zip(table.columns, cells, strict=True) if cell.verdict]
    if not said:
        return f"{NOT_RUN.capitalize()}."
    by_share = {}
    for column, cell in said:
        share, measure = column.split(PLACED, 1)
        by_share.setdefault(share, []).append(f"{measure} {sentence(cell)}")
    parts = "; ".join(f"at {share} of labels {', '.join(cells)}" for share, cells in by_share.items())
    return f"{answer([cell.verdict.word for _, cell in said])} With 95 % intervals: {parts}."
