"""Evaluates a sweep for the figures of gaps: gaps, verdicts, and our numbers joined with the published ones."""

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
    """Return the study of the gaps of `question`; `protocol` is that of the drawn gaps."""
    gaps, beside = question.gaps, side_by_side(question)
    cells, unbiased = gaps.cells, gaps.unbiased
    chosen = unbiased if f"{unbiased}_gap" in cells else protocol
    return Study(
        table=table,
        title="SAM minus SGD in percentage points",
        frame=beside.round(6),
        statistics={
            "protocol_drawn": protocol,
            "protocol_verdict": unbiased,
            "fixed_rho": gaps.fixed_rho if "fixed_gap" in cells else None,
            "rhos": gaps.rhos,
            "sgd_runs": gaps.sgd_runs,
            "rhos_swept": gaps.swept,
            "cells": cells.to_dict("records"),
            "gaps_by_seed": gaps.by_seed.to_dict("records"),
            "gains": gaps.gains.to_dict("records"),
            "thinned": gaps.equal_parameters,
            "notes": gaps.notes,
        },
        rows=tabled(beside, protocol, unbiased),
        remarks=_remarks(table, gaps, protocol),
        headline={
            f"{name}/{cell_label({axis: cell[axis] for axis in gaps.axes}) or 'all'}": cell[f"{chosen}_{column}"]
            for _, cell in cells.iterrows()
            for name, column in (("gap", "gap"), ("low", "low"), ("high", "high"), ("rho*", "rho"))
        },
        verdicts=verdicts,
    )


def _remarks(table: Table, gaps: Gaps, protocol: str) -> list[str]:
    """Return notes on the columns and on exclusions."""
    columns = [
        (protocol, f"gap: rho* by protocol={protocol}"),
        (gaps.unbiased, f"unbiased: rho* by {gaps.unbiased}, 95 % interval from .. to"),
        ("fixed", f"fixed: rho = {gaps.fixed_rho:g} everywhere"),
    ]
    texts = [text for name, text in columns if f"{name}_gap" in gaps.cells]
    lost = "; SAM lost: its runs that diverged or collapsed, at all rhos" if gaps.cells["sam_lost"].any() else ""
    remarks = ["; ".join([*texts, "train: SGD's final training accuracy" + lost + "."])]
    if gaps.sgd_runs != 1:
        remarks.insert(0, f"SGD of a seed is the mean of {gaps.sgd_runs:g} runs for each of SAM (replicate).")
    if any(record.scored_acc_final is not None for record in table.records):
        remarks.insert(0, "Accuracies are on test images and unused training images (data.score_unused).")
    return remarks + [f"Note: {note}." for note in gaps.notes]


def evaluate(table: Table, settings: Mapping[str, Any], protocol: str, verdicts: Verdicts) -> Study:
    """Evaluate the runs of a sweep.

    Args:
        table: the runs.
        settings: settings of the kind of figure: x, series, published, fixed_rho, rule, replicates, registered.
        protocol: chooses the rho that is drawn: paper, or one of `UNBIASED`. The verdict does not depend on it.
        verdicts: returns the verdicts on a question, such as `trend.verdicts`.

    Raises:
        SettingError: see `gaps.gaps`; also a protocol that the runs do not allow.
    """
    plan = settings["registered"] or {}
    sweep_gaps = gaps(table, plan.get("equal_rho", settings["fixed_rho"]), plan.get("rule", settings["rule"]))
    sweep_gaps = replace(sweep_gaps, effect=plan.get("effect"))
    if protocol not in ("paper", *UNBIASED):
        raise SettingError(f"protocol must be paper, holdout, loso or quadratic, got {said(protocol)}.")
    if f"{protocol}_gap" not in sweep_gaps.cells:
        requirements = {"holdout": " with data.holdout above 0", "quadratic": f" and {parabola.LEAST} radii"}
        requirement = "two seeds or more" + requirements.get(protocol, "")
        raise SettingError(f"protocol={protocol} needs {requirement}, and {table.sweep} has none: use protocol=paper.")
    x, over = _axes(sweep_gaps, settings["x"], settings["series"], identity.flat(table.records[0].settings))
    # `canonical` removes the pruner of a dense run, which has no effect.
    effective = [identity.flat(identity.canonical(record.settings)) for record in table.records]
    published_rows = _published(settings["published"], table.sweep.axes, effective) if settings["published"] else None
    question = Question(sweep_gaps, x, over, published_rows)
    beside = side_by_side(question)
    if published_rows is not None and "published_gap" not in beside.dropna(axis=1, how="all"):
        sweep_gaps.notes.append("no published number is of such runs")
    judgments = [*verdicts(question)]
    if published_rows is not None and settings["replicates"]:
        judgments += replication(table, sweep_gaps, beside)
    return study(table, question, judgments, protocol)


def from_report(report: Mapping[str, Any], settings: Mapping[str, Any]) -> Question:
    """Return the gaps of a result that was kept without its runs, from which verdicts can be computed again.

    The accuracies of single runs are unknown. So a run counts as collapsed if SAM loses more than half of SGD's mean
    test accuracy. At equal rho its cell is left out. At a chosen rho it stays, since no other rho can be chosen.

    Args:
        report: the result's json; `rhos` is the number of rhos to choose from.
        settings: settings of the kind of figure.

    Raises:
        SettingError: the result lacks the gaps by seed or the number of rhos.
    """
    if "rhos" not in report or not report["gaps_by_seed"]:
        raise SettingError(f"{report['name']}/{report['scale']} was kept without its runs and the number of its rhos.")
    cells, by_seed = pd.DataFrame(report["cells"]), pd.DataFrame(report["gaps_by_seed"])
    axes = [axis for axis in map(str, by_seed) if axis not in ("protocol", "seed", "rho", "gap")]
    first_settings = identity.flat(report["provenance"]["settings_of_first_run"])
    sgd = (by_seed.merge(cells, on=axes, how="left") if axes else by_seed.merge(cells, how="cross"))["sgd_acc"]
    for _, row in by_seed[(by_seed["protocol"] == "fixed") & (by_seed["gap"] < -sgd / 2)].iterrows():
        cells.loc[(cells[axes] == row[axes]).all(axis=1), "fixed_gap"] = math.nan
    equal_parameters = report.get("thinned", have_equal_parameters(cells, axes))
    unbiased, fixed = report["protocol_verdict"], report["fixed_rho"]
    choice = unbiased, report["rhos"], fixed
    empty, sgd_runs, swept = pd.DataFrame(), report.get("sgd_runs", 1), tuple(report.get("rhos_swept", ()))
    effect = (settings["registered"] or {}).get("effect")
    gaps = Gaps(cells, by_seed, empty, empty, axes, *choice, [], equal_parameters, sgd_runs, swept, effect)
    x, over = _axes(gaps, settings["x"], settings["series"], first_settings)
    published_rows = _published(settings["published"], axes, [first_settings]) if settings["published"] else None
    return Question(gaps, x, over, published_rows)


def _published(names: str | list[str], axes: list[str], settings: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the published rows with the settings that all our runs share, such as the pruner.

    Args:
        names: names of the tables.
        axes: the swept axes.
        settings: settings of our runs, with dotted keys.
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
        our_values = {run_settings[column] for run_settings in settings if column in run_settings} or {0}
        rows = rows[rows[column].isin(our_values)].drop(columns=column)
    return rows


def _axes(
    gaps: Gaps, x: str | None, over: list[str] | None, settings: Mapping[str, Any]
) -> tuple[str, list[str] | None]:
    """Return x and the axes of the series from `draw.x` and `draw.series`, without axes that were not swept."""
    default = default_x(gaps.cells, gaps.axes)
    numeric = [axis for axis in gaps.axes if pd.api.types.is_numeric_dtype(gaps.cells[axis])]
    known = ["params_total", "params_live", *numeric]
    if isinstance(x, str) and x in settings and x not in gaps.axes:
        gaps.notes.append(f"drawn over {default}, since {x} (draw.x) was not swept")
        x = None
    if x is not None and x not in known:
        raise SettingError(f"draw.x must be null or one of {', '.join(known)}, got {said(x)}.")
    axes = [*gaps.axes, *settings]
    if over is not None and not (isinstance(over, list) and all(axis in axes for axis in over)):
        swept = ", ".join(gaps.axes) or "none here"
        raise SettingError(f"draw.series must be null or a list of swept keys ({swept}), got {said(over)}.")
    return x or default, over if over is None else [axis for axis in over if axis in gaps.axes]
