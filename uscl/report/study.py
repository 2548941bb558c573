"""A study's folder as one page: `draw(folder)` writes report.html and tables/ from the results that lie there, however many."""

from uscl.report import (
    study_activations,
    study_areas,
    study_cases,
    study_curves,
    study_embeddings,
    study_files,
    study_findings,
    study_layout,
    study_maps,
    study_measures,
    study_page,
    study_planes,
    study_protocol,
    study_rows,
    study_tables,
    study_videos,
)
from uscl.report.figures import Easel
from uscl.report.folder import Missing
from uscl.report.study_folder import Study
from uscl.study import papers, results

MODELS = ("baseline", "scratch", "nnunet", "speckle", "temporal")  # configs of which one experiment each is looked at closely
OTHERS = {"videos": study_videos.draw, "planes": study_planes.draw}  # kinds of study whose pages are their own


def draw(folder):
    """Draws a study's report from its folder: report.html, one self-contained file, and tables/*.{csv,md,tex}.

    folder: a study's folder, of which study.json must be there. Runs that have not been evaluated are told as "not yet run", so the
    page may be drawn while the study goes on, and again. Imports no model, reads nothing outside the folder. Returns the page's path.
    Raises UserError where `folder` is no study.
    """
    study = Study(folder)
    if study.plan.get("scores") in OTHERS:
        return OTHERS[study.plan["scores"]](folder)
    if not set(study.plan["tables"]) & set(study_layout.TITLES):
        return study_rows.draw(study)
    scores = study_tables.Scores(results.read(study.path))
    easel = Easel(None)  # no second form of the figures: drawing them twice is most of the time
    tables = study_layout.tables(study, scores)
    for table in tables.values():
        study_files.write(table, study.path / "tables")
    found = study_findings.findings(study, scores)
    models = shown(study)
    # anchor: title, a function without arguments -> {"text", "blocks", "notes"?}
    parts = {
        **{f"table-{key}": (study_layout.TITLES.get(key, key), lambda table=table: _table(table)) for key, table in tables.items()},
        "curves": ("Label efficiency, drawn", lambda: _curves(study, scores, tables, easel)),
        "classes": ("By class", lambda: study_curves.classes(study, scores, easel, models)),
        "borders": ("Border sensitivity", lambda: study_measures.borders(study, easel, models)),
        "calibration": ("Calibration", lambda: study_measures.calibration(study, easel, models)),
        "cases": ("Best, median, worst", lambda: study_cases.cases(study, easel, models)),
        "nakagami": ("Nakagami parameters", lambda: study_cases.speckle(study, easel, models)),
        "maps": ("Nakagami maps", lambda: study_maps.section(study, easel, models)),
        "activations": ("Final activations", lambda: study_activations.section(study, easel, models)),
        "embedding": ("Embeddings", lambda: study_embeddings.section(study, easel, models)),
        "protocol": ("Protocol", lambda: study_protocol.section(study, easel)),
        "spent": ("Time and energy", lambda: study_protocol.spent(study, easel)),
        "versions": ("Versions", lambda: study_protocol.versions(study, easel)),
    }
    return study_page.write(study, found, tables, parts)


def shown(study):
    """{label: run}: a few models, evaluated at one share of labels and one seed, so that their pictures can stand side by side."""
    first = []
    for config in MODELS:
        names = [name for name, entry in study.experiments.items() if entry["config"] == config and study.chosen(name)]
        names.sort(key=lambda name: (bool(study.experiments[name].get("changes")), list(study.experiments).index(name)))
        first += names[:1]
    return study.side_by_side(first)


def _table(table):
    links = ", ".join(f"tables/{table.key}.{ending}" for ending in ("csv", "md", "tex"))
    return {
        "text": study_tables.legend(table),
        "blocks": [{"kind": "table", "table": study_tables.page(table), "strong": False}],
        "notes": [*study_layout.remarks(table.key), f"Also as {links}."],
    }


def _curves(study, scores, tables, easel):
    curves = {}
    for key in ("labels", "beyond"):
        for name, cells in tables[key].rows if key in tables else ():
            points = {share: (c.mean, c.low, c.high) for share, c in zip(study.fractions(key), cells, strict=True) if c.known}
            curves[name[0]] = points
    printed = {}
    for name, entry in study.experiments.items():
        if entry["table"] == "labels" and study_layout.plain(entry):
            row = papers.LABEL_CURVE.rows["nnunet" if entry["config"] == "nnunet" else "contrastive"]
            printed[study.label(name)] = dict(zip(papers.LABEL_CURVE.columns, row, strict=True))
    text = "Mean DSC over classes and images. Bands and whiskers are 95 % intervals over patients, and over seeds where there are several."
    blocks = study_curves.efficiency(curves, printed, easel)
    try:
        blocks.append({"kind": "table", "table": study_areas.areas(study, scores), "strong": False})
    except Missing as error:
        blocks.append({"kind": "missing", "text": str(error)})
    return {"text": f"{text} {study_areas.SAID}", "blocks": blocks}
