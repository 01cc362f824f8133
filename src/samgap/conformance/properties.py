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
    """The outcome of a check."""

    came: str  # what was found, in words
    holds: bool


Check = Callable[..., Outcome]  # of a subject, and the arguments that `register` fixes


class Property(NamedTuple):
    """A property of SAM and its check."""

    name: str
    wanted: str  # the requirement, in words
    chapter: str  # name of the module that has the check
    check: Callable[[Subject], Outcome]


CHECKS: list[Property] = []


def register(name: str, wanted: str, **fixed: Any) -> Callable[[Check], Check]:
    """Add the decorated check to `CHECKS`, with `fixed` arguments; of several decorators, the lowest is added first."""

    def add(check: Check) -> Check:
        CHECKS.append(Property(name, wanted, check.__module__, partial(check, **fixed)))
        return check

    return add


def expected(subject: Subject, gradients: list[Tensor], rho: float) -> list[Tensor]:
    """Return the correct eps, by the formula of the subject's ascent."""
    formula = ASCENTS[subject.ascent]
    if formula is None:
        raise NotApplicable("no closed form given (--ascent)")
    return formula(gradients, rho)


def normalized(subject: Subject) -> None:
    """Skip a check of |eps| = rho, by raising `NotApplicable`, if the subject does not normalize its ascent."""
    if subject.ascent != "sam":
        raise NotApplicable("|eps| is not promised to be rho")


def close(value: float, target: float, tolerance: float = EXACT) -> Outcome:
    """Return whether a number equals `target` up to a relative tolerance."""
    return Outcome(f"{value:.6g}", abs(value - target) <= tolerance * abs(target))
