"""Charts as Vega-Lite specifications, which the script in the page draws."""

import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from samgap.figures.chart import Axis, Chart, Line, Map, point_labels

Encoding = dict[str, Any]
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
HEIGHT, ROW = 320, 30  # pixels; a row has a name on the y axis
LETTERS = 34  # most characters in a line of text, so that it fits on a phone
NAME, BESIDE = 20, 22  # most characters of a name on the y axis, and of texts below a chart with such names
MANY = 50  # a line with this many points or more has small markers
STAR = "M0,-1L.25,-.31L.95,-.31L.36,.12L.59,.81L0,.38L-.59,.81L-.36,.12L-.95,-.31L-.25,-.31Z"
SHAPES = {"o": "circle", "^": "triangle-up", "v": "triangle-down", "P": "cross", "D": "diamond", "s": "square",
          "*": STAR, "x": "M-.7,-.7L.7,.7M-.7,.7L.7,-.7", "X": "M-.7,-.7L.7,.7M-.7,.7L.7,-.7",
          "_": "M-.7,0L.7,0", "": "M-1.5,0L1.5,0"}  # fmt: skip
COUNTS = (
    "datum.value >= 1e9 ? format(datum.value / 1e9, '.3~g') + 'B' : datum.value >= 1e6 ? format(datum.value / 1e6, "
    "'.3~g') + 'M' : datum.value >= 1e3 ? format(datum.value / 1e3, '.3~g') + 'k' : format(datum.value, '~g')"
)
CONFIG = {
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "grid": True, "gridColor": "#E4E4E4"},
    "legend": {"labelFontSize": 12, "labelLimit": 0, "symbolSize": 120, "symbolStrokeWidth": 2, "symbolOpacity": 1},
    "view": {"stroke": None},
}


def spec(chart: Chart | Map) -> dict[str, Any]:
    """Return the Vega-Lite specification of a chart, as wide as its container on the page."""
    rows = 0 if isinstance(chart, Map) else len(chart.y.ticks)
    return {
        "$schema": SCHEMA, "width": "container", "height": max(HEIGHT, ROW * rows), "background": "transparent",
        "config": CONFIG,
        "description": chart.title, "padding": {"left": 5, "right": 20, "top": 5, "bottom": 5},
    } | (_map(chart) if isinstance(chart, Map) else _lines(chart))  # fmt: skip


def _lines(chart: Chart) -> dict[str, Any]:
    lines = chart.lines
    labels = _literal(line.label for line in lines)
    colors = json.dumps([line.look.color for line in lines])
    calculated = {"label": f"join({labels}[datum.line], ' ')", "color": f"{colors}[datum.line]"}
    x, y = _axis("x", chart.x, _letters(chart)), _axis("y", chart.y)
    layers = [*_zeros(chart), *_spreads(lines, x, y), *_marks(lines, _legend(chart), x, y), *_notes(lines, x)]
    transform = [{"calculate": text, "as": name} for name, text in calculated.items()]
    return {"data": {"values": _rows(chart)}, "transform": transform, "layer": layers}


def _layer(mark: Encoding, included: list[bool], encoding: Encoding, opacity: float = 1) -> Iterator[Encoding]:
    """Yield a layer with the lines for which `included` is true, if any. The legend highlights lines."""
    if any(included):
        opacity_encoding = {"condition": {"param": "picked", "value": opacity}, "value": 0.12 * opacity}
        predicate = {"field": "line", "oneOf": [number for number, is_included in enumerate(included) if is_included]}
        yield {"transform": [{"filter": predicate}], "mark": mark, "encoding": {"opacity": opacity_encoding} | encoding}


def _zeros(chart: Chart) -> Iterator[Encoding]:
    """Yield a line at 0 for each axis in percentage points."""
    for side, axis in (("y", chart.y), ("x", chart.x)):
        if axis.unit == "points":
            rule = {"type": "rule", "color": "#606060"}
            yield {"data": {"values": [{}]}, "mark": rule, "encoding": {side: {"datum": 0}}}


def _spreads(lines: Sequence[Line], x: Encoding, y: Encoding) -> Iterator[Encoding]:
    """Yield the bands and bars from low to high."""
    color = {"color": {"field": "color", "type": "nominal", "scale": None}, "detail": {"field": "line"}}
    in_y = {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}} | color
    in_x = {"x": x | {"field": "low"}, "x2": {"field": "high"}, "y": y} | color
    bar = {"type": "rule", "strokeWidth": 1.5}
    yield from _layer({"type": "area"}, [line.spreads and not (line.bars or line.across) for line in lines], in_y, 0.2)
    yield from _layer(bar, [line.spreads and line.bars for line in lines], in_y, 0.6)
    yield from _layer(bar, [line.across for line in lines], in_x, 0.6)


def _legend(chart: Chart) -> Encoding:
    texts = _literal((line.listed for line in chart.lines), _letters(chart))
    listed = [number for number, line in enumerate(chart.lines) if line.listed]
    return {"title": None, "orient": "bottom", "columns": 1, "labelExpr": f"{texts}[datum.value]", "values": listed}


def _marks(lines: Sequence[Line], legend: Encoding, x: Encoding, y: Encoding) -> Iterator[Encoding]:
    """Yield the lines and points; a click on the legend selects a line."""

    def by_line(values: Iterable[Any]) -> Encoding:
        scale = {"domain": [*range(len(lines))], "range": [*values]}
        return {"field": "line", "type": "nominal", "scale": scale, "legend": legend}

    stroke = by_line(line.look.color for line in lines)
    dashes = by_line([2 * length for length in line.dash or (1, 0)] for line in lines)
    encoding: Encoding = {"x": x, "y": y, "stroke": stroke}
    joined = [line.dash is not None for line in lines]
    yield from _layer({"type": "line", "strokeWidth": 2}, joined, encoding | {"strokeDash": dashes})
    encoding |= {
        "fill": by_line(
            ("#ffffff", line.look.color, f"{line.look.color}40")[line.filled + line.weighted] for line in lines
        ),
        "shape": by_line(SHAPES[line.look.marker] for line in lines),
        "size": {"field": "size", "type": "quantitative", "scale": None},
        "tooltip": [{"field": "label", "title": "series"}, {"field": "text", "title": "point"}],
        "description": {"field": "text"},
    }
    picked = {"name": "picked", "select": {"type": "point", "fields": ["line"]}, "bind": "legend"}
    for layer in _layer({"type": "point", "strokeWidth": 1.5}, [bool(line.look.marker) for line in lines], encoding):
        yield layer | {"params": [picked]}


def _notes(lines: Sequence[Line], x: Encoding) -> Iterator[Encoding]:
    """Yield the notes above the panel, a row for each line."""
    color = {"color": {"field": "color", "type": "nominal", "scale": None}}
    for row, line in enumerate(line for line in lines if line.notes):
        encoding = {"x": x, "y": {"value": -8 - 15 * row}, "text": {"field": "note"}} | color
        yield from _layer({"type": "text"}, [other is line for other in lines], encoding)


def _rows(chart: Chart) -> list[Any]:
    rows: list[Any] = []
    for number, line in enumerate(chart.lines):
        area = 36 * line.points["weight"] if line.weighted else 2 * line.size**2 if len(line.points) < MANY else 12
        line_rows = line.points.assign(
            line=number, x=line.points["x"] + line.aside, size=area, text=point_labels(chart, line)
        )
        if line.notes:
            line_rows["note"] = line.written
        line_rows = line_rows.drop(columns=["n", "weight"] if line.notes else ["n", "weight", "note"]).astype(object)
        rows += line_rows.where(line_rows.notna(), None).to_dict("records")
    return rows


def _letters(chart: Chart) -> int:
    return BESIDE if chart.y.ticks else LETTERS


def _axis(which: str, axis: Axis, letters: int = LETTERS) -> dict[str, Any]:
    spec_: dict[str, Any] = {"title": _wrapped(axis.title, letters)}
    if axis.ticks:
        values = [value for value, _ in axis.ticks]
        texts = _literal((text for _, text in axis.ticks), LETTERS if which == "x" else NAME)
        spec_ |= {"values": values, "labelExpr": f"{texts}[indexof({values}, datum.value)]"}
        spec_ |= {"labelLimit": 0, "labelOverlap": False} if which == "y" else {}
    elif axis.unit == "parameters":
        spec_ |= {"labelExpr": COUNTS, "labelSeparation": 8, "tickCount": 6}
    scale: dict[str, Any] = {"type": axis.scale, "zero": axis.zero} if axis.scale == "linear" else {"type": axis.scale}
    if axis.scale == "symlog":
        scale |= {"constant": 1}
    elif which == "x" or axis.ticks:
        scale |= {"nice": False, "padding": 20}
    return {"field": which, "type": "quantitative", "axis": spec_, "scale": scale}


def _wrapped(text: str, letters: int = LETTERS) -> list[str]:
    return [part for line in text.split("\n") for part in textwrap.wrap(line, letters, break_on_hyphens=False)]


def _literal(texts: Iterable[str], letters: int = LETTERS) -> str:
    """Return a Vega expression for texts: an array of arrays of lines."""
    return json.dumps([_wrapped(text, letters) for text in texts], ensure_ascii=False)


def _map(plane: Map) -> dict[str, Any]:
    # A log scale if possible, since losses span decades; in viridis, brightness increases with the value.
    points = plane.points.dropna(subset="loss")
    steps = sorted(points["x"].unique())
    half = (steps[1] - steps[0]) / 2 if len(steps) > 1 else 1.0
    captions = [f"({x:.3g}, {y:.3g}): loss {loss:.4g}" for x, y, loss in points[["x", "y", "loss"]].to_numpy()]
    edges = {f"{axis}{end}": points[axis] + side * half for axis in "xy" for end, side in (("0", -1), ("1", 1))}
    scale = {"type": "log" if points["loss"].min() > 0 else "linear", "scheme": "viridis"}
    encoding = {
        "x": {"field": "x0", "type": "quantitative", "title": plane.x}, "x2": {"field": "x1"},
        "y": {"field": "y0", "type": "quantitative", "title": plane.y}, "y2": {"field": "y1"},
        "color": {"field": "loss", "type": "quantitative", "scale": scale, "title": "training loss"},
        "tooltip": [{"field": "text", "title": "point"}], "description": {"field": "text"},
    }  # fmt: skip
    values = points.assign(text=captions, **edges).to_dict("records")
    return {"data": {"values": values}, "mark": "rect", "encoding": encoding}
