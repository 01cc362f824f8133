"""Keeps the runs of a sweep in a few files beside its figure, and restores the runs from them.

The files are in the folder runs/. runs.csv has a row for each point of the grid: its axes, the state of its run, and
the values that differ between records. runs.json holds the sweep and the values that all records share. curves.csv and
probes.json hold the other data that a figure reads. No value of a record is lost. A cell is plain text or JSON; it is
empty if a record lacks the key.
"""

import csv
import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from samgap import reference
from samgap.errors import SettingError
from samgap.figures.table import Table
from samgap.files import read_json, replace, replace_text
from samgap.runs import identity, measurements, records, sweeps
from samgap.runs.records import METRICS, RunRecord
from samgap.runs.sweeps import Member, Sweep

REFERENCE = Path(reference.__file__).parent / "results"  # results that come with samgap
FOLDER = "runs"  # inside the folder of a result
RUNS, SHARED, CURVES, PROBES = "runs.csv", "runs.json", "curves.csv", "probes.json"
RECORDED = "record."  # before the name of a column that is also an axis
OF_MEMBER = ("folder", "cost", "status")  # columns of runs.csv
ADVICE = "restore it from where the result came from"  # if a file is damaged
Cells = dict[str, Any]


def write(table: Table, root: Path, folder: Path, files: Sequence[str]) -> None:
    """Write the sweep, the state of each run, and the records of finished runs.

    Args:
        table: the sweep with its records.
        root: the results folder with the runs.
        folder: the folder of the result.
        files: the files of a run that the figure reads besides the record: metrics.csv, probes.
    """
    folder = folder / FOLDER
    cells = {record.folder: _cells(record) for record in table.records}
    shared = _shared([*cells.values()])
    rows = []
    for member in table.sweep.members:
        values = cells.get(member.folder, {"status": table.missing.get(member.folder)})
        # A swept setting may have the name of a value of the record: epochs, which the run may not have finished.
        varying = {RECORDED * (key in member.axes) + key: value for key, value in values.items() if key not in shared}
        rows.append(member.axes | {"folder": member.folder, "cost": member.cost, "status": values["status"]} | varying)
    sweep = {key: value for key, value in dataclasses.asdict(table.sweep).items() if key != "members"}
    write_rows(folder / RUNS, rows, encode)
    replace_text(folder / SHARED, json.dumps({"sweep": sweep, "shared": shared}, indent=1, allow_nan=False) + "\n")
    if METRICS in files:
        paths = {name: sweeps.runs(root) / name / METRICS for name in cells}
        curves = [
            {"folder": name} | row for name, path in paths.items() if path.exists() for row in read_rows(path, str)
        ]
        write_rows(folder / CURVES, curves, str)
    if "probes" in files:
        probes = {name: _probes(sweeps.runs(root) / name) for name in cells}
        replace_text(folder / PROBES, json.dumps(probes, allow_nan=False) + "\n")


def restore(folder: Path, root: Path) -> tuple[Sweep, int]:
    """Restore the runs of a result into a results folder. Records that exist there stay; new ones are marked restored.

    Args:
        folder: the folder of the result, filled by `write`.
        root: the results folder.

    Returns:
        The sweep, and the number of records written.

    Raises:
        SettingError: the result was kept without its runs, or one of its files is damaged.
    """
    sweep, run_records = read(folder)
    folder = folder / FOLDER
    curves: dict[str, list[Cells]] = {}
    for row in read_rows(folder / CURVES, str) if (folder / CURVES).exists() else ():
        curves.setdefault(row.pop("folder"), []).append(row)
    probes = read_json(folder / PROBES, ADVICE) if (folder / PROBES).exists() else {}
    written = 0
    for record in run_records:
        run_folder = sweeps.runs(root) / record.folder
        if records.read(run_folder, record.identity) is not None:
            continue
        if record.folder in curves:
            write_rows(run_folder / METRICS, curves[record.folder], str)
        for name, results in probes.get(record.folder, {}).items():
            measurements.write(run_folder, name, results)
        records.write(dataclasses.replace(record, restored=True), run_folder)
        written += 1
    if not (sweep.folder(root) / sweeps.SWEEP).exists():
        sweeps.write(sweep, root)
    return sweep, written


def read(folder: Path) -> tuple[Sweep, list[RunRecord]]:
    """Return the sweep and its records, as `write` kept them; each record appears once.

    Raises:
        SettingError: the result was kept without its runs, or one of its files is damaged.
    """
    if not folder.exists():
        raise SettingError(f"There is no result {folder}.")
    if not (folder / FOLDER / RUNS).exists():
        raise SettingError(f"{folder} has no {FOLDER}/{RUNS}: this result was kept without its runs.")
    folder = folder / FOLDER
    contents = read_json(folder / SHARED, ADVICE)
    try:
        members: list[Member] = []
        by_folder: dict[str, RunRecord] = {}
        swept = {*contents["sweep"]["axes"], sweeps.RHO, sweeps.SEED}
        for row in read_rows(folder / RUNS, decode):
            name, cost, status = (row.pop(key) for key in OF_MEMBER)
            axes = {key: row.pop(key) for key in [key for key in row if key in swept]}
            values = {key.removeprefix(RECORDED): value for key, value in row.items()}
            members.append(Member(name.rpartition("-")[2], name, axes, cost))
            if status in sweeps.FINISHED:
                by_folder[name] = _record({"folder": name, "status": status} | contents["shared"] | values)
        return Sweep(**contents["sweep"], members=members), [*by_folder.values()]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SettingError(f"{folder / RUNS} is damaged ({error}): {ADVICE}.") from error


def _cells(record: RunRecord) -> Cells:
    values = dataclasses.asdict(record)
    del values["identity"], values["restored"]  # the folder's name has the identity; `restored` marks copies
    return dict(sorted(identity.flat({"settings": values.pop("settings")}).items())) | values


def _shared(cells: list[Cells]) -> Cells:
    first, *others = cells
    return {
        key: value
        for key, value in first.items()
        if key != "folder" and all(key in other and _same(other[key], value) for other in others)
    }


def _same(first: Any, second: Any) -> bool:
    return type(first) is type(second) and first == second


def _record(cells: Cells) -> RunRecord:
    settings: dict[str, Any] = {}
    for key, value in cells.items():
        if key.startswith("settings."):
            *groups, last = key.split(".")[1:]
            inner = settings
            for group in groups:
                inner = inner.setdefault(group, {})
            inner[last] = value
    others = {key: value for key, value in cells.items() if not key.startswith("settings.")}
    return records.parse(json.dumps(others | {"settings": settings, "identity": cells["folder"].rpartition("-")[2]}))


def _probes(folder: Path) -> dict[str, Any]:
    names = sorted(path.stem for path in (folder / measurements.FOLDER).glob("*.json"))
    return {name: measurements.read(folder, name) for name in names}


def write_rows(path: Path, rows: list[Cells], encode: Callable[[Any], str]) -> None:
    """Write a CSV file; a key that a row lacks is an empty cell."""
    columns = list(dict.fromkeys(key for row in rows for key in row))

    def write_(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([encode(row[key]) if key in row else "" for key in columns] for row in rows)

    replace(path, write_)


def read_rows(path: Path, decode: Callable[[str], Any]) -> Iterator[Cells]:
    """Yield the rows of a CSV file without their empty cells."""
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield {key: decode(text) for key, text in row.items() if text}


def encode(value: Any) -> str:
    """Return the value as JSON, but a text that is not valid JSON unchanged."""
    text = json.dumps(value, allow_nan=False)
    return value if isinstance(value, str) and value and decode(value) == value else text


def decode(text: str) -> Any:
    """Return the value of a JSON text, but a text that is not valid JSON unchanged."""
    try:
        return json.loads(text)
    except ValueError:
        return text
