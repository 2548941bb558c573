"""Whose a recording is: what decides on which side of the split it falls, and what must not tell a reader of the store who that was."""

import csv
import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from uscl.data import images
from uscl.data.recordings import Recording
from uscl.data.splits import PARTS, by_patient
from uscl.types import UserError

NUMBERED = re.compile(r"([^_]*\d[^_]*)_.+")  # 12_left, Patient00001_Plane3_1_of_2; but not Cov_atlas_3, where Cov is no patient
VALIDATION = 0.1  # share of the training patients that validate, where the folders name only train and test


class Patients:
    """Names the patient of each file, by the first that applies: a row of a table, the hash of what the file itself says, its stem.

    table: csv with the columns file,patient, file being the name in the store, a path below the source, a file name or a stem; None:
    no table. salt: the secret in the hashes, new for every object: the same person has other names in another store.
    """

    def __init__(self, table: str | Path | None, names: Iterable[str]):
        self.salt, self.guessed = secrets.token_hex(16), 0
        self.table = {} if table is None else _read_table(Path(table))
        if table is not None and not any(self._row(name) for name in names):
            raise UserError(f"{table}: none of its {len(self.table)} rows names a file of the sources; 'file' is a path or a file name")

    def planned(self, name: str) -> str:
        """From the file's name alone, `name` being the source's name and the path below it."""
        path = Path(name)
        numbered = NUMBERED.fullmatch(path.stem) if images.is_image(path) else None
        return self._row(name) or (numbered[1] if numbered else path.stem)

    def of(self, name: str, recording: Recording) -> tuple[str, str]:
        """(patient, the file's name as the store may show it). Where a file can identify a person both are hashes.

        `guessed` counts the recordings whose patient is only the file's name.
        """
        self.guessed += not self._row(name) and recording.person in ("", Path(name).stem)
        if not recording.person:
            return self.planned(name), name
        return self._row(name) or self._hash(recording.person), "dicom " + self._hash(name)

    def _row(self, name: str) -> str | None:
        path = Path(name)
        keys = (name, name.partition("/")[2], path.name, path.stem)
        return next((self.table[key] for key in keys if key in self.table), None)

    def _hash(self, text: str) -> str:
        return hashlib.sha256(f"{self.salt}/{text}".encode()).hexdigest()[:12]


def _read_table(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a csv file in UTF-8 ({type(error).__name__})") from error
    head = text.partition("\n")[0]
    rows = csv.DictReader(text.splitlines(), delimiter=max(",;\t", key=head.count))
    rows.fieldnames = [(name or "").strip().lower() for name in rows.fieldnames or []]
    if not {"file", "patient"} <= set(rows.fieldnames):
        raise UserError(f"{path}: its columns are {', '.join(rows.fieldnames) or 'missing'}; 'file' and 'patient' must be among them")
    table: dict[str, str] = {}
    for row in rows:
        file, patient = ((row[key] or "").strip() for key in ("file", "patient"))
        if not file or not patient or table.setdefault(file, patient) != patient:
            raise UserError(f"{path}, line {rows.line_num}: {file!r} has patient {patient!r}; each file needs one patient, always the same")
    return table


def deal(part_of: Mapping[str, str | None], labelled: set[str], *, seed: int) -> dict[str, list[str]]:
    """{patient: its part, None where no folder names one}, in the order the files were met -> {part: patients}, none left out.

    Without any named part `by_patient` deals; where folders name train and test but not validation, a tenth of the labelled others
    validates. The draw looks at a patient's place in the order, not at the name, because a hashed name is another one each time.
    """
    fixed = {patient: part for patient, part in part_of.items() if part in ("validation", "test")}
    alias = {f"patient {i:06d}": patient for i, patient in enumerate(part_of) if patient not in fixed}
    split = {part: [patient for patient, where in fixed.items() if where == part] for part in PARTS}
    if split["validation"]:
        split["train"] = list(alias.values())
    else:
        shares = {"validation": VALIDATION, "test": 0.0} if fixed else {}
        dealt = by_patient(alias, labelled=[a for a, patient in alias.items() if patient in labelled], seed=seed, **shares)
        for part, names in dealt.items():  # by_patient deals at least one to test: that one trains, where folders chose the test
            split["train" if fixed and part == "test" else part] += [alias[name] for name in names]
    return {part: sorted(names) for part, names in split.items()}
