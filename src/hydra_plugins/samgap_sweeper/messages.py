"""Messages of a sweep: the planned runs, the remaining work, and the failed runs."""

import sys
from collections.abc import Sequence
from pathlib import Path

from samgap.console import format_duration
from samgap.errors import SettingError
from samgap.runs import sweeps
from samgap.runs.records import RunOutcome
from samgap.runs.sweeps import Member, Progress, Sweep


def refuse_failed(outcomes: list[RunOutcome], runs: int, grid: Sweep, root: Path) -> None:
    """Raise a SettingError with the number of failed runs and the first error; print the number of busy runs."""
    if busy := [outcome for outcome in outcomes if outcome.status == "busy"]:
        print(f"{len(busy)} runs are carried out by another process: see python -m samgap.status.", file=sys.stderr)
    skipped = sum(outcome.status == "skipped" for outcome in outcomes)
    if failures := [outcome for outcome in outcomes if outcome.status == "failed"]:
        first = failures[0]
        others = ", the others are done" if len(failures) < runs and not busy else ""
        if skipped:
            others = f", and {skipped} were not started (hydra.sweeper.stop_after)"
        raise SettingError(
            f"{len(failures)} of {runs} runs of {grid} failed{others}; "
            f"first {sweeps.runs(root) / first.folder}: {first.error}"
        )
    if skipped:
        raise SettingError(
            f"{skipped} of {runs} runs of {grid} were not started (hydra.sweeper.stop_after), since runs of another "
            "process failed: see python -m samgap.status."
        )


def planned(grid: Sweep, before: Progress, left: Sequence[Member]) -> str:
    """Return the plan of a sweep: a summary, and a line for each run in the order in which they start."""
    scale = before.seconds_per_cost
    lines = [f"  {member.folder}  {format_duration(member.cost * scale)}" for member in left]
    return "\n".join([f"{grid}: {before.text()}{work_left(before)}", *lines])


def work_left(before: Progress) -> str:
    """Return the computing time that a sweep still needs as text; "" if nothing is left."""
    seconds = before.cost_left * before.seconds_per_cost
    return f"; about {format_duration(seconds)} of one worker" if seconds else ""
