"""How busy hydra/launcher=gpus keeps GPUs: Ray is configured with GPUs that do not exist, and runs only sleep."""

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
    """When, in seconds since the epoch, and in which process."""

    began: float
    ended: float
    worker: int


@dataclass(frozen=True)
class Naps:
    """Instead of `Work`: a run sleeps."""

    config: DictConfig
    seconds: list[float]  # of each run
    environment: dict[str, str] = field(default_factory=dict)

    def carry_out(self, job: Job) -> Nap:
        """Sleep."""
        began = time.time()
        time.sleep(self.seconds[job.number])
        return Nap(job.folder.name, "done", began=began, ended=time.time(), worker=os.getpid())


def rows(smoke: bool) -> Iterator[Row]:
    """The one row; `smoke` makes it so small that its number means nothing."""
    gpus, runs, shortest, longest = (2, 6, 0.05, 0.2) if smoke else (8, 64, 0.5, 4.0)
    draw = random.Random(0)
    seconds = sorted((draw.uniform(shortest, longest) for _ in range(runs)), reverse=True)  # as the sweeper gives them
    with tempfile.TemporaryDirectory() as folder:
        config = OmegaConf.create({"root": folder, "name": "bench", "scale": "own"})
        jobs = [Job(number, [], 1, Path(folder, "runs", str(number))) for number in range(runs)]
        naps = cast(list[Nap], GpusLauncher(gpus=gpus).carry_out(jobs, cast(Work, Naps(config, seconds))))
    what = f"idle share of {gpus} declared GPUs, {runs} runs of mixed length"
    yield bounded(what, 100 * idle(naps, gpus), 10, "%", runs)


def idle(naps: list[Nap], gpus: int) -> float:
    """Share of the GPUs' time without a run, from when the last worker has its first run to the end of the last run."""
    spans = [(nap.worker, nap.began, nap.ended) for nap in naps]
    workers = {worker for worker, _, _ in spans}
    up = max(min(began for mine, began, _ in spans if mine == worker) for worker in workers)
    over = max(ended for _, _, ended in spans)
    busy = sum(max(0.0, ended - max(began, up)) for _, began, ended in spans)
    return 1 - busy / (gpus * (over - up))
