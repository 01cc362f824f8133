"""Describes a chart once: `picture` draws it with matplotlib, `report.vega` on the page; W&B gets its points."""

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
WIDE = 5  # percentage points; beside larger gaps, a linear axis would hide gaps of tenths


@dataclass(frozen=True)
class Axis:
    """An axis of a chart."""

    title: str
    name: str  # of the quantity, in a word or two
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
    """Points of one kind, joined by a line or not. The function `points` makes them."""

    label: str
    points: pd.DataFrame
    look: Look  # an empty marker hides the points
    dash: Dash | None = SOLID  # None: points alone
    size: float = 6  # of the marker, in points
    filled: bool = True
    bars: bool = False  # draw low and high as bars, not as a band
    across: bool = False  # low and high are of x, drawn as bars
    spread: str = ""  # what low and high mean, such as "± s.e."
    notes: bool = False  # whether to write the notes in the chart, above its points
    legend: str | None = None  # its text in the legend; "" = it is not there, None = the label
    aside: float = 0  # shift along x, so that equal lines do not hide each other

    @property
    def weighted(self) -> bool:
        """Whether weights set the areas of the points."""
        return bool(self.points["weight"].notna().any())

    @property
    def listed(self) -> str:
        """Its text in the legend, or ""."""
        return self.label if self.legend is None else self.legend

    @property
    def written(self) -> "pd.Series[Any]":
        """The notes to write in the chart: a note that repeats the one before it is left out."""
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
        weight: one for each row; the area of a point is proportional to its weight.
    """
    nothing = pd.Series(np.nan, index=rows.index)
    spread = rows.get(half, nothing)
    low, high = rows.get(ends[0], rows[y] - spread), rows.get(ends[1], rows[y] + spread)
    known = {"x": rows[x], "y": rows[y], "low": low, "high": high, "n": rows.get("n", nothing)}
    return pd.DataFrame(known | {"note": note, "weight": weight}).reset_index(drop=True)


def gap_axis(lines: Sequence[Line]) -> Axis:
    """Return the axis for gaps in percentage points; with a gap above `WIDE`, it is logarithmic beyond 1."""
    of = [line.points[["x" if line.across else "y", "low", "high"]] for line in lines]
    largest = max((points.abs().max().max() for points in of), default=0)
    if largest > WIDE:
        return Axis("SAM minus SGD (percentage points,\nlogarithmic beyond 1)", "gap", "symlog", "points")
    return Axis("SAM minus SGD (percentage points)", "gap", unit="points")


def point_labels(chart: Chart, line: Line) -> list[str]:
    """Return a text for each point: numbers, interval, number of runs and note. It is empty if y is nan."""
    texts = []
    for point in line.points.to_dict("records"):
        here, there = (chart.y.text(point["y"]), point["x"]) if line.across else (chart.x.text(point["x"]), point["y"])
        text = f"{here}: {there:.4g}"
        if pd.notna(point["low"]):
            text += f" [{point['low']:.4g}, {point['high']:.4g}] ({line.spread})"
        if pd.notna(point["n"]):
            text += f", n = {point['n']:.0f}"
        if pd.notna(point["weight"]):
            text += f", {point['weight']:.0f} of them"
        text += f", {point['note']}" if point["note"] else ""
        texts.append(text if pd.notna(point["y"]) else "")
    return texts
