"""Everything a drawing needs from one sweep: gaps, verdicts, the published numbers, and how they are written out."""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from samgap import identity, provenance
from samgap.errors import SettingError
from samgap.files import replace, replace_text
from samgap.results import published, sweeps
from samgap.results.gaps import Gaps, Protocol, gaps
from samgap.results.sweeps import Sweep
from samgap.results.table import Table, collect
from samgap.results.verdict import Verdict, published_for
from samgap.training.settings import locate


@dataclass(frozen=True)
class Study:
    """One sweep, evaluated."""

    table: Table
    gaps: Gaps
    verdicts: list[Verdict]
    published: pd.DataFrame | None
    x: str  # column of gaps.cells on the horizontal axis
    over: list[str] | None  # axes that make a series, see verdict.series
    protocol: Protocol  # how the drawn rho was chosen

    @property
    def sweep(self) -> Sweep:
        """What was asked for."""
        return self.table.sweep

    @property
    def data(self) -> str:
        """The data set, with the training images where they are a subset: "fashion_mnist (2,000 images)"."""
        names = []
        for record in self.table.records:
            data = record.settings["data"]
            names.append(data["name"] + (f" ({data['train_size']:,} images)" if data.get("train_size") else ""))
        return " and ".join(dict.fromkeys(names))

    def says(self, verdict: Verdict) -> str:
        """The verdict in one line, always with scale and data set."""
        where = f"{self.sweep.name}/{self.sweep.scale} on {self.data}"
        text = f"{verdict.answer.upper()}: {where}{', ' + verdict.series if verdict.series else ''}: {verdict.reason}."
        if self.table.missing:
            text += f" Provisional: {len(self.table.missing)} runs are missing."
        if self.sweep.scale == "smoke":
            text += " Smoke scale proves the road; it is no evidence."
        return text


def evaluate(root: Path, name: str, scale: str, settings: Mapping[str, Any], protocol: str) -> Study:
    """Read a sweep's records and work everything out.

    Args:
        root: where results lie.
        name, scale: of the sweep.
        settings: the `draw` group: x, series, published, fixed_rho, verdict.
        protocol: paper, holdout or loso: whose rho is drawn. The verdict does not depend on it.

    Raises:
        SettingError: see `table.collect` and `gaps.gaps`; also a protocol that the runs do not allow.
    """
    fixed = settings["fixed_rho"]
    if fixed is not None and (isinstance(fixed, bool) or not isinstance(fixed, int | float)):
        raise SettingError(f"draw.fixed_rho must be a number, or null for the median of those swept, got {fixed!r}.")
    table = collect(sweeps.read(root, name, scale), root)
    found = gaps(table, fixed)
    if protocol not in ("paper", "holdout", "loso"):
        raise SettingError(f"protocol must be paper, holdout or loso, got {protocol!r}.")
    if f"{protocol}_gap" not in found.cells:
        need = "two seeds or more" + (" with data.holdout above 0" if protocol == "holdout" else "")
        raise SettingError(f"protocol={protocol} wants {need}, and {name}/{scale} has none: use protocol=paper.")
    x, over = _axes(found, settings["x"], settings["series"])
    reference = _published(settings["published"], table) if settings["published"] else None
    found_verdicts = locate(settings["verdict"])(found, x, over, reference)
    return Study(table, found, found_verdicts, reference, x, over, protocol)  # type: ignore[arg-type]


def _published(names: str | list[str], table: Table) -> pd.DataFrame:
    """The published rows; what all our runs have in common, such as the pruner, theirs must have too."""
    parts = []
    for name in names if isinstance(names, list) else [names]:
        parts.append(published.load(name))
        if not {"width", "params", "gap"} <= {*parts[-1].columns}:
            raise SettingError(f"draw.published wants tables of gaps by width and parameters, and {name!r} is none.")
    rows = pd.concat(parts, ignore_index=True)
    for column in [column for column in map(str, rows) if "." in column and column not in table.sweep.axes]:
        # A dense run does not say which pruner it had.
        meant = [identity.flat(identity.canonical(record.settings)) for record in table.records]
        ours = {settings[column] for settings in meant if column in settings} or {0}
        rows = rows[rows[column].isin(ours)].drop(columns=column)
    return rows


def _axes(found: Gaps, x: str | None, over: list[str] | None) -> tuple[str, list[str] | None]:
    numeric = [axis for axis in found.axes if pd.api.types.is_numeric_dtype(found.cells[axis])]
    if x is None:
        measures = [axis for axis in numeric if not axis.endswith("seed")]
        x = "params_total" if "model.width" in found.axes or not measures else measures[0]
    if x not in ("params_total", "params_live", *numeric):
        raise SettingError(f"draw.x must be params_total, params_live or one of {numeric}, got {x!r}.")
    if over is not None and not set(over) <= set(found.axes):
        raise SettingError(f"draw.series must be null or a list of some of {found.axes}, got {over!r}.")
    return x, over


def side_by_side(study: Study) -> pd.DataFrame:
    """Our cells with the published numbers of the same width beside them; published widths that we lack follow those
    of their series.
    """
    ours = study.gaps.cells
    if study.published is None or "model.width" not in ours:
        return ours
    others = [axis for axis in study.gaps.axes if axis not in ("model.width", study.x)]
    parts = []
    for values, mine in ours.groupby(others, sort=False) if others else [((), ours)]:
        theirs = published_for(study.published, axes := dict(zip(others, values, strict=True)), study.x)
        theirs = theirs.drop(columns=[column for column in map(str, theirs) if "." in column]).add_prefix("published_")
        theirs = theirs.rename(columns={"published_width": "model.width", "published_x": f"published_{study.x}"})
        theirs, mine = (frame.astype({"model.width": float}) for frame in (theirs, mine))
        keys = ["model.width"]
        if study.x in study.gaps.axes and not study.gaps.thinned:  # the published place is rounded
            keys.append("place")
            mine["place"], theirs["place"] = mine[study.x].round(2), theirs[f"published_{study.x}"].round(2)
        both = mine.merge(theirs, on=keys, how="outer", sort=True).fillna(axes)
        if study.x in study.gaps.axes:
            both[study.x] = both[study.x].fillna(both[f"published_{study.x}"])
        parts.append(both.drop(columns=["place", "published_params_total", "published_params_live"], errors="ignore"))
    return pd.concat(parts, ignore_index=True)


def write(study: Study, folder: Path) -> None:
    """<name>.csv (numbers, ours beside the published) and <name>.json (statistics, verdict, provenance, holes)."""
    name = study.sweep.name
    replace(folder / f"{name}.csv", lambda path: side_by_side(study).round(6).to_csv(path, index=False))
    replace_text(folder / f"{name}.json", json.dumps(_clean(report(study)), indent=1, allow_nan=False) + "\n")


def report(study: Study) -> dict[str, Any]:
    """The study as plain values: what the table cannot hold."""
    records = study.table.records
    return {
        "name": study.sweep.name,
        "scale": study.sweep.scale,
        "data": study.data,
        "command": study.sweep.command,
        "verdicts": [dataclasses.asdict(verdict) | {"text": study.says(verdict)} for verdict in study.verdicts],
        "protocol_drawn": study.protocol,
        "protocol_verdict": study.gaps.unbiased,
        "fixed_rho": study.gaps.fixed_rho,
        "cells": study.gaps.cells.to_dict("records"),
        "gaps_by_seed": study.gaps.by_seed.to_dict("records"),
        "notes": study.gaps.notes,
        "runs": {
            "asked": len(study.sweep.unique()),
            "with_record": len(records),
            "diverged": [record.folder for record in records if record.status == "diverged"],
            "missing": study.table.missing,
        },
        "provenance": {
            "drawn": provenance.now(),
            "drawn_by_commit": provenance.commit()[0],
            "commits": dict(Counter(record.commit + ("+changes" if record.dirty else "") for record in records)),
            "versions": _values(record.versions for record in records),
            "devices": sorted({record.device for record in records}),
            "data_sha256": sorted({record.data_sha256 for record in records}),
            "first_started": min(record.started for record in records),
            "last_finished": max(record.finished for record in records),
            "core_seconds": round(sum(record.seconds for record in records), 1),
            "settings_of_first_run": records[0].settings,
        },
    }


def _values(many: Any) -> dict[str, list[str]]:
    # All versions that occur, by package: one each unless the sweep went on after an upgrade.
    found: dict[str, set[str]] = {}
    for versions in many:
        for package, version in versions.items():
            found.setdefault(package, set()).add(version)
    return {package: sorted(values) for package, values in found.items()}


def _clean(value: Any) -> Any:
    # JSON has no nan; numpy scalars are no JSON either.
    if isinstance(value, dict):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
