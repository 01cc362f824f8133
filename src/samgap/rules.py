"""What the value of a key may be, and the sentence for one that it is not. Each room has its rules.py."""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from samgap.errors import SettingError


class Rule(NamedTuple):
    """What is right, and how it is called."""

    right: Callable[[Any], bool]
    wanted: str

    def or_null(self, meaning: str = "") -> "Rule":
        """The same, or null."""
        return Rule(lambda value: value is None or self.right(value), f"{self.wanted}, or null{meaning}")


def is_number(value: Any) -> bool:
    """Whether this is a number, neither inf nor nan, nor a whole number that is too large for a float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def is_whole(value: Any) -> bool:
    """Whether this is a whole number; a float of 2^53 or more stands for many of them."""
    return is_number(value) and value == int(value) and abs(value) < (2**63 if isinstance(value, int) else 2**53)


def is_text(value: Any) -> bool:
    """Whether this is a text with something in it."""
    return isinstance(value, str) and value != ""


def number(wanted: str, holds: Callable[[float], bool]) -> Rule:
    """A number of which something holds."""
    return Rule(lambda value: is_number(value) and holds(value), wanted)


def numbers(wanted: str, holds: Callable[[float], bool] = lambda _: True) -> Rule:
    """A list of numbers of which something holds."""
    return Rule(lambda value: isinstance(value, list) and all(is_number(one) and holds(one) for one in value), wanted)


def at_least(least: float) -> Rule:
    """A number from here on."""
    return number(f"a number from {least}", lambda value: value >= least)


def whole(least: int) -> Rule:
    """A whole number, which may be written as a float."""
    return Rule(lambda value: is_whole(value) and value >= least, f"a whole number from {least}")


def count(least: int, most: float = float("inf")) -> Rule:
    """A whole number that is written as one."""
    wanted = f"a whole number from {least}" + ("" if most == float("inf") else f" to {most}")
    return Rule(lambda value: type(value) is int and least <= value <= most, wanted)


def one_of(*words: Any, wanted: str = "") -> Rule:
    """One of these words."""
    return Rule(lambda value: value in words, wanted or f"one of {', '.join(words)}")


ABOVE_0 = number("a number above 0", lambda value: value > 0)
FLAG = Rule(lambda value: isinstance(value, bool), "true or false")


def check(values: Any, rules: Mapping[str, Rule], prefix: str = "") -> None:
    """Refuse values that are not right; keys that are not there are not missed, and what is no mapping has none.

    Raises:
        SettingError: a value is not what its key (`prefix` and name) wants.
    """
    for name, (right, wanted) in rules.items() if isinstance(values, Mapping) else ():
        if name in values and not right(value := values[name]):
            quotable = isinstance(value, int | float) and right(str(value))
            quoted = f"; for a text put it in quotes, \"{prefix}{name}='{value}'\"" if quotable else ""
            got = json.dumps(value, ensure_ascii=False)
            raise SettingError(f"{prefix}{name} must be {wanted}, got {got}{quoted}.")
