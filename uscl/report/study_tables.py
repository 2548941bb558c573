"""The study's scores as the papers' tables: our mean with its interval, the verdict against the row's baseline, the papers' number."""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from uscl.report.tables import figure
from uscl.study import statistics

MARKS = {"better": "\N{BLACK UP-POINTING TRIANGLE}", "worse": "\N{BLACK DOWN-POINTING TRIANGLE}", "inside the noise": "\N{ALMOST EQUAL TO}"}
LOWER_IS_BETTER = ("delta_snr", "hd95_mm", "hc_error_mm", "hc_missed", "hc_table_error_mm")
NOT_RUN, UNKNOWN = "not yet run", "unknown"
REPEATS = 4999


@dataclass(frozen=True)
class Cell:
    """One place of a table. `mean` is nan where nothing was run, or what was has no such figure; `verdict` is None in a baseline's row."""

    mean: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    seeds: int = 0
    paper: float | None = None
    difference: statistics.Difference | None = None
    corrected: float = float("nan")
    verdict: statistics.Verdict | None = None

    @property
    def known(self):
        return self.mean == self.mean

    @property
    def lacking(self):
        """What stands in the place of a mean that is nan."""
        return UNKNOWN if self.seeds else NOT_RUN


@dataclass(frozen=True)
class Table:
    """A table: `labels` name the leading columns, `columns` the cells; `rows` are (labels of the row, cells)."""

    key: str
    title: str
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    rows: list[tuple[tuple[str, ...], list[Cell]]]
    note: str = ""
    digits: int = 3  # of the papers' figures
    family: int = 0


@dataclass(frozen=True)
class Values:
    """Scores [seeds, images] of one experiment; an image is (patient, name), and its patient is what is resampled."""

    values: np.ndarray
    images: list
    seeds: list

    def at(self, images):
        """[seeds, len(images)]: the scores of these images, in this order."""
        place = {image: k for k, image in enumerate(self.images)}
        return self.values[:, [place[image] for image in images]]

    @staticmethod
    def patients_of(images):
        return np.array([patient for patient, _ in images])


class Scores:
    """All rows of a study by experiment and label fraction, as arrays [seeds, images]."""

    def __init__(self, rows):
        self._index, self.classes, self._made = {}, [], {}
        for row in rows:
            cell = self._index.setdefault((row.experiment, round(row.fraction, 6), row.measure), {})
            cell.setdefault((row.patient, row.image), {}).setdefault(row.seed, {})[row.cls] = row.value
            if row.cls not in self.classes:
                self.classes.append(row.cls)

    def of(self, experiment, fraction, measure, classes):
        """`Values` of an experiment at a label fraction, or None: the mean of an image over `classes`, as far as they have a number."""
        key = experiment, round(fraction, 6), measure
        if key not in self._index:
            return None
        made = self._made.get((key, tuple(classes)))
        if made is None:
            cells = self._index[key]
            images = sorted(cells, key=str)
            seeds = sorted({seed for image in cells.values() for seed in image})
            values = np.array([
                [[cells[image].get(seed, {}).get(name, np.nan) for name in classes] for image in images] for seed in seeds
            ], float)  # fmt: skip
            known = ~np.isnan(values)
            values = np.where(known, values, 0).sum(-1) / np.where(known.any(-1), known.sum(-1), np.nan)
            made = self._made[key, tuple(classes)] = Values(values, images, seeds)
        return made

    def cell(self, experiment, fraction, measure, classes, *, against=None, paper=None):
        """A `Cell` with its mean, and its difference to (experiment, fraction) `against`, not yet judged."""
        mine = self.of(experiment, fraction, measure, classes)
        if mine is None:
            return Cell(paper=paper)
        seeds = "drawn" if len(mine.seeds) > 1 else "kept"
        mean, low, high = statistics.mean_of_seeds(mine.values, mine.patients_of(mine.images), seeds=seeds, repeats=REPEATS)
        other = self.of(*against, measure, classes) if against else None
        return Cell(mean, low, high, len(mine.seeds), paper, self.difference(mine, other) if other else None)

    @staticmethod
    def difference(mine, other):
        """Ours minus the other's over the images both have; both seeds and patients are drawn where there is more than one seed."""
        both = [image for image in mine.images if image in set(other.images)]
        seeds = "kept" if min(len(mine.seeds), len(other.seeds)) < 2 else "drawn"  # "paired" finds too much with so few seeds
        return statistics.difference(mine.at(both), other.at(both), mine.patients_of(both), seeds=seeds, repeats=REPEATS)


def judged(table, measures):
    """The table with a verdict in every cell that has a difference; the whole table is one family. measures: of each column."""
    p = [cell.difference.p if cell.difference else np.nan for _, cells in table.rows for cell in cells]
    corrected = iter(statistics.holm(p))
    family = int(np.sum(~np.isnan(p)))
    rows = []
    for labels, cells in table.rows:
        new = []
        for cell, measure in zip(cells, measures, strict=True):
            value, found = float(next(corrected)), None
            if cell.difference:
                d = cell.difference
                found = statistics.verdict(d.mean, (d.low, d.high), value, family=family, higher_is_better=measure not in LOWER_IS_BETTER)
            new.append(Cell(cell.mean, cell.low, cell.high, cell.seeds, cell.paper, cell.difference, value, found))
        rows.append((labels, new))
    return Table(table.key, table.title, table.labels, table.columns, rows, table.note, table.digits, family)


def page(table):
    """The table as the page's template takes it: number, interval, verdict, the papers' number in small."""
    left = Markup('<span style="display: block; text-align: left">{}</span>')  # words; the template sets all but the first column right
    rows = [[left.format(label) for label in labels] + [_shown(cell, table.digits) for cell in cells] for labels, cells in table.rows]
    return {"head": [*(left.format(name) for name in table.labels), *table.columns], "rows": rows}


def _shown(cell, digits):
    theirs = Markup("paper {}").format(figure(cell.paper, digits)) if cell.paper is not None else ""
    if not cell.known:
        return {"value": Markup('<span style="color: var(--muted); font-size: 12px">{}</span>').format(cell.lacking), "note": theirs}
    lines = [Markup("{} to {}").format(figure(cell.low), figure(cell.high))] if cell.low == cell.low else []
    if cell.verdict:
        colour = {"better": "--blue", "worse": "--vermillion"}.get(cell.verdict.word, "--muted")
        word = "noise" if cell.verdict.word == "inside the noise" else cell.verdict.word
        mark = Markup('<span style="color: var({})" title="{}">{} {} {}</span>')
        lines.append(mark.format(colour, cell.verdict.sentence, MARKS[cell.verdict.word], signed(cell.difference.mean), word))
    lines += [theirs] if theirs else []
    return {"value": figure(cell.mean), "note": Markup("<br>").join(lines)}


def signed(value, digits=3):
    """`signed(0.0312)` is "+0.031"."""
    return "–" if value != value else ("+" if value >= 0 else "") + f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def legend(table):
    """What the marks mean, in one line."""
    alone = any(cell.seeds == 1 for _, cells in table.rows for cell in cells)
    drawn = "Patients are resampled, and seeds where there are several"
    drawn += "; one seed says nothing of a network trained again" if alone else ""
    among = f", after correction for the table's {table.family} comparisons" if table.family > 1 else ""
    if not any(cell.verdict for _, cells in table.rows for cell in cells):
        return f"Mean with its 95 % interval. {drawn}. {table.note}".strip()
    return (
        f"Mean with its 95 % interval. {drawn}. {MARKS['better']} better and {MARKS['worse']} worse than the row's baseline{among}; "
        f"{MARKS['inside the noise']} inside the noise. {table.note}".strip()
    )
