"""The folder beside a store, STORE.private: the secret of its pseudonyms, what each recording was made from, and unfinished work.

Whoever has it can find out whether a person is in the store, so it is not handed on. It lets a second `prepare` read only what is new.
  salt            the secret                      prepared.jsonl  a head, then one line a cine: its key, file and facts
  prepared.npy    uint8 [F, 40], `audit.fingerprint` of every frame        parts/  recordings made ready, while a store is being made
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from uscl.data.index import read_json
from uscl.data.parts import Late, Part
from uscl.data.patients import new_salt
from uscl.data.store import Store
from uscl.data.writer import recover
from uscl.types import UserError


class Private:
    """Opens the folder for the store `out`, and holds it against a second process until the block ends."""

    def __init__(self, out: Path):
        self.out, self.folder = out, out.with_name(out.name + ".private")
        self.parts = self.folder / "parts"

    def __enter__(self) -> "Private":
        try:
            self.parts.mkdir(parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            self._lock = open(self.folder / "lock", "w")
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be made ({error.strerror}); choose another folder for the store") from error
        try:
            self._open()
        except BaseException:
            self._lock.close()  # `with` has not begun, so nobody else does
            raise
        return self

    def _open(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{self.out}: another process is preparing this store; wait for it, or choose another folder") from None
        recover(self.out)
        file = self.folder / "salt"
        if not file.is_file():
            _write(file, new_salt() + "\n")
        self.salt = file.read_text(encoding="utf-8").strip()
        self.head, self.lines = self._read()

    def __exit__(self, *exception) -> None:
        self._lock.close()

    def _read(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """What the store there was made from: of two such files, after a kill, the one that names the store's plan. The other goes."""
        if not self.out.exists():
            return {}, []
        plan = read_json(self.out / "store.json").get("plan") if (self.out / "store.json").is_file() else None
        for name in ("prepared", "next"):
            file = self.folder / f"{name}.jsonl"
            if file.is_file():
                head, *lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
                if head["plan"] == plan:
                    if name == "next":
                        self._promote()
                    for end in ("jsonl", "npy"):
                        (self.folder / f"next.{end}").unlink(missing_ok=True)  # of a store that never took its place
                    self.prints = np.load(self.folder / "prepared.npy", allow_pickle=False)
                    return head, lines
        raise UserError(f"{self.out}: exists, and {self.folder} does not tell what it was made from; choose another folder for the store")

    def old_parts(self) -> dict[str, Part]:
        """{key: part} of what the store holds already."""
        if not self.lines:
            return {}
        store, parts, size = Store.open(self.out), {}, self.head["settings"]["size"]
        value_of = {key: value for key, value in self.head["codes"]}
        first = np.cumsum([0, *store.cines.frames])
        for cine, line in enumerate(self.lines):
            keys, frames = line["facts"]["keys"], np.arange(first[cine], first[cine + 1])
            local = np.zeros(256, np.uint8)
            local[[value_of[key] for key in keys]] = np.arange(1, len(keys) + 1)
            parts[line["key"]] = Part(
                line["facts"],
                frames=Late(lambda: store.frames, frames, size),
                labels=Late(lambda: store.labels, np.flatnonzero(store.labelled.cine == cine), size, local),
                beam=Late(lambda: store.beams, np.array([cine]), size),
                prints=self.prints[frames],
            )
        return parts

    def note(self, head: Mapping[str, Any], lines: Iterable[Mapping[str, Any]], prints: np.ndarray) -> None:
        """Puts down what the store that is about to take its place is made from."""
        _write(self.folder / "next.jsonl", "".join(json.dumps(line) + "\n" for line in (head, *lines)))
        with open(self.folder / "next.npy", "wb") as file:
            np.save(file, prints)

    def finish(self) -> None:
        """The store is in its place: the notes on it are in force, and the parts have done their work."""
        if (self.folder / "next.jsonl").is_file():
            self._promote()
        shutil.rmtree(self.parts)

    def _promote(self) -> None:
        """The second file last: until it moves, the first may be missing, for it is in its place already."""
        for end in ("npy", "jsonl"):
            if (self.folder / f"next.{end}").is_file():
                os.replace(self.folder / f"next.{end}", self.folder / f"prepared.{end}")


def _write(file: Path, text: str) -> None:
    partial = file.with_name(file.name + ".partial")
    partial.touch(mode=0o600)
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, file)
