"""hydra/launcher=stack: runs with equal shapes in one program, on the devices of this machine, without Ray."""

import math
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from typing import Any

from hydra_plugins.samgap_launchers.jobs import Job, JobLauncher, Work, lost
from samgap import naming
from samgap.rules import Rule, check, count
from samgap.runs.records import RunOutcome
from samgap.training.plan import RunPlan
from samgap.training.settings import GROUPS, SCALARS

MOST = 32  # most runs in a stack, for stack=auto
STACK = Rule(lambda stack: stack == "auto" or count(1).is_valid(stack), "auto or a whole number of runs from 1")
VISIBLE = "CUDA_VISIBLE_DEVICES"


class StackLauncher(JobLauncher):
    """Carries out one stack after another; with several GPUs, one stack at a time on each, in its own process."""

    def __init__(self, stack: Any = "auto") -> None:
        """
        Raises:
            SettingError: `stack` is neither auto nor a number of runs.
        """
        self.most = most(stack)

    def expects_gpus(self) -> bool:
        """Return whether this machine has GPUs."""
        return bool(_cards())

    def carry_out(self, jobs: list[Job], work: Work) -> list[RunOutcome]:
        """Carry out stacks of runs with equal shapes, those with the longest runs first."""
        on_cpu = all(plan(job, work).machine.accelerator == "cpu" for job in jobs)
        cards = [] if on_cpu else _cards()
        stacks = stacked(jobs, work, self.most, len(cards))
        ended = spread_out(stacks, work, cards) if len(cards) > 1 else [carry_out(work, stack) for stack in stacks]
        outcomes = {
            job.number: outcome
            for stack, stack_outcomes in zip(stacks, ended, strict=True)
            for job, outcome in zip(stack, stack_outcomes, strict=True)
        }
        return [outcomes[job.number] for job in jobs]


def most(stack: Any) -> int:
    """Return the largest number of runs in a stack.

    Raises:
        SettingError: `stack` is neither auto nor a number of runs.
    """
    check({"stack": stack}, {"stack": STACK}, "hydra.launcher.")
    return MOST if stack == "auto" else int(stack)


def plan(job: Job, work: Work) -> RunPlan:
    """Return the plan of a run."""
    config = work.context.config_loader.load_sweep_config(work.config, job.overrides)
    return RunPlan.of(naming.plain(config, *GROUPS, *SCALARS, "trainer", "logger", "callbacks", "data_dir", "root"))


def stacked(jobs: Sequence[Job], work: Work, most: int, devices: int) -> list[list[Job]]:
    """Divide runs into stacks of about equal size, with at least one for each device if there are enough runs."""
    from samgap.training.stacked import alike  # imports torch, and Hydra imports this file for every command

    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(alike(plan(job, work)), []).append(job)
    most = min(most, math.ceil(len(jobs) / max(1, devices)))
    parts = [(group, math.ceil(len(group) / most)) for group in groups.values()]
    return [group[first::count] for group, count in parts for first in range(count)]


def carry_out(work: Work, stack: list[Job]) -> list[RunOutcome]:
    """Carry out the runs of a stack in this process."""
    if len(stack) == 1:
        return [work.carry_out(stack[0])]
    from samgap.training.stacked import carry_out

    outs = carry_out([partial(work.carry_out, job) for job in stack], plan(stack[0], work))
    return [out if isinstance(out, RunOutcome) else lost(job, repr(out)) for job, out in zip(stack, outs, strict=True)]


def _cards() -> list[str]:
    from samgap.training import cuda

    visible = os.environ.get(VISIBLE)
    return (visible.split(",") if visible else [str(number) for number in range(cuda.cards())])[: cuda.cards()]


def spread_out(stacks: list[list[Job]], work: Work, cards: list[str]) -> list[list[RunOutcome]]:
    """Carry out each stack in a process that sees one GPU; each free GPU takes the next stack."""
    from joblib.externals.loky import ProcessPoolExecutor

    left, outcomes = deque(enumerate(stacks)), dict[int, list[RunOutcome]]()
    free = [ProcessPoolExecutor(1, env={VISIBLE: card}) for card in cards[: len(stacks)]]
    executors, working = [*free], dict[Future[list[RunOutcome]], tuple[int, Any]]()
    try:
        while left or working:
            while left and free:
                executor, (number, stack) = free.pop(0), left.popleft()
                working[executor.submit(carry_out, work, stack)] = number, executor
            for future in wait(working, return_when=FIRST_COMPLETED).done:
                number, executor = working.pop(future)
                outcomes[number] = future.result()
                free.append(executor)
    finally:
        for executor in executors:
            executor.shutdown(kill_workers=True)
    return [outcomes[number] for number in range(len(stacks))]
