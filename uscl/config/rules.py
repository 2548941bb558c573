"""What a value in the configuration may be: a test, and the same in words for whoever broke it; and what a knob is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """`holds(value)` says whether the value is allowed, `text` says what is."""

    holds: Callable[[Any], bool]
    text: str


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def integer(low: int, high: int | None = None) -> Rule:
    text = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"
    return Rule(lambda v: _is_number(v) and int(v) == v and v >= low and (high is None or v <= high), text)


def number(low: float, high: float = float("inf"), *, above: bool = False) -> Rule:
    edge = f"above {low:g}" if above else f"of at least {low:g}"
    text = f"a number {edge}" + ("" if high == float("inf") else f" and at most {high:g}")
    return Rule(lambda v: _is_number(v) and (v > low if above else v >= low) and v <= high, text)


def one_of(*names: str) -> Rule:
    return Rule(lambda v: v in names, "one of " + ", ".join(repr(n) for n in names))


def each(rule: Rule, *, at_least: int = 0) -> Rule:
    text = f"a tuple of {at_least or 'any number of'} or more, each {rule.text}" if at_least else f"a tuple, each {rule.text}"
    return Rule(lambda v: isinstance(v, tuple | list) and len(v) >= at_least and all(map(rule.holds, v)), text)


FLAG = Rule(lambda v: isinstance(v, bool), "True or False")
TEXT = Rule(lambda v: isinstance(v, str), "text")


@dataclass(frozen=True)
class Knob:
    quick: Any
    rule: Rule
    doc: str
    paper: Any = None  # None: as quick
    before: Any = None  # what runs did that are older than the knob; None: as its default says
