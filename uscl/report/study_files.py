"""A study's tables as files: csv with every number in full, Markdown to paste, LaTeX to print."""

import csv
import io
from pathlib import Path

from uscl.report.study_tables import MARKS, legend
from uscl.report.tables import figure


def write(table, folder):
    """folder/KEY.csv (every number in full), KEY.md and KEY.tex (booktabs, as the papers print it)."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for ending, text in (("csv", as_csv(table)), ("md", as_markdown(table)), ("tex", as_latex(table))):
        (folder / f"{table.key}.{ending}").write_text(text, encoding="utf-8")


def as_csv(table):
    """One line a cell: the row's labels, the column, mean, ends, seeds, difference to the baseline, p, verdict, the papers' number."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = "mean low high seeds difference difference_low difference_high p p_corrected verdict paper".split()
    writer.writerow([*(label.lower() for label in table.labels), "column", *names])
    for labels, cells in table.rows:
        for column, cell in zip(table.columns, cells, strict=True):
            d = cell.difference or (None,) * 4
            numbers = [cell.mean, cell.low, cell.high, cell.seeds if cell.known else None, *d, cell.corrected]
            word = cell.verdict.word if cell.verdict else ("" if cell.known else cell.lacking)
            told = ["" if v is None or v != v else v for v in numbers]
            writer.writerow([*labels, column, *told, word, "" if cell.paper is None else cell.paper])
    return text.getvalue()


def as_markdown(table):
    """A pipe table; a cell is `mean (low to high) mark, paper: number`."""
    line = lambda cells: "| " + " | ".join(str(c).replace("|", "\\|") for c in cells) + " |"  # noqa: E731
    rows = [line([*labels, *(_plain(cell, table.digits) for cell in cells)]) for labels, cells in table.rows]
    head = [line([*table.labels, *table.columns]), line(["---"] * len(table.labels) + ["---:"] * len(table.columns))]
    return "\n".join([f"**{table.title}**", "", *head, *rows, "", legend(table)]) + "\n"


def _plain(cell, digits):
    theirs = "" if cell.paper is None else f"paper {cell.paper:.{digits}f}"
    if not cell.known:
        return f"{cell.lacking}; {theirs}" if theirs else cell.lacking
    told = figure(cell.mean) + (f" ({figure(cell.low)} to {figure(cell.high)})" if cell.low == cell.low else "")
    told += f" {MARKS[cell.verdict.word]}" if cell.verdict else ""
    return f"{told}; {theirs}" if theirs else told


LATEX = {"better": r"$\blacktriangle$", "worse": r"$\blacktriangledown$", "inside the noise": r"$\approx$"}


def as_latex(table):
    """A tabular for booktabs and amssymb, each cell a \\shortstack of mean and mark, interval, and the papers' number in italics."""
    line = lambda labels, cells: " & ".join([*map(_safe, labels), *cells]) + r" \\"  # noqa: E731
    rows = [line(labels, [_tex(cell, table.digits) for cell in cells]) for labels, cells in table.rows]
    form = "l" * len(table.labels) + "c" * len(table.columns)
    head = line((*table.labels, *table.columns), ())
    lines = [f"% {table.title}", "% needs booktabs, amssymb", rf"\begin{{tabular}}{{{form}}}", r"\toprule", head, r"\midrule", *rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", "% " + legend(table)]) + "\n"


def _tex(cell, digits):
    theirs = [] if cell.paper is None else [rf"\scriptsize\itshape {cell.paper:.{digits}f}"]
    if not cell.known:
        return _stack(["--", *theirs])
    mark = f" {LATEX[cell.verdict.word]}" if cell.verdict else ""
    ends = [rf"\scriptsize {cell.low:.3f} to {cell.high:.3f}"] if cell.low == cell.low else []
    return _stack([f"{cell.mean:.3f}{mark}", *ends, *theirs])


def _stack(lines):
    return r"\shortstack{" + r"\\".join(lines) + "}"


def _safe(text):
    for sign in "\\&%$#_{}":
        text = text.replace(sign, r"\textbackslash " if sign == "\\" else "\\" + sign)
    return text.replace("\N{NO-BREAK SPACE}", "~").replace("ΔSNR", r"$\Delta$SNR")
