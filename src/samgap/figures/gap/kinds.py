"""The kinds of figures of gaps: each asks another question about the same numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from samgap.figures import published as tables
from samgap.figures.chart import Chart
from samgap.figures.gap import best_rho, charts, choices, contrast, doses, study, trend
from samgap.figures.gap.cells import UNBIASED, Protocol
from samgap.figures.gap.series import Question
from samgap.figures.kind import Kind
from samgap.figures.output import Judgment, Study
from samgap.figures.table import Table
from samgap.rules import Rule, number, one_of


@dataclass(frozen=True, kw_only=True)
class Gap(Kind):
    """Does the gap grow with the number of parameters, or with the axis `x`?"""

    replicates: bool = False
    x: str | None = None
    series: list[str] | None = None
    fixed_rho: float | None = None
    rule: Protocol | None = None
    registered: Mapping[str, Any] | None = None  # see `runs.registered`

    RULES: ClassVar[Mapping[str, Rule]] = {
        "rule": one_of(None, *UNBIASED, expected="null, holdout, loso or quadratic"),
        "fixed_rho": number("a number", lambda _: True).or_null(" for the median of those swept"),
    }
    main = f"gap: {charts.GAP}"

    def study(self, table: Table, root: Path, protocol: str) -> Study:
        """See `study.evaluate`."""
        return study.evaluate(table, self.settings, protocol, self.verdicts)

    @staticmethod
    def verdicts(question: Question) -> Sequence[Judgment]:
        """Return the answers to the question of this kind of figure."""
        return trend.verdicts(question)

    def judge_again(self, report: Mapping[str, Any], frame: pd.DataFrame) -> Sequence[Judgment]:
        """See `study.from_report`."""
        return self.verdicts(study.from_report(report, self.settings))

    def charts(self, frame: pd.DataFrame, facts: Mapping[str, Any]) -> list[Chart]:
        """Return charts of the gap, of the accuracies, and of the share of failed runs if any failed."""
        drawn = frame, facts, self.settings
        return [*charts.gaps(*drawn), *charts.lost(*drawn)]


class Contrast(Gap):
    """Does the gap grow more in one series than in another?"""

    verdicts = staticmethod(contrast.verdicts)


class Doses(Gap):
    """Does the gap grow faster with size if a dose is larger?"""

    verdicts = staticmethod(doses.verdicts)

    def charts(self, frame: pd.DataFrame, facts: Mapping[str, Any]) -> list[Chart]:
        """Return charts of the gap, of the accuracies, and of the slope over the dose."""
        return [*super().charts(frame, facts), charts.doses(facts, self.settings)]


class Choices(Gap):
    """Which of two choices that the paper leaves open fits the published accuracies?"""

    verdicts = staticmethod(choices.verdicts)

    def charts(self, frame: pd.DataFrame, facts: Mapping[str, Any]) -> list[Chart]:
        """Return charts of the gap and of the accuracies, with the published accuracies at the same rho."""
        gap, accuracies, *lost = super().charts(frame, facts)
        published_rows = choices.same_sizes(tables.load(str(self.published)), frame, facts["fixed_rho"])
        return [gap, charts.beside(accuracies, published_rows, facts["fixed_rho"]), *lost]


class BestRho(Gap):
    """Does the best rho grow with the number of parameters?"""

    main = f"rho: {charts.BEST}"
    verdicts = staticmethod(best_rho.verdicts)

    def judge_again(self, report: Mapping[str, Any], frame: pd.DataFrame) -> Sequence[Judgment]:
        """Raise a SettingError, since the best rhos of single seeds are not kept."""
        return Kind.judge_again(self, report, frame)

    def charts(self, frame: pd.DataFrame, facts: Mapping[str, Any]) -> list[Chart]:
        """Return charts of the gap over rho, and of the best rho over size."""
        return charts.best_rho(frame, facts, self.settings)
