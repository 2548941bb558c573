"""A video study's folder as one page: `draw(folder)` writes report.html and tables/ from what its runs left, however many have ended."""

from uscl.report import (
    study_files,
    study_page,
    study_parts,
    study_protocol,
    study_tables,
    video_findings,
    video_protocol,
    video_shares,
    video_tables,
)
from uscl.report.figures import Easel
from uscl.report.folder import Missing
from uscl.report.saliency import MEASURES
from uscl.report.scores import METRICS
from uscl.report.study_folder import Study
from uscl.report.tables import plural
from uscl.report.video_cells import Videos
from uscl.study import papers_lung
from uscl.study import videos as scores


def draw(folder):
    """Draws the report of a study of videos from its folder: report.html, one self-contained file, and tables/*.{csv,md,tex}.

    folder: a study's folder, of which study.json must be there. Runs that have not ended are told as "not yet run", so the page may be
    drawn while the study goes on, and again. Imports no model, reads nothing outside the folder. Returns the page's path. Raises UserError
    where `folder` is no study, or a run's file is not what its columns say.
    """
    study = Study(folder)
    videos, mapped = Videos(study, scores.read(study.path)), scores.saliency(study.path)
    easel = Easel(None)
    tables = video_tables.tables(videos, mapped)
    for table in tables.values():
        study_files.write(table, study.path / "tables")
    # anchor: title, a function without arguments -> {"text", "blocks", "notes"?}
    parts = {
        "modes": (video_tables.TITLES["modes"], lambda: _modes(tables)),
        "shares": (video_tables.TITLES["shares"], lambda: _shares(videos, tables)),
        "curves": ("Few labels, drawn", lambda: video_shares.section(videos, tables, easel)),
        "temporal": (video_tables.TITLES["temporal"], lambda: _temporal(videos, tables)),
        "saliency": (video_tables.TITLES["saliency"], lambda: _saliency(tables, mapped)),
        "data": ("Data", lambda: video_protocol.data(videos)),
        "protocol": ("Protocol", lambda: video_protocol.section(videos, scores.missing(study.path))),
        "spent": ("Time and energy", lambda: study_protocol.spent(study, easel)),
        "versions": ("Versions", lambda: study_protocol.versions(study, easel)),
    }
    return study_page.write(study, video_findings.findings(videos, tables), tables, parts)


def _modes(tables):
    if "modes" not in tables:
        raise Missing("the plan has no experiment outside the table temporal")
    notes = [f"The paper's figures, all its labels: {papers_lung.CLASSIFIED.source}.", *papers_lung.CLASSIFIED.notes]
    notes += [f"{METRICS[key][0]}: {METRICS[key][3]}." for key in ("sensitivity", "specificity", "auc")]
    return study_parts.section(tables["modes"], notes)


def _shares(videos, tables):
    if "shares" not in tables:
        raise Missing("the plan has no experiment outside the table temporal")
    return study_parts.section(tables["shares"], heads=study_parts.heads(videos))


def _temporal(videos, tables):
    if "temporal" not in tables:
        raise Missing("the plan has no experiment in the table temporal")
    return study_parts.section(tables["temporal"], heads=study_parts.heads(videos))


def _saliency(tables, mapped):
    if "saliency" not in tables:
        raise Missing("no run has written saliency/videos.csv")
    if not any(cell.known for _, cells in tables["saliency"].rows for cell in cells):
        raise Missing("no video has a box, so nothing says how well the maps meet the disease")
    most = max(len(cine) for _, _, cine in mapped.values())
    notes = [f"Of {plural(most, 'positive test video')} at the largest share of labels, each seed's first draw; frames with boxes."]
    made = study_parts.section(tables["saliency"], notes + [f"{name}: {what}." for name, what in MEASURES.values() if what])
    rows = [
        [study_parts.named(labels), *(_less(cell.difference) for cell in cells)]
        for labels, cells in tables["saliency"].rows if any(cell.difference for cell in cells)
    ]  # fmt: skip
    if rows:
        made["blocks"].append({"kind": "heading", "text": "Less the random features' maps", "note": "not corrected for the many measures"})
        made["blocks"].append(
            {"kind": "table", "table": {"head": [study_parts.HEAD, *tables["saliency"].columns], "rows": rows}, "strong": False}
        )
    return made


def _less(d):
    ends = f"{study_tables.signed(d.low)} to {study_tables.signed(d.high)}" if d and d.low == d.low else ""
    return {"value": study_tables.signed(d.mean), "note": ends} if d else "–"
