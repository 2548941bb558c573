"""What has changed between two configurations of one run, and what of that a run that is under way can take."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from uscl.config.knobs import KNOBS

ABSENT = "absent"  # in place of a value, where one side has no such key


@dataclass(frozen=True)
class Change:
    """One key with two values; `why` says what speaks against it, "" where nothing more is to be said than that it changed."""

    key: str
    old: Any
    new: Any
    why: str = ""

    def __str__(self) -> str:
        return f"config.{self.key} was {self.old!r} here and is {self.new!r} now" + (f" ({self.why})" if self.why else "")


@dataclass(frozen=True)
class Facts:
    """What the rules have to know beside the two configurations.

    order: the stages of the run. begun: those of them that have checkpoints. same_data, same_start: say whether the store, or
    the weights to start from, under the new path are those the run began with; asked only if the path has changed.
    """

    order: tuple[str, ...] = ()
    begun: Collection[str] = ()
    same_data: Callable[[], bool] = lambda: False
    same_start: Callable[[], bool] = lambda: False


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(key, old, new) of every key whose values differ, by name; a key that one side lacks has ABSENT there. Both are flat."""
    pairs = ((key, old.get(key, ABSENT), new.get(key, ABSENT)) for key in sorted(old.keys() | new.keys()))
    return [(key, before, now) for key, before, now in pairs if before != now]


def refused(old: Mapping[str, Any], new: Mapping[str, Any], facts: Facts) -> list[Change]:
    """The changes that would make another experiment of the run; [] where it may go on. Both are flat: "block.name" -> value.

    A knob that is younger than the run counts as what was done before there was a choice.
    """
    younger = {key: before_it_came(key, old.get("scale")) for key in new.keys() & KNOBS.keys() if key not in old}
    found, old = [], {**old, **younger}
    for key, before, now in difference(old, new):
        rule = next((rule for matches, rule in RULES if matches(key)), None)
        why = "" if rule is None else rule(key, old, new, facts)
        if why is not None:
            found.append(Change(key, before, now, why))
    return found


def before_it_came(key: str, scale: Any) -> Any:
    """What a run did that does not know the knob: mostly its default; in JSON's types."""
    knob = KNOBS[key]
    value = knob.before or (knob.paper if scale == "paper" and knob.paper is not None else knob.quick)
    return list(value) if isinstance(value, tuple) else value


def _logging(key: str, old: Mapping[str, Any], new: Mapping[str, Any], facts: Facts) -> str | None:
    return None


def _permission(key: str, old: Mapping[str, Any], new: Mapping[str, Any], facts: Facts) -> str | None:
    """What is merely allowed changes no number; where it is needed and missing, the start itself is refused."""
    return None


def _location(key: str, old: Mapping[str, Any], new: Mapping[str, Any], facts: Facts) -> str | None:
    return None if facts.same_data() else "another store, by its checksum"


def _origin(key: str, old: Mapping[str, Any], new: Mapping[str, Any], facts: Facts) -> str | None:
    return None if facts.same_start() else "other weights to start from"


def _length(key: str, old: Mapping[str, Any], new: Mapping[str, Any], facts: Facts) -> str | None:
    """Longer is the same experiment if the rate does not know the end, and no later stage has begun from the earlier end."""
    stage = key.removesuffix(".steps")
    if key not in old or key not in new:
        return ""
    if any(new.get(f"{block}.curriculum", "none") != "none" for block in (f"{stage}.pairs", "temporal")):
        return "its curriculum follows the share of the steps that are done"
    if new.get(f"{stage}.schedule") != "constant":
        return f"its rate falls towards the last step; with {stage}.schedule='constant' a stage can be made longer"
    if new[key] < old[key]:
        return "a stage can be made longer, not shorter"
    later = [name for name in facts.order[facts.order.index(stage) + 1 :] if name in facts.begun] if stage in facts.order else []
    return f"{later[0]} has begun from what it ended with" if later else None


Rule = Callable[[str, Mapping[str, Any], Mapping[str, Any], Facts], str | None]  # the reason against a change, or None

# Which keys may change in a run's folder, and by which rule. No other may.
RULES: tuple[tuple[Callable[[str], bool], Rule], ...] = (
    (lambda key: key.startswith("log."), _logging),
    (lambda key: key == "data.store", _location),
    (lambda key: key == "start", _origin),
    (lambda key: key == "start_elsewhere", _permission),
    (lambda key: key.endswith(".steps"), _length),
)
