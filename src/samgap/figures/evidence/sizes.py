"""All gaps of dense nets on clean data over their parameters, and over parameters per training image."""

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from samgap.figures import published
from samgap.figures.evidence.results import Series, same_runs


def table(several: list[Series]) -> pd.DataFrame:
    """A row for each size of each series, ours by the protocol of the verdict, and of the published figures.

    Columns: study, data, published, params, images (of training), per_image, gap, low, high, n.
    """
    rows = pd.DataFrame([*_ours(several), *_published()])
    return rows.assign(per_image=rows["params"] / rows["images"])


def _ours(several: list[Series]) -> Iterator[dict[str, Any]]:
    shared = same_runs(several)
    for one in several:
        if one in shared or one.conditions or one.x != "params_total":
            continue
        rule, ends = one.found.unbiased, ("gap", "low", "high")
        for _, cell in one.cells.dropna(subset=f"{rule}_gap").iterrows() if f"{rule}_gap" in one.cells else ():
            yield {
                "study": one.text, "data": one.settings["data.name"], "published": False,
                "params": cell["params_total"], "images": one.images, "n": cell["n"],
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
