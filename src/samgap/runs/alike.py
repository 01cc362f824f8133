"""Were runs that are compared carried out alike? What their records keep of it, held against each other."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from samgap.errors import SettingError
from samgap.runs import identity
from samgap.runs.records import RunRecord
from samgap.runs.sweeps import RHO, SEED, Sweep


def refuse_other_data(records: Sequence[RunRecord], runs: Path) -> None:
    """Refuse runs that saw other data under the same settings: gaps between them would be of the data.

    The data of a regression are made, not read, and differ between machines by rounding; `unequal` tells of those.

    Args:
        records: of one sweep.
        runs: the folder of their folders.

    Raises:
        SettingError: names two such runs.
    """
    alike: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        data = identity.canonical({"data": record.settings["data"]})
        alike[json.dumps(data, sort_keys=True)].append(record)
    for first, *others in alike.values():
        other = next((record for record in others if record.data_sha256 != first.data_sha256), None)
        if other is not None and any(record.test_acc_final is not None for record in (first, *others)):
            raise SettingError(
                f"{runs / first.folder} and {other.folder} saw other data under the same settings (data_sha256 in "
                "record.json): move away those whose data are not what data_dir holds, and start the sweep again."
            )


def unequal(sweep: Sweep, records: Sequence[RunRecord]) -> list[str]:
    """A sentence where an SGD and a SAM run of one cell and seed were not carried out alike; nothing where all were.

    Hosts do not matter. A swept setting of the ascent is SAM's alone: each of its values has the same SGD runs.
    """
    known = {record.folder: record for record in records}
    shared = [axis for axis in (*sweep.axes, SEED) if not axis.startswith("ascent.")]
    arms: dict[tuple[Any, ...], tuple[dict[str, RunRecord], dict[str, RunRecord]]] = defaultdict(lambda: ({}, {}))
    for member in sweep.members:
        if member.folder in known:
            arm = arms[tuple(member.axes[axis] for axis in shared)][member.axes[RHO] > 0]
            arm[member.folder] = known[member.folder]
    pairs = [(_how(one), _how(other)) for sgd, sam in arms.values() for one in sgd.values() for other in sam.values()]
    differing: dict[str, list[str]] = defaultdict(list)  # key to the two values of each pair
    for one, other in pairs:
        for key in one | other:
            values = one.get(key, "none"), other.get(key, "none")
            if values[0] != values[1]:
                differing[key].append(" and ".join(values))
    if not differing:
        return []
    parts = [
        f"{key} ({values[0]}{', ...' if len({*values}) > 1 else ''}) in {len(values)}"
        for key, values in differing.items()
    ]
    return [f"Note: of {len(pairs)} pairs of an SGD and a SAM run, the two differ in {', in '.join(parts)}."]


def _how(record: RunRecord) -> dict[str, str]:
    commit = record.commit[:7] + " with changes" * record.dirty
    how = {"commit": commit, "device": record.device, "stepper": record.stepper, "data": record.data_sha256[:7]}
    return how | record.versions
