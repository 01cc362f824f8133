"""Which cells make a line, and what stands on the horizontal axis."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from samgap.figures.gap.gaps import Gaps


def series(found: Gaps, x: str, over: list[str] | None) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """(axes, cells) of each series.

    Args:
        found: gaps.
        x: what stands on the horizontal axis.
        over: a series for each of the values of these axes; None takes all axes for which `x` does not stand.
            Parameter counts stand for the width, and live ones for the sparsity too. If every width has a sparsity
            of its own (pruner.live_params), each of the three stands for the other two.
    """
    if over is None:
        over = series_axes(found.axes, x, equal_parameters=found.equal_parameters)
    if not over:
        return [({}, found.cells)]
    groups = found.cells.groupby(over, sort=False)
    return [(dict(zip(over, values, strict=True)), cells) for values, cells in groups]


def series_axes(axes: list[str], x: str, *, equal_parameters: bool) -> list[str]:
    """The axes for which `x` does not stand, see `series`."""
    equal_parameters = equal_parameters and (x.startswith("params") or x == "pruner.sparsity")
    stands = {x} | ({"model.width"} if x.startswith("params") or equal_parameters else set())
    stands |= {"pruner.sparsity"} if x == "params_live" or equal_parameters else set()
    return [axis for axis in axes if axis not in stands]


def collapsed_axes(found: Gaps, axes: Mapping[str, Any], x: str) -> dict[str, Any]:
    """The axes of a series, with those that its cells differ in without being told apart by them as "several"."""
    hidden = {*found.axes} - {*axes, x, "model.width"}
    return dict(axes) | {axis: "several" for axis in hidden if found.cells[axis].nunique() > 1}


def published_for(published: pd.DataFrame, axes: Mapping[str, Any], x: str) -> pd.DataFrame:
    """The published rows of a series and, as column "x", where they stand; none where nobody published it.

    A column that is named like an axis, such as data.label_noise, says what its rows are for; where there is none, or
    we did not sweep it, both must be off: no noise, no sparsity.
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
    """Where cells stand on the slope's axis: log10 of parameter counts, other axes as they are."""
    numbers = np.asarray(values, dtype=float)
    return np.log10(numbers) if x.startswith("params") else numbers


def matrix(rows: pd.DataFrame, value: str, axes: list[str], cells: pd.DataFrame) -> pd.DataFrame:
    """A column of `rows` by seed (rows) and cell (columns, in the order of `cells`); seeds that lack a cell are left
    out.
    """
    columns = {}
    for label, cell in cells.iterrows():
        mine = rows
        for axis in axes:
            mine = mine[mine[axis] == cell[axis]]
        columns[label] = mine.set_index("seed")[value]
    return pd.DataFrame(columns).dropna()


def by_seed(found: Gaps, cells: pd.DataFrame, x: str, protocol: str) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Gaps of a protocol by seed and cell, where the cells stand, and these cells, in the order of `x`; those that have
    no such gap are left out.
    """
    mine = found.by_seed[found.by_seed["protocol"] == protocol]
    ordered = cells.sort_values(x)
    if f"{protocol}_gap" in ordered:
        ordered = ordered[ordered[f"{protocol}_gap"].notna()]
    return matrix(mine, "gap", found.axes, ordered), position(x, ordered[x]), ordered


def default_x(cells: pd.DataFrame, axes: list[str]) -> str:
    """What stands on the horizontal axis unless `draw.x` says it: parameters, or the first axis that is a measure."""
    measures = [axis for axis in axes if pd.api.types.is_numeric_dtype(cells[axis]) and not axis.endswith("seed")]
    return "params_total" if "model.width" in axes or not measures else measures[0]
