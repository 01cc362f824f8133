"""The charts of gaps over size, over a dose and over rho, and of the best rho over size."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps, colors

from samgap import style
from samgap.figures.chart import DASHDOT, DASHED, DOTTED, Axis, Chart, Line, gap_axis, points
from samgap.figures.gap.gaps import have_equal_parameters
from samgap.figures.gap.series import default_x, matrix, position, series_axes
from samgap.figures.gap.slopes import slopes
from samgap.figures.table import axis_label, cell_label, groups
from samgap.style import Look

RULES = {
    "paper": "best ρ on the test set, as published",
    "holdout": "ρ chosen on held-out images",
    "loso": "ρ chosen on the other seeds",
    "quadratic": "ρ by a parabola through the other seeds",
}
SIZES = {"params_total": "parameters", "params_live": "live parameters"}
GAP, BEST, LOST = "what SAM gains", "the best ρ", "runs of SAM that failed"  # titles of charts
Settings = Mapping[str, Any]
Series = list[tuple[dict[str, Any], pd.DataFrame]]


def gaps(frame: pd.DataFrame, facts: Settings, settings: Settings) -> list[Chart]:
    """Return charts of the gap and of the accuracies over x, see `kind.Kind.charts`."""
    x, series = _series(frame, facts, settings)
    drawn, unbiased = facts["protocol_drawn"], facts["protocol_verdict"]
    gap: list[Line] = []
    acc: list[Line] = []
    first = series[0][0]
    for (named, cells), look in zip(series, style.looks(len(series)), strict=True):
        prefix, ours, is_single = label(named), cells[cells["n"].notna()], len(series) == 1
        marks = points(ours, x, f"{drawn}_gap", f"{drawn}_se", note="ρ=" + ours[f"{drawn}_rho"].map("{:g}".format))
        text = f"{prefix}{RULES[drawn]} (± s.e.)"
        gap.append(Line(text, marks, look, spread="± s.e.", notes=True))
        if unbiased != drawn and f"{unbiased}_gap" in ours:
            marks = points(ours, x, f"{unbiased}_gap", ends=(f"{unbiased}_low", f"{unbiased}_high"),
                           note="ρ=" + ours[f"{unbiased}_rho"].map("{:g}".format))  # fmt: skip
            text = f"{RULES[unbiased]} (95 % interval)"
            line = Line(prefix + text, marks, look, DOTTED, filled=False, bars=True, spread="95 % interval")
            gap.append(replace(line, legend=None if is_single else f"hollow: {text}" if named == first else ""))
        arms = (("SGD", "sgd", f"SGD ({_fitting(ours, x)})", style.SGD), ("SAM", drawn, "SAM", style.SAM))
        for arm, key, text, color in arms:  # series differ in markers
            arm_look = Look(color, look.marker)
            note = "training accuracy " + ours[f"{arm.lower()}_train_acc"].map("{:.1f} %".format)
            line = Line(f"{prefix}{text}", points(ours, x, f"{key}_acc", f"{key}_std", note=note), arm_look)
            acc.append(replace(line, dash=DASHED if arm == "SGD" else (), filled=arm == "SAM", spread="± s.d."))
        if len(paper := _published(cells, named, x, "gap")):
            gray, place = Look(style.PUBLISHED, "x" if is_single else look.marker), _place(x)
            text = f"published, {settings['published_data']}"
            marks = points(paper, place, "published_gap", "published_gap_band")
            line = Line(prefix + text, marks, gray, DASHDOT, spread="as drawn in the paper")
            in_legend = any(line_.look.color == style.PUBLISHED for line_ in gap)
            gap.append(replace(line, legend=None if is_single else "" if in_legend else f"gray: {text}"))
            # Accuracies on other data are left out, since they would stretch the axis.
            for arm, dash in (("SGD", DOTTED), ("SAM", DASHDOT)) if settings["replicates"] else ():
                key = f"published_{arm.lower()}"
                text = f"{prefix}{arm}, published"
                acc.append(Line(text, points(paper, place, f"{key}_acc", f"{key}_std"), gray, dash, spread="± s.d."))
    across = _across(frame, x)
    return [Chart(GAP, across, gap_axis(gap), gap),
            Chart("SGD and SAM", across, Axis("test accuracy (%, ± s.d.)", "test accuracy"), acc)]  # fmt: skip


def lost(frame: pd.DataFrame, facts: Settings, settings: Settings) -> list[Chart]:
    """Return a chart of the share of SAM's runs, over x, that diverged or collapsed; no chart if none did."""
    if not frame.get("sam_lost", pd.Series(0)).sum() > 0:  # older results lack the column
        return []
    x, series = _series(frame, facts, settings)
    lines = []
    for (named, cells), look in zip(series, style.looks(len(series)), strict=True):
        shares = cells[cells["n"].notna()].assign(share=100 * cells["sam_lost"] / cells["sam_runs"])
        lines.append(Line(f"{label(named)}SAM at all ρ", points(shares, x, "share"), look))
    return [Chart(LOST, _across(frame, x), Axis("diverged or collapsed (% of runs)", "lost", zero=True), lines)]


def beside(accuracies: Chart, published_rows: pd.DataFrame, rho: float) -> Chart:
    """Add the published accuracies of the same sizes to the chart of accuracies, see `choices.same_sizes`."""
    gray = Look(style.PUBLISHED, "x")
    lines = [
        Line(f"{text}, published", points(published_rows, "params", f"{arm}_acc"), gray, dash)
        for arm, text, dash in (("sgd", "SGD", DOTTED), ("sam", f"SAM at ρ = {rho:g}", DASHDOT))
    ]
    return replace(accuracies, lines=[*accuracies.lines, *lines])


def doses(facts: Settings, settings: Settings) -> Chart:
    """Return a chart of the slope over size, over the dose in which the series differ, see `kind.Kind.charts`."""
    x, series = _series(pd.DataFrame(facts["cells"]), facts, settings)
    unbiased, dose = facts["protocol_verdict"], next(iter(series[0][0]), "dose")
    lines, by_seed = [], pd.DataFrame(facts["gaps_by_seed"])
    axes = [str(axis) for axis in by_seed if axis not in ("protocol", "seed", "rho", "gap")]
    texts = {unbiased: RULES[unbiased], "fixed": f"ρ = {facts['fixed_rho'] or 0:g} for all"}
    for (protocol, text), look in zip(texts.items(), style.looks(2), strict=True):
        rows = []
        for named, cells in series if f"{protocol}_gap" in series[0][1] else ():
            complete = cells[cells[f"{protocol}_gap"].notna()]
            gaps = matrix(by_seed[by_seed["protocol"] == protocol], "gap", axes, complete).to_numpy()
            if dose in named and len(complete) > 1 and len(gaps):
                seed_slopes = slopes(position(x, complete[x]), gaps)
                error = seed_slopes.std(ddof=1) / math.sqrt(len(seed_slopes)) if len(seed_slopes) > 1 else math.nan
                rows.append({dose: named[dose], "slope": seed_slopes.mean(), "se": error, "n": len(seed_slopes)})
        if rows:
            line = points(pd.DataFrame(rows).sort_values(dose), dose, "slope", "se")
            lines.append(Line(f"ours ± s.e., {text}", line, look, bars=True, spread="± s.e."))
    unit = "a decade of parameters" if x.startswith("params") else f"from 0 to 1 of {x}"
    return Chart(
        "how steeply it grows with size", Axis(dose, axis_label(dose)), Axis(f"slope (points {unit})", "slope"), lines
    )


def best_rho(frame: pd.DataFrame, facts: Settings, settings: Settings) -> list[Chart]:
    """Return charts of the gap over rho, with one line per cell, and of the best rho over x, see `kind.Kind.charts`."""
    x, series = _series(frame, facts, settings)
    gains = pd.DataFrame(facts.get("gains"))  # empty for older results
    lines = []
    for (named, cells), look in zip(series, style.looks(len(series)), strict=True):
        prefix, ours = label(named), cells[cells["n"].notna()]
        lines.append(Line(f"{prefix}ours, of the mean over seeds", points(ours, x, "paper_rho"), look))
        if len(gains):
            own_gains = gains[(gains[[*named]] == pd.Series(named, dtype=object)).all(axis=1) & (gains["best_of"] > 0)]
            seed_points = points(own_gains.drop(columns="n"), x, "rho", weight=own_gains["best_of"])
            lines.append(Line(f"{prefix}ours, seeds alone; area is their number", seed_points, look, None))
        if len(paper := _published(cells, named, x, "best_rho")):
            gray = Look(style.PUBLISHED, "x" if len(series) == 1 else look.marker)
            text = f"{prefix}published, {settings['published_data']}"
            lines.append(Line(text, points(paper, _place(x), "published_best_rho"), gray, DASHDOT))
    rhos = sorted({*(gains if len(gains) else frame.assign(rho=frame["paper_rho"]))["rho"].dropna()})
    ticks = sorted({*rhos, *frame.get("published_best_rho", pd.Series()).dropna()})
    y = Axis("best ρ", "rho", "log", ticks=tuple((rho, f"{rho:g}") for rho in ticks))
    best = Chart(BEST, _across(frame, x), y, lines)
    return [_gains(gains, rhos, x), best] if len(gains) else [best]


def _gains(gains: pd.DataFrame, rhos: list[float], x: str) -> Chart:
    # Rhos are evenly spaced, and larger nets are darker. A line is interrupted where a cell lacks a rho.
    axes = [str(axis) for axis in gains.columns[: gains.columns.get_loc("params_total")]]
    cells = list(gains.sort_values(x, kind="stable").groupby([*axes, "params_total"], sort=False))
    shades = colormaps["viridis_r"](np.linspace(0.15, 1, len(cells)))
    lines, best_points = [], []
    for (_, cell), shade, look in zip(cells, shades, style.looks(len(cells)), strict=True):
        others = {axis: cell[axis].iloc[0] for axis in axes if axis != "model.width"}
        text = ", ".join(filter(None, (style.compact(cell[x].iloc[0]), cell_label(others))))
        evenly_spaced = cell.set_index("rho").reindex(rhos).reset_index().assign(at=range(len(rhos)))
        shaded = Look(colors.to_hex(shade), look.marker)
        lines.append(Line(text, points(evenly_spaced, "at", "gain", "se"), shaded, size=4, bars=True, spread="± s.e."))
        best_points.append(evenly_spaced[evenly_spaced["best"].eq(True)])
    lines.append(Line("best", points(pd.concat(best_points), "at", "gain"), Look("#000000", "*"), None, 9))
    across = Axis("ρ", "rho", ticks=tuple((at, f"{rho:g}") for at, rho in enumerate(rhos)))
    return Chart("what each ρ gains, best marked", across, gap_axis(lines), lines)


def label(named: Mapping[str, Any]) -> str:
    """Return the prefix of a series in the legend, such as "snip: " or "label_noise=0.5: ", or ""."""
    parts = [
        value if axis.endswith(".name") else cell_label({axis_label(axis): value}) for axis, value in named.items()
    ]
    return ", ".join(parts) + ": " * bool(parts)


def _series(frame: pd.DataFrame, facts: Settings, settings: Settings) -> tuple[str, Series]:
    """Return x, and (axes, cells) of each series; the cells include the published columns."""
    axes = [str(axis) for axis in frame.columns[: frame.columns.get_loc("params_total")]]
    x = settings["x"] if settings["x"] in frame else default_x(frame, axes)
    equal_parameters = facts.get("thinned", have_equal_parameters(frame, axes))  # older results lack "thinned"
    over = settings["series"]
    if over is None:
        over = series_axes(axes, x, equal_parameters=equal_parameters)
    return x, [(named, cells.sort_values(x)) for named, cells in groups(frame, [axis for axis in over if axis in axes])]


def _published(cells: pd.DataFrame, named: Mapping[str, Any], x: str, value: str) -> pd.DataFrame:
    """Return the cells of a series with published numbers; none if the cells differ in an axis that is not drawn."""
    axes = [str(axis) for axis in cells.columns[: cells.columns.get_loc("params_total")]]
    is_mixed = any(cells[axis].nunique() > 1 for axis in axes if axis not in (*named, x, "model.width"))
    drawn = f"published_{value}" in cells and _place(x) in cells and not is_mixed
    return cells.dropna(subset=f"published_{value}").drop(columns="n").sort_values(_place(x)) if drawn else cells[:0]


def _place(x: str) -> str:
    return "published_params" if x.startswith("params") else f"published_{x}"


def _fitting(cells: pd.DataFrame, x: str) -> str:
    """Return a text that names the nets of a series that fit their training images."""
    yes = cells["interpolates"].to_numpy(dtype=bool)
    if yes.all():
        return "all fit the training data"
    if not yes.any():
        return "none fits the training data"
    places = [style.compact(place) if x.startswith("params") else f"{place:.3g}" for place in cells[x]]
    first = int(yes.argmax())
    if yes[first:].all():
        return f"fits the training data from {places[first]} on"
    return "fits the training data at " + ", ".join(place for place, fits in zip(places, yes, strict=True) if fits)


def _across(frame: pd.DataFrame, x: str) -> Axis:
    """Return the horizontal axis; an axis of sparsity also shows the parameters of the nets."""
    cells = frame[frame["n"].notna()]
    if x.startswith("params"):
        return Axis(f"{SIZES[x]}, biases and batch norm included", SIZES[x], "log", "parameters")
    if x != "pruner.sparsity" or cells.groupby(x)["params_total"].nunique().max() > 1:
        return Axis(x, x)
    totals = cells.groupby(x)["params_total"].first()
    ticks = tuple(
        (place, f"{place:.3g}\n{style.compact(total)}") for place, total in zip(totals.index, totals, strict=True)
    )
    live = " to ".join(
        style.compact(count) for count in sorted({cells["params_live"].min(), cells["params_live"].max()})
    )
    title = "sparsity: share of kernel weights removed; parameters before it"
    return Axis(f"{title}\n({live} live, biases and batch norm included)", x, ticks=ticks)
