"""Reads a run's folder. config.json makes it a run; every other file may be absent, and is then told as missing."""

import csv
import json
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from uscl.types import UserError


class Missing(Exception):
    """A part of the report cannot be drawn; the message says which file, and what is wrong with it."""


class Folder:
    """A run's folder with `config`, `results` ({} before the evaluation) and `seconds` of each stage; the rest is read when asked for."""

    def __init__(self, path):
        self.path = Path(path)
        if not self.path.is_dir():
            raise UserError(f"{self.path} is no folder; a run is the folder that launch/main.py wrote (its --workdir)")
        try:
            self.config = self.json("config.json")
            self.results = self.json("results.json") if (self.path / "results.json").exists() else {}
        except Missing as error:
            raise UserError(f"{self.path} is no run: {error}; a run's folder is what launch/main.py wrote (its --workdir)") from None
        self.seconds = self._seconds()

    def _seconds(self):
        """From results.json, or from timing.json beside it, which leaves results.json the same whenever the run is repeated."""
        try:
            found = self.results.get("seconds") or self.json("timing.json")
        except Missing:
            return {}
        return {stage: seconds for stage, seconds in found.items() if isinstance(seconds, int | float)}

    def json(self, name):
        """A JSON file whose top level is an object."""
        try:
            found = json.loads(self._find(name).read_text(encoding="utf-8"))
        except ValueError as error:
            raise Missing(f"{name} is not readable JSON ({error})") from None
        if not isinstance(found, dict):
            raise Missing(f"{name} holds a {type(found).__name__} where an object is expected")
        return found

    def arrays(self, name, *keys):
        """All arrays of an .npz file, of which `keys` must be there. Nothing is unpickled."""
        try:
            with np.load(self._find(name), allow_pickle=False) as archive:
                found = {key: archive[key] for key in archive.files}
        except (ValueError, OSError, EOFError, BadZipFile) as error:
            raise Missing(f"{name} is not readable ({error})") from None
        lacking = [key for key in keys if key not in found]
        if lacking:
            raise Missing(f"{name} lacks {', '.join(lacking)}; it holds {', '.join(sorted(found)) or 'nothing'}")
        return found

    def rows(self, name, *columns):
        """The rows of a CSV file as dicts of strings, with `columns` among their keys."""
        with open(self._find(name), newline="", encoding="utf-8") as file:
            found = list(csv.DictReader(file))
        lacking = [column for column in columns if found and column not in found[0]]
        if lacking or not found:
            raise Missing(f"{name} lacks {', '.join(lacking)}" if lacking else f"{name} holds no rows")
        return found

    def records(self):
        """metrics.jsonl by stage, in order of the steps: {stage: [record, ...]}.

        A resumed run writes the steps after its checkpoint again, so the later line of a step holds. A line that is no JSON is
        what a killed process left behind, and is passed over.
        """
        stages = {}
        for line in self._find("metrics.jsonl").read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
                stages.setdefault(str(record["stage"]), {}).setdefault(int(record["step"]), {}).update(record)
            except (ValueError, KeyError, TypeError):
                continue
        if not stages:
            raise Missing("metrics.jsonl holds no record with a stage and a step")
        return {stage: [steps[step] for step in sorted(steps)] for stage, steps in stages.items()}

    def _find(self, name):
        path = self.path / name
        if not path.is_file():
            raise Missing(f"{name} was not written")
        return path
