"""The arms of a study of the training loss: the runs with one rule of the step and one rho."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from samgap.figures.convergence.curves import RULES, has_stopped
from samgap.figures.output import Judgment

COVERED = ("sgd", "sam_unnormalized")  # rules of the step to which theorem 6 applies; SGD is its case rho = 0


@dataclass(frozen=True, eq=False)
class Arm:
    """The fits of all runs with one rule of the step at one rho, see `curves.fit`."""

    rule: str
    rho: float
    cells: list[pd.DataFrame]  # fits by seed of each cell, in order of size
    curves: list[pd.DataFrame]  # mean curve of each cell
    diverged: int  # number of diverged runs

    @property
    def series(self) -> str:
        """Rule and rho as text."""
        return RULES.get(self.rule, self.rule) + (f" at rho={self.rho:g}" if self.rho else "")

    @property
    def seeds(self) -> int:
        """The smallest number of seeds of a cell."""
        return min((len(runs) for runs in self.cells), default=0)

    @property
    def interpolating(self) -> list[pd.DataFrame]:
        """The cells in which all runs interpolate."""
        return [runs for runs in self.cells if runs["interpolates"].all()]

    @property
    def at_floor(self) -> list[bool]:
        """Whether each cell has stopped at the floor of normalized SAM."""
        return [
            self.rule not in COVERED and bool(runs["interpolates"].all()) and has_stopped(curve["epoch"], curve["loss"])
            for runs, curve in zip(self.cells, self.curves, strict=True)
        ]

    @property
    def problem(self) -> str:
        """The reason why nothing can be tested, or ""."""
        if self.diverged:
            return f"{self.diverged} run(s) diverged, and what is left would be a choice of the best"
        return "" if self.seeds > 1 else "a test needs 2 seeds in every cell, and one has 1"

    @property
    def known(self) -> dict[str, Any]:
        """The fields of `ArmJudgment` that depend on the runs alone."""
        inside = len(self.interpolating)
        return {
            "series": self.series, "seeds": self.seeds, "diverged": self.diverged, "interpolating": inside,
            "others": len(self.cells) - inside,
        }  # fmt: skip


@dataclass(frozen=True)
class ArmJudgment(Judgment):
    """The answer to one question about an `Arm`."""

    claim: str
    seeds: int
    diverged: int  # number of runs
    interpolating: int  # number of cells
    others: int  # number of other cells
