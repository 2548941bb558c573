"""Whose a recording is: what decides on which side of the split it falls, and what must not tell a reader of the store who that was."""

import csv
import hashlib
import math
import re
import secrets
import unicodedata
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

import numpy as np

from uscl.data import images
from uscl.data.items import Item, Listing
from uscl.data.splits import PARTS
from uscl.types import UserError

NUMBERED = re.compile(r"([^_]*\d[^_]*)_.+")  # 12_left, Patient00001_Plane3_1_of_2; but not Cov_atlas_3, where Cov is no patient
TOLD = {"part": str, "mm_per_pixel": float, "frame_ms": float}  # columns of a table that mean something beside file and patient


def new_salt() -> str:
    return secrets.token_hex(16)


def composed(name: str) -> str:
    """A name as most systems write it; macOS takes letters with accents apart, so that one name would be two."""
    return unicodedata.normalize("NFC", name)


def pseudonym(salt: str, kind: str, text: str) -> str:
    """12 hexadecimal digits of the SHA-256 of salt, kind and text: nobody without the salt can try names against them."""
    return hashlib.sha256(f"{salt}/{kind}/{text}".encode()).hexdigest()[:12]


def name(item: Item, person: str, *, salt: str, keep: bool) -> tuple[str, str]:
    """(patient, source) as the store shows them.

    The patient is the first of: what a table says, `person` (the pseudonym of what the file's own header says), the file's name.
    keep: names are no secret, so they stay as they are; else both are pseudonyms. A file with a person in its header never shows its name.
    """
    path = item.paths[0]
    numbered = NUMBERED.fullmatch(path.stem) if images.is_image(path) else None
    told = item.patient or ("" if person else numbered[1] if numbered else path.stem)
    patient = (told if keep else pseudonym(salt, "patient", told)) if told else person
    return patient, item.name if keep and not person else "file " + pseudonym(salt, "file", item.name)


def guessed(item: Item, person: str) -> bool:
    """Whether nothing but the file's name says whose it is."""
    return not item.patient and not person


def tell(listing: Listing, table: str | Path, *, keep: Sequence[str] = ()) -> None:
    """Puts what a csv says of each file into the listing's items: its patient, and where there are such columns part and scale.

    table: columns file,patient and any others; file is a name as in rejected.csv, a path below the source, a file name or a stem.
    keep: columns that become attributes, where the table has them. Raises UserError: no such table or columns, a file with two patients,
    or no row that fits.
    """
    rows, used = _read_table(Path(table)), 0
    for i, item in enumerate(listing.items):
        path = item.paths[0]
        keys = (item.name, item.name.partition("/")[2], path.name, path.stem)
        row = next((rows[key] for key in map(composed, keys) if key in rows), None)
        if row is not None:
            used += 1
            facts = {key: kind(row[key]) for key, kind in TOLD.items() if row.get(key)}
            kept = {column: row[column] for column in keep if column in row}
            listing.items[i] = replace(item, patient=row["patient"], **facts, attributes={**item.attributes, **kept})
    if not used:
        raise UserError(f"{table}: none of its {len(rows)} rows names a file of the sources; 'file' is a path or a file name")


def _read_table(path: Path) -> dict[str, dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a csv file in UTF-8 ({type(error).__name__})") from error
    head = text.partition("\n")[0]
    lines = csv.DictReader(text.splitlines(), delimiter=max(",;\t", key=head.count), restval="")
    lines.fieldnames = [(column or "").strip() for column in lines.fieldnames or []]
    lines.fieldnames = [c.lower() if c.lower() in ("file", "patient", *TOLD) else c for c in lines.fieldnames]
    if missing := [column for column in ("file", "patient") if column not in lines.fieldnames]:
        raise UserError(f"{path}: its columns are {', '.join(lines.fieldnames) or 'missing'}; {missing[0]!r} must be among them")
    rows: dict[str, dict[str, str]] = {}
    for line in lines:
        row = {key: value.strip() for key, value in line.items() if isinstance(value, str)}
        row["file"], where = composed(row["file"]), f"{path}, line {lines.line_num}"
        if not row["file"] or not row["patient"] or rows.setdefault(row["file"], row)["patient"] != row["patient"]:
            raise UserError(f"{where}: {row['file']!r} has patient {row['patient']!r}; each file needs one patient, always the same")
        if row.get("part") and row["part"] not in PARTS:
            raise UserError(f"{where}: the part is {row['part']!r}; allowed are {', '.join(PARTS)}, or nothing")
        for key in ("mm_per_pixel", "frame_ms"):
            if row.get(key) and not _above_zero(row[key]):
                raise UserError(f"{where}: {key} is {row[key]!r}; allowed is a number above 0, or nothing")
    return rows


def _above_zero(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def deal(
    part_of: Mapping[str, str | None], labelled: set[str], *, seed: int, validation=0.1, test=0.2, stay: Set[str] = frozenset()
) -> dict[str, list[str]]:
    """{patient: its part, None where nothing names one}, in the order the files were met -> {part: patients}, none left out.

    Named parts are kept. Of the patients with labels (of all, where none has any) round(test n) test and round(validation n) validate, at
    least one each; those in named parts count towards these numbers. Others train. Where parts were named but none validates, patients
    named for training may be drawn for it, but for those of `stay`, whom a store has already. test=0: no more test than those named. The
    draw looks at a patient's place in the order, not at the name: a hashed name is another one with every salt.
    """
    split = {part: [patient for patient, where in part_of.items() if where == part] for part in PARTS}
    free = [patient for patient, where in part_of.items() if where is None]
    if not split["validation"]:
        free += [patient for patient in split["train"] if patient not in stay]
        split["train"] = [patient for patient in split["train"] if patient in stay]
    counted = [patient for patient in part_of if patient in labelled] or list(part_of)
    drawn = [patient for patient in part_of if patient in set(free) & set(counted)]
    drawn = [drawn[i] for i in np.random.default_rng(seed).permutation(len(drawn))]
    for part, share in (("test", test), ("validation", validation)):
        have = len(set(split[part]) & set(counted))
        wanted = max(1, int(share * len(counted) + 0.5)) - have
        wanted = max(0, min(wanted, len(drawn) - 1))  # one is left to train
        split[part] += drawn[:wanted]
        drawn = drawn[wanted:]
    taken = {patient for part in PARTS for patient in split[part]}
    split["train"] += [patient for patient in part_of if patient not in taken]
    return {part: sorted(split[part]) for part in PARTS}
