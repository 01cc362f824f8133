"""The time of a call, and of a step inside a whole run."""

import contextlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback

from samgap.check_gpu.bed import Bed
from samgap.training.run import run

WARM = 2  # number of first samples that are dropped, in which libraries choose kernels


class Enough(Exception):
    """Raised inside a run to end it when its measurement is complete."""


def timed(call: Callable[[], object], wait: Callable[[], object], seconds: float) -> list[float]:
    """Measure the seconds of a call for `seconds`, in samples of 10 ms or more; `wait` waits for the device."""
    taken: list[float] = []
    calls, until = 1, float("inf")
    while len(taken) < WARM + 3 or time.perf_counter() < until:
        started = time.perf_counter()
        for _ in range(calls):
            call()
        wait()
        now = time.perf_counter()
        taken.append((now - started) / calls)
        if len(taken) == WARM:
            until, calls = now + seconds, max(1, round(0.01 / taken[-1]))
    return taken[WARM:]


class Steps(Callback):
    """Calls `_after` after each step of a run."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wrap the stepper's step."""
        task: Any = pl_module
        inner = task.stepper.step

        def step(batch: Any) -> Any:
            result = inner(batch)
            self._after(batch.size == task.plan.layout.batch_size)
            return result

        task.stepper.step = step

    def _after(self, full: bool) -> None:
        """Called after each step. `full` is False for a smaller last batch of an epoch."""


class Stopwatch(Steps):
    """Measures the seconds of a step inside a run, including loop and callbacks, without the time between epochs.

    It waits for the device only at the end of a sample, since a wait in each step would leave the device idle.
    """

    def __init__(self, bed: Bed, seconds: float) -> None:
        self.wait, self.seconds, self.until = bed.wait, seconds, float("inf")
        self.every = 0.002 if bed.rehearsal else 0.05  # shortest duration of a sample in seconds
        self.taken: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start a new sample."""
        self._restart()

    def _after(self, full: bool) -> None:
        self.steps += 1
        if not full:
            self._restart()
        elif time.perf_counter() - self.since >= self.every:
            self._sample(self.steps)

    def _restart(self) -> None:
        self.wait()
        self.since, self.steps = time.perf_counter(), 0

    def _sample(self, steps: int) -> None:
        """End a sample of `steps` steps; start another, or raise `Enough`."""
        self.wait()
        now = time.perf_counter()
        self.taken.append((now - self.since) / steps)
        if len(self.taken) == WARM:
            self.until = now + self.seconds
        if self.over:
            raise Enough
        self._restart()

    @property
    def over(self) -> bool:
        """Whether there are enough samples."""
        return len(self.taken) >= WARM + 3 and time.perf_counter() > self.until


def step_seconds(bed: Bed, config: dict[str, Any], seconds: float, *callbacks: Callback) -> list[float]:
    """Return samples of the seconds of a step in a run of this config, measured for `seconds`."""
    watch = Stopwatch(bed, seconds)
    with tempfile.TemporaryDirectory(dir=bed.folder) as folder, contextlib.suppress(Enough):
        run(config, Path(folder), callbacks=[*callbacks, watch])
    return watch.taken[WARM:]
