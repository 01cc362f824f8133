"""Reads the grid and the records of a sweep from W&B into a separate results folder."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samgap.errors import SettingError
from samgap.runs import records, sweeps
from samgap.runs.records import RunRecord
from samgap.runs.sweeps import Sweep
from samgap.tracking import gap_run
from samgap.tracking.session import FOLDER

CHUNK = 500  # identities per query
TIMEOUT = 60  # seconds per query
SHOWN = 5  # most runs that a sentence names


@dataclass(frozen=True)
class Restored:
    """The result of reading a sweep from W&B."""

    root: Path  # results folder with the restored runs
    runs: int  # number of runs in the grid
    missing: dict[str, str]  # folder of a run without a record in W&B -> reason

    def text(self) -> str:
        """Return a summary in one or two sentences."""
        text = f"{self.runs - len(self.missing)} of {self.runs} runs have their record in W&B"
        if self.missing:
            counts = Counter(self.missing.values())
            text += "; " + ", ".join(f"{count} {reason}" for reason, count in counts.items())
            examples = [f"{folder} ({reason})" for folder, reason in [*self.missing.items()][:SHOWN]]
            text += f": {', '.join(examples)}{' and others' if len(self.missing) > SHOWN else ''}"
        return f"{text}."


def restore(
    api: Any, root: Path, name: str, scale: str, project: str, entity: str | None, files: Sequence[str] = ()
) -> Restored:
    """Read the grid from the gap run and the records from the runs' summaries.

    Args:
        api: `wandb.Api`, see `session.account`.
        root: folder of the results; writes to root/wandb/read/<entity>/<project>.
        name, scale: of the sweep.
        project, entity: project and entity of the runs in W&B; entity None is the account's default.
        files: files (metrics.csv) or folders (probes) of a run that the figure needs besides the record.

    Raises:
        SettingError: W&B does not have the sweep.
    """
    entity = entity or api.default_entity
    if not entity:
        raise SettingError("The W&B account has no entity of its own: set logger.entity, got null.")
    path = f"{entity}/{project}"
    store = root / FOLDER / "read" / entity / project
    sweep = _grid(api, path, root, name, scale)
    by_identity, states = _records(api, path, [member.identity for member in sweep.unique()])
    sweeps.write(sweep, store)
    missing = {}
    for member in sweep.unique():
        folder = sweeps.runs(store) / member.folder
        if member.identity not in by_identity:
            missing[member.folder] = states.get(member.identity, "missing")
            (folder / records.RECORD).unlink(missing_ok=True)  # from an earlier call
            continue
        record, run = by_identity[member.identity]
        _download(run, folder, files)
        records.write(record, folder)
    return Restored(store, len(sweep.unique()), missing)


def _grid(api: Any, path: str, root: Path, name: str, scale: str) -> Sweep:
    import wandb

    try:
        return sweeps.parse(json.loads(api.run(f"{path}/{gap_run.id_of(name, scale)}").config["grid"]))
    except (wandb.errors.CommError, ValueError, KeyError, TypeError) as error:
        # The sweep may not have sent its gap run yet. Then its grid may be on this machine.
        try:
            return sweeps.read(root, name, scale)
        except SettingError:
            reason = str(error).splitlines()[0]
            raise SettingError(
                f"{path} in W&B has no gap run of {name}/{scale} ({reason}): set logger.entity and logger.project, or "
                f"send one by python -m samgap.draw {sweeps.override_for(name, scale)} logger=wandb where the sweep "
                "was carried out."
            ) from error


def _records(api: Any, path: str, identities: Sequence[str]) -> tuple[dict[str, tuple[RunRecord, Any]], dict[str, str]]:
    """Return (identity -> record and W&B run, identity -> state of a W&B run without a record).

    W&B may have several runs of one identity, from two machines or with a new id; the last to finish counts.
    """
    by_identity: dict[str, tuple[RunRecord, Any]] = {}
    states: dict[str, str] = {}
    for start in range(0, len(identities), CHUNK):
        chunk = [*identities[start : start + CHUNK]]
        query = {"$or": [{"name": {"$in": chunk}}, {"config.identity": {"$in": chunk}}]}
        # Not lazy, since each summary would then need its own query.
        for run in api.runs(path, filters=query, per_page=CHUNK, lazy=False):
            identity_ = str(run.config.get("identity", run.id))
            record = _record(run.summary.get("record"), identity_)
            if record is None:
                states[identity_] = str(run.state) if run.state != "finished" else "finished without a record"
            elif identity_ not in by_identity or by_identity[identity_][0].finished < record.finished:
                by_identity[identity_] = record, run
    return by_identity, states


def _record(text: Any, expected: str) -> RunRecord | None:
    """Return the record in a summary; None if there is none, or if it has other settings."""
    try:
        record = records.parse(str(text))
    except ValueError:
        return None
    return record if record.identity == expected else None


def _download(run: Any, folder: Path, files: Sequence[str]) -> None:
    if not files:
        return
    for file in run.files():
        if any(file.name == name or file.name.startswith(f"{name}/") for name in files):
            folder.mkdir(parents=True, exist_ok=True)
            file.download(root=str(folder), replace=True)
