"""Reads a study's folder: its plan, its runs and pretrainings as far as they have come. study.json makes it a study."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from uscl.report.folder import Folder, Missing
from uscl.types import UserError


@dataclass(frozen=True)
class Run:
    """One cell of the plan whose run has begun: whose it is, and the folder, which may serve several cells."""

    experiment: str
    fraction: float
    seed: int
    folder: Folder = field(repr=False)

    @property
    def done(self):
        return bool(self.folder.results)


class Study:
    """A study's folder: `plan` (study.json), `experiments` {name: what the plan says of it}, `runs`, `folders`, `pretrainings`."""

    def __init__(self, path):
        self.path = Path(path)
        try:
            self.plan = json.loads((self.path / "study.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            told = f"study.json is not readable JSON ({error})" if isinstance(error, ValueError) else "it holds no study.json"
            raise UserError(f"{self.path} is no study: {told}; a study is the folder that launch/study.py wrote (its --workdir)") from None
        for key, kind in (("experiments", list), ("runs", list), ("tables", dict)):
            if not isinstance(self.plan, dict) or not isinstance(self.plan.get(key), kind):
                raise UserError(f"{self.path / 'study.json'} is no study's plan: it lacks {key}; let launch/study.py write it again")
        self.experiments = {entry["name"]: entry for entry in self.plan["experiments"]}
        self.seeds = list(self.plan.get("seeds", []))

    def fractions(self, table):
        """The shares of labels that the plan has for a table."""
        return sorted(float(share) for share in self.plan["tables"].get(table, ()))

    @property
    def all_fractions(self):
        return sorted({share for table in self.plan["tables"] for share in self.fractions(table)})

    @cached_property
    def folders(self):
        """{place: Folder} of all runs that have begun, each once; one whose config.json is torn is written again by the study."""
        return self._opened(dict.fromkeys(cell["folder"] for cell in self.plan["runs"]))

    @cached_property
    def pretrainings(self):
        """{place: Folder} of the shared pretraining stages that have begun."""
        return self._opened(sorted(path.parent.relative_to(self.path).as_posix() for path in self.path.glob("pretrain/*/config.json")))

    def _opened(self, places):
        found = {}
        for place in places:
            try:
                found[place] = Folder(self.path / place)
            except UserError:
                continue
        return found

    @cached_property
    def runs(self):
        """Every cell of the plan whose run has begun, in the plan's order."""
        return [
            Run(cell["experiment"], float(cell["fraction"]), int(cell["seed"]), self.folders[cell["folder"]])
            for cell in self.plan["runs"] if cell["folder"] in self.folders
        ]  # fmt: skip

    def chosen(self, experiment):
        """The evaluated runs of an experiment."""
        return [run for run in self.runs if run.experiment == experiment and run.done]

    def label(self, experiment):
        return str(self.experiments[experiment].get("row") or experiment)

    def side_by_side(self, experiments):
        """{label: run} of these experiments at one share of labels and one seed: where most are evaluated, the smallest of those."""
        chosen = {name: {(run.fraction, run.seed): run for run in self.chosen(name)} for name in experiments}
        places = {place for runs in chosen.values() for place in runs}
        if not places:
            return {}
        best = max(places, key=lambda place: (sum(place in runs for runs in chosen.values()), -place[0], -place[1]))
        return {self.label(name): runs[best] for name, runs in chosen.items() if best in runs}

    def json(self, name):
        """[content] of a JSON file in each folder that has it, pretrainings last."""
        found = []
        for folder in (*self.folders.values(), *self.pretrainings.values()):
            try:
                found.append(folder.json(name))
            except Missing:
                continue
        return found

    def sharing(self):
        """(pretraining stages that all runs ask for, those that were planned to serve them), of what has begun."""
        asked = 0
        for folder in self.folders.values():
            place = folder
            while place and place.config.get("start"):
                asked += 1
                place = self.pretrainings.get(f"pretrain/{Path(place.config['start']).name}")
        return asked, len(self.pretrainings)


def percent(fraction):
    """`percent(0.1)` is "10 %", with a space that does not break."""
    return f"{100 * fraction:g}\N{NO-BREAK SPACE}%"
