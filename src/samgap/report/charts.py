"""A plot as an interactive chart: Vega-Lite, made by altair, drawn by the script that the page brings along."""

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from samgap import style
from samgap.figures.plot import Plot

HEIGHT = 320
PADDING = {"left": 5, "right": 20, "top": 5, "bottom": 5}
SHAPES = {"o": "circle", "^": "triangle-up", "v": "triangle-down", "P": "cross", "D": "diamond", "*": "stroke",
          "s": "square"}  # fmt: skip
DASHES = [[1, 0], [6, 3], [2, 2]]  # ours drawn, ours otherwise, published
COUNTS = (
    "datum.value >= 1e9 ? format(datum.value / 1e9, '.3~g') + 'B' : datum.value >= 1e6 ? format(datum.value / 1e6, "
    "'.3~g') + 'M' : datum.value >= 1e3 ? format(datum.value / 1e3, '.3~g') + 'k' : format(datum.value, '~g')"
)


def spec(plot: Plot) -> dict[str, Any]:
    """The chart as plain values; as wide as its place on the page."""
    chart = _map(plot) if plot.kind == "map" else _lines(plot)
    values: dict[str, Any] = (
        chart.properties(
            width="container", height=HEIGHT, background="transparent", description=plot.title, padding=PADDING
        )
        .configure_axis(labelFontSize=12, titleFontSize=12, grid=True, gridColor="#E4E4E4")
        .configure_legend(labelFontSize=12, labelLimit=0, symbolSize=90)
        .configure_view(stroke=None)
        .to_dict()
    )
    return values


def _lines(plot: Plot) -> Any:
    points = plot.points.assign(told=told(plot)).reset_index(drop=True)
    names = [*dict.fromkeys(points["series"])]
    colors, shapes, dashes = zip(*_looks(points, names), strict=True)
    many = len(points) > 20 * len(names)  # curves; their intervals make a band, those of few points are bars
    base = alt.Chart(alt.Data(values=points.astype(object).where(points.notna(), None).to_dict("records")))

    def looks(values: tuple[Any, ...]) -> alt.Scale:
        return alt.Scale(domain=names, range=[*values])

    legend = alt.Legend(title=None, orient="bottom", columns=1, symbolStrokeWidth=0, symbolOpacity=1)
    picked = alt.selection_point(fields=["series"], bind="legend", name="picked")
    shown = alt.condition(picked, alt.value(1.0), alt.value(0.12))
    spread = alt.condition(picked, alt.value(0.15 if many else 0.6), alt.value(0.03))
    color = alt.Color("series:N", scale=looks(colors), legend=legend)
    shape = alt.Shape("series:N", scale=looks(shapes), legend=legend)
    dash = alt.StrokeDash("series:N", scale=looks(dashes), legend=legend)
    x_scale = alt.Scale(type="log" if plot.log_x else "linear", nice=False, padding=20)
    ticks = alt.Axis(labelExpr=COUNTS, labelSeparation=8, tickCount=6) if "parameters" in plot.x else alt.Axis()
    x = alt.X("x:Q", title=plot.x, scale=x_scale, axis=ticks)
    gap = plot.y.startswith("SAM minus SGD")
    # Where a value or an interval reaches 0, a logarithmic axis would leave it out.
    log = plot.log_y and np.nanmin(points[["y", "low"]].to_numpy(dtype=float)) > 0
    y_scale = alt.Scale(type="log") if log else alt.Scale(type="linear", zero=False)
    title = plot.y
    if (
        gap and np.nanmax(np.abs(points[["y", "low", "high"]].to_numpy(dtype=float))) > style.WIDE
    ):  # tenths are to be seen beside tens
        y_scale, title = alt.Scale(type="symlog", constant=1), "percentage points (logarithmic beyond 1)"
    y, low = (alt.Y(f"{name}:Q", title=title, scale=y_scale) for name in ("y", "low"))
    layers: list[Any] = []
    if points["low"].notna().any():
        bars = base.transform_filter("isValid(datum.low) && isValid(datum.high)")
        marks = bars.mark_area() if many else bars.mark_rule(strokeWidth=1.5)
        layers.append(marks.encode(x, low, alt.Y2("high:Q"), color=color, opacity=spread))
    if gap:
        layers.append(alt.Chart(alt.Data(values=[{}])).mark_rule(color="#606060").encode(y=alt.datum(0)))
    layers.append(base.mark_line(strokeWidth=2).encode(x, y, color=color, strokeDash=dash, opacity=shown))
    tooltip = [alt.Tooltip("series:N", title="series"), alt.Tooltip("told:N", title="point")]
    dots = base.mark_point(filled=True, size=25 if many else 80)
    dots = dots.encode(x, y, color=color, shape=shape, opacity=shown, tooltip=tooltip, description="told:N")
    return alt.layer(*layers, dots.add_params(picked))


def told(plot: Plot) -> "pd.Series[str]":
    """What is said of each point: its numbers, its interval, the number of runs, what chose them."""
    points, name = plot.points, plot.x.split(",")[0]
    texts = []
    for _, point in points.iterrows():
        x = style.short(point["x"]) if "parameters" in name else f"{point['x']:g}"
        text = f"{x} {name}" if "parameters" in name else f"{name} {x}"
        text += f": {point['y']:.4g}"
        if pd.notna(point["low"]):
            text += f" [{point['low']:.4g}, {point['high']:.4g}] ({plot.band})"
        if pd.notna(point["n"]):
            text += f", n = {point['n']:.0f}"
        texts.append(text + (f", {point['note']}" if point["note"] else ""))
    return pd.Series(texts, index=points.index)


def _looks(points: pd.DataFrame, names: list[str]) -> list[tuple[str, str, list[int]]]:
    """(color, shape, dash) of each series: no two alike, in gray or without color vision either; published are gray."""
    who = points.drop_duplicates("series").set_index("series")["who"]
    looks, mine, theirs = [], 0, 0
    for name in names:
        if who[name] == "published":
            looks.append((style.PUBLISHED, [*SHAPES.values()][theirs % 7], DASHES[2]))
            theirs += 1
        else:
            look = style.SERIES[mine % len(style.SERIES)]
            looks.append((look.color, SHAPES[look.marker], DASHES[mine % 2]))
            mine += 1
    return looks


def _map(plot: Plot) -> Any:
    # The loss grows by decades, and a color scale of one hue keeps its order in gray.
    points = plot.points.dropna(subset="loss")
    steps = sorted(points["x"].unique())
    half = (steps[1] - steps[0]) / 2 if len(steps) > 1 else 1.0
    kept = points.assign(
        x0=points["x"] - half, x1=points["x"] + half, y0=points["y"] - half, y1=points["y"] + half,
        told=[f"({x:.3g}, {y:.3g}): loss {loss:.4g}" for x, y, loss in points[["x", "y", "loss"]].to_numpy()],
    )  # fmt: skip
    rows = kept.drop(columns="series").to_dict("records")
    loss = alt.Color(
        "loss:Q",
        scale=alt.Scale(type="log" if points["loss"].min() > 0 else "linear", scheme="viridis"),
        title="training loss",
    )
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_rect()
        .encode(
            alt.X("x0:Q", title=plot.x), alt.X2("x1:Q"), alt.Y("y0:Q", title=plot.y), alt.Y2("y1:Q"), loss,
            tooltip=[alt.Tooltip("told:N", title="point")], description="told:N",
        )
    )  # fmt: skip
