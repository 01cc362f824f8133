"""Compares the records of runs: did they have the same data, and did they run in the same way?"""

import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from samgap.errors import SettingError
from samgap.runs import identity
from samgap.runs.records import RunRecord
from samgap.runs.sweeps import REPLICATE, RHO, SEED, Sweep


def refuse_other_data(records: Sequence[RunRecord], runs: Path) -> None:
    """Refuse runs with equal data settings that saw different data, since the data would change their gaps.

    The data of a regression are computed, so rounding may differ between machines; `setup_differences` reports that.

    Args:
        records: records of one sweep.
        runs: the folder of all runs.

    Raises:
        SettingError: there are two such runs; the message names them.
    """
    by_data: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        data = identity.canonical({"data": record.settings["data"]})
        by_data[json.dumps(data, sort_keys=True)].append(record)
    for first, *others in by_data.values():
        other = next((record for record in others if record.data_sha256 != first.data_sha256), None)
        if other is not None and any(record.test_acc_final is not None for record in (first, *others)):
            raise SettingError(
                f"{runs / first.folder} and {other.folder} saw different data under the same settings (data_sha256 in "
                "record.json): move away those with other data than data_dir has, and start the sweep again."
            )


def setup_differences(sweep: Sweep, records: Sequence[RunRecord]) -> list[str]:
    """Return a sentence if an SGD and a SAM run of one cell and seed had different commits, devices, versions or data.

    A swept setting of the ascent belongs to SAM alone: all of its values share the SGD runs.
    """
    by_folder = {record.folder: record for record in records}
    shared = [axis for axis in (*sweep.axes, SEED) if axis != REPLICATE and not axis.startswith("ascent.")]
    arms: dict[tuple[Any, ...], tuple[dict[str, RunRecord], dict[str, RunRecord]]] = defaultdict(lambda: ({}, {}))
    for member in sweep.members:
        if member.folder in by_folder:
            arm = arms[tuple(member.axes[axis] for axis in shared)][member.axes[RHO] > 0]
            arm[member.folder] = by_folder[member.folder]
    pairs = [(_setup(a), _setup(b)) for sgd, sam in arms.values() for a, b in product(sgd.values(), sam.values())]
    differing: dict[str, list[str]] = defaultdict(list)  # key -> the two values of each pair
    for sgd_setup, sam_setup in pairs:
        for key in sgd_setup | sam_setup:
            values = sgd_setup.get(key, "none"), sam_setup.get(key, "none")
            if values[0] != values[1]:
                differing[key].append(" and ".join(values))
    if not differing:
        return []
    parts = [
        f"{key} ({values[0]}{', ...' if len({*values}) > 1 else ''}) in {len(values)}"
        for key, values in differing.items()
    ]
    return [f"Note: of {len(pairs)} pairs of an SGD and a SAM run, the two differ in {', in '.join(parts)}."]


def _setup(record: RunRecord) -> dict[str, str]:
    commit = record.commit[:7] + " with changes" * record.dirty
    setup = {"commit": commit, "device": record.device, "stepper": record.stepper, "data": record.data_sha256[:7]}
    return setup | record.versions
