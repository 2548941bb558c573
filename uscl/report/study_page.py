"""What the pages of all studies share: the findings on top, the tiles, and sections of which each may be missing."""

import re

from markupsafe import Markup

from uscl.report.folder import Missing
from uscl.report.page import fill
from uscl.report.tables import duration, figure, plural

FOOTER = "Drawn by uscl from what the runs wrote; the tables lie in tables/ as csv, Markdown and LaTeX."


def write(study, found, tables, parts):
    """Writes the study's report.html, one self-contained file, and returns its path.

    found: [(question, answer)], the first paragraph. tables: {key: Table}, counted in the tiles. parts: {anchor: (title, make)}, where
    make() returns {"text", "blocks", "notes"?} or raises Missing, which is then told in its place.
    """
    sections = []
    for anchor, (title, make) in parts.items():
        try:
            content = make()
        except Missing as error:
            content = {"missing": str(error)}
        sections.append({"anchor": anchor, "title": title, "text": "", "blocks": [], "notes": [], "missing": "", **content})
    page = fill(
        title=f"{study.plan.get('name', study.path.resolve().name)} study", scale=study.plan.get("scale", ""), headline=headline(found),
        tiles=tiles(study, tables), sections=sections, footer=FOOTER,
    )  # fmt: skip
    path = study.path / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def headline(found):
    """The first paragraph: each claim's question and its answer, in running text that is smaller than a run's one sentence."""
    one = Markup('<span style="display: block; margin: 0 0 .5em"><strong>{}</strong> {}</span>')
    whole = Markup('<span style="display: block; font-size: 17px; line-height: 1.45; letter-spacing: 0; text-wrap: pretty">{}</span>')
    unbroken = ((question, re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", answer)) for question, answer in found)
    return whole.format(Markup("").join(one.format(*pair) for pair in unbroken))


def tiles(study, tables):
    """How far the study has come, what its tables' verdicts are, and the time it took."""
    cells = [cell for table in tables.values() for _, row in table.rows for cell in row]
    done, words = sum(cell.known for cell in cells), [cell.verdict.word for cell in cells if cell.verdict]
    seconds = sum(sum(stages.values()) for stages in study.json("timing.json"))
    runs = sum(bool(folder.results) for folder in study.folders.values())
    asked = len({cell["folder"] for cell in study.plan["runs"]})
    return [
        {"name": "runs evaluated", "value": f"{runs} of {asked}", "note": f"with {plural(len(study.seeds), 'seed')}"},
        {"name": "places filled", "value": f"{done} of {len(cells)}", "note": "in all tables"},
        {"name": "better", "value": figure(words.count("better")), "note": f"of {plural(len(words), 'comparison')}"},
        {"name": "worse", "value": figure(words.count("worse")), "note": f"of {plural(len(words), 'comparison')}"},
        {"name": "inside the noise", "value": figure(words.count("inside the noise")), "note": f"of {plural(len(words), 'comparison')}"},
        {"name": "time", "value": duration(seconds), "note": "of all stages, added up"},
    ]
