"""A video study's classifiers by experiment, mode and share of the labels: what stands in which table, and what is held against what."""

from uscl.report.study_cells import Cells
from uscl.study import video_statistics

COUNTERPART = {"features": "random", "finetuned": "supervised"}  # the same network without the pretraining
ORDER = "video.temporal"  # the switch whose rows stand in the table "temporal"


class Videos(Cells):
    """The cells of `uscl.study.videos.read` beside the plan."""

    stage, noun = "classify", "video"
    interval, difference = staticmethod(video_statistics.interval), staticmethod(video_statistics.difference)

    def places(self, *, temporal):
        """Every place of the plan in its order, of the table "temporal" or of all others."""
        return self.of_tables(lambda table: (table == "temporal") == temporal)

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
