"""Reads the series of gaps of all results, those below a root and those that came with samgap."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from samgap.figures import archive, kind, published
from samgap.figures.gap import null, series, study
from samgap.figures.gap.charts import label
from samgap.figures.gap.kinds import BestRho, Choices, Gap
from samgap.figures.gap.slopes import spreads
from samgap.figures.table import cell_label
from samgap.files import read_json
from samgap.runs import identity

LEAST_SEEDS, LEAST_CELLS = 2, 3  # for a trend test
DECADE = "decade of parameters"
OFF = (0, "null", "false", None)
CONDITIONS = ("data.label_noise", "pruner.sparsity")


@dataclass(frozen=True, eq=False, kw_only=True)
class Series(series.Series):
    """A series of a result."""

    folder: Path  # of the result: <figure>/<scale>
    settings: Mapping[str, Any]  # of its first run, with dotted keys

    @property
    def name(self) -> str:
        """The name of the figure."""
        return self.folder.parent.name

    @property
    def study(self) -> str:
        """Figure and scale."""
        return f"{self.name}/{self.folder.name}"

    @property
    def text(self) -> str:
        """Figure, scale and name of the series."""
        name: str = label(self.axes)
        return ", ".join(filter(None, (self.study, name.removesuffix(": "))))

    @property
    def unit(self) -> str:
        """The unit of x in slopes, as text."""
        return DECADE if self.x.startswith("params") else self.x

    @property
    def rules(self) -> list[str]:
        """The protocols of its gaps."""
        return [*dict.fromkeys(self.gaps.by_seed["protocol"])]

    @property
    def images(self) -> float:
        """Training images; nan if unknown."""
        size, holdout = self.settings.get("data.train_size"), self.settings.get("data.holdout") or 0
        return size or published.IMAGES.get(self.settings["data.name"], math.nan) - holdout

    @cached_property
    def conditions(self) -> str:
        """Its noise and sparsity as text; "" for dense nets on clean data."""
        fixed = {key: self.settings.get(key) for key in CONDITIONS if key not in self.gaps.axes}
        for key in {*CONDITIONS} & {*self.gaps.axes} - {*self.axes, self.x}:  # it follows from x, as the width does
            fixed[key] = next((value for value in self.cells[key] if value not in OFF), None) and "several"
        return cell_label({axis: value for axis, value in (fixed | self.axes).items() if value not in OFF})

    def null_gaps(self, rule: str, gaps: np.ndarray, part: int = 0) -> np.ndarray:
        """Simulate gaps (studies, seeds, cells) without effect and with the noise of `gaps` (seeds, cells)."""
        unit_gaps = null.gaps(*gaps.shape, self.gaps.choices(rule), part, self.gaps.sgd_runs, joint=rule == "paper")
        return unit_gaps * spreads(gaps).astype(np.float32)

    @cached_property
    def signature(self) -> set[tuple[float, ...]]:
        """Its gaps with cell, seed and rho. Two series with equal elements share runs."""
        cells, rows = self.cells[[*self.gaps.axes, "params_total", "params_live"]], self.gaps.by_seed
        fixed = rows["protocol"] == "fixed"
        rows = rows[fixed] if fixed.any() else rows  # the other protocols choose rho by all seeds of a study
        rows = rows.merge(cells, on=self.gaps.axes) if self.gaps.axes else rows
        columns = [column for column in ("params_total", "params_live", "seed", "rho", "gap") if column in rows]
        return {tuple(row) for row in rows[columns].astype(float).round(6).to_numpy().tolist()}

    @cached_property
    def runs(self) -> set[str]:
        """The folders of its runs; empty if the result was kept without them."""
        if not (self.folder / archive.FOLDER).exists():
            return set()
        axes = self.axes.items()
        members = archive.read(self.folder)[0].members
        return {member.folder for member in members if all(member.axes.get(axis) == value for axis, value in axes)}

    def shares_runs(self, other: Self) -> bool:
        """Whether both have at least half of the runs of either, or of its gaps where the runs were not kept."""
        ours, theirs = self.runs, other.runs
        if not ours or not theirs:
            ours, theirs = self.signature, other.signature  # type: ignore[assignment]
        return self.unit == other.unit and 2 * len(ours & theirs) >= max(min(len(ours), len(theirs)), 1)


def read(folders: Iterable[Path]) -> list[Series]:
    """Return all series of the results in some folders, except smoke scale, in the order of the paper's figures.

    Args:
        folders: with results <name>/<scale>/<name>.json; those of a later folder replace those of an earlier one.

    Raises:
        SettingError: a result lacks the number of its rhos.
    """
    paths = {
        path.parent.relative_to(folder): path
        for folder in folders
        for path in folder.glob("*/*/*.json")
        if path.stem == path.parent.parent.name and path.parent.name != "smoke"
    }
    ordered = sorted(paths.items(), key=lambda item: (order(item[0].parent.name), item[0].name))
    return [result for _, path in ordered for result in of_result(path)]


def order(name: str) -> tuple[int, str]:
    """Return the sort key of a figure: its number in the paper, then its name."""
    number = re.fullmatch(r"fig(\d+)", name)
    return (int(number[1]) if number else 99, name)


def of_result(path: Path) -> Iterator[Series]:
    """Yield the series of a result. Those with two cells of one x have no trend and are left out."""
    report = read_json(path, "draw it again")
    if not report.get("gaps_by_seed"):
        return
    figure = kind.from_settings(report["draw"])
    if not isinstance(figure, Gap) or isinstance(figure, (BestRho, Choices)):
        return
    settings = identity.flat(report["provenance"]["settings_of_first_run"])
    for result in study.from_report(report, figure.settings).series():
        if not result.cells[result.x].duplicated().any():
            yield Series(folder=path.parent, settings=settings, **vars(result))


def same_runs(all_series: list[Series]) -> dict[Series, Series]:
    """Map each series that shares its runs with another to the one of them with more sizes or gaps."""
    distinct: list[Series] = []
    repeated: dict[Series, Series] = {}
    for smaller in sorted(all_series, key=lambda series: (-len(series.cells), -len(series.signature))):
        if larger := next(filter(smaller.shares_runs, distinct), None):
            repeated[smaller] = larger
        else:
            distinct.append(smaller)
    return repeated
