"""Our cells beside the published numbers, and the table of both."""

from typing import Any

import pandas as pd

from samgap.figures.gap.gaps import Gaps
from samgap.figures.gap.series import published_for
from samgap.figures.table import axis_label, shown
from samgap.style import compact


def side_by_side(found: Gaps, published: pd.DataFrame | None, x: str) -> pd.DataFrame:
    """Our cells with the published numbers of the same width beside them; published widths that we lack follow those
    of their series. If model.width was not swept, they are those of the net with as many parameters.
    """
    ours = found.cells
    if published is None:
        return ours
    size, theirs_size = ("model.width", "width") if "model.width" in ours else ("params_total", "params")
    others = [axis for axis in found.axes if axis not in ("model.width", x)]
    parts = []
    for values, mine in ours.groupby(others, sort=False) if others else [((), ours)]:
        theirs = published_for(published, axes := dict(zip(others, values, strict=True)), x)
        theirs = theirs.drop(columns=[column for column in map(str, theirs) if "." in column]).add_prefix("published_")
        theirs = theirs.rename(columns={"published_x": f"published_{x}"})
        theirs = theirs.assign(**{size: theirs[f"published_{theirs_size}"]}).drop(columns="published_width")
        if size == "params_total":
            theirs = theirs[theirs[size].isin(mine[size])]
        theirs, mine = (frame.astype({size: float}) for frame in (theirs, mine))
        keys = [size]
        if x in found.axes and not found.equal_parameters:  # the published place is rounded
            keys.append("place")
            mine["place"], theirs["place"] = mine[x].round(2), theirs[f"published_{x}"].round(2)
        both = mine.merge(theirs, on=keys, how="outer", sort=True).fillna(axes)
        if x in found.axes:
            both[x] = both[x].fillna(both[f"published_{x}"])
        parts.append(both.drop(columns=["place", "published_params_total", "published_params_live"], errors="ignore"))
    return pd.concat(parts, ignore_index=True)


def tabled(cells: pd.DataFrame, drawn: str, unbiased: str) -> pd.DataFrame:
    """Cells as they are shown.

    Args:
        cells: see `side_by_side`; its columns before params_total are the axes.
        drawn, unbiased: protocols.
    """
    axes = [str(axis) for axis in cells.columns[: cells.columns.get_loc("params_total")]]
    rows = []
    for _, cell in cells.iterrows():
        row = {axis_label(axis): _text(cell, axis, "g") for axis in axes}
        ours = pd.notna(cell.get("n"))
        row |= {
            "params": compact(cell["params_live" if ours else "published_params"]),
            "n": _text(cell, "n", ".0f"),
            "SGD %": _text(cell, "sgd_acc", ".2f"),
            "SAM %": _text(cell, f"{drawn}_acc", ".2f"),
            "gap": _text(cell, f"{drawn}_gap", "+.2f"),
            "s.e.": _text(cell, f"{drawn}_se", ".2f"),
            "rho*": _text(cell, f"{drawn}_rho", "g"),
            "unbiased": _text(cell, f"{unbiased}_gap", "+.2f"),
            "from": _text(cell, f"{unbiased}_low", "+.2f"),
            "to": _text(cell, f"{unbiased}_high", "+.2f"),
            "fixed": _text(cell, "fixed_gap", "+.2f"),
            "train %": _text(cell, "sgd_train_acc", ".1f"),
            "SAM lost": f"{cell['sam_lost']:.0f}/{cell['sam_runs']:.0f}" if cell.get("sam_lost", 0) > 0 else "",
        }
        if "published_gap" in cells:
            row |= {
                "paper": _text(cell, "published_gap", "+.2f"),
                "at": compact(cell["published_params"]) if pd.notna(cell.get("published_params")) else "",
            }
        rows.append(row)
    if all(row.get("at", "") in ("", row["params"]) for row in rows):  # the published nets have our sizes
        rows = [row | {"at": ""} for row in rows]
    return shown(rows)


def _text(cell: pd.Series, key: str, spec: str) -> str:
    value: Any = cell.get(key)
    if isinstance(value, str):
        return value
    return format(value, spec) if pd.notna(value) else ""
