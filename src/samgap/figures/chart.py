"""A chart, described once: `picture` draws it for the figure, `report.vega` for the page; W&B gets its points."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from samgap.style import Look, short

Dash = tuple[float, ...]  # lengths of strokes and gaps, in widths of the line
SOLID: Dash = ()
DASHED: Dash = (3.7, 1.6)
DOTTED: Dash = (1, 1.65)
DASHDOT: Dash = (6.4, 1.6, 1, 1.6)
WIDE = 5  # percentage points from which gaps of tenths would not be seen


@dataclass(frozen=True)
class Axis:
    """An axis of a chart."""

    title: str
    name: str  # what it shows, in a word or two
    scale: Literal["linear", "log", "symlog"] = "linear"  # symlog: logarithmic beyond 1 and -1
    unit: Literal["", "parameters", "points"] = ""  # parameters are shown as 45k; percentage points have a line at 0
    ticks: tuple[tuple[float, str], ...] = ()  # all of them, where they are not every reader's own to choose
    zero: bool = False  # begins at 0

    def text(self, value: float) -> str:
        """A value as it is said: "45k parameters", "rho 0.1"."""
        if self.unit == "parameters":
            return f"{short(value)} {self.name}"
        return f"{self.name} {dict(self.ticks).get(value, f'{value:g}')}".replace("\n", ", ")


@dataclass(frozen=True, eq=False)
class Line:
    """Points of one kind, joined or not, with what is known of each: see `points`."""

    label: str
    points: pd.DataFrame
    look: Look  # without a marker where the points are not shown
    dash: Dash | None = SOLID  # None: points alone
    size: float = 6  # of the marker, in points
    filled: bool = True
    bars: bool = False  # low and high are bars instead of a band
    spread: str = ""  # what low and high are
    notes: Literal["", "above", "below"] = ""  # where the notes stand in the chart
    aside: float = 0  # moved so far along x, so that equal lines do not hide each other

    @property
    def weighted(self) -> bool:
        """Whether its points have areas of their own."""
        return bool(self.points["weight"].notna().any())

    @property
    def spreads(self) -> bool:
        """Whether a point has low and high."""
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
        """Of all charts of a study: "training loss: SGD"."""
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
    """Rows as the points of a line: x, y; low and high, nan where there is none; n runs; note; weight.

    Args:
        rows: n is taken from them too.
        x, y: columns.
        half: column of half the distance from low to high, if there is one.
        ends: columns of low and high instead.
        note: a text, or one for each row.
        weight: of each row, to which the area of its point is proportional.
    """
    nothing = pd.Series(np.nan, index=rows.index)
    spread = rows.get(half, nothing)
    low, high = rows.get(ends[0], rows[y] - spread), rows.get(ends[1], rows[y] + spread)
    known = {"x": rows[x], "y": rows[y], "low": low, "high": high, "n": rows.get("n", nothing)}
    return pd.DataFrame(known | {"note": note, "weight": weight}).reset_index(drop=True)


def gap_axis(lines: Sequence[Line]) -> Axis:
    """Percentage points; where there are large and small gaps, logarithmic beyond one point."""
    largest = max((line.points[["y", "low", "high"]].abs().max().max() for line in lines), default=0)
    if largest > WIDE:
        return Axis("SAM minus SGD (percentage points,\nlogarithmic beyond 1)", "gap", "symlog", "points")
    return Axis("SAM minus SGD (percentage points)", "gap", unit="points")


def words(chart: Chart, line: Line) -> list[str]:
    """What is said of each point, if it is one: its numbers, its interval, the number of runs, its note."""
    texts = []
    for point in line.points.to_dict("records"):
        text = f"{chart.x.text(point['x'])}: {point['y']:.4g}"
        if pd.notna(point["low"]):
            text += f" [{point['low']:.4g}, {point['high']:.4g}] ({line.spread})"
        if pd.notna(point["n"]):
            text += f", n = {point['n']:.0f}"
        if pd.notna(point["weight"]):
            text += f", {point['weight']:.0f} of them"
        text += f", {point['note']}" if point["note"] else ""
        texts.append(text if pd.notna(point["y"]) else "")
    return texts
