"""Joins our cells and the published numbers of the same nets, and formats the table of both."""

import pandas as pd

from samgap.figures.gap.series import Question, published_for
from samgap.figures.table import axis_label, format_value, groups, text_table
from samgap.style import compact


def side_by_side(question: Question) -> pd.DataFrame:
    """Return our cells joined with the published numbers of the same width, also for widths that we lack.

    If model.width was not swept, nets with the same number of parameters are joined.
    """
    gaps, x, published, cells = question.gaps, question.x, question.published, question.gaps.cells
    if published is None:
        return cells
    size, published_size = ("model.width", "width") if "model.width" in cells else ("params_total", "params")
    others = [axis for axis in gaps.axes if axis not in ("model.width", x)]
    parts = []
    for axes, ours in groups(cells, others):
        paper = published_for(published, axes, x)
        paper = paper.drop(columns=[column for column in map(str, paper) if "." in column]).add_prefix("published_")
        paper = paper.rename(columns={"published_x": f"published_{x}"})
        paper = paper.assign(**{size: paper[f"published_{published_size}"]}).drop(columns="published_width")
        if size == "params_total":
            paper = paper[paper[size].isin(ours[size])]
        paper, ours = (frame.astype({size: float}) for frame in (paper, ours))
        keys = [size]
        if x in gaps.axes and not gaps.equal_parameters:  # the published value is rounded
            keys.append("place")
            ours["place"], paper["place"] = ours[x].round(2), paper[f"published_{x}"].round(2)
        joined = ours.merge(paper, on=keys, how="outer", sort=True).fillna(axes)
        if x in gaps.axes:
            joined[x] = joined[x].fillna(joined[f"published_{x}"])
        parts.append(joined.drop(columns=["place", "published_params_total", "published_params_live"], errors="ignore"))
    return pd.concat(parts, ignore_index=True)


def tabled(cells: pd.DataFrame, drawn: str, unbiased: str) -> pd.DataFrame:
    """Return the table of cells as texts.

    Args:
        cells: see `side_by_side`; its columns before params_total are the axes.
        drawn, unbiased: protocols of the columns "gap" and "unbiased".
    """
    axes = [str(axis) for axis in cells.columns[: cells.columns.get_loc("params_total")]]
    rows = []
    for _, cell in cells.iterrows():
        row = {axis_label(axis): format_value(cell.get(axis), "g") for axis in axes}
        is_ours = pd.notna(cell.get("n"))
        row |= {
            "params": compact(cell["params_live" if is_ours else "published_params"]),
            "n": format_value(cell.get("n"), ".0f"),
            "SGD %": format_value(cell.get("sgd_acc"), ".2f"),
            "SAM %": format_value(cell.get(f"{drawn}_acc"), ".2f"),
            "gap": format_value(cell.get(f"{drawn}_gap"), "+.2f"),
            "s.e.": format_value(cell.get(f"{drawn}_se"), ".2f"),
            "rho*": format_value(cell.get(f"{drawn}_rho"), "g"),
            "unbiased": format_value(cell.get(f"{unbiased}_gap"), "+.2f"),
            "from": format_value(cell.get(f"{unbiased}_low"), "+.2f"),
            "to": format_value(cell.get(f"{unbiased}_high"), "+.2f"),
            "fixed": format_value(cell.get("fixed_gap"), "+.2f"),
            "train %": format_value(cell.get("sgd_train_acc"), ".1f"),
            "SAM lost": f"{cell['sam_lost']:.0f}/{cell['sam_runs']:.0f}" if cell.get("sam_lost", 0) > 0 else "",
        }
        if "published_gap" in cells:
            row |= {
                "paper": format_value(cell.get("published_gap"), "+.2f"),
                "at": compact(cell["published_params"]) if pd.notna(cell.get("published_params")) else "",
            }
        rows.append(row)
    if all(row.get("at", "") in ("", row["params"]) for row in rows):  # the published nets have our sizes
        rows = [row | {"at": ""} for row in rows]
    return text_table(rows)
