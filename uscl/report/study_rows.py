"""The page of a study of segmentations that follows no paper's tables: its own rows, each held against the first of its table."""

from uscl.report import (
    row_tables,
    study_cases,
    study_curves,
    study_embeddings,
    study_files,
    study_measures,
    study_page,
    study_parts,
    study_protocol,
    study_tables,
)
from uscl.report.figures import Easel
from uscl.report.folder import Missing
from uscl.report.scores import METRICS
from uscl.report.tables import figure, plural, spoken
from uscl.study import results

SETTINGS = ("anatomy.", "finetune.", "data.size", "data.test", "model.normalise", "model.bn_momentum", "model.dtype")
WHY = (
    ("data.size", "smaller frames, for time"), ("data.test", "more patients to test on, for narrower intervals"),
    ("anatomy.width", "a smaller network, for time"), ("anatomy.views.", "views chosen for so few steps"),
    ("anatomy.steps", "fewer steps, for time"), ("finetune.steps", "fewer steps, for time"), ("finetune.batch", "for time"),
    ("finetune.augment.right_angles", "no ultrasound image survives such turns"),
    ("model.bn_momentum", "a slower running mean is too slow for so few steps"),
    ("anatomy.frames", "so that stills without a plane are drawn as well"), ("anatomy.", "chosen for so few steps"),
    ("finetune.", "chosen for so few steps"),
)  # fmt: skip


def draw(study):
    """Writes report.html and tables/ into the study's folder, however many of its runs have ended; returns the page's path."""
    scores, easel = study_tables.Scores(results.read(study.path)), Easel(None)
    tables = row_tables.tables(study, scores)
    for table in tables.values():
        study_files.write(table, study.path / "tables")
    first = next(entry["table"] for entry in study.experiments.values())
    models = study.side_by_side(row_tables.rows_of(study, first)[: study_cases.MODELS])
    # anchor: title, a function without arguments -> {"text", "blocks", "notes"?}
    parts = {
        **{f"table-{key}": (row_tables.titled(key), lambda table=table: _table(table)) for key, table in tables.items()},
        "curves": ("Few labels, drawn", lambda: _curves(study, scores, first, easel)),
        "classes": ("By class", lambda: study_curves.classes(study, scores, easel, models)),
        "cases": ("Best, median, worst", lambda: study_cases.cases(study, easel, models)),
        "borders": ("Border sensitivity", lambda: study_measures.borders(study, easel, models)),
        "calibration": ("Calibration", lambda: study_measures.calibration(study, easel, models)),
        "embedding": ("Embeddings", lambda: study_embeddings.section(study, easel, models)),
        "protocol": ("Protocol", lambda: _protocol(study)),
        "spent": ("Time and energy", lambda: study_protocol.spent(study, easel)),
        "versions": ("Versions", lambda: study_protocol.versions(study, easel)),
    }
    return study_page.write(study, row_tables.findings(study, tables), tables, parts)


def _table(table):
    """The table with share under measure in its head, and what its measures mean."""
    shown = study_tables.page(table)
    places = [column.split(row_tables.PLACED, 1) for column in table.columns]
    shown["head"] = [shown["head"][0], *({"value": measure, "note": f"{share} of labels"} for share, measure in places)]
    named = {name: f"{name}: {what}." for name, _, _, what in METRICS.values()}
    notes = [named[name] for name in dict.fromkeys(measure for _, measure in places) if name in named]
    block = {"kind": "table", "table": shown, "strong": False}
    return {"text": study_tables.legend(table), "blocks": [block], "notes": [*notes, study_parts.files(table)]}


def _curves(study, scores, key, easel):
    curves = {}
    for name in row_tables.rows_of(study, key) if scores.classes else ():
        cells = {share: scores.cell(name, share, "dsc", scores.classes) for share in study.fractions(key)}
        curves[study.label(name)] = {share: (cell.mean, cell.low, cell.high) for share, cell in cells.items() if cell.known}
    text = "Mean DSC over classes and images. Bands and whiskers are 95 % intervals over patients, and over seeds where there are several."
    return {"text": text, "blocks": study_curves.efficiency(curves, {}, easel)}


def _protocol(study):
    """The data, who was tested, what differs from the scale paper, and what has not ended."""
    if not study.runs:
        raise Missing("no run has begun")
    data, seeds = next(iter(study.json("data.json")), {}), sorted({run.seed for run in study.runs})
    facts = {"data": str(data.get("origin", "not noted"))}
    for part, count in data.get("splits", {}).items():
        frames = f"{plural(count.get('frames', 0), 'frame')}, of which {figure(count.get('labelled', 0))} labelled"
        facts[part] = f"{plural(count.get('patients', 0), 'patient')}, {frames}"
    facts |= {
        "runs of each row": f"{plural(len(seeds), 'seed')} ({spoken(seeds)}): pretraining, first weights, and which frames are labelled",
        "hardware": "; ".join(sorted({study_protocol.machine(entry) for entry in study.json("environment.json")})) or "not noted",
    }
    blocks = [
        {"kind": "facts", "facts": facts},
        *study_parts.settings(study_parts.deviations(study, SETTINGS, WHY)),
        *study_parts.unended(study, results.missing(study.path)),
    ]
    return {"text": "A patient lies in one part of the data, and test patients are seen by no network before.", "blocks": blocks}
