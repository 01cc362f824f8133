"""The study of one sweep for the figures of gaps: gaps, verdicts, and the published numbers beside ours."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from samgap.errors import SettingError, said
from samgap.figures import published
from samgap.figures.gap import parabola
from samgap.figures.gap.beside import side_by_side, tabled
from samgap.figures.gap.cells import UNBIASED, Protocol
from samgap.figures.gap.gaps import Gaps, gaps, have_equal_parameters
from samgap.figures.gap.replication import replication
from samgap.figures.gap.series import Question, default_x
from samgap.figures.output import Judgment, Study
from samgap.figures.table import Table, cell_label
from samgap.runs import identity

Verdicts = Callable[[Question], Sequence[Judgment]]


def study(table: Table, question: Question, verdicts: Sequence[Judgment], protocol: Protocol) -> Study:
    """Return the study of some gaps; `protocol` says how the drawn rho was chosen."""
    found, beside = question.found, side_by_side(question)
    cells, unbiased = found.cells, found.unbiased
    chosen = unbiased if f"{unbiased}_gap" in cells else protocol
    return Study(
        table=table,
        title="SAM minus SGD in percentage points",
        frame=beside.round(6),
        statistics={
            "protocol_drawn": protocol,
            "protocol_verdict": unbiased,
            "fixed_rho": found.fixed_rho if "fixed_gap" in cells else None,
            "rhos": found.rhos,
            "sgd_runs": found.sgd_runs,
            "rhos_swept": found.swept,
            "cells": cells.to_dict("records"),
            "gaps_by_seed": found.by_seed.to_dict("records"),
            "gains": found.gains.to_dict("records"),
            "thinned": found.equal_parameters,
            "notes": found.notes,
        },
        rows=tabled(beside, protocol, unbiased),
        remarks=_remarks(table, found, protocol),
        headline={
            f"{name}/{cell_label({axis: cell[axis] for axis in found.axes}) or 'all'}": cell[f"{chosen}_{column}"]
            for _, cell in cells.iterrows()
            for name, column in (("gap", "gap"), ("low", "low"), ("high", "high"), ("rho*", "rho"))
        },
        verdicts=verdicts,
    )


def _remarks(table: Table, found: Gaps, protocol: str) -> list[str]:
    """Notes on the columns and on what is excluded."""
    columns = [
        (protocol, f"gap: rho* by protocol={protocol}"),
        (found.unbiased, f"unbiased: rho* by {found.unbiased}, 95 % interval from .. to"),
        ("fixed", f"fixed: rho = {found.fixed_rho:g} everywhere"),
    ]
    known = [text for name, text in columns if f"{name}_gap" in found.cells]
    lost = "; SAM lost: its runs that diverged or collapsed, at all rhos" if found.cells["sam_lost"].any() else ""
    remarks = ["; ".join([*known, "train: SGD's final training accuracy" + lost + "."])]
    if found.sgd_runs != 1:
        remarks.insert(0, f"SGD of a seed is the mean of {found.sgd_runs:g} runs for each of SAM (replicate).")
    if any(record.scored_acc_final is not None for record in table.records):
        remarks.insert(0, "Accuracies are on test images and unused training images (data.score_unused).")
    return remarks + [f"Note: {note}." for note in found.notes]


def evaluate(table: Table, settings: Mapping[str, Any], protocol: str, verdicts: Verdicts) -> Study:
    """Evaluate the runs of a sweep.

    Args:
        table: the runs.
        settings: of the kind of figure: x, series, published, fixed_rho, rule, replicates.
        protocol: chooses the rho that is drawn: paper, or one of `UNBIASED`. The verdict does not depend on it.
        verdicts: gives the answers, such as `trend.verdicts`.

    Raises:
        SettingError: see `gaps.gaps`; also a protocol that the runs do not allow.
    """
    block = settings["registered"] or {}
    found = gaps(table, block.get("equal_rho", settings["fixed_rho"]), block.get("rule", settings["rule"]))
    found = replace(found, effect=block.get("effect"))
    if protocol not in ("paper", *UNBIASED):
        raise SettingError(f"protocol must be paper, holdout, loso or quadratic, got {said(protocol)}.")
    if f"{protocol}_gap" not in found.cells:
        also = {"holdout": " with data.holdout above 0", "quadratic": f" and {parabola.LEAST} radii"}
        need = "two seeds or more" + also.get(protocol, "")
        raise SettingError(f"protocol={protocol} needs {need}, and {table.sweep} has none: use protocol=paper.")
    x, over = _axes(found, settings["x"], settings["series"], identity.flat(table.records[0].settings))
    # A dense run does not say which pruner it had.
    meant = [identity.flat(identity.canonical(record.settings)) for record in table.records]
    reference = _published(settings["published"], table.sweep.axes, meant) if settings["published"] else None
    question = Question(found, x, over, reference)
    beside = side_by_side(question)
    if reference is not None and "published_gap" not in beside.dropna(axis=1, how="all"):
        found.notes.append("no published number is of such runs")
    judged = [*verdicts(question)]
    if reference is not None and settings["replicates"]:
        judged += replication(table, found, beside)
    return study(table, question, judged, protocol)


def kept(report: Mapping[str, Any], settings: Mapping[str, Any]) -> Question:
    """Return the gaps of a result that was kept without its runs, as verdicts need them.

    The accuracies of single runs are unknown. So a run counts as collapsed if the gap is more than half of SGD's mean
    test accuracy. At equal rho its cell is left out. At a chosen rho it stays, since no other rho can be chosen.

    Args:
        report: its json; `rhos` is the number of rhos to choose from.
        settings: of the kind of figure.

    Raises:
        SettingError: the result lacks them.
    """
    if "rhos" not in report or not report["gaps_by_seed"]:
        raise SettingError(f"{report['name']}/{report['scale']} was kept without its runs and the number of its rhos.")
    cells, by_seed = pd.DataFrame(report["cells"]), pd.DataFrame(report["gaps_by_seed"])
    axes = [axis for axis in map(str, by_seed) if axis not in ("protocol", "seed", "rho", "gap")]
    own = identity.flat(report["provenance"]["settings_of_first_run"])
    sgd = by_seed.merge(cells, on=axes, how="left")["sgd_acc"]
    for _, row in by_seed[(by_seed["protocol"] == "fixed") & (by_seed["gap"] < -sgd / 2)].iterrows():
        cells.loc[(cells[axes] == row[axes]).all(axis=1), "fixed_gap"] = math.nan
    unbiased, fixed = report["protocol_verdict"], report["fixed_rho"]
    choice = unbiased, report["rhos"], fixed
    none, sgd_runs, swept = pd.DataFrame(), report.get("sgd_runs", 1), tuple(report.get("rhos_swept", ()))
    equal = have_equal_parameters(cells, axes)
    found = Gaps(cells, by_seed, none, none, axes, *choice, [], equal, sgd_runs, swept)
    x, over = _axes(found, settings["x"], settings["series"], own)
    reference = _published(settings["published"], axes, [own]) if settings["published"] else None
    return Question(found, x, over, reference)


def _published(names: str | list[str], axes: list[str], settings: list[dict[str, Any]]) -> pd.DataFrame:
    """The published rows with the settings that all our runs share, such as the pruner.

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
    """Return x and series by `draw.x` and `draw.series`. A setting that was not swept is no axis."""
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
