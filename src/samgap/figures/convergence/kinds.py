"""The figures of curves."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from samgap.figures.convergence import plots, study
from samgap.figures.kind import Kind
from samgap.figures.plot import Plot
from samgap.runs.records import METRICS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Convergence(Kind):
    """Does the training loss fall at a linear rate where nets interpolate?"""

    interpolates_from: float | None = None

    files = (METRICS,)

    def evaluate(self, root: Path, name: str, scale: str, protocol: str) -> study.Convergence:
        """See `study.evaluate`; every rho is a series of its own."""
        return study.evaluate(root, name, scale, self.settings)

    def draw(self, study: Any) -> "Figure":
        """Loss over epochs."""
        from samgap.figures.convergence.draw import draw

        return draw(study, self.settings)

    def plots(self, frame: pd.DataFrame) -> list[Plot]:
        """The same, as points."""
        return plots.convergence(frame, self.settings)
