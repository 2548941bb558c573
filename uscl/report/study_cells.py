"""A study whose runs go through the shares of the labels themselves, by experiment, mode and share: what was planned, and the figures."""

import numpy as np

from uscl.config import default
from uscl.report import study_tables
from uscl.report.scores import MODES

REPEATS = 4999


class Cells:
    """What the runs have scored, beside the plan. A place is (experiment, mode); a kind of study says what the four below are.

    stage: whose block has modes and fractions. noun: what is told apart. interval, difference: of a figure, as `uscl.study.repetitions`.
    repeats: of each comparison; more where a table has so many comparisons that Holm's correction would need a smaller p than REPEATS give.
    """

    stage = noun = ""
    interval = difference = None

    def __init__(self, study, cells):
        self.study = study
        self.cells = {(cell.experiment, cell.mode, round(cell.fraction, 6)): cell for cell in cells}
        self.repeats = max(REPEATS, 60 * len(self.cells)) if cells else REPEATS
        self._defaults = default("paper" if study.plan.get("scale") == "paper" else "quick")

    def setting(self, name, key):
        """What the runs of an experiment have for a knob: as its config.json says, and before there is one, as planned."""
        run = next((run for run in self.study.runs if run.experiment == name), None)
        entry = self.study.experiments[name]
        for known in (entry.get("changes") or {}, self.study.plan.get("base") or {}):
            if run is None and key in known:
                return known[key]
        value = run.folder.config if run else self._defaults
        block, knob = key.rsplit(".", 1)
        for part in block.split("."):
            value = value.get(part, {})
        return value.get(knob, self._defaults[block][knob])

    def of_tables(self, wanted):
        """Every place of the plan in its order, of the tables for which `wanted(table)` holds."""
        names = [name for name, entry in self.study.experiments.items() if wanted(entry["table"])]
        return [(name, mode) for name in names for mode in MODES if mode in self.modes(name)]

    def modes(self, name):
        return {*self.setting(name, f"{self.stage}.modes"), *(mode for experiment, mode, _ in self.cells if experiment == name)}

    def shares(self):
        """All shares of the labels, planned or found, ascending."""
        planned = {float(share) for name in self.study.experiments for share in self.setting(name, f"{self.stage}.fractions")}
        return sorted({round(share, 6) for share in planned} | {share for *_, share in self.cells})

    def largest(self):
        return max(self.shares(), default=1.0)

    def at(self, place, share):
        return self.cells.get((*place, round(share, 6))) if place else None

    def labels(self, share):
        """How many labels that share is, as the first cell there says; None before there is one."""
        return next((cell.labels for (*_, at), cell in self.cells.items() if at == round(share, 6)), None)

    def cell(self, place, share, figure, *, against=None, paper=None):
        """A `study_tables.Cell` of one figure ("auc", "macro_f1", ..), with its difference to the place `against`, not yet judged."""
        mine, other = self.at(place, share), self.at(against, share)
        if mine is None:
            return study_tables.Cell(paper=paper)
        found = self.interval(mine, figure, seeds=several(mine), repeats=self.repeats)
        difference = None
        if other is not None and paired(mine, other):
            difference = self.difference(mine, other, figure, seeds=several(mine, other), repeats=self.repeats)
        return study_tables.Cell(*map(float, found), seeds(mine), paper, difference)

    def name(self, place):
        """What the tables call a place: the experiment's row, and the mode."""
        return self.study.label(place[0]), mode_name(place[1])


def mode_name(mode):
    return MODES[mode][0] if mode in MODES else str(mode)


def seeds(cell):
    """How many seeds a cell's repetitions have."""
    return len({seed for seed, _ in cell.repetitions})


def several(*cells):
    """Whether repetitions can be drawn like the patients: only where every cell has more than one."""
    return "drawn" if min(len(cell.repetitions) for cell in cells) > 1 else "kept"


def paired(*cells):
    """Whether cells were tested on the same cases in the same parts."""
    first, *others = cells
    return all(np.array_equal(getattr(first, key), getattr(one, key)) for key in ("cine", "patient", "label", "fold") for one in others)
