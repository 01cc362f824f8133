"""Draws charts as a matplotlib figure, which is readable in color and in gray."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import Bbox

from samgap import style
from samgap.figures.chart import Axis, Chart, Line
from samgap.files import replace

NOTE = 13  # points; the height of a row of notes
MANY = 30  # a line with more points has about ten markers


def draw(charts: Sequence[Chart], title: str, below: str, *, stacked: bool = False) -> Figure:
    """Return a figure with a panel for each chart, side by side. Each legend is below its panel.

    Args:
        charts: at least one.
        title: text above the panels.
        below: a line in small gray letters below the legends.
        stacked: draw panels above each other instead, with one x axis and one legend; all must have the same lines.
    """
    same_y = len({chart.y for chart in charts}) == 1
    down, across = (len(charts), 1) if stacked else (1, len(charts))
    figure, panels = plt.subplots(down, across, sharex=stacked, sharey=same_y, squeeze=False, layout="constrained")
    rows, notes = 0, max(sum(line.notes for line in chart.lines) for chart in charts)
    for number, (axes, chart) in enumerate(zip(panels.flat, charts, strict=True)):
        for line in chart.lines:
            _line(axes, line)
        if chart.y.unit == "points":
            axes.axhline(0, color="#606060", linewidth=0.8, zorder=1)
        for which, axis in (("x", chart.x), ("y", chart.y)):
            last = number == len(charts) - 1
            _axis(axes, which, axis, labeled=last or not stacked if which == "x" else number == 0 or not same_y)
        axes.margins(x=0.08, y=0 if chart.y.zero else 0.12)  # after the scale, on which it depends
        for row, line in enumerate(line for line in chart.lines if line.notes):
            _notes(axes, line, row)
        if chart.x.unit == "points":
            axes.axvline(0, color="#606060", linewidth=0.8, zorder=1)
        axes.set_title(chart.title, pad=6 + NOTE * notes)
        if last or not stacked:
            rows = max(rows, _legend(axes, chart, wide=not same_y))
    (width, height), font = plt.rcParams["figure.figsize"], plt.rcParams["legend.fontsize"]
    total_width = width * ((1 if same_y else 1.2) * across + 0.3 + 0.4 * stacked)
    panel_height = max(height * (0.7 if stacked else 1), font / 38 * max(len(chart.y.ticks) for chart in charts)) * down
    text_height = font / 47 * rows + font / 24 * len(title.splitlines()) + NOTE / 72 * notes
    figure.set_size_inches(total_width, panel_height + text_height)
    figure.suptitle(title, fontweight="bold")
    figure.supxlabel(below, fontsize=font, color=style.PUBLISHED)
    figure.draw_without_rendering()  # computes the layout and the positions of notes
    for axes in panels.flat:
        hide_overlapping(axes)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as pdf and png, and close it."""
    for ending in (".pdf", ".png"):
        replace(path.with_name(path.name + ending), lambda temporary: figure.savefig(temporary))
        figure.set_layout_engine("none")  # the first save has computed the layout
    plt.close(figure)


def _line(axes: Axes, line: Line) -> None:
    (color, marker), points = line.look, line.points
    long = len(points) > MANY and line.dash is not None
    wide, size = plt.rcParams["lines.linewidth"], line.size * plt.rcParams["lines.markersize"] / 6
    x, y = points["x"] + line.aside, points["y"]
    if line.weighted:
        axes.scatter(
            x, y, s=18 * points["weight"], color=color, marker=marker, alpha=0.25, linewidths=0, label=line.label
        )
        return
    if line.across and line.spreads:
        errors = x - points["low"], points["high"] - x
        axes.errorbar(x, y, xerr=errors, fmt="none", ecolor=color, elinewidth=0.8 * wide, capsize=3)
    elif line.bars and line.spreads:
        errors = y - points["low"], points["high"] - y
        axes.errorbar(x, y, errors, fmt="none", ecolor=color, elinewidth=0.8 * wide, capsize=3)
    elif line.spreads:
        axes.fill_between(x, points["low"], points["high"], color=color, alpha=0.2, linewidth=0)
    axes.plot(
        x, y, color=color, marker=marker, markersize=size, markerfacecolor=color if line.filled else "white",
        markevery=len(points) // 10 if long else None, linestyle="none" if line.dash is None else (0, line.dash or ()),
        linewidth=wide * (0.6 if line.bars and not line.filled else 1),
        label=line.listed or f"_{line.label}",  # a legend omits labels that begin with "_"
        zorder=3 if line.filled else 2.5,
    )  # fmt: skip


def _notes(axes: Axes, line: Line, row: int) -> None:
    # Above the panel, where they cover nothing; one row per line.
    for text, x in zip(line.written, line.points["x"], strict=True):
        if text:
            axes.annotate(
                text, (x, 1), (0, 4 + NOTE * row), xycoords=axes.get_xaxis_transform(), textcoords="offset points",
                color=line.look.color, fontsize="small", ha="center", va="bottom",
            )  # fmt: skip


def hide_overlapping(axes: Axes) -> None:
    """Hide each note that overlaps an earlier one."""
    boxes: list[Bbox] = []
    for text in axes.texts:
        box = text.get_window_extent().padded(2)
        text.set_visible(not any(box.overlaps(other) for other in boxes))
        boxes += [box] * text.get_visible()


def _axis(axes: Axes, which: str, axis: Axis, *, labeled: bool) -> None:
    mpl_axis = axes.xaxis if which == "x" else axes.yaxis
    set_scale = axes.set_xscale if which == "x" else axes.set_yscale
    set_scale(axis.scale, **({"linthresh": 1, "subs": [2, 5]} if axis.scale == "symlog" else {}))
    if axis.ticks:
        values, texts = zip(*axis.ticks, strict=True)
        mpl_axis.set_ticks(values, texts)
        mpl_axis.set_minor_locator(NullLocator())
    elif axis.unit == "parameters":
        low, high = mpl_axis.get_data_interval()
        mpl_axis.set_major_locator(LogLocator(base=10, subs=(1.0, 3.0) if high < 2000 * low else (1.0,)))
        mpl_axis.set_major_formatter(FuncFormatter(lambda value, _: style.compact(value)))
        mpl_axis.set_minor_formatter(NullFormatter())
    elif axis.scale == "symlog":
        mpl_axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if axis.zero:
        axes.set(**{f"{which}lim": (0, None)})
    if labeled:
        mpl_axis.set_label_text(axis.title)


def _legend(axes: Axes, chart: Chart, *, wide: bool) -> int:
    """Draw the legend below the x axis, at the same distance in every figure; return its number of rows."""
    labels = [line.listed for line in chart.lines if line.listed]
    longest = max(map(len, labels), default=0)
    columns = 4 if longest < 15 else 2 if longest < 40 and wide and len(labels) > 4 else 1
    texts = [text for _, text in chart.x.ticks] or [""]
    extra_rows = chart.x.title.count("\n") + max(text.count("\n") for text in texts)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=4.5 + 2.2 * extra_rows, ncols=columns)
    return -(-len(labels) // columns) + 2 * extra_rows
