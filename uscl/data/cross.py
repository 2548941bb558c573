"""Cross-validation by patient: the store dealt out to parts, of which each is the test once."""

from collections.abc import Hashable, Iterable, Mapping

import numpy as np

from uscl.types import UserError


def cross(strata: Mapping[str, Hashable], patients: Iterable[str], *, parts: int, fold: int, seed: int) -> dict[str, list[str]]:
    """The split of one fold: {part: sorted names}. Part `fold` tests, the next one validates, the others train.

    Each stratum is dealt out by itself, beginning where the last one ended, so that all parts have their share of each and their sizes
    differ by one at most. Over all folds every patient with a stratum is tested exactly once.

    Args:
      strata: {patient: what the parts shall be alike in}, such as the class; who is not in it has no label and always trains.
      patients: all of them; repeats count once and the order does not matter.
      parts: at least 3. fold: from 0 to parts - 1. seed: of the order in which a stratum is dealt.

    Raises:
      UserError: fewer than 3 parts, more parts than patients with a label, or a fold that is not there.

    Known values: 6 patients of one class and 5 of another in 5 parts: each part has one of the second and one of the first, one part two.
    """
    if not 3 <= parts <= len(strata):
        least = "one part tests and one validates, so it wants 3 or more"
        raise UserError(f"config.data.cross: found {parts}; {least}, and {len(strata)} patients with a label allow no more than that")
    if not 0 <= fold < parts:
        raise UserError(f"config.data.fold: found {fold}; with config.data.cross={parts} allowed is a number from 0 to {parts - 1}")
    rng, dealt, place = np.random.default_rng(seed), {}, 0
    for stratum in sorted(set(strata.values()), key=repr):
        members = sorted(name for name, mine in strata.items() if mine == stratum)
        for i in rng.permutation(len(members)):
            dealt[members[i]] = place % parts
            place += 1
    split: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for name in sorted(set(patients)):
        part = dealt.get(name)
        split["test" if part == fold else "validation" if part == (fold + 1) % parts else "train"].append(name)
    return split
