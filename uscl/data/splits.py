"""Which patients train, validate and test, and which labels a few-label run may see. The unit is always the patient."""

from collections.abc import Iterable, Mapping

import numpy as np

from uscl.types import UserError

PARTS = ("train", "validation", "test")


def by_patient(
    patients: Iterable[str],
    *,
    labelled: Iterable[str] | None = None,
    seed: int,
    validation: float = 0.1,
    test: float = 0.2,
) -> dict[str, list[str]]:
    """Deals patients out to train, validation and test: {part: sorted names}, no patient twice.

    Only patients with labels are dealt, so that every part gets its share of them; patients without any label go to
    train, the only part that can use them. With n labelled patients round(test n) test, round(validation n) validate,
    at least one each, and the rest train.

    Args:
      patients: names; repeats count once and the order does not matter.
      labelled: those among them that have a labelled frame; None: all of them.
      seed: of the permutation.
      validation, test: shares of the labelled patients, in [0, 1).

    Raises:
      UserError: fewer than 3 labelled patients, or shares that leave none for train.

    Known values: 514 labelled patients, validation=0, test=0.2: 103 test, 1 validates, 410 train.
    """
    everyone = sorted(set(patients))
    dealt = sorted(set(everyone if labelled is None else labelled))
    if stray := set(dealt) - set(everyone):
        raise ValueError(f"labelled patients {sorted(stray)} are not among the patients")
    if len(dealt) < len(PARTS):
        raise UserError(
            f"splits: {len(dealt)} of {len(everyone)} patients have labels ({_some(dealt)}); "
            "at least 3 are needed, one each for train, validation and test"
        )
    counts = {"test": _share(test, len(dealt)), "validation": _share(validation, len(dealt))}
    if sum(counts.values()) >= len(dealt):
        raise UserError(
            f"splits: validation={validation} and test={test} of {len(dealt)} labelled patients leave none for train; "
            "their sum must stay below 1"
        )
    shuffled = [dealt[i] for i in np.random.default_rng(seed).permutation(len(dealt))]
    cut = counts["test"] + counts["validation"]
    split = {"test": shuffled[: counts["test"]], "validation": shuffled[counts["test"] : cut]}
    split["train"] = shuffled[cut:] + [p for p in everyone if p not in set(dealt)]
    return {part: sorted(split[part]) for part in PARTS}


def check(split: Mapping[str, list[str]], patients: Iterable[str], labelled: Iterable[str], *, file: str) -> None:
    """Holds a split, perhaps edited by hand, against a store's patients. UserError names `file` and the first fault."""
    everyone, labelled = set(patients), set(labelled)
    if len(everyone) < 2:
        rule = "train, validation and test need one each"
        raise UserError(f"{file}: there is only one patient ({_some(everyone)}); {rule}")
    if not isinstance(split, Mapping) or set(split) != set(PARTS):
        found = _some(split) if isinstance(split, Mapping) else type(split).__name__
        raise UserError(f"{file}: found {found}; it must hold exactly the lists 'train', 'validation' and 'test'")
    part_of: dict[str, str] = {}
    for part in PARTS:
        if not isinstance(split[part], list) or not all(isinstance(p, str) for p in split[part]):
            raise UserError(f"{file}: {part!r} is {split[part]!r:.80}; it must be a list of patient names in quotes")
        for patient in split[part]:
            if patient in part_of:
                rule = "each belongs to one part, once"
                raise UserError(f"{file}: patient {patient!r} is in {part_of[patient]!r} and in {part!r}; {rule}")
            part_of[patient] = part
    if missing := everyone - set(part_of):
        raise UserError(f"{file}: patient {min(missing)!r} of cines.csv is in no part; each belongs to one")
    if stray := set(part_of) - everyone:
        name, part = min(stray), part_of[min(stray)]
        raise UserError(f"{file}: patient {name!r} in {part!r} has no cine in cines.csv; remove or correct the name")
    for part in PARTS:
        if not labelled.intersection(split[part]):
            found = f"{part!r} has no patient with a labelled frame, of {len(split[part])}"
            raise UserError(f"{file}: {found}; each part needs at least one")


def label_subset(rows: np.ndarray, patients: Iterable[str], fraction: float, *, seed: int) -> np.ndarray:
    """The share `fraction` of the labelled rows, over as many patients as it reaches: max(1, round(fraction n)) rows.

    A seed puts all rows in one order, of which a fraction takes the head: patients in random order each give one random
    row, then each a second one, and so on. So the rows of a smaller fraction are among those of any larger one.

    Args:
      rows: [n] ids of labelled rows, no id twice.
      patients: [n] the patient of each row.
      fraction: in (0, 1].
      seed: of the order.

    Returns: int64, ascending.

    Raises:
      UserError: fraction outside (0, 1], or no row to choose from.

    Known values: 4 rows of each of 10 patients, fraction 0.25: 10 rows, one a patient; fraction 1: all 40.
    """
    if not 0 < fraction <= 1:
        raise UserError(f"label_fraction: found {fraction!r}; allowed is a number above 0 and at most 1")
    rows_of: dict[str, list[int]] = {}
    for row, patient in sorted(zip(np.asarray(rows).tolist(), patients, strict=True)):
        rows_of.setdefault(patient, []).append(row)
    if not rows_of:
        raise UserError("label_fraction: the training patients have 0 labelled frames; at least 1 is needed")
    rng = np.random.default_rng(seed)
    piles = [rng.permutation(rows_of[patient]) for patient in sorted(rows_of)]
    piles = [piles[i] for i in rng.permutation(len(piles))]
    order = [pile[turn] for turn in range(max(map(len, piles))) for pile in piles if turn < len(pile)]
    return np.sort(np.array(order[: _share(fraction, len(order))], np.int64))


def _share(fraction: float, n: int) -> int:
    return max(1, int(fraction * n + 0.5))


def _some(names: Iterable[str]) -> str:
    """The first few names, for a message."""
    names = sorted(names)
    return (", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")) or "none"
