"""An anatomy study's classifiers by experiment, mode and share of the labels: what is held against what, and the slope over the ratio."""

from uscl.report.study_cells import Cells, paired, seeds, several
from uscl.report.study_tables import Cell
from uscl.study import repetitions, still_statistics

FIGURE = "macro_f1"  # what is compared; the others are shown
SIMCLR, COARSE, FINE = "simclr", "coarse", "fine"  # experiments that the questions are about
COUNTERPART = {"features": "random", "features_knn": "random_knn", "finetuned": "supervised"}  # the same without the pretraining
NEIGHBOURS = ("random", "features")  # modes beside which neighbours vote
LEAST = 3  # ratios that a slope needs


class Planes(Cells):
    """The cells of `uscl.study.stills.read` beside the plan."""

    stage, noun = "planes", "still"
    interval, difference = staticmethod(still_statistics.interval), staticmethod(still_statistics.difference)

    def modes(self, name):
        known = super().modes(name)
        return known | ({f"{mode}_knn" for mode in NEIGHBOURS if mode in known} if self.setting(name, "planes.neighbours") else set())

    def places(self, modes):
        """Every place of the plan in these modes, in its order, but for the rows of the table "ratio"."""
        return [place for place in self.of_tables(lambda table: table != "ratio") if place[1] in modes]

    def against(self, place):
        """The place that this one is held against: SimCLR of the same mode; of SimCLR the network that was not pretrained; else None."""
        name, mode = place
        if mode not in COUNTERPART:
            return None
        if name != SIMCLR:
            return (SIMCLR, mode) if SIMCLR in self.study.experiments else None
        other = COUNTERPART[mode]
        return next(((n, other) for n in self.study.experiments if other in self.modes(n)), None)

    def granularity(self):
        """[(place of coarse labels, place of fine ones)], a pair a mode."""
        if not {COARSE, FINE} <= self.study.experiments.keys():
            return []
        return [((COARSE, mode), (FINE, mode)) for mode in self.pretrained(COARSE, FINE)]

    def pretrained(self, *names):
        """The modes that begin from pretrained weights and that all these experiments have."""
        return [mode for mode in COUNTERPART if all(mode in self.modes(name) for name in names)]

    def ratios(self):
        """{r: experiment} of the plan, ascending: SimCLR keeps no label, the fine labels are all kept, and between them "ratio"."""
        found = {r: name for r, name in ((0.0, SIMCLR), (1.0, FINE)) if name in self.study.experiments}
        for name, entry in self.study.experiments.items():
            if entry["table"] == "ratio":
                found.setdefault(float(self.setting(name, "anatomy.ratio")), name)
        return dict(sorted(found.items()))

    def slope(self, mode, share):
        """A `study_tables.Cell` of how far the figure rises from r = 0 to r = 1 on the line of least squares, once all ratios are there."""
        cells = {r: self.at((name, mode), share) for r, name in self.ratios().items()}
        mine = list(cells.values())
        if len(cells) < LEAST or any(cell is None for cell in mine) or not paired(*mine):
            return Cell()
        how = {"seeds": several(*mine), "repeats": self.repeats}
        found = still_statistics.contrast(mine, repetitions.slope(list(cells)), FIGURE, **how)
        return Cell(*found[:3], min(map(seeds, mine)), difference=found)
