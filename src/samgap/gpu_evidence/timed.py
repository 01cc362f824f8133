"""A run that stops when its time is over and measures the time of its steps."""

import contextlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback

from samgap import cli
from samgap.runs import identity
from samgap.runs.records import RunOutcome
from samgap.training.run import run
from samgap.training.settings import resolve


class TimeIsOver(BaseException):
    """Stops a run that will be resumed; not an Exception, for which `run` would write error.txt."""


@dataclass(frozen=True, kw_only=True)
class Timed(RunOutcome):
    """The outcome of a run, with the time of an epoch."""

    epochs: int
    epoch_seconds: float | None = None  # None if there were too few steps


class Clock(Callback):
    """Stops a run when its time is over, and records the times of its steps."""

    def __init__(self, until: float, seconds: float) -> None:
        """
        Args:
            until: end time by `time.monotonic`, which is the same clock in all processes of a machine.
            seconds: longest training time; the run stops at `until` or after this time, whichever comes first.
        """
        self.until, self.seconds = until, seconds
        self.marks: list[tuple[int, float]] = []
        self.epoch_steps = 0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Start the clock."""
        self.until = min(self.until, time.monotonic() + self.seconds)
        self.epoch_steps = pl_module.steps // (trainer.max_epochs or 1)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Record the time after each block of steps. `epoch_seconds` skips the first block, which loads libraries."""
        self.marks.append((trainer.global_step, time.monotonic()))
        if self.marks[-1][1] >= self.until and len(self.marks) > 2:
            raise TimeIsOver

    def epoch_seconds(self) -> float | None:
        """Return the training time of an epoch, in seconds; None after too few steps."""
        if len(self.marks) < 2:
            return None
        (before, began), (after, ended) = self.marks[0], self.marks[-1]
        return (ended - began) / (after - before) * self.epoch_steps


def carry_out(config: dict[str, Any], until: float, seconds: float) -> Timed:
    """Carry out a run and return its outcome: done, diverged, stopped or failed. A process may call this repeatedly.

    Args:
        config: a composed config as plain values.
        until, seconds: see `Clock`.
    """
    folder, clock = Path(config["root"], "runs", identity.folder(resolve(config))), Clock(until, seconds)
    outcome = Timed(folder.name, "stopped", epochs=config["epochs"])
    with contextlib.suppress(TimeIsOver):
        if time.monotonic() < until:
            try:
                outcome = replace(outcome, status=run(config, folder, callbacks=[clock]).status)
            except Exception as error:
                return replace(outcome, status="failed", error=cli.explain(error) or repr(error))
    return replace(outcome, epoch_seconds=clock.epoch_seconds())
