"""The figures of gaps: one question each, asked of the same numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from samgap.errors import SettingError, said
from samgap.figures import published as tables
from samgap.figures.chart import Chart
from samgap.figures.gap import best_rho, charts, choices, contrast, doses, study, trend
from samgap.figures.gap.cells import UNBIASED, Protocol
from samgap.figures.gap.gaps import Gaps
from samgap.figures.gap.study import Study
from samgap.figures.kind import Kind
from samgap.figures.output import Judgment


@dataclass(frozen=True, kw_only=True)
class Gap(Kind):
    """Does the gap grow with the number of parameters, or with what x says?"""

    replicates: bool = False
    x: str | None = None
    series: list[str] | None = None
    fixed_rho: float | None = None
    rule: Protocol | None = None
    registered: Mapping[str, Any] | None = None  # see `runs.registered`

    main = f"gap: {charts.GAP}"

    def __post_init__(self) -> None:
        if self.rule is not None and self.rule not in UNBIASED:
            raise SettingError(f"draw.rule must be null, holdout, loso or quadratic, got {said(self.rule)}.")

    def evaluate(self, root: Path, name: str, scale: str, protocol: str) -> Study:
        """See `study.evaluate`."""
        return study.evaluate(root, name, scale, self.settings, protocol, self.verdicts)

    def verdicts(
        self, found: Gaps, x: str, over: list[str] | None, published: pd.DataFrame | None
    ) -> Sequence[Judgment]:
        """The question: see `trend.verdicts`."""
        return trend.verdicts(found, x, over, published)

    def judge_again(self, report: Mapping[str, Any], frame: pd.DataFrame) -> Sequence[Judgment]:
        """See `study.kept`."""
        return self.verdicts(*study.kept(report, self.settings))

    def charts(self, frame: pd.DataFrame, facts: Mapping[str, Any]) -> list[Chart]:
        """Gap and accuracies."""
        return charts.gaps(frame, facts, self.settings)


class Contrast(Gap):
    """Does the gap grow more in one series than in another?"""

    def verdicts(
        self, found: Gaps, x: str, over: list[str] | None, published: pd.DataFrame | None
    ) -> Sequence[Judgment]:
        """See `contrast.verdicts`."""
        return contrast.verdicts(found, x, over, published)


class Doses(Gap):
    """Does the gap grow the more with size, the larger a dose is?"""

    def verdicts(
        self, found: Gaps, x: str, over: list[str] | None, published: pd.DataFrame | None
    ) -> Sequence[Judgment]:
        """See `doses.verdicts`."""
        return doses.verdicts(found, x, over, published)

    def charts(self, frame: pd.DataFrame, facts: Mapping[str, Any]) -> list[Chart]:
        """Gap and accuracies, and the slope over the dose."""
        return [*super().charts(frame, facts), charts.doses(facts, self.settings)]


class Choices(Gap):
    """Which of two choices that the paper leaves open fits the published accuracies?"""

    def verdicts(
        self, found: Gaps, x: str, over: list[str] | None, published: pd.DataFrame | None
    ) -> Sequence[Judgment]:
        """See `choices.verdicts`."""
        return choices.verdicts(found, x, over, published)

    def charts(self, frame: pd.DataFrame, facts: Mapping[str, Any]) -> list[Chart]:
        """Gap and accuracies, these beside the published of the same rho."""
        gap, accuracies = super().charts(frame, facts)
        theirs = choices.same_sizes(tables.load(str(self.published)), frame, facts["fixed_rho"])
        return [gap, charts.beside(accuracies, theirs, facts["fixed_rho"])]


class BestRho(Gap):
    """Does the best rho grow with the number of parameters?"""

    main = f"rho: {charts.BEST}"

    def verdicts(
        self, found: Gaps, x: str, over: list[str] | None, published: pd.DataFrame | None
    ) -> Sequence[Judgment]:
        """See `best_rho.verdicts`."""
        return best_rho.verdicts(found, x, over, published)

    def judge_again(self, report: Mapping[str, Any], frame: pd.DataFrame) -> Sequence[Judgment]:
        """The best rhos of single seeds are not kept."""
        return Kind.judge_again(self, report, frame)

    def charts(self, frame: pd.DataFrame, facts: Mapping[str, Any]) -> list[Chart]:
        """The gap over rho, and the best rho over size."""
        return charts.best_rho(frame, facts, self.settings)
