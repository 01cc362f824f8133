"""A row of the report: one statement, what the numbers say of it, and by how much."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from samgap.theory.stability import Minimum

Verdict = Literal["holds", "fails as stated", "void", "unsettled"]
ROUNDING = 1e-9


@dataclass(frozen=True)
class Row:
    """One statement of the poster, or of ours where `source` says so.

    `margin` is the least room that the statement left on its instances, in the unit that `evidence` names;
    negative when it is violated. `control` is the same for a statement that is wrong on purpose: were it not
    negative, the check could not fail, and the row would be unsettled.
    """

    name: str
    statement: str
    source: str
    verdict: Verdict
    margin: float
    control: float | None
    evidence: str
    instance: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Setup:
    """How many random instances the rows look at, and their seed."""

    draws: int = 3000
    seed: int = 0

    def rng(self, stream: int) -> np.random.Generator:
        """A generator for one row, which does not depend on what other rows drew."""
        return np.random.default_rng([self.seed, stream])


def judged(margin: float, control: float) -> Verdict:
    """Of a statement that was looked at on many instances."""
    if margin < -ROUNDING:
        return "fails as stated"
    return "holds" if control < -ROUNDING else "unsettled"


def refuted(margin: float, supported: bool) -> Verdict:
    """Of a statement that an instance is to violate; `supported` says that the instance is what it should be."""
    if not supported:
        return "unsettled"
    return "fails as stated" if margin < -ROUNDING else "holds"


def void(says_nothing: bool, supported: bool) -> Verdict:
    """Of a statement outside its assumptions."""
    return "void" if says_nothing and supported else "unsettled"


def shown(minimum: Minimum) -> dict[str, Any]:
    """A minimum as JSON can hold it."""
    return {"hessians": minimum.hessians.tolist(), "eta": minimum.eta, "rho": minimum.rho}


def least(values: Iterable[float]) -> float:
    """The smallest value as a Python number."""
    return float(min(values))
