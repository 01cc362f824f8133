"""The style of all figures, which are readable from a distance, in gray, and without color vision."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib

from samgap.errors import SettingError, said


class Look(NamedTuple):
    """Color and marker of a series; no two series share either."""

    color: str
    marker: str


# The Okabe-Ito palette, for readers without color vision. SGD and SAM have one color each in all figures, published
# numbers are gray, and series have the other colors, in an order in which neighbors also differ in gray.
SERIES = [
    Look("#000000", "o"), Look("#009E73", "^"), Look("#CC79A7", "v"), Look("#56B4E9", "P"), Look("#E69F00", "D"),
    Look("#7F3C8D", "*"),
]  # fmt: skip
SGD, SAM = "#D55E00", "#0072B2"
PUBLISHED = "#7A7A7A"


def looks(count: int) -> list[Look]:
    """Return a look for each of `count` series; the looks repeat after six."""
    return [SERIES[index % len(SERIES)] for index in range(count)]


# For a column of a paper: vector fonts that match LaTeX's Times, and lines for a small panel. `figure.figsize` is the
# size of a panel in inches.
PAPER: dict[Any, Any] = {
    "font.family": ["STIXGeneral", "DejaVu Sans"],  # the second for characters that the first lacks, such as subscripts
    "mathtext.fontset": "stix",
    "font.size": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "figure.figsize": (2.5, 2.3),
}


@contextmanager
def style(name: str = "talk") -> Iterator[None]:
    """Apply a style to figures drawn inside the `with` block; the backend needs no screen.

    Args:
        name: talk, or paper for figures without a title in which each panel is as wide as a column.

    Raises:
        SettingError: there is no such style.
    """
    if name not in ("talk", "paper"):
        raise SettingError(f"style must be talk or paper, got {said(name)}.")
    matplotlib.use("Agg")
    settings: dict[Any, Any] = {
        "font.size": 11,
        "axes.titlesize": 12,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#E4E4E4",
        "grid.linewidth": 0.7,
        "lines.linewidth": 1.8,
        "lines.markersize": 6,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "pdf.fonttype": 42,
        "savefig.dpi": 160,
        "figure.figsize": (4.6, 4.4),
    }
    with matplotlib.rc_context(settings | (PAPER if name == "paper" else {})):
        yield


def compact(count: float) -> str:
    """Return a number in short form: 45,000 as 45k, 11,200,000 as 11.2M."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return f"{count:g}"
