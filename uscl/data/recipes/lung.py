"""Lungs: the POCUS collection and COVIDx-US."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from uscl.data.items import Item, Listing
from uscl.data.recipes.tables import absent, files, matched, named, need, rows
from uscl.data.recordings import READERS

PREFIX = re.compile(r"(vir_or_pneu|cov|pneu|reg|vir)[\s_-]*", re.IGNORECASE)
COLUMNS = ("Filename", "Probe", "Source ID", "Patient ID / Name")
KINDS = {"cov": "covid", "pneu": "pneumonia", "reg": "regular", "vir": "viral"}
CUT = re.compile(r"(_(trimmed|crop))+$", re.IGNORECASE)  # what the collectors did to a clip
COUNTER = re.compile(r"[\s_+-]*(v|vid|video|clip|view|img|image|mov|fig|file|paper|example)[\s_]?\d+[a-z]?$", re.IGNORECASE)
CASE = re.compile(r"(.*case_?\d+)_\d+")  # pneumonia_case_2_3: the third clip of case 2


def pocus(root: Path) -> Listing:
    """POCUS lung: cines and stills gathered from the web, with diagnosis and probe; all of one person are one patient.

    The diagnosis is in the file's name, "uncertain" for all in label_uncertain; the probe is a folder; patients are as `persons` says.
    Takes the collection's folder or the data folder in it.
    """
    table = need(root, "dataset_metadata.csv", "data/dataset_metadata.csv")
    need(table.parent, "pocus_videos", "pocus_images")
    listing, entries = Listing(public=True), list(rows(table, *COLUMNS))
    found = [path for top in ("pocus_images", "pocus_videos") for path in files(table.parent / top, "")]
    here = {path: dict(zip(COLUMNS, (path.stem, path.relative_to(table.parent).parts[1], "", ""), strict=True)) for path in found}
    told = {_key(row) for row in entries}
    person = persons([*entries, *(row for row in here.values() if _key(row) not in told)])
    for path, row in here.items():
        prefix = PREFIX.match(path.stem)
        if path.suffix.lower() not in READERS:
            listing.ignored.append(named(root, path))
        elif prefix is None:
            listing.rejected.append((named(root, path), "its name starts with none of Cov, Pneu, Reg and Vir, the diagnoses"))
        else:
            kind = "uncertain" if path.parent.name == "label_uncertain" else KINDS.get(prefix[1].lower(), "uncertain")
            about = {"class": kind, "probe": row["Probe"].lower()}
            listing.items.append(Item((path,), named(root, path), person[_key(row)], attributes=about))
    met = {_key(row) for row in here.values()}
    absent(listing, root, table, [row["Filename"] for row in entries if _key(row) not in met])
    return listing


def persons(entries: Iterable[Mapping[str, str]]) -> dict[tuple[str, str], str]:
    """{(probe, file's stem): patient} such that no two clips of one person fall apart, though some persons may be taken for one.

    Clips of the same id belong together; without an id, all clips of the same source. The table also numbers files through where nobody
    knew the patients: where clips are a series by their names (`series`) and no id comes twice in it, the series is one patient.
    """
    groups: dict[str, set[str]] = {}

    def join(*names: str) -> None:
        merged = set().union(*(groups.get(name, {name}) for name in names))
        groups.update(dict.fromkeys(merged, merged))

    known, label = {}, {}
    for row in entries:
        told = f"patient {row['Patient ID / Name']}" if row["Patient ID / Name"] else f"source {row['Source ID']}"
        clips = f"titled {series(row['Filename'])}"
        label[_key(row)] = told if told != "source " else clips
        known.setdefault(clips, []).append(label[_key(row)])
    for clips, names in known.items():
        ids = [name for name in names if name.startswith("patient ")]
        if len(set(ids)) == len(ids):
            join(clips, *names)
        for name in names:
            join(name)
    return {key: min(groups[name]) for key, name in label.items()}


def series(stem: str) -> str:
    """A clip's name without diagnosis and count: all with the same are one series. Pneu_ward_set3_vid2, Reg_ward_set3_img1 -> ward_set3."""
    bare = PREFIX.sub("", CUT.sub("", stem), count=1)
    return COUNTER.sub("", bare).lower() or bare.lower()


def _key(row: Mapping[str, str]) -> tuple[str, str]:
    return row["Probe"].lower(), row["Filename"].lower()


def covidx(root: Path) -> Listing:
    """COVIDx-US: the cines its scripts make (data/video/.../ID_prc.avi) with class, source, probe and what they show.

    The masks the scripts bring hide the device's text and pointers and outline nothing of the body, so they are no labels here. Patients
    are from labels/*_4class.csv of the latest version, else from utils/video_metadata.csv, where clips of a case go together.
    """
    tables = sorted((root / "labels").glob("*_4class.csv"))
    table = tables[-1] if tables else need(root, "utils/video_metadata.csv")
    entries = rows(table, "class", "source", "probe")
    found = {path.stem.removesuffix("_prc"): path for path in files(need(root, "data/video"), "_prc.avi")}
    listing = Listing(public=True)
    for path, row in matched(listing, root, found, table, entries, lambda row: row.get("id") or Path(row.get("filename", "")).stem):
        told = row.get("patient", "") or path.stem.removesuffix("_prc")
        case = CASE.fullmatch(told)
        about = {name: row.get(name, "").lower() for name in ("class", "source", "probe", "type")}
        listing.items.append(Item((path,), named(root, path), case[1] if case else told, attributes=about))
    return listing
