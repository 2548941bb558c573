"""What the findings of every study of shares say in the same words: a difference with its p, and how small a p so few patients can show."""

from uscl.report.study_folder import percent
from uscl.report.study_tables import NOT_RUN, REPEATS, signed
from uscl.report.tables import plural

ALPHA = 0.05


def sentence(cell):
    """`+0.060 (+0.050 to +0.070, p = 0.004), better`; p after correction."""
    d = cell.difference
    if d.low != d.low:
        return f"{signed(d.mean)} (one patient or repetition gives no interval), {cell.verdict.word}"
    chance = ("p < 0.001" if cell.corrected < 0.001 else f"p = {cell.corrected:.2g}").replace(" ", "\N{NO-BREAK SPACE}")
    return f"{signed(d.mean)} ({signed(d.low)} to {signed(d.high)}, {chance}), {cell.verdict.word}"


def at_shares(cells, shares, asked, *, named=True):
    """`at 5 % +0.060 (..), better; at 10 % not yet run` of a row's cells at the shares that are asked for; named=False: without "at .."."""
    known = {share: sentence(cell) for share, cell in zip(shares, cells, strict=True) if cell.verdict}
    return "; ".join((f"at {percent(share)} " if named else "") + known.get(share, NOT_RUN) for share in asked)


def families(tables, titles):
    """How the p were corrected; empty without a table that has any."""
    found = {key: table.family for key, table in tables.items() if table.family}
    among = ", ".join(f"{count} in {quoted(titles[key])}" for key, count in found.items())
    return f"All p are corrected by Holm for the comparisons of a table: {among}." if found else ""


def tested(cell):
    """`9 patients, each tested in one of 3 parts`, or `24 test patients`."""
    patients, folds = len(set(cell.patient.tolist())), len(set(cell.fold.tolist()))
    return f"{plural(patients, 'patient')}, each tested in one of {folds} parts" if folds > 1 else plural(patients, "test patient")


def bound(cell, tables, titles):
    """Where patients are so few that they, and not the resampling, say how small p can be: how small, and what is lost by it."""
    patients = len(set(cell.patient.tolist()))
    least = 2.0 ** (1 - patients)
    if least <= 2 / (REPEATS + 1):
        return ""
    told = f"{plural(patients, 'patient')} can't show a p below 2^(1 \N{MINUS SIGN} {patients}) = {least:.2g}"
    lost = [titles[key] for key, table in tables.items() if table.family and table.family * least >= ALPHA]
    return (
        f"{told}; corrected for so many, no difference in {' and '.join(map(quoted, lost))} can be told from the noise."
        if lost
        else f"{told}."
    )


def quoted(title):
    return f"\N{LEFT DOUBLE QUOTATION MARK}{title}\N{RIGHT DOUBLE QUOTATION MARK}"
