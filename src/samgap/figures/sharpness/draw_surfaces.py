"""Draws the loss on planes through the nets of SGD and SAM, side by side (poster figures 4 and 5)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from samgap.figures import heading
from samgap.figures.sharpness.probed import TOP
from samgap.runs.sweeps import RHO, SEED

Array = NDArray[np.float64]
LEVELS = (0.01, 0.05, 0.10)  # contour levels of the poster
FLAT = 1.05  # a plane with a smaller ratio of largest to smallest loss gets no panel
RAISED = "eigen"  # the kind of directions that is drawn in three dimensions
KINDS = {
    "eigen": "its largest eigenvalues' directions",
    "raw": "random directions of length 1",
    "filter": "random directions of the filters' lengths",
}
MAP = "viridis"
PLAIN = FuncFormatter(lambda value, _: f"{value:.3g}")


@dataclass(frozen=True, eq=False)
class Net:
    """A net with the losses around it."""

    title: str
    steps: Array  # (P,), along both directions
    losses: dict[str, Array]  # kind of directions -> (P, P), at steps[i] and steps[j]; nan = not finite


def draw(frame: pd.DataFrame, report: Mapping[str, Any], settings: Mapping[str, Any], *, titled: bool) -> Figure:
    """Return a figure with a column for each net: on top in three dimensions, below as contours, a row for each kind.

    All panels of a row have the same scale of colors and heights. The kinds of directions are in `KINDS`. If no net's
    loss changes along a kind by a factor of `FLAT`, the kind is left out, and the footnote says so.

    Args:
        frame, report, titled: see `kind.Kind.draw`.
        settings: the `draw` group; `title` and `published_data` are used.
    """
    nets = [_net(part, report, settings["published_data"]) for part in _parts(frame)]
    kinds = [name for name in nets[0].losses if all(name in net.losses for net in nets)]
    names = [name for name in kinds if any(_changes(net.losses[name]) for net in nets)] or kinds
    raised = RAISED if RAISED in names else names[0]
    width, height = plt.rcParams["figure.figsize"]
    figure = plt.figure(figsize=(width * (len(nets) + 0.35), height * 0.95 * (len(names) + 1)), layout="constrained")
    grid = figure.add_gridspec(len(names) + 1, len(nets))
    for column, net in enumerate(nets):
        axes = figure.add_subplot(grid[0, column], projection="3d")
        _raised(axes, net.steps, net.losses[raised], limits([other.losses[raised] for other in nets]))
        axes.set_title(net.title)
    for row, name in enumerate(names, start=1):
        span = limits([net.losses[name] for net in nets])
        panels = [figure.add_subplot(grid[row, column]) for column in range(len(nets))]
        for axes, net in zip(panels, nets, strict=True):
            mesh = _contours(axes, net.steps, net.losses[name], span)
            axes.set(xlabel="along $d_1$", ylabel="along $d_2$", title=KINDS.get(name, name), aspect="equal")
        bar = figure.colorbar(mesh, ax=panels, label="training loss", format=PLAIN)
        bar.ax.yaxis.set_minor_formatter(PLAIN if span[1] < 10 * span[0] else NullFormatter())
    if titled:
        seeds = "seed " + " and ".join(dict.fromkeys(f"{seed:g}" for seed in frame[SEED]))
        flat = [f"flat along {KINDS.get(name, name)}" for name in kinds if name not in names]
        figure.suptitle(f"{settings['title']}\n{heading.answer(report)}", fontweight="bold")
        small = plt.rcParams["legend.fontsize"]
        figure.supxlabel(
            ", ".join([heading.footnote(report), f"drawn: {seeds}", *flat]), fontsize=small, color="#606060"
        )
    return figure


def _parts(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield the rows of each net in order. In a CSV file, the cell of a series without a name is empty."""
    named = frame.assign(series=frame["series"].astype(object).where(frame["series"].notna(), ""))
    yield from (part for _, part in named.groupby(["series", RHO, SEED], sort=False))


def _net(part: pd.DataFrame, report: Mapping[str, Any], data: str) -> Net:
    series, rho, seed = (part[key].iloc[0] for key in ("series", RHO, SEED))
    run = next(run for run in report["measured"] if (run["series"] or "", run[RHO], run[SEED]) == (series, rho, seed))
    published_top = report["published_lambda_max"].get("sam" if rho else "sgd")
    top = "" if pd.isna(run[TOP]) else f"$λ_{{max}}$ = {run[TOP]:.3g}, "
    title = f"{f'SAM, ρ = {rho:g}' if rho else 'SGD'}: {top}loss {run['train_loss']:.2g}"
    title += f"\npublished, {data}: {published_top:g}" if published_top is not None else ""
    planes = {
        str(name): plane.pivot(index="x", columns="y", values="loss")
        for name, plane in part.groupby("directions", sort=False)
    }
    steps = next(iter(planes.values())).index.to_numpy()
    losses = {name: grid.to_numpy() for name, grid in planes.items()}
    return Net(f"{series}\n{title}" if series else title, steps, losses)


def _changes(losses: Array) -> bool:
    low, high = limits([losses])
    return high > FLAT * low or not np.isfinite(losses).all()


def limits(losses: Sequence[Array]) -> tuple[float, float]:
    """Return the ends of a logarithmic scale for several surfaces: their smallest positive and largest finite loss."""
    values = np.concatenate([surface.ravel() for surface in losses])
    values = values[np.isfinite(values) & (values > 0)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.1, 1.0)
    return low, max(high, low * 1.001)  # a flat surface needs a scale too


def _contours(axes: Axes, steps: Array, losses: Array, span: tuple[float, float]) -> Any:
    """Draw the losses in color with the poster's levels; points with a loss that is not finite stay white."""
    shown = np.ma.masked_invalid(losses.T)  # rows are y
    colors = np.ma.maximum(shown, span[0])
    mesh = axes.pcolormesh(steps, steps, colors, norm=LogNorm(*span), cmap=MAP, shading="gouraud")
    inside = [level for level in LEVELS if shown.min() < level < shown.max()]
    if inside:
        lines = axes.contour(steps, steps, shown, levels=inside, colors="white", linewidths=1.6)
        axes.clabel(lines, fmt="%.2f", fontsize=8)
    axes.plot(0, 0, marker="+", color="white", markersize=9)
    axes.grid(False)
    return mesh


def _raised(axes: Any, steps: Array, losses: Array, span: tuple[float, float]) -> None:
    x, y = np.meshgrid(steps, steps, indexing="ij")
    top = span[1]
    # plot_surface has no masks, so losses that are not finite are drawn at the top.
    heights = np.where(np.isfinite(losses), losses, top)
    # The nodes of the white mesh are the points that were measured.
    axes.plot_surface(
        x, y, heights, norm=LogNorm(*span), cmap=MAP, rstride=1, cstride=1, linewidth=0.3, edgecolor="white"
    )
    axes.set(zlim=(0, top), xlabel="$d_1$", ylabel="$d_2$", zlabel="training loss")
    ends = [steps[0], 0, steps[-1]]
    axes.set(xticks=ends, yticks=ends)
    axes.tick_params(labelsize=8)
