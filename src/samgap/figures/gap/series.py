"""The series of cells that a figure shows as lines, and their positions on the horizontal axis."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from samgap.figures.gap.gaps import Gaps
from samgap.figures.table import cell_label, groups


@dataclass(frozen=True, eq=False, kw_only=True)
class Series:
    """Cells that differ in x alone, or in settings that follow from x."""

    found: Gaps  # of the whole sweep
    x: str
    axes: dict[str, Any]  # the other settings of these cells
    cells: pd.DataFrame
    published: pd.DataFrame | None  # a table of gaps

    @property
    def label(self) -> str:
        """The other settings as they are typed."""
        return cell_label(self.axes)

    def by_seed(self, protocol: str) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
        """Return the gaps of a protocol by seed and cell, the position of each cell, and the cells in the order of x.

        Cells without such a gap are left out.
        """
        rows, ordered = self.found.by_seed, self.cells.sort_values(self.x)
        if f"{protocol}_gap" in ordered:
            ordered = ordered[ordered[f"{protocol}_gap"].notna()]
        values = matrix(rows[rows["protocol"] == protocol], "gap", self.found.axes, ordered)
        return values, position(self.x, ordered[self.x]), ordered


@dataclass(frozen=True, eq=False)
class Question:
    """The gaps that a verdict is about, and how they are arranged."""

    found: Gaps
    x: str  # column of `found.cells` that orders the cells and is the axis of slopes
    over: list[str] | None = None  # axes with a series for each of their values; None takes those of `series_axes`
    published: pd.DataFrame | None = None  # a table of gaps

    def series(self) -> list[Series]:
        """Return all series."""
        over = self.over
        if over is None:
            over = series_axes(self.found.axes, self.x, equal_parameters=self.found.equal_parameters)
        return [
            Series(found=self.found, x=self.x, axes=axes, cells=cells, published=self.published)
            for axes, cells in groups(self.found.cells, over)
        ]


def series_axes(axes: list[str], x: str, *, equal_parameters: bool) -> list[str]:
    """Return the axes that do not follow from `x`.

    Parameter counts determine the width, and live ones the sparsity too. If every width has its own sparsity
    (pruner.live_params), each of the three determines the other two.
    """
    equal_parameters = equal_parameters and (x.startswith("params") or x == "pruner.sparsity")
    stands = {x} | ({"model.width"} if x.startswith("params") or equal_parameters else set())
    stands |= {"pruner.sparsity"} if x == "params_live" or equal_parameters else set()
    return [axis for axis in axes if axis not in stands]


def published_for(published: pd.DataFrame, axes: Mapping[str, Any], x: str) -> pd.DataFrame:
    """The published rows of a series and, as column "x", their position; none if the series was not published.

    A column with the name of an axis, such as data.label_noise, has the value of each row. Without such a column, or if
    we did not sweep the axis, both must be off: no noise, no sparsity.
    """
    column = "params" if x.startswith("params") else x
    off = (0, "null", "false")
    own = [name for name in map(str, published) if "." in name and name != x]
    if column not in published or any(value not in off for axis, value in axes.items() if axis not in own):
        return published[:0].assign(x=[])
    for name in own:
        published = published[published[name] == axes.get(name, 0)]
    return published.assign(x=published[column])


def position(x: str, values: Any) -> np.ndarray:
    """Positions of cells on the axis of slopes: log10 of parameter counts, values of other axes."""
    numbers = np.asarray(values, dtype=float)
    return np.log10(numbers) if x.startswith("params") else numbers


def matrix(rows: pd.DataFrame, value: str, axes: list[str], cells: pd.DataFrame) -> pd.DataFrame:
    """A column of `rows` by seed (rows) and cell (columns, in the order of `cells`), without incomplete seeds."""
    columns = {}
    for label, cell in cells.iterrows():
        mine = rows
        for axis in axes:
            mine = mine[mine[axis] == cell[axis]]
        columns[label] = mine.set_index("seed")[value]
    return pd.DataFrame(columns).dropna()


def default_x(cells: pd.DataFrame, axes: list[str]) -> str:
    """The default of `draw.x`: the number of parameters, or the first axis with numbers."""
    measures = [axis for axis in axes if pd.api.types.is_numeric_dtype(cells[axis]) and not axis.endswith("seed")]
    return "params_total" if "model.width" in axes or not measures else measures[0]
