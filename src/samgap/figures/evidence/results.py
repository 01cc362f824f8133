"""The series of gaps of all results: those below a root, and those that came with samgap."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from samgap.figures import kind, published
from samgap.figures.gap import null, series, study
from samgap.figures.gap.charts import label
from samgap.figures.gap.kinds import BestRho, Choices, Gap
from samgap.figures.gap.slopes import spreads
from samgap.figures.table import cell_label
from samgap.files import read_json
from samgap.runs import identity

LEAST_SEEDS, LEAST_CELLS = 2, 3  # of a trend
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
        named: str = label(self.axes)
        return ", ".join(filter(None, (self.study, named.removesuffix(": "))))

    @property
    def unit(self) -> str:
        """The unit of x in slopes, as text."""
        return DECADE if self.x.startswith("params") else self.x

    @property
    def rules(self) -> list[str]:
        """The protocols of its gaps."""
        return [*dict.fromkeys(self.found.by_seed["protocol"])]

    @property
    def images(self) -> float:
        """Training images; nan if unknown."""
        size, holdout = self.settings.get("data.train_size"), self.settings.get("data.holdout") or 0
        return size or published.IMAGES.get(self.settings["data.name"], math.nan) - holdout

    @cached_property
    def conditions(self) -> str:
        """The settings in which it differs from clean data and dense nets, or ""."""
        unswept = {key: self.settings.get(key) for key in CONDITIONS if key not in self.found.axes}
        return cell_label({axis: value for axis, value in (unswept | self.axes).items() if value not in OFF})

    def nothing(self, rule: str, gaps: np.ndarray, part: int = 0) -> np.ndarray:
        """Gaps (studies, seeds, cells) of simulated studies without effect and with the noise of `gaps`."""
        found = null.gaps(*gaps.shape, self.found.choices(rule), part, self.found.sgd_runs, own=rule == "paper")
        return found * spreads(gaps).astype(np.float32)

    @cached_property
    def signature(self) -> set[tuple[float, ...]]:
        """Its gaps with their cell, seed and rho, which identify runs that are part of another series too."""
        cells = self.cells[[*self.found.axes, "params_total", "params_live"]]
        rows = self.found.by_seed.merge(cells, on=self.found.axes) if self.found.axes else self.found.by_seed
        columns = [column for column in ("params_total", "params_live", "seed", "rho", "gap") if column in rows]
        return {tuple(row) for row in rows[columns].astype(float).round(6).to_numpy().tolist()}


def read(folders: Iterable[Path]) -> list[Series]:
    """All series of the results in some folders, except smoke scale, in the order of the paper's figures.

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
    return [one for _, path in ordered for one in of_result(path)]


def order(name: str) -> tuple[int, str]:
    """Return the sort key of a figure."""
    number = re.fullmatch(r"fig(\d+)", name)
    return (int(number[1]) if number else 99, name)


def of_result(path: Path) -> Iterator[Series]:
    """Yield the series of a result; none if it has no gaps."""
    report = read_json(path, "draw it again")
    if not report.get("gaps_by_seed"):
        return
    drawn = kind.made(report["draw"])
    if not isinstance(drawn, Gap) or isinstance(drawn, (BestRho, Choices)):
        return
    settings = identity.flat(report["provenance"]["settings_of_first_run"])
    for one in study.kept(report, drawn.settings).series():
        yield Series(folder=path.parent, settings=settings, **vars(one))


def same_runs(several: list[Series]) -> dict[Series, Series]:
    """Map each series that shares half of its gaps or more with a larger or earlier one to that one."""
    known: list[Series] = []
    shared: dict[Series, Series] = {}
    for one in sorted(several, key=lambda one: -len(one.signature)):
        for other in known:
            if other.unit == one.unit and 2 * len(one.signature & other.signature) >= len(one.signature):
                shared[one] = other
                break
        else:
            known.append(one)
    return shared
