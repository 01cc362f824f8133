"""A row of the report: a statement, its verdict, and the margin by which it holds or fails."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from samgap.theory.stability import Minimum

Verdict = Literal["holds", "fails as stated", "void", "unsettled"]
ROUNDING = 1e-9


@dataclass(frozen=True)
class Row:
    """One statement of the poster, of its proof, or of this project ("ours").

    `margin` is the smallest slack of the statement over its instances, in the unit that `evidence` names. It is
    negative if the statement is violated. `control` is the margin of a statement that is false by design. If it is not
    negative, the check cannot detect a violation, and the row is unsettled.
    """

    name: str
    statement: str
    source: str
    verdict: Verdict
    margin: float
    control: float | None
    evidence: str
    instance: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def tested(cls, name: str, statement: str, source: str, margin: float, control: float, evidence: str) -> "Row":
        """Make the row of a statement that was tested on many instances."""
        return cls(name, statement, source, judged(margin, control), margin, control, evidence)


@dataclass(frozen=True)
class Setup:
    """The number of random instances for each row, and their seed."""

    draws: int = 3000
    seed: int = 0

    def rng(self, stream: int) -> np.random.Generator:
        """Return a generator for the row with number `stream`, independent of those of other rows."""
        return np.random.default_rng([self.seed, stream])


def judged(margin: float, control: float) -> Verdict:
    """Return the verdict on a statement that was tested on many instances."""
    if margin < -ROUNDING:
        return "fails as stated"
    return "holds" if control < -ROUNDING else "unsettled"


def refuted(margin: float, supported: bool) -> Verdict:
    """Return the verdict on a statement that instances may violate; `supported`: the instances are valid."""
    if not supported:
        return "unsettled"
    return "fails as stated" if margin < -ROUNDING else "holds"


def void(vacuous: bool, supported: bool) -> Verdict:
    """Return the verdict on a statement outside its assumptions; `supported`: its evidence is valid."""
    return "void" if vacuous and supported else "unsettled"


def shown(minimum: Minimum) -> dict[str, Any]:
    """Return a minimum as values for JSON."""
    return {"hessians": minimum.hessians.tolist(), "eta": minimum.eta, "rho": minimum.rho}


def smallest(values: Iterable[float]) -> float:
    """Return the smallest value as a Python float."""
    return float(min(values))
