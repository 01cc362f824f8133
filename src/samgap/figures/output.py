"""The output of an evaluated sweep: numbers as csv, statistics and provenance as json, table and verdicts as text."""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from samgap import console, provenance
from samgap.figures.table import Table, grid_text
from samgap.files import replace, replace_text
from samgap.runs import alike

Answer = Literal["reproduced", "not reproduced", "inconclusive", "void", "replicated", "differs", "too few"]


@dataclass(frozen=True)
class Judgment:
    """The answer for one series of cells. Subclasses add the statistics."""

    series: str  # label of the series, or ""
    answer: Answer
    reason: str

    def detail(self) -> list[dict[str, str]]:
        """Return the rows, by column, of a table of details; none by default."""
        return []


@dataclass(frozen=True, eq=False, kw_only=True)
class Study:
    """An evaluated sweep."""

    table: Table  # the runs
    title: str  # describes the numbers in `rows`
    frame: pd.DataFrame  # the plotted numbers, with columns for ours and for the published ones
    statistics: dict[str, Any]  # further results, as plain values
    rows: pd.DataFrame  # the numbers as texts, for a table
    remarks: list[str]  # explain the rows
    headline: dict[str, Any]  # the main numbers, by name and cell: "gap/model.width=4"
    verdicts: Sequence[Judgment]


def data(table: Table) -> str:
    """Return the data sets, with the number of training images of a subset: "fashion_mnist (2,000 images)"."""
    names = []
    for record in table.records:
        settings = record.settings["data"]
        names.append(settings["name"] + (f" ({settings['train_size']:,} images)" if settings.get("train_size") else ""))
    return " and ".join(dict.fromkeys(names))


def verdict_line(table: Table, verdict: Judgment) -> str:
    """Return the verdict in one line, with figure, scale and data set."""
    registered = str(table.registered) if table.registered else ""
    return format_verdict(table.sweep.name, table.sweep.scale, data(table), verdict, len(table.missing), registered)


def format_verdict(name: str, scale: str, data: str, verdict: Judgment, missing: int, registered: str) -> str:
    """Return the verdict in one line, as `verdict_line` does from a table of runs."""
    place = f"{name}/{scale} on {data}{', ' + verdict.series if verdict.series else ''}"
    text = f"{verdict.answer.upper()}: {place}: {verdict.reason}. {registered}".rstrip()
    if missing:
        text += f" Provisional: {missing} runs are missing."
    if scale == "smoke":
        text += " Smoke scale only checks that everything works; it is no evidence."
    return text


def judged_again(report: dict[str, Any], verdicts: Sequence[Judgment]) -> dict[str, Any]:
    """Return a kept report with new verdicts and the commit of the code that computed them."""
    known = report["name"], report["scale"], report["data"]
    registered = report.get("registered", {}).get("text", "")
    plain_verdicts = [
        _plain(new, format_verdict(*known, new, len(report["runs"]["missing"]), registered)) for new in verdicts
    ]
    origin = report["provenance"] | {"judged": provenance.now(), "judged_by_commit": provenance.commit()[0]}
    return clean(report | {"verdicts": plain_verdicts, "provenance": origin})


def _plain(verdict: Judgment, text: str) -> dict[str, Any]:
    return dataclasses.asdict(verdict) | {"text": text, "detail": verdict.detail()}


def remarks(study: Study) -> list[str]:
    """Return notes on the table: the grid, its columns, exclusions, and differences between the runs."""
    sweep = study.table.sweep
    registration = [study.table.registered.details] if study.table.registered else []
    return [grid_text(sweep), *registration, *study.remarks, *alike.setup_differences(sweep, study.table.records)]


def as_text(study: Study) -> str:
    """Return the table and the verdicts as text."""
    table = study.table
    lines = [
        f"{table.sweep}, {data(table)}: {study.title}",
        "",
        console.table(study.rows),
        "",
        *remarks(study),
    ]
    if table.missing:
        states = pd.Series(list(table.missing.values())).value_counts()
        lines.append(f"Not in the table: {', '.join(f'{count} {state}' for state, count in states.items())} run(s).")
    for verdict in study.verdicts:
        lines.append(verdict_line(table, verdict))
        if rows := verdict.detail():
            lines += ["", console.table(pd.DataFrame(rows)), ""]
    return "\n".join(lines)


def write(frame: pd.DataFrame, report: Mapping[str, Any], folder: Path) -> None:
    """Write <name>.csv (plotted numbers) and <name>.json (statistics, verdicts, provenance, missing runs).

    Args:
        frame: see `Study`.
        report: see `report`; also with the config groups `draw`, from which it can be drawn again, and `about`.
        folder: the folder of the sweep.
    """
    replace(folder / f"{report['name']}.csv", lambda path: frame.to_csv(path, index=False))
    replace_text(folder / f"{report['name']}.json", json.dumps(clean(report), indent=1, allow_nan=False) + "\n")


def report(study: Study) -> dict[str, Any]:
    """Return the study as plain values."""
    table = study.table
    records = table.records
    rows = study.rows
    return {
        "name": table.sweep.name,
        "scale": table.sweep.scale,
        "title": study.title,
        "data": data(table),
        "command": table.sweep.command,
        "verdicts": [_plain(verdict, verdict_line(table, verdict)) for verdict in study.verdicts],
        "table": {"columns": [*rows.columns], "rows": rows.to_numpy().tolist()},
        "remarks": remarks(study),
        **study.statistics,
        **({"registered": table.registered.facts()} if table.registered else {}),
        "runs": {
            "asked": len(table.sweep.unique()),
            "with_record": len(records),
            "diverged": [record.folder for record in records if record.status == "diverged"],
            "missing": table.missing,
        },
        "provenance": {
            "drawn": provenance.now(),
            "drawn_by_commit": provenance.commit()[0],
            "commits": dict(Counter(record.commit + ("+changes" if record.dirty else "") for record in records)),
            "versions": _versions(record.versions for record in records),
            "devices": sorted({record.device for record in records}),
            "data_sha256": sorted({record.data_sha256 for record in records}),
            "first_started": min(record.started for record in records),
            "last_finished": max(record.finished for record in records),
            "core_seconds": round(sum(record.seconds for record in records), 1),
            "settings_of_first_run": records[0].settings,
        },
    }


def _versions(all_versions: Any) -> dict[str, list[str]]:
    # All versions of each package: several if the sweep was continued after an upgrade.
    by_package: dict[str, set[str]] = {}
    for versions in all_versions:
        for package, version in versions.items():
            by_package.setdefault(package, set()).add(version)
    return {package: sorted(values) for package, values in by_package.items()}


def clean(value: Any) -> Any:
    """Return a value that JSON can hold: nan and inf become None, and NumPy scalars become plain numbers."""
    if isinstance(value, dict):
        return {str(key): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
