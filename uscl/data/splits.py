"""Which patients train, validate and test. The unit is always the patient."""

from collections.abc import Iterable, Mapping

import numpy as np

from uscl.types import UserError

PARTS = ("train", "validation", "test")


def by_patient(
    patients: Iterable[str], *, labelled: Iterable[str] | None = None, seed: int, validation: float = 0.1, test: float = 0.2
) -> dict[str, list[str]]:
    """Deals patients out to train, validation and test: {part: sorted names}, no patient twice.

    Only patients with labels are dealt, so that every part gets its share of them; patients without any label go to
    train, the only part that can use them. With n labelled patients round(test n) test, round(validation n) validate,
    at least one each, and the rest train. Where no patient has a label all are dealt, in case labels are drawn later;
    one or two patients then all train.

    Args:
      patients: names; repeats count once and the order does not matter.
      labelled: those among them that have a labelled frame; None: all of them.
      seed: of the permutation.
      validation, test: shares of the labelled patients, in [0, 1).

    Raises:
      UserError: 1 or 2 labelled patients, or shares that leave none for train.

    Known values: 514 labelled patients, validation=0, test=0.2: 103 test, 1 validates, 410 train; with labelled=[] the same.
    """
    everyone = sorted(set(patients))
    dealt = sorted(set(everyone if labelled is None else labelled))
    if stray := set(dealt) - set(everyone):
        raise ValueError(f"labelled patients {sorted(stray)} are not among the patients")
    if labelled is not None and not dealt:
        if len(everyone) < len(PARTS):
            return {"train": everyone, "validation": [], "test": []}
        dealt = everyone
    if len(dealt) < len(PARTS):
        raise UserError(
            f"splits: {len(dealt)} of {len(everyone)} patients have labels ({_some(dealt)}); "
            "at least 3 are needed, one each for train, validation and test"
        )
    counts = {"test": _share(test, len(dealt)), "validation": _share(validation, len(dealt))}
    if sum(counts.values()) >= len(dealt):
        raise UserError(
            f"splits: validation={validation} and test={test} of {len(dealt)} patients leave none for train; their sum must stay below 1"
        )
    shuffled = [dealt[i] for i in np.random.default_rng(seed).permutation(len(dealt))]
    cut = counts["test"] + counts["validation"]
    split = {"test": shuffled[: counts["test"]], "validation": shuffled[counts["test"] : cut]}
    split["train"] = shuffled[cut:] + [p for p in everyone if p not in set(dealt)]
    return {part: sorted(split[part]) for part in PARTS}


def by_fold(patients: Iterable[str], labelled: Iterable[str], *, k: int, seed: int) -> list[list[str]]:
    """Deals the labelled among `patients` out to k folds: k sorted lists that share nobody, their sizes at most one apart.

    `patients` are those of train and validation; the test stays out of it. Who has no label is in no fold: such a patient
    has nothing to validate with, and trains whichever fold validates.

    Raises:
      UserError: k below 2, or above the number of labelled patients.

    Known values: 11 labelled of 20 patients, k=5: folds of 3, 2, 2, 2 and 2.
    """
    dealt = sorted(set(labelled) & set(patients))
    if not 2 <= k <= len(dealt):
        raise UserError(f"folds: found {k}; allowed is a number from 2 to {len(dealt)}, the patients with labels outside the test")
    order = np.random.default_rng(seed).permutation(len(dealt))
    return [sorted(dealt[i] for i in order[n::k]) for n in range(k)]


def fold(split: Mapping[str, list], i: int) -> dict[str, list[str]]:
    """The split with fold i (from 0) of its "folds" as validation; everyone else of train and validation trains, the test stays.

    UserError: no folds, or no fold i.
    """
    folds = split.get("folds", [])
    if not 0 <= i < len(folds):
        found = f"0 to {len(folds) - 1}" if folds else "none: the splits hold no 'folds'"
        raise UserError(f"config.data.fold: found {i}; the folds of this store are {found}, and -1 takes the split as it is")
    others = set(split["train"]) | set(split["validation"])
    return {"train": sorted(others - set(folds[i])), "validation": sorted(folds[i]), "test": list(split["test"])}


def check(split: Mapping[str, list], patients: Iterable[str], labelled: Iterable[str], *, file: str) -> None:
    """Holds a split, perhaps edited by hand, against a store's patients. UserError names `file` and the first fault.

    Each part needs a patient with a labelled frame, unless nobody has one: then only train needs somebody.
    """
    everyone, labelled = set(patients), set(labelled)
    if labelled and len(everyone) < 2:
        rule = "train, validation and test need one each"
        raise UserError(f"{file}: there is only one patient ({_some(everyone)}); {rule}")
    if not isinstance(split, Mapping) or set(split) - {"folds"} != set(PARTS):
        found = _some(split) if isinstance(split, Mapping) else type(split).__name__
        raise UserError(f"{file}: found {found}; it must hold exactly the lists 'train', 'validation' and 'test', and may hold 'folds'")
    part_of = _owners({part: split[part] for part in PARTS}, "part", file)
    if missing := everyone - set(part_of):
        raise UserError(f"{file}: patient {min(missing)!r} of cines.csv is in no part; each belongs to one")
    if stray := set(part_of) - everyone:
        name, part = min(stray), part_of[min(stray)]
        raise UserError(f"{file}: patient {name!r} in {part!r} has no cine in cines.csv; remove or correct the name")
    for part in PARTS if labelled else ():
        if not labelled.intersection(split[part]):
            found = f"{part!r} has no patient with a labelled frame, of {len(split[part])}"
            raise UserError(f"{file}: {found}; each part needs at least one")
    if not split["train"]:
        raise UserError(f"{file}: 'train' is empty; it needs at least one patient")
    if "folds" in split:
        _check_folds(split, labelled, file)


def _check_folds(split: Mapping[str, list], labelled: set[str], file: str) -> None:
    folds = split["folds"]
    if not isinstance(folds, list) or len(folds) < 2 or not all(folds):
        raise UserError(f"{file}: 'folds' is {folds!r:.80}; it must be a list of two or more lists of patients, none of them empty")
    fold_of = _owners({f"fold {n}": names for n, names in enumerate(folds)}, "fold", file)
    pool = labelled.intersection(split["train"] + split["validation"])
    if stray := set(fold_of) - pool:
        rule = "folds hold the patients of train and validation with a labelled frame"
        raise UserError(f"{file}: patient {min(stray)!r} in {fold_of[min(stray)]!r} does not belong there; {rule}")
    if missing := pool - set(fold_of):
        raise UserError(f"{file}: patient {min(missing)!r} is in no fold; each labelled one of train and validation belongs to one")


def _owners(lists: Mapping[str, list[str]], what: str, file: str) -> dict[str, str]:
    """{patient: the name of the list that holds it}, once every list is one of names and none holds a patient again."""
    owner: dict[str, str] = {}
    for name, members in lists.items():
        if not isinstance(members, list) or not all(isinstance(p, str) for p in members):
            raise UserError(f"{file}: {name!r} is {members!r:.80}; it must be a list of patient names in quotes")
        for patient in members:
            if patient in owner:
                rule = f"each belongs to one {what}, once"
                raise UserError(f"{file}: patient {patient!r} is in {owner[patient]!r} and in {name!r}; {rule}")
            owner[patient] = name
    return owner


def _share(fraction: float, n: int) -> int:
    return max(1, int(fraction * n + 0.5))


def _some(names: Iterable[str]) -> str:
    """The first few names, for a message."""
    names = sorted(names)
    return (", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")) or "none"
