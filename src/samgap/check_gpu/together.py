"""Speed of several runs at once on one GPU, each in its own process: with how many is the sweep of figure 7 fastest?"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from samgap.check_gpu.bed import Bed, LeftOut, Net, optional
from samgap.check_gpu.isolation import CONTEXT, PRELOAD, receive
from samgap.check_gpu.rows import Speed
from samgap.check_gpu.stopwatch import Enough, Steps
from samgap.training.run import run

COUNTS = (1, 2, 4, 8)
PIPES = "CUDA_MPS_PIPE_DIRECTORY"
DAEMON = "nvidia-cuda-mps-control"


class Gate(Steps):
    """Runs for the seconds that it receives from a pipe, then sends (steps, seconds), repeatedly; None ends the run."""

    def __init__(self, pipe: Any, bed: Bed) -> None:
        self.pipe, self.wait = pipe, bed.wait
        self.steps, self.since, self.until = 0, 0.0, 0.0

    def _after(self, full: bool) -> None:
        self.steps += 1
        if time.perf_counter() >= self.until:
            self.wait()
            self.pipe.send((self.steps, time.perf_counter() - self.since))
            seconds = self.pipe.recv()
            if seconds is None:
                raise Enough
            self.since, self.steps = time.perf_counter(), 0
            self.until = self.since + seconds


def packing(bed: Bed) -> Iterator[Speed]:
    """Time runs of figure 7 that share the GPU."""
    yield from _packed(bed, {}, "")


def mps(bed: Bed) -> Iterator[Speed]:
    """Time the same runs under NVIDIA's MPS, which runs kernels of several processes at the same time."""
    if bed.rehearsal or not (daemon := shutil.which(DAEMON)):
        raise LeftOut(f"there is no {DAEMON} here")
    with tempfile.TemporaryDirectory() as folder:
        places = {PIPES: f"{folder}/pipe", "CUDA_MPS_LOG_DIRECTORY": f"{folder}/log"}
        for place in places.values():
            Path(place).mkdir()
        environment = os.environ | places
        with optional("MPS"):
            subprocess.run([daemon, "-d"], env=environment, check=True, timeout=20)
            try:
                yield from _packed(bed, places, ", under MPS")
            finally:
                subprocess.run([daemon], input="quit\n", text=True, env=environment, check=False, timeout=20)


def _packed(bed: Bed, environment: dict[str, str], suffix: str) -> Iterator[Speed]:
    counts = COUNTS[:2] if bed.rehearsal else COUNTS
    nets = (Net("mlp", 0.1, 28, 8),) if bed.rehearsal else (Net("mlp", 0.1, 28), Net("mlp", 10, 28))
    configs = [bed.endless(net, 0.1, "32-true") for net in nets]
    CONTEXT.set_forkserver_preload(PRELOAD)
    pipes, workers = [], []
    try:
        for _ in range(counts[-1]):
            pipe, other_end = CONTEXT.Pipe()
            workers.append(CONTEXT.Process(target=_work, args=(other_end, bed, configs, environment), daemon=True))
            workers[-1].start()
            other_end.close()
            pipes.append(pipe)
        total = dict.fromkeys(counts, 0.0)  # seconds of a step, summed over the nets
        alone = 0.0
        for net in nets:
            for pipe in pipes:
                receive(pipe)
            _rate(pipes, 0.01 if bed.rehearsal else 0.3)  # warm-up: libraries choose their kernels
            for count in counts:
                rate = _rate(pipes[:count], 0.05 if bed.rehearsal else 1.5)
                total[count] += 1 / rate
                what = f"SAM step, {net.label}, {count} at once{suffix}"
                alone = rate if count == 1 else alone
                row = Speed(what, "32-true", 1 / rate, 1, 0.0, images=net.batch_size * rate)
                yield row if count == 1 else replace(row, against="one run", ratio=alone / rate)
            for pipe in pipes:
                pipe.send(None)
        best = min(total, key=total.__getitem__)
        what = f"figure 7: best is hydra.launcher.gpus_per_run={1 / best:g}{suffix}"
        yield Speed(what, "32-true", total[best], 1, 0.0, against="gpus_per_run=1", ratio=total[best] / total[1])
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def _rate(pipes: list[Any], seconds: float) -> float:
    """Return the steps per second of all runs together."""
    for pipe in pipes:
        pipe.send(seconds)
    return float(sum(steps / taken for steps, taken in map(receive, pipes)))


def _work(pipe: Any, bed: Bed, configs: list[dict[str, Any]], environment: dict[str, str]) -> None:
    os.environ.update(environment)  # before this process uses the GPU
    for config in configs:
        with tempfile.TemporaryDirectory(dir=bed.folder) as folder:
            try:
                run(config, Path(folder), callbacks=[Gate(pipe, bed)])
            except Enough:
                continue
