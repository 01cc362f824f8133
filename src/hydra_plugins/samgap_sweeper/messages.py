"""What a sweep says: what it would start, what is left to do, and which runs failed."""

import sys
from collections.abc import Sequence
from pathlib import Path

from samgap.errors import SettingError
from samgap.runs import sweeps
from samgap.runs.records import RunOutcome
from samgap.runs.sweeps import Member, Progress, Sweep, format_duration


def refuse_failed(outcomes: list[RunOutcome], runs: int, grid: Sweep, root: Path) -> None:
    """Raise a SettingError that counts the failed runs and shows the first error; print how many runs are busy."""
    if busy := [one for one in outcomes if one.status == "busy"]:
        print(f"{len(busy)} runs are carried out by another process: see python -m samgap.status.", file=sys.stderr)
    skipped = sum(one.status == "skipped" for one in outcomes)
    if failures := [one for one in outcomes if one.status == "failed"]:
        first = failures[0]
        others = ", the others are done" if len(failures) < runs and not busy else ""
        if skipped:
            others = f", and {skipped} were not started (hydra.sweeper.stop_after)"
        raise SettingError(
            f"{len(failures)} of {runs} runs of {grid.name}/{grid.scale} failed{others}; "
            f"first {sweeps.runs(root) / first.folder}: {first.error}"
        )


def planned(grid: Sweep, before: Progress, left: Sequence[Member]) -> str:
    """Return what a sweep would do: a summary, and a line for each run in the order of their start."""
    scale = before.seconds_per_cost
    lines = [f"  {member.folder}  {format_duration(member.cost * scale)}" for member in left]
    return "\n".join([f"{grid.name}/{grid.scale}: {before.text()}{work_left(before)}", *lines])


def work_left(before: Progress) -> str:
    """Return the computing time that a sweep still needs, "" if unknown."""
    seconds = before.cost_left * before.seconds_per_cost
    return f"; about {format_duration(seconds)} of one worker" if seconds else ""
