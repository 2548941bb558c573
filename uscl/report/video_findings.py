"""What a video study says of the lung paper's claims: one plain answer each, from the tables, with difference, interval and p."""

from uscl.report.study_findings import answer
from uscl.report.study_folder import percent
from uscl.report.study_sentences import at_shares, bound, families, sentence, tested
from uscl.report.study_tables import NOT_RUN, signed
from uscl.report.tables import plural
from uscl.report.video_tables import TITLES
from uscl.study import papers_lung

FEW = 2  # shares of the labels that count as the smallest


def findings(videos, tables):
    """[(question, answer)]; differences, corrected p and verdicts are those of the tables, so the page can't contradict itself."""
    shares = videos.shares()
    few = smallest(shares)
    features, finetuned = (_of_mode(videos, tables, mode) for mode in ("features", "finetuned"))
    found = [
        ("Do frozen features pretrained on clips beat random ones with few labels?", _pretraining(features, shares, few)),
        ("Does fine-tuning beat the fully supervised network?", _pretraining(finetuned, shares, few, more=videos.largest())),
        ("What does pretraining without temporal augmentation cost?", temporal(videos, tables)),
        ("Do the maps of trained networks meet the boxes better than those of random ones?", maps(videos, tables)),
    ]
    return found + [("How sure is this?", told) for told in [limits(videos, tables)] if told]


def smallest(shares):
    """The smallest shares of those at which the paper sees a gain; the smallest of all where the study has none of these."""
    return [share for share in shares if share < papers_lung.FEW_LABELS][:FEW] or shares[:1]


def _of_mode(videos, tables, mode):
    """{what the table calls a model: its judged cells} of one mode in the table of shares."""
    names = [videos.name(place) for place in videos.places(temporal=False) if place[1] == mode and videos.against(place)]
    rows = dict(tables["shares"].rows) if "shares" in tables else {}
    return {name[0]: rows[name] for name in names if name in rows}


def _pretraining(rows, shares, few, *, more=None):
    """Answers from the smallest shares; `more`: one that is told beside them."""
    told, words = [], []
    asked = [*few, *([more] if more is not None and more not in few else [])]
    for name, cells in rows.items():
        words += [cell.verdict.word for share, cell in zip(shares, cells, strict=True) if share in few and cell.verdict]
        told.append(f"{name} {at_shares(cells, shares, asked)}.")
    return f"{answer(words)} AUC, with 95 % intervals: {' '.join(told)}" if words else "Not yet run."


def temporal(videos, tables):
    """What the rows without temporal operations lose; with figures at the largest share, where the paper says what it costs."""
    rows = [(labels, [cell for cell in cells if cell.verdict]) for labels, cells in tables["temporal"].rows] if "temporal" in tables else []
    words = [cell.verdict.word for _, cells in rows for cell in cells]
    if not words:
        return "Not yet run."
    worse, better, among = words.count("worse"), words.count("better"), plural(len(words), "comparison")
    plainly = {
        (True, False): f"It costs AUC in {worse} of {among}.", (False, True): f"Nothing: AUC is higher without in {better} of {among}.",
        (True, True): f"Of {among} AUC is lower without in {worse}, higher in {better}.",
    }.get((worse > 0, better > 0), f"Nothing beyond the noise, in {among}.")  # fmt: skip
    last = videos.shares().index(videos.largest())
    whole = [f"{', '.join(labels)}, {sentence(cells[last])}" for labels, cells in tables["temporal"].rows if cells[last].verdict]
    paper = f"where the paper says {signed(-papers_lung.TEMPORAL_COST, 2)} without an interval"
    return f"{plainly} At {percent(videos.largest())}, {paper}: {'; '.join(whole) or NOT_RUN}."


def maps(videos, tables):
    """Weighted IoU of the trained networks' maps, less that of random features': of the rows of Table 3."""
    rows = dict(tables["saliency"].rows) if "saliency" in tables else {}
    if not any(cells[0].known for cells in rows.values()):
        return "No video has a box." if rows else "Not yet run."
    names = [videos.name(place) for place in videos.places(temporal=False)]
    found = {name: rows[name][0] for name in names if rows[name][0].verdict}
    if not found:
        return "Not yet run."
    told = {}
    for (model, mode), cell in found.items():
        told.setdefault(model, []).append(f"{mode} {sentence(cell)}")
    said = ". ".join(f"{model[:1].upper()}{model[1:]}: {'; '.join(parts)}" for model, parts in told.items())
    return f"{answer([cell.verdict.word for cell in found.values()])} Weighted IoU, with 95 % intervals. {said}."


def limits(videos, tables):
    """How the p were corrected; and where patients are so few that they, and not the resampling, say how small p can be: how small."""
    told = families(tables, TITLES)
    if not told or not videos.cells:
        return ""
    cell = next(iter(videos.cells.values()))
    held = [len(set(cell.patient[cell.label == which].tolist())) for which in (1, 0)]
    told += f" Behind AUC stand {tested(cell)}: {held[0]} with positive videos, {held[1]} with negative ones."
    return f"{told} {bound(cell, {key: tables[key] for key in tables if key != 'saliency'}, TITLES)}".strip()
