"""What surrounds the training: sweeps, restarts, status and drawing over many records, cores and memory.

Each command is a process of its own, as a user starts it.
"""

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from samgap import identity, records
from samgap.bench import images
from samgap.bench.rows import Row, bounded
from samgap.bench.steps import Compose
from samgap.errors import SettingError
from samgap.results import sweeps
from samgap.training.run import run
from samgap.training.settings import resolve

TINY = ("name=bench", "epochs=1", "data.train_size=128", "model.width=0.1")
RHO = "ascent.rho=0,0.05,0.1,0.2,0.3"
MIB = 2**20


def rows(compose: Compose, smoke: bool = False) -> Iterator[Row]:
    """Every row about sweeps; `smoke` makes them so small that their numbers mean nothing."""
    yield _further_run(4 if smoke else 20)
    yield from _many_records(compose, 10 if smoke else 200, 10 if smoke else 1_000)
    yield _cores(2 if smoke else 4, 1 if smoke else 60)
    yield _memory(1_000 if smoke else 60_000)


def _further_run(runs: int) -> Row:
    """Seconds that one more run of hardly any training takes in a sweep."""
    taken = []
    for seeds in (1, 1 + runs):
        with tempfile.TemporaryDirectory() as root:
            seconds, _ = _seconds("train", "-m", *TINY, "ascent.rho=0.1", f"seed=range({seeds})",
                                  "hydra/launcher=basic", f"root={root}")  # fmt: skip
            taken.append(seconds)
    return bounded("a further run in a sweep, basic launcher", (taken[1] - taken[0]) / runs, 0.5, "s")


def _many_records(compose: Compose, few: int, many: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _forge(compose, root, few // 5)
        seconds, said = _seconds("train", "-m", *TINY, RHO, f"seed=range({few // 5})", f"root={root}")
        if f"{few}/{few} done" not in said:
            raise SettingError(f"The sweep of {few} records was to be finished, and it said: {said}")
        yield bounded(f"a finished sweep of {few} runs, started again", seconds, 15, "s")
        _forge(compose, root, many // 5)
        _seconds("train", "-m", *TINY, RHO, f"seed=range({many // 5})", f"root={root}")
        for command, arguments in (("status", []), ("draw", ["name=bench"])):
            imports, _ = _seconds(None, f"import samgap.{command}")
            seconds, _ = _seconds(command, *arguments, f"root={root}")
            yield bounded(f"{command} over {many:,} records, after imports", seconds - imports, 3, "s")


def _forge(compose: Compose, root: Path, seeds: int) -> None:
    """Records of a sweep as if it had run: one real run, copied to each point of the grid."""
    config = compose(*TINY, f"root={root}")
    with tempfile.TemporaryDirectory() as folder:
        real = run(config, Path(folder) / "run")
    for rho, seed in product((float(rho) for rho in RHO.split("=")[1].split(",")), range(seeds)):
        values: dict[str, Any] = config | {"seed": seed, "ascent": config["ascent"] | {"rho": rho}}
        values["pruner"] = config["pruner"] | {"seed": seed}
        settings = resolve(values)
        name = identity.folder(settings)
        (sweeps.runs(root) / name).mkdir(parents=True, exist_ok=True)
        # Seeds differ a little, as they do.
        accuracy = 0.5 + (seed * 37 % 101) / 1000 + rho / 10
        record = dataclasses.replace(
            real, identity=identity.identity(settings), folder=name, settings=settings, arm="SAM" if rho else "SGD",
            test_acc_final=accuracy, test_acc_best=accuracy,
        )  # fmt: skip
        records.write(record, sweeps.runs(root) / name)


def _cores(runs: int, epochs: int) -> Row:
    """Seconds of further runs by two workers against one; a worker's start is left out."""
    taken = {}
    for workers, seeds in ((1, runs), (1, 3 * runs), (2, runs), (2, 3 * runs)):
        with tempfile.TemporaryDirectory() as root:
            taken[workers, seeds], _ = _seconds(
                "train", "-m", "name=bench", f"epochs={epochs}", "model.width=1", f"seed=range({seeds})",
                "hydra/launcher=cores", f"hydra.launcher.n_jobs={workers}", f"root={root}",
            )  # fmt: skip
    one, two = (taken[workers, 3 * runs] - taken[workers, runs] for workers in (1, 2))
    return Row("runs on 2 cores", "1 core", two, one, "s", two / one, round(1 / 1.8, 3), 2 * runs)


def _memory(train_size: int) -> Row:
    """Peak memory of one process of figure 7's largest net at paper scale; one epoch shows it all."""
    with tempfile.TemporaryDirectory() as root:
        command = _command(
            "train", "figure=fig7/paper", "trainer=cpu", "trainer.stepper=compiled", "logger=csv", "model.width=10",
            f"data._target_={images.__name__}.mnist", f"data.train_size={train_size}", "epochs=1", "ascent.rho=0.1",
            f"root={root}",
        )  # fmt: skip
        process = subprocess.Popen(command, env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        _, status, usage = os.wait4(process.pid, 0)
        said = process.stderr.read().decode() if process.stderr else ""
    if status:
        raise SettingError(f"{' '.join(command)} failed: {said}")
    return bounded("peak memory, figure 7 at paper scale, p = 10", usage.ru_maxrss * 1024 / MIB, 1.5 * 1024, "MiB")


def _seconds(name: str | None, *arguments: str) -> tuple[float, str]:
    """How long a command takes, and what it says on stderr."""
    started = time.perf_counter()
    done = subprocess.run(_command(name, *arguments), env=_environment(), capture_output=True, text=True, check=False)
    taken = time.perf_counter() - started
    if done.returncode:
        raise SettingError(f"{' '.join(done.args)} failed: {done.stderr}")
    return taken, done.stderr


def _command(name: str | None, *arguments: str) -> list[str]:
    return [sys.executable, *(["-c"] if name is None else ["-m", f"samgap.{name}"]), *arguments]


def _environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}
