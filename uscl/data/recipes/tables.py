"""What the recipes share: tables as csv files, and finding what a set's root must hold."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path

from uscl.data.items import Listing
from uscl.types import UserError

MOST_BYTES = 2**28  # of one table; EchoNet's tracings, the longest here, take 30 MB
SHOWN, MOST_LETTERS = 5, 60  # names told of what a folder or a table holds instead, and how much of each


def rows(path: Path, *columns: str) -> Iterator[dict[str, str]]:
    """The rows of a csv file, header and values stripped of blanks, case kept. The delimiter is the commonest of , ; tab in the header.

    UTF-8 with or without a mark, else latin-1. Raises UserError: not readable, too long, or without one of `columns`.
    """
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise UserError(f"{path}: has {size} bytes; a table has at most {MOST_BYTES}")
        raw = path.read_bytes()
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
        head = text.partition("\n")[0]
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count))
        header = [name.strip() for name in next(lines, [])]
        if missing := [name for name in columns if name not in header]:
            raise UserError(f"{path}: has no column {missing[0]!r}; its columns are {', '.join(filter(None, header)) or 'none'}")
        for line in filter(None, lines):
            yield dict(zip_longest(header, (value.strip() for value in line[: len(header)]), fillvalue=""))
    except (OSError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a csv file ({type(error).__name__})") from error


def need(root: Path, *places: str) -> Path:
    """What is there first of `places`, paths or patterns below a set's root. UserError: nothing; it says what the root holds instead."""
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder; a recipe takes the folder of the unpacked set")
    for place in places:
        if hits := sorted(root.glob(place)):
            return hits[0]
    held = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    more = ", ..." if len(held) > SHOWN else ""
    raise UserError(f"{root}: has no {' or '.join(places)}; found {', '.join(held[:SHOWN]) or 'nothing'}{more} there")


def files(folder: Path, *suffixes: str) -> list[Path]:
    """The files of these suffixes (any case) in a folder and below it, hidden ones left out, in a fixed order."""
    found = sorted(path for path in folder.rglob("*") if path.name.lower().endswith(suffixes) and path.is_file())
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def named(root: Path, path: Path) -> str:
    """What rejected.csv calls a file: the root's own name and the path below it."""
    return f"{root.resolve().name}/{path.relative_to(root).as_posix()}"


def matched(
    listing: Listing, root: Path, found: Mapping[str, Path], table: Path, entries: Iterable[Mapping[str, str]], key: Callable
) -> Iterator[tuple[Path, Mapping[str, str]]]:
    """Each file of `found` with its one row, key(row) being its name there.

    A file with no row, or with several that differ, is rejected. Rows without a file make one line for the table: whoever took a part
    of a set has hundreds of them.
    """
    of: dict[str, list] = {}
    for row in entries:
        if row not in of.setdefault(key(row), []):
            of[key(row)].append(row)
    for name, path in found.items():
        if len(own := of.pop(name, [])) == 1:
            yield path, own[0]
        else:
            listing.rejected.append((named(root, path), f"{len(own) or 'no'} rows of {table.name} are about it; exactly one must be"))
    absent(listing, root, table, of)


def absent(listing: Listing, root: Path, table: Path, names: Iterable[str]) -> None:
    """One line of `listing.rejected` for all that a table names and the set lacks."""
    if names := sorted(names):
        shown = ", ".join(name[:MOST_LETTERS] for name in names[:SHOWN])
        listing.rejected.append((named(root, table), f"{len(names)} that it names are not there: {shown}"))


def number(text: str) -> float:
    """A positive number as a table writes it; nan for anything else. Known values: " 0.07" -> 0.07; "", "n/a", "0", "-1", "inf" -> nan."""
    value = real(text)
    return value if 0 < value < math.inf else math.nan


def real(text: str) -> float:
    """Any number as a table writes it; nan where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
