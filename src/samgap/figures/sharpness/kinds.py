"""The figures of sharpness."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from samgap.figures.kind import Kind
from samgap.figures.plot import Plot
from samgap.figures.sharpness import plots, study, surfaces
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

    def draw(self, study: Any) -> "Figure":
        """lambda_max and s_2 over rho."""
        from samgap.figures.sharpness.draw import draw

        return draw(study, self.settings)

    def plots(self, frame: pd.DataFrame) -> list[Plot]:
        """The same, as points."""
        return plots.flatness(frame, self.settings)


class Surfaces(Kind):
    """Is the loss around the solution flatter where SAM ends?"""

    files = (METRICS, FOLDER)

    def evaluate(self, root: Path, name: str, scale: str, protocol: str) -> surfaces.Surfaces:
        """See `surfaces.evaluate`; the largest rho is drawn."""
        return surfaces.evaluate(root, name, scale, self.settings)

    def draw(self, study: Any) -> "Figure":
        """A plane through each net."""
        from samgap.figures.sharpness.draw_surfaces import draw

        return draw(study, self.settings)

    def plots(self, frame: pd.DataFrame) -> list[Plot]:
        """The same, as points."""
        return plots.surfaces(frame, self.settings)
