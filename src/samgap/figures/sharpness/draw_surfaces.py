"""Draws the loss on planes through the nets of SGD and SAM, side by side (poster figures 4 and 5)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from samgap.figures import output
from samgap.figures.sharpness.surfaces import Array, Surface, Surfaces

LEVELS = (0.01, 0.05, 0.10)  # contour levels of the poster
RAISED = "eigen"
KINDS = {
    "eigen": "its largest eigenvalues' directions",
    "raw": "random directions of length 1",
    "filter": "random directions of the filters' lengths",
}
MAP = "viridis"
PLAIN = FuncFormatter(lambda value, _: f"{value:.3g}")


def draw(study: Surfaces, settings: Mapping[str, Any]) -> Figure:
    """Return a figure with a column for each net: on top in three dimensions, below as contours, a row for each kind.

    All panels of a row have the same scale of colors and heights. The kinds of directions are in `KINDS`.

    Args:
        study: the surfaces.
        settings: the `draw` group; `title` and `published_data` are used.
    """
    drawn = study.surfaces
    names = [name for name in drawn[0].losses if all(name in one.losses for one in drawn)]
    raised = RAISED if RAISED in names else names[0]
    figure = plt.figure(figsize=(1.6 + 4.6 * len(drawn), 1.4 + 4.1 * (len(names) + 1)), layout="constrained")
    grid = figure.add_gridspec(len(names) + 1, len(drawn))
    for column, one in enumerate(drawn):
        axes = figure.add_subplot(grid[0, column], projection="3d")
        _raised(axes, one, one.losses[raised], limits([other.losses[raised] for other in drawn]))
        axes.set_title(_title(one, study.published, settings["published_data"]))
    for row, name in enumerate(names, start=1):
        span = limits([one.losses[name] for one in drawn])
        panels = [figure.add_subplot(grid[row, column]) for column in range(len(drawn))]
        for axes, one in zip(panels, drawn, strict=True):
            mesh = _contours(axes, one, one.losses[name], span)
            axes.set(xlabel="along $d_1$", ylabel="along $d_2$", title=KINDS.get(name, name), aspect="equal")
        bar = figure.colorbar(mesh, ax=panels, label="training loss", format=PLAIN)
        bar.ax.yaxis.set_minor_formatter(PLAIN if span[1] < 10 * span[0] else NullFormatter())
    seed = " and ".join(dict.fromkeys(str(one.seed) for one in drawn))
    head = f"training loss of {drawn[0].n:,} examples, seed {seed}"
    figure.suptitle(f"{settings['title']}\n{head}; {output.subtitle(study)}", fontweight="bold")
    return figure


def limits(losses: Sequence[Array]) -> tuple[float, float]:
    """Return the ends of a logarithmic scale for several surfaces: their smallest positive and largest finite loss."""
    values = np.concatenate([one.ravel() for one in losses])
    values = values[np.isfinite(values) & (values > 0)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.1, 1.0)
    return low, max(high, low * 1.001)  # a flat surface needs a scale too


def _title(one: Surface, published: Mapping[str, float], data: str) -> str:
    rule = f"SAM, ρ = {one.rho:g}" if one.rho else "SGD"
    theirs = published.get("sam" if one.rho else "sgd")
    top = "" if math.isnan(one.lambda_max) else f"$λ_{{max}}$ = {one.lambda_max:.3g}, "
    text = f"{rule}: {top}loss {one.train_loss:.2g}"
    text += f"\npublished on {data}: {theirs:g}" if theirs is not None else ""
    return f"{one.series}\n{text}" if one.series else text


def _contours(axes: Axes, one: Surface, losses: Array, span: tuple[float, float]) -> Any:
    """Draw the losses in color with the poster's levels; points with a loss that is not finite stay white."""
    shown = np.ma.masked_invalid(losses.T)  # rows are y
    colors = np.ma.maximum(shown, span[0])
    mesh = axes.pcolormesh(one.steps, one.steps, colors, norm=LogNorm(*span), cmap=MAP, shading="nearest")
    inside = [level for level in LEVELS if shown.min() < level < shown.max()]
    if inside:
        lines = axes.contour(one.steps, one.steps, shown, levels=inside, colors="white", linewidths=1.6)
        axes.clabel(lines, fmt="%.2f", fontsize=8)
    axes.plot(0, 0, marker="+", color="white", markersize=9)
    axes.grid(False)
    return mesh


def _raised(axes: Any, one: Surface, losses: Array, span: tuple[float, float]) -> None:
    x, y = np.meshgrid(one.steps, one.steps, indexing="ij")
    top = span[1]
    # plot_surface has no masks, so losses that are not finite are drawn at the top.
    heights = np.where(np.isfinite(losses), losses, top)
    axes.plot_surface(x, y, heights, norm=LogNorm(*span), cmap=MAP, rstride=1, cstride=1, linewidth=0)
    axes.set(zlim=(0, top), xlabel="$d_1$", ylabel="$d_2$", zlabel="training loss")
    ends = [one.steps[0], 0, one.steps[-1]]
    axes.set(xticks=ends, yticks=ends)
    axes.tick_params(labelsize=8)
