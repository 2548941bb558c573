"""Parts of the page that studies of shares have in common: tables, labels by share, settings that are not the papers', runs to come."""

from markupsafe import Markup

from uscl.report import study_protocol, study_tables
from uscl.report.folder import Missing
from uscl.report.study_folder import percent
from uscl.report.tables import figure, plural, spoken

HEAD = {"value": "model", "note": "mode"}
NARROW = Markup('<span style="display: block; min-width: 6em; max-width: 14em; white-space: normal">{}</span>')
TOLD = 6  # runs that have not ended are named, so many


def block(table, heads=(), head=HEAD):
    """A table with its first two labels in one cell, so that a narrow window still shows whose figures stand there.

    heads: what stands below the name of each column. head: of the first one.
    """
    shown = study_tables.page(table)
    more = shown["head"][2 : len(table.labels)]
    under = [{"value": name, "note": note} for name, note in zip(table.columns, heads, strict=True)] if heads else list(table.columns)
    rows = [[named(labels), *row[2:]] for (labels, _), row in zip(table.rows, shown["rows"], strict=True)]
    return {"kind": "table", "table": {"head": [head, *more, *under], "rows": rows}, "strong": False}


def section(table, notes=(), heads=(), head=HEAD):
    """A table and what its figures mean, as a section of its own."""
    text = study_tables.legend(table) if table.family else f"Mean with its 95 % interval, over patients and repetitions. {table.note}"
    return {"text": text, "blocks": [block(table, heads, head)], "notes": [*notes, files(table)]}


def files(*tables):
    """Where the same figures lie."""
    return f"Also as {', '.join(f'tables/{table.key}.{ending}' for table in tables for ending in ('csv', 'md', 'tex'))}."


def named(labels):
    return {"value": labels[0], "note": labels[1]}


def heads(cells):
    """What stands below the shares: how many labels each is."""
    found = {share: cells.labels(share) for share in cells.shares()}
    return [plural(labels, cells.noun) if labels is not None else "" for labels in found.values()]


def labelled(cells):
    """Blocks: the labels at each share."""
    shares = {percent(share): figure(cells.labels(share)) for share in cells.shares() if cells.labels(share) is not None}
    note = "that a classifier learns from; mean over parts and repetitions"
    rows = [[f"{cells.noun}s", *shares.values()]]
    return [
        {"kind": "heading", "text": f"Labelled {cells.noun}s", "note": note},
        {"kind": "table", "table": {"head": ["share", *shares], "rows": rows}, "strong": False},
    ]


def deviations(study, settings, why, left=()):
    """[(knob, the paper's value, ours, why)] of the knobs that begin with one of `settings`, but for those that an experiment sets itself
    and those that begin with one of `left`. why: [(beginning, reason)], the first that fits."""
    switched = {key for entry in study.experiments.values() for key in entry.get("changes") or {}}
    rows = [row for row in study_protocol.deviations(study) if row[0].startswith(settings)]
    rows = [row for row in rows if row[0] not in switched and not row[0].startswith(tuple(left))]
    reason = lambda key: next((told for begin, told in why if key.startswith(begin)), "chosen here")  # noqa: E731
    return [(key, theirs, mine, reason(key)) for key, theirs, mine, _ in rows]


def settings(changed):
    """Blocks: the settings of `deviations`."""
    blocks = [{"kind": "heading", "text": "Settings that are not those of the scale paper", "note": plural(len(changed), "setting")}]
    if changed:
        told = [[key, NARROW.format(spoken(theirs)), f"{spoken(mine)}: {why}"] for key, theirs, mine, why in changed]
        head = ["setting", "scale paper", "here and why"]
        blocks.append({"kind": "table", "table": {"head": head, "rows": told}, "strong": False, "prose": True})
    return blocks


def protocol(study, name, papers, ours, changed, missing):
    """Blocks: what no knob tells, settings that are not the papers', and the runs that have not ended.

    name: of the column of `papers`, {what: theirs}. ours(): as many texts. changed: of `deviations`. Raises Missing before a run has begun.
    """
    if not study.runs:
        raise Missing("no run has begun")
    rows = [[what, study_protocol.WORDS.format(theirs), mine] for (what, theirs), mine in zip(papers.items(), ours(), strict=True)]
    table = {"head": ["what", name, "here and why"], "rows": rows}
    return [{"kind": "table", "table": table, "strong": False, "prose": True}, *settings(changed), *unended(study, missing)]


def unended(study, missing):
    """Blocks: the runs that have not ended, the first of them by name."""
    if not missing:
        return []
    lines = [[line.replace(f"{study.path}/", "")] for line in missing[:TOLD]]
    rest = [[f"and {len(missing) - TOLD} more"]] if len(missing) > TOLD else []
    return [
        {"kind": "heading", "text": "Not yet run", "note": plural(len(missing), "run")},
        {"kind": "table", "table": {"head": ["run"], "rows": lines + rest}, "strong": False},
    ]
