"""The kind of figure that shows curves of the training loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from samgap.figures.chart import Chart
from samgap.figures.convergence import charts, study
from samgap.figures.kind import Kind
from samgap.figures.output import Judgment, Study
from samgap.figures.table import Table
from samgap.rules import Rule, number
from samgap.runs.records import METRICS


@dataclass(frozen=True, kw_only=True)
class Convergence(Kind):
    """Does the rate of the training loss grow with size, and is it linear where nets interpolate?"""

    interpolates_from: float | None = None
    linear_from: float = 0.8

    RULES: ClassVar[Mapping[str, Rule]] = {
        "interpolates_from": number("a number", lambda _: True).or_null(),
        "linear_from": number("a number above 0 and below 1", lambda value: 0 < value < 1),
    }
    files = (METRICS,)

    def study(self, table: Table, root: Path, protocol: str) -> Study:
        """See `study.evaluate`; each rho is a series."""
        return study.evaluate(table, root, self.settings)

    def judge_again(self, report: Mapping[str, Any], frame: pd.DataFrame) -> Sequence[Judgment]:
        """See `study.judge_report`; if runs diverged, raise a SettingError, since their rules are not kept."""
        if report["runs"]["diverged"]:
            return super().judge_again(report, frame)
        return study.judge_report(report, frame, self.settings)

    def charts(self, frame: pd.DataFrame, facts: Mapping[str, Any]) -> list[Chart]:
        """Return charts of the loss over epochs."""
        return charts.convergence(frame, facts, self.settings)
