"""The kinds of figures that show sharpness."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from samgap.figures.chart import Chart, Map
from samgap.figures.kind import Kind
from samgap.figures.output import Study
from samgap.figures.sharpness import charts, study, surfaces
from samgap.figures.table import Table
from samgap.runs.measurements import FOLDER
from samgap.runs.records import METRICS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Sharpness(Kind):
    """Are lambda_max and s_2 smaller at SAM's solutions?"""

    files = (METRICS, FOLDER)

    def study(self, table: Table, root: Path, protocol: str) -> Study:
        """See `study.evaluate`; each rho is a cell."""
        return study.evaluate(table, root, self.settings)

    def charts(self, frame: pd.DataFrame, facts: Mapping[str, Any]) -> list[Chart]:
        """Return charts of lambda_max and s_k over rho."""
        return charts.flatness(frame, self.settings)


class Surfaces(Kind):
    """Is the loss flatter around SAM's solutions?"""

    files = (METRICS, FOLDER)

    def study(self, table: Table, root: Path, protocol: str) -> Study:
        """See `surfaces.evaluate`, which draws SGD and the largest rho."""
        return surfaces.evaluate(table, root, self.settings)

    def draw(self, frame: pd.DataFrame, report: Mapping[str, Any], *, titled: bool = True) -> "Figure":
        """Draw the planes in three dimensions and as contours; Vega-Lite can do neither."""
        from samgap.figures.sharpness.draw_surfaces import draw

        return draw(frame, report, self.settings, titled=titled)

    def charts(self, frame: pd.DataFrame, facts: Mapping[str, Any]) -> list[Map]:
        """Return a map of the loss on a plane through each net."""
        return charts.surfaces(frame)
