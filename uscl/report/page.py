"""The page: which sections there are, in which order, and how a missing part is told."""

from pathlib import Path

import jinja2

from uscl.report import curves, heads, overlays, pairs, plan, planes, saliency, scores, tables, tissue, videos
from uscl.report.figures import Easel, css
from uscl.report.folder import Folder, Missing

FOOTER = "Drawn by uscl from the files of the run's folder; the figures also lie in plots/ as PNG."
# anchor: title, the function (folder, easel) -> {"text", "blocks", "notes"?}. A new section is a new line.
SECTIONS = {
    "data": ("Data", overlays.data),
    "training": ("Training", curves.section),
    "classify": ("Classification", videos.section),
    "planes": ("Planes", planes.section),
    "saliency": ("Occlusion", saliency.section),
    "classes": ("By class", scores.section),
    "cases": ("Best, median, worst", overlays.cases),
    "heads": ("Circumference", heads.section),
    "nakagami": ("Nakagami parameters", tissue.section),
    "pairs": ("Pairs", pairs.weights),
    "plan": ("Plan", plan.section),
    "embedding": ("Embeddings", pairs.embedding),
    "protocol": ("Protocol", tables.protocol),
    "environment": ("Environment", tables.environment),
}
# Sections that only some stages have something to show in; a run without those leaves them out.
IMAGES = ("encoder", "decoder", "finetune", "nnunet", "evaluate")  # stages that work on single images; a run that names none has these
OF_STAGES = {
    "classify": ("classify",), "planes": ("planes",), "saliency": ("saliency",), "classes": IMAGES, "cases": IMAGES, "nakagami": IMAGES,
    "pairs": ("encoder", "decoder", "anatomy"), "plan": ("nnunet",), "embedding": ("finetune",),
    "heads": ("evaluate",),
}  # fmt: skip
ASKED = {"heads": "circumference"}  # sections of what a knob of the block `evaluate` asks for; without it they are left out


def draw(workdir):
    """Draws a run's report from its folder: WORKDIR/report.html, one self-contained file, and WORKDIR/plots/*.png.

    workdir: a run's folder, of which config.json must be there; a section whose file is absent or broken says so and stands
    empty, so a run may be looked at before it ends. Reads nothing outside the folder, imports no model, and may be repeated.
    Returns the page's path. Raises UserError where `workdir` is no run.
    """
    folder = Folder(workdir)
    easel = Easel(folder.path / "plots")
    sections = []
    stages = folder.config.get("stages") or IMAGES
    for anchor, (title, make) in SECTIONS.items():
        if anchor in OF_STAGES and not set(stages) & set(OF_STAGES[anchor]):
            continue
        if anchor in ASKED and not (folder.config.get("evaluate") or {}).get(ASKED[anchor]):
            continue
        try:
            content = make(folder, easel)
        except Missing as error:
            content = {"missing": str(error)}
        sections.append({"anchor": anchor, "title": title, "text": "", "blocks": [], "notes": [], "missing": "", **content})
    results, config = folder.results, folder.config
    page = fill(
        title=results.get("experiment") or config.get("experiment") or folder.path.resolve().name,
        scale=results.get("scale") or config.get("scale") or "",
        headline=scores.headline(results, folder.seconds),
        tiles=scores.tiles(results),
        sections=sections,
        footer=FOOTER,
    )
    path = folder.path / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def fill(**content):
    """The text of a page: its title, scale, headline, tiles, sections and footer put into the template."""
    here = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=here, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["css"] = css
    return environment.get_template("page.html").render(**content)
