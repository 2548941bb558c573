"""An anatomy study's folder as one page: `draw(folder)` writes report.html and tables/ from what its runs left, however many have ended."""

from markupsafe import Markup

from uscl.report import (
    plane_confusions,
    plane_curves,
    plane_findings,
    plane_protocol,
    plane_tables,
    study_files,
    study_page,
    study_parts,
    study_protocol,
    study_tables,
)
from uscl.report.figures import Easel
from uscl.report.folder import Missing
from uscl.report.plane_cells import Planes
from uscl.report.plane_tables import GROUPS, TITLES
from uscl.report.scores import METRICS
from uscl.report.study_folder import Study
from uscl.report.tables import plural
from uscl.study import stills

LACKING = {
    "neighbours": "no row of the plan lets neighbours vote", "granularity": "the plan lacks the rows coarse and fine",
    "ratio": "the plan has fewer than three ratios",
}  # fmt: skip
RISES = {"better": ("rises", "--blue"), "worse": ("falls", "--vermillion"), "inside the noise": ("noise", "--muted")}


def draw(folder):
    """Draws the report of a study of stills from its folder: report.html, one self-contained file, and tables/*.{csv,md,tex}.

    folder: a study's folder, of which study.json must be there. Runs that have not ended are told as "not yet run", so the page may be
    drawn while the study goes on, and again. Imports no model, reads nothing outside the folder. Returns the page's path. Raises UserError
    where `folder` is no study, or a run's file is not what its columns say.
    """
    study = Study(folder)
    planes = Planes(study, stills.read(study.path))
    easel = Easel(None)
    tables = plane_tables.tables(planes)
    for table in tables.values():
        study_files.write(table, study.path / "tables")
    # anchor: title, a function without arguments -> {"text", "blocks", "notes"?}
    parts = {
        **{key: (TITLES[key], lambda key=key: _shares(planes, tables, key)) for key in GROUPS},
        "curves": ("Few labels, drawn", lambda: plane_curves.shares(planes, tables, easel)),
        "granularity": (TITLES["granularity"], lambda: study_parts.section(_of(tables, "granularity"), heads=study_parts.heads(planes))),
        "ratio": (TITLES["ratio"], lambda: _ratio(planes, tables, easel)),
        "confusions": ("What is taken for what", lambda: plane_confusions.section(planes, easel)),
        "figures": (TITLES["figures"], lambda: _figures(tables)),
        "paper": ("What the paper found", lambda: plane_protocol.paper()),
        "data": ("Data", lambda: plane_protocol.data(planes)),
        "protocol": ("Protocol", lambda: plane_protocol.section(planes, stills.missing(study.path))),
        "spent": ("Time and energy", lambda: study_protocol.spent(study, easel)),
        "versions": ("Versions", lambda: study_protocol.versions(study, easel)),
    }
    return study_page.write(study, plane_findings.findings(planes, tables), tables, parts)


def _of(tables, key):
    if key not in tables:
        raise Missing(LACKING.get(key, "the plan has no such row"))
    return tables[key]


def _shares(planes, tables, key):
    return study_parts.section(_of(tables, key), heads=study_parts.heads(planes))


def _figures(tables):
    notes = [f"{METRICS[key][0]}: {METRICS[key][3]}." for key in plane_tables.FIGURES]
    return study_parts.section(_of(tables, "figures"), notes)


def _ratio(planes, tables, easel):
    """The figure and its table, and below it the slope with its verdicts."""
    table, slope = _of(tables, "ratio"), _of(tables, "slope")
    made = study_parts.section(table, head={"value": "ratio", "note": "model"})
    try:
        made["blocks"].insert(0, plane_curves.ratio(planes, table, easel))
    except Missing as error:
        made["blocks"].insert(0, {"kind": "missing", "text": str(error)})
    heads = [{"value": name, "note": note} for name, note in zip(slope.columns, study_parts.heads(planes), strict=True)]
    rows = [[study_parts.named(labels), *map(_rise, cells)] for labels, cells in slope.rows]
    made["blocks"] += [
        {"kind": "heading", "text": "Rise with the ratio", "note": "of macro F1, from r = 0 to r = 1 on the line of least squares"},
        {"kind": "table", "table": {"head": [{"value": "mode", "note": "ratios"}, *heads], "rows": rows}, "strong": False},
    ]
    among = f", corrected for the table's {plural(slope.family, 'comparison')}," if slope.family > 1 else ""
    known = f"With 95 % intervals over patients and repetitions. It rises or falls where 0 lies outside and p{among} is below 0.05."
    made["notes"] = [known, study_parts.files(table, slope)]
    return made


def _rise(cell):
    """The rise, which is its own difference, once."""
    shown = study_tables.page(study_tables.Table("", "", (), ("",), [((), [cell])]))["rows"][0][0]
    if not cell.verdict:
        return shown
    word, colour = RISES[cell.verdict.word]
    ends = f"{study_tables.signed(cell.low)} to {study_tables.signed(cell.high)}" if cell.low == cell.low else "no interval"
    mark = Markup('{}<br><span style="color: var({})" title="{}">{} {}</span>')
    note = mark.format(ends, colour, cell.verdict.sentence, study_tables.MARKS[cell.verdict.word], word)
    return {"value": study_tables.signed(cell.mean), "note": note}
