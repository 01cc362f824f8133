"""Costs apart from training: sweeps, restarts, status and drawing with many records, parallel runs, memory."""

import dataclasses
import statistics
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from samgap.bench import images
from samgap.bench.commands import peak, seconds
from samgap.bench.rows import Row, bounded
from samgap.bench.steps import Compose
from samgap.errors import SettingError
from samgap.runs import identity, records, sweeps
from samgap.training.run import run
from samgap.training.settings import resolve

TINY = ("name=bench", "epochs=1", "data.train_size=128")
RHOS = (0.0, 0.05, 0.1, 0.2, 0.3)
WIDTHS = (0.1, 0.2, 0.3, 0.4, 0.5)
SPARSITIES = (0.0, 0.3, 0.5, 0.7, 0.9)


def rows(compose: Compose, smoke: bool = False) -> Iterator[Row]:
    """Yield the rows on sweeps. With `smoke` they are so small that the numbers mean nothing."""
    yield _one_run(1 if smoke else 5)
    yield _further_run(4 if smoke else 20)
    yield from _compiling(1 if smoke else 3)
    yield from _many_records(compose, 25 if smoke else 200, 125 if smoke else 1_000)
    yield _cores(2 if smoke else 4, 1 if smoke else 60, 0.1 if smoke else 5)
    yield _memory(1_000 if smoke else 60_000)


def _one_run(runs: int) -> Row:
    """Measure the seconds of a run with almost no training, as a command of its own."""
    with tempfile.TemporaryDirectory() as root:
        taken = [seconds("train", "epochs=1", f"seed={seed}", f"root={root}")[0] for seed in range(runs)]
    return bounded("one tiny run, as a command", statistics.median(taken), 4, "s", n=runs)


def _further_run(runs: int) -> Row:
    """Measure the seconds that one more run with almost no training adds to a sweep."""
    taken = []
    for seeds in (1, 1 + runs):
        with tempfile.TemporaryDirectory() as root:
            took, _ = seconds("train", "-m", *TINY, "model.width=0.1", "ascent.rho=0.1", f"seed=range({seeds})",
                                  "hydra/launcher=basic", f"root={root}")  # fmt: skip
            taken.append(took)
    return bounded("a further run in a sweep, basic launcher", (taken[1] - taken[0]) / runs, 0.5, "s")


COMPILED = """
import os, runpy, sys
os.environ["TORCHINDUCTOR_CACHE_DIR"] = sys.argv.pop(1)
sys.argv[0] = "train"
runpy.run_module("samgap.train", run_name="__main__")
"""


def _compiling(loads: int) -> Iterator[Row]:
    """Measure the seconds that compiling adds to a run as a command, and that loading from disk adds to later ones."""
    with tempfile.TemporaryDirectory() as root:
        # Of three steps the first is eager.
        words = ("epochs=1", "data.train_size=384", "model.width=0.1", "ascent.rho=0.1", f"root={root}")
        compiled, *loaded = (
            seconds(None, COMPILED, f"{root}/cache", *words, "trainer.stepper=compiled", f"seed={seed}")[0]
            for seed in range(1 + loads)
        )
        eager = [
            seconds(None, COMPILED, f"{root}/cache", *words, "trainer.stepper=eager", f"seed={seed}")[0]
            for seed in range(1 + loads, 1 + 2 * loads)
        ]
    without = statistics.median(eager)
    yield bounded("compiling the step of an MLP, p = 0.1, in a run", compiled - without, 8, "s")
    took = statistics.median(loaded) - without
    yield bounded("loading that step from disk, in a run", took, 1, "s", n=loads)


def _many_records(compose: Compose, small: int, large: int) -> Iterator[Row]:
    """Measure a restart with `small` records (5 rho, 5 widths); status and drawing with `large` (and 5 sparsities)."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for count, sparsities in ((small, SPARSITIES[:1]), (large, SPARSITIES)):
            seeds = count // (len(RHOS) * len(WIDTHS) * len(sparsities))
            _forge(compose, root, sparsities, seeds)
            axes = {"ascent.rho": RHOS, "model.width": WIDTHS, "pruner.sparsity": sparsities}
            grid = [f"{key}={','.join(map(str, values))}" for key, values in axes.items()]
            took, stderr = seconds("train", "-m", *TINY, *grid, f"seed=range({seeds})", f"root={root}")
            if f"{count}/{count} done" not in stderr:
                raise SettingError(f"The sweep of {count} records should be done, but it printed: {stderr}")
            if count == small:
                yield bounded(f"a finished sweep of {small} runs, started again", took, 15, "s")
                for command, arguments, goal in (("status", [], 0.5), ("draw", ["name=bench"], 2.5)):
                    took = statistics.median(seconds(command, *arguments, f"root={root}")[0] for _ in range(3))
                    yield bounded(f"{command} over {small} records, as a command", took, goal, "s", n=3)
        # matplotlib imports its PDF writer on first use.
        late = ", matplotlib.backends.backend_agg, matplotlib.backends.backend_pdf, fontTools.subset"
        for command, arguments, more in (("status", [], ""), ("draw", ["name=bench"], late)):
            taken = [
                seconds(command, *arguments, f"root={root}")[0] - seconds(None, f"import samgap.{command}{more}")[0]
                for _ in range(3)
            ]
            yield bounded(f"{command} over {large:,} records, after imports", statistics.median(taken), 3, "s", n=3)


def _forge(compose: Compose, root: Path, sparsities: tuple[float, ...], seeds: int) -> None:
    """Write the records of a sweep without running it, as variations of the record of one real run."""
    config = compose(*TINY, f"model.width={WIDTHS[0]}", f"root={root}")
    with tempfile.TemporaryDirectory() as folder:
        real = run(config, Path(folder) / "run")
    for rho, width, sparsity, seed in product(RHOS, WIDTHS, sparsities, range(seeds)):
        values: dict[str, Any] = config | {
            "seed": seed,
            "ascent": config["ascent"] | {"rho": rho},
            "model": config["model"] | {"width": width},
            "pruner": config["pruner"] | {"sparsity": sparsity, "seed": seed},
        }
        settings = resolve(values)
        name = identity.folder(settings)
        (sweeps.runs(root) / name).mkdir(parents=True, exist_ok=True)
        accuracy = 0.5 + (seed * 37 % 101) / 1000 + rho / 10  # seeds differ, as in real sweeps
        total = round(real.params_total * width / WIDTHS[0])
        record = dataclasses.replace(
            real, identity=identity.identity(settings), folder=name, settings=settings, arm="SAM" if rho else "SGD",
            test_acc_final=accuracy, test_acc_best=accuracy, params_total=total,
            params_live=round(total * (1 - sparsity)),
        )  # fmt: skip
        records.write(record, sweeps.runs(root) / name)


MULTIPLY = """
import sys, time, numpy
a, b = numpy.ones((128, 784), numpy.float32), numpy.ones((784, 300), numpy.float32)
products, end = 0, time.perf_counter() + float(sys.argv[1])
while time.perf_counter() < end:
    a @ b
    products += 1
print(products, file=sys.stderr)
"""


def _cores(runs: int, epochs: int, duration: float) -> Row:
    """Measure the seconds of additional runs with two workers, compared with one, without the start of a worker.

    The note has the same ratio for processes that only multiply matrices for `duration` seconds.
    """
    taken = {}
    for workers, seeds in ((1, runs), (1, 3 * runs), (2, runs), (2, 3 * runs)):
        with tempfile.TemporaryDirectory() as root:
            taken[workers, seeds], _ = seconds(
                "train", "-m", "name=bench", f"epochs={epochs}", "model.width=1", f"seed=range({seeds})",
                "hydra/launcher=cores", f"hydra.launcher.n_jobs={workers}", f"root={root}",
            )  # fmt: skip
    one, two = (taken[workers, 3 * runs] - taken[workers, runs] for workers in (1, 2))
    with ThreadPoolExecutor(2) as pool:
        one_loop, two_loops = (
            sum(int(stderr) for _, stderr in pool.map(partial(seconds, None, MULTIPLY), [str(duration)] * loops))
            for loops in (1, 2)
        )
    note = f"bare products: {one_loop / two_loops:.2f}"
    return Row("runs on 2 cores", "1 core", two, one, "s", two / one, round(1 / 1.8, 3), 2 * runs, note)


def _memory(train_size: int) -> Row:
    """Measure the peak memory of a run of figure 7's largest net at paper scale, which one epoch reaches."""
    with tempfile.TemporaryDirectory() as root:
        memory = peak(
            "train", "figure=fig7/paper", "trainer=cpu", "trainer.stepper=compiled", "logger=csv", "model.width=10",
            f"data.code={images.__name__}.mnist", f"data.train_size={train_size}", "epochs=1", "ascent.rho=0.1",
            "seed=0", f"root={root}",
        )  # fmt: skip
    return bounded("peak memory, figure 7 at paper scale, p = 10", memory, 1.5 * 1024, "MiB")
