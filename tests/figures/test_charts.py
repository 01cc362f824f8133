"""A figure's charts are computed once: picture, page and archived result show the same points."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.figure import Figure

from samgap import cli, style
from samgap.figures import kind
from samgap.figures.chart import Axis, Chart, Line, Map, gap_axis, point_labels, points
from samgap.figures.table import read_frame
from samgap.report import vega
from samgap.style import Look
from samgap.training import run
from tests.figures.test_parts_of_grids import FEW, made_up

Command = Callable[..., tuple[int, str, str]]
Shown = list[tuple[str, list[tuple[float, float]]]]  # label -> (x, y) of each point, in any order
FIGURES = sorted(path.parent.name for path in (Path(cli.CONF) / "figure").glob("*/smoke.yaml"))


def shown(lines: dict[int, tuple[str, Any]] | list[tuple[str, Any]]) -> Shown:
    """Return labels and visible points, sorted."""
    both = lines.values() if isinstance(lines, dict) else lines
    seen = [(label.replace("\n", " "), np.asarray(xy, dtype=float).reshape(-1, 2)) for label, xy in both]
    return sorted((label, [(x, y) for x, y in xy.round(9).tolist() if not np.isnan(y)]) for label, xy in seen)


def of_picture(axes: Axes) -> tuple[Shown, list[str]]:
    lines = [(str(line.get_label()), line.get_xydata()) for line in axes.get_lines()]
    lines += [(str(one.get_label()), one.get_offsets()) for one in axes.collections if isinstance(one, PathCollection)]
    return shown([line for line in lines if not line[0].startswith(("_child", "_nolegend_"))]), sorted(
        text.get_text() for text in axes.texts
    )


def of_page(spec: dict[str, Any]) -> tuple[Shown, list[str]]:
    layers = [layer for layer in spec["layer"] if "transform" in layer]
    legend = next(layer["encoding"]["stroke"]["legend"] for layer in layers if "stroke" in layer["encoding"])
    listed = json.loads(legend["labelExpr"].removesuffix("[datum.value]"))
    names = json.loads(spec["transform"][0]["calculate"].removeprefix("join(").removesuffix("[datum.line], ' ')"))
    assert legend["values"] == [number for number, lines in enumerate(listed) if lines]
    labels = [" ".join(lines or ["_" + " ".join(name)]) for lines, name in zip(listed, names, strict=True)]
    of = {layer["mark"]["type"]: layer["transform"][0]["filter"]["oneOf"] for layer in layers}
    lines: dict[int, tuple[str, Any]] = {n: (labels[n], []) for n in {*of.get("line", []), *of["point"]}}
    for row in spec["data"]["values"]:
        lines[row["line"]][1].append((row["x"], row["y"]))
    noted = {n for layer in layers if layer["mark"]["type"] == "text" for n in layer["transform"][0]["filter"]["oneOf"]}
    return shown(lines), sorted(row["note"] for row in spec["data"]["values"] if row["line"] in noted and row["note"])


@pytest.mark.parametrize("figure", FIGURES)
def test_picture_page_and_kept_result_show_the_same(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figure: str
) -> None:
    monkeypatch.setattr(run, "run", made_up)
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: None)
    named, few = (f"figure={figure}/smoke", f"root={tmp_path}"), (*FEW, "ascent.rho=0,0.2" + ",0.1" * (figure == "rho"))
    for arguments in (("train", "-m", *named, *few), ("draw", *named)):
        code, _, err = command(*arguments)
        assert code == 0, err
    (path,) = tmp_path.glob("*/smoke/*.json")
    report = json.loads(path.read_text())
    drawn = kind.from_settings(report["draw"])
    study = drawn.evaluate(tmp_path, report["name"], "smoke", "paper")
    charts = drawn.charts(study.frame, study.statistics)
    kept = drawn.charts(read_frame(path.with_suffix(".csv")), report)
    with style.style():
        panels = drawn.draw(study.frame, report).axes
    specs = [vega.spec(chart) for chart in charts]
    assert specs == [vega.spec(chart) for chart in kept]
    assert json.dumps(specs, allow_nan=False)
    if isinstance(charts[0], Map):
        meshes = [one for axes in panels for one in axes.collections if isinstance(one, QuadMesh)]
        colors = [sorted(np.ma.getdata(mesh.get_array()).ravel().tolist()) for mesh in meshes[: len(charts)]]
        assert sorted(colors) == sorted(sorted(row["loss"] for row in spec["data"]["values"]) for spec in specs)
        return
    for axes, chart, spec in zip(panels, charts, specs, strict=True):
        assert of_picture(axes) == of_page(spec)
        assert len(of_page(spec)[0]) == len(chart.lines) > 0
        assert (axes.get_title(), axes.get_xscale(), axes.get_yscale()) == (chart.title, chart.x.scale, chart.y.scale)
    assert drawn.main is None or drawn.main in [chart.name for chart in charts]


def line(y: list[float], **options: Any) -> Line:
    rows = pd.DataFrame({"x": [1e3, 45e3, 11e6][: len(y)], "y": y, "half": 0.1, "n": 3})
    return Line("ours", points(rows, "x", "y", "half", note="ρ*=0.1"), Look("#0072B2", "o"), **options)


def test_a_point_is_said_with_its_interval_and_what_its_axis_counts() -> None:
    sizes = Axis("parameters, biases included", "parameters", "log", "parameters")
    mine = line([0.25, np.nan], spread="± s.e.")
    chart = Chart("gains", sizes, Axis("gap", "gap"), [mine])
    assert point_labels(chart, mine) == ["1k parameters: 0.25 [0.15, 0.35] (± s.e.), n = 3, ρ*=0.1", ""]
    rhos = Axis("ρ", "rho", ticks=((1e3, "SGD"), (45e3, "0.1\n45k")))
    assert [rhos.text(x) for x in (1e3, 45e3, 7.0)] == ["rho SGD", "rho 0.1, 45k", "rho 7"]


@pytest.mark.parametrize(("largest", "scale"), [(0.4, "linear"), (4.95, "symlog"), (-17, "symlog")])
def test_tenths_of_a_point_are_seen_beside_large_gaps(largest: float, scale: str) -> None:
    axis = gap_axis([line([0.2]), line([0.1, largest])])  # half of the band is 0.1
    assert axis.scale == scale
    assert axis.title.endswith("logarithmic beyond 1)") == (scale == "symlog")
    assert gap_axis([]).scale == "linear"


def test_an_axis_whose_value_is_null_survives_the_csv(tmp_path: Path) -> None:
    frame = pd.DataFrame({"model.batch_norm": ["null", "None", "NA"], "gap": [0.5, math.nan, 1.0]})
    frame.to_csv(tmp_path / "kept.csv", index=False)
    pd.testing.assert_frame_equal(read_frame(tmp_path / "kept.csv"), frame)
