"""What a property is, and the list of all of them."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from samgap.conformance.lab import NotApplicable
from samgap.conformance.subject import ASCENTS, Subject

EXACT = 1e-6  # relative; float64, but a norm taken in float32 on the way is no fault


class Found(NamedTuple):
    """What came of a check."""

    came: str
    holds: bool


class Property(NamedTuple):
    """What is checked, what a SAM should do, and the check."""

    name: str
    wanted: str
    check: Callable[[Subject], Found]


CHECKS: list[Property] = []


def wanted(name: str, what: str) -> Callable[[Callable[[Subject], Found]], Callable[[Subject], Found]]:
    """Put a check on the list."""

    def add(check: Callable[[Subject], Found]) -> Callable[[Subject], Found]:
        CHECKS.append(Property(name, what, check))
        return check

    return add


def expected(subject: Subject, gradients: list[Tensor], rho: float) -> list[Tensor]:
    """What eps should be, by the formula that the subject was given."""
    formula = ASCENTS[subject.ascent]
    if formula is None:
        raise NotApplicable("no closed form given (--ascent)")
    return formula(gradients, rho)


def normalized(subject: Subject) -> None:
    """End a check that wants |eps| = rho where that is not promised."""
    if subject.ascent != "sam":
        raise NotApplicable("|eps| is not promised to be rho")


def close(came: float, want: float, tolerance: float = EXACT) -> Found:
    """A number that should be another."""
    return Found(f"{came:.6g}", abs(came - want) <= tolerance * abs(want))
