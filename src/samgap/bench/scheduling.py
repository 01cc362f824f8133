"""How busy hydra/launcher=gpus keeps GPUs, with Ray configured for GPUs that do not exist and runs that only sleep."""

import os
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from omegaconf import DictConfig, OmegaConf

from hydra_plugins.samgap_launchers.gpus import GpusLauncher
from hydra_plugins.samgap_launchers.jobs import Job, Work
from samgap.bench.rows import Row, bounded
from samgap.runs.records import RunOutcome


@dataclass(frozen=True, kw_only=True)
class Nap(RunOutcome):
    """The outcome of a run that slept."""

    began: float  # Unix time in seconds
    ended: float
    worker: int  # process id


@dataclass(frozen=True)
class Naps:
    """Replaces `Work` by runs that sleep."""

    config: DictConfig
    seconds: list[float]  # of each run
    environment: dict[str, str] = field(default_factory=dict)

    def carry_out(self, job: Job) -> Nap:
        """Sleep."""
        began = time.time()
        time.sleep(self.seconds[job.number])
        return Nap(job.folder.name, "done", began=began, ended=time.time(), worker=os.getpid())


def rows(smoke: bool = False) -> Iterator[Row]:
    """Yield the row; with `smoke` the sweep is so small that the number means nothing."""
    gpus, runs, shortest, longest = (2, 6, 0.05, 0.2) if smoke else (8, 64, 0.5, 4.0)
    draw = random.Random(0)
    seconds = sorted((draw.uniform(shortest, longest) for _ in range(runs)), reverse=True)  # the sweeper's order
    with tempfile.TemporaryDirectory() as folder:
        config = OmegaConf.create({"root": folder, "name": "bench", "scale": "own"})
        jobs = [Job(number, [], 1, Path(folder, "runs", str(number))) for number in range(runs)]
        naps = cast(list[Nap], GpusLauncher(gpus=gpus).carry_out(jobs, cast(Work, Naps(config, seconds))))
    what = f"idle share of {gpus} declared GPUs, {runs} runs of mixed length"
    yield bounded(what, 100 * idle(naps, gpus), 10, "%", runs)


def idle(naps: list[Nap], gpus: int) -> float:
    """Return the idle share of the GPUs' time, from the latest first run of a worker to the end of the last run."""
    workers = {nap.worker for nap in naps}
    start = max(min(nap.began for nap in naps if nap.worker == worker) for worker in workers)
    end = max(nap.ended for nap in naps)
    busy = sum(max(0.0, nap.ended - max(nap.began, start)) for nap in naps)
    return 1 - busy / (gpus * (end - start))
