"""The list of properties, and helpers for their checks."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from samgap.conformance.subject import ASCENTS, Subject

EXACT = 1e-6  # relative; tensors are float64, but computing the norm in float32 is allowed


class NotApplicable(Exception):
    """The property does not apply to this class; the message says why."""


class Outcome(NamedTuple):
    """The outcome of a check: what came, and whether that is right."""

    came: str
    holds: bool


Check = Callable[..., Outcome]  # of a subject, and the arguments that `register` fixes


class Property(NamedTuple):
    """A property of SAM: its name, the requirement, the module that has its check, and the check."""

    name: str
    wanted: str
    chapter: str
    check: Callable[[Subject], Outcome]


CHECKS: list[Property] = []


def register(name: str, what: str, **fixed: Any) -> Callable[[Check], Check]:
    """Add the decorated check to `CHECKS`, with these arguments. Of several decorators the lowest comes first."""

    def add(check: Check) -> Check:
        CHECKS.append(Property(name, what, check.__module__, partial(check, **fixed)))
        return check

    return add


def expected(subject: Subject, gradients: list[Tensor], rho: float) -> list[Tensor]:
    """The correct eps, by the formula of the subject's ascent."""
    formula = ASCENTS[subject.ascent]
    if formula is None:
        raise NotApplicable("no closed form given (--ascent)")
    return formula(gradients, rho)


def normalized(subject: Subject) -> None:
    """Leave a check of |eps| = rho if the subject does not normalize its ascent."""
    if subject.ascent != "sam":
        raise NotApplicable("|eps| is not promised to be rho")


def close(came: float, target: float, tolerance: float = EXACT) -> Outcome:
    """Whether a number equals another up to a relative tolerance."""
    return Outcome(f"{came:.6g}", abs(came - target) <= tolerance * abs(target))
