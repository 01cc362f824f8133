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

    gaps: Gaps  # of the whole sweep
    x: str  # column of `cells` on the horizontal axis
    axes: dict[str, Any]  # the other settings of these cells
    cells: pd.DataFrame
    published: pd.DataFrame | None  # a table of gaps

    @property
    def label(self) -> str:
        """The other settings as text, such as "pruner.sparsity=0.5", or ""."""
        return cell_label(self.axes)

    def by_seed(self, protocol: str) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
        """Return gaps (seeds, cells) of a protocol, positions (cells,) and the cells' rows, all in the order of x.

        Cells without a gap by this protocol are left out.
        """
        rows, ordered = self.gaps.by_seed, self.cells.sort_values(self.x)
        if f"{protocol}_gap" in ordered:
            ordered = ordered[ordered[f"{protocol}_gap"].notna()]
        values = matrix(rows[rows["protocol"] == protocol], "gap", self.gaps.axes, ordered)
        return values, position(self.x, ordered[self.x]), ordered


@dataclass(frozen=True, eq=False)
class Question:
    """The gaps that a verdict is about, and their arrangement in series."""

    gaps: Gaps
    x: str  # column of `gaps.cells` that orders the cells and is the axis of slopes
    over: list[str] | None = None  # axes with a series for each of their values; None means `series_axes`
    published: pd.DataFrame | None = None  # a table of gaps

    def series(self) -> list[Series]:
        """Return all series."""
        over = self.over
        if over is None:
            over = series_axes(self.gaps.axes, self.x, equal_parameters=self.gaps.equal_parameters)
        return [
            Series(gaps=self.gaps, x=self.x, axes=axes, cells=cells, published=self.published)
            for axes, cells in groups(self.gaps.cells, over)
        ]


def series_axes(axes: list[str], x: str, *, equal_parameters: bool) -> list[str]:
    """Return the axes that do not follow from `x`.

    Parameter counts determine the width, and live ones the sparsity too. If every width has its own sparsity
    (pruner.live_params), each of the three determines the other two.
    """
    equal_parameters = equal_parameters and (x.startswith("params") or x == "pruner.sparsity")
    implied = {x} | ({"model.width"} if x.startswith("params") or equal_parameters else set())
    implied |= {"pruner.sparsity"} if x == "params_live" or equal_parameters else set()
    return [axis for axis in axes if axis not in implied]


def published_for(published: pd.DataFrame, axes: Mapping[str, Any], x: str) -> pd.DataFrame:
    """Return the published rows of a series, with their place on the axis as column "x"; no rows if not published.

    A column with the name of an axis, such as data.label_noise, has the value of each row. If the table lacks this
    column or our sweep lacks the axis, only a value of "off" matches: no noise, no sparsity.
    """
    column = "params" if x.startswith("params") else "width" if x == "model.width" else x
    off = (0, "null", "false")
    axis_columns = [name for name in map(str, published) if "." in name and name != x]
    if column not in published or any(value not in off for axis, value in axes.items() if axis not in axis_columns):
        return published[:0].assign(x=[])
    for name in axis_columns:
        published = published[published[name] == axes.get(name, 0)]
    return published.assign(x=published[column])


def position(x: str, values: Any) -> np.ndarray:
    """Return the positions (cells,) on the axis of slopes: log10 of parameter counts, values of other axes."""
    numbers = np.asarray(values, dtype=float)
    return np.log10(numbers) if x.startswith("params") else numbers


def matrix(rows: pd.DataFrame, value: str, axes: list[str], cells: pd.DataFrame) -> pd.DataFrame:
    """Return a column of `rows` as a frame (seeds, cells) in the order of `cells`, without incomplete seeds."""
    columns = {}
    for label, cell in cells.iterrows():
        cell_rows = rows
        for axis in axes:
            cell_rows = cell_rows[cell_rows[axis] == cell[axis]]
        columns[label] = cell_rows.set_index("seed")[value]
    return pd.DataFrame(columns).dropna()


def default_x(cells: pd.DataFrame, axes: list[str]) -> str:
    """Return the default of `draw.x`: the number of parameters, or the first axis with numbers."""
    numeric = [axis for axis in axes if pd.api.types.is_numeric_dtype(cells[axis]) and not axis.endswith("seed")]
    return "params_total" if "model.width" in axes or not numeric else numeric[0]
