"""A video study's classifiers by experiment, mode and share of the labels: what was planned, what is held against what, and the figures."""

import numpy as np

from uscl.config import default
from uscl.report import study_tables
from uscl.report.scores import MODES
from uscl.study import video_statistics

COUNTERPART = {"features": "random", "finetuned": "supervised"}  # the same network without the pretraining
ORDER = "video.temporal"  # the switch whose rows stand in the table "temporal"
REPEATS = 4999


class Videos:
    """The cells of `uscl.study.videos.read` beside the plan. A place is (experiment, mode).

    repeats: of each comparison; more where a table has so many comparisons that Holm's correction would need a smaller p than REPEATS give.
    """

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

    def places(self, *, temporal):
        """Every place of the plan in its order, of the table "temporal" or of all others."""
        names = [name for name, entry in self.study.experiments.items() if (entry["table"] == "temporal") == temporal]
        return [(name, mode) for name in names for mode in MODES if mode in self.modes(name)]

    def modes(self, name):
        return {*self.setting(name, "classify.modes"), *(mode for experiment, mode, _ in self.cells if experiment == name)}

    def shares(self):
        """All shares of the labels, planned or found, ascending."""
        planned = {float(share) for name in self.study.experiments for share in self.setting(name, "classify.fractions")}
        return sorted({round(share, 6) for share in planned} | {share for *_, share in self.cells})

    def against(self, place):
        """The place that this one is held against: of a row without temporal operations the same row with them, else the same network
        without the pretraining; None for a baseline."""
        name, mode = place
        entry, rows = self.study.experiments[name], self.study.experiments.items()
        modes = [n for n, e in rows if e["table"] == "modes"]
        if entry["table"] == "temporal":
            same = [n for n in modes if self._apart_from_order(n) == self._apart_from_order(name)]
            return (same[0], mode) if same else None
        other = COUNTERPART.get(mode)
        return next(((n, other) for n in modes if other in self.modes(n)), None)

    def _apart_from_order(self, name):
        entry = self.study.experiments[name]
        return entry["config"], {key: value for key, value in (entry.get("changes") or {}).items() if key != ORDER}

    def random(self):
        """The place of the random features, or None."""
        return next((place for place in self.places(temporal=False) if place[1] == "random"), None)

    def at(self, place, share):
        return self.cells.get((*place, round(share, 6))) if place else None

    def labels(self, share):
        """How many labelled videos that share is, as the first cell there says; None before there is one."""
        return next((cell.labels for (*_, at), cell in self.cells.items() if at == round(share, 6)), None)

    def cell(self, place, share, figure, *, against=None, paper=None):
        """A `study_tables.Cell` of one figure ("auc", "accuracy", ..), with its difference to the place `against`, not yet judged."""
        mine, other = self.at(place, share), self.at(against, share)
        if mine is None:
            return study_tables.Cell(paper=paper)
        found = video_statistics.interval(mine, figure, seeds=several(mine), repeats=self.repeats)
        difference = None
        if other is not None and paired(mine, other):
            difference = video_statistics.difference(mine, other, figure, seeds=several(mine, other), repeats=self.repeats)
        return study_tables.Cell(*map(float, found), len({seed for seed, _ in mine.repetitions}), paper, difference)

    def name(self, place):
        """What the tables call a place: the experiment's row, and the mode."""
        return self.study.label(place[0]), mode_name(place[1])


def mode_name(mode):
    return MODES[mode][0] if mode in MODES else str(mode)


def several(*cells):
    """Whether repetitions can be drawn like the patients: only where every cell has more than one."""
    return "drawn" if min(len(cell.repetitions) for cell in cells) > 1 else "kept"


def paired(mine, other):
    """Whether two cells were tested on the same videos in the same parts."""
    return all(np.array_equal(getattr(mine, key), getattr(other, key)) for key in ("cine", "patient", "label", "fold"))
