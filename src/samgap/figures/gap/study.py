"""Everything the gap figures need from one sweep: gaps, verdicts, and the published numbers beside ours."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from samgap.errors import SettingError, said
from samgap.figures import published
from samgap.figures.gap import parabola
from samgap.figures.gap.beside import side_by_side, tabled
from samgap.figures.gap.cells import UNBIASED, Protocol
from samgap.figures.gap.gaps import Gaps, gaps
from samgap.figures.gap.replication import replication
from samgap.figures.gap.series import default_x
from samgap.figures.output import Judgment
from samgap.figures.table import Table, cell_label, collect
from samgap.runs import identity, sweeps

Asked = tuple[Gaps, str, list[str] | None, pd.DataFrame | None]  # the gaps, x, over and published of a verdict
Verdicts = Callable[[Gaps, str, list[str] | None, pd.DataFrame | None], Sequence[Judgment]]


@dataclass(frozen=True)
class Study:
    """One sweep, evaluated."""

    table: Table
    gaps: Gaps
    verdicts: list[Judgment]
    published: pd.DataFrame | None
    x: str  # column of gaps.cells on the horizontal axis
    over: list[str] | None  # axes that make a series, see verdict.series
    protocol: Protocol  # how the drawn rho was chosen

    title: ClassVar[str] = "SAM minus SGD in percentage points"

    def frame(self) -> pd.DataFrame:
        """What is plotted, ours beside the published."""
        return side_by_side(self.gaps, self.published, self.x).round(6)

    def statistics(self) -> dict[str, Any]:
        """What the table cannot hold."""
        return {
            "protocol_drawn": self.protocol,
            "protocol_verdict": self.gaps.unbiased,
            "fixed_rho": self.gaps.fixed_rho if "fixed_gap" in self.gaps.cells else None,
            "rhos": self.gaps.rhos,
            "sgd_runs": self.gaps.sgd_runs,
            "rhos_swept": self.gaps.swept,
            "cells": self.gaps.cells.to_dict("records"),
            "gaps_by_seed": self.gaps.by_seed.to_dict("records"),
            "gains": self.gaps.gains.to_dict("records"),
            "thinned": self.gaps.equal_parameters,
            "notes": self.gaps.notes,
        }

    def rows(self) -> pd.DataFrame:
        """A row a cell."""
        return tabled(side_by_side(self.gaps, self.published, self.x), self.protocol, self.gaps.unbiased)

    def remarks(self) -> list[str]:
        """What the columns are, and what was left out."""
        unbiased = self.gaps.unbiased
        columns = [
            (self.protocol, f"gap: rho* by protocol={self.protocol}"),
            (unbiased, f"unbiased: rho* by {unbiased}, 95 % interval from .. to"),
            ("fixed", f"fixed: rho = {self.gaps.fixed_rho:g} everywhere"),
        ]
        known = [text for protocol, text in columns if f"{protocol}_gap" in self.gaps.cells]
        lost = (
            "; SAM lost: its runs that diverged or collapsed, at all rhos" if self.gaps.cells["sam_lost"].any() else ""
        )
        scored = any(record.scored_acc_final is not None for record in self.table.records)
        images = ["Accuracies are on test images and unused training images (data.score_unused)."] if scored else []
        sgd = self.gaps.sgd_runs
        runs = [f"SGD of a seed is the mean of {sgd:g} runs for each of SAM (replicate)."] if sgd != 1 else []
        return [
            *images,
            *runs,
            "; ".join([*known, "train: SGD's final training accuracy" + lost + "."]),
            *(f"Note: {note}." for note in self.gaps.notes),
        ]

    def headline(self) -> dict[str, Any]:
        """Gap, 95 % interval and rho* of each cell, by the unbiased choice of rho where there is one."""
        cells = self.gaps.cells
        chosen = self.gaps.unbiased if f"{self.gaps.unbiased}_gap" in cells else self.protocol
        return {
            f"{name}/{cell_label({axis: cell[axis] for axis in self.gaps.axes}) or 'all'}": cell[f"{chosen}_{column}"]
            for _, cell in cells.iterrows()
            for name, column in (("gap", "gap"), ("low", "low"), ("high", "high"), ("rho*", "rho"))
        }


def evaluate(
    root: Path, name: str, scale: str, settings: Mapping[str, Any], protocol: str, verdicts: Verdicts
) -> Study:
    """Read a sweep's records and work everything out.

    Args:
        root: where results lie.
        name, scale: of the sweep.
        settings: of the kind of figure: x, series, published, fixed_rho, rule, replicates.
        protocol: paper, or one of `UNBIASED`: whose rho is drawn. The verdict does not depend on it.
        verdicts: gives the answers, such as `trend.verdicts`.

    Raises:
        SettingError: see `table.collect` and `gaps.gaps`; also a protocol that the runs do not allow.
    """
    fixed = settings["fixed_rho"]
    if fixed is not None and (isinstance(fixed, bool) or not isinstance(fixed, int | float)):
        raise SettingError(
            f"draw.fixed_rho must be a number, or null for the median of those swept, got {said(fixed)}."
        )
    block = settings["registered"] or {}
    table = collect(sweeps.read(root, name, scale), root, block)
    found = gaps(table, block.get("equal_rho", fixed), block.get("rule", settings["rule"]))
    found = replace(found, effect=block.get("effect"))
    if protocol not in ("paper", *UNBIASED):
        raise SettingError(f"protocol must be paper, holdout, loso or quadratic, got {said(protocol)}.")
    if f"{protocol}_gap" not in found.cells:
        also = {"holdout": " with data.holdout above 0", "quadratic": f" and {parabola.LEAST} radii"}
        need = "two seeds or more" + also.get(protocol, "")
        raise SettingError(f"protocol={protocol} needs {need}, and {name}/{scale} has none: use protocol=paper.")
    x, over = _axes(found, settings["x"], settings["series"], identity.flat(table.records[0].settings))
    # A dense run does not say which pruner it had.
    meant = [identity.flat(identity.canonical(record.settings)) for record in table.records]
    reference = _published(settings["published"], table.sweep.axes, meant) if settings["published"] else None
    if reference is not None and "published_gap" not in side_by_side(found, reference, x).dropna(axis=1, how="all"):
        found.notes.append("no published number is of such runs")
    study = Study(table, found, [*verdicts(found, x, over, reference)], reference, x, over, protocol)
    if reference is None or not settings["replicates"]:
        return study
    return replace(study, verdicts=[*study.verdicts, *replication(table, found, side_by_side(found, reference, x))])


def kept(report: Mapping[str, Any], settings: Mapping[str, Any]) -> Asked:
    """The gaps that a result was kept with, as verdicts ask for them.

    The accuracies of its runs were not: a run collapsed where the gap takes more than half of SGD's mean test accuracy.
    At equal rho its cell is left out. Where a rho was chosen it stays, since no other can be chosen any more.

    Args:
        report: its json; `rhos` says how many there were to choose from.
        settings: of the kind of figure.

    Raises:
        SettingError: the result does not have them.
    """
    if "rhos" not in report or not report["gaps_by_seed"]:
        raise SettingError(f"{report['name']}/{report['scale']} was kept without its runs and the number of its rhos.")
    cells, by_seed = pd.DataFrame(report["cells"]), pd.DataFrame(report["gaps_by_seed"])
    axes = [axis for axis in map(str, by_seed) if axis not in ("protocol", "seed", "rho", "gap")]
    own = identity.flat(report["provenance"]["settings_of_first_run"])
    sgd = by_seed.merge(cells, on=axes, how="left")["sgd_acc"]
    for _, row in by_seed[(by_seed["protocol"] == "fixed") & (by_seed["gap"] < -sgd / 2)].iterrows():
        cells.loc[(cells[axes] == row[axes]).all(axis=1), "fixed_gap"] = math.nan
    others = [axis for axis in axes if axis != "pruner.sparsity"]
    equal_parameters = len(others) < len(axes) and bool(cells.groupby(others)["pruner.sparsity"].nunique().max() == 1)
    unbiased, fixed = report["protocol_verdict"], report["fixed_rho"]
    choice = unbiased, report["rhos"], fixed
    none, sgd_runs, swept = pd.DataFrame(), report.get("sgd_runs", 1), tuple(report.get("rhos_swept", ()))
    found = Gaps(cells, by_seed, none, none, axes, *choice, [], equal_parameters, sgd_runs, swept)
    x, over = _axes(found, settings["x"], settings["series"], own)
    reference = _published(settings["published"], axes, [own]) if settings["published"] else None
    return found, x, over, reference


def _published(names: str | list[str], axes: list[str], settings: list[dict[str, Any]]) -> pd.DataFrame:
    """The published rows; what all our runs have in common, such as the pruner, theirs must have too.

    Args:
        names: of the tables.
        axes: that were swept.
        settings: of our runs, flat.
    """
    parts = []
    for name in names if isinstance(names, list) else [names]:
        parts.append(published.load(name))
        if not {"width", "params", "gap"} <= {*parts[-1].columns}:
            raise SettingError(
                f"draw.published needs tables of gaps by width and parameters, and {said(name)} is none."
            )
    rows = pd.concat(parts, ignore_index=True)
    for column in [column for column in map(str, rows) if "." in column and column not in axes]:
        ours = {each[column] for each in settings if column in each} or {0}
        rows = rows[rows[column].isin(ours)].drop(columns=column)
    return rows


def _axes(
    found: Gaps, x: str | None, over: list[str] | None, settings: Mapping[str, Any]
) -> tuple[str, list[str] | None]:
    """What `draw.x` and `draw.series` say; settings that were not swept, as in a part of a grid, are no axes."""
    default = default_x(found.cells, found.axes)
    numeric = [axis for axis in found.axes if pd.api.types.is_numeric_dtype(found.cells[axis])]
    known = ["params_total", "params_live", *numeric]
    if isinstance(x, str) and x in settings and x not in found.axes:
        found.notes.append(f"drawn over {default}, since {x} (draw.x) was not swept")
        x = None
    if x is not None and x not in known:
        raise SettingError(f"draw.x must be null or one of {', '.join(known)}, got {said(x)}.")
    axes = [*found.axes, *settings]
    if over is not None and not (isinstance(over, list) and all(axis in axes for axis in over)):
        swept = ", ".join(found.axes) or "none here"
        raise SettingError(f"draw.series must be null or a list of swept keys ({swept}), got {said(over)}.")
    return x or default, over if over is None else [axis for axis in over if axis in found.axes]
