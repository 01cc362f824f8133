"""The figures of sharpness."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from samgap.figures.chart import Chart, Map
from samgap.figures.kind import Kind
from samgap.figures.sharpness import charts, study, surfaces
from samgap.runs.measurements import FOLDER
from samgap.runs.records import METRICS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Sharpness(Kind):
    """Are lambda_max and s_2 smaller where SAM ends?"""

    files = (METRICS, FOLDER)

    def evaluate(self, root: Path, name: str, scale: str, protocol: str) -> study.Flatness:
        """See `study.evaluate`; every rho is a cell of its own."""
        return study.evaluate(root, name, scale, self.settings)

    def charts(self, frame: pd.DataFrame, facts: Mapping[str, Any]) -> list[Chart]:
        """lambda_max and s_k over rho."""
        return charts.flatness(frame, self.settings)


class Surfaces(Kind):
    """Is the loss around the solution flatter where SAM ends?"""

    files = (METRICS, FOLDER)

    def evaluate(self, root: Path, name: str, scale: str, protocol: str) -> surfaces.Surfaces:
        """See `surfaces.evaluate`; the largest rho is drawn."""
        return surfaces.evaluate(root, name, scale, self.settings)

    def draw(self, study: Any, charts: Sequence[Any]) -> "Figure":
        """The same planes in three dimensions and as contours, which Vega-Lite has neither of."""
        from samgap.figures.sharpness.draw_surfaces import draw

        return draw(study, self.settings)

    def charts(self, frame: pd.DataFrame, facts: Mapping[str, Any]) -> list[Map]:
        """A plane through each net."""
        return charts.surfaces(frame)
