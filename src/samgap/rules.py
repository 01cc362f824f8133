"""Rules for the values of config keys, and the error for a wrong value. Each package has its rules in rules.py."""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from samgap.errors import SettingError


class Rule(NamedTuple):
    """A test of a value, and a description of valid values for the error."""

    is_valid: Callable[[Any], bool]
    expected: str

    def or_null(self, meaning: str = "") -> "Rule":
        """Return a rule that also accepts null."""
        return Rule(lambda value: value is None or self.is_valid(value), f"{self.expected}, or null{meaning}")


def is_number(value: Any) -> bool:
    """Return whether this is a finite number that a float can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def is_whole(value: Any) -> bool:
    """Return whether this is a whole number. Floats from 2^53 are not: they cannot hold every whole number."""
    return is_number(value) and value == int(value) and abs(value) < (2**63 if isinstance(value, int) else 2**53)


def is_text(value: Any) -> bool:
    """Return whether this is a text that is not empty."""
    return isinstance(value, str) and value != ""


def number(expected: str, is_valid: Callable[[float], bool]) -> Rule:
    """Return a rule for a number for which `is_valid` is true."""
    return Rule(lambda value: is_number(value) and is_valid(value), expected)


def numbers(expected: str, is_valid: Callable[[float], bool] = lambda _: True) -> Rule:
    """Return a rule for a list of numbers; `is_valid` must be true for each."""
    return Rule(lambda value: isinstance(value, list) and all(is_number(x) and is_valid(x) for x in value), expected)


def at_least(least: float) -> Rule:
    """Return a rule for a number of `least` or more."""
    return number(f"a number from {least}", lambda value: value >= least)


def whole(least: int) -> Rule:
    """Return a rule for a whole number of `least` or more, also written as a float."""
    return Rule(lambda value: is_whole(value) and value >= least, f"a whole number from {least}")


def count(least: int, most: float = float("inf")) -> Rule:
    """Return a rule for an integer from `least` to `most`; floats are wrong."""
    expected = f"a whole number from {least}" + ("" if most == float("inf") else f" to {most}")
    return Rule(lambda value: type(value) is int and least <= value <= most, expected)


def one_of(*options: Any, expected: str = "") -> Rule:
    """Return a rule for one of these values."""
    return Rule(lambda value: value in options, expected or f"one of {', '.join(options)}")


ABOVE_0 = number("a number above 0", lambda value: value > 0)
FLAG = Rule(lambda value: isinstance(value, bool), "true or false")


def check(values: Any, rules: Mapping[str, Rule], prefix: str = "") -> None:
    """Refuse values that break a rule. Missing keys are allowed, and `values` that are no mapping are not checked.

    Raises:
        SettingError: a value is not valid for its key, which the message names with `prefix`.
    """
    for name, (is_valid, expected) in rules.items() if isinstance(values, Mapping) else ():
        if name in values and not is_valid(value := values[name]):
            quotable = isinstance(value, int | float) and is_valid(str(value))
            quoted = f"; for a text put it in quotes, \"{prefix}{name}='{value}'\"" if quotable else ""
            got = json.dumps(value, ensure_ascii=False)
            raise SettingError(f"{prefix}{name} must be {expected}, got {got}{quoted}.")
