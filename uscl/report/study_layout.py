"""Which table shows what: rows, columns and baselines from the study's plan, beside them what the papers print."""

from uscl.report.study_folder import percent
from uscl.report.study_tables import Cell, Table, judged
from uscl.report.tables import plural
from uscl.study import papers

INNER = ("cortex", "medulla", "central_echo_complex")  # over which the papers take the mean of delta-SNR
TISSUES = {"cortex": "cortex", "medulla": "medulla", "central_echo_complex": "cec"}
TITLES = {
    "labels": "Label efficiency", "temporal": "Temporal similarity", "speckle": "Speckle loss", "beyond": "Beyond the papers",
}  # fmt: skip
PLAIN = {"nnunet": "nnunet", "speckle": "baseline", "temporal": "baseline", "scratch": "baseline", "baseline": "nnunet"}


def tables(study, scores):
    """{key: Table} of every table of the plan, judged; a table that is none of the papers' has a row an experiment, a column a share."""
    return {key: judged(*_table(study, scores, key)) for key in dict.fromkeys(entry["table"] for entry in study.experiments.values())}


def reference(study, name):
    """The experiment that this one is held against, or None for a baseline: the same table's first, where it has the same plain config."""
    entry = study.experiments[name]
    if plain(entry) and (entry["table"] != "labels" or entry["config"] == "nnunet"):
        return None
    kind = "nnunet" if entry["config"] == "nnunet" else PLAIN.get(entry["config"])
    mine = [n for n, e in study.experiments.items() if plain(e) and e["config"] == kind and n != name]
    near = [n for n in mine if study.experiments[n]["table"] == entry["table"]]
    return next(iter(near), None) or next(iter(mine), None)


def plain(entry):
    """Whether the experiment is a baseline: nnU-Net or the contrastive model as their files have them."""
    return entry["config"] in ("nnunet", "baseline") and not entry.get("changes")


def every(scores, measure):
    """The classes that stand behind "all": for delta-SNR the papers leave the capsule out."""
    inner = [name for name in scores.classes if name in INNER]
    return inner if measure in ("delta_snr", "signed_snr") and inner else scores.classes


def _table(study, scores, key):
    names = [name for name, entry in study.experiments.items() if entry["table"] == key]
    shares = study.fractions(key)
    if key == "speckle":
        return _speckle(study, scores, names, shares)
    rows = []
    for name in names:
        cells = [_cell(study, scores, name, share, "dsc", every(scores, "dsc"), _printed(study, name, share)) for share in shares]
        rows.append((_labels(study, name, key), cells))
    first = ("loss", "variation", "stage") if key == "temporal" else ("model",)
    columns = tuple(percent(share) for share in shares)
    table = Table(key, f"{TITLES.get(key, key)}: mean DSC by share of the labels", first, columns, rows, _note(study, names, shares, key))
    return table, ["dsc"] * len(columns)


def _speckle(study, scores, names, shares):
    columns = {"cortex": "cortex", "medulla": "medulla", "central_echo_complex": "CEC", "all": "all classes"}
    columns = {name: said for name, said in columns.items() if name == "all" or name in scores.classes or not scores.classes}
    places = [(measure, name) for name in columns for measure in ("dsc", "delta_snr")]
    rows = []
    for model in dict.fromkeys(study.experiments[name]["config"] == "nnunet" for name in names):
        for share in shares:
            for name in names:
                if (study.experiments[name]["config"] == "nnunet") is model:
                    cells = [
                        _cell(study, scores, name, share, measure, every(scores, measure) if label == "all" else [label],
                              _speckle_printed(study, name, share, measure, label)) for measure, label in places
                    ]  # fmt: skip
                    rows.append(((study.label(name), percent(share)), cells))
    told = tuple(f"{columns[label]}, {'DSC' if measure == 'dsc' else 'ΔSNR'}" for measure, label in places)
    note = "ΔSNR is a disagreement with the truth: smaller is better. Its mean is over the three tissues, that of DSC over all classes."
    note += " A speckle row's baseline is the same model without that loss."
    return Table("speckle", "Speckle loss: DSC and ΔSNR by class", ("model", "labels"), told, rows, note, digits=2), [m for m, _ in places]


def _cell(study, scores, name, share, measure, classes, paper):
    against = reference(study, name)
    if not classes:
        return Cell(paper=paper)
    return scores.cell(name, share, measure, classes, against=(against, share) if against else None, paper=paper)


def _labels(study, name, key):
    if key != "temporal":
        return (study.label(name),)
    parts = [part.strip() for part in study.label(name).split(",")]
    return parts[0], ", ".join(parts[1:-1]) or "–", parts[-1] if len(parts) > 2 else "–"


def _printed(study, name, share):
    """What the papers print of this experiment at this share, or None."""
    entry = study.experiments[name]
    if entry["table"] == "labels" and plain(entry):
        printed, key = papers.LABEL_CURVE, "nnunet" if entry["config"] == "nnunet" else "contrastive"
    elif entry["table"] == "temporal":
        rule = lambda key, otherwise: entry["changes"].get(f"temporal.{key}", otherwise)  # noqa: E731
        stages = list(rule("stages", ()))
        stage = "both" if len(stages) == 2 else next(iter(stages), "none")
        printed, key = papers.TEMPORAL, (rule("loss", "info_nce"), rule("kind", "none"), rule("negatives", "") == "all", stage)
    else:
        return None
    return dict(zip(printed.columns, printed.rows.get(key, ()), strict=False)).get(share)


def _speckle_printed(study, name, share, measure, label):
    entry = study.experiments[name]
    with_loss = entry["config"] == "speckle" or bool(entry["changes"].get("nnunet.loss.speckle"))
    row = papers.SPECKLE.rows.get(("nnunet" if entry["config"] == "nnunet" else "contrastive", with_loss, share))
    place = "all" if label == "all" else TISSUES.get(label)
    return getattr(row[papers.SPECKLE.columns.index(place)], measure) if row and place else None


def _note(study, names, shares, key):
    held = {}
    for name in names:
        against = reference(study, name)
        if against:
            held.setdefault(study.label(against), []).append(study.label(name))
    told = {against: " and ".join(rows) if len(rows) < 3 else plural(len(rows), "row") for against, rows in held.items()}
    note = "; ".join(f"{rows} against {against}" for against, rows in told.items())
    printed = {"labels": papers.LABEL_CURVE, "temporal": papers.TEMPORAL}.get(key)
    left = [percent(share) for share in printed.columns if share not in shares] if printed else []
    return (f"Held against: {note}." if note else "") + (f" The papers also print {', '.join(left)}." if left else "")


def remarks(key):
    """What a reader of the papers' own figures should know, from `uscl.study.papers`."""
    printed = {"labels": papers.LABEL_CURVE, "temporal": papers.TEMPORAL, "speckle": papers.SPECKLE}.get(key)
    return [f"The papers' figures: {printed.source}.", *printed.notes] if printed else []
