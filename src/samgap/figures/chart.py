"""Describes charts independently of how they are drawn: by `picture` (matplotlib), `report.vega` (page) or W&B."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from samgap.style import Look, compact

Dash = tuple[float, ...]  # lengths of strokes and gaps, in widths of the line
SOLID: Dash = ()
DASHED: Dash = (3.7, 1.6)
DOTTED: Dash = (1, 1.65)
DASHDOT: Dash = (6.4, 1.6, 1, 1.6)
WIDE = 5  # percentage points; with larger gaps, differences of tenths would be invisible on a linear axis


@dataclass(frozen=True)
class Axis:
    """An axis of a chart."""

    title: str
    name: str  # short name of the quantity
    scale: Literal["linear", "log", "symlog"] = "linear"  # symlog: logarithmic beyond 1 and -1
    unit: Literal["", "parameters", "points"] = ""  # parameters are shown as 45k; percentage points have a line at 0
    ticks: tuple[tuple[float, str], ...] = ()  # value and text of every tick; empty = the drawing library chooses
    zero: bool = False  # whether the axis begins at 0

    def text(self, value: float) -> str:
        """Return a value with the name of its quantity: "45k parameters", "rho 0.1"."""
        if self.unit == "parameters":
            return f"{compact(value)} {self.name}"
        return f"{self.name} {dict(self.ticks).get(value, f'{value:g}')}".replace("\n", ", ")


@dataclass(frozen=True, eq=False)
class Line:
    """A set of points in one style, with or without a line. The function `points` makes the points."""

    label: str
    points: pd.DataFrame
    look: Look  # an empty marker hides the points
    dash: Dash | None = SOLID  # None: points alone
    size: float = 6  # of the marker, in points
    filled: bool = True
    bars: bool = False  # draw low and high as bars, not as a band
    across: bool = False  # low and high are of x, drawn as bars
    spread: str = ""  # what low and high mean, such as "± s.e."
    notes: bool = False  # whether to write the notes above the panel
    legend: str | None = None  # text in the legend; "" = none, None = the label
    aside: float = 0  # shift along x, so that lines do not cover each other

    @property
    def weighted(self) -> bool:
        """Whether weights set the areas of the points."""
        return bool(self.points["weight"].notna().any())

    @property
    def listed(self) -> str:
        """The text in the legend, or ""."""
        return self.label if self.legend is None else self.legend

    @property
    def written(self) -> "pd.Series[Any]":
        """The notes to write, as texts; a note that equals the one before it is left out."""
        notes = self.points["note"]
        return notes.where(notes != notes.shift(), "") if self.notes else notes.map(lambda _: "")

    @property
    def spreads(self) -> bool:
        """Whether any point has low and high."""
        return bool(self.points["low"].notna().any())


@dataclass(frozen=True, eq=False)
class Chart:
    """Lines over one pair of axes."""

    title: str
    x: Axis
    y: Axis
    lines: Sequence[Line]

    @property
    def name(self) -> str:
        """The name of the chart among all charts of a study, such as "training loss: SGD"."""
        return f"{self.y.name}: {self.title}"


@dataclass(frozen=True, eq=False)
class Map:
    """Losses on a plane: columns x, y, loss."""

    title: str
    x: str
    y: str
    points: pd.DataFrame


def points(
    rows: pd.DataFrame, x: str, y: str, half: str = "", *,
    ends: tuple[str, str] = ("", ""), note: Any = "", weight: Any = None,
) -> pd.DataFrame:  # fmt: skip
    """Return the points of a line, with columns x, y, low, high, n (runs), note and weight; unknown numbers are nan.

    Args:
        rows: one for each point; column n is used if there is one.
        x, y: columns.
        half: column of half the distance from low to high, or "".
        ends: columns of low and high, used instead of `half` if they exist.
        note: a text, or one for each row.
        weight: None, or a number for each row; the area of a point is proportional to its weight.
    """
    unknown = pd.Series(np.nan, index=rows.index)
    half_width = rows.get(half, unknown)
    low, high = rows.get(ends[0], rows[y] - half_width), rows.get(ends[1], rows[y] + half_width)
    columns = {"x": rows[x], "y": rows[y], "low": low, "high": high, "n": rows.get("n", unknown)}
    return pd.DataFrame(columns | {"note": note, "weight": weight}).reset_index(drop=True)


def gap_axis(lines: Sequence[Line]) -> Axis:
    """Return the axis for gaps in percentage points; if a gap exceeds `WIDE`, it is logarithmic beyond 1."""
    values = [line.points[["x" if line.across else "y", "low", "high"]] for line in lines]
    largest = max((points.abs().max().max() for points in values), default=0)
    if largest > WIDE:
        return Axis("SAM minus SGD (percentage points,\nlogarithmic beyond 1)", "gap", "symlog", "points")
    return Axis("SAM minus SGD (percentage points)", "gap", unit="points")


def point_labels(chart: Chart, line: Line) -> list[str]:
    """Return a text for each point, with numbers, interval, number of runs and note, or "" if y is nan."""
    texts = []
    for point in line.points.to_dict("records"):
        place, value = (chart.y.text(point["y"]), point["x"]) if line.across else (chart.x.text(point["x"]), point["y"])
        text = f"{place}: {value:.4g}"
        if pd.notna(point["low"]):
            text += f" [{point['low']:.4g}, {point['high']:.4g}] ({line.spread})"
        if pd.notna(point["n"]):
            text += f", n = {point['n']:.0f}"
        if pd.notna(point["weight"]):
            text += f", {point['weight']:.0f} of them"
        text += f", {point['note']}" if point["note"] else ""
        texts.append(text if pd.notna(point["y"]) else "")
    return texts
