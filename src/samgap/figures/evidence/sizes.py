"""The table of all gaps of dense nets on clean data, with parameters and parameters per training image."""

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from samgap.figures import published
from samgap.figures.evidence.results import Series, same_runs


def table(all_series: list[Series]) -> pd.DataFrame:
    """Return a row for each size of each of our series, by the protocol of the verdict, and of each published figure.

    Columns: study, data, published, params, images (of training), per_image, gap, low, high, n.
    """
    rows = pd.DataFrame([*_ours(all_series), *_published()])
    return rows.assign(per_image=rows["params"] / rows["images"])


def _ours(all_series: list[Series]) -> Iterator[dict[str, Any]]:
    repeated = same_runs(all_series)
    for series in all_series:
        if series in repeated or series.conditions or series.x != "params_total":
            continue
        rule, ends = series.gaps.unbiased, ("gap", "low", "high")
        for _, cell in series.cells.dropna(subset=f"{rule}_gap").iterrows() if f"{rule}_gap" in series.cells else ():
            yield {
                "study": series.text, "data": series.settings["data.name"], "published": False,
                "params": cell["params_total"], "images": series.images, "n": cell["n"],
            } | {end: cell[f"{rule}_{end}"] for end in ends}  # fmt: skip


def _published() -> Iterator[dict[str, Any]]:
    for name in published.ON:
        data = published.data(name)
        for row in published.load(name).to_dict("records"):
            yield {
                "study": name, "data": data, "published": True, "params": row["params"],
                "images": published.IMAGES[data], "n": math.nan, "gap": row["gap"],
                "low": row["gap"] - row["gap_band"], "high": row["gap"] + row["gap_band"],
            }  # fmt: skip
